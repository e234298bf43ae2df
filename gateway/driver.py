"""Drives jobs: decides after every block, and carries decisions out, from wherever the ledger stands.

Everything that a decision rests on is in the read model (the ledger) or in the journal (what is stored here), so a
restart goes on where the ledger says. Each deed runs once at a time; one that fails for a passing reason is tried again
after a pause, one that can't succeed is given up for its round, on record.
"""

import asyncio
import datetime
import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import structlog

from ..chaincode.records import (
    Attest,
    CohortMember,
    FinaliseRound,
    Job,
    JobRef,
    Record,
    ReportMissing,
    Round,
    RoundRef,
    RoundState,
    UseAccess,
    read_refusal,
)
from ..fabric.client import ClientError, GatewayError
from . import decisions
from .blobs import StoreFullError
from .consent import Consent, ConsentError, check_consent
from .decisions import Action, JobSituation, Own, decide
from .errors import ApiError
from .follower import Follower
from .journal import Journal, StoredAttestation
from .ledger import Ledger
from .read_model import Applied
from .workshop import MemberFailedError, Workshop
from .zygote import TrainerError

__all__ = ["Driver"]

log = structlog.get_logger(__name__)

_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 10.0
_MOST_TRIES: Final = 8
_STEPS: Final[Mapping[type[Action], str]] = {
    decisions.Train: "train",
    decisions.Aggregate: "aggregate",
    decisions.Evaluate: "evaluate",
}


_NAMES: Final[Mapping[type[Action], str]] = {
    decisions.StartJob: "start",
    decisions.AbortJob: "abort",
    decisions.CloseRound: "close",
    decisions.AbortRound: "abort_round",
    decisions.Recount: "recount",
}


@dataclass
class _Running:
    """A deed under way or held back."""

    task: asyncio.Task[None] | None = None
    held: bool = True


@dataclass
class _Trouble:
    """A deed that failed: how often, and when to try again (monotonic seconds)."""

    tries: int
    again: float


