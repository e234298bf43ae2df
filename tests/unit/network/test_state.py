"""A network's memory on disk."""

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fedfabric.network import NetworkSpec, StateError
from fedfabric.network.state import NetworkState, allocate_ports, operation

SPEC = NetworkSpec.parse(b"organisations: [{name: a, orderers: 1}]\nordering: {type: raft}\n")


def state(**changes):
    return NetworkState(runtime="native", founding=SPEC, spec=SPEC, ports={"peer0.a:listen": 1234}, **changes)


def test_it_is_read_as_it_was_written(tmp_path):
    state(founded=True).save(tmp_path)
    assert NetworkState.load(tmp_path) == state(founded=True)


def test_a_new_folder_has_none(tmp_path):
    assert NetworkState.load(tmp_path) is None
    assert NetworkState.load(tmp_path / "absent") is None


def test_a_write_that_dies_leaves_the_old_file(tmp_path, monkeypatch):
    state().save(tmp_path)

    def die(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(OSError, match="No space"):
        state(founded=True).save(tmp_path)
    assert NetworkState.load(tmp_path) == state()
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_a_first_write_that_was_killed_is_no_obstacle(tmp_path):
    (tmp_path / "state.new").write_text("{")
    with operation(tmp_path):
        assert NetworkState.load(tmp_path) is None
        state().save(tmp_path)
    assert NetworkState.load(tmp_path) == state()


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("all my work")
    with pytest.raises(StateError, match=r"is not a network's folder \(it has thesis.txt"):
        NetworkState.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"format": 1}', b'{"format": 1, "runtime": 3}'])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "state.json").write_bytes(content)
    with pytest.raises(StateError, match=r"state.json .*(damaged|format None)"):
        NetworkState.load(tmp_path)


def test_another_versions_state_is_named(tmp_path):
    state().save(tmp_path)
    values = json.loads((tmp_path / "state.json").read_text())
    (tmp_path / "state.json").write_text(json.dumps({**values, "format": 99}))
    with pytest.raises(StateError, match="format 99, this fedfabric reads format 1"):
        NetworkState.load(tmp_path)


def test_another_network_in_the_folder_is_named_by_what_differs(tmp_path):
    state().require_same(SPEC, "native", tmp_path)
    with pytest.raises(StateError, match="with other channel, window_ms than"):
        state().require_same(SPEC.model_copy(update={"channel": "x", "window_ms": 77_000}), "native", tmp_path)
    with pytest.raises(StateError, match="under the runtime native, not docker"):
        state().require_same(SPEC, "docker", tmp_path)


def test_ports_are_free_distinct_and_below_those_of_outgoing_connections():
    names = [f"p{number}" for number in range(200)]
    ports = allocate_ports(names)
    assert list(ports) == names
    assert len(set(ports.values())) == 200
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert max(ports.values()) < lowest or lowest < 12_000


def test_taken_ports_are_left_out():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        wanted = set(range(10_000, 32_768)) - {12_345, 12_346}
        assert set(allocate_ports(["a", "b"], taken=wanted).values()) == {12_345, 12_346}
        with pytest.raises(StateError, match="no 3 free ports"):
            allocate_ports(["a", "b", "c"], taken=range(10_000, 65_536))


def test_one_command_at_a_time_and_a_dead_one_holds_nothing(tmp_path):
    code = (
        "import sys, pathlib; from fedfabric.network.state import operation\n"
        "with operation(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StateError, match="another command is changing"), operation(tmp_path):
            pass
        holder.kill()
    with operation(tmp_path):
        pass


def test_an_operation_on_a_folder_of_others_leaves_nothing_in_it(tmp_path):
    (tmp_path / "thesis.txt").write_text("all my work")
    with pytest.raises(StateError, match=r"it has thesis\.txt, .*name an empty one"), operation(tmp_path):
        pytest.fail("it was entered")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("there", [True, False])
def test_an_operation_that_founds_nothing_leaves_the_folder_as_it_was(tmp_path, there):
    home = tmp_path / "net"
    if there:
        home.mkdir()

    def attempt():
        with operation(home):
            raise StateError("no such runtime here")

    with pytest.raises(StateError, match="no such runtime"):
        attempt()
    assert home.exists() == there
    assert not there or list(home.iterdir()) == []


def test_a_founded_network_keeps_its_lock(tmp_path):
    with operation(tmp_path):
        state().save(tmp_path)
    assert (tmp_path / "operation.lock").exists()


def test_the_lock_of_whoever_came_after_a_wipe_is_left_alone(tmp_path):
    home = tmp_path / "net"
    with operation(home):
        shutil.rmtree(home)
        home.mkdir()
        (home / "operation.lock").write_text("another's")
    assert (home / "operation.lock").exists()


def test_a_lock_that_its_holder_removed_meanwhile_holds_nothing(tmp_path, monkeypatch):
    flock = fcntl.flock

    def late(lock, mode):
        (tmp_path / "operation.lock").unlink()  # as the command does that was before this one, at its end
        flock(lock, mode)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(StateError, match="another command is changing"), operation(tmp_path):
        pytest.fail("it was entered")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be written"), operation(tmp_path / "file" / "net"):
        pass
