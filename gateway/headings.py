"""The heading with which a blob begins on the wire: checked before a byte of the blob is taken."""

from ..aggregation.digests import merkle_root_of_digests
from .errors import CorruptError
from .segments import segment_count
from .v1 import blobs_pb2

__all__ = ["check_heading"]


def check_heading(heading: blobs_pb2.BlobHeading, address: str, size: int | None, maximum: int) -> list[bytes]:
    """The leaf hashes of a blob that is about to come.

    Args:
        heading: as it came.
        address: what was asked for.
        size: bytes that it must have; None takes any up to the maximum.
        maximum: bytes.

    Raises:
        CorruptError: it is another blob, or larger than allowed.
    """
    if heading.size < 0 or heading.size > maximum or (size is not None and heading.size != size):
        raise CorruptError(f"the blob offered has {heading.size} bytes, expected were {size or f'at most {maximum}'}")
    leaves = [heading.leaves[at : at + 32] for at in range(0, len(heading.leaves), 32)]
    if len(leaves) != segment_count(heading.size) or merkle_root_of_digests(leaves) != address:
        raise CorruptError(f"the blob offered is not the one with the address {address}")
    return leaves
