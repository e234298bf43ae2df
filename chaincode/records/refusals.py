"""What a contract answers instead of writing: one class for each code.

A refusal travels as status 400-499 with message = canonical JSON ``{"code", "field", "text"}``. Codes are stable: a
code is never given to another meaning (``REFUSALS`` refuses the second class that claims one), and
docs/reference/errors.md says for each what to do.
"""

import json
from typing import ClassVar

import rfc8785

REFUSALS: dict[str, type["Refusal"]] = {}
"""Every refusal's class by its code."""


class Refusal(Exception):  # noqa: N818  (a refusal is an answer of the contract, not a fault in it)
    """A contract said no; nothing was written.

    ``field`` is the dotted path of the request's field at fault, "" when none is; ``text`` speaks to people.
    """

    code: ClassVar[str]
    status: ClassVar[int] = 400

    def __init__(self, field: str, text: str) -> None:
        super().__init__(field, text)
        self.field = field
        self.text = text

    def __init_subclass__(cls) -> None:
        if cls.code in REFUSALS:
            raise TypeError(f"the code {cls.code} belongs to {REFUSALS[cls.code].__name__}")
        REFUSALS[cls.code] = cls

    def __str__(self) -> str:
        return f"{self.code}: {self.field}: {self.text}" if self.field else f"{self.code}: {self.text}"

    def message(self) -> str:
        """The refusal as it travels: canonical JSON."""
        return rfc8785.dumps({"code": self.code, "field": self.field, "text": self.text}).decode()


def read_refusal(message: str) -> Refusal | None:
    """The refusal in a chaincode's error message, or None when the message is none of ours.

    A code that this version does not know comes back as ``UnknownRefusal``.
    """
    start = message.find('{"code":')
    if start < 0:
        return None
    try:
        fields, _ = json.JSONDecoder().raw_decode(message, start)
    except (json.JSONDecodeError, RecursionError):
        return None
    if not isinstance(fields, dict) or set(fields) != {"code", "field", "text"}:
        return None
    code, field, text = fields["code"], fields["field"], fields["text"]
    if not (isinstance(code, str) and isinstance(field, str) and isinstance(text, str)):
        return None
    known = REFUSALS.get(code)
    return known(field, text) if known else UnknownRefusal(field, f"{code}: {text}")


class UnknownRefusal(Refusal):
    """The contract gave a code that this version of fedfabric does not know."""

    code = "UNKNOWN_REFUSAL"


# -- requests


class Malformed(Refusal):
    """The argument is not one JSON document in UTF-8 with unique names and integers."""

    code = "MALFORMED"


class TooLarge(Refusal):
    """A length, a count or the depth is beyond its bound."""

    code = "TOO_LARGE"


class UnknownField(Refusal):
    """The request has a field that it must not have."""

    code = "UNKNOWN_FIELD"


class MissingField(Refusal):
    """The request lacks a field."""

    code = "MISSING_FIELD"


class InvalidField(Refusal):
    """A field has another type or other characters than it may have."""

    code = "INVALID_FIELD"


class OutOfRange(Refusal):
    """A number is outside its range."""

    code = "OUT_OF_RANGE"


class Duplicate(Refusal):
    """A list names the same thing twice."""

    code = "DUPLICATE"


class UnknownTransaction(Refusal):
    """No contract has this transaction."""

    code = "UNKNOWN_TRANSACTION"
    status = 404


# -- who and when


class NotAMember(Refusal):
    """The caller's organisation, or one that the request names, is not a member of the consortium."""

    code = "NOT_A_MEMBER"
    status = 403


class RoleRequired(Refusal):
    """The caller's certificate has no role that may do this."""

    code = "ROLE_REQUIRED"
    status = 403


class NotOwner(Refusal):
    """The thing belongs to another organisation or person."""

    code = "NOT_OWNER"
    status = 403


class TimeWindow(Refusal):
    """The proposal's timestamp is too far from the endorser's clock."""

    code = "TIME_WINDOW"
    status = 408


class TooEarly(Refusal):
    """The ledger's time has not reached the point from which this is allowed."""

    code = "TOO_EARLY"
    status = 425


class DeadlinePassed(Refusal):
    """The ledger's time has passed the deadline."""

    code = "DEADLINE_PASSED"
    status = 410


