"""Runs a command's coroutine so that Ctrl-C and SIGTERM end it in order: cancelled once, then left to clean up."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end. The first signal cancels the coroutine; later ones are told to wait, since cleaning up takes
    seconds and half of it would leave processes running.

    Raises KeyboardInterrupt when a signal ended it.
    """
    return asyncio.run(_supervised(coroutine))


async def _supervised(coroutine: Coroutine[Any, Any, Result]) -> Result:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(coroutine)
    signalled = False

    def stop() -> None:
        nonlocal signalled
        if signalled:
            sys.stderr.write("still stopping what was started, a moment ...\n")
        signalled = True
        if not task.cancelling():
            task.cancel()

    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in caught:
        loop.add_signal_handler(number, stop)
    try:
        return await task
    except asyncio.CancelledError:
        if signalled:
            raise KeyboardInterrupt from None
        raise
    finally:
        for number in caught:
            loop.remove_signal_handler(number)


async def to_its_end(cleaning: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Do something that must come to its end even if the one who waits for it is cancelled meanwhile."""
    task = asyncio.ensure_future(cleaning())
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
    if cancelled is not None:
        raise cancelled
    return task.result()
