"""Which unspent rows pay: picked for a caller, and kept from the next caller for a while.

The ledger decides: a row that two transactions spend is a conflict there. The reservation only keeps two callers of
one gateway from being handed the same rows.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

from ..chaincode.records import Token, TokenInput
from .errors import ApiError

__all__ = ["Purse"]

_RESERVED_SECONDS: Final = 60.0
_MOST_INPUTS: Final = 64


class Purse:
    """Picks rows that are not on offer to somebody else."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._reserved: dict[tuple[str, str, int], float] = {}

    def pick(self, rows: Sequence[Token], owner: str, amount: int) -> tuple[tuple[TokenInput, ...], int]:
        """Rows that hold at least an amount, the largest first, and what they hold together.

        Raises:
            ApiError: FUNDS_MISSING; the account has less, or less in the rows that one transaction may spend.
        """
        now = self._clock()
        self._reserved = {name: until for name, until in self._reserved.items() if until > now}
        free = [row for row in rows if (owner, row.tx, row.n) not in self._reserved]
        free.sort(key=lambda row: (-int(row.amount), row.tx, row.n))
        picked: list[Token] = []
        total = 0
        for row in free[:_MOST_INPUTS]:
            if total >= amount:
                break
            picked.append(row)
            total += int(row.amount)
        if total < amount:
            held = sum(int(row.amount) for row in rows)
            text = f"{owner} holds {held} tokens, {amount} are to be paid"
            if held >= amount:
                text = (
                    f"{owner} holds {held} tokens, but {amount} are not in {_MOST_INPUTS} rows that nobody else was "
                    "offered in the last minute; wait, or merge rows with a transfer to the same account"
                )
            raise ApiError(text, code="FUNDS_MISSING")
        for row in picked:
            self._reserved[owner, row.tx, row.n] = now + _RESERVED_SECONDS
        return tuple(TokenInput(tx=row.tx, n=row.n) for row in picked), total
