"""The contracts, run again: what a transaction must have answered and written, given the state before it.

Contracts are deterministic, so an auditor needs no second description of their rules: it runs them, over the state
that it has replayed, with the arguments, certificate and time in the block, and compares. The chaincode's own clock is
the proposal's timestamp here; whether the two agreed within w, the endorsers have judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import ValidationError

from ..chaincode.chaincode import LedgerChaincode
from ..chaincode.records import Consortium, ConsortiumChange, consortium_key
from ..chaincode.settings import Settings
from ..fabric.shim import Invocation, Response, Stub, UsageError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from ..fabric.blocks import Action, Transaction
    from .state import State

_LOWEST_REFUSAL: Final = 400
_MAX_FOUNDING_LISTS: Final = 8
_T = TypeVar("_T")


@dataclass(frozen=True)
class Rerun:
    """What the contracts gave: their response, the rows (b"" deletes), the keys read, the event."""

    response: Response
    writes: dict[str, bytes]
    reads: frozenset[str]
    event: tuple[str, bytes] | None


class Replayer:
    """Runs the contracts on the transactions of blocks, over a state that the caller keeps. Changes nothing itself."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._now_ms = 0
        self._chaincodes: dict[tuple[str, ...], LedgerChaincode] = {}
        self._look_ups = frozenset(name for name, one in self._chaincode(()).transactions.items() if one.evaluate_only)

    def is_look_up(self, action: Action) -> bool:
        """Whether a transaction calls what is declared for reading only."""
        return bool(action.arguments) and action.arguments[0].decode("utf-8", "replace") in self._look_ups

    def run(self, transaction: Transaction, action: Action) -> Rerun:
        """Run one transaction over the state before it."""
        stub = _ReplayStub(
            Invocation(
                channel_id=transaction.channel_name,
                tx_id=transaction.transaction_id,
                args=action.arguments,
                creator_bytes=transaction.creator_bytes,
                timestamp_ms=transaction.timestamp_ms,
            ),
            self._state,
        )
        self._now_ms = transaction.timestamp_ms
        response = _finish(self._chaincode(_founders(self._state, action)).invoke(stub))
        if response.status >= _LOWEST_REFUSAL:
            return Rerun(response, {}, frozenset(stub.read_keys), None)
        return Rerun(response, stub.written, frozenset(stub.read_keys), stub.event)

    def _chaincode(self, founders: tuple[str, ...]) -> LedgerChaincode:
        if founders not in self._chaincodes:
            if len(self._chaincodes) >= _MAX_FOUNDING_LISTS:
                self._chaincodes.clear()
            self._chaincodes[founders] = LedgerChaincode(Settings(founders), lambda: self._now_ms)
        return self._chaincodes[founders]


def founders_of(state: State) -> tuple[str, ...]:
    """Return the members of the consortium's present record, () before its founding."""
    value = state.value(consortium_key())
    return tuple(member.msp for member in Consortium.model_validate_json(value).members) if value else ()


def _founders(state: State, action: Action) -> tuple[str, ...]:
    """Return the founding list that a founding transaction names.

    Each server endorses only the list that its operator agreed to, so the endorsements speak for it; the report shows
    it for comparison.
    """
    if len(action.arguments) != 2 or state.value(consortium_key()):
        return ()
    try:
        change = ConsortiumChange.model_validate_json(action.arguments[1])
    except ValidationError:
        return ()
    return tuple(member.msp for member in change.members)


class _ReplayStub(Stub):
    """The ledger as the contracts see it, from the replayed state; nothing here ever waits."""

    def __init__(self, invocation: Invocation, state: State) -> None:
        super().__init__(invocation, _NoPeer())
        self._state = state
        self.written: dict[str, bytes] = {}
        self.read_keys: set[str] = set()

    async def get_state(self, key: str) -> bytes:
        self.read_keys.add(key)
        return self._state.value(key)

    async def get_multiple_states(self, keys: Sequence[str]) -> list[bytes]:
        return [await self.get_state(key) for key in keys]

    async def put_state(self, key: str, value: bytes) -> None:
        self._write(key, value)

    async def del_state(self, key: str) -> None:
        self._write(key, b"")

    def _write(self, key: str, value: bytes) -> None:  # type: ignore[override]
        if self.read_only:
            raise UsageError("this transaction is for reading only")
        self.written[key] = value


class _NoPeer:
    """There is no peer: what the replayed state can't answer is refused."""

    def send(self, message_type: int, payload: bytes) -> Any:  # noqa: ARG002
        raise UsageError("a transaction on the ledger reads by key only")

    def settled(self) -> None:
        return None


def _finish(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine that never waits to its end, with no event loop."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    coroutine.close()
    raise UsageError("the contract waited for something else than the ledger")
