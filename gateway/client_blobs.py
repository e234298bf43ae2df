"""The client's calls about plans, models and updates: sent, fetched, checked against the ledger's digests."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..aggregation import AggregationError, TensorFile, manifest_of
from ..chaincode.records import Blob
from .client_calls import Call
from .client_part import Part
from .client_reports import JobReport
from .client_session import Session
from .client_transfers import Progress, Source, download, read_all, upload
from .errors import ApiError, CorruptError, InvalidError
from .v1 import blobs_pb2, blobs_pb2_grpc
from .wire import to_record

__all__ = ["BlobCalls", "ModelCalls"]


class BlobCalls(Part):
    """Plans, models and updates in the gateway's blob store."""

    def upload_plan(self, plan: Path | str | bytes, *, progress: Progress | None = None) -> Call[Blob]:
        """Store a plan's bundle."""
        return self._upload(plan, "plan", progress)

    def upload_model(self, model: Path | str | bytes, *, progress: Progress | None = None) -> Call[Blob]:
        """Store a model (safetensors)."""
        return self._upload(model, "model", progress)

    def _upload(self, source: Path | str | bytes, kind: str, progress: Progress | None) -> Call[Blob]:
        async def work(session: Session) -> Blob:
            stub: Any = blobs_pb2_grpc.BlobsStub(session.channel)  # type: ignore[no-untyped-call]
            if isinstance(source, bytes):
                return await upload(stub.Upload, lambda: iter([source]), len(source), kind=kind, progress=progress)
            path = Path(source)
            size = (await asyncio.to_thread(path.stat)).st_size
            return await upload(stub.Upload, lambda: _pieces(path), size, kind=kind, progress=progress)

        return self.call(work)

    def fetch(self, blob: Blob, target: Path | str, *, progress: Progress | None = None) -> Call[Path]:
        """Fetch a blob of a job of the own organisation into a file; each segment is checked."""
        path = Path(target)

        async def work(session: Session) -> Path:
            stub: Any = blobs_pb2_grpc.BlobsStub(session.channel)  # type: ignore[no-untyped-call]
            await download(
                Source(stub.Fetch, blobs_pb2.FetchRequest(address=blob.address), blob, session.limits.blob_bytes),
                path,
                progress,
            )
            return path

        return self.call(work)

    def read(self, blob: Blob) -> Call[bytes]:
        """A small blob's bytes, such as a plan's.

        Raises:
            InvalidError: it is larger than a plan may be.
        """

        async def work(session: Session) -> bytes:
            if blob.size > session.limits.plan_bytes:
                raise InvalidError(f"the blob has {blob.size} bytes; fetch it into a file", code="TOO_LONG")
            stub: Any = blobs_pb2_grpc.BlobsStub(session.channel)  # type: ignore[no-untyped-call]
            return await read_all(
                Source(stub.Fetch, blobs_pb2.FetchRequest(address=blob.address), blob, session.limits.plan_bytes)
            )

        return self.call(work)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece


class ModelCalls(Part):
    """Models of jobs."""

    def initialise(self, plan: Blob, *, seed: int = 0) -> Call[Blob]:
        """Have the gateway make a plan's own model, in a confined trainer: a job's initial one."""

        async def work(session: Session) -> Blob:
            stub: Any = blobs_pb2_grpc.ModelsStub(session.channel)  # type: ignore[no-untyped-call]
            request = blobs_pb2.InitialiseModelRequest(plan=plan.address, seed=seed)
            return to_record(await session.call(stub.Initialise, request), Blob)

        return self.call(work)

    def fetch(
        self, job: str, target: Path | str, *, round_number: int = 0, progress: Progress | None = None
    ) -> Call[Blob]:
        """Fetch a job's global model into a file, and check it against the digest on the ledger.

        Args:
            job: its id.
            target: the file.
            round_number: of a final round; 0 is the latest model.
            progress: told the bytes received and all of them.

        Raises:
            CorruptError: the file's tensors do not have the digest that the ledger names.
        """
        path = Path(target)

        async def work(session: Session) -> Blob:
            report = await self.client.jobs.show(job)
            # By number from here on: another round may become final between the two questions.
            number = round_number or report.job.rounds_final
            blob = _model_of(report, number)
            stub: Any = blobs_pb2_grpc.ModelsStub(session.channel)  # type: ignore[no-untyped-call]
            request = blobs_pb2.FetchModelRequest(job=job, round=number)
            await download(Source(stub.Fetch, request, blob, session.limits.blob_bytes), path, progress)
            await asyncio.to_thread(_check_model, path, blob)
            return blob

        return self.call(work)


def _model_of(report: JobReport, number: int) -> Blob:
    if not number:
        return report.job.model
    for one in report.rounds:
        if one.round.number == number and one.round.outcome is not None:
            return one.round.outcome.model
    raise ApiError(f"round {number} of {report.job.id} is not final", code="MODEL_UNKNOWN", field="round")


def _check_model(path: Path, blob: Blob) -> None:
    try:
        with TensorFile(path) as tensors:
            digest = manifest_of(tensors).digest
    except AggregationError as error:
        path.unlink()
        raise CorruptError(f"the model is not what the ledger names: {error}") from error
    if digest != blob.digest:
        path.unlink()
        raise CorruptError("the model's tensors do not have the digest that the ledger names")
