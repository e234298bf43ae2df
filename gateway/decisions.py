"""What one gateway has to do for a job now: a pure function of the ledger's rows, what is stored here, and the time.

Nothing is remembered between two calls, so a gateway that was killed decides as one that was not. What every gateway
may do (start, close, finalise, abort) is done at once by the one whose turn it is, and by the others only if it has not
happened a while later; that two do it all the same is harmless, the ledger takes one.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..chaincode.records import (
    Attestation,
    Decision,
    Job,
    JobState,
    Missing,
    Round,
    RoundState,
    Update,
    Verdict,
    deadline_over,
)
from ..chaincode.records.agreement import camps, missed, out_of_reach, winner

__all__ = [
    "AbortJob",
    "AbortRound",
    "Action",
    "Aggregate",
    "Attest",
    "CloseRound",
    "CommitUpdate",
    "Evaluate",
    "FinaliseRound",
    "JobSituation",
    "Own",
    "Recount",
    "ReportMissing",
    "StartJob",
    "Todo",
    "Train",
    "decide",
]


@dataclass(frozen=True)
class Action:
    """Something to be done for a job. Equal actions are the same deed: it is done once at a time."""

    job: str


@dataclass(frozen=True)
class StartJob(Action):
    """Open the first round: every owner has approved."""


@dataclass(frozen=True)
class AbortJob(Action):
    """End a job that was not approved in time."""


@dataclass(frozen=True)
class _RoundAction(Action):
    round: int
    attempt: int


@dataclass(frozen=True)
class Train(_RoundAction):
    """Train on the own data and store the encoded update."""


@dataclass(frozen=True)
class CommitUpdate(_RoundAction):
    """Commit the stored update's digest."""


@dataclass(frozen=True)
class CloseRound(_RoundAction):
    """Fix the updates that count."""


@dataclass(frozen=True)
class Aggregate(_RoundAction):
    """Sum the counted updates and store what came out."""


@dataclass(frozen=True)
class ReportMissing(_RoundAction):
    """Say whose counted updates nobody gives."""

    members: tuple[str, ...]


@dataclass(frozen=True)
class Recount(_RoundAction):
    """Aggregate without the updates that a quorum can't get."""


@dataclass(frozen=True)
class Evaluate(_RoundAction):
    """Evaluate the stored outcome's model on the own hold-out and store the verdict."""


@dataclass(frozen=True)
class Attest(_RoundAction):
    """Commit the stored outcome and verdict."""


@dataclass(frozen=True)
class FinaliseRound(_RoundAction):
    """Make an outcome the global model."""

    outcome: str
    attestations: tuple[str, ...]


@dataclass(frozen=True)
class AbortRound(_RoundAction):
    """End a round that can't reach its quorum."""


@dataclass(frozen=True)
class Own:
    """What this gateway has stored for the job's present round, and what it has given up."""

    update: bool = False
    outcome: bool = False
    verdict: bool = False
    failed: frozenset[str] = frozenset()
    """Steps that are not tried again: "train", "aggregate"."""
    trains: bool = True
    lacking: frozenset[str] = frozenset()
    """Members whose counted updates are not in the own store."""


@dataclass(frozen=True)
class JobSituation:
    """A job as the ledger has it."""

    job: Job
    window_ms: int = field(kw_only=True)
    """w of the consortium's present record."""
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    round: Round | None = None
    """The round opened last."""
    updates: Mapping[str, Update] = field(default_factory=dict)
    attestations: Mapping[str, Attestation] = field(default_factory=dict)
    """Of the round's present attempt."""
    missing: Mapping[str, Missing] = field(default_factory=dict)
    """Of the round's present attempt."""

    def reached(self, deadline_ms: int, window_ms: int) -> int:
        """When a deadline that was set under w = ``window_ms`` is over for everybody."""
        return deadline_over(deadline_ms, window_ms, self.window_ms)


@dataclass(frozen=True)
class Todo:
    """What to do.

    Attributes:
        actions: each with the milliseconds that it is to be held back, should somebody else do it meanwhile.
        wake_ms: the time (ms since 1970) at which to decide again though nothing has happened; None: no need.
    """

    actions: Mapping[Action, int] = field(default_factory=dict)
    wake_ms: int | None = None


def decide(situation: JobSituation, own: Own, me: str, now_ms: int, *, stagger_ms: int) -> Todo:
    """What the gateway of the organisation `me` has to do for a job at a time (ms since 1970)."""
    job = situation.job
    here = _Here(me, own, now_ms, stagger_ms)
    if job.state is JobState.SUBMITTED:
        return _before_start(situation, here)
    if job.state is not JobState.RUNNING or situation.round is None:
        return Todo()
    if situation.round.state is RoundState.OPEN:
        return _while_open(situation, situation.round, here)
    if situation.round.state is RoundState.CLOSED:
        return _while_closed(situation, situation.round, here)
    return Todo()


