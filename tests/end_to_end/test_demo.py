"""``fedfabric demo training`` as a user runs it, on a real network: whole, and interrupted."""

import json
import re
import signal

import pytest
from fedfabric.network.pytest_plugin import engine_answers

pytestmark = [pytest.mark.network, pytest.mark.timeout(240)]

HOSPITALS = {"Cleveland", "Hungary", "Switzerland", "VA Long Beach"}


def start(machine, *arguments):
    return machine.start("fedfabric", "demo", "training", "--folder", machine.folder / "results", *arguments)


def results(machine):
    (folder,) = (machine.folder / "results").iterdir()
    return folder


def test_the_demo_trains_takes_in_a_hospital_audits_and_leaves_nothing_running(machine, network_runtime):
    demo = start(machine, "--runtime", network_runtime)
    output, _ = demo.communicate()
    assert demo.returncode == 0, output
    assert machine.left_behind() == {}
    assert list(machine.temporary.iterdir()) == []

    assert "\x1b" not in output
    assert "Traceback" not in output
    rounds = re.findall(r"^round +(\d+) ", output, re.MULTILINE)
    assert [int(number) for number in rounds] == list(range(1, len(rounds) + 1))
    assert "try next:" in output

    folder = results(machine)
    assert str(folder) in output
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["state"] == "finished"
    assert summary["audit_verdict"] == "verified"
    assert summary["runtime"] == network_runtime

    joined = summary["joined"]
    assert 1 < joined <= len(summary["rounds"])
    for state in summary["rounds"]:
        late = {"VA Long Beach"} if state["number"] < joined else set()
        assert set(state["own"]) == set(state["hospitals"]) == HOSPITALS - late
        assert state["attested"] == len(state["hospitals"])
        assert set(state["pooled"]) == {"loss", "auc", "balanced_accuracy"}
        assert min(state["training_s"], state["ledger_s"], state["moving_s"]) >= 0

    figures = {name: metrics["auc"] for name, metrics in summary["comparison"].items()}
    assert set(figures) == {"federated", "pooled", *HOSPITALS, "majority"}
    assert all(len(figure["values"]) == 5 for figure in figures.values())
    assert figures["federated"]["values"][0] == pytest.approx(summary["rounds"][-1]["pooled"]["auc"])
    assert figures["federated"]["mean"] > figures["pooled"]["mean"] - 0.02
    assert figures["federated"]["mean"] > figures["majority"]["mean"] + 0.2

    markdown = (folder / "summary.md").read_text()
    assert f"{figures['federated']['mean']:.3f}" in markdown

    verify = machine.start(
        "fedfabric", "audit", "verify", folder / "audit", "heart", "--genesis", summary["genesis_hash"], "-o", "json"
    )
    report = json.loads(verify.communicate()[0])
    assert verify.returncode == 0
    assert report["model"] == summary["model_digest"]
    assert sum(int(member["paid"]) for one in report["rounds"] for member in one["members"]) == sum(
        int(amount) for amount in summary["payments"].values()
    )

    touched = next((folder / "audit" / "blobs").iterdir())
    touched.write_bytes(touched.read_bytes()[:-1] + b"!")
    again = machine.start(
        "fedfabric", "audit", "verify", folder / "audit", "heart", "--genesis", summary["genesis_hash"]
    )
    told, _ = again.communicate()
    assert again.returncode == 10
    assert "BROKEN" in told


# Lines that the demo prints when it has come so far; "" interrupts it as soon as it has begun to write anything.
MOMENTS = [
    "",
    "Gateways",
    "round  2",
    *(pytest.param(late, marks=pytest.mark.soak) for late in ("round  6", "Evidence")),
]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment or "at once")
def test_an_interrupted_demo_leaves_nothing_running(machine, moment):
    interrupt(machine, start(machine), moment)


@pytest.mark.docker
@pytest.mark.skipif(not engine_answers(), reason="no Docker engine answers")
def test_an_interrupted_demo_leaves_no_container(machine):
    interrupt(machine, start(machine, "--runtime", "docker"), "Fabric network", control=machine.containers)


def interrupt(machine, demo, moment, control=None):
    """Ctrl-C when the demo has come so far; nothing may be left of what ``control`` finds before."""
    seen = []
    if moment:
        for line in demo.stdout:
            seen.append(line)
            if line.startswith(moment):
                break
    else:
        while not list(machine.temporary.iterdir()):
            assert demo.poll() is None, demo.communicate()[0]
    assert (control or machine.processes)()
    demo.send_signal(signal.SIGINT)
    rest, _ = demo.communicate(timeout=60)
    told = "".join(seen) + rest
    assert demo.returncode == 130, told
    assert "Traceback" not in told
    assert machine.left_behind() == {}
    assert list(machine.temporary.iterdir()) == []


def test_an_interrupted_bring_up_leaves_nothing_running(machine):
    demo = start(machine)
    while not any("orderer" in command for command in machine.processes().values()):
        assert demo.poll() is None, demo.communicate()[0]
    demo.send_signal(signal.SIGINT)
    demo.send_signal(signal.SIGTERM)  # impatience changes nothing
    told, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130, told
    assert "Traceback" not in told
    assert machine.left_behind() == {}


def test_a_killed_demo_takes_everything_with_it(machine):
    demo = start(machine)
    for line in demo.stdout:
        if line.startswith("round  1"):
            break
    demo.kill()
    demo.communicate(timeout=60)
    assert machine.left_behind(seconds=15.0) == {}
