"""Where a network's processes run: one interface, which `native` and `docker` fill.

A network hands over processes as values; a runtime starts them, keeps them alive when they crash, and says how they
fare. A process reads and writes below its own folder only, so that the folder is all that a container needs mounted.
Ports are the same seen from inside and outside; only the host's name differs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

Progress = Callable[[str], None]
ProcessKind = Literal["peer", "orderer", "chaincode"]
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class ProcessSpec:
    """A process as it is to run.

    `command` begins with `peer`, `orderer` or `python`, which each runtime resolves, or with another program's name;
    `folder` is the host's path of what it reads and writes, already filled; it is ready when all `ports` listen.
    """

    name: str
    kind: ProcessKind
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    folder: Path
    ports: tuple[int, ...]


@dataclass(frozen=True)
class ProcessState:
    """How a process fares."""

    name: str
    running: bool
    pid: int | None
    restarts: int = 0
    """How often it was started again after a crash."""
    last_exit: str | None = None
    """How it ended last time, such as `signal 9 at 2026-01-31T12:00:00+00:00`."""


class Runtime(Protocol):
    """Starts, keeps alive, observes and stops a network's processes.

    Raises:
        ProcessError: a process died or was not ready in time; the text holds its last log lines.
        PortError: a port is taken.
    """

    name: str
    listen: str
    """The address that processes bind to."""

    async def prepare(self, progress: Progress) -> None:
        """Make programs or images ready; called first, and again by every command that starts something."""

    @property
    def builder(self) -> str:
        """Where a peer finds the external builder for chaincode as a service."""

    @property
    def configuration(self) -> Path:
        """The host's folder of Fabric's own core.yaml and orderer.yaml."""

    def host(self, process: str) -> str:
        """The name by which the network's other processes reach this one."""

    def inside(self, folder: Path) -> str:
        """How a process sees the folder that its specification names."""

    async def open(self) -> bool:
        """Begin, or find what still runs. True when nothing ran before: until `keep`, all ends with this process."""

    async def keep(self) -> None:
        """From here on the network outlives this process."""

    async def start(self, processes: Sequence[ProcessSpec]) -> None:
        """Start these and wait until they listen. One that runs as specified is left alone."""

    async def stop(self, name: str) -> None:
        """Stop one, and start it no more."""

    async def remove(self, name: str) -> None:
        """Stop one and forget it."""

    async def restart(self, name: str) -> None:
        """Stop one and start it again; returns when it listens."""

    async def states(self) -> Mapping[str, ProcessState]:
        """All processes by name; empty when nothing of the network runs."""

    async def log(self, name: str, lines: int) -> str:
        """The last lines that a process wrote.

        Raises:
            ProcessError: there is no such process.
        """

    async def abandon(self) -> None:
        """After a failed or interrupted bring-up: stop everything if `open` returned True and `keep` was not called."""

    async def close(self) -> None:
        """Stop everything that this network started, and nothing else."""
