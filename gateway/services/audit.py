"""The service Audit: blocks and blobs to take away."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from ...chaincode import records
from ...chaincode.records import Blob, RoundState, refusals
from ..errors import DeniedError
from ..parts import Parts
from ..v1 import audit_pb2, audit_pb2_grpc
from ..workshop import largest_update
from .blobs import fetched_again_if_broken, has_part, holders

NAMES = ("fedfabric.gateway.v1.Audit",)

_PIECE = 1 << 20


class Audit(audit_pb2_grpc.AuditServicer):
    """Export."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def Export(  # noqa: N802
        self, request: audit_pb2.ExportRequest, _: Any
    ) -> AsyncIterator[audit_pb2.ExportResponse]:
        """Stream the channel's blocks up to the job's last one, then the job's plan, models, states and updates."""
        parts = self._parts
        job = parts.model.job(request.job)
        if job is None:
            raise refusals.UnknownJob("job", f"no job {records.printable(request.job)} is on the ledger")
        # The others' gateways would give this one nothing: said at once, not when all of them were asked in vain.
        if not has_part(parts, job, parts.me):
            raise DeniedError(
                f"{parts.me} has no part in {job.id}: export it at a member of a round", code="NOT_A_PARTICIPANT"
            )
        last = parts.model.last_block_of(job.id)
        network = parts.fabric.network(parts.configuration.channel)
        async with network.block_events(start_block=0, stop_block=last) as blocks:
            async for block in blocks:
                for message in _block_messages(block.SerializeToString(), parts.limits.message_bytes):
                    yield message
        async for blob in _blobs(parts, job):
            await parts.exchange.ensure(blob, holders(job, parts.me))
            async with (
                fetched_again_if_broken(parts, blob),
                await parts.store.open(blob.address, parts.secrets.storage_key) as reader,
            ):
                yield audit_pb2.ExportResponse(blob=audit_pb2.ExportedBlob(address=blob.address, size=reader.size))
                async for segment in reader.segments():
                    yield audit_pb2.ExportResponse(piece=segment)


def _block_messages(content: bytes, message_bytes: int) -> Iterator[audit_pb2.ExportResponse]:
    """A block in one message where it fits; in pieces where it doesn't, since Fabric's blocks may be longer."""
    if len(content) <= message_bytes - 1024:
        yield audit_pb2.ExportResponse(block=content)
        return
    yield audit_pb2.ExportResponse(long_block=audit_pb2.ExportedBlock(size=len(content)))
    for start in range(0, len(content), _PIECE):
        yield audit_pb2.ExportResponse(piece=content[start : start + _PIECE])


async def _blobs(parts: Parts, job: records.Job) -> AsyncIterator[Blob]:
    """Everything off the ledger that an audit of a job reads, each once; a round's model before its updates.

    Data sets are not among it, nor what nobody may have: updates of rounds that are not final, and such as are larger
    than any update, which an audit leaves out as the members did.
    """
    seen: set[str] = set()

    def new(*blobs: Blob | None) -> Iterator[Blob]:
        for blob in blobs:
            if blob is not None and blob.address not in seen:
                seen.add(blob.address)
                yield blob

    for blob in new(job.terms.plan.bundle, job.terms.plan.model):
        yield blob
    for current in parts.model.rounds(job.id):
        if current.state is not RoundState.FINAL or current.outcome is None:
            continue
        for blob in new(current.model, current.optimizer_state):
            yield blob
        maximum = await largest_update(parts.store, parts.secrets.storage_key, current.model)
        rows = [row for row in parts.model.updates(job.id, current.number) if row.msp in current.counted]
        for blob in new(*(row.blob for row in rows if row.blob.size <= maximum)):
            yield blob
        for blob in new(current.outcome.model, current.outcome.state):
            yield blob


def add(server: Any, parts: Parts) -> None:
    """Add the service to a server."""
    audit_pb2_grpc.add_AuditServicer_to_server(Audit(parts), server)  # type: ignore[no-untyped-call]
