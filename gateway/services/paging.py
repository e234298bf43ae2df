"""How many rows a list answers with."""

from ..errors import InvalidError
from ..limits import Limits

__all__ = ["limit_of"]


def limit_of(asked: int, limits: Limits) -> int:
    """The rows of a page: as asked, 100 when nothing is asked.

    Raises:
        InvalidError: more than allowed, or fewer than none.
    """
    if not 0 <= asked <= limits.page_rows:
        raise InvalidError(f"a page has 1 to {limits.page_rows} rows", field="limit", code="OUT_OF_RANGE")
    return asked or min(100, limits.page_rows)
