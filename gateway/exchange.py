"""Blobs from the other organisations' gateways: by address, over mutual TLS, checked segment by segment, resumable.

Nothing that another gateway sends is believed: the leaf hashes must give the address, every segment its leaf hash, and
the size is the one that the ledger names. A fetch that breaks off goes on behind the last whole segment, at the same
gateway or the next, and also after this gateway was restarted. An address has one size: of two rows that name it with
different ones, one can't be had by anybody, and hinders the other nowhere.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import grpc
import structlog

from ..aggregation.digests import merkle_leaf
from ..chaincode.records import Blob
from .blobs import (
    UPLOAD_ID_DIGITS,
    BlobMissingError,
    BlobStore,
    BlobTooLargeError,
    Upload,
    WrongAddressError,
    WrongKeyError,
)
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
_REFUSED: Final = (
    BlobBrokenError,
    BlobTooLargeError,
    CorruptError,
    TimeoutError,
    UntrustedError,
    WrongAddressError,
)
"""What a holder's answer may turn out to be; the next one is asked."""


@dataclass(frozen=True)
class PeerCredentials:
    """The certificate (PEM) by which this gateway shows itself to others, and its key."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "PeerCredentials(…)"


@dataclass
class _Fetch:
    """A fetch under way."""

    task: "asyncio.Task[None]" = field(init=False)
    waiters: int = 0
    """0: it was cancelled, and has not ended yet."""
    asked: bool = False
    """Whether a holder was asked at all, or it has only waited for its turn."""


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
        self._running: dict[tuple[str, int], _Fetch] = {}
        self._refused: set[tuple[str, int]] = set()
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
        if await self._here(blob):
            return 0.0
        began = asyncio.get_running_loop().time()
        place = (blob.address, blob.size)
        while (fetch := self._running.get(place)) is not None and not fetch.waiters:
            await asyncio.wait([fetch.task])  # cancelled, and still letting go of its file
        if fetch is None:
            fetch = self._running[place] = _Fetch()
            fetch.task = asyncio.create_task(self._fetch(fetch, blob, holders), name=f"fetch {blob.address[:12]}")
            fetch.task.add_done_callback(lambda _: self._ended(place))
        fetch.waiters += 1
        try:
            # Shielded: several may wait for one fetch. It ends with the last of them.
            await asyncio.shield(fetch.task)
        finally:
            fetch.waiters -= 1
            if not fetch.waiters:
                fetch.task.cancel()
        return asyncio.get_running_loop().time() - began

    def lacks(self, blob: Blob) -> bool:
        """Whether a blob was asked for at those who should have it, and is not here: not yet, or nobody gave it."""
        place = (blob.address, blob.size)
        running = self._running.get(place)
        return place in self._refused or (running is not None and running.asked)

    async def drop_broken(self, blobs: Iterable[Blob]) -> None:
        """Remove what the store does not hold as it was written, so that `ensure` fetches it anew."""
        for blob in blobs:
            try:
                async with await self._store.open(blob.address, self._key) as reader:
                    async for _ in reader.segments():
                        pass
            except WrongKeyError:
                continue  # a data set's: no other has it
            except BlobBrokenError as error:
                log.warning("blob.broken", blob=blob.address, reason=str(error))
                await self._store.delete(blob.address)
            except BlobMissingError:
                continue

    async def _here(self, blob: Blob) -> bool:
        """Whether the store has a blob that may be the one: under its address, of its size, whole as far as is seen."""
        try:
            async with await self._store.open(blob.address, self._key) as reader:
                return reader.size == blob.size
        except (BlobMissingError, WrongKeyError):
            return False
        except BlobBrokenError as error:
            log.warning("blob.broken", blob=blob.address, reason=str(error))
            await self._store.delete(blob.address)
            return False

    def _ended(self, place: tuple[str, int]) -> None:
        fetch = self._running.pop(place)
        if fetch.task.cancelled():
            return
        self._refused.discard(place)
        # Asking for the exception marks it as seen: whoever waited may have gone. A fault of the own disk is nobody
        # else's doing.
        if isinstance(fetch.task.exception(), NotFoundError) and fetch.asked:
            self._refused.add(place)

    async def _fetch(self, fetch: _Fetch, blob: Blob, holders: Sequence[str]) -> None:
        pause = _FIRST_PAUSE
        try:
            async with asyncio.timeout(self._deadlines.fetch):
                while True:
                    for holder in holders:
                        # For one try and not for the pauses: what nobody gives must not keep others from their turn.
                        async with self._slots:
                            fetch.asked = True
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
            async with upload, asyncio.timeout(self._deadlines.fetch_turn):
                await self._receive(stub, blob, upload)
        except grpc.aio.AioRpcError as error:
            log.info("fetch.interrupted", blob=blob.address, holder=holder, status=error.code().name)
        except _REFUSED as error:
            log.warning("fetch.refused", blob=blob.address, holder=holder, reason=str(error) or "too slow")
        return await self._here(blob)

    async def _upload(self, blob: Blob) -> Upload:
        """The staging file of this blob: the same one after a break, so that nothing is fetched twice."""
        upload_id = hashlib.sha256(f"{blob.address} {blob.size}".encode()).hexdigest()[:UPLOAD_ID_DIGITS]
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
        if upload.size != blob.size:
            raise CorruptError(f"the blob {blob.address} has {upload.size} bytes, the ledger says {blob.size}")
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
        for fetch in list(self._running.values()):
            fetch.task.cancel()
            with suppress(asyncio.CancelledError, NotFoundError):
                await fetch.task
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
