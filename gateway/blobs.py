"""The organisation's blob store: encrypted, content-addressed, atomic, resumable, on any store that fsspec knows.

A blob's name is its address: the Merkle root of its plaintext's 1 MiB segments (models, updates, plans, which several
organisations hold under one root) or of its sealed bytes (data sets, whose plaintext's digest nobody else may see).
What is coming in is sealed into a staging file on this machine's disk; only a finished, checked blob appears under its
address, at once and whole. Staged files hold nothing readable either.
"""

import asyncio
import errno
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from .segments import SEGMENT_BYTES, BlobBrokenError, SegmentFile, SegmentReader, SegmentWriter, WrongKeyError

__all__ = [
    "Addressed",
    "BlobBrokenError",
    "BlobMissingError",
    "BlobReader",
    "BlobStore",
    "BlobStoreError",
    "BlobTooLargeError",
    "StoreFullError",
    "StoredBlob",
    "Upload",
    "WrongAddressError",
    "WrongKeyError",
    "check_address",
]

T = TypeVar("T")

_ADDRESS = re.compile(r"[0-9a-f]{64}")
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

UPLOAD_ID_DIGITS: Final = 32


class BlobStoreError(Exception):
    """The store could not do what was asked; nothing under an address has changed."""


class BlobMissingError(BlobStoreError):
    """No blob has this address here."""


class StoreFullError(BlobStoreError):
    """There is no room left; what had come in is removed again."""


class BlobTooLargeError(BlobStoreError):
    """More bytes came than were allowed."""


class WrongAddressError(BlobStoreError):
    """The bytes that came are not those of the address they were announced under."""


class Addressed(StrEnum):
    """What a blob's address is the Merkle root of."""

    PLAIN = "plain"
    SEALED = "sealed"


@dataclass(frozen=True)
class StoredBlob:
    """A blob that is whole and stored."""

    address: str
    size: int
    """Plaintext bytes."""


def check_address(address: str) -> str:
    """The address itself.

    Raises:
        ValueError: it is not 64 lower-case hexadecimal digits (so none can name a path outside the store).
    """
    if not _ADDRESS.fullmatch(address):
        raise ValueError("a blob's address is 64 lower-case hexadecimal digits")
    return address


