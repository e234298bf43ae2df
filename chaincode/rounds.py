"""A job's rounds: updates, closing, attestations, and the end of a round."""

from collections.abc import Sequence

from .call import Call
from .cohort import next_cohort
from .dispatch import LedgerContract, evaluated, submitted
from .jobs import end_job, open_round, require_job
from .machine import Guard
from .records import (
    Attest,
    Attestation,
    CohortMember,
    CommitUpdate,
    FinaliseRound,
    JobState,
    Missing,
    ReportMissing,
    Role,
    Round,
    RoundAttested,
    RoundChanged,
    RoundRef,
    RoundState,
    RoundView,
    Update,
    UpdateCommitted,
    UpdatesMissed,
    attestation_key,
    missing_key,
    refusals,
    round_key,
    update_key,
)
from .records.agreement import Camp, camps, missed, out_of_reach, summaries, winner
from .rewards import payments
from .states import (
    AFTER_ATTEST_DEADLINE,
    AFTER_UPDATE_DEADLINE,
    BEFORE_ATTEST_DEADLINE,
    BEFORE_UPDATE_DEADLINE,
    COUNTED_ATTESTED,
    JOB,
    LAST_ROUND,
    NO_QUORUM_AGREES,
    NO_QUORUM_OF_UPDATES,
    NOBODY_LEFT,
    QUORUM_AGREES,
    QUORUM_IMPOSSIBLE,
    QUORUM_LEFT,
    QUORUM_MISSES,
    QUORUM_OF_UPDATES,
    ROUND,
    STOPPING,
    WHOLE_COHORT_IN,
)
from .unspent import pay, spend_escrow


