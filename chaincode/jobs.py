"""A training job's life outside its rounds: submission, owners' decisions, late owners, start and end."""

from .call import Call
from .cohort import missing_approvals, name_owner, next_cohort
from .dispatch import LedgerContract, evaluated, submitted
from .machine import NEW, Guard
from .records import (
    AddOwner,
    CohortMember,
    DecideJob,
    Decision,
    Job,
    JobChanged,
    JobDecided,
    JobEvent,
    JobPage,
    JobRef,
    JobState,
    JobStopping,
    JobTerms,
    JobView,
    ListRequest,
    Owner,
    OwnerAdded,
    Privacy,
    Role,
    Round,
    RoundChanged,
    RoundOpened,
    RoundState,
    SubmitJob,
    Update,
    Verdict,
    decision_key,
    job_key,
    quorum,
    refusals,
    round_key,
    update_key,
)
from .states import (
    AFTER_APPROVAL_DEADLINE,
    ALL_APPROVED,
    BEFORE_APPROVAL_DEADLINE,
    COHORT_NOT_EMPTY,
    JOB,
    LATE_OWNER,
    NOTHING_DELIVERED,
    ROUND,
)
from .unspent import escrow, pay, spend_escrow

MAX_OWNERS = 256

_ENDS: dict[JobState, JobEvent] = {
    JobState.FINISHED: "job.finished",
    JobState.REFUSED: "job.refused",
    JobState.CANCELLED: "job.cancelled",
    JobState.ABORTED: "job.aborted",
}


