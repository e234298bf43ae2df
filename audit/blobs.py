"""A folder of blobs: files named by their address, the Merkle root (RFC 6962) of their 1 MiB segments."""

from __future__ import annotations

import re
from dataclasses import dataclass
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


class BlobUnusableError(Exception):
    """The bytes are those that the ledger names, and no tensors: whoever committed them is to blame."""


@dataclass(frozen=True)
class OpenBlob:
    """Tensors whose address and size were checked, and what they really hash to."""

    tensors: TensorFile
    digest: str

    def fault(self, blob: Blob) -> str:
        """Return what the ledger says wrongly of bytes that it names rightly, "" if nothing."""
        if self.digest != blob.digest:
            return f"its manifest's digest is {self.digest}, the ledger says {blob.digest}"
        return ""


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
        data = self._checked(blob).read_bytes()
        if tagged_hash("plan", data) != blob.digest:
            raise BlobDiffersError(f"its digest is {tagged_hash('plan', data)}, the ledger says {blob.digest}")
        return data

    def tensors(self, blob: Blob) -> OpenBlob:
        """Open a model, an update or an optimiser's state; the caller closes it.

        Raises:
            BlobMissingError, BlobDiffersError: it is not there, or other bytes are.
            BlobUnusableError: the right bytes are there, and they are no tensors.
        """
        path = self._checked(blob)
        try:
            file = TensorFile(path)
        except TensorFileError as error:
            raise BlobUnusableError(f"not a file of tensors: {error}") from error
        try:
            return OpenBlob(file, manifest_of(file).digest)
        except BaseException:
            file.close()
            raise

    def _checked(self, blob: Blob) -> Path:
        path = self._path(blob.address)
        if not path.is_file():
            raise BlobMissingError("it is not in the folder")
        # Gateways fetch a blob by address and size: under another size it is not to be had, whatever lies here.
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
