"""The supervisor of native networks, with small programs in the place of Fabric's."""

import asyncio
import contextlib
import datetime
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
import pytest_asyncio
from fedfabric.network import PortError, ProcessError
from fedfabric.network.native import NativeRuntime, _until_released
from fedfabric.network.programs import Programs
from fedfabric.network.runtime import ProcessSpec
from fedfabric.network.state import allocate_ports

LISTEN = """
import signal, socket, sys
listener = socket.socket(); listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1]))); listener.listen(); print("listening", flush=True)
"""


@pytest_asyncio.fixture
async def runtime(tmp_path):
    home = tmp_path / ("a" * 60) / ("b" * 60)  # a socket's address has at most 107 bytes
    home.mkdir(parents=True)
    runtime = NativeRuntime(home)
    yield runtime
    await runtime.close()


def server(runtime, name, code="signal.pause()", folder=None, before=""):
    port = allocate_ports([name])[name]
    program = f"{before}{LISTEN}\n{code}\n"
    return ProcessSpec(name, "chaincode", ("python", "-c", program, str(port)), {}, folder or runtime._home, (port,))


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def program(code, *arguments):
    """Run Python code as a process of its own; yields it with its first line of output."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process, process.stdout.readline()
        process.kill()


async def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    return value


async def running(runtime, name, other_than=None):
    deadline = time.monotonic() + 10
    while True:
        state = (await runtime.states())[name]
        if state.running and state.pid != other_than:
            return state
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_processes_are_started_at_once_and_found_listening(runtime):
    assert await runtime.open()
    specs = [server(runtime, f"server{number}") for number in range(4)]
    await runtime.start(specs)
    states = await runtime.states()
    assert set(states) == {spec.name for spec in specs}
    assert all(state.running and state.restarts == 0 for state in states.values())
    for spec in specs:
        with socket.create_connection(("127.0.0.1", spec.ports[0])):
            pass


async def test_a_killed_process_is_started_again_and_the_reason_is_kept(runtime):
    await runtime.open()
    await runtime.start([server(runtime, "one")])
    first = (await runtime.states())["one"]
    os.kill(first.pid, signal.SIGKILL)
    second = await running(runtime, "one", first.pid)
    assert second.restarts == 1
    assert second.last_exit.startswith("signal 9 at ")
    journal = (runtime._home / "logs" / "supervisor.log").read_text()
    assert '"event": "ended", "process": "one"' in journal


async def test_a_killed_process_is_started_again_although_the_journals_disk_is_full(runtime):
    (runtime._home / "logs").mkdir()
    (runtime._home / "logs" / "supervisor.log").symlink_to("/dev/full")
    await runtime.open()
    await runtime.start([server(runtime, "one")])
    for _ in range(2):
        before = (await runtime.states())["one"]
        os.kill(before.pid, signal.SIGKILL)
        await running(runtime, "one", before.pid)
    assert (await runtime.states())["one"].restarts == 2


async def test_a_process_that_dies_at_its_start_is_told_with_its_last_words(runtime):
    await runtime.open()
    spec = ProcessSpec("bad", "chaincode", ("sh", "-c", "echo no such key >&2; exit 3"), {}, runtime._home, (9,))
    with pytest.raises(ProcessError, match=r"bad died \(exit code 3 at [^\n]*\nno such key"):
        await runtime.start([spec])


async def test_a_panic_is_told_with_its_reason_and_not_only_with_the_end_of_its_stack(runtime):
    await runtime.open()
    script = "echo panic: address already in use; seq -f 'goroutine frame %g' 100; exit 2"
    spec = ProcessSpec("bad", "peer", ("sh", "-c", script), {}, runtime._home, (9,))
    with pytest.raises(ProcessError, match=r"\npanic: address already in use\ngoroutine frame 1\n"):
        await runtime.start([spec])


async def test_a_program_that_is_not_there_is_told(runtime):
    await runtime.open()
    with pytest.raises(ProcessError, match=r"No such file or directory: .*nowhere"):
        await runtime.start([ProcessSpec("bad", "chaincode", ("/nowhere",), {}, runtime._home, ())])


async def test_a_process_that_never_listens_is_told(runtime, monkeypatch):
    monkeypatch.setattr("fedfabric.network.native.READY_SECONDS", 0.3)
    await runtime.open()
    port = allocate_ports(["deaf"])["deaf"]
    with pytest.raises(ProcessError, match="deaf does not listen"):
        await runtime.start([ProcessSpec("deaf", "chaincode", ("sleep", "60"), {}, runtime._home, (port,))])


async def test_a_port_in_use_is_named_with_its_holder(runtime):
    await runtime.open()
    spec = server(runtime, "one")
    with program(LISTEN + "\nsys.stdin.read()", spec.ports[0]) as (holder, line):
        assert line == b"listening\n"
        with pytest.raises(PortError, match=rf"port {spec.ports[0]}, which one needs, .*python.*process {holder.pid}"):
            await runtime.start([spec])
    assert (await runtime.states()) == {}


async def test_what_runs_as_specified_is_left_alone_and_what_changed_is_started_anew(runtime):
    await runtime.open()
    spec = server(runtime, "one")
    await runtime.start([spec])
    first = (await runtime.states())["one"]
    await runtime.start([spec])
    assert (await runtime.states())["one"] == first
    changed = ProcessSpec(spec.name, spec.kind, spec.command, {"NEW": "1"}, spec.folder, spec.ports)
    await runtime.start([changed])
    assert (await runtime.states())["one"].pid != first.pid
    assert not alive(first.pid)


async def test_a_peer_whose_builder_alone_has_moved_is_started_anew(runtime, tmp_path):
    peer = tmp_path / "peer"
    peer.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{LISTEN}\nsignal.pause()' $1\n")
    peer.chmod(0o755)
    runtime._programs = Programs(tmp_path, tmp_path / "old", tmp_path)
    await runtime.open()
    port = allocate_ports(["one"])["one"]
    spec = ProcessSpec("one", "peer", ("peer", str(port)), {}, runtime._home, (port,))
    await runtime.start([spec])
    first = (await runtime.states())["one"]
    await runtime.start([spec])
    assert (await runtime.states())["one"] == first
    runtime._programs = Programs(tmp_path, tmp_path / "new", tmp_path)
    await runtime.start([spec])
    assert (await runtime.states())["one"].pid != first.pid


async def test_stopped_processes_stay_down_and_can_be_restarted_or_removed(runtime):
    await runtime.open()
    await runtime.start([server(runtime, "one")])
    await runtime.stop("one")
    assert not (await runtime.states())["one"].running
    await runtime.restart("one")
    assert (await runtime.states())["one"].running
    await runtime.remove("one")
    assert (await runtime.states()) == {}
    with pytest.raises(ProcessError, match="there is no process one"):
        await runtime.restart("one")


async def test_a_process_that_ignores_sigterm_is_killed_with_what_it_started(runtime):
    await runtime.open()
    code = (
        "import subprocess; child = subprocess.Popen(['sleep', '600'], stdout=subprocess.DEVNULL);"
        "print('child', child.pid, flush=True)\nwhile True: signal.pause()"
    )
    await runtime.start(
        [server(runtime, "stubborn", code, before="import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n")]
    )
    log = runtime._home / "logs" / "stubborn.log"
    await until(lambda: "child" in log.read_text())
    grandchild = int(log.read_text().split("child ")[1].split()[0])
    pid = (await runtime.states())["stubborn"].pid
    began = time.monotonic()
    await runtime.close()
    assert time.monotonic() - began < 3
    assert not alive(pid)
    assert not alive(grandchild)


async def test_children_die_with_a_killed_supervisor_and_can_be_brought_back(runtime):
    await runtime.open()
    spec = server(runtime, "one")
    await runtime.start([spec])
    await runtime.keep()
    pid = (await runtime.states())["one"].pid
    supervisor = psutil.Process(pid).parent()
    supervisor.kill()
    await until(lambda: not alive(pid))
    assert await runtime.states() == {}
    assert await runtime.open()
    await runtime.start([spec])
    assert (await runtime.states())["one"].running


async def test_a_kept_network_outlives_its_owner_and_another_does_not(tmp_path):
    code = (
        "import asyncio, pathlib, signal, sys\n"
        "from fedfabric.network.native import NativeRuntime\n"
        "from fedfabric.network.runtime import ProcessSpec\n"
        "async def main():\n"
        "    home = pathlib.Path(sys.argv[1])\n"
        "    runtime = NativeRuntime(home)\n"
        "    await runtime.open()\n"
        "    await runtime.start([ProcessSpec('one', 'chaincode', ('sleep', '600'), {}, home, ())])\n"
        "    if sys.argv[2] == 'keep': await runtime.keep()\n"
        "    print((await runtime.states())['one'].pid, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    pids = {}
    try:
        for mode in ("keep", "attached"):
            home = tmp_path / mode
            home.mkdir()
            with program(code, home, mode) as (_owner, line):
                pids[mode] = int(line)
                assert alive(pids[mode])
        await until(lambda: not alive(pids["attached"]))
        assert alive(pids["keep"])
        adopted = NativeRuntime(tmp_path / "keep")
        assert not await adopted.open()
        assert (await adopted.states())["one"].pid == pids["keep"]
    finally:
        for mode in pids:
            await NativeRuntime(tmp_path / mode).close()
    assert not alive(pids["keep"])


async def test_abandoning_ends_what_this_process_began_and_nothing_that_was_there(runtime):
    await runtime.open()
    await runtime.start([server(runtime, "one")])
    visitor = NativeRuntime(runtime._home)
    await visitor.open()
    await visitor.abandon()
    assert (await runtime.states())["one"].running
    await runtime.abandon()
    assert await runtime.states() == {}


async def test_a_supervisor_whose_owner_dies_before_its_first_word_ends(tmp_path):
    listened, owner = os.pipe()
    command = [sys.executable, "-m", "fedfabric.network.supervisor", tmp_path]
    subprocess.run(command, stdin=listened, check=True)  # noqa: ASYNC221
    os.close(listened)
    assert (tmp_path / "supervisor.sock").exists()
    os.close(owner)
    await until(lambda: not (tmp_path / "supervisor.sock").exists())
    assert "the owner went away" in (tmp_path / "logs" / "supervisor.log").read_text()


async def test_a_supervisor_that_does_not_answer_is_given_up_by_name(runtime, monkeypatch):
    await runtime.open()
    await runtime.start([server(runtime, "one")])
    supervisor = psutil.Process((await runtime.states())["one"].pid).parent()
    monkeypatch.setattr("fedfabric.network.native.ANSWER_SECONDS", 0.2)
    supervisor.suspend()
    try:
        for question in (runtime.states(), runtime.close()):
            with pytest.raises(ProcessError, match=r"has not answered for 0\.2 s: end the process"):
                await asyncio.wait_for(question, 10)
    finally:
        supervisor.resume()
    monkeypatch.undo()
    await _until_released(runtime._home / "supervisor.lock")  # it goes on, and does what it was told meanwhile


async def test_a_supervisor_that_does_not_end_is_given_up_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr("fedfabric.network.native.ANSWER_SECONDS", 0.2)
    with (tmp_path / "supervisor.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ProcessError, match=r"has not answered for 0\.2 s"):
            await asyncio.wait_for(_until_released(tmp_path / "supervisor.lock"), 10)
    await asyncio.wait_for(_until_released(tmp_path / "supervisor.lock"), 10)


async def test_a_crash_loop_slows_down(runtime):
    await runtime.open()
    with pytest.raises(ProcessError):
        await runtime.start([ProcessSpec("loop", "chaincode", ("false",), {}, runtime._home, (9,))])
    deadline = time.monotonic() + 10
    while (await runtime.states())["loop"].restarts < 3:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    lines = (runtime._home / "logs" / "supervisor.log").read_text().splitlines()
    events = [json.loads(line) for line in lines if '"loop"' in line]
    times = {"started": [], "ended": []}
    for event in events:
        times[event["event"]].append(datetime.datetime.fromisoformat(event["time"]).timestamp())
    pauses = [start - end for end, start in zip(times["ended"], times["started"][1:], strict=False)]
    assert pauses[0] >= 0.09
    assert pauses[1] >= 0.19
    assert pauses[2] >= 0.39


def test_a_specification_shows_no_environment():
    spec = ProcessSpec("one", "peer", ("peer",), {"SECRET": "hush"}, None, ())
    assert "hush" not in repr(spec)
