"""Who may take part in a job's next round, by what the ledger says when it is opened."""

from .access import unexpired
from .call import Call
from .datasets import require_dataset
from .records import (
    AccessRequest,
    AccessState,
    CohortMember,
    Dataset,
    DatasetState,
    DatasetUse,
    Decision,
    Job,
    Owner,
    Verdict,
    access_request_key,
    dataset_key,
    decision_key,
    refusals,
)

TRAINING = "training"
"""The purpose that a job needs."""


async def name_owner(call: Call, use: DatasetUse, submitter: str, field: str, *, late: bool) -> Owner:
    """The owner whose data set a job asks for, with the data set's facts of now.

    Raises:
        UnknownDataset, DatasetRetired, VersionDiffers, PurposeNotPermitted: the data set is not to be had as named.
        GrantMissing, GrantDiffers, GrantRevoked, GrantExpired: the submitter may not use it.
    """
    dataset = await require_dataset(call, use.dataset, f"{field}.dataset")
    if dataset.state != DatasetState.ACTIVE:
        raise refusals.DatasetRetired(f"{field}.dataset", f"{dataset.id} has been retired")
    if dataset.version != use.version:
        raise refusals.VersionDiffers(f"{field}.version", f"{dataset.id} has version {dataset.version}")
    if TRAINING not in dataset.terms.purposes:
        raise refusals.PurposeNotPermitted(f"{field}.dataset", f"{dataset.id} may not be used for training")
    if call.consortium.member(dataset.owner) is None:
        raise refusals.NotAMember(f"{field}.dataset", f"{dataset.owner} is not a member of the consortium any more")
    owner = Owner(
        msp=dataset.owner,
        dataset=dataset.id,
        version=dataset.version,
        digest=dataset.terms.blob.digest,
        samples=dataset.terms.samples,
        grant=use.grant,
        late=late,
    )
    if use.grant is None:
        if dataset.owner != submitter:
            raise refusals.GrantMissing(f"{field}.grant", f"{dataset.id} is {dataset.owner}'s; name its grant")
        return owner
    access = await call.read(access_request_key(use.grant), AccessRequest)
    fault = _fault(access, owner, submitter, call.now)
    if fault is not None:
        raise fault(
            f"{field}.grant", f"{use.grant} does not let {submitter} train on {dataset.id} version {use.version}"
        )
    return owner


async def missing_approvals(call: Call, job: Job) -> tuple[str, ...]:
    """Owners of the job's terms that have not approved it."""
    owners = job.terms.owners
    rows = await call.read_many([decision_key(job.id, owner.msp) for owner in owners], Decision)
    return tuple(owner.msp for owner, row in zip(owners, rows, strict=True) if not _approved(row, job))


async def next_cohort(call: Call, job: Job) -> tuple[CohortMember, ...]:
    """The owners that may take part in a round opened now: approved, granted, with the version named, still members."""
    owners = job.owners
    decisions = await call.read_many([decision_key(job.id, owner.msp) for owner in owners], Decision)
    datasets = await call.read_many([dataset_key(owner.dataset) for owner in owners], Dataset)
    grants = [access_request_key(owner.grant) for owner in owners if owner.grant is not None]
    accesses = {row.id: row for row in await call.read_many(grants, AccessRequest) if row is not None}
    return tuple(
        CohortMember(
            msp=owner.msp, dataset=owner.dataset, version=owner.version, grant=owner.grant, samples=owner.samples
        )
        for owner, decision, dataset in zip(owners, decisions, datasets, strict=True)
        if _approved(decision, job)
        and dataset is not None
        and dataset.state == DatasetState.ACTIVE
        and dataset.version == owner.version
        and call.consortium.member(owner.msp) is not None
        and (owner.grant is None or _fault(accesses.get(owner.grant), owner, job.terms.submitter, call.now) is None)
    )


def _approved(decision: Decision | None, job: Job) -> bool:
    return decision is not None and decision.verdict == Verdict.APPROVED and decision.digest == job.digest


def _fault(access: AccessRequest | None, owner: Owner, submitter: str, now: int) -> type[refusals.Refusal] | None:
    """Why a grant does not serve, or None when it does."""
    if access is None:
        return refusals.UnknownRequest
    named = (access.requester, access.dataset, access.version, access.digest, access.purpose)
    if named != (submitter, owner.dataset, owner.version, owner.digest, TRAINING):
        return refusals.GrantDiffers
    if access.state == AccessState.REVOKED:
        return refusals.GrantRevoked
    if access.state != AccessState.GRANTED:
        return refusals.GrantMissing
    if not unexpired(access.expires_ms, now):
        return refusals.GrantExpired
    return None