class RoundTransactions(LedgerContract):
    """The transactions of ``training`` that speak of one round. Its record is the parent that all of them read."""

    @submitted(Role.GATEWAY)
    async def update(self, call: Call, request: CommitUpdate) -> Update:
        """Commit the caller's organisation's update, once."""
        current = await _require_round(call, request.job, request.round)
        member = _require_member(call, current)
        row = Update(
            job=request.job,
            round=request.round,
            attempt=request.attempt,
            msp=call.msp,
            blob=request.blob,
            samples=request.samples,
            metrics=request.metrics,
        )
        if not await call.write_once(update_key(request.job, request.round, call.msp), row):
            return row
        _require_attempt(current, request.attempt)
        if request.samples > member.samples:
            raise refusals.SamplesExceeded("samples", f"{member.dataset} has {member.samples} registered")
        in_time = call.now < current.update_until_ms
        ROUND.next(current.state, "update", (BEFORE_UPDATE_DEADLINE,) if in_time else ())
        call.emit(UpdateCommitted(job=request.job, round=request.round, msp=call.msp))
        return row

    @submitted(Role.GATEWAY, Role.OPERATOR)
    async def close(self, call: Call, request: RoundRef) -> Round:
        """Fix which updates are aggregated: all of the cohort's, or after D + 2w those of a quorum."""
        current = await _require_round(call, request.job, request.round)
        if current.state in (RoundState.CLOSED, RoundState.FINAL):
            return current
        counted = tuple(row.msp for row in await _updates(call, current))
        state = RoundState(
            ROUND.next(current.state, "close", _update_guards(call, current, len(counted)), _details(call, current))
        )
        job = await require_job(call, request.job)
        until = call.now + job.terms.plan.attest_ms
        record = current.model_copy(update={"state": state, "counted": counted, "attest_until_ms": until})
        await call.write(round_key(record.job, record.number), record)
        call.emit(RoundChanged(type="round.closed", job=record.job, round=record.number))
        return record

    @submitted(Role.GATEWAY)
    async def report_missing(self, call: Call, request: ReportMissing) -> Missing:
        """Say, once in an attempt, whose committed updates the caller's organisation can't get from anybody."""
        current = await _require_round(call, request.job, request.round)
        _require_member(call, current)
        row = Missing(
            job=request.job, round=request.round, attempt=request.attempt, msp=call.msp, members=request.members
        )
        if not await call.write_once(missing_key(row.job, row.round, row.attempt, row.msp), row):
            return row
        _require_attempt(current, request.attempt)
        in_time = call.now < current.attest_until_ms
        ROUND.next(current.state, "report_missing", (BEFORE_ATTEST_DEADLINE,) if in_time else ())
        _require_counted(current, "members", request.members)
        call.emit(UpdatesMissed(job=row.job, round=row.round, msp=row.msp, members=row.members))
        return row

    @submitted(Role.GATEWAY, Role.OPERATOR)
    async def recount(self, call: Call, request: RoundRef) -> Round:
        """Aggregate without the updates that a quorum can't get, in a new attempt with a new deadline."""
        current = await _require_round(call, request.job, request.round)
        lost = missed(await _missing(call, current), current.quorum)
        counted = tuple(msp for msp in current.counted if msp not in lost)
        agreed = winner(camps(await _attestations(call, current)), current.quorum)
        facts = (
            (QUORUM_MISSES, lost),
            (NO_QUORUM_AGREES, agreed is None),
            (QUORUM_LEFT, len(counted) >= current.quorum),
        )
        holding = {guard for guard, holds in facts if holds}
        state = RoundState(ROUND.next(current.state, "recount", holding, _details(call, current)))
        job = await require_job(call, request.job)
        changes = {
            "state": state,
            "attempt": current.attempt + 1,
            "counted": counted,
            "withheld": tuple(sorted({*current.withheld, *lost})),
            "attest_until_ms": call.now + job.terms.plan.attest_ms,
        }
        record = current.model_copy(update=changes)
        await call.write(round_key(record.job, record.number), record)
        reason = f"without the updates of {', '.join(lost)}, which a quorum can't get"
        call.emit(RoundChanged(type="round.recounted", job=record.job, round=record.number, reason=reason[:200]))
        return record

    @submitted(Role.GATEWAY)
    async def attest(self, call: Call, request: Attest) -> Attestation:
        """Say what the caller's organisation got as the round's outcome, once, and whether it accepts it."""
        current = await _require_round(call, request.job, request.round)
        _require_member(call, current)
        row = Attestation(
            job=request.job,
            round=request.round,
            attempt=request.attempt,
            msp=call.msp,
            outcome=request.outcome,
            accept=request.accept,
            samples=request.samples,
            metrics=request.metrics,
        )
        if not await call.write_once(attestation_key(row.job, row.round, row.attempt, row.msp), row):
            return row
        _require_attempt(current, request.attempt)
        in_time = call.now < current.attest_until_ms
        ROUND.next(current.state, "attest", (BEFORE_ATTEST_DEADLINE,) if in_time else ())
        _require_counted(current, "outcome.summed", request.outcome.summed)
        call.emit(
            RoundAttested(
                job=request.job,
                round=request.round,
                msp=call.msp,
                outcome=request.outcome.digest,
                accept=request.accept,
            )
        )
        return row

    @submitted(Role.GATEWAY, Role.OPERATOR)
    async def finalise(self, call: Call, request: FinaliseRound) -> Round:
        """Make a quorum's outcome the global model, pay the round, and open the next round or end the job."""
        current = await _require_round(call, request.job, request.round)
        if current.outcome is not None:
            if current.outcome.digest == request.outcome:
                return current
            raise refusals.Conflict("outcome", f"the round is final with {current.outcome.digest}")
        rows = await _attestations(call, current)
        found = camps(rows)
        agreed = winner(found, current.quorum)
        holding = _attestation_guards(call, current, rows)
        if agreed is None or agreed.outcome.digest != request.outcome:
            holding.discard(QUORUM_AGREES)
        state = RoundState(ROUND.next(current.state, "finalise", holding, _details(call, current)))
        if agreed is None or request.attestations != agreed.members:
            said = ", ".join(agreed.members) if agreed else "nobody"
            raise refusals.AttestationsDiffer("attestations", f"this outcome is attested by {said}")
        return await _finalise(call, current, state, agreed, rows)

    @submitted(Role.GATEWAY, Role.OPERATOR)
    async def abort_round(self, call: Call, request: RoundRef) -> Round:
        """End a round that can't reach its quorum, and its job with it; the escrow goes back."""
        current = await _require_round(call, request.job, request.round)
        if current.state == RoundState.ABORTED:
            return current
        rows = await _attestations(call, current)
        if current.state == RoundState.OPEN:
            holding = _update_guards(call, current, len(await _updates(call, current)))
            reason = f"round {current.number}: too few updates before its deadline"
        else:
            holding = _attestation_guards(call, current, rows)
            lost = missed(await _missing(call, current), current.quorum)
            why = f"; nobody has the updates of {', '.join(lost)}" if lost else ""
            reason = f"round {current.number}: no quorum for one outcome{why}"[:200]
        state = RoundState(ROUND.next(current.state, "abort_round", holding, _details(call, current)))
        record = current.model_copy(update={"state": state, "attestations": summaries(rows), "reason": reason})
        await call.write(round_key(record.job, record.number), record)
        call.emit(RoundChanged(type="round.aborted", job=record.job, round=record.number, reason=reason))
        job = await require_job(call, request.job)
        await end_job(call, job, JobState(JOB.next(job.state, "abort_round")), reason)
        return record

    @evaluated()
    async def round(self, call: Call, request: RoundRef) -> RoundView:
        """A round's record, and the rows beside it: updates, attestations, what members miss."""
        current = await _require_round(call, request.job, request.round)
        return RoundView(
            round=current,
            updates=tuple(await _updates(call, current)),
            attestations=tuple(await _attestations(call, current)),
            missing=tuple(await _missing(call, current)),
        )


