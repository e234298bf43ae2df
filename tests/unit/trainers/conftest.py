"""Speaks with a real trainers' process as a gateway does, in blocking calls for tests."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from fedfabric.trainers import build_bundle

LINEAR = Path(__file__).parents[2] / "plans" / "linear"


class Trainers:
    def __init__(self, workspace: Path | None = None, python_args=("-I",)) -> None:
        ours, theirs = socket.socketpair()
        arguments = [] if workspace is None else ["--workspace", str(workspace)]

        def on_three() -> None:
            os.dup2(theirs.fileno(), 3)

        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, *python_args, "-m", "fedfabric.trainers.zygote", *arguments],
            env={},
            pass_fds=(3,) if theirs.fileno() == 3 else (theirs.fileno(), 3),
            preexec_fn=on_three,  # noqa: PLW1509
            stdin=subprocess.DEVNULL,
            stdout=self.errors,
            stderr=self.errors,
        )
        theirs.close()
        self.socket = ours
        self.file = ours.makefile("rwb")
        self.hello = self.receive(120)
        self.count = 0

    def receive(self, seconds: float = 60) -> dict:
        self.socket.settimeout(seconds)
        line = self.file.readline()
        if not line:
            self.errors.seek(0)
            raise EOFError(self.errors.read().decode())
        return json.loads(line)

    def send(self, **message) -> None:
        self.file.write(json.dumps(message, default=str).encode() + b"\n")
        self.file.flush()

    def run(self, task: str, **fields) -> dict:
        self.count += 1
        self.send(id=str(self.count), task=task, **fields)
        answer = self.receive()
        assert answer["id"] == str(self.count), answer
        return answer

    def close(self) -> int:
        self.file.close()
        self.socket.close()
        status = self.process.wait(20)
        self.errors.close()
        return status


def write_examples(folder: Path, count: int, seed: int, features: int = 4) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(count, features))
    y = (x @ np.arange(1, features + 1) + generator.normal(size=count) > 0).astype(int)
    lines = [",".join([*(f"x{i}" for i in range(features)), "y"])]
    lines += [",".join([*(f"{value:.6f}" for value in row), str(label)]) for row, label in zip(x, y, strict=True)]
    (folder / "examples.csv").write_text("\n".join(lines) + "\n")
    return folder


def write_plan(path: Path, folder: Path = LINEAR, **replaced: str) -> Path:
    """Write the bundle of a plan; `replaced` maps a function's name to other source appended to plan.py."""
    bundle = build_bundle(folder)
    if replaced:
        files = dict(bundle.files)
        files["plan.py"] += ("\n\n" + "\n\n".join(replaced.values()) + "\n").encode()
        bundle = type(bundle)(files)
    path.write_bytes(bundle.to_bytes())
    return path


@pytest.fixture(scope="session")
def workspace(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture(scope="session")
def trainers(workspace):
    """A trainers' process as a gateway has one, with every layer that this machine has."""
    process = Trainers(workspace)
    yield process
    assert process.close() == 0


@pytest.fixture(scope="session")
def layer_1(workspace):
    """A trainers' process without bubblewrap."""
    process = Trainers()
    yield process
    assert process.close() == 0


@pytest.fixture
def room(workspace):
    """A folder of one test's own in the workspace, with `out` in it."""
    folder = Path(tempfile.mkdtemp(dir=workspace))
    (folder / "out").mkdir()
    return folder


@pytest.fixture(scope="session")
def examples():
    """Writes examples of the linear plan: examples(folder, count, seed)."""
    return write_examples


@pytest.fixture(scope="session")
def plan_file():
    """Writes a bundle of the linear plan, with functions replaced: plan_file(path, load="def load(…): …")."""
    return write_plan


@pytest.fixture(scope="session")
def start_trainers():
    """Starts a trainers' process of the test's own."""
    return Trainers
