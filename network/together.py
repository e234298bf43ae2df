"""Waiting for several things at once: all that were begun are over, whatever happens, before this is."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def together(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all, and return their results in order; when one fails the others are cancelled and awaited first."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except BaseExceptionGroup as failures:
        failure: BaseException = failures
        while isinstance(failure, BaseExceptionGroup):
            failure = failure.exceptions[0]
        raise failure from failure.__cause__
    return [task.result() for task in tasks]


async def settled(*coroutines: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run all to their ends, even if this is cancelled meanwhile, and return their results or raise the first failure.

    For steps that must not be left half-way, such as one in a thread, which nobody can cancel.
    """
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        await asyncio.wait(tasks)
        for task in tasks:
            task.exception()
        raise
    failures = [failure for task in tasks if (failure := task.exception())]
    if failures:
        raise failures[0]
    return [task.result() for task in tasks]
