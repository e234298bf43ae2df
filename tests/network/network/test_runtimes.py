"""What every runtime must do: one suite for processes of this machine and for containers."""

import asyncio
import os
import signal

import psutil
import pytest
from fedfabric.fabric.client import ClientError
from fedfabric.network import (
    ChaincodeSpec,
    Network,
    OnboardingError,
    OrganisationSpec,
    ProcessError,
    SpecificationError,
)
from fedfabric.network.pytest_plugin import raft_specification
from fedfabric.tests.network.network.clients import contract, eventually, get, put, until

pytestmark = pytest.mark.network


async def kill(network, name):
    """Kill a process the hard way, and wait until it has been started again."""
    before = await network.process(name)
    os.kill(before.pid, signal.SIGKILL)

    async def again():
        now = await network.process(name)
        return now.running and now.pid != before.pid and now

    after = await until(again)
    assert after.restarts == before.restarts + 1
    assert after.last_exit is not None
    return after


async def test_every_organisation_submits_and_reads_what_the_others_wrote(own_network):
    members = [name for name, one in own_network.organisations.items() if one.peers]
    assert {"cleveland", "hungary", "switzerland"} <= set(members)
    await asyncio.gather(*(put(own_network, name, f"from/{name}", name) for name in members))
    for reader in members:
        for writer in members:

            async def arrived(reader=reader, writer=writer):
                return await get(own_network, reader, f"from/{writer}") == writer.encode()

            await until(arrived)


async def test_status_names_every_process_with_its_height(own_network):
    status = await own_network.status()
    assert status.up
    assert status.runtime == own_network.runtime.name
    assert {one.name for one in status.processes} >= {"peer0.cleveland", "orderer0.regulator", "chaincode-kv.hungary"}
    for process in status.processes:
        assert process.running
        assert process.pid
        assert process.ports["listen"]
        if process.kind != "chaincode":
            assert process.height
            assert process.skew_ms == 0
    assert status.height == max(one.height or 0 for one in status.processes)


@pytest.mark.parametrize("name", ["peer0.cleveland", "chaincode-kv.cleveland"])
async def test_a_killed_process_is_started_again_and_serves(own_network, name):
    await kill(own_network, name)
    await eventually(lambda: put(own_network, "cleveland", f"after/{name}"), ClientError)
    status = await own_network.status()
    assert any(warning.startswith(f"{name} was started again") for warning in status.warnings)


async def test_each_orderer_may_be_killed_the_leader_among_them(own_network):
    orderers = [f"orderer0.{name}" for name, one in own_network.organisations.items() if one.orderers]
    assert len(orderers) == 4
    for name in orderers:
        await kill(own_network, name)
        await eventually(lambda name=name: put(own_network, "hungary", f"after/{name}"), ClientError)


async def test_a_process_that_was_stopped_stays_down_until_it_is_restarted(own_network):
    name = "peer0.switzerland"
    await own_network.stop(name)
    state = await own_network.process(name)
    assert not state.running
    assert state.last_exit
    assert (await own_network.status()).warnings
    await put(own_network, "cleveland", "without-switzerland")
    await own_network.restart(name)

    async def caught_up():
        return await get(own_network, "switzerland", "without-switzerland") == b"1"

    await eventually(lambda: until(caught_up), ClientError)


async def test_logs_are_kept_by_process(own_network):
    assert await own_network.log("peer0.cleveland", 5)
    with pytest.raises(ProcessError, match="no process nobody"):
        await own_network.log("nobody")
    with pytest.raises(ProcessError):
        await own_network.log("../state")
    with pytest.raises(ProcessError, match="there is no process nobody"):
        await own_network.process("nobody")


async def test_another_chaincode_is_deployed_while_the_network_runs(own_network):
    spec = own_network.spec.chaincodes[0].model_copy(update={"name": "kv-later", "probe": None})
    await own_network.deploy(spec)
    await put(own_network, "hungary", "later", "1", chaincode="kv-later")
    states = dict(await own_network.runtime.states())
    await own_network.deploy(spec)
    assert dict(await own_network.runtime.states()) == states
    with pytest.raises(SpecificationError, match="share the chaincode kv-later"):
        await own_network.deploy(ChaincodeSpec(name="kv-later"))


