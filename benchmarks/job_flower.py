"""What the `job` benchmark is measured against: Flower's simulation and a plain loop, each in processes started cold.

Flower lives in an environment of its own under build/bench, made once from requirements/flower.txt; it takes
PyTorch from ours. Nothing is sent anywhere: Flower's and Ray's telemetry is off.
"""

import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .digits import ROUNDS

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements" / "flower.txt"
HOME = ROOT / "build" / "bench" / "flower"
TIMEOUT = 1800


class BaselineError(Exception):
    """A baseline could not be set up or run; the message ends with what the program said."""


@dataclass(frozen=True)
class Baseline:
    """A baseline's run.

    Attributes:
        whole: seconds from the start of the process to its end.
        rounds: seconds of each round.
        accuracy: of the final model, over all members' hold-outs.
        model: the final model's arrays.
    """

    whole: float
    rounds: tuple[float, ...]
    accuracy: float
    model: dict[str, np.ndarray]

    @property
    def steady(self) -> float:
        """The median round but the first, in seconds."""
        return float(np.median(self.rounds[1:] or self.rounds))


def _uv() -> str:
    beside = ROOT / ".uv" / "bin" / "uv"
    return str(beside) if beside.exists() else "uv"


def install(home: Path = HOME) -> Path:
    """Make Flower's environment if it is not there, and return its Python.

    Raises:
        BaselineError: it can't be installed.
    """
    stamp = home / f".installed-{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]}"
    python = home / "bin" / "python"
    if not stamp.exists():
        for command in (
            [_uv(), "venv", "--quiet", "--clear", "--python", sys.executable, str(home)],
            [_uv(), "pip", "install", "--quiet", "--python", str(python), "--require-hashes", "-r", str(REQUIREMENTS)],
        ):
            _run(command, dict(os.environ))
        # behind Flower's own packages: what both have comes from there, PyTorch from ours
        site = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
        (site / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
        (home / "source").mkdir(exist_ok=True)
        (home / "source" / "fedfabric").symlink_to(ROOT)
        stamp.touch()
    return python


def _run(command: list[str], environment: dict[str, str]) -> str:
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=TIMEOUT, check=False, cwd=ROOT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BaselineError(f"{command[0]} could not be run: {error}") from error
    if result.returncode:
        raise BaselineError(f"{' '.join(command[:4])} … ended with {result.returncode}: {result.stderr[-2000:]}")
    return result.stdout


def flower(folder: Path, cpus: int, rounds: int = ROUNDS) -> Baseline:
    """Flower's simulation of the job, each client having `cpus` CPUs.

    Raises:
        BaselineError: it failed.
    """
    python = install()
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(HOME),
        "PYTHONPATH": str(HOME / "source"),
        "BENCH_FOLDER": str(folder),
        "BENCH_CPUS": str(cpus),
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
    }
    program = [str(python), "-m", "fedfabric.benchmarks.job_flower_app", str(cpus), str(rounds)]
    return _measured(program, environment, folder.parent / f"flower-{cpus}.npz")


def sequential(folder: Path, threads: int, rounds: int = ROUNDS) -> Baseline:
    """A plain loop over the members in one process.

    Raises:
        BaselineError: it failed.
    """
    program = [sys.executable, "-m", "fedfabric.benchmarks.job_sequential", str(folder), str(threads), str(rounds)]
    return _measured(program, dict(os.environ), folder.parent / f"sequential-{threads}.npz")


def _measured(program: list[str], environment: dict[str, str], out: Path) -> Baseline:
    began = time.perf_counter()
    printed = _run([*program, str(out)], environment)
    whole = time.perf_counter() - began
    found = json.loads(printed.splitlines()[-1])
    with np.load(out) as arrays:
        model = {name: arrays[name] for name in arrays.files}
    return Baseline(whole, tuple(found["rounds"]), found["accuracy"], model)


def apart(one: dict[str, np.ndarray], other: dict[str, np.ndarray], start: dict[str, np.ndarray]) -> float:
    """How far two models are apart, as a share of the way from the start: whether two runs did the same work."""

    def length(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
        return float(np.sqrt(sum(np.square(a[name].astype(np.float64) - b[name]).sum() for name in a)))

    return length(one, other) / length(one, start)
