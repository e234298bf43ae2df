"""Conservation of tokens: what a transaction writes, it has deleted or minted; all rows together are all mints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..chaincode.records import Mint, Token, composite_key
from ..fabric.shim import ShimError, split_composite_key
from .links import describe_key
from .report import Check, Findings
from .state import RecordBrokenError, State, read_record

if TYPE_CHECKING:
    from ..fabric.blocks import NamespaceAccess, Write


class TokenAuditor:
    """Takes the writes of valid transactions before they are applied. Knows no contract's rules but the sum."""

    def __init__(self, state: State, findings: Findings) -> None:
        self._state = state
        self._findings = findings
        self._supply = 0

    @property
    def supply(self) -> int:
        """Tokens minted so far."""
        return self._supply

    def take(self, access: NamespaceAccess, link: str) -> None:
        """Check that a transaction makes and loses no token."""
        spent = made = minted = 0
        touched = False
        for write in access.writes:
            kind = _kind(write.key)
            if kind == "mint" and not write.is_delete:
                touched = True
                minted += self._minted(write, link)
            elif kind == "token":
                touched = True
                spent += self._amount(write.key, self._state.value(write.key), link)
                if not write.is_delete:
                    made += self._amount(write.key, write.value, link)
        if not touched:
            return
        self._findings.made(Check.TOKENS)
        self._supply += minted
        if spent + minted != made:
            self._findings.broken(
                Check.TOKENS, link, f"it spends {spent}, mints {minted} and writes {made}: the sums differ"
            )

    def finish(self) -> None:
        """Check that the rows that are left are all that was minted."""
        self._findings.made(Check.TOKENS)
        left = sum(
            self._amount(key, value, "the ledger's end") for key, value in self._state.rows(composite_key("token"))
        )
        if left != self._supply:
            self._findings.broken(
                Check.TOKENS, "the ledger's end", f"the rows hold {left}, and {self._supply} were minted"
            )

    def _minted(self, write: Write, link: str) -> int:
        try:
            return int(read_record(write.value, Mint).mint.amount)
        except RecordBrokenError as error:
            self._findings.broken(Check.TOKENS, link, f"{describe_key(write.key)}: {error}")
            return 0

    def _amount(self, key: str, value: bytes, link: str) -> int:
        if not value:
            return 0
        try:
            token = read_record(value, Token)
        except RecordBrokenError as error:
            self._findings.broken(Check.TOKENS, link, f"{describe_key(key)}: {error}")
            return 0
        if key != composite_key("token", token.owner, token.tx, f"{token.n:04d}"):
            self._findings.broken(Check.TOKENS, link, f"the {describe_key(key)} holds another row")
        return int(token.amount)


def _kind(key: str) -> str:
    try:
        return split_composite_key(key)[0]
    except ShimError:
        return ""
