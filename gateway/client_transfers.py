"""Bytes to and from a gateway: in pieces, with progress, going on where a break left off, checked at the end."""

import asyncio
import io
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from ..aggregation import merkle_leaf
from ..chaincode.records import Blob
from .client_session import api_error
from .errors import ApiError, CorruptError
from .headings import check_heading
from .segments import SEGMENT_BYTES
from .v1 import blobs_pb2, datasets_pb2
from .wire import to_record

__all__ = ["Progress", "Source", "download", "read_all", "upload"]

Progress = Callable[[int, int], None]
"""Bytes done, bytes in all."""

_TRIES: Final = 6
_PAUSE: Final = 0.3
_BREAKS: Final = frozenset({"GATEWAY_UNAVAILABLE", "GATEWAY_TIMEOUT"})
_PIECE: Final = 1 << 20


async def upload(
    method: Callable[..., Any],
    pieces: Callable[[], Iterator[bytes]],
    size: int,
    *,
    kind: str = "",
    progress: Progress | None = None,
) -> Blob:
    """Send bytes to a gateway's blob store.

    Args:
        method: Datasets.Upload or Blobs.Upload.
        pieces: gives the bytes from the start, each time the same.
        size: how many they are.
        kind: what they are, towards Blobs.
        progress: told after each piece.

    Raises:
        ApiError: the gateway refused them, or broke off too often.
        Exception: whatever `pieces` raises.
    """
    upload_id = ""

    def opening() -> datasets_pb2.UploadOpening:
        return datasets_pb2.UploadOpening(upload_id=upload_id, size=size, kind=kind)

    for again in range(_TRIES):
        opened = _Opened()
        try:
            async for answer in method(_messages(pieces(), opening(), opened, progress), timeout=None):
                if answer.WhichOneof("part") == "stored":
                    return to_record(answer.stored, Blob)
                upload_id = answer.position.upload_id
                opened.tell(answer.position.position)
        except grpc.aio.AioRpcError as error:
            fault = api_error(error)
            if fault.code not in _BREAKS or again == _TRIES - 1:
                raise fault from error
        except asyncio.CancelledError:
            # gRPC cancels a call whose messages can't be made, and keeps to itself why.
            if opened.fault is not None:
                raise opened.fault from None
            raise
        await asyncio.sleep(_PAUSE * 2**again)
    raise ApiError("the gateway broke the upload off too often", code="GATEWAY_UNAVAILABLE")


class _Opened:
    """Where the gateway says to go on, once it has said it; and why the bytes can't be read, if so."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self._position: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def tell(self, position: int) -> None:
        if not self._position.done():
            self._position.set_result(position)

    async def position(self) -> int:
        return await self._position


async def _messages(
    pieces: Iterator[bytes], opening: datasets_pb2.UploadOpening, opened: _Opened, progress: Progress | None
) -> AsyncIterator[datasets_pb2.UploadRequest]:
    yield datasets_pb2.UploadRequest(opening=opening)
    skip = await opened.position()
    done = 0
    while piece := await asyncio.to_thread(_next, pieces, opened):
        for start in range(0, len(piece), _PIECE):
            part = piece[start : start + _PIECE]
            done += len(part)
            if done <= skip:
                continue
            rest = part[-(done - skip) :] if done - len(part) < skip else part
            yield datasets_pb2.UploadRequest(piece=rest)
            if progress is not None:
                progress(done, opening.size)
    yield datasets_pb2.UploadRequest(end=datasets_pb2.UploadEnd())


def _next(pieces: Iterator[bytes], opened: _Opened) -> bytes:
    try:
        return next(pieces, b"")
    except Exception as error:
        opened.fault = error
        raise


@dataclass(frozen=True)
class Source:
    """A blob at a gateway.

    Attributes:
        method: Blobs.Fetch or Models.Fetch.
        request: its request, whose first segment is set here.
        blob: what the ledger says of it: every segment is checked against its address.
        maximum: bytes that are taken.
    """

    method: Callable[..., Any]
    request: Any
    blob: Blob
    maximum: int


async def download(source: Source, target: Path, progress: Progress | None = None) -> None:
    """Fetch a blob into a file, which appears when it is whole and checked.

    Args:
        source: the blob.
        target: the file; one that is there is replaced.
        progress: told after each segment.

    Raises:
        CorruptError: other bytes came.
        ApiError: the gateway refused, or broke off too often.
        OSError: the file can't be written.
    """
    partial = target.with_name(f".{target.name}.part")
    with partial.open("wb") as file:
        try:
            for again in range(_TRIES):
                try:
                    await _receive(source, file, progress)
                    break
                except grpc.aio.AioRpcError as error:
                    fault = api_error(error)
                    if fault.code not in _BREAKS or again == _TRIES - 1:
                        raise fault from error
                    await asyncio.sleep(_PAUSE * 2**again)
            file.flush()
            os.fsync(file.fileno())
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


async def read_all(source: Source) -> bytes:
    """A blob's bytes, checked.

    Raises:
        CorruptError: other bytes came.
        ApiError: the gateway refused.
    """
    file = io.BytesIO()
    try:
        await _receive(source, file, None)
    except grpc.aio.AioRpcError as error:
        raise api_error(error) from error
    return file.getvalue()


async def _receive(source: Source, file: Any, progress: Progress | None) -> None:
    request, blob = source.request, source.blob
    request.first_segment = file.tell() // SEGMENT_BYTES
    call = source.method(request, timeout=None)
    answers: AsyncIterator[blobs_pb2.FetchResponse] = aiter(call)
    try:
        opening = await anext(answers)
        leaves = check_heading(opening.heading, blob.address, blob.size, source.maximum)
        for index in range(request.first_segment, len(leaves)):
            segment = (await anext(answers)).segment
            if merkle_leaf(segment) != leaves[index]:
                raise CorruptError(f"segment {index} of the blob {blob.address} is not the one that was written")
            await asyncio.to_thread(file.write, segment)
            if progress is not None:
                progress(file.tell(), blob.size)
    except StopAsyncIteration:
        raise CorruptError("the blob ended before its last segment") from None
    finally:
        call.cancel()
