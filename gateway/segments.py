"""The bytes of a stored blob: authenticated encryption in segments, so that memory is bounded by one segment.

The construction is STREAM (Hoang, Reyhanitabar, Rogaway and Vizár, "Online Authenticated-Encryption and its
Nonce-Reuse Misuse-Resistance", CRYPTO 2015) with AES-256-GCM: a key of its own for each blob, HKDF-SHA-256(data key,
32-byte salt), and for segment i the nonce prefix (7 bytes) ‖ i (4 bytes, big-endian) ‖ last (1 byte). So no segment
can be dropped, repeated, moved, or taken from another blob, and a cut at a segment's border is seen.

A file is: header (80 bytes) ‖ sealed segments ‖ sealed index ‖ the index's length (8 bytes, big-endian). The header,
which every segment authenticates, holds SHA-256("commit" ‖ key), because GCM alone does not commit to its key. The
index holds the plaintext's size and the leaf hash of each plaintext segment (RFC 6962), so that a reader who knows the
Merkle root can check one segment at a time and go on after a break.
"""

import hashlib
import hmac
import io
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..aggregation.digests import merkle_leaf, merkle_root_of_digests

__all__ = [
    "SEGMENT_BYTES",
    "BlobBrokenError",
    "SegmentFile",
    "SegmentReader",
    "SegmentWriter",
    "WrongKeyError",
    "segment_count",
]

SEGMENT_BYTES: Final = 1 << 20
"""Plaintext bytes of every segment but the last."""

_MAGIC = b"FFBLOB1\n"
_HEADER_BYTES = 80
_TAG_BYTES = 16
_SEALED_BYTES = SEGMENT_BYTES + _TAG_BYTES
_LEAF_BYTES = 32
_INDEX_COUNTER = 0xFFFFFFFF
_LENGTH = struct.Struct(">Q")
_MAXIMUM_SEGMENTS = (1 << 32) - 2


class BlobBrokenError(ValueError):
    """The stored bytes are not those that were written: changed, cut, or of another blob."""


class WrongKeyError(BlobBrokenError):
    """The blob was sealed with another data key."""


@dataclass(frozen=True)
class _Cipher:
    header: bytes
    sealer: AESGCM
    prefix: bytes

    @classmethod
    def make(cls, key: bytes) -> "_Cipher":
        salt, prefix = os.urandom(32), os.urandom(7)
        blob_key = _blob_key(key, salt)
        header = _MAGIC + salt + prefix + b"\x01" + _commitment(blob_key)
        return cls(header, AESGCM(blob_key), prefix)

    @classmethod
    def open(cls, key: bytes, header: bytes) -> "_Cipher":
        if len(header) != _HEADER_BYTES or not header.startswith(_MAGIC) or header[47:48] != b"\x01":
            raise BlobBrokenError("the stored blob does not begin with a blob's header")
        blob_key = _blob_key(key, header[8:40])
        if not hmac.compare_digest(_commitment(blob_key), header[48:]):
            raise WrongKeyError("the stored blob was sealed with another key, or its header was changed")
        return cls(header, AESGCM(blob_key), header[40:47])

    def _nonce(self, counter: int, *, last: bool) -> bytes:
        return self.prefix + counter.to_bytes(4, "big") + (b"\x01" if last else b"\x00")

    def seal(self, counter: int, plain: bytes, *, last: bool) -> bytes:
        return self.sealer.encrypt(self._nonce(counter, last=last), plain, self.header)

    def unseal(self, counter: int, sealed: bytes, *, last: bool, what: str) -> bytes:
        try:
            return self.sealer.decrypt(self._nonce(counter, last=last), sealed, self.header)
        except InvalidTag:
            raise BlobBrokenError(f"{what} of the stored blob is not what was written") from None


def _blob_key(key: bytes, salt: bytes) -> bytes:
    if len(key) != 32:
        raise ValueError("a data key has 32 bytes")
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=b"fedfabric/blob/v1").derive(key)


def _commitment(key: bytes) -> bytes:
    return hashlib.sha256(b"commit" + key).digest()


