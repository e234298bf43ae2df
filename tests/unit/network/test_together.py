"""Several things at once, none of which is left behind."""

import asyncio

import pytest
from fedfabric.network.together import settled, together


async def value(number):
    await asyncio.sleep(0)
    return number


async def failing(error):
    await asyncio.sleep(0)
    raise error


async def test_results_come_in_order():
    assert await together(value(number) for number in range(3)) == [0, 1, 2]
    assert await settled(value(1), value(2)) == [1, 2]


async def test_the_first_failure_is_raised_as_itself_after_the_others_were_cancelled():
    ended = []

    async def patient():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with pytest.raises(KeyError):
        await together([patient(), failing(KeyError("x")), patient()])
    assert ended == [True, True]


async def test_a_failure_waits_for_what_cannot_be_left_half_way():
    ended = []

    async def slow():
        for _ in range(5):
            await asyncio.sleep(0)
        ended.append(True)

    with pytest.raises(KeyError):
        await settled(slow(), failing(KeyError("x")))
    assert ended == [True]


async def test_a_cancelled_wait_waits_too():
    going, ended = asyncio.Event(), []

    async def slow():
        going.set()
        for _ in range(5):
            await asyncio.sleep(0)
        ended.append(True)

    task = asyncio.create_task(settled(slow()))
    await going.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]
