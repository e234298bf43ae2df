"""Whether the own organisation has agreed: its own certificates' signatures, read in the blocks themselves.

The ledger's records come from a majority of organisations. Before this gateway decrypts data or starts foreign code it
asks for more: transactions of its own organisation's stewards that say so. A majority that colludes can write any
record under them, and can't make their signatures: what they ask for counts, and what was written has to agree with it.
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
    GrantAccess,
    Job,
    Privacy,
    Record,
    RegisterDataset,
    Role,
    UpdateDataset,
    Verdict,
    access_grant_key,
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

    1. A steward's approval of the job's digest, which the job's terms on the ledger have, and no refusal. The terms
       name the data set; a late owner's, which is not in them, is the one in its decision's row.
    2. The data set's terms at the cohort's version, with no newer ones and no retirement.
    3. A grant to the submitter for this data set and purpose, unless the submitter is the own organisation; it is not
       revoked and not expired.

    Raises:
        ConsentError: one of them is missing; its code and text say which.
    """
    checker = _Checker(model, trust, chaincode, member.msp, now)
    terms = job.terms
    if member.grant is None and terms.submitter != member.msp:
        raise ConsentError("GRANT_MISSING", f"{job.id} names no grant for {member.dataset}")
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
    if model.takes_away("training:refuse", job.id):
        raise ConsentError("APPROVAL_DIFFERS", f"{job.id} was refused")
    named = next((owner for owner in terms.owners if owner.msp == member.msp), None)
    if named and (named.dataset, named.version, named.grant) != (member.dataset, member.version, member.grant):
        raise ConsentError("APPROVAL_DIFFERS", f"the data set approved for {job.id} is not the one to be used")
    dataset = _dataset(checker, member)
    return Consent(dataset, None if member.grant is None else _grant(checker, job, member, dataset))


def _dataset(checker: "_Checker", member: CohortMember) -> Dataset:
    functions = {"datasets:register", "datasets:update"}
    dataset = _signed_dataset(checker.transaction(dataset_key(member.dataset), functions), member.msp)
    current = checker.model.dataset(member.dataset)
    if (dataset.id, dataset.version) != (member.dataset, member.version):
        raise ConsentError("DATASET_DIFFERS", f"{member.dataset} has another version than the round asks for")
    ended = checker.model.takes_away("datasets:update", dataset.id, dataset.version)
    if ended or checker.model.takes_away("datasets:retire", dataset.id) or current != dataset:
        raise ConsentError("DATASET_RETIRED", f"{member.dataset} is not to be used any more")
    return dataset


def _signed_dataset(transaction: LedgerTransaction, owner: str) -> Dataset:
    """The record that a registration or an update asks for."""
    if transaction.function == "datasets:register":
        new = _read(transaction.arguments[1], RegisterDataset)
        name, version, terms = f"{owner}/{new.name}", 1, new.terms
    else:
        changed = _read(transaction.arguments[1], UpdateDataset)
        name, version, terms = changed.id, changed.version + 1, changed.terms
    return Dataset(id=name, owner=owner, version=version, state=DatasetState.ACTIVE, terms=terms)


def _grant(checker: "_Checker", job: Job, member: CohortMember, dataset: Dataset) -> Grant:
    request = member.grant or ""
    key = access_grant_key(request, member.msp)
    granting = checker.transaction(key, {"access:grant"})
    asked, grant = _read(granting.arguments[1], GrantAccess), checker.written(granting, key, Grant)
    wanted = (request, member.msp, job.terms.submitter, member.dataset, member.version, dataset.terms.blob.digest)
    if (grant.request, grant.owner, grant.requester, grant.dataset, grant.version, grant.digest) != wanted:
        raise ConsentError("GRANT_DIFFERS", f"the grant {request} is for something else")
    if (asked.id, asked.expires_ms) != (request, grant.expires_ms):
        raise ConsentError("GRANT_DIFFERS", f"the grant {request} on the ledger is not the one that was signed")
    if grant.purpose != TRAINING:
        raise ConsentError("GRANT_DIFFERS", f"the grant {request} is for {grant.purpose}, not for {TRAINING}")
    if grant.expires_ms and checker.now.timestamp() * 1000 >= grant.expires_ms:
        raise ConsentError("GRANT_EXPIRED", f"the grant {request} is over")
    # Whoever wrote a revocation: it only takes away.
    if checker.model.revocation(request, member.msp) or checker.model.takes_away("access:revoke", request):
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
