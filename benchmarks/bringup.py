"""`bringup`: from nothing to three organisations with a chaincode and a first committed transaction, and down again.

Four BFT orderers, three peers, three chaincode servers. Measured from the command's start, the interpreter's included.
Beside it, in turns, a plain shell script (bringup.sh) does the same with Fabric's own programs, in parallel, polling
every 20 ms; it gives less: no check that every organisation's peers know each other.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedfabric.network.programs import FABRIC_VERSION, ensure
from fedfabric.network.pytest_plugin import bft_specification
from fedfabric.network.specification import ChaincodeSpec, ProbeSpec
from fedfabric.network.supervisor import listening_ports

from .figures import Report, at_most

RUNS = 5
HERE = Path(__file__).resolve().parent
CHAINCODE = HERE.parent / "tests" / "network" / "chaincodes" / "kv.py"
SCRIPT_PORTS = 40
STEPS = ("founding", "starting", "joining", "agreeing", "committing", "up")
COMMAND = """
import asyncio, pathlib, sys
from fedfabric.network import Network, NetworkSpec

async def main():
    spec = NetworkSpec.model_validate_json(pathlib.Path(sys.argv[1]).read_text())
    network = Network(spec, home=pathlib.Path(sys.argv[2]))
    await network.up(lambda line: print(line, flush=True))
    print("up", flush=True)
    sys.stdin.readline()
    await network.down()
    print("down", flush=True)

asyncio.run(main())
"""


class BringUpError(Exception):
    """A run did not come up."""


def timed(
    command: Sequence[str | Path], environment: Mapping[str, str], folder: Path
) -> tuple[dict[str, float], float]:
    """Seconds from the start to each line printed, and from the request to go down until all is down.

    Raises:
        BringUpError: it did not come up.
    """
    with (folder / "errors.log").open("w") as errors:
        began = time.perf_counter()
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process:
            if process.stdin is None or process.stdout is None:
                raise BringUpError("no pipes")
            steps: dict[str, float] = {}
            for line in process.stdout:
                steps[line.split()[0]] = time.perf_counter() - began
                if line == "up\n":
                    break
            asked = time.perf_counter()
            process.stdin.write("\n")
            process.stdin.flush()
            went_down = process.stdout.readline() == "down\n"
            down = time.perf_counter() - asked
    if "up" not in steps or not went_down:
        raise BringUpError((folder / "errors.log").read_text()[-2000:])
    return steps, down


def free_range(count: int) -> int:
    """The first of a run of ports on which nobody listens."""
    taken = listening_ports()
    return next(first for first in range(20_000, 32_000, count) if taken.isdisjoint(range(first, first + count)))


def run() -> Report:
    """Measure both in turns."""
    programs = ensure()
    spec = bft_specification(
        [ChaincodeSpec(name="kv", command=("python", str(CHAINCODE)), probe=ProbeSpec(function="nothing"))]
    )
    ours, downs, steps, plain, plain_downs = [], [], [], [], []
    for number in range(RUNS + 1):
        with tempfile.TemporaryDirectory() as folder:
            described = Path(folder) / "spec.json"
            described.write_text(spec.model_dump_json())
            command = [sys.executable, "-c", COMMAND, described, Path(folder) / "net"]
            reached, down = timed(command, os.environ, Path(folder))
        with tempfile.TemporaryDirectory() as folder:
            environment = {
                **os.environ,
                "BIN": str(programs.bin),
                "BUILDER": str(programs.builder),
                "CONFIG": str(programs.config),
                "PYTHON": sys.executable,
                "CHAINCODE": str(CHAINCODE),
                "PORTS": str(free_range(SCRIPT_PORTS)),
                "HERE": folder,
            }
            script, script_down = timed(["bash", HERE / "bringup.sh"], environment, Path(folder))
        if number == 0:
            continue  # warms the page cache for both
        ours.append(reached["up"])
        downs.append(down)
        steps.append(reached)
        plain.append(script["up"])
        plain_downs.append(script_down)

    report = Report("bringup", versions={"fabric": FABRIC_VERSION})
    report.add("up, first transaction committed", ours, "s", at_most(5.0))
    report.add("down", downs, "s", at_most(2.0))
    report.add("plain shell script up", plain, "s")
    report.add("plain shell script down", plain_downs, "s")
    report.add("up against the plain script", [a / b for a, b in zip(ours, plain, strict=True)], "", at_most(1.2))
    middle = sorted(range(RUNS), key=ours.__getitem__)[RUNS // 2]
    report.tables.append(
        (
            "the median run, seconds from the command's start",
            ("step begins", "s"),
            [(step, steps[middle][step]) for step in STEPS if step in steps[middle]],
        )
    )
    report.notes.append(
        "The script's network is proved by one transaction of one organisation; ours by one of each, after every peer "
        "knows endorsers of all."
    )
    return report
