"""One transaction as a contract sees it: who calls, at what ledger time, and typed rows read and written by key."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from .records import composite_key, refusals
from .records.canonical import Record
from .records.consortium import Consortium
from .records.events import EVENT_NAME, Event, encode_events
from .records.fields import Account, deadline_over

if TYPE_CHECKING:
    from ..fabric.shim import Stub

AnyRow = TypeVar("AnyRow", bound=Record)


class Call:
    """A transaction in progress. Reads see the state before it, never its own writes, as everywhere in Fabric."""

    def __init__(self, stub: "Stub", consortium: Consortium | None, founders: Sequence[str]) -> None:
        self.tx = stub.tx_id
        self.now = stub.timestamp_ms
        """Ledger time: the proposal's timestamp, milliseconds since 1970."""
        self.msp = stub.creator.msp_id
        self.founders = tuple(founders)
        self._consortium = consortium
        self._stub = stub
        self._events: list[Event] = []
        self._outputs = 0

    @property
    def enrolment_id(self) -> str:
        """The name that the caller's organisation gave to the caller."""
        return self._stub.creator.enrolment_id

    @property
    def founded(self) -> Consortium | None:
        """The consortium's record, None before the founding."""
        return self._consortium

    @property
    def consortium(self) -> Consortium:
        """The consortium's record.

        Raises:
            NoConsortium: there is none yet.
        """
        if self._consortium is None:
            raise refusals.NoConsortium("", "the consortium has not been founded: approve and apply its first record")
        return self._consortium

    def reached(self, deadline_ms: int, window_ms: int) -> int:
        """When a deadline that was set under w = ``window_ms`` is over for everybody."""
        return deadline_over(deadline_ms, window_ms, self.consortium.window_ms)

    async def read(self, key: str, model: type[AnyRow]) -> AnyRow | None:
        """The record at a key, None when there is none."""
        value = await self._stub.get_state(key)
        return model.model_validate_json(value) if value else None

    async def read_many(self, keys: Sequence[str], model: type[AnyRow]) -> list[AnyRow | None]:
        """The records at several keys, in their order."""
        values = await self._stub.get_multiple_states(list(keys)) if keys else []
        return [model.model_validate_json(value) if value else None for value in values]

    async def write(self, key: str, record: Record) -> None:
        """Write a state record, or a row that was seen to be absent."""
        await self._stub.put_state(key, record.canonical())

    async def write_once(self, key: str, record: Record) -> bool:
        """Write a row that is never changed. False: the very same row is there already, and nothing is written.

        Raises:
            Conflict: the row is there with other content.
        """
        present = await self._stub.get_state(key)
        if not present:
            await self._stub.put_state(key, record.canonical())
            return True
        if present != record.canonical():
            raise refusals.Conflict("", "this row was written before with other content, and rows are never changed")
        return False

    async def delete(self, key: str) -> None:
        """Delete a row: unspent tokens are the only ones that are."""
        await self._stub.del_state(key)

    async def page(
        self, kind: str, attributes: Sequence[str], model: type[AnyRow], limit: int, bookmark: str
    ) -> tuple[tuple[AnyRow, ...], str]:
        """Rows under a partial key and the next page's bookmark. For evaluated transactions only.

        Raises:
            InvalidField: the bookmark is none of this list's.
        """
        if bookmark and not bookmark.startswith(composite_key(kind, *attributes)):
            raise refusals.InvalidField("bookmark", "is not a bookmark of this list")
        found = await self._stub.get_state_by_partial_composite_key_with_pagination(kind, attributes, limit, bookmark)
        return tuple(model.model_validate_json(row.value) for row in found.rows), found.bookmark

    async def rows(self, kind: str, attributes: Sequence[str], model: type[AnyRow]) -> tuple[AnyRow, ...]:
        """All rows under a partial key. For evaluated transactions only."""
        found = self._stub.get_state_by_partial_composite_key(kind, attributes)
        return tuple([model.model_validate_json(row.value) async for row in found])

    def emit(self, event: Event) -> None:
        """Add a domain event; all of a transaction's travel in its one channel event."""
        self._events.append(event)
        self._stub.set_event(EVENT_NAME, encode_events(tuple(self._events)))

    def next_output(self) -> int:
        """The number of the transaction's next token row."""
        self._outputs += 1
        return self._outputs - 1

    def require_account(self, account: Account, field: str) -> None:
        """Let only the account's own organisation, or the one holder that it names, go on.

        Raises:
            NotOwner: the caller is neither.
        """
        if account not in (self.msp, f"{self.msp}/{self.enrolment_id}"):
            raise refusals.NotOwner(field, f"the caller is of {self.msp}, and does not own this account")

    def require_member_account(self, account: Account, field: str) -> None:
        """Let tokens go only where somebody can spend them.

        Raises:
            NotAMember: the account's organisation is not a member.
        """
        if self.consortium.member(account.split("/")[0]) is None:
            raise refusals.NotAMember(field, "the account's organisation is not a member of the consortium")