class SegmentWriter:
    """Seals a plaintext into a file that it appends to; `resume` goes on with one that was not finished.

    `write` takes pieces of any length. Only whole segments reach the file before `finish`; `position` says how many
    plaintext bytes those hold, which is where an interrupted sender goes on. With `size`, the plaintext's whole length,
    a full segment is known not to be the last one and reaches the file at once.
    """

    def __init__(self, file: BinaryIO, key: bytes, *, size: int | None = None) -> None:
        self._begin(file, _Cipher.make(key), size)
        file.write(self._cipher.header)

    def _begin(self, file: BinaryIO, cipher: _Cipher, size: int | None) -> None:
        self._file = file
        self._expected = 0 if size is None else size
        self._cipher = cipher
        self._pending = bytearray()
        self._leaves: list[bytes] = []
        self._sealed_leaves: list[bytes] = [merkle_leaf(cipher.header)]

    @classmethod
    def resume(cls, file: BinaryIO, key: bytes, *, size: int | None = None) -> "SegmentWriter":
        """Go on with an unfinished file, open for reading and writing.

        Its whole segments are checked and kept; from the first that is torn or changed on, the file is cut.

        Raises:
            WrongKeyError, BlobBrokenError: the file's header is not one that this key wrote.
        """
        file.seek(0)
        writer = cls.__new__(cls)
        writer._begin(file, _Cipher.open(key, file.read(_HEADER_BYTES)), size)  # noqa: SLF001 - an instance of this class
        writer._keep_whole_segments()  # noqa: SLF001
        return writer

    def _keep_whole_segments(self) -> None:
        while len(sealed := self._file.read(_SEALED_BYTES)) == _SEALED_BYTES:
            try:
                plain = self._cipher.unseal(len(self._leaves), sealed, last=False, what="a segment")
            except BlobBrokenError:
                break
            self._leaves.append(merkle_leaf(plain))
            self._sealed_leaves.append(merkle_leaf(sealed))
        self._file.seek(_HEADER_BYTES + len(self._leaves) * _SEALED_BYTES)
        self._file.truncate()

    @property
    def position(self) -> int:
        """Plaintext bytes that are in the file; those of the segment in memory are not among them."""
        return len(self._leaves) * SEGMENT_BYTES

    @property
    def size(self) -> int:
        """Plaintext bytes taken so far, the segment in memory counted in."""
        return self.position + len(self._pending)

    def write(self, piece: bytes) -> None:
        """Take more of the plaintext.

        Raises:
            OSError: the file could not be written.
        """
        self._pending += piece
        # A full segment waits until it is known that more comes, since the last one is sealed as the last.
        while len(self._pending) > SEGMENT_BYTES or (
            len(self._pending) == SEGMENT_BYTES and self.size < self._expected
        ):
            self._flush(SEGMENT_BYTES, last=False)

    def _flush(self, length: int, *, last: bool) -> None:
        if len(self._leaves) >= _MAXIMUM_SEGMENTS:
            raise ValueError("a blob has at most 2^32 - 2 segments")
        plain = bytes(self._pending[:length])
        sealed = self._cipher.seal(len(self._leaves), plain, last=last)
        self._file.write(sealed)
        self._leaves.append(merkle_leaf(plain))
        self._sealed_leaves.append(merkle_leaf(sealed))
        del self._pending[:length]

    def finish(self) -> tuple[str, str, int]:
        """Seal the last segment and the index.

        Returns:
            the Merkle root of the plaintext's segments, that of header and sealed segments, and the plaintext's bytes.
        """
        size = self.size
        self._flush(len(self._pending), last=True)
        index = self._cipher.seal(_INDEX_COUNTER, _LENGTH.pack(size) + b"".join(self._leaves), last=True)
        self._file.write(index)
        self._file.write(_LENGTH.pack(len(index)))
        return merkle_root_of_digests(self._leaves), merkle_root_of_digests(self._sealed_leaves), size