class Upload:
    """A blob that is coming in. Close it to keep what is whole for a later `resume`, or `abandon` it."""

    def __init__(self, store: "BlobStore", upload_id: str, file: BinaryIO, writer: SegmentWriter, maximum: int) -> None:
        self.id = upload_id
        self._store = store
        self._file = file
        self._writer = writer
        self._maximum = maximum

    @property
    def position(self) -> int:
        """Plaintext bytes that would survive an interruption: where a sender goes on."""
        return self._writer.position

    @property
    def size(self) -> int:
        """Plaintext bytes taken so far."""
        return self._writer.size

    async def write(self, piece: bytes) -> None:
        """Take more of the plaintext.

        Raises:
            BlobTooLargeError: it would be longer than allowed. The upload is gone.
            StoreFullError: no room is left. The upload is gone.
        """
        if self._writer.size + len(piece) > self._maximum:
            await self.abandon()
            raise BlobTooLargeError(f"the blob is longer than the {self._maximum} bytes allowed")
        await self._guard(self._writer.write, piece)

    async def finish(self, *, addressed: Addressed = Addressed.PLAIN, expected: str | None = None) -> StoredBlob:
        """Seal the rest and put the blob under its address, where it appears whole or not at all.

        Raises:
            WrongAddressError: the address is not the one expected. The upload is gone.
            StoreFullError: no room is left. The upload is gone.
        """
        plain, sealed, size = await self._guard(self._writer.finish)
        address = plain if addressed is Addressed.PLAIN else sealed
        if expected is not None and address != expected:
            await self.abandon()
            raise WrongAddressError(f"the bytes received have the address {address}, expected was {expected}")

        def publish() -> None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._store.publish(self._store.staged(self.id), address)

        await self._guard(publish)
        return StoredBlob(address, size)

    async def _guard(self, work: Callable[..., T], *arguments: object) -> T:
        try:
            return await _to_its_end(work, *arguments)
        except OSError as error:
            await self.abandon()
            if error.errno in _FULL:
                raise StoreFullError("the blob store has no room left; nothing was stored") from error
            raise BlobStoreError(f"the blob store can't be written: {error.strerror}") from error

    async def close(self) -> None:
        """Let go of the staging file; its whole segments stay for `BlobStore.resume`."""
        with suppress(OSError):
            await _to_its_end(self._file.close)

    async def abandon(self) -> None:
        """Remove what has come in."""
        await self.close()
        await asyncio.to_thread(self._store.staged(self.id).unlink, missing_ok=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class BlobReader:
    """An open blob: its size and leaf hashes are known, its segments are read and checked one by one."""

    def __init__(self, file: BinaryIO, reader: SegmentReader) -> None:
        self._file = file
        self._reader = reader
        self._turn = asyncio.Lock()

    @property
    def size(self) -> int:
        """Plaintext bytes."""
        return int(self._reader.size)

    @property
    def leaves(self) -> tuple[bytes, ...]:
        """The RFC 6962 leaf hash of each plaintext segment."""
        return tuple(self._reader.leaves)

    async def segment(self, index: int) -> bytes:
        """One segment's plaintext.

        Raises:
            IndexError: there is no such segment.
            BlobBrokenError: it is not what was written.
        """
        async with self._turn:
            return await asyncio.to_thread(self._reader.segment, index)

    async def segments(self, first: int = 0) -> AsyncIterator[bytes]:
        """The segments from one on, in order."""
        for index in range(first, len(self._reader.leaves)):
            yield await self.segment(index)

    async def read(self, maximum: int) -> bytes:
        """The whole plaintext of a small blob.

        Raises:
            BlobTooLargeError: it has more bytes than the caller wants in memory.
        """
        if self.size > maximum:
            raise BlobTooLargeError(f"the blob has {self.size} bytes, {maximum} are allowed here")
        return b"".join([segment async for segment in self.segments()])

    async def copy_to(self, path: Path, mode: int = 0o400) -> None:
        """Write the plaintext to a new file.

        Raises:
            StoreFullError: the file's disk is full; the file is removed.
            FileExistsError: something is there already.
        """
        handle = await asyncio.to_thread(os.open, path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        try:
            with os.fdopen(handle, "wb") as file:
                async for segment in self.segments():
                    await asyncio.to_thread(file.write, segment)
        except BaseException as error:
            await asyncio.to_thread(path.unlink, missing_ok=True)
            if isinstance(error, OSError) and error.errno in _FULL:
                raise StoreFullError(f"no room for the blob's plaintext beside {path.name}") from error
            raise

    def file(self) -> SegmentFile:
        """The plaintext as a file for one thread; use it before this reader is closed, and not beside `segment`."""
        return SegmentFile(self._reader)

    async def close(self) -> None:
        """Close the stored file."""
        await _to_its_end(self._file.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class BlobStore:
    """Blobs at an fsspec URL, with a staging folder on this machine's disk.

    Args:
        url: a folder, or any URL that fsspec knows.
        staging: a local folder of this store alone; unfinished uploads live there.
        maximum: plaintext bytes of the largest blob.

    Raises:
        BlobStoreError: the place can't be used.
    """

    def __init__(self, url: str, staging: Path, maximum: int) -> None:
        self._maximum = maximum
        self._staging = staging
        self._fs: Any
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
            self._fs.makedirs(self._root, exist_ok=True)
            staging.mkdir(parents=True, exist_ok=True, mode=0o700)
        except (OSError, ValueError, ImportError) as error:
            raise BlobStoreError(f"the blob store can't be used: {error}") from error
        self._local = isinstance(self._fs, LocalFileSystem)

    def staged(self, upload_id: str) -> Path:
        """The staging file of an upload."""
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise ValueError("an upload's id is 32 lower-case hexadecimal digits")
        return self._staging / f"{upload_id}.part"

    def _path(self, address: str) -> str:
        check_address(address)
        return f"{self._root}/{address[:2]}/{address}"

    async def upload(
        self, key: bytes, *, upload_id: str | None = None, maximum: int | None = None, size: int | None = None
    ) -> Upload:
        """Begin to take a blob in, sealed with a data key of 32 bytes; `size` is its whole length where it is known.

        Raises:
            BlobStoreError: the staging folder can't be written, or an upload has this id.
        """
        upload_id = upload_id or secrets.token_hex(16)
        path = self.staged(upload_id)

        def begin() -> tuple[BinaryIO, SegmentWriter]:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            file = os.fdopen(handle, "r+b", buffering=0)
            try:
                return file, SegmentWriter(file, key, size=size)
            except BaseException:
                file.close()
                path.unlink(missing_ok=True)
                raise

        try:
            file, writer = await _to_its_end(begin, let_go=_close_first)
        except OSError as error:
            kind = StoreFullError if error.errno in _FULL else BlobStoreError
            raise kind(f"an upload can't begin: {error.strerror}") from error
        return Upload(self, upload_id, file, writer, min(self._maximum, maximum or self._maximum))

    async def resume(
        self, key: bytes, upload_id: str, *, maximum: int | None = None, size: int | None = None
    ) -> Upload:
        """Go on with an upload that was interrupted; its `position` says where.

        Raises:
            BlobMissingError: no such upload is here.
            BlobBrokenError: what is there is not what was written.
        """
        path = self.staged(upload_id)

        def again() -> tuple[BinaryIO, SegmentWriter]:
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC), "r+b", buffering=0)
            try:
                return file, SegmentWriter.resume(file, key, size=size)
            except BaseException:
                file.close()
                raise

        try:
            file, writer = await _to_its_end(again, let_go=_close_first)
        except FileNotFoundError:
            raise BlobMissingError("no such upload is here; begin again") from None
        return Upload(self, upload_id, file, writer, min(self._maximum, maximum or self._maximum))

    async def put(
        self,
        pieces: AsyncIterator[bytes] | Iterable[bytes],
        key: bytes,
        *,
        addressed: Addressed = Addressed.PLAIN,
        expected: str | None = None,
        maximum: int | None = None,
    ) -> StoredBlob:
        """Store a whole blob in one go; what had come in is removed if it fails."""
        upload = await self.upload(key, maximum=maximum)
        try:
            if isinstance(pieces, AsyncIterator):
                async for piece in pieces:
                    await upload.write(piece)
            else:
                for piece in pieces:
                    await upload.write(piece)
            return await upload.finish(addressed=addressed, expected=expected)
        except BaseException:
            await upload.abandon()
            raise

    async def put_file(self, path: Path, key: bytes, **options: Any) -> StoredBlob:
        """Store a file of this machine, segment by segment."""
        with path.open("rb") as file:

            async def pieces() -> AsyncIterator[bytes]:
                while piece := await asyncio.to_thread(file.read, SEGMENT_BYTES):
                    yield piece

            return await self.put(pieces(), key, **options)

    def publish(self, staged: Path, address: str) -> None:
        """Move a finished staging file under its address (blocking)."""
        target = self._path(address)
        folder = target.rpartition("/")[0]
        self._fs.makedirs(folder, exist_ok=True)
        if self._fs.exists(target):
            # The same content is there already; sealed again, it would differ in salt alone.
            staged.unlink()
            return
        if self._local and os.stat(folder).st_dev == staged.stat().st_dev:  # noqa: PTH116 - the path is fsspec's text
            os.replace(staged, target)  # noqa: PTH105
        else:
            # Elsewhere a blob is copied under another name first, so that its address never names half of it.
            partial = f"{target}.{secrets.token_hex(8)}.part"
            try:
                self._fs.put_file(str(staged), partial)
                self._fs.mv(partial, target)
            except BaseException:
                with suppress(FileNotFoundError):
                    self._fs.rm_file(partial)
                raise
            staged.unlink()
        if self._local:
            _sync_folder(folder)

    async def has(self, address: str) -> bool:
        """Whether a blob with this address is here."""
        return bool(await asyncio.to_thread(self._fs.exists, self._path(address)))

    async def open(self, address: str, key: bytes) -> BlobReader:
        """Open a blob.

        Raises:
            BlobMissingError: none has this address here.
            WrongKeyError: it was sealed with another key.
            BlobBrokenError: it is not whole.
        """

        def begin() -> tuple[BinaryIO, SegmentReader]:
            file = self._fs.open(self._path(address), "rb", block_size=SEGMENT_BYTES)
            try:
                return file, SegmentReader(file, key)
            except BaseException:
                file.close()
                raise

        try:
            file, reader = await _to_its_end(begin, let_go=_close_first)
        except FileNotFoundError:
            raise BlobMissingError(f"no blob with the address {address} is here") from None
        return BlobReader(file, reader)

    async def delete(self, address: str) -> None:
        """Remove a blob, if it is here."""

        def remove() -> None:
            with suppress(FileNotFoundError):
                self._fs.rm_file(self._path(address))

        await asyncio.to_thread(remove)

    def unfinished(self) -> list[str]:
        """The ids of uploads that were begun and neither finished nor abandoned."""
        return sorted(path.stem for path in self._staging.glob("*.part") if _UPLOAD_ID.fullmatch(path.stem))


async def _to_its_end(work: Callable[..., T], *arguments: object, let_go: Callable[[T], object] | None = None) -> T:
    """Work in a thread. A cancellation waits until the thread has ended, so that nobody meets it at the same file.

    Args:
        work: what to do.
        arguments: of `work`.
        let_go: releases what came out, where nobody is left to take it.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            # Cancelled once more meanwhile, it still has to let go.
            with suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        if let_go is not None and not running.cancelled() and running.exception() is None:
            let_go(running.result())
        raise


def _close_first(opened: tuple[BinaryIO, object]) -> None:
    opened[0].close()


def _sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
