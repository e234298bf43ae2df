"""The service Audit: blocks and blobs to take away."""

from collections.abc import AsyncIterator
from typing import Any

from ...chaincode import records
from ...chaincode.records import Blob, refusals
from ..errors import ApiError
from ..parts import Parts
from ..v1 import audit_pb2, audit_pb2_grpc
from .blobs import holders

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
        last = parts.model.last_block_of(job.id)
        network = parts.fabric.network(parts.configuration.channel)
        async with network.block_events(start_block=0, stop_block=last) as blocks:
            async for block in blocks:
                content = block.SerializeToString()
                if len(content) > parts.limits.message_bytes - 1024:
                    raise ApiError(
                        f"block {block.header.number} has {len(content)} bytes, more than one message takes",
                        code="TOO_LONG",
                    )
                yield audit_pb2.ExportResponse(block=content)
        for blob in _blobs(parts, job):
            await parts.exchange.ensure(blob, holders(job, parts.me))
            async with await parts.store.open(blob.address, parts.secrets.storage_key) as reader:
                yield audit_pb2.ExportResponse(blob=audit_pb2.ExportedBlob(address=blob.address, size=reader.size))
                async for segment in reader.segments():
                    yield audit_pb2.ExportResponse(piece=segment)


def _blobs(parts: Parts, job: records.Job) -> list[Blob]:
    """Everything off the ledger that the job's records name, each once, but data sets."""
    found: list[Blob | None] = [job.terms.plan.bundle, job.terms.plan.model]
    for current in parts.model.rounds(job.id):
        found += [current.model, current.optimizer_state]
        found += [row.blob for row in parts.model.updates(job.id, current.number) if row.msp in current.counted]
        if current.outcome is not None:
            found += [current.outcome.model, current.outcome.state]
    return list({blob.address: blob for blob in found if blob is not None}.values())


def add(server: Any, parts: Parts) -> None:
    """Add the service to a server."""
    audit_pb2_grpc.add_AuditServicer_to_server(Audit(parts), server)  # type: ignore[no-untyped-call]