class SegmentReader:
    """Reads a finished file's segments, each checked before any of it is handed out.

    Raises:
        WrongKeyError: the file was sealed with another data key.
        BlobBrokenError: the file is not whole.
    """

    def __init__(self, file: BinaryIO, key: bytes) -> None:
        self._file = file
        end = file.seek(0, os.SEEK_END)
        file.seek(0)
        self._cipher = _Cipher.open(key, file.read(_HEADER_BYTES))
        if end < _HEADER_BYTES + _LENGTH.size:
            raise BlobBrokenError("the stored blob was cut")
        file.seek(end - _LENGTH.size)
        (index_bytes,) = _LENGTH.unpack(file.read(_LENGTH.size))
        # The index's own length is bounded by the file before anything of that size is read.
        if not _LENGTH.size + _LEAF_BYTES + _TAG_BYTES <= index_bytes <= end - _HEADER_BYTES - _LENGTH.size:
            raise BlobBrokenError("the stored blob was cut, or its end was changed")
        file.seek(end - _LENGTH.size - index_bytes)
        index = self._cipher.unseal(_INDEX_COUNTER, file.read(index_bytes), last=True, what="the index")
        (self.size,) = _LENGTH.unpack(index[: _LENGTH.size])
        """Plaintext bytes."""
        self.leaves = [index[at : at + _LEAF_BYTES] for at in range(_LENGTH.size, len(index), _LEAF_BYTES)]
        """The leaf hash of each plaintext segment."""
        expected = _HEADER_BYTES + self.size + len(self.leaves) * _TAG_BYTES + index_bytes + _LENGTH.size
        if len(self.leaves) != segment_count(self.size) or end != expected:
            raise BlobBrokenError("the stored blob has another length than its index says")

    @property
    def root(self) -> str:
        """The Merkle root of the plaintext's segments."""
        return merkle_root_of_digests(self.leaves)

    def segment(self, index: int) -> bytes:
        """The plaintext of one segment.

        Raises:
            IndexError: there is no such segment.
            BlobBrokenError: it is not what was written.
        """
        if not 0 <= index < len(self.leaves):
            raise IndexError(f"the blob has {len(self.leaves)} segments")
        last = index == len(self.leaves) - 1
        length = (self.size - index * SEGMENT_BYTES if last else SEGMENT_BYTES) + _TAG_BYTES
        self._file.seek(_HEADER_BYTES + index * _SEALED_BYTES)
        plain = self._cipher.unseal(index, self._file.read(length), last=last, what=f"segment {index}")
        if merkle_leaf(plain) != self.leaves[index]:
            raise BlobBrokenError(f"segment {index} of the stored blob is not the one its index names")
        return plain

    def __iter__(self) -> Iterator[bytes]:
        for index in range(len(self.leaves)):
            yield self.segment(index)


def segment_count(size: int) -> int:
    """Segments of a plaintext of so many bytes; an empty one has one, empty."""
    return max(1, -(-size // SEGMENT_BYTES))


class SegmentFile(io.RawIOBase):
    """A blob's plaintext as a file to read and seek in, decrypted segment by segment; nothing of it is on a disk.

    The last two segments are kept, so that reading on across their border decrypts each once.
    """

    def __init__(self, reader: SegmentReader) -> None:
        super().__init__()
        self._reader = reader
        self._position = 0
        self._kept: dict[int, bytes] = {}

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be sought in."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, in bytes from the start, from here or from the end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._reader.size}[whence]
        if base + offset < 0:
            raise ValueError("a file has no place before its start")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """The present place."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read up to a segment's end.

        Raises:
            BlobBrokenError: the segment is not what was written.
        """
        view = memoryview(buffer).cast("B")
        if self._position >= self._reader.size or not len(view):
            return 0
        index, start = divmod(self._position, SEGMENT_BYTES)
        piece = self._segment(index)[start : start + len(view)]
        view[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def _segment(self, index: int) -> bytes:
        if index not in self._kept:
            while len(self._kept) > 1:
                del self._kept[next(iter(self._kept))]
            self._kept[index] = self._reader.segment(index)
        return self._kept[index]
