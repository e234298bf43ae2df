"""``fedfabric network``: what it starts outlives it, unless it is interrupted."""

import json
import signal

import pytest

pytestmark = [pytest.mark.network, pytest.mark.timeout(120)]

NETWORK = """\
name: small
ordering: {type: raft}
organisations:
  - {name: alpha, orderers: 1}
"""


@pytest.fixture
def network_yaml(machine):
    path = machine.folder / "network.yaml"
    path.write_text(NETWORK)
    return path


def run(machine, *arguments):
    command = machine.start("fedfabric", *arguments)
    told, _ = command.communicate()
    assert "Traceback" not in told
    return command.returncode, told


def test_a_network_outlives_the_command_is_adopted_by_the_next_and_goes_down(machine, network_yaml):
    status, told = run(machine, "network", "up", network_yaml)
    assert status == 0, told
    assert "alpha (AlphaMSP)" in told
    assert machine.processes()

    again, told = run(machine, "network", "up", network_yaml)
    assert again == 0, told
    assert "adopting what runs" in told

    status, told = run(machine, "network", "status", "--output", "json")
    assert status == 0, told
    assert json.loads(told)["up"] is True

    status, told = run(machine, "network", "add-user", "alpha", "eve", "--role", "king")
    assert status == 3, told
    status, told = run(machine, "network", "add-user", "alpha", "eve", "--role", "auditor", "--output", "json")
    assert status == 0, told
    assert json.loads(told)["profile"].endswith("/small/profiles/alpha/eve.toml")

    status, told = run(machine, "network", "export", "--folder", machine.folder / "export")
    assert status == 0, told
    assert (machine.folder / "export" / "alpha" / "connection.json").is_file()

    status, told = run(machine, "network", "logs", "peer0.alpha", "--lines", 3)
    assert status == 0, told
    status, told = run(machine, "network", "logs", "peer9.alpha")
    assert status == 5, told

    status, told = run(machine, "network", "down", "--wipe")
    assert status == 0, told
    assert machine.left_behind() == {}
    assert not (machine.folder / "home" / "small").exists()


@pytest.mark.parametrize(
    "moment", ["starting processes", "committing the first transaction", "founding the consortium"]
)
def test_an_interrupted_bring_up_leaves_nothing_running(machine, network_yaml, moment):
    up = machine.start("fedfabric", "network", "up", network_yaml)
    for line in up.stdout:
        if line.startswith(moment):
            break
    up.send_signal(signal.SIGINT)
    told, _ = up.communicate()
    assert up.returncode == 130, told
    assert "Traceback" not in told
    assert machine.left_behind() == {}


def test_the_gateway_ends_in_order_and_says_what_keeps_it_from_starting(machine, network_yaml):
    status, told = run(machine, "network", "up", network_yaml)
    assert status == 0, told
    config = machine.folder / "home" / "small" / "gateways" / "alpha" / "gateway.toml"
    gateway = machine.start("fedfabric", "gateway", "start", "--config", config)
    profile = machine.folder / "home" / "small" / "profiles" / "alpha" / "steward.toml"
    status, told = run(machine, "gateway", "status", "--wait", 60, "--profile", profile)
    assert status == 0, told

    second, told = run(machine, "gateway", "start", "--config", config)
    assert second == 11
    assert "a gateway runs on the state folder" in told

    gateway.send_signal(signal.SIGTERM)
    told, _ = gateway.communicate()
    assert gateway.returncode == 0, told
    assert "Traceback" not in told
    run(machine, "network", "down", "--wipe")
    assert machine.left_behind() == {}
