"""Training jobs: terms, owners' decisions, rounds, updates and attestations."""

import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .canonical import Record, tagged_hash
from .fields import (
    Account,
    AmountOrZero,
    Blob,
    Clip,
    DatasetId,
    Decimal,
    Digest,
    Duration,
    Id,
    Line,
    Metrics,
    MspId,
    MspIds,
    Natural,
    Positive,
    RoundNumber,
    Samples,
    Timestamp,
    Window,
)
from .tokens import Inputs, TokenRef

Attempt = Annotated[int, Field(ge=1, le=1000)]
"""The number of an attempt of a round."""


class JobState(StrEnum):
    """Where a job stands."""

    SUBMITTED = "submitted"
    RUNNING = "running"
    FINISHED = "finished"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    ABORTED = "aborted"

    @property
    def ended(self) -> bool:
        """Whether nothing follows."""
        return self not in (JobState.SUBMITTED, JobState.RUNNING)


class RoundState(StrEnum):
    """Where a round stands."""

    OPEN = "open"
    CLOSED = "closed"
    FINAL = "final"
    ABORTED = "aborted"


class Privacy(StrEnum):
    """Who can read single updates."""

    CLEAR = "clear"
    """Every aggregator."""
    MASKED = "masked"
    """Nobody (secure aggregation)."""


class Verdict(StrEnum):
    """An owner's decision on a job."""

    APPROVED = "approved"
    REFUSED = "refused"


SERVER_OPTIMIZERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "sgd": ("learning_rate",),
        "sgdm": ("learning_rate", "momentum"),
        "adagrad": ("learning_rate", "beta1", "tau"),
        "adam": ("learning_rate", "beta1", "beta2", "tau", "bias_correction"),
        "yogi": ("learning_rate", "beta1", "beta2", "tau", "bias_correction"),
    }
)
"""The parameters of each server optimiser that aggregators know."""

_POSITIVE = (re.compile(r"[0.]*[1-9][0-9.]*"), "above 0")
_FRACTION = (re.compile(r"0(\.(?!999999)[0-9]+)?"), "below 0.999999")
_FLAG = (re.compile("[01]"), "0 or 1")
_RANGES: Mapping[str, tuple[re.Pattern[str], str]] = MappingProxyType(
    {
        "learning_rate": _POSITIVE,
        "momentum": _FRACTION,
        "beta1": _FRACTION,
        "beta2": _FRACTION,
        "tau": _POSITIVE,
        "bias_correction": _FLAG,
    }
)