class JobTransactions(LedgerContract):
    """The transactions of ``training`` that speak of a job as a whole."""

    @submitted(Role.SCIENTIST)
    async def submit(self, call: Call, request: SubmitJob) -> Job:
        """Put a job before the owners of its data sets, with its budget in escrow."""
        if request.plan.privacy != Privacy.CLEAR:
            raise refusals.MaskedNotSupported("plan.privacy", "this version runs jobs whose policy is clear")
        payer = request.payer or call.msp
        present = await call.read(job_key(request.id), Job)
        if present is not None:
            if _same(present.terms, request, call.msp, payer):
                return present
            raise refusals.Conflict("id", f"the job {request.id} is on the ledger with other content")
        owners = [
            await name_owner(call, use, call.msp, f"datasets.{position}", late=False)
            for position, use in enumerate(request.datasets)
        ]
        held = await escrow(call, payer, request.inputs, int(request.budget), f"job:{request.id}")
        terms = JobTerms(
            id=request.id,
            submitter=call.msp,
            title=request.title,
            plan=request.plan,
            owners=_ordered(owners),
            budget=request.budget,
            payer=payer,
        )
        job = Job(
            id=request.id,
            digest=terms.digest,
            terms=terms,
            owners=terms.owners,
            state=JobState(JOB.next(NEW, "submit")),
            submitted_ms=call.now,
            approve_until_ms=call.now + request.plan.approval_ms,
            window_ms=call.consortium.window_ms,
            escrow=held,
            escrowed=request.budget,
            model=request.plan.model,
        )
        await call.write(job_key(job.id), job)
        call.emit(JobChanged(type="job.submitted", job=job.id))
        return job

    @submitted(Role.STEWARD)
    async def approve(self, call: Call, request: DecideJob) -> Decision:
        """Approve, as an owner, the job with the digest that was reviewed."""
        job, owner, row, new = await _decide(call, request, Verdict.APPROVED)
        if new:
            JOB.next(job.state, "approve", _decision_guards(call, job, owner))
            call.emit(JobDecided(type="job.approved", job=job.id, msp=call.msp))
        return row

    @submitted(Role.STEWARD)
    async def refuse(self, call: Call, request: DecideJob) -> Decision:
        """Refuse, as an owner. An owner of the terms ends the job by it; a late one only stays out."""
        job, owner, row, new = await _decide(call, request, Verdict.REFUSED)
        if new:
            state = JobState(JOB.next(job.state, "refuse", _decision_guards(call, job, owner)))
            call.emit(JobDecided(type="job.declined", job=job.id, msp=call.msp))
            if state != job.state:
                await end_job(call, job, state, f"refused by {call.msp}")
        return row

    @submitted(Role.SCIENTIST)
    async def add(self, call: Call, request: AddOwner) -> Job:
        """Ask one more owner, who takes part from the next round opened after its approval."""
        job = await _submitters(call, request.job)
        added = request.dataset
        msp = added.dataset.split("/")[0]
        present = next((owner for owner in job.owners if owner.msp == msp), None)
        if present is not None:
            if (present.dataset, present.version, present.grant) == (added.dataset, added.version, added.grant):
                return job
            raise refusals.Conflict("dataset.dataset", f"{msp} is in the job with {present.dataset} already")
        state = JobState(JOB.next(job.state, "add"))
        if len(job.owners) >= MAX_OWNERS:
            raise refusals.TooLarge("dataset", f"a job has at most {MAX_OWNERS} owners")
        owner = await name_owner(call, added, job.terms.submitter, "dataset", late=True)
        record = job.model_copy(update={"state": state, "owners": _ordered([*job.owners, owner])})
        await call.write(job_key(job.id), record)
        call.emit(OwnerAdded(job=job.id, msp=owner.msp, dataset=owner.dataset))
        return record

    @submitted(Role.GATEWAY, Role.OPERATOR)
    async def start(self, call: Call, request: JobRef) -> Job:
        """Open the first round, once every owner of the terms has approved."""
        job = await require_job(call, request.job)
        if job.round:
            return job
        missing = await missing_approvals(call, job)
        cohort = await next_cohort(call, job)
        holding = [guard for guard, holds in ((ALL_APPROVED, not missing), (COHORT_NOT_EMPTY, cohort)) if holds]
        waiting = {ALL_APPROVED: f"waiting for {', '.join(missing)}"}
        state = JobState(JOB.next(job.state, "start", holding, waiting))
        call.emit(JobChanged(type="job.started", job=job.id))
        return await open_round(call, job.model_copy(update={"state": state}), cohort)

    @submitted(Role.SCIENTIST)
    async def cancel(self, call: Call, request: JobRef) -> Job:
        """End the submitter's job: at once while nobody has delivered in its round, else when that round ends."""
        job = await _submitters(call, request.job)
        if job.state == JobState.CANCELLED or (job.stopping and job.state == JobState.RUNNING):
            return job
        current = await call.read(round_key(job.id, job.round), Round) if job.round else None
        idle = current is None or not await _delivered(call, current)
        holding = (NOTHING_DELIVERED,) if idle else ()
        state = JobState(JOB.next(job.state, "cancel", holding))
        reason = "cancelled by its submitter"
        if state == job.state:
            record = job.model_copy(update={"stopping": True})
            await call.write(job_key(job.id), record)
            call.emit(JobStopping(job=job.id))
            return record
        if current is not None:
            aborted = RoundState(ROUND.next(current.state, "cancel", holding))
            stopped = current.model_copy(update={"state": aborted, "reason": reason})
            await call.write(round_key(job.id, current.number), stopped)
            call.emit(RoundChanged(type="round.aborted", job=job.id, round=current.number, reason=reason))
        return await end_job(call, job, state, reason)

    @submitted(Role.GATEWAY, Role.OPERATOR)
    async def abort(self, call: Call, request: JobRef) -> Job:
        """End a job that its owners did not approve in time."""
        job = await require_job(call, request.job)
        if job.state == JobState.ABORTED:
            return job
        end = call.reached(job.approve_until_ms, job.window_ms)
        holding = (AFTER_APPROVAL_DEADLINE,) if call.now >= end else ()
        details = {AFTER_APPROVAL_DEADLINE: f"t is {call.now} and must be {end}"}
        state = JobState(JOB.next(job.state, "abort", holding, details))
        return await end_job(call, job, state, "not started before its approval deadline")

    @evaluated()
    async def show(self, call: Call, request: JobRef) -> JobView:
        """A job and its owners' decisions."""
        job = await require_job(call, request.job)
        return JobView(job=job, decisions=await call.rows("job-decision", [job.id], Decision))

    @evaluated()
    async def list(self, call: Call, request: ListRequest) -> JobPage:
        """Jobs in the order of their ids."""
        rows, bookmark = await call.page("job", [], Job, request.limit, request.bookmark)
        return JobPage(jobs=rows, bookmark=bookmark)