# -- rows and states


class Conflict(Refusal):
    """The row was written before, with other content; rows are never changed."""

    code = "CONFLICT"
    status = 409


class WrongState(Refusal):
    """The state machine has no such transition from the present state."""

    code = "WRONG_STATE"
    status = 409


class DigestDiffers(Refusal):
    """The request speaks of other content than the ledger holds."""

    code = "DIGEST_DIFFERS"
    status = 409


class QuorumMissing(Refusal):
    """Too few members have said the same."""

    code = "QUORUM_MISSING"
    status = 409


# -- consortium


class NoConsortium(Refusal):
    """The consortium has not been founded on this channel."""

    code = "NO_CONSORTIUM"
    status = 409


class FoundersDiffer(Refusal):
    """The first record must list exactly the founders that the endorser's chaincode server was started with."""

    code = "FOUNDERS_DIFFER"
    status = 403


class SequenceDiffers(Refusal):
    """The change is not the next one of the consortium's record."""

    code = "SEQUENCE_DIFFERS"
    status = 409


# -- data sets and access


class UnknownDataset(Refusal):
    """No such data set is registered."""

    code = "UNKNOWN_DATASET"
    status = 404


class DatasetRetired(Refusal):
    """The data set has been retired."""

    code = "DATASET_RETIRED"
    status = 409


class VersionDiffers(Refusal):
    """The data set has another version now."""

    code = "VERSION_DIFFERS"
    status = 409


class PurposeNotPermitted(Refusal):
    """The data set's record does not permit this purpose."""

    code = "PURPOSE_NOT_PERMITTED"
    status = 403


class UnknownRequest(Refusal):
    """No such access request is on the ledger."""

    code = "UNKNOWN_REQUEST"
    status = 404


class GrantMissing(Refusal):
    """The owner has not granted the access."""

    code = "GRANT_MISSING"
    status = 403


class GrantRevoked(Refusal):
    """The owner has revoked its grant."""

    code = "GRANT_REVOKED"
    status = 403


class GrantExpired(Refusal):
    """The grant's term is over."""

    code = "GRANT_EXPIRED"
    status = 403


class GrantDiffers(Refusal):
    """The grant is for another organisation, data set, version or purpose."""

    code = "GRANT_DIFFERS"
    status = 403


# -- tokens


class TokenUnknown(Refusal):
    """An input names a row that is not there: spent already, or never written."""

    code = "TOKEN_UNKNOWN"
    status = 404


class SumsDiffer(Refusal):
    """Inputs and outputs are not the same amount, or the inputs do not cover what is to be paid."""

    code = "SUMS_DIFFER"


class AmountOverflow(Refusal):
    """An amount would be longer than 30 digits."""

    code = "AMOUNT_OVERFLOW"


# -- training


class MaskedNotSupported(Refusal):
    """Secure aggregation is not supported by this version; jobs are ``clear``."""

    code = "MASKED_NOT_SUPPORTED"
    status = 422


class UnknownJob(Refusal):
    """No such job is on the ledger."""

    code = "UNKNOWN_JOB"
    status = 404


class UnknownRound(Refusal):
    """The job has no such round."""

    code = "UNKNOWN_ROUND"
    status = 404


class ApprovalsMissing(Refusal):
    """Not every owner has approved the job."""

    code = "APPROVALS_MISSING"
    status = 409


class CohortEmpty(Refusal):
    """No organisation may take part in the round: grants revoked, data sets retired, owners departed."""

    code = "COHORT_EMPTY"
    status = 409


class NotInCohort(Refusal):
    """The organisation is not in the round's cohort, which is fixed at the round's opening."""

    code = "NOT_IN_COHORT"
    status = 403


class SamplesExceeded(Refusal):
    """More samples are claimed than the data set's record has."""

    code = "SAMPLES_EXCEEDED"


class NotCounted(Refusal):
    """A row names members whose updates the round does not count."""

    code = "NOT_COUNTED"


class AttestationsDiffer(Refusal):
    """The attestations named are not those on the ledger for this result."""

    code = "ATTESTATIONS_DIFFER"
    status = 409


class QuorumPossible(Refusal):
    """The round can still reach its quorum, so it is not to be aborted yet."""

    code = "QUORUM_POSSIBLE"
    status = 409
