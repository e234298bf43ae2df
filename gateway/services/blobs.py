"""The services Blobs and Models: plans, models and updates, in and out."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ...aggregation import AggregationError, TensorFile, Tensors, manifest_of, tagged_hash
from ...aggregation.tensors import segments
from ...chaincode import records
from ...chaincode.records import Blob, Job, Role, RoundState, refusals
from ..admission import caller
from ..blobs import BlobBrokenError, BlobReader, StoredBlob, check_address
from ..errors import ApiError, DeniedError, InvalidError, NotFoundError
from ..parts import Parts
from ..v1 import blobs_pb2, blobs_pb2_grpc, datasets_pb2, records_pb2
from ..wire import to_message
from ..zygote import TrainerError
from .uploads import Received, receive

NAMES = ("fedfabric.gateway.v1.Blobs", "fedfabric.gateway.v1.Models")

_LARGEST_WEIGHT = 1e18


async def stream(reader: BlobReader, address: str, first: int) -> AsyncIterator[blobs_pb2.FetchResponse]:
    """A blob's heading, then its segments from one on."""
    if not 0 <= first <= len(reader.leaves):
        raise InvalidError(f"the blob has {len(reader.leaves)} segments", field="first_segment")
    heading = blobs_pb2.BlobHeading(address=address, size=reader.size, leaves=b"".join(reader.leaves))
    yield blobs_pb2.FetchResponse(heading=heading)
    async for segment in reader.segments(first):
        yield blobs_pb2.FetchResponse(segment=segment)


class Blobs(blobs_pb2_grpc.BlobsServicer):
    """Upload and fetch."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def Upload(  # noqa: N802
        self, requests: AsyncIterator[datasets_pb2.UploadRequest], _: Any
    ) -> AsyncIterator[datasets_pb2.UploadResponse]:
        """Store a plan's bundle or a model, and say what it is."""
        kinds = frozenset({"plan", "model"})
        maximum = self._parts.limits.blob_bytes
        async for answer in receive(self._parts, requests, kinds=kinds, own_key=False, maximum=maximum):
            yield await self._stored(answer) if isinstance(answer, Received) else answer

    async def _stored(self, received: Received) -> datasets_pb2.UploadResponse:
        try:
            digest = await digest_of(self._parts, received.blob, received.kind)
        except ApiError:
            # What is neither plan nor model is not kept, unless a job has it already.
            if not self._parts.model.jobs_with_blob(received.blob.address):
                await self._parts.store.delete(received.blob.address)
            raise
        self._parts.journal.note_made(received.blob.address, "")
        blob = Blob(address=received.blob.address, digest=digest, size=received.blob.size)
        return datasets_pb2.UploadResponse(stored=to_message(blob, records_pb2.Blob))

    async def Fetch(  # noqa: N802
        self, request: blobs_pb2.FetchRequest, _: Any
    ) -> AsyncIterator[blobs_pb2.FetchResponse]:
        """Read a blob of a job in which the caller's organisation takes part."""
        try:
            address = check_address(request.address)
        except ValueError as error:
            raise InvalidError(str(error), field="address") from error
        self._require_part(address)
        async with await self._parts.store.open(address, self._parts.secrets.storage_key) as reader:
            async for answer in stream(reader, address, request.first_segment):
                yield answer

    def _require_part(self, address: str) -> None:
        """Own people read what their organisation's jobs have, others' gateways what they have a part in."""
        who = caller()
        if may_fetch(self._parts, who.msp_id, address):
            return
        named = self._parts.model.jobs_with_blob(address)
        if not named and who.msp_id == self._parts.me and who.role is Role.SCIENTIST:
            return  # what a scientist has uploaded and not submitted yet
        # The same answer whether the blob is here or not: who has no part learns nothing.
        raise DeniedError(f"{who.msp_id} takes part in no job with this blob", code="NOT_A_PARTICIPANT")


class Models(blobs_pb2_grpc.ModelsServicer):
    """Fetch a job's model, make an initial one."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def Fetch(  # noqa: N802
        self, request: blobs_pb2.FetchModelRequest, _: Any
    ) -> AsyncIterator[blobs_pb2.FetchResponse]:
        """Read a job's global model, after fetching it here."""
        job = self._parts.model.job(request.job)
        if job is None:
            raise refusals.UnknownJob("job", f"no job {records.printable(request.job)} is on the ledger")
        if not takes_part(job, self._parts.me):
            raise DeniedError(f"{self._parts.me} takes no part in {job.id}", code="NOT_A_PARTICIPANT")
        blob = self._model(job, request.round)
        await self._parts.exchange.ensure(blob, holders(job, self._parts.me))
        async with (
            fetched_again_if_broken(self._parts, blob),
            await self._parts.store.open(blob.address, self._parts.secrets.storage_key) as reader,
        ):
            async for answer in stream(reader, blob.address, request.first_segment):
                yield answer

    def _model(self, job: Job, number: int) -> Blob:
        if not number:
            return job.model
        found = self._parts.model.round(job.id, number)
        if found is None or found.state is not RoundState.FINAL or found.outcome is None:
            raise NotFoundError(f"round {number} of {job.id} is not final", code="MODEL_UNKNOWN", field="round")
        return found.outcome.model

    async def Initialise(  # noqa: N802
        self, request: blobs_pb2.InitialiseModelRequest, _: Any
    ) -> records_pb2.Blob:
        """Have a plan's own model made by a confined trainer."""
        parts = self._parts
        if parts.zygote is None or parts.scratch is None:
            raise ApiError("this gateway runs no trainers; upload a model", code="TRAINING_OFF")
        try:
            address = check_address(request.plan)
        except ValueError as error:
            raise InvalidError(str(error), field="plan") from error
        async with parts.scratch.folder() as folder:
            async with await parts.store.open(address, parts.secrets.storage_key) as reader:
                plan = await reader.read(parts.limits.plan_bytes)
            await asyncio.to_thread((folder / "plan.zip").write_bytes, plan)
            try:
                result = await parts.zygote.run(
                    "initialise",
                    seconds=parts.deadlines.initialise,
                    plan=folder / "plan.zip",
                    out=folder / "out",
                    seed=request.seed,
                    foreign=True,
                )
            except TrainerError as error:
                raise ApiError(f"the plan's model can't be made: {error}", code="PLAN_FAILED") from error
            path = folder / "out" / Path(str(result.fields.get("model"))).name
            if path.is_symlink() or not path.is_file():
                raise ApiError("the plan's model can't be made: the trainer left none", code="PLAN_FAILED")
            stored = await parts.store.put_file(path, parts.secrets.storage_key, maximum=parts.limits.blob_bytes)
        digest = await digest_of(parts, stored, "model")
        parts.journal.note_made(stored.address, "")
        blob = Blob(address=stored.address, digest=digest, size=stored.size)
        return to_message(blob, records_pb2.Blob)