async def test_an_organisation_joins_while_others_submit(own_network):
    done = asyncio.Event()
    counts = dict.fromkeys(("cleveland", "hungary"), 0)

    async def load(name):
        async with contract(own_network, name) as kv:
            while not done.is_set():
                await kv.submit("put", f"load/{name}", str(counts[name]))
                counts[name] += 1

    loads = [asyncio.create_task(load(name)) for name in counts]
    try:
        await own_network.add_organisation(OrganisationSpec(name="va-long-beach"))
    finally:
        done.set()
        await asyncio.gather(*loads)
    assert min(counts.values()) > 5
    assert own_network.organisations["va-long-beach"].msp_id == "VaLongBeachMSP"
    await put(own_network, "va-long-beach", "newcomer", "1")
    assert (await own_network.status()).up


async def test_an_organisation_is_refused_while_the_majority_could_not_bear_it(own_network):
    members = [name for name, one in own_network.organisations.items() if one.peers]
    before = await own_network.status()
    down = [f"chaincode-kv.{name}" for name in members[: len(members) - (len(members) + 1) // 2]]
    for name in down:
        await own_network.stop(name)
    try:
        with pytest.raises(OnboardingError, match="nothing was changed") as refusal:
            await own_network.add_organisation(OrganisationSpec(name="late"))
        assert all(name in str(refusal.value) for name in down)
    finally:
        for name in down:
            await own_network.restart(name)
    after = await own_network.status()
    assert "late" not in own_network.organisations
    assert [one.name for one in after.processes] == [one.name for one in before.processes]
    assert not (own_network.home / "organisations" / "late").exists()


async def test_an_organisation_that_does_not_endorse_is_taken_out_again(own_network, monkeypatch):
    monkeypatch.setattr("fedfabric.network.onboarding.ENDORSING_SECONDS", 1.0)
    real = own_network.runtime.start

    async def without_chaincode(processes):
        await real(processes)
        for process in processes:
            if process.name == "chaincode-kv.mute":
                await own_network.stop(process.name)

    monkeypatch.setattr(own_network.runtime, "start", without_chaincode)
    with pytest.raises(OnboardingError, match="mute did not join"):
        await own_network.add_organisation(OrganisationSpec(name="mute"))
    monkeypatch.undo()
    assert not any(name.endswith(".mute") for name in await own_network.runtime.states())
    await put(own_network, "cleveland", "after-mute")
    # Its name is free again, and the majority is the old one.
    await own_network.add_organisation(OrganisationSpec(name="mute"))
    await put(own_network, "mute", "at-last")


async def test_an_interrupted_onboarding_is_undone(own_network):
    members = set(own_network.organisations)

    def interrupt(line):
        if line.startswith("joining"):
            joining.cancel()

    joining = asyncio.create_task(own_network.add_organisation(OrganisationSpec(name="hasty"), interrupt))
    with pytest.raises(asyncio.CancelledError):
        await joining
    assert set(own_network.organisations) == members
    assert not any(name.endswith(".hasty") for name in await own_network.runtime.states())
    await put(own_network, "cleveland", "after-hasty")


async def test_a_network_is_adopted_repaired_and_brought_up_again(network_runtime, tmp_path, network_chaincodes):
    spec = raft_specification(network_chaincodes)
    first = Network(spec, home=tmp_path / "net", runtime=network_runtime)
    try:
        await first.up()
        pids = {name: state.pid for name, state in (await first.runtime.states()).items()}
        await put(first, "alpha", "kept", "yes")

        second = Network(spec, home=tmp_path / "net", runtime=network_runtime)
        await second.up()
        assert {name: state.pid for name, state in (await second.runtime.states()).items()} == pids

        await second.stop("peer0.beta")
        await second.stop("chaincode-kv.beta")
        third = Network.open(tmp_path / "net")
        await third.up()
        assert (await third.status()).up
        assert (await third.process("peer0.alpha")).pid == pids["peer0.alpha"]

        await third.down()
        assert not any(state.running for state in (await third.runtime.states()).values())
        assert not any(map(psutil.pid_exists, pids.values()))

        await third.up()
        assert await get(third, "beta", "kept") == b"yes"
    finally:
        await first.down(wipe=True)
    assert not (tmp_path / "net").exists()