class Driver:
    """One gateway's part in all jobs."""

    def __init__(
        self,
        me: str,
        *,
        follower: Follower,
        journal: Journal,
        ledger: Ledger,
        workshop: Workshop,
        chaincode: str,
        trains: bool,
        stagger_ms: int,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._me = me
        self._follower = follower
        self._model = follower.model
        self._journal = journal
        self._ledger = ledger
        self._workshop = workshop
        self._chaincode = chaincode
        self._trains = trains
        self._stagger_ms = stagger_ms
        self._clock_ms = clock_ms
        self._wake = asyncio.Event()
        self._running: dict[Action, _Running] = {}
        self._trouble: dict[Action, _Trouble] = {}
        follower.listen(self._on_block)

    def _on_block(self, _: Applied) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Drive until cancelled; deeds under way are cancelled too, and taken up again by the next start."""
        try:
            while True:
                self._wake.clear()
                seconds = self._step()
                # Not `wait_for`: before Python 3.12 it loses a cancellation that comes together with what it waits for.
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self._wake.wait()
        finally:
            tasks = [running.task for running in self._running.values() if running.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _step(self) -> float | None:
        """Start what is to be done, stop what is not to be done any more; seconds until the next look."""
        now_ms = self._clock_ms()
        wanted: dict[Action, int] = {}
        wakes: list[float] = []
        for job in self._model.own_open_jobs():
            situation = self._situation(job)
            todo = decide(situation, self._own(situation), self._me, now_ms, stagger_ms=self._stagger_ms)
            wanted.update(todo.actions)
            if todo.wake_ms is not None:
                wakes.append(max(0.0, (todo.wake_ms - now_ms) / 1000))
        for action, running in list(self._running.items()):
            # A deed that nobody needs any more: the round went on without it. What is on its way to the ledger is left
            # to end, so that its end is known.
            if action not in wanted and running.task is not None and (running.held or type(action) in _STEPS):
                running.task.cancel()
        for action, hold_ms in wanted.items():
            trouble = self._trouble.get(action)
            if action in self._running:
                continue
            if trouble is not None and trouble.again > time.monotonic():
                wakes.append(trouble.again - time.monotonic())
                continue
            self._begin(action, hold_ms / 1000)
        for action in [action for action in self._trouble if action not in wanted]:
            del self._trouble[action]
        return min(wakes, default=None)

    def _begin(self, action: Action, hold: float) -> None:
        running = self._running[action] = _Running()
        running.task = asyncio.create_task(self._perform(action, running, hold), name=str(action))
        running.task.add_done_callback(lambda _: self._ended(action))

    def _ended(self, action: Action) -> None:
        del self._running[action]
        self._wake.set()

    def _situation(self, job: Job) -> JobSituation:
        model = self._model
        consortium = model.consortium()
        situation = JobSituation(
            job=job,
            window_ms=job.window_ms if consortium is None else consortium.window_ms,
            decisions={row.msp: row for row in model.decisions(job.id)},
        )
        current = model.round(job.id, job.round) if job.round else None
        if current is None:
            return situation
        place = (job.id, current.number, current.attempt)
        return replace(
            situation,
            round=current,
            updates={row.msp: row for row in model.updates(job.id, current.number)},
            attestations={row.msp: row for row in model.attestations(*place)},
            missing={row.msp: row for row in model.missing(*place)},
        )

    def _own(self, situation: JobSituation) -> Own:
        current = situation.round
        if current is None:
            return Own()
        place = (current.job, current.number, current.attempt)
        steps = ("train", "aggregate")
        return Own(
            update=self._journal.update(*place) is not None,
            outcome=self._journal.outcome(*place) is not None,
            verdict=self._journal.verdict(*place) is not None,
            failed=frozenset(step for step in steps if self._journal.failure(*place, step)),
            trains=self._trains,
            lacking=self._lacking(current, situation),
        )

    def _lacking(self, current: Round, situation: JobSituation) -> frozenset[str]:
        if current.state is not RoundState.CLOSED:
            return frozenset()
        rows = [situation.updates[msp] for msp in current.counted if msp in situation.updates]
        return frozenset(row.msp for row in rows if self._workshop.lacks(row.blob))

    # -- deeds

    async def _perform(self, action: Action, running: _Running, hold: float) -> None:
        """Do one thing; what fails is noted, never raised."""
        if hold:
            await asyncio.sleep(hold)
        running.held = False
        try:
            await self._do(action)
        except asyncio.CancelledError:
            raise
        except (MemberFailedError, ConsentError) as error:
            self._give_up(action, f"{error.code}: {error}")
        except GatewayError as error:
            refusal = read_refusal(error.refusal.message) if error.refusal is not None else None
            self._note_trouble(action, refusal.code if refusal else error.code.name, str(error))
        except (ClientError, ApiError, StoreFullError, TimeoutError, OSError) as error:
            self._note_trouble(action, type(error).__name__, str(error))
        except TrainerError as error:
            self._note_trouble(action, error.code, str(error), counts=True)
        except Exception as error:
            # A fault of ours in one deed must not end the gateway's part in all jobs.
            log.exception("deed.fault", deed=type(action).__name__, job=action.job)
            self._note_trouble(action, type(error).__name__, "an unexpected fault; the log has more", counts=True)
        else:
            self._trouble.pop(action, None)

    def _note_trouble(self, action: Action, code: str, text: str, *, counts: bool = False) -> None:
        """Try again after a pause: without end while others are away, a few times when it is this machine's fault."""
        tries = self._trouble[action].tries + 1 if action in self._trouble else 1
        if counts and type(action) in _STEPS and tries >= _MOST_TRIES:
            self._give_up(action, f"{code}: {text}")
            return
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(tries - 1, 16))
        self._trouble[action] = _Trouble(tries, time.monotonic() + pause)
        log.info("deed.again", deed=type(action).__name__, job=action.job, code=code, tries=tries, reason=text[:300])

    def _give_up(self, action: Action, text: str) -> None:
        step = _STEPS.get(type(action))
        number = getattr(action, "round", 0)
        log.error("deed.given_up", deed=type(action).__name__, job=action.job, round=number, reason=text[:500])
        if step is not None:
            attempt = getattr(action, "attempt", 0)
            self._journal.store_failure(action.job, number, attempt, step, text[:500])
            if isinstance(action, decisions.Evaluate):
                self._reject_unseen(action)
        else:
            self._trouble[action] = _Trouble(_MOST_TRIES, time.monotonic() + _LONGEST_PAUSE)

    async def _do(self, action: Action) -> None:
        match action:
            case decisions.Train():
                await self._train(action)
            case decisions.Aggregate():
                job, current = self._present(action)
                await self._workshop.aggregate(job, current, self._model.updates(job.id, current.number))
            case decisions.Evaluate():
                await self._evaluate(action)
            case _:
                transaction, request = self._transaction(action)
                if request is not None:
                    await self._act(action, transaction, request)

    def _transaction(self, action: Action) -> tuple[str, Record | None]:
        """The transaction that carries a decision out, and its request; None when nothing is stored to be said."""
        match action:
            case decisions.CommitUpdate():
                return "update", self._journal.update(action.job, action.round, action.attempt)
            case decisions.Attest():
                return "attest", self._attestation(action)
            case decisions.FinaliseRound(job=job, round=number, outcome=outcome, attestations=attestations):
                return "finalise", FinaliseRound(job=job, round=number, outcome=outcome, attestations=attestations)
            case decisions.ReportMissing(job=job, round=number, attempt=attempt, members=members):
                return "report_missing", ReportMissing(job=job, round=number, attempt=attempt, members=members)
            case decisions.CloseRound() | decisions.AbortRound() | decisions.Recount():
                return _NAMES[type(action)], RoundRef(job=action.job, round=action.round)
        return _NAMES[type(action)], JobRef(job=action.job)

    async def _act(self, action: Action, transaction: str, request: Record) -> None:
        number = getattr(action, "round", 0)
        attempt = getattr(action, "attempt", 0)
        # With what it says: members that others miss, or attestations, may have become more since it was stored.
        said = hashlib.sha256(request.canonical()).hexdigest()[:16]
        name = f"{transaction} {action.job} {number} {attempt} {said}"
        took = await self._ledger.act(name, f"training:{transaction}", request)
        self._journal.add_time(action.job, number, "ledger", took)
        log.info("ledger.act", act=transaction, job=action.job, round=number, seconds=round(took, 3))

    def _present(self, action: decisions.Train | decisions.Aggregate | decisions.Evaluate) -> tuple[Job, Round]:
        job = self._model.job(action.job)
        current = self._model.round(action.job, action.round)
        if job is None or current is None:
            raise MemberFailedError("UNKNOWN_ROUND", f"{action.job} has no round {action.round}")
        return job, current

    async def _consented(self, job: Job, current: Round) -> tuple[CohortMember, Consent]:
        """The own organisation's consent, and its use on record before anything is decrypted or started."""
        member = current.member(self._me)
        if member is None:
            raise MemberFailedError("NOT_IN_COHORT", f"{self._me} is not in the cohort of round {current.number}")
        consent = check_consent(
            job,
            member,
            model=self._model,
            trust=self._follower.trust,
            chaincode=self._chaincode,
            now=datetime.datetime.now(datetime.UTC),
        )
        if consent.grant is not None:
            await self._record_use(job, current, consent.grant.request)
        return member, consent

    async def _record_use(self, job: Job, current: Round, grant: str) -> None:
        digest = hashlib.sha256(job.id.encode()).hexdigest()[:16]
        operation = f"job-{digest}-round-{current.number}-{current.attempt}"
        if any(use.operation == operation for use in self._model.uses(grant)):
            return
        detail = f"training of {job.id}, round {current.number}"
        use = UseAccess(id=grant, operation=operation, detail=detail)
        took = await self._ledger.act(f"use {grant} {operation}", "access:use", use)
        self._journal.add_time(job.id, current.number, "ledger", took)

    async def _train(self, action: decisions.Train) -> None:
        job, current = self._present(action)
        # Consent first: nothing is fetched for a plan that the own organisation has not approved.
        (_, consent), _ = await asyncio.gather(
            self._consented(job, current), self._workshop.fetch_for_training(job, current)
        )
        await self._workshop.train(job, current, consent, self._clock_ms)
        log.info("round.trained", job=job.id, round=current.number)

    async def _evaluate(self, action: decisions.Evaluate) -> None:
        job, current = self._present(action)
        outcome = self._journal.outcome(action.job, action.round, action.attempt)
        if outcome is None:
            return
        # Without consent (revoked since it was trained under) this is given up, and the model not vouched for.
        _, consent = await self._consented(job, current)
        await self._workshop.fetch_for_training(job, current)
        await self._workshop.have_model(current, outcome)
        previous = self._model.round(job.id, current.number - 1)
        before = None
        if previous is not None:
            before = self._model.attestation(job.id, previous.number, previous.attempt, self._me)
        await self._workshop.evaluate(
            job, current, outcome, consent, None if before is None else before.metrics, self._clock_ms
        )

    def _reject_unseen(self, action: decisions.Evaluate) -> None:
        """What could not be evaluated is not accepted; its sum is attested all the same."""
        unseen = StoredAttestation(accept=False, samples=0, metrics={})
        self._journal.store_verdict(action.job, action.round, action.attempt, unseen)

    def _attestation(self, action: decisions.Attest) -> Attest | None:
        outcome = self._journal.outcome(action.job, action.round, action.attempt)
        verdict = self._journal.verdict(action.job, action.round, action.attempt)
        if outcome is None or verdict is None:
            return None
        return Attest(
            job=action.job,
            round=action.round,
            attempt=action.attempt,
            outcome=outcome,
            accept=verdict.accept,
            samples=verdict.samples,
            metrics=dict(verdict.metrics),
        )