class ServerOptimizer(Record):
    """The server step of every aggregator, by name and parameters as decimals (``{"learning_rate": "1.0"}``).

    An aggregator can build each that this model admits; what is left out has the aggregator's default.
    """

    name: Id = "sgd"
    parameters: Annotated[dict[Id, Decimal], Field(max_length=16)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known(self) -> Self:
        known = SERVER_OPTIMIZERS.get(self.name)
        if known is None:
            raise ValueError(f"the server optimisers are {', '.join(SERVER_OPTIMIZERS)}")
        for name, text in self.parameters.items():
            if name not in known:
                raise ValueError(f"{self.name} has the parameters {', '.join(known)}")
            pattern, what = _RANGES[name]
            if not pattern.fullmatch(text):
                raise ValueError(f"{name} must be {what}")
        return self


class DatasetUse(Record):
    """A data set that a job asks for, and the grant under which it may be used."""

    dataset: DatasetId
    version: Positive
    grant: Id | None = None
    """The access request that the owner granted; None for the submitter's own data."""


class Plan(Record):
    """What is run: the part of a job that its owners review by digest."""

    bundle: Blob
    """The plan's code and parameters; ``digest`` = tagged hash "plan" over the bundle."""
    model: Blob
    """The initial global model; ``digest`` is its manifest's."""
    algorithm: Id = "fedavg"
    optimizer: ServerOptimizer = ServerOptimizer()
    clip: Clip
    """Bound on each coordinate of an update."""
    privacy: Privacy = Privacy.CLEAR
    rounds: Annotated[int, Field(ge=1, le=10_000)]
    approval_ms: Duration
    """From submission to the owners' deadline."""
    update_ms: Duration
    """From a round's opening to the updates' deadline D."""
    attest_ms: Duration
    """From a round's closing to the attestations' deadline."""


class SubmitJob(Record):
    """Request of ``training:submit``."""

    id: Id
    title: Line = ""
    plan: Plan
    datasets: Annotated[tuple[DatasetUse, ...], Field(min_length=1, max_length=256)]
    """At most one of each organisation."""
    budget: AmountOrZero = "0"
    payer: Account | None = None
    """Whose rows pay; the caller's organisation when None. What is left over goes back to it."""
    inputs: Inputs = ()

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        owners = [use.dataset.split("/")[0] for use in self.datasets]
        if len(set(owners)) != len(owners):
            raise ValueError("datasets names two of one organisation")
        return self


class DecideJob(Record):
    """Request of ``training:approve`` and ``training:refuse``, by an owner's steward."""

    job: Id
    digest: Digest
    """The job's digest as reviewed."""
    privacy: Privacy
    """The policy as reviewed: ``clear`` lets every aggregator read the updates."""
    reason: Line = ""


class AddOwner(Record):
    """Request of ``training:add``, by the job's submitter: one more data set, from the next round opened."""

    job: Id
    dataset: DatasetUse


class JobRef(Record):
    """Request of ``training:start``, ``cancel``, ``abort`` (before the start) and ``show``."""

    job: Id


class RoundRef(Record):
    """Request of ``training:close``, ``abort_round`` and ``round``."""

    job: Id
    round: RoundNumber


class CommitUpdate(Record):
    """Request of ``training:update``, by a gateway of the cohort."""

    job: Id
    round: RoundNumber
    attempt: Attempt
    blob: Blob
    """The encoded update; ``digest`` is its manifest's."""
    samples: Samples
    """n_k, at most the registered count."""
    metrics: Metrics = Field(default_factory=dict)
    """Of training, in units of 1e-6."""


class ReportMissing(Record):
    """Request of ``training:report_missing``, by a gateway of the cohort."""

    job: Id
    round: RoundNumber
    attempt: Attempt
    members: MspIds
    """Whose committed updates nobody gave to the caller."""


class Outcome(Record):
    """What an aggregator got. Members agree when the whole of it is equal."""

    digest: Digest
    """Tagged hash over ring sum, model and optimiser state."""
    model: Blob
    """The new global model."""
    state: Blob | None = None
    """The server optimiser's state, which a late owner needs; None for a stateless step."""
    summed: MspIds
    """Whose updates are in the sum: those counted, less what is no valid update. They are paid."""


class Attest(Record):
    """Request of ``training:attest``, by a gateway of the cohort."""

    job: Id
    round: RoundNumber
    attempt: Attempt
    outcome: Outcome
    accept: bool
    """Whether the new model passed on the member's own hold-out."""
    samples: Natural = 0
    """Rows of that hold-out."""
    metrics: Metrics = Field(default_factory=dict)
    """Of the new global model on that hold-out, in units of 1e-6."""


class FinaliseRound(Record):
    """Request of ``training:finalise``: names the attestations that carry the result."""

    job: Id
    round: RoundNumber
    outcome: Digest
    """The outcome's digest."""
    attestations: MspIds
    """Every member whose attestation on the ledger has this outcome, in the order of MSP ids."""


class Owner(Record):
    """An owner in a job: the data set's facts when it was added."""

    msp: MspId
    dataset: DatasetId
    version: Positive
    digest: Digest
    samples: Samples
    grant: Id | None
    late: bool = False
    """Added after submission; does not hold up the start."""


class JobTerms(Record):
    """What a job's digest covers; never changed. Late owners are added beside it."""

    v: Literal[1] = 1
    id: Id
    submitter: MspId
    title: Line
    plan: Plan
    owners: tuple[Owner, ...]
    budget: AmountOrZero
    payer: Account

    @property
    def digest(self) -> str:
        """What an owner's decision names."""
        return tagged_hash("job", self.canonical())


class Job(Record):
    """The state record of a job."""

    v: Literal[1] = 1
    id: Id
    digest: Digest
    terms: JobTerms
    owners: tuple[Owner, ...]
    """Those of the terms and those added since, in the order of MSP ids."""
    state: JobState
    round: Annotated[int, Field(ge=0, le=100_000)] = 0
    """The last round opened; 0 before the start."""
    rounds_final: Natural = 0
    submitted_ms: Timestamp
    approve_until_ms: Timestamp
    window_ms: Window
    """w when the job was submitted."""
    escrow: TokenRef | None
    """The row that holds what is left of the budget."""
    escrowed: AmountOrZero
    paid: AmountOrZero = "0"
    model: Blob
    """The global model: the initial one, then that of the last final round."""
    optimizer_state: Blob | None = None
    stopping: bool = False
    """The submitter cancelled within a round: the job ends when that round does."""
    reason: Line = ""
    """Why it ended, when not by finishing."""


class Decision(Record):
    """An owner's approval or refusal. Write-once."""

    v: Literal[1] = 1
    job: Id
    msp: MspId
    verdict: Verdict
    digest: Digest
    dataset: DatasetId
    version: Positive
    privacy: Privacy
    reason: Line


class CohortMember(Record):
    """A member of a round."""

    msp: MspId
    dataset: DatasetId
    version: Positive
    grant: Id | None
    samples: Samples
    """Registered; an update may claim at most these."""


class AttestationSummary(Record):
    """Who said what, kept in the round's record when it ends."""

    msp: MspId
    outcome: Digest
    accept: bool


class Payment(Record):
    """What a member got for a round."""

    msp: MspId
    parts: Annotated[int, Field(ge=1, le=2)]
    amount: AmountOrZero


class Round(Record):
    """The state record of a round. Cohort, quorum and deadlines are fixed at its opening."""

    v: Literal[1] = 1
    job: Id
    number: RoundNumber
    attempt: Attempt = 1
    """Counts how often it was fixed whose updates are aggregated. Attestations are of an attempt."""
    state: RoundState
    cohort: Annotated[tuple[CohortMember, ...], Field(min_length=1, max_length=256)]
    total_samples: Positive
    """N, the sum over the cohort."""
    quorum: Positive
    """More than half of the cohort."""
    model: Blob
    """The global model that the cohort trains from."""
    optimizer_state: Blob | None
    window_ms: Window
    opened_ms: Timestamp
    update_until_ms: Timestamp
    """D: an update needs t < D; closing without the whole cohort needs t >= D + 2w."""
    attest_until_ms: Timestamp = 0
    """As D, for attestations; set when the round is closed."""
    counted: tuple[MspId, ...] = ()
    """Whose updates are aggregated; fixed when the round is closed, and anew when a quorum misses some of them."""
    withheld: Annotated[tuple[MspId, ...], Field(max_length=256)] = ()
    """Whose committed updates a quorum could not get, so that they are not counted any more."""
    outcome: Outcome | None = None
    attestations: tuple[AttestationSummary, ...] = ()
    payments: tuple[Payment, ...] = ()
    reason: Line = ""
    """Why it was aborted."""

    def member(self, msp: str) -> CohortMember | None:
        """The cohort's member with this MSP id, if there is one."""
        return next((member for member in self.cohort if member.msp == msp), None)


class Update(Record):
    """A member's update in a round. Write-once."""

    v: Literal[1] = 1
    job: Id
    round: RoundNumber
    attempt: Attempt
    msp: MspId
    blob: Blob
    samples: Samples
    metrics: Metrics


class Missing(Record):
    """A member's word that it can't get some of the updates counted. Write-once for each attempt."""

    v: Literal[1] = 1
    job: Id
    round: RoundNumber
    attempt: Attempt
    msp: MspId
    members: MspIds


class Attestation(Record):
    """A member's attestation of a round's outcome. Write-once for each attempt."""

    v: Literal[1] = 1
    job: Id
    round: RoundNumber
    attempt: Attempt
    msp: MspId
    outcome: Outcome
    accept: bool
    samples: Natural
    metrics: Metrics


class RoundView(Record):
    """Answer of ``training:round``: the record and the rows beside it."""

    round: Round
    updates: tuple[Update, ...]
    attestations: tuple[Attestation, ...]
    """Of the present attempt."""
    missing: tuple[Missing, ...]
    """Of the present attempt."""


class JobView(Record):
    """Answer of ``training:show``."""

    job: Job
    decisions: tuple[Decision, ...]
