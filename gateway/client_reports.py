"""What the client answers with where a record of the ledger alone would not do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..chaincode.records import (
    AccessRequest,
    Attestation,
    Decision,
    Grant,
    Job,
    Revocation,
    Round,
    Update,
    Use,
)
from .v1 import access_pb2, gateway_pb2, jobs_pb2
from .wire import to_record

__all__ = ["AccessReport", "Description", "Exported", "JobReport", "JobReview", "RoundReport", "RoundTiming"]


@dataclass(frozen=True)
class RoundTiming:
    """Seconds that the asked gateway itself spent in a round."""

    training: float
    ledger: float
    transfer: float
    aggregation: float
    evaluation: float


@dataclass(frozen=True)
class RoundReport:
    """A round: the ledger's rows, and what they add up to."""

    round: Round
    updates: tuple[Update, ...]
    attestations: tuple[Attestation, ...]
    metrics: Mapping[str, int]
    """The accepted attestations' metrics, weighted by hold-out samples, in units of 1e-6."""
    timing: RoundTiming
    opened_ms: int
    """The ledger's time (ms since 1970) at which the round was opened; likewise closed and ended, 0 before."""
    closed_ms: int
    ended_ms: int
    own_failure: str = ""
    """Why the gateway's organisation has given its own part in the round up, as CODE: TEXT; "" while it has not."""


@dataclass(frozen=True)
class JobReport:
    """A job with its decisions and rounds."""

    job: Job
    decisions: tuple[Decision, ...]
    rounds: tuple[RoundReport, ...]
    block_number: int
    """The last block that it shows."""


@dataclass(frozen=True)
class JobReview:
    """What an owner decides about."""

    report: JobReport
    digest: str
    """What an approval has to name; computed here from the job's terms."""
    bundle: bytes = field(repr=False)
    """The plan's bundle, whose digest the terms name."""


@dataclass(frozen=True)
class AccessReport:
    """A request for access and the owner's rows."""

    request: AccessRequest
    grant: Grant | None
    revocation: Revocation | None
    uses: tuple[Use, ...]


@dataclass(frozen=True)
class Description:
    """A gateway, and whom it takes the caller for."""

    version: str
    msp_id: str
    channel: str
    chaincode: str
    block_number: int
    genesis_hash: str
    """SHA-256 of the genesis block's header, hexadecimal."""
    caller_msp_id: str
    caller_role: str
    caller_account: str
    trains: bool
    peer: str = ""
    """host:port of the organisation's own peer."""
    peer_lost_ms: int = 0
    """Since when the peer has been away (ms since 1970); 0 while it is connected."""
    block_time_ms: int = 0
    """The ledger's time (ms since 1970) of the last transaction read; 0 before any."""
    certificates_end_ms: int = 0
    """When the first of the gateway's own certificates runs out (ms since 1970)."""
    caller_certificate_ends_ms: int = 0
    """When the caller's certificate runs out (ms since 1970)."""


@dataclass(frozen=True)
class Exported:
    """What an export wrote."""

    folder: Path
    blocks: int
    blobs: int
    genesis_hash: str
    """Of the first block as exported; compare it with one that you did not get from there."""


def read_job_report(message: jobs_pb2.JobReport) -> JobReport:
    """A message as a report."""
    return JobReport(
        job=to_record(message.job, Job),
        decisions=tuple(to_record(row, Decision) for row in message.decisions),
        rounds=tuple(_round_report(one) for one in message.rounds),
        block_number=message.block_number,
    )


def _round_report(message: jobs_pb2.RoundReport) -> RoundReport:
    timing = message.timing
    return RoundReport(
        round=to_record(message.round, Round),
        updates=tuple(to_record(row, Update) for row in message.updates),
        attestations=tuple(to_record(row, Attestation) for row in message.attestations),
        metrics=dict(message.metrics),
        timing=RoundTiming(
            timing.training_us / 1e6,
            timing.ledger_us / 1e6,
            timing.transfer_us / 1e6,
            timing.aggregation_us / 1e6,
            timing.evaluation_us / 1e6,
        ),
        opened_ms=message.opened_ms,
        closed_ms=message.closed_ms,
        ended_ms=message.ended_ms,
        own_failure=message.own_failure,
    )


def read_access_report(message: access_pb2.AccessReport) -> AccessReport:
    """A message as a report."""
    return AccessReport(
        request=to_record(message.request, AccessRequest),
        grant=to_record(message.grant, Grant) if message.HasField("grant") else None,
        revocation=to_record(message.revocation, Revocation) if message.HasField("revocation") else None,
        uses=tuple(to_record(use, Use) for use in message.uses),
    )


def read_description(message: gateway_pb2.Description) -> Description:
    """A message as a description."""
    return Description(**{name: getattr(message, name) for name in Description.__dataclass_fields__})
