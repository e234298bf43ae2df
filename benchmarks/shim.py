"""`shim`: our chaincode server against the official Go shim (fabric-chaincode-go v2) with the same contract.

One Raft network, both chaincodes on it, the same client in turns, 256 in flight, puts of 256 bytes: committed
transactions per second, and proposals endorsed per second, which is more of the shim and less of everything else.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
from fedfabric.network.network import Network
from fedfabric.network.processes import server_name
from fedfabric.network.programs import cache_folder
from fedfabric.network.pytest_plugin import raft_specification
from fedfabric.network.specification import ChaincodeSpec, OrderingSpec, ProbeSpec

from .figures import Report, at_least, at_most
from .load import Settings

IN_FLIGHT = 256
RUNS = 3
OURS, OFFICIAL = "kv", "kv-go"
SOURCES = Path(__file__).parent / "shim_go"
CONTRACT = Path(__file__).resolve().parent.parent / "tests" / "network" / "chaincodes" / "kv.py"
# One organisation endorses, so that a chaincode server, not the other peer, is what is asked the most of.
ENDORSEMENT = "OR('AlphaMSP.peer', 'BetaMSP.peer')"


class MeasurementError(Exception):
    """What was to be measured did not run."""


def build_official(folder: Path) -> Path:
    """Build the contract on the official shim.

    Raises:
        MeasurementError: there is no Go, or the build failed.
    """
    kept = sorted(cache_folder().glob("go-*/bin/go"))
    go = shutil.which("go") or next(map(str, kept), None)
    if go is None:
        raise MeasurementError("there is no Go on PATH, nor one that building Fabric's programs has installed")
    program = folder / "kv-go"
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOTOOLCHAIN": "local"}
    command = [go, "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", str(program), "."]
    built = subprocess.run(command, cwd=SOURCES, env=environment, capture_output=True, text=True, check=False)
    if built.returncode:
        raise MeasurementError(f"the official shim's contract could not be built:\n{built.stderr[-2000:]}")
    return program


async def load(settings: Settings, folder: Path, **changes: Any) -> dict[str, Any]:
    """Run our client in a process of its own.

    Raises:
        MeasurementError: it failed, or transactions did.
    """
    content = asdict(replace(settings, **changes))
    del content["files"]
    file = folder / "load.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fedfabric.benchmarks.load", str(file), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate()
    if process.returncode:
        raise MeasurementError(f"the load failed: {err.decode(errors='replace')[-2000:]}")
    result: dict[str, Any] = json.loads(out)
    if result.get("failed"):
        raise MeasurementError(f"{result['failed']} transactions failed, first {result['firstFailure']}")
    return result


async def measure(network: Network, folder: Path, report: Report, say: Callable[[str], None]) -> None:
    """Load both chaincodes in turns."""
    settings = await Settings.of(network, "alpha", OURS, IN_FLIGHT)
    servers = {}
    for chaincode in (OURS, OFFICIAL):
        state = await network.process(server_name(chaincode, "alpha"))
        servers[chaincode] = psutil.Process(state.pid)
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for turn in range(RUNS):
        for chaincode in (OURS, OFFICIAL) if turn % 2 == 0 else (OFFICIAL, OURS):
            before = servers[chaincode].cpu_times()
            committed = await load(settings, folder, chaincode=chaincode)
            after = servers[chaincode].cpu_times()
            endorsed = await load(settings, folder, chaincode=chaincode, step="endorse")
            mine = values[chaincode]
            mine["committed"].append(committed["committed"] / committed["seconds"])
            mine["endorsed"].append(endorsed["rate"])
            used = after.user + after.system - before.user - before.system
            mine["processor"].append(
                1000 * used / (mine["committed"][-1] * (settings.seconds + settings.warmUpSeconds))
            )
            mine["memory"].append(servers[chaincode].memory_info().rss / 2**20)
            say(f"{chaincode}: {mine['committed'][-1]:.0f} committed/s, {mine['endorsed'][-1]:.0f} endorsed/s")
    ours, official = values[OURS], values[OFFICIAL]
    for step in ("committed", "endorsed"):
        report.add(f"{step}: ours", ours[step], "tx/s")
        report.add(f"{step}: official Go shim", official[step], "tx/s")
        ratios = [one / other for one, other in zip(ours[step], official[step], strict=True)]
        report.add(f"{step}: ours / Go", ratios, "x", at_least(0.9))
    report.add("memory after load: ours", ours["memory"], "MiB", at_most(60))
    report.add("memory after load: official Go shim", official["memory"], "MiB")
    report.add("server's processor time: ours", ours["processor"], "ms/tx")
    report.add("server's processor time: official Go shim", official["processor"], "ms/tx")


async def _run(say: Callable[[str], None]) -> Report:
    report = Report("shim")
    report.versions |= {"fabric": "3.1.1", "fabric-chaincode-go": "2.3.0"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        say("building the contract on the official Go shim")
        official = await asyncio.to_thread(build_official, folder)
        probe = ProbeSpec(function="nothing")
        chaincodes = (
            ChaincodeSpec(name=OURS, command=("python", str(CONTRACT)), endorsement=ENDORSEMENT, probe=probe),
            ChaincodeSpec(name=OFFICIAL, command=(str(official),), endorsement=ENDORSEMENT, probe=probe),
        )
        ordering = OrderingSpec(type="raft", batch_timeout_ms=100, max_messages=500)
        # Proposals that are only endorsed are signed beforehand, so their timestamps are older than usual.
        spec = raft_specification(chaincodes, ordering=ordering, window_ms=120_000)
        async with Network(spec, home=folder / "network") as network:
            await measure(network, folder, report, say)
    report.notes.append(f"{IN_FLIGHT} in flight, one endorser, puts of 256 bytes, all on this machine's cores")
    return report


def run() -> Report:
    """Measure."""
    return asyncio.run(_run(lambda line: print(f"  {line}", file=sys.stderr, flush=True)))
