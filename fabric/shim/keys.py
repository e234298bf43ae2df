"""Keys of the ledger: simple ones, and composite ones that sort by their parts.

A composite key is U+0000, the object type, U+0000, and each attribute followed by U+0000, as every Fabric shim builds
it; so keys with equal first parts lie side by side, and no simple key lies among them.
"""

from collections.abc import Sequence
from typing import Final

from .errors import UsageError

__all__ = ["create_composite_key", "split_composite_key"]

SEPARATOR: Final = "\x00"
HIGHEST: Final = "\U0010ffff"
FIRST_SIMPLE_KEY: Final = "\x01"
"""Where a range over all simple keys starts: "" would take in the composite ones."""


def create_composite_key(object_type: str, attributes: Sequence[str]) -> str:
    """The key of these parts.

    Raises:
        UsageError: a part holds U+0000 or U+10FFFF, which mark borders and ends, or can't be written as UTF-8.
    """
    if isinstance(attributes, str):
        raise UsageError("the attributes of a composite key are a list of strings, not one string")
    parts = (object_type, *attributes)
    for part in parts:
        if SEPARATOR in part or HIGHEST in part:
            raise UsageError("a composite key's parts can't hold U+0000 or U+10FFFF")
        require_utf8(part, "a composite key's part")
    return SEPARATOR + SEPARATOR.join(parts) + SEPARATOR


def split_composite_key(key: str) -> tuple[str, tuple[str, ...]]:
    """Object type and attributes of a composite key.

    Raises:
        UsageError: the key is not a composite one.
    """
    if len(key) < 2 or not (key.startswith(SEPARATOR) and key.endswith(SEPARATOR)):
        raise UsageError("the key is not a composite one: those start and end with U+0000")
    object_type, *attributes = key[1:-1].split(SEPARATOR)
    return object_type, tuple(attributes)


def simple_range(start: str, end: str) -> tuple[str, str]:
    """The borders of a range over simple keys, the first included, the last not; "" is open.

    Raises:
        UsageError: a border is a composite key, for which there are partial keys.
    """
    for border in (start, end):
        if border.startswith(SEPARATOR):
            raise UsageError("a range over simple keys can't start or end at a composite key: use a partial key")
        require_utf8(border, "a range's border")
    return start or FIRST_SIMPLE_KEY, end


def composite_range(object_type: str, attributes: Sequence[str]) -> tuple[str, str]:
    """The borders between which all composite keys with these first parts lie."""
    first = create_composite_key(object_type, attributes)
    return first, first + HIGHEST


def require_utf8(text: str, what: str) -> None:
    """Refuse lone surrogates, which no peer could read.

    Raises:
        UsageError: the text can't be written as UTF-8.
    """
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"{what} can't be written as UTF-8") from error
