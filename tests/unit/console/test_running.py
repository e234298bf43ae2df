import asyncio
import os
import signal

import pytest
from fedfabric.console.running import run


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
