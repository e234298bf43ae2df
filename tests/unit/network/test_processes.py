"""A network's processes as values."""

from dataclasses import replace
from pathlib import Path

from fedfabric.network import NetworkSpec, programs
from fedfabric.network.native import NativeRuntime
from fedfabric.network.processes import PEER_PORTS, Place, peer_process

SPEC = NetworkSpec.parse(b"organisations: [{name: a, orderers: 1}]\nordering: {type: raft}\n")


def test_a_peer_is_another_when_only_the_builder_that_it_read_at_its_start_has_moved(tmp_path):
    runtime = NativeRuntime(tmp_path)
    place = Place("peer0.a", SPEC.organisations[0], dict.fromkeys(PEER_PORTS, 1))
    runtime._programs = programs.Programs(Path("/usr/bin"), Path("/old/builder"), Path("/old/config"))
    before = peer_process(tmp_path, runtime, place, SPEC)
    assert peer_process(tmp_path, runtime, place, SPEC) == before
    runtime._programs = replace(runtime._programs, builder=Path("/new/builder"))
    assert peer_process(tmp_path, runtime, place, SPEC) != before