async def digest_of(parts: Parts, stored: StoredBlob, kind: str) -> str:
    """What a blob's bytes mean: a plan's tagged hash, or the digest of a model's manifest.

    Raises:
        InvalidError: it is no such thing.
    """
    async with await parts.store.open(stored.address, parts.secrets.storage_key) as reader:
        if kind == "plan":
            if stored.size > parts.limits.plan_bytes:
                raise InvalidError(f"a plan's bundle has at most {parts.limits.plan_bytes} bytes", code="PLAN_INVALID")
            content = await reader.read(parts.limits.plan_bytes)
            if not content.startswith(b"PK\x03\x04"):
                raise InvalidError("this is not a plan's bundle; make one with `plan build`", code="PLAN_INVALID")
            return tagged_hash("plan", content)

        def digest() -> str:
            tensors = TensorFile(io.BufferedReader(reader.file()))
            _require_finite(tensors)
            return manifest_of(tensors).digest

        try:
            return await asyncio.to_thread(digest)
        except AggregationError as error:
            raise InvalidError(f"this is not a model in safetensors: {error}", code="MODEL_INVALID") from error


def _require_finite(tensors: Tensors) -> None:
    """A model with NaN, an infinity or a huge number in it can't be trained from: every round would fail."""
    for name, spec in tensors.specs.items():
        if spec.dtype.startswith("F"):
            for start, stop in segments(spec.size):
                # The negation, so that NaN is refused too. A square beyond float32 makes the first gradient infinite.
                if not (np.abs(tensors.read(name, start, stop)) <= _LARGEST_WEIGHT).all():
                    raise InvalidError(
                        f"the model's tensor {name} holds NaN, an infinity or a number beyond {_LARGEST_WEIGHT:g}",
                        code="MODEL_INVALID",
                    )


@asynccontextmanager
async def fetched_again_if_broken(parts: Parts, blob: Blob) -> AsyncIterator[None]:
    """Where a blob that others have turns out to be damaged here, have the next call fetch it."""
    try:
        yield
    except BlobBrokenError:
        await parts.exchange.drop_broken([blob])
        raise


def takes_part(job: Job, msp: str) -> bool:
    """Whether an organisation submitted a job or owns data in it."""
    return job.terms.submitter == msp or any(owner.msp == msp for owner in job.owners)


def may_fetch(parts: Parts, msp: str, address: str) -> bool:
    """Whether an organisation gets a blob from this gateway.

    An address is public, and anybody may name it in a job of its own: that a job names a blob opens it to nobody.

    - Own people read it under any job that names it.
    - Where the own organisation itself has said whose blob it is (its update, its attestation, the plan and initial
      model of a job that it submitted), others read it under those jobs, whoever else names it elsewhere.
    - What was got from others is passed on only to who may read it under each job that names it. The jobs for which
      something was made here count too: others may name it on the ledger before this gateway's own word is there.
    """
    model = parts.model

    def opens(job_id: str) -> bool:
        job = model.job(job_id)
        return job is not None and may_read(parts, job, msp, address)

    named = model.jobs_with_blob(address)
    if msp == parts.me:
        return any(map(opens, named))
    if vouched := model.jobs_vouched_for(address):
        return any(map(opens, vouched))
    return bool(named) and all(map(opens, {*named, *parts.journal.made_for(address)}))


def may_read(parts: Parts, job: Job, msp: str, address: str) -> bool:
    """Whether an organisation may read a blob of a job.

    Its submitter reads all; an owner reads what it decides about (plan and initial model), and the rest once it was in
    a cohort: who was asked and has not approved, or may not take part, gets nothing that others trained.
    """
    plan = job.terms.plan
    if takes_part(job, msp) and address in {plan.bundle.address, plan.model.address}:
        return True
    return has_part(parts, job, msp)


def has_part(parts: Parts, job: Job, msp: str) -> bool:
    """Whether an organisation submitted a job, or was in a cohort of it."""
    return job.terms.submitter == msp or any(current.member(msp) is not None for current in parts.model.rounds(job.id))


def holders(job: Job, me: str) -> list[str]:
    """The organisations that should have a job's blobs, without the own one."""
    members = [job.terms.submitter, *(owner.msp for owner in job.owners)]
    return [msp for msp in dict.fromkeys(members) if msp != me]


def add(server: Any, parts: Parts) -> None:
    """Add the services to a server."""
    blobs_pb2_grpc.add_BlobsServicer_to_server(Blobs(parts), server)  # type: ignore[no-untyped-call]
    blobs_pb2_grpc.add_ModelsServicer_to_server(Models(parts), server)  # type: ignore[no-untyped-call]