@dataclass(frozen=True)
class _Here:
    """Who decides, with what in store, when."""

    me: str
    own: Own
    now_ms: int
    stagger_ms: int

    def wait(self, members: Sequence[str], about: str) -> int:
        """How long to leave to others what every gateway may do, in milliseconds."""
        return _turn(self.me, members, about) * self.stagger_ms


def _before_start(situation: JobSituation, here: _Here) -> Todo:
    job = situation.job
    owners = [owner.msp for owner in job.terms.owners]
    wait = here.wait(owners, f"{job.id} start")
    if all(_approved(situation.decisions.get(owner), job) for owner in owners):
        return Todo({StartJob(job.id): wait})
    over_ms = situation.reached(job.approve_until_ms, job.window_ms)
    if here.now_ms >= over_ms:
        return Todo({AbortJob(job.id): wait})
    return Todo(wake_ms=over_ms)


def _while_open(situation: JobSituation, current: Round, here: _Here) -> Todo:
    me, own = here.me, here.own
    place = (current.job, current.number, current.attempt)
    actions: dict[Action, int] = {}
    member = current.member(me) is not None
    if member and me not in situation.updates and here.now_ms < current.update_until_ms:
        if own.update:
            actions[CommitUpdate(*place)] = 0
        elif own.trains and "train" not in own.failed:
            actions[Train(*place)] = 0
    over_ms = situation.reached(current.update_until_ms, current.window_ms)
    turn = here.wait([one.msp for one in current.cohort], f"{current.job} {current.number} close")
    received = len(situation.updates)
    if received == len(current.cohort):
        actions[CloseRound(*place)] = turn
        # What closing will count is known: the sum need not wait for the ledger to say so.
        if member and (work := _work(own, place)) is not None:
            actions[work] = 0
    elif here.now_ms >= over_ms:
        late: Action = CloseRound(*place) if received >= current.quorum else AbortRound(*place)
        actions[late] = turn
    else:
        return Todo(actions, over_ms)
    return Todo(actions)


def _while_closed(situation: JobSituation, current: Round, here: _Here) -> Todo:
    actions: dict[Action, int] = {}
    wakes = []
    silent = current.member(here.me) is not None and here.me not in situation.attestations
    if silent and here.now_ms < current.attest_until_ms:
        patience_ms = current.attest_until_ms - situation.job.terms.plan.attest_ms // 2
        _say_outcome(situation, current, here, actions, complain=here.now_ms >= patience_ms)
        if here.now_ms < patience_ms:
            wakes.append(patience_ms)
    place = (current.job, current.number, current.attempt)
    rows = list(situation.attestations.values())
    over_ms = situation.reached(current.attest_until_ms, current.window_ms)
    over = here.now_ms >= over_ms
    turn = here.wait([one.msp for one in current.cohort], f"{current.job} {current.number} end")
    found = camps(rows)
    agreed = winner(found, current.quorum)
    lost = missed(list(situation.missing.values()), current.quorum)
    if agreed is not None:
        if over or all(msp in situation.attestations for msp in current.counted):
            actions[FinaliseRound(*place, agreed.outcome.digest, agreed.members)] = turn
    elif lost and len(current.counted) - len(lost) >= current.quorum:
        actions[Recount(*place)] = turn
    elif over or out_of_reach(found, current.quorum, len(current.cohort) - len(rows)):
        actions[AbortRound(*place)] = turn
    if not over:
        wakes.append(over_ms)
    return Todo(actions, min(wakes, default=None))


def _say_outcome(
    situation: JobSituation, current: Round, here: _Here, actions: dict[Action, int], *, complain: bool
) -> None:
    """A member's own part: sum, evaluate, attest; and say, half way to the deadline, what it can't get."""
    own = here.own
    place = (current.job, current.number, current.attempt)
    if own.verdict:
        actions[Attest(*place)] = 0
    elif (work := _work(own, place)) is not None:
        actions[work] = 0
    if complain and own.lacking and not own.outcome and here.me not in situation.missing:
        actions[ReportMissing(*place, tuple(sorted(own.lacking)))] = 0


def _work(own: Own, place: tuple[str, int, int]) -> Action | None:
    """What is left to be done before an outcome can be attested."""
    if own.verdict or "aggregate" in own.failed:
        return None
    return Evaluate(*place) if own.outcome else Aggregate(*place)


def _approved(decision: Decision | None, job: Job) -> bool:
    return decision is not None and decision.verdict is Verdict.APPROVED and decision.digest == job.digest


def _turn(me: str, members: Sequence[str], about: str) -> int:
    """Whose turn it is: 0 acts at once, others later, who is no member last. Drawn, so that the load is shared."""

    def draw(msp: str) -> bytes:
        return hashlib.sha256(f"{about} {msp}".encode()).digest()

    order = sorted(members, key=draw)
    return order.index(me) if me in members else len(order)
