"""`throughput`: committed transactions per second, our client and the official Node client on the same networks.

Puts of 256 bytes, blocks of 100 ms or 500 transactions, 16, 64 and 256 transactions in flight, Raft and BFT. Each
client runs as a process of its own, one after the other, in turns.

The bare bound is 1 / (1/e + 1/c): e proposals per second only endorsed, c transactions per second, already endorsed and
signed, only ordered and committed, both by bare gRPC calls (see load.py). A client that did nothing but send would come
near it; not quite reach it, since c is measured at a higher rate, at which more transactions share a block's cost.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fedfabric.network.network import Network
from fedfabric.network.pytest_plugin import bft_specification, raft_specification
from fedfabric.network.specification import ChaincodeSpec, NetworkSpec, OrderingSpec, ProbeSpec

from .figures import Report, at_least
from .load import Settings
from .official_node import Node

CHAINCODE = ChaincodeSpec(
    name="kv",
    command=("python", str(Path(__file__).resolve().parent.parent / "tests" / "network" / "chaincodes" / "kv.py")),
    probe=ProbeSpec(function="nothing"),
)
IN_FLIGHT = (16, 64, 256)
RUNS = 3
LONGEST_SECONDS = 40
WINDOW_MS = 900_000  # prepared proposals and full queues are measured, and both take longer than a second
# Measured earlier with the same clients on a machine of 2 cores that did nothing else: batch, in flight, tx/s of each.
EARLIER = (
    ("2 s / 10", 16, 133, 87),
    ("2 s / 10", 256, 199, 119),
    ("200 ms / 100", 64, 199, 164),
    ("200 ms / 100", 256, 328, 201),
    ("100 ms / 500", 64, 332, 151),
    ("100 ms / 500", 256, 389, 238),
)


class LoadError(Exception):
    """A load process failed."""


class Loads:
    """Runs load processes against one network."""

    def __init__(self, settings: Settings, folder: Path, node: Node, sources: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.ours = [sys.executable, "-m", "fedfabric.benchmarks.load"]
        self.theirs = [str(node.program), "--no-deprecation", str(sources / "load.mjs")]

    async def submitting(self, command: list[str], in_flight: int) -> dict[str, Any]:
        """One load, measured for longer where a machine is so slow that not every worker gets through once.

        Raises:
            LoadError: the process failed, or nothing was committed for half a minute.
        """
        seconds = self.settings.seconds
        while True:
            result = await self.run(command, inFlight=in_flight, seconds=seconds)
            if result["committed"] >= in_flight:
                return result
            seconds *= 2
            if seconds > LONGEST_SECONDS:
                raise LoadError(f"{command[-1]}: {result['committed']} committed, {result['failed']} failed: {result}")

    async def run(self, command: list[str], **changes: Any) -> dict[str, Any]:
        """One load.

        Raises:
            LoadError: the process failed.
        """
        file = self.folder / "load.json"
        content = asdict(replace(self.settings, **changes))
        del content["files"]
        file.write_text(json.dumps(content), encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            *command, str(file), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ
        )
        try:
            out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise LoadError(f"{command[-1]}: {err.decode(errors='replace')[-2000:]}")
        result: dict[str, Any] = json.loads(out)
        return result


async def measure(report: Report, ordering: str, loads: Loads, say: Callable[[str], None]) -> None:
    """Add one network's figures."""
    rates: dict[tuple[str, int], list[float]] = defaultdict(list)
    latencies: dict[tuple[str, int], list[float]] = defaultdict(list)
    processors: dict[tuple[str, int], list[float]] = defaultdict(list)
    bounds = []
    for turn in range(RUNS):
        for in_flight in IN_FLIGHT:
            clients = [("ours", loads.ours), ("node", loads.theirs)]
            for name, command in clients if turn % 2 == 0 else clients[::-1]:
                result = await loads.submitting(command, in_flight)
                rates[name, in_flight].append(result["committed"] / result["seconds"])
                latencies[name, in_flight].append(result["p50Ms"])
                processors[name, in_flight].append(result["cpu"])
                say(f"{ordering} {name} {in_flight}: {rates[name, in_flight][-1]:.0f} tx/s")
                if result["failed"]:
                    report.notes.append(
                        f"{ordering}, {in_flight} in flight, {name}: {result['failed']} transactions failed, "
                        f"{result['committed']} committed; the first: {result['firstFailure'][:300]}"
                    )
        endorsing = (await loads.run(loads.ours, inFlight=IN_FLIGHT[-1], step="endorse"))["rate"]
        committing = (await loads.run(loads.ours, inFlight=IN_FLIGHT[-1], step="commit"))["rate"]
        bounds.append((endorsing, committing, 1 / (1 / endorsing + 1 / committing)))
        say(f"{ordering} bound: {bounds[-1][2]:.0f} tx/s")
    for in_flight in IN_FLIGHT:
        ours, theirs = rates["ours", in_flight], rates["node", in_flight]
        report.add(f"{ordering}, {in_flight} in flight: ours", ours, "tx/s")
        report.add(f"{ordering}, {in_flight} in flight: Node", theirs, "tx/s")
        report.add(
            f"{ordering}, {in_flight} in flight: ours / Node",
            [one / other for one, other in zip(ours, theirs, strict=True)],
            "times",
            at_least(1.3) if in_flight > IN_FLIGHT[0] else None,
        )
    report.add(f"{ordering}: endorsing alone", [bound[0] for bound in bounds], "tx/s")
    report.add(f"{ordering}: ordering and committing alone", [bound[1] for bound in bounds], "tx/s")
    report.add(f"{ordering}: bare bound", [bound[2] for bound in bounds], "tx/s")
    report.add(
        f"{ordering}, {IN_FLIGHT[-1]} in flight: share of the bare bound",
        [one / bound[2] for one, bound in zip(rates["ours", IN_FLIGHT[-1]], bounds, strict=True)],
        "times",
        at_least(0.9),
    )
    rows = [
        (in_flight, name, *(round(sorted(values[name, in_flight])[RUNS // 2], 2) for values in (latencies, processors)))
        for in_flight in IN_FLIGHT
        for name in ("ours", "node")
    ]
    report.tables.append((f"{ordering}: medians", ("in flight", "client", "p50 ms", "client's cores"), rows))


async def _run(say: Callable[[str], None]) -> Report:
    report = Report("throughput")
    node = Node.find()
    sources = node.install()
    report.versions |= {
        "node": node.version,
        "@hyperledger/fabric-gateway": json.loads((sources / "package.json").read_bytes())["dependencies"][
            "@hyperledger/fabric-gateway"
        ],
        "fabric": "3.1.1",
    }
    batches: dict[str, Any] = {"batch_timeout_ms": 100, "max_messages": 500}
    networks: tuple[tuple[str, NetworkSpec], ...] = (
        ("Raft", raft_specification((CHAINCODE,), window_ms=WINDOW_MS, ordering=OrderingSpec(type="raft", **batches))),
        ("BFT", bft_specification((CHAINCODE,), window_ms=WINDOW_MS, ordering=OrderingSpec(type="bft", **batches))),
    )
    for ordering, spec in networks:
        with tempfile.TemporaryDirectory() as folder:
            async with Network(spec, home=Path(folder) / "network") as network:
                organisation = next(one for one in network.organisations.values() if one.peers)
                settings = await Settings.of(network, organisation.name, CHAINCODE.name, 1)
                await measure(report, ordering, Loads(settings, Path(folder), node, sources), say)
    report.tables.append(
        ("Raft, measured earlier on 2 cores that did nothing else", ("batch", "in flight", "ours", "Node"), EARLIER)
    )
    report.notes.append("clients, peers, orderers and chaincode servers share this machine's cores")
    return report


def run() -> Report:
    """Measure."""
    return asyncio.run(_run(lambda line: print(f"  {line}", file=sys.stderr, flush=True)))
