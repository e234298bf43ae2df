"""A stream of events: read one by one, opened anew where it broke off if so wished."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import TracebackType
from typing import Final, Generic, Protocol, Self, TypeVar

import grpc

from .checkpoints import Position
from .errors import GatewayError

__all__ = ["Events", "Source"]

_Item = TypeVar("_Item")
_Item_co = TypeVar("_Item_co", covariant=True)

# A peer that stops, restarts or is not there yet. The position is kept here, so going on loses and repeats nothing.
_PASSING: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED})
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0
# Read ahead of the consumer; beyond it gRPC's own flow control holds the peer back.
_READ_AHEAD: Final = 16


class Source(Protocol[_Item_co]):
    """Where events come from: a request, from some position on."""

    def stream(self) -> AsyncGenerator[tuple[_Item_co, Position], None]:
        """Events, each with the position behind it. It ends only at its stop, and raises otherwise."""

    def at(self, position: Position) -> Self:
        """The same request from another position on."""

    async def pinned(self) -> Self:
        """The same request with its beginning, if that is the next block, made a number."""


class Events(Generic[_Item]):
    """An asynchronous iterator over events, to be closed: `async with network.chaincode_events(…) as events`.

    A read that is cancelled or timed out loses nothing: the next one gets the event. A stream that ends otherwise than
    by its stop raises GatewayError at every further read; none ends in silence. One task reads.
    """

    def __init__(self, source: Source[_Item], *, reconnect: bool) -> None:
        self._source = source
        self._reconnect = reconnect
        self._items: deque[_Item] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        self._started()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _Item:
        """The next event.

        Raises:
            StopAsyncIteration: the stop was reached, or the stream was closed.
            GatewayError: the peer refused or ended the stream.
            CheckpointError: a chaincode's events are to go on after a transaction that the channel does not have.
            UnsignedError: the request is unsigned and the gateway can't sign.
        """
        while not self._items:
            if self._closed:
                raise StopAsyncIteration
            pump = self._started()
            if pump.done():
                pump.result()  # raises what ended the stream
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        self._room.set()
        return self._items.popleft()

    async def aclose(self) -> None:
        """End the stream and forget what was read ahead; a second time is no error."""
        self._closed = True
        self._items.clear()
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)

    def _started(self) -> asyncio.Task[None]:
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._run())
            self._pump.add_done_callback(lambda _: self._arrived.set())
        return self._pump

    async def _run(self) -> None:
        source = self._source
        pause = _FIRST_PAUSE
        pinned = not self._reconnect
        while True:
            try:
                if not pinned:
                    source = await source.pinned()
                    pinned = True
                async with aclosing(source.stream()) as stream:
                    async for item, position in stream:
                        pause = _FIRST_PAUSE
                        await self._put(item)
                        if self._reconnect:
                            source = source.at(position)
            except GatewayError as error:
                if not self._reconnect or error.code not in _PASSING:
                    raise
            else:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _put(self, item: _Item) -> None:
        while len(self._items) >= _READ_AHEAD:
            self._room.clear()
            await self._room.wait()
        self._items.append(item)
        self._arrived.set()
