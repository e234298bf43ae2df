"""Native networks under interrupts, kills, taken ports, full disks and folders of others."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time

import psutil
import pytest
from fedfabric.network import (
    Network,
    OrganisationSpec,
    PortError,
    ProcessError,
    ReadinessError,
    SpecificationError,
    StateError,
    programs,
)
from fedfabric.network.pytest_plugin import raft_specification
from fedfabric.tests.network.network.clients import eventually, get, put, until

pytestmark = pytest.mark.network

BRING_UP = """
import asyncio, pathlib, sys
from fedfabric.network import Network, NetworkSpec
spec = NetworkSpec.model_validate_json(pathlib.Path(sys.argv[1]).read_text())
network = Network(spec, home=pathlib.Path(sys.argv[2]))
asyncio.run(network.up(lambda line: print(line, flush=True)))
print("up", flush=True)
sys.stdin.read()
"""
STEPS = ("founding", "starting", "joining", "agreeing", "committing")


@pytest.fixture
def spec(network_chaincodes):
    return raft_specification(network_chaincodes)


@contextlib.contextmanager
def command(tmp_path, spec, home):
    """A process that brings a network up, and prints its steps."""
    described = tmp_path / "spec.json"
    described.write_text(spec.model_dump_json())
    with subprocess.Popen(
        [sys.executable, "-c", BRING_UP, described, home],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def of_network(home):
    """The processes that name the network's folder: its supervisor, and all that it started."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = [*process.cmdline(), *process.environ().values()]
            if process.pid != os.getpid() and any(str(home) in word for word in words):
                found.append(process)
    return found


def gone(home, seconds=5):
    deadline = time.monotonic() + seconds
    while of_network(home):
        assert time.monotonic() < deadline, of_network(home)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("step", STEPS)
async def test_an_interrupted_bring_up_leaves_nothing_running_and_can_be_repeated(tmp_path, spec, step, number):
    home = tmp_path / "net"
    with command(tmp_path, spec, home) as process:
        for line in process.stdout:
            if line.startswith(step):
                process.send_signal(number)
        assert process.wait() != 0
    gone(home)
    if step == "joining":  # half-way: everything is there in part
        async with Network(spec, home=home) as network:
            await put(network, "alpha", "after")


async def test_a_network_outlives_its_command_and_goes_down_whole_and_alone(tmp_path, spec, raft_network):
    home = tmp_path / "net"
    with command(tmp_path, spec, home) as process:
        lines = iter(process.stdout)
        assert "up\n" in lines
    network = Network.open(home)
    try:
        assert (await network.status()).up
        await put(network, "beta", "from-outside")
    finally:
        began = time.monotonic()
        await network.down()
    assert time.monotonic() - began < 2
    gone(home)
    await network.down(wipe=True)
    assert not home.exists()
    await network.down()  # nothing to do is no error
    assert (await raft_network.status()).up


async def test_a_network_whose_supervisor_was_killed_is_repaired(tmp_path, spec):
    async with Network(spec, home=tmp_path / "net") as network:
        await put(network, "alpha", "kept")
        pid = (await network.process("peer0.alpha")).pid
        psutil.Process(pid).parent().kill()
        await until(lambda: asyncio.sleep(0, not psutil.pid_exists(pid)))
        assert not (await network.status()).up
        await network.up(keep=False)
        assert await get(network, "beta", "kept") == b"1"


async def test_a_network_comes_up_where_its_folder_and_the_cache_have_moved_to(tmp_path, spec, monkeypatch):
    built = programs.ensure().config.parent
    caches = [tmp_path / "first", tmp_path / "second", tmp_path / "third"]
    caches[0].mkdir()
    (caches[0] / built.name).symlink_to(built)
    monkeypatch.setenv("FEDFABRIC_CACHE", str(caches[0]))
    async with Network(spec, home=tmp_path / "net") as network:
        await put(network, "alpha", "before")
    (tmp_path / "net").rename(tmp_path / "moved")
    caches[0].rename(caches[1])
    monkeypatch.setenv("FEDFABRIC_CACHE", str(caches[1]))
    moved = Network.open(tmp_path / "moved")
    try:
        await moved.up(keep=False)
        assert await get(moved, "beta", "before") == b"1"
        more = spec.chaincodes[0].model_copy(update={"name": "kv-more"})
        await moved.deploy(more)  # which asks the builder
        await put(moved, "alpha", "after", chaincode="kv-more")

        caches[1].rename(caches[2])  # under a running network
        with pytest.raises(ReadinessError, match=r"InstallChaincode: .*could not build chaincode"):
            await moved.deploy(more.model_copy(update={"name": "kv-yet-more"}))
        monkeypatch.setenv("FEDFABRIC_CACHE", str(caches[2]))
        again = Network.open(tmp_path / "moved")
        await again.up(keep=False)
        await again.deploy(more.model_copy(update={"name": "kv-yet-more"}))
        await put(again, "beta", "after", chaincode="kv-yet-more")
    finally:
        await moved.down()