async def require_job(call: Call, job: str) -> Job:
    """The job's record.

    Raises:
        UnknownJob: there is none.
    """
    record = await call.read(job_key(job), Job)
    if record is None:
        raise refusals.UnknownJob("job", f"no job {job} is on the ledger")
    return record


async def open_round(call: Call, job: Job, cohort: tuple[CohortMember, ...]) -> Job:
    """Open the job's next round for ``cohort`` and write both records."""
    plan = job.terms.plan
    number = job.round + 1
    opened = Round(
        job=job.id,
        number=number,
        state=RoundState(ROUND.next(NEW, "open")),
        cohort=cohort,
        total_samples=sum(member.samples for member in cohort),
        quorum=quorum(len(cohort)),
        model=job.model,
        optimizer_state=job.optimizer_state,
        window_ms=call.consortium.window_ms,
        opened_ms=call.now,
        update_until_ms=call.now + plan.update_ms,
    )
    record = job.model_copy(update={"round": number})
    await call.write(round_key(job.id, number), opened)
    await call.write(job_key(job.id), record)
    call.emit(RoundOpened(job=job.id, round=number, cohort=tuple(member.msp for member in cohort)))
    return record


async def end_job(call: Call, job: Job, state: JobState, reason: str) -> Job:
    """Bring a job into a final state; what its escrow still holds goes back to the payer."""
    await pay(call, job.terms.payer, await spend_escrow(call, job.escrow))
    record = job.model_copy(update={"state": state, "escrow": None, "escrowed": "0", "reason": reason})
    await call.write(job_key(job.id), record)
    call.emit(JobChanged(type=_ENDS[state], job=job.id, reason=reason))
    return record


async def _decide(call: Call, request: DecideJob, verdict: Verdict) -> tuple[Job, Owner, Decision, bool]:
    job = await require_job(call, request.job)
    owner = next((owner for owner in job.owners if owner.msp == call.msp), None)
    if owner is None:
        raise refusals.NotOwner("job", f"{call.msp} owns none of the job's data sets")
    if request.digest != job.digest:
        raise refusals.DigestDiffers("digest", f"the job's digest is {job.digest}")
    if request.privacy != job.terms.plan.privacy:
        raise refusals.DigestDiffers("privacy", f"the job's policy is {job.terms.plan.privacy.value}")
    row = Decision(
        job=job.id,
        msp=call.msp,
        verdict=verdict,
        digest=job.digest,
        dataset=owner.dataset,
        version=owner.version,
        privacy=request.privacy,
        reason=request.reason,
    )
    return job, owner, row, await call.write_once(decision_key(job.id, call.msp), row)


def _decision_guards(call: Call, job: Job, owner: Owner) -> list[Guard]:
    holding = [LATE_OWNER] if owner.late else []
    return [*holding, BEFORE_APPROVAL_DEADLINE] if call.now < job.approve_until_ms else holding


async def _submitters(call: Call, job: str) -> Job:
    record = await require_job(call, job)
    if record.terms.submitter != call.msp:
        raise refusals.NotOwner("job", f"the job was submitted by {record.terms.submitter}")
    return record


async def _delivered(call: Call, current: Round) -> bool:
    keys = [update_key(current.job, current.number, member.msp) for member in current.cohort]
    return any(row is not None for row in await call.read_many(keys, Update))


def _ordered(owners: list[Owner]) -> tuple[Owner, ...]:
    return tuple(sorted(owners, key=lambda owner: owner.msp))


def _same(terms: JobTerms, request: SubmitJob, msp: str, payer: str) -> bool:
    asked = sorted((use.dataset, use.version, use.grant or "") for use in request.datasets)
    held = sorted((owner.dataset, owner.version, owner.grant or "") for owner in terms.owners)
    return (terms.submitter, terms.title, terms.plan, terms.budget, terms.payer, held) == (
        msp,
        request.title,
        request.plan,
        request.budget,
        payer,
        asked,
    )
