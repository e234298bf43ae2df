"""What a transaction made happen. The channel event ``fedfabric`` carries a canonical JSON list of these."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from .canonical import Record, canonical_json
from .fields import DatasetId, Digest, Id, Line, MspId, MspIds, Positive, RoundNumber, TransactionId
from .patterns import matching

EVENT_NAME = "fedfabric"


class ConsortiumApproved(Record):
    """A member approved a change of the consortium's record."""

    type: Literal["consortium.approved"] = "consortium.approved"
    msp: MspId
    sequence: Positive
    digest: Digest


class ConsortiumChanged(Record):
    """The consortium's record is another one now."""

    type: Literal["consortium.changed"] = "consortium.changed"
    sequence: Positive
    members: tuple[MspId, ...]


class DatasetChanged(Record):
    """A data set was registered, updated or retired."""

    type: Literal["dataset.registered", "dataset.updated", "dataset.retired"]
    dataset: DatasetId
    version: Positive


AccessEvent = Literal["access.requested", "access.granted", "access.revoked", "access.withdrawn"]
JobEvent = Literal["job.submitted", "job.started", "job.finished", "job.refused", "job.cancelled", "job.aborted"]


class AccessChanged(Record):
    """An access request was made, granted, revoked or withdrawn."""

    type: AccessEvent
    request: Id
    dataset: DatasetId
    owner: MspId
    requester: MspId


class AccessUsed(Record):
    """A use of a grant was recorded."""

    type: Literal["access.used"] = "access.used"
    request: Id
    dataset: DatasetId
    owner: MspId
    operation: Id


class MintApproved(Record):
    """A member approved a mint."""

    type: Literal["tokens.approved"] = "tokens.approved"
    mint: Id
    msp: MspId


class TokensMoved(Record):
    """Rows were spent and written."""

    type: Literal["tokens.minted", "tokens.transferred"]
    tx: TransactionId
    total: Annotated[str, matching("[1-9][0-9]{0,39}", 40, "a positive integer as a string of digits")]


class JobChanged(Record):
    """A job came into a state."""

    type: JobEvent
    job: Id
    reason: Line = ""


class JobStopping(Record):
    """The submitter cancelled within a round; the job ends with it."""

    type: Literal["job.stopping"] = "job.stopping"
    job: Id


class JobDecided(Record):
    """An owner approved or refused."""

    type: Literal["job.approved", "job.declined"]
    job: Id
    msp: MspId


class OwnerAdded(Record):
    """The submitter asks one more owner."""

    type: Literal["job.owner_added"] = "job.owner_added"
    job: Id
    msp: MspId
    dataset: DatasetId


class RoundOpened(Record):
    """A round was opened for this cohort."""

    type: Literal["round.opened"] = "round.opened"
    job: Id
    round: RoundNumber
    cohort: tuple[MspId, ...]


class RoundChanged(Record):
    """A round came into a state."""

    type: Literal["round.closed", "round.recounted", "round.final", "round.aborted"]
    job: Id
    round: RoundNumber
    reason: Line = ""


class UpdateCommitted(Record):
    """A member's update is on the ledger."""

    type: Literal["round.updated"] = "round.updated"
    job: Id
    round: RoundNumber
    msp: MspId


class UpdatesMissed(Record):
    """A member said that it can't get these members' updates."""

    type: Literal["round.missed"] = "round.missed"
    job: Id
    round: RoundNumber
    msp: MspId
    members: MspIds


class RoundAttested(Record):
    """A member attested an outcome."""

    type: Literal["round.attested"] = "round.attested"
    job: Id
    round: RoundNumber
    msp: MspId
    outcome: Digest
    accept: bool


Event = Annotated[
    ConsortiumApproved
    | ConsortiumChanged
    | DatasetChanged
    | AccessChanged
    | AccessUsed
    | MintApproved
    | TokensMoved
    | JobChanged
    | JobStopping
    | JobDecided
    | OwnerAdded
    | RoundOpened
    | RoundChanged
    | UpdateCommitted
    | UpdatesMissed
    | RoundAttested,
    Field(discriminator="type"),
]

_EVENTS: TypeAdapter[tuple[Event, ...]] = TypeAdapter(tuple[Event, ...])


def encode_events(events: tuple[Event, ...]) -> bytes:
    """The channel event's payload."""
    return canonical_json([event.model_dump(mode="json") for event in events])


def decode_events(payload: bytes) -> tuple[Event, ...]:
    """The domain events in a channel event's payload.

    Raises:
        pydantic.ValidationError: the payload is none of ours, or of a later version.
    """
    return _EVENTS.validate_json(payload, strict=True)