GROW = """
import asyncio, pathlib, sys
from fedfabric.network import ChaincodeSpec, Network, OrganisationSpec
network = Network.open(pathlib.Path(sys.argv[1]))
say = lambda line: print(line, flush=True)
if sys.argv[2] == "organisation":
    change = network.add_organisation(OrganisationSpec(name="gamma"), say)
else:
    described = network.spec.chaincodes[0].model_copy(update={"name": "kv-more"})
    change = network.deploy(described, say)
asyncio.run(change)
"""


@contextlib.contextmanager
def growing(home, what):
    with subprocess.Popen(
        [sys.executable, "-c", GROW, home, what], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("step", ["starting", "changing", "joining", "committing"])
async def test_a_killed_onboarding_is_taken_back_by_the_next_up(tmp_path, spec, step):
    home = tmp_path / "net"
    async with Network(spec, home=home):
        with growing(home, "organisation") as process:
            for line in process.stdout:
                if line.startswith(step):
                    process.kill()
            assert process.wait() == -signal.SIGKILL
        again = Network.open(home)
        with pytest.raises(ProcessError, match="the joining of gamma was interrupted"):
            await again.add_organisation(OrganisationSpec(name="delta"))
        await again.up(keep=False)
        assert not any(name.endswith(".gamma") for name in await again.runtime.states())
        await put(again, "alpha", "without-gamma")
        await again.add_organisation(OrganisationSpec(name="gamma"))
        await put(again, "gamma", "with-gamma")


async def test_a_killed_deployment_is_completed_by_the_next_up(tmp_path, spec):
    home = tmp_path / "net"
    async with Network(spec, home=home) as network:
        with growing(home, "chaincode") as process:
            assert process.stdout.readline().startswith("starting")
            process.kill()
        again = Network.open(home)
        await again.up(keep=False)
        await put(again, "beta", "more", chaincode="kv-more")
        await network.up(keep=False)
        await put(network, "alpha", "more", chaincode="kv-more")


async def test_several_peers_orderers_and_chaincodes_with_policies_of_their_own(tmp_path, spec):
    own = spec.chaincodes[0].model_copy(update={"name": "kv-own", "endorsement": "OR('AlphaMSP.peer')", "probe": None})
    alpha = spec.organisations[0].model_copy(update={"peers": 2, "orderers": 3})
    wide = spec.model_copy(
        update={"organisations": (alpha, *spec.organisations[1:]), "chaincodes": (*spec.chaincodes, own)}
    )
    async with Network(wide, home=tmp_path / "net") as network:
        assert len(network.organisations["alpha"].peers) == 2
        assert len(network.organisations["alpha"].orderers) == 3
        await network.add_organisation(OrganisationSpec(name="gamma", peers=2))
        status = await network.status()
        assert status.up
        assert not status.warnings
        await put(network, "gamma", "whole")
        await network.stop("chaincode-kv-own.beta")  # whose endorsement the policy does not ask for
        await put(network, "alpha", "own", chaincode="kv-own")


async def test_one_command_at_a_time_changes_a_network(tmp_path, spec):
    home = tmp_path / "net"
    with command(tmp_path, spec, home) as process:
        assert process.stdout.readline().startswith("founding")
        with pytest.raises(StateError, match="another command is changing the network"):
            await Network(spec, home=home).up()
        process.send_signal(signal.SIGINT)
        process.wait()
    gone(home)


async def test_a_port_in_use_is_named_with_the_process_that_holds_it(tmp_path, spec):
    home = tmp_path / "net"
    network = Network(spec, home=home)
    try:
        await network.up()
        await network.down()
        port = network.state.ports["peer0.beta:listen"]
        with socket.create_server(("127.0.0.1", port)):
            with pytest.raises(PortError, match=rf"port {port}, which peer0.beta needs, .*process {os.getpid()}\)"):
                await network.up()
            gone(home)
        await network.up()
    finally:
        await network.down(wipe=True)


async def test_another_description_for_the_same_folder_is_refused_and_changes_nothing(tmp_path, spec):
    home = tmp_path / "net"
    async with Network(spec, home=home) as network:
        before = (home / "state.json").read_bytes()
        other = spec.model_copy(update={"channel": "other"})
        with pytest.raises(StateError, match="founded with other channel"):
            await Network(other, home=home).up()
        assert (home / "state.json").read_bytes() == before
        await put(network, "alpha", "still-there")


async def test_folders_that_are_no_networks(tmp_path, spec):
    with pytest.raises(StateError, match="there is no network in"):
        Network.open(tmp_path)
    (tmp_path / "thesis.txt").write_text("all my work")
    with pytest.raises(StateError, match=r"thesis.txt.*name an empty one"):
        await Network(spec, home=tmp_path).up()
    with pytest.raises(StateError, match=r"thesis\.txt"):
        await Network(spec, home=tmp_path).down(wipe=True)
    with pytest.raises(StateError, match="cannot be written"):
        await Network(spec, home=tmp_path / "thesis.txt" / "net").up()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(SpecificationError, match="no runtime cloud: name native or docker"):
        Network(spec, home=tmp_path, runtime="cloud")


async def test_a_chaincode_that_cannot_start_is_told_with_its_last_words(tmp_path, spec):
    broken = spec.chaincodes[0].model_copy(update={"command": ("python", "-c", "raise SystemExit('no such model')")})
    home = tmp_path / "net"
    with pytest.raises(ProcessError, match=r"(?s)chaincode-kv\.\w+ died \(exit code 1 .*no such model"):
        await Network(spec.model_copy(update={"chaincodes": (broken,)}), home=home).up()
    gone(home)


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


async def test_a_full_disk_is_named_and_leaves_nothing_running(small_disk, spec):
    (small_disk / "filler").write_bytes(bytes(200 * 1024))
    with pytest.raises(StateError, match=r"cannot be written: its disk is full"):
        await Network(spec, home=small_disk / "net").up()
    gone(small_disk)
    (small_disk / "filler").unlink()


async def test_a_read_only_disk_is_named(small_disk, spec):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)  # noqa: ASYNC221
    with pytest.raises(StateError, match="cannot be written"):
        await Network(spec, home=small_disk / "net").up()


