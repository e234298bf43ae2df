import asyncio
import os
import signal

import pytest
from fedfabric.console.running import run, to_its_end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cancels_the_command_which_cleans_up_undisturbed_by_a_second_one(number):
    cleaned = []

    async def command():
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), number)  # an impatient user: cleaning up goes on
            for _ in range(3):
                await asyncio.sleep(0)
            cleaned.append(True)

    with pytest.raises(KeyboardInterrupt):
        run(command())
    assert cleaned == [True]


def test_a_commands_result_and_errors_pass_through():
    async def fails():
        raise ValueError("as it was")

    async def succeeds():
        return 7

    assert run(succeeds()) == 7
    with pytest.raises(ValueError, match="as it was"):
        run(fails())


def test_the_signal_handlers_are_as_before_when_the_command_has_ended():
    before = signal.getsignal(signal.SIGTERM)

    async def nothing():
        return None

    run(nothing())
    assert signal.getsignal(signal.SIGTERM) == before


async def test_what_must_come_to_its_end_does_so_though_its_waiter_is_cancelled_twice():
    let_it_end, ended = asyncio.Event(), []

    async def cleaning():
        await let_it_end.wait()
        ended.append(True)

    waiter = asyncio.create_task(to_its_end(cleaning))
    for _ in range(2):
        await asyncio.sleep(0)
        waiter.cancel()
    await asyncio.sleep(0)
    assert not waiter.done()
    let_it_end.set()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert ended == [True]


async def test_what_must_come_to_its_end_passes_its_result_and_its_failure_on():
    async def succeeds():
        return 7

    async def fails():
        raise ValueError("as it was")

    assert await to_its_end(succeeds) == 7
    with pytest.raises(ValueError, match="as it was"):
        await to_its_end(fails)
