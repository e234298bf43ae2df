"""A folder of blobs: files named by their address, the Merkle root (RFC 6962) of their 1 MiB segments."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ..aggregation import TensorFile, TensorFileError, manifest_of, merkle_leaf, merkle_root_of_digests, tagged_hash

if TYPE_CHECKING:
    from pathlib import Path

    from ..chaincode.records import Blob

SEGMENT_BYTES: Final = 1 << 20
MAX_PLAN_BYTES: Final = 64 << 20
_ADDRESS: Final = re.compile(r"[0-9a-f]{64}")


class BlobMissingError(Exception):
    """The folder has no such blob."""


class BlobDiffersError(Exception):
    """The folder's bytes are not those that the ledger names."""


class BlobFolder:
    """Reads blobs, segment by segment; nothing in the folder is believed before its address was computed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, blob: Blob) -> bool:
        """Whether a file lies under the blob's address."""
        return self._path(blob.address).is_file()

    def plan(self, blob: Blob) -> bytes:
        """Return a plan's bundle.

        Raises:
            BlobMissingError, BlobDiffersError: it is not there, or other bytes are.
        """
        if blob.size > MAX_PLAN_BYTES:
            raise BlobDiffersError(f"a plan of {blob.size} bytes, at most {MAX_PLAN_BYTES} are read")
        path = self._checked(blob)
        data = path.read_bytes()
        if tagged_hash("plan", data) != blob.digest:
            raise BlobDiffersError(f"its digest is {tagged_hash('plan', data)}, the ledger says {blob.digest}")
        return data

    def tensors(self, blob: Blob) -> TensorFile:
        """Open a model, an update or an optimiser's state; the caller closes it.

        Raises:
            BlobMissingError, BlobDiffersError: it is not there, or other bytes are.
        """
        path = self._checked(blob)
        try:
            file = TensorFile(path)
        except TensorFileError as error:
            raise BlobDiffersError(f"not a file of tensors: {error}") from error
        try:
            digest = manifest_of(file).digest
        except BaseException:
            file.close()
            raise
        if digest != blob.digest:
            file.close()
            raise BlobDiffersError(f"its manifest's digest is {digest}, the ledger says {blob.digest}")
        return file

    def _checked(self, blob: Blob) -> Path:
        path = self._path(blob.address)
        if not path.is_file():
            raise BlobMissingError("it is not in the folder")
        size = path.stat().st_size
        if size != blob.size:
            raise BlobDiffersError(f"it has {size} bytes, the ledger says {blob.size}")
        found = address_of(path)
        if found != blob.address:
            raise BlobDiffersError(f"its bytes have the address {found}")
        return path

    def _path(self, address: str) -> Path:
        if not _ADDRESS.fullmatch(address):
            raise BlobMissingError(f"{address[:80]!r} is no address")
        return self._folder / address


def address_of(path: Path) -> str:
    """Return the address of a file's bytes."""
    leaves = []
    with path.open("rb") as file:
        while piece := file.read(SEGMENT_BYTES):
            leaves.append(merkle_leaf(piece))
    return merkle_root_of_digests(leaves)