async def test_two_enrolments_of_one_user_at_once_give_one_certificate(raft_network):
    found = await asyncio.gather(*(raft_network.enrol("alpha", "twin", hosts=("localhost",)) for _ in range(8)))
    assert len({one.identity().certificate for one in found}) == 1
    assert all(one.tls_certificate_path.exists() for one in found)
    found[0].signer()(b"message")


async def test_an_enrolled_user_shows_its_role_and_no_key(raft_network):
    steward = await raft_network.enrol("beta", "stella", role="steward")
    assert steward.identity().attributes() == {"fedfabric.role": "steward"}
    assert steward.key_path.stat().st_mode & 0o077 == 0
    with pytest.raises(SpecificationError, match="there is no role emperor"):
        await raft_network.enrol("beta", "eve", role="emperor")
    with pytest.raises(SpecificationError, match="is no user's name"):
        await raft_network.enrol("beta", "../../eve", role="steward")
    with pytest.raises(SpecificationError, match="stella of beta has the role steward"):
        await raft_network.enrol("beta", "stella", role="auditor")
    with pytest.raises(SpecificationError, match="no organisation gamma"):
        await raft_network.enrol("gamma", "eve")


@pytest.mark.parametrize("client", ["nobody", "another organisation", "own peer"])
async def test_a_chaincode_server_talks_to_its_own_peer_only(raft_network, tmp_path, client):
    folders = raft_network.home / "processes"
    context = ssl.create_default_context(cafile=raft_network.organisations["beta"].peer_tls_ca)
    context.set_alpn_protocols(["h2"])
    if client != "nobody":
        owner = "beta" if client == "own peer" else "alpha"
        values = json.loads((folders / f"peer0.{owner}" / "ccaas.json").read_text())
        key = tmp_path / "client.pem"
        key.write_text(values["client_cert"] + values["client_key"])
        context.load_cert_chain(key)
    port = raft_network.state.ports["chaincode-kv.beta:listen"]

    async def greeting():
        """The first bytes of the server's answer to an HTTP/2 client's preface; none where it hangs up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        try:
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
            return await reader.read(9)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    try:
        answer = await greeting()
    except OSError:
        answer = b""
    assert (answer != b"") == (client == "own peer")


async def test_a_stopped_orderer_is_no_obstacle_to_reading(raft_network):
    await put(raft_network, "alpha", "before-stop")
    await raft_network.stop("orderer0.alpha")
    try:
        assert await get(raft_network, "alpha", "before-stop") == b"1"
        assert any("orderer0.alpha does not run" in warning for warning in (await raft_network.status()).warnings)
    finally:
        await raft_network.restart("orderer0.alpha")
    await eventually(lambda: put(raft_network, "alpha", "after-stop"), Exception)
