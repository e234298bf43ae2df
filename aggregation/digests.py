"""Digests: tagged SHA-256, canonical JSON (RFC 8785) and Merkle trees (RFC 6962), hex in lower case."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import rfc8785

from .errors import CanonicalError

if TYPE_CHECKING:
    from collections.abc import Sequence

LARGEST_INTEGER = 2**53 - 1  # RFC 8785 numbers are IEEE doubles
DEEPEST_JSON = 32


def tagged_hasher(tag: str) -> hashlib._Hash:
    """Return a SHA-256 that has taken in `tag` ‖ 0x00, so that no digest of one kind is one of another.

    Raises:
        CanonicalError: the tag is not printable ASCII.
    """
    if not tag.isascii() or not tag.isprintable() or not tag:
        raise CanonicalError(f"tag {tag!r} is not printable ASCII")
    return hashlib.sha256(tag.encode("ascii") + b"\x00")


def tagged_hash(tag: str, data: bytes) -> str:
    """Return SHA-256(tag ‖ 0x00 ‖ data) as 64 lower-case hex digits."""
    hasher = tagged_hasher(tag)
    hasher.update(data)
    return hasher.hexdigest()


def canonical_json(value: object) -> bytes:
    """Return the RFC 8785 bytes of a value made of None, bool, int, str, list, tuple and dict.

    Floats are refused, since they don't belong in records, and so are integers beyond 2^53 - 1.

    Raises:
        CanonicalError: the value holds anything else, or is nested deeper than 32 levels.
    """
    _refuse_uncanonical(value, 0)
    try:
        return rfc8785.dumps(value)  # type: ignore[arg-type]
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise CanonicalError(f"no canonical JSON: {error}") from error


def _refuse_uncanonical(value: object, depth: int) -> None:
    if depth > DEEPEST_JSON:
        raise CanonicalError(f"nested deeper than {DEEPEST_JSON} levels")
    match value:
        case None | bool() | str():
            return
        case int():
            if abs(value) > LARGEST_INTEGER:
                raise CanonicalError(f"integer {value} is beyond 2^53 - 1; write it as a string of digits")
        case list() | tuple():
            for item in value:
                _refuse_uncanonical(item, depth + 1)
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise CanonicalError(f"key {key!r} is not a string")
                _refuse_uncanonical(item, depth + 1)
        case _:
            raise CanonicalError(f"{type(value).__name__} has no canonical JSON here")


def tagged_json_hash(tag: str, value: Any) -> str:
    """Return the tagged hash of a value's canonical JSON."""
    return tagged_hash(tag, canonical_json(value))


def merkle_root(leaves: Sequence[bytes]) -> str:
    """Return the Merkle tree hash of RFC 6962, section 2.1, of the leaves' bytes (not of their digests).

    The empty list's is SHA-256 of nothing.
    """
    if not leaves:
        return hashlib.sha256().hexdigest()
    return merkle_root_of_digests([hashlib.sha256(b"\x00" + leaf).digest() for leaf in leaves])


def merkle_leaf(leaf: bytes) -> bytes:
    """Return a leaf's 32-byte hash, for trees whose leaves do not fit in memory together."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def merkle_root_of_digests(level: Sequence[bytes]) -> str:
    """Return the root over leaf hashes made by `merkle_leaf`; at least one.

    Pairing neighbours level by level, with an odd last node passed up unchanged, gives the same tree as the RFC's
    recursive split at the largest power of two.
    """
    if not level:
        return hashlib.sha256().hexdigest()
    nodes = list(level)
    while len(nodes) > 1:
        paired = [hashlib.sha256(b"\x01" + a + b).digest() for a, b in zip(nodes[::2], nodes[1::2], strict=False)]
        if len(nodes) % 2:
            paired.append(nodes[-1])
        nodes = paired
    return nodes[0].hex()
