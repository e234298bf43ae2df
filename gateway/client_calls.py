"""Calls that can be awaited or waited for: one method serves asyncio and blocking code.

`await client.jobs.show("job")` runs in the caller's event loop. `client.jobs.show("job").result()` blocks; it runs in a
thread of the client's own, which starts with the first such call and ends with `client.close()`.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any, Generic, TypeVar

__all__ = ["Call", "Portal", "Stream"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Portal:
    """An event loop in a thread, for callers that have none."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def run(self, work: Callable[[], Awaitable[T]], timeout: float | None = None) -> T:
        """Run something in the loop and wait for it.

        Raises:
            TimeoutError: it took longer than so many seconds; it is cancelled.
        """

        async def bounded() -> T:
            async with asyncio.timeout(timeout):
                return await work()

        future = asyncio.run_coroutine_threadsafe(bounded(), self._started())
        try:
            return future.result()
        except BaseException:
            # A KeyboardInterrupt here must not leave the work running.
            future.cancel()
            raise

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="fedfabric client", daemon=True)
                self._thread.start()
            return self._loop

    @property
    def started(self) -> bool:
        """Whether anything was run in it."""
        return self._loop is not None

    def close(self) -> None:
        """End loop and thread."""
        with self._starting:
            if self._loop is None or self._thread is None:
                return
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


class Call(Generic[T_co]):
    """One call: await it, or ask for its `result`. Each of the two makes the call anew."""

    def __init__(self, work: Callable[[], Awaitable[T_co]], portal: Portal) -> None:
        self._work = work
        self._portal = portal

    def __await__(self) -> Generator[Any, None, T_co]:
        return self._work().__await__()

    def result(self, timeout: float | None = None) -> T_co:
        """Make the call and wait for its answer, for `timeout` seconds at most.

        Raises:
            ApiError: the gateway or the ledger said no, or could not be reached.
            TimeoutError: it took longer.
        """
        return self._portal.run(self._work, timeout)


class Stream(Generic[T_co]):
    """A stream of answers: `async for` in a loop, `for` in blocking code."""

    def __init__(self, work: Callable[[], AsyncIterator[T_co]], portal: Portal) -> None:
        self._work = work
        self._portal = portal

    def __aiter__(self) -> AsyncIterator[T_co]:
        return self._work()

    def __iter__(self) -> Iterator[T_co]:
        answers = self._work()

        async def following() -> tuple[T_co] | None:
            try:
                return (await anext(answers),)
            except StopAsyncIteration:
                return None

        async def end() -> None:
            close = getattr(answers, "aclose", None)
            if close is not None:
                await close()

        try:
            while (found := self._portal.run(following)) is not None:
                yield found[0]
        finally:
            self._portal.run(end)
