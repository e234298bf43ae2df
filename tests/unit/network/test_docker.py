"""The runtime `docker` without an engine: what must hold whatever the engine does."""

import asyncio
import threading

import pytest

pytest.importorskip("docker")

from fedfabric.network.docker import DockerRuntime
from fedfabric.network.runtime import ProcessSpec


async def test_a_start_that_is_cancelled_is_over_before_anybody_takes_things_down(tmp_path, monkeypatch):
    begun, may_end = asyncio.Event(), threading.Event()
    loop, started = asyncio.get_running_loop(), []

    class Container:
        def start(self):
            loop.call_soon_threadsafe(begun.set)
            assert may_end.wait(10)
            started.append(self)

    monkeypatch.setattr(DockerRuntime, "_container", lambda *_: Container())
    runtime = DockerRuntime(tmp_path)
    task = asyncio.create_task(runtime._start(ProcessSpec("one", "peer", ("peer",), {}, tmp_path, ())))
    await begun.wait()
    task.cancel()
    for _ in range(5):  # turns of the loop, in which it would be over if it did not wait
        await asyncio.sleep(0)
    waits = not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert waits
    assert started