async def _finalise(call: Call, current: Round, state: RoundState, agreed: Camp, rows: Sequence[Attestation]) -> Round:
    job = await require_job(call, current.job)
    plan = job.terms.plan
    paid = payments(int(job.terms.budget), plan.rounds, agreed.outcome.summed, agreed.members)
    record = current.model_copy(
        update={
            "state": state,
            "outcome": agreed.outcome,
            "attestations": summaries(rows),
            "payments": paid,
        }
    )
    await call.write(round_key(record.job, record.number), record)
    call.emit(RoundChanged(type="round.final", job=record.job, round=record.number))
    spent = sum(int(payment.amount) for payment in paid)
    rest = int(job.escrowed) - spent
    settled = job.model_copy(
        update={
            "rounds_final": job.rounds_final + 1,
            "paid": str(int(job.paid) + spent),
            "model": agreed.outcome.model,
            "optimizer_state": agreed.outcome.state,
        }
    )
    cohort = await next_cohort(call, settled)
    holding = [
        guard
        for guard, holds in (
            (LAST_ROUND, record.number >= plan.rounds),
            (STOPPING, job.stopping),
            (NOBODY_LEFT, not cohort),
        )
        if holds
    ]
    following = JobState(JOB.next(job.state, "finalise", holding))
    await spend_escrow(call, job.escrow)
    for payment in paid:
        await pay(call, payment.msp, int(payment.amount))
    if following == JobState.RUNNING:
        held = await pay(call, f"job:{job.id}", rest)
        kept = settled.model_copy(update={"escrow": held, "escrowed": str(rest)})
        await open_round(call, kept, cohort)
        return record
    await pay(call, job.terms.payer, rest)
    reason = {JobState.CANCELLED: "cancelled by its submitter", JobState.ABORTED: "no owner may take part any more"}
    ended = settled.model_copy(update={"escrow": None, "escrowed": "0"})
    await end_job(call, ended, following, reason.get(following, ""))
    return record


async def _require_round(call: Call, job: str, number: int) -> Round:
    record = await call.read(round_key(job, number), Round)
    if record is None:
        await require_job(call, job)
        raise refusals.UnknownRound("round", f"{job} has no round {number}")
    return record


def _require_member(call: Call, current: Round) -> CohortMember:
    member = current.member(call.msp)
    if member is None:
        names = ", ".join(one.msp for one in current.cohort)
        raise refusals.NotInCohort("round", f"{call.msp} is not in this round's cohort: {names}")
    return member


def _require_attempt(current: Round, attempt: int) -> None:
    if attempt != current.attempt:
        raise refusals.WrongState("attempt", f"the round's attempt is {current.attempt}")


def _require_counted(current: Round, field: str, members: Sequence[str]) -> None:
    others = [msp for msp in members if msp not in current.counted]
    if others:
        raise refusals.NotCounted(field, f"the round counts no update of {', '.join(others)}")


async def _updates(call: Call, current: Round) -> list[Update]:
    keys = [update_key(current.job, current.number, member.msp) for member in current.cohort]
    return [row for row in await call.read_many(keys, Update) if row is not None]


async def _attestations(call: Call, current: Round) -> list[Attestation]:
    keys = [attestation_key(current.job, current.number, current.attempt, member.msp) for member in current.cohort]
    return [row for row in await call.read_many(keys, Attestation) if row is not None]


async def _missing(call: Call, current: Round) -> list[Missing]:
    keys = [missing_key(current.job, current.number, current.attempt, member.msp) for member in current.cohort]
    return [row for row in await call.read_many(keys, Missing) if row is not None]


def _update_guards(call: Call, current: Round, received: int) -> set[Guard]:
    facts = (
        (WHOLE_COHORT_IN, received == len(current.cohort)),
        (AFTER_UPDATE_DEADLINE, call.now >= call.reached(current.update_until_ms, current.window_ms)),
        (QUORUM_OF_UPDATES, received >= current.quorum),
        (NO_QUORUM_OF_UPDATES, received < current.quorum),
    )
    return {guard for guard, holds in facts if holds}


def _attestation_guards(call: Call, current: Round, rows: Sequence[Attestation]) -> set[Guard]:
    found = camps(rows)
    agreed = winner(found, current.quorum) is not None
    heard = {row.msp for row in rows}
    facts = (
        (QUORUM_AGREES, agreed),
        (NO_QUORUM_AGREES, not agreed),
        (COUNTED_ATTESTED, heard.issuperset(current.counted)),
        (AFTER_ATTEST_DEADLINE, call.now >= call.reached(current.attest_until_ms, current.window_ms)),
        (QUORUM_IMPOSSIBLE, out_of_reach(found, current.quorum, len(current.cohort) - len(heard))),
    )
    return {guard for guard, holds in facts if holds}


def _details(call: Call, current: Round) -> dict[Guard, str]:
    """What a refused gateway wants to know: how long to wait, and for how many."""
    updates_over = call.reached(current.update_until_ms, current.window_ms)
    attestations_over = call.reached(current.attest_until_ms, current.window_ms)
    return {
        AFTER_UPDATE_DEADLINE: f"t is {call.now} and must be {updates_over}",
        AFTER_ATTEST_DEADLINE: f"t is {call.now} and must be {attestations_over}",
        QUORUM_OF_UPDATES: f"{current.quorum} of {len(current.cohort)}",
        QUORUM_AGREES: f"{current.quorum} of {len(current.cohort)}",
    }
