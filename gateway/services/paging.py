"""How many rows an answer has: as many as are asked for and one message takes."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

from ..errors import InvalidError
from ..limits import Limits
from ..wire import to_message

__all__ = ["fitting", "limit_of", "page"]

_BESIDE: Final = 4096
"""Bytes of a message left for what stands beside its rows."""
_FRAME: Final = 8
"""Bytes around a row in its message."""


AnyRow = TypeVar("AnyRow", bound=Any)  # protobuf


def limit_of(asked: int, limits: Limits) -> int:
    """The rows of a page: as asked, 100 when nothing is asked.

    Raises:
        InvalidError: more than allowed, or fewer than none.
    """
    if not 0 <= asked <= limits.page_rows:
        raise InvalidError(f"a page has 1 to {limits.page_rows} rows", field="limit", code="OUT_OF_RANGE")
    return asked or min(100, limits.page_rows)


def fitting(rows: Iterable[AnyRow], limits: Limits, beside: int = 0) -> list[AnyRow]:
    """The first of some rows, as many as one message takes with `beside` bytes beside them."""
    room = limits.message_bytes - _BESIDE - beside
    found = []
    for row in rows:
        room -= row.ByteSize() + _FRAME
        if room < 0:
            break
        found.append(row)
    return found


def page(found: Sequence[Any], after: str, kind: type[AnyRow], limits: Limits) -> tuple[list[AnyRow], str]:
    """The records of a page that one message takes, as messages, and after which id the next page begins."""
    rows = fitting((to_message(one, kind) for one in found), limits)
    if len(rows) == len(found):
        return rows, after
    return rows, found[max(len(rows), 1) - 1].id
