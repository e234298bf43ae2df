"""The hash by which everybody recognises a channel: that of its genesis block's header."""

from pathlib import Path

from ..fabric.blocks import BlockError, decode_block
from .failures import bad_input


def genesis_hash(block: Path) -> str:
    """SHA-256 of the header of a genesis block's file (common.Block of Fabric), 64 hexadecimal digits.

    Raises:
        OSError: the file can't be read.
        Failure: it is no block, or not the first.
    """
    try:
        decoded = decode_block(block.read_bytes())
    except BlockError as error:
        raise bad_input(f"not a block: {error}", where=str(block), remedy="name the channel's genesis block") from error
    if decoded.number:
        raise bad_input(f"block {decoded.number}, not the genesis block", where=str(block), remedy="name block 0")
    return decoded.header_hash.hex()
