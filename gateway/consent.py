"""Whether the own organisation has agreed: its own certificates' signatures, read in the blocks themselves.

The ledger's records come from a majority of organisations. Before this gateway decrypts data or starts foreign code it
asks for more: transactions of its own organisation's stewards that say so, with their signatures over what was written.
A majority that colludes can write any record, and can't make these signatures.
"""

import datetime
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from ..chaincode.records import (
    CohortMember,
    Dataset,
    DatasetState,
    DecideJob,
    Decision,
    Grant,
    Job,
    Privacy,
    Record,
    Role,
    Verdict,
    access_grant_key,
    access_revocation_key,
    dataset_key,
    decision_key,
)
from ..fabric.identity import InvalidIdentityError, WrongSignatureError
from .blocks import BlockError, LedgerTransaction, read_envelope
from .read_model import ReadModel
from .trust import Trust, UntrustedError

__all__ = ["Consent", "ConsentError", "check_consent"]

TRAINING = "training"
AnyRecord = TypeVar("AnyRecord", bound=Record)


class ConsentError(Exception):
    """The own organisation has not agreed to this, or no longer; `code` is stable."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Consent:
    """What the own organisation has signed."""

    dataset: Dataset
    """The data set's record at the version agreed to."""
    grant: Grant | None
    """The grant under which it is used; None when the submitter is the own organisation."""


def check_consent(
    job: Job, member: CohortMember, *, model: ReadModel, trust: Trust, chaincode: str, now: datetime.datetime
) -> Consent:
    """Check that the own organisation has signed all that training for a job needs.

    1. A steward's approval of the job's digest, which the job's terms on the ledger have.
    2. The data set's record at the cohort's version.
    3. A grant to the submitter for this data set and purpose, unless the submitter is the own organisation; it is not
       revoked and not expired.

    Raises:
        ConsentError: one of them is missing; its code and text say which.
    """
    checker = _Checker(model, trust, chaincode, member.msp, now)
    terms = job.terms
    if terms.digest != job.digest or terms.id != job.id:
        raise ConsentError("DIGEST_DIFFERS", f"the terms of {job.id} on the ledger do not have the job's digest")
    approval = checker.transaction(decision_key(job.id, member.msp), {"training:approve"})
    asked = _read(approval.arguments[1], DecideJob)
    decision = checker.written(approval, decision_key(job.id, member.msp), Decision)
    if (
        (asked.job, asked.digest, asked.privacy) != (job.id, terms.digest, terms.plan.privacy)
        or (decision.verdict, decision.digest) != (Verdict.APPROVED, terms.digest)
        or (decision.dataset, decision.version) != (member.dataset, member.version)
        or terms.plan.privacy is not Privacy.CLEAR
    ):
        raise ConsentError("APPROVAL_DIFFERS", f"what was approved of {job.id} is not what is to be run")
    dataset = _dataset(checker, member)
    if member.grant is None:
        if terms.submitter != member.msp:
            raise ConsentError("GRANT_MISSING", f"{job.id} names no grant for {member.dataset}")
        return Consent(dataset, None)
    return Consent(dataset, _grant(checker, job, member, dataset))


def _dataset(checker: "_Checker", member: CohortMember) -> Dataset:
    key = dataset_key(member.dataset)
    written = checker.transaction(key, {"datasets:register", "datasets:update"})
    dataset = checker.written(written, key, Dataset)
    current = checker.model.dataset(member.dataset)
    if (dataset.id, dataset.owner, dataset.version) != (member.dataset, member.msp, member.version):
        raise ConsentError("DATASET_DIFFERS", f"{member.dataset} has another version than the round asks for")
    if current is None or current.state is not DatasetState.ACTIVE or current != dataset:
        raise ConsentError("DATASET_RETIRED", f"{member.dataset} is not to be used any more")
    return dataset


def _grant(checker: "_Checker", job: Job, member: CohortMember, dataset: Dataset) -> Grant:
    request = member.grant or ""
    key = access_grant_key(request, member.msp)
    grant = checker.written(checker.transaction(key, {"access:grant"}), key, Grant)
    wanted = (request, member.msp, job.terms.submitter, member.dataset, member.version, dataset.terms.blob.digest)
    if (grant.request, grant.owner, grant.requester, grant.dataset, grant.version, grant.digest) != wanted:
        raise ConsentError("GRANT_DIFFERS", f"the grant {request} is for something else")
    if grant.purpose != TRAINING:
        raise ConsentError("GRANT_DIFFERS", f"the grant {request} is for {grant.purpose}, not for {TRAINING}")
    if grant.expires_ms and checker.now.timestamp() * 1000 >= grant.expires_ms:
        raise ConsentError("GRANT_EXPIRED", f"the grant {request} is over")
    # Whoever wrote a revocation: it only takes away.
    if checker.model.revocation(request, member.msp) or checker.model.signed(
        access_revocation_key(request, member.msp)
    ):
        raise ConsentError("GRANT_REVOKED", f"the grant {request} was revoked")
    return grant


@dataclass(frozen=True)
class _Checker:
    model: ReadModel
    trust: Trust
    chaincode: str
    me: str
    now: datetime.datetime

    def transaction(self, key: str, functions: set[str]) -> LedgerTransaction:
        """The own steward's transaction that wrote a key, its signature checked."""
        envelope = self.model.signed(key)
        if envelope is None:
            raise ConsentError("NOT_SIGNED", f"no certificate of {self.me} has written {_named(key)}")
        try:
            transaction = read_envelope(envelope, self.chaincode)
        except BlockError as error:
            raise ConsentError("NOT_SIGNED", f"the transaction that wrote {_named(key)} can't be read") from error
        if transaction is None or transaction.function not in functions or len(transaction.arguments) != 2:
            raise ConsentError("NOT_SIGNED", f"{_named(key)} was not written by {' or '.join(sorted(functions))}")
        try:
            transaction.check_signature()
            caller = self.trust.identify(transaction.creator.certificate, self._when(transaction))
        except (WrongSignatureError, InvalidIdentityError, UntrustedError) as error:
            raise ConsentError(
                "NOT_SIGNED", f"the signature under {_named(key)} is not {self.me}'s: {error}"
            ) from error
        if caller.msp_id != self.me or caller.role is not Role.STEWARD:
            raise ConsentError("NOT_SIGNED", f"{_named(key)} was not signed by a steward of {self.me}")
        return transaction

    def _when(self, transaction: LedgerTransaction) -> datetime.datetime:
        # A certificate that has run out since was good when it signed; one that was revoked is not.
        signed = datetime.datetime.fromtimestamp(transaction.timestamp_ms / 1000, datetime.UTC)
        return min(signed, self.now)

    def written(self, transaction: LedgerTransaction, key: str, record: type[AnyRecord]) -> AnyRecord:
        value = transaction.written(key)
        if value is None:
            raise ConsentError("NOT_SIGNED", f"the transaction signed by {self.me} did not write {_named(key)}")
        return _read(value, record)


def _read(value: bytes, record: type[AnyRecord]) -> AnyRecord:
    try:
        return record.model_validate_json(value)
    except ValidationError as error:
        raise ConsentError("NOT_SIGNED", f"a signed {record.__name__} can't be read") from error


def _named(key: str) -> str:
    return "/".join(part for part in key.split("\x00") if part)
