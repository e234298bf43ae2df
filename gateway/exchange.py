"""Blobs from the other organisations' gateways: by address, over mutual TLS, checked segment by segment, resumable.

Nothing that another gateway sends is believed: the leaf hashes must give the address, every segment its leaf hash, and
the size is the one that the ledger names. A fetch that breaks off goes on behind the last whole segment, at the same
gateway or the next, and also after this gateway was restarted.
"""

import asyncio
import datetime
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import grpc
import structlog

from ..aggregation.digests import merkle_leaf
from ..chaincode.records import Blob
from .blobs import BlobMissingError, BlobStore, Upload
from .configuration import split_address
from .errors import CorruptError, NotFoundError
from .headings import check_heading
from .limits import Deadlines, Limits
from .read_model import ReadModel
from .segments import SEGMENT_BYTES, BlobBrokenError
from .trust import Trust, UntrustedError
from .v1 import blobs_pb2, blobs_pb2_grpc

__all__ = ["Exchange", "PeerCredentials"]

log = structlog.get_logger(__name__)

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0


@dataclass(frozen=True)
class PeerCredentials:
    """The certificate (PEM) by which this gateway shows itself to others, and its key."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "PeerCredentials(…)"


class Exchange:
    """Fetches blobs into the own store.

    Args:
        trust: gives the channel's organisations as they are now.
    """

    def __init__(
        self,
        store: BlobStore,
        storage_key: bytes,
        model: ReadModel,
        trust: Callable[[], Trust],
        credentials: PeerCredentials,
        *,
        limits: Limits,
        deadlines: Deadlines,
    ) -> None:
        self._store = store
        self._key = storage_key
        self._model = model
        self._trust = trust
        self._credentials = credentials
        self._limits = limits
        self._deadlines = deadlines
        self._slots = asyncio.Semaphore(limits.fetches)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._refused: set[str] = set()
        self._channels: dict[tuple[str, str, bytes], grpc.aio.Channel] = {}

    async def ensure(self, blob: Blob, holders: Sequence[str]) -> float:
        """Have a blob in the own store.

        Args:
            blob: as the ledger names it.
            holders: MSP ids of the organisations that should have it, likeliest first.

        Returns:
            the seconds that fetching took; 0 when it was here.

        Raises:
            NotFoundError: nobody gave it in time.
        """
        if await self._store.has(blob.address):
            return 0.0
        began = asyncio.get_running_loop().time()
        task = self._running.get(blob.address)
        if task is None:
            task = asyncio.create_task(self._fetch(blob, holders), name=f"fetch {blob.address[:12]}")
            self._running[blob.address] = task
            task.add_done_callback(lambda ended: self._ended(blob.address, ended))
        # Shielded: several may wait for one fetch.
        await asyncio.shield(task)
        return asyncio.get_running_loop().time() - began

    def lacks(self, blob: Blob) -> bool:
        """Whether a blob that was asked for is not here: it is being fetched, or the last time nobody gave it."""
        return blob.address in self._running or blob.address in self._refused

    def _ended(self, address: str, task: asyncio.Task[None]) -> None:
        self._running.pop(address, None)
        self._refused.discard(address)
        # Asking for the exception marks it as seen: whoever waited may have gone.
        if not task.cancelled() and task.exception() is not None:
            self._refused.add(address)

    async def _fetch(self, blob: Blob, holders: Sequence[str]) -> None:
        pause = _FIRST_PAUSE
        try:
            async with asyncio.timeout(self._deadlines.fetch), self._slots:
                while True:
                    for holder in holders:
                        if await self._try(blob, holder):
                            return
                    await asyncio.sleep(pause)
                    pause = min(_LONGEST_PAUSE, pause * 2)
        except TimeoutError:
            named = ", ".join(holders) or "nobody"
            raise NotFoundError(
                f"the blob {blob.address} was not to be had within {self._deadlines.fetch} s from: {named}"
            ) from None

    async def _try(self, blob: Blob, holder: str) -> bool:
        try:
            stub = self._stub(holder)
            if stub is None:
                return False
            upload = await self._upload(blob)
            async with upload:
                await self._receive(stub, blob, upload)
        except grpc.aio.AioRpcError as error:
            log.info("fetch.interrupted", blob=blob.address, holder=holder, status=error.code().name)
        except (CorruptError, BlobBrokenError, UntrustedError, TimeoutError) as error:
            log.warning("fetch.refused", blob=blob.address, holder=holder, reason=str(error) or "idle for too long")
        return await self._store.has(blob.address)

    async def _upload(self, blob: Blob) -> Upload:
        """The staging file of this address: the same one after a break, so that nothing is fetched twice."""
        upload_id = blob.address[:32]
        try:
            return await self._store.resume(self._key, upload_id, maximum=blob.size, size=blob.size)
        except BlobMissingError:
            return await self._store.upload(self._key, upload_id=upload_id, maximum=blob.size, size=blob.size)
        except BlobBrokenError:
            self._store.staged(upload_id).unlink(missing_ok=True)
            return await self._store.upload(self._key, upload_id=upload_id, maximum=blob.size, size=blob.size)

    async def _receive(self, stub: blobs_pb2_grpc.BlobsStub, blob: Blob, upload: Upload) -> None:
        first = upload.position // SEGMENT_BYTES
        call = stub.Fetch(
            blobs_pb2.FetchRequest(address=blob.address, first_segment=first), timeout=self._deadlines.fetch
        )
        try:
            answers = _idle_bounded(call, self._deadlines.fetch_idle)
            opening = await anext(answers)
            maximum = min(self._limits.blob_bytes, blob.size)
            leaves = check_heading(opening.heading, blob.address, blob.size, maximum)
            for index in range(first, len(leaves)):
                segment = (await anext(answers)).segment
                if merkle_leaf(segment) != leaves[index]:
                    raise CorruptError(f"segment {index} of the blob {blob.address} is not the one promised")
                await upload.write(segment)
        except StopAsyncIteration:
            return
        finally:
            call.cancel()
        await upload.finish(expected=blob.address)

    def _stub(self, holder: str) -> "blobs_pb2_grpc.BlobsStub | None":
        consortium = self._model.consortium()
        member = consortium.member(holder) if consortium is not None else None
        if member is None or not member.gateway:
            return None
        roots = self._trust().server_roots(holder)
        key = (holder, member.gateway, roots)
        if key not in self._channels:
            split_address(member.gateway)
            credentials = grpc.ssl_channel_credentials(roots, self._credentials.key, self._credentials.certificate)
            self._channels[key] = grpc.aio.secure_channel(
                member.gateway,
                credentials,
                options=[
                    ("grpc.max_receive_message_length", self._limits.message_bytes),
                    ("grpc.enable_retries", 0),
                    # A gateway that comes back is to be tried soon, not after gRPC's minutes.
                    ("grpc.max_reconnect_backoff_ms", 1000),
                ],
            )
        return blobs_pb2_grpc.BlobsStub(self._channels[key])  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """End fetches and connections; what was fetched of a blob stays for the next time."""
        for task in list(self._running.values()):
            task.cancel()
            with suppress(asyncio.CancelledError, NotFoundError):
                await task
        for channel in self._channels.values():
            await channel.close(None)
        self._channels.clear()


async def _idle_bounded(
    call: AsyncIterable[blobs_pb2.FetchResponse], seconds: float
) -> AsyncIterator[blobs_pb2.FetchResponse]:
    answers = aiter(call)
    while True:
        try:
            async with asyncio.timeout(seconds):
                answer = await anext(answers)
        except StopAsyncIteration:
            return
        yield answer


def utc_now() -> datetime.datetime:
    """The time, for certificates."""
    return datetime.datetime.now(datetime.UTC)
