"""Flow control: how many calls are under way at a peer at once.

A peer's Gateway service takes 500 calls at a time (`peer.limits.concurrency.gatewayService`), waits for a commit and
streams of chaincode events among them, and refuses the next one. A call therefore waits for a slot here. Those that go
on with a transaction come before those that begin one: else a burst would have everything endorsed before anything is
submitted, and long-endorsed transactions conflict.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

__all__ = ["Slots"]


class Slots:
    """A number of slots, given in order of arrival: first to calls that continue a transaction, then to the rest."""

    def __init__(self, number: int) -> None:
        if number < 1:
            raise ValueError(f"a gateway needs at least one call in flight, not {number}")
        self._free = number
        self._waiting: tuple[deque[asyncio.Future[None]], deque[asyncio.Future[None]]] = (deque(), deque())

    @property
    def free(self) -> int:
        """How many slots nobody holds."""
        return self._free

    @asynccontextmanager
    async def take(self, *, continues: bool) -> AsyncIterator[None]:
        """Hold a slot. `continues`: the call goes on with a transaction that is already endorsed."""
        await self.acquire(continues=continues)
        try:
            yield
        finally:
            self.release()

    async def acquire(self, *, continues: bool) -> None:
        """Wait for a slot; a cancelled wait takes none."""
        if self._free > 0:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._waiting[0 if continues else 1]
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()  # the slot was given while we were being cancelled: pass it on
            else:
                with suppress(ValueError):  # a slot given in the same turn has passed it over already
                    queue.remove(turn)
            raise

    def release(self) -> None:
        """Give a slot back: to the next in turn, if anybody waits."""
        for queue in self._waiting:
            while queue:
                turn = queue.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return
        self._free += 1
