"""The runtime `native`: processes of this machine, under a supervisor of their own."""

import asyncio
import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import PortError, ProcessError
from .programs import Programs, ensure
from .runtime import LOOPBACK, ProcessSpec, ProcessState, Progress
from .specification import interpreter_command
from .supervisor import KEEP, LOCK, LOGS, MAXIMUM_LINE_BYTES, folder_address, listening_ports, tail
from .together import together

READY_SECONDS = 30.0
ANSWER_SECONDS = READY_SECONDS + 15.0
"""Until a supervisor that does not answer is given up; what it is asked to do is bounded by itself."""
_POLL_SECONDS = 0.01
# What a process inherits from the command's environment; everything else is its own.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "VIRTUAL_ENV", "PYTHONPATH")


class NativeRuntime:
    """Runs a network's processes on this machine, all on the loopback address."""

    name = "native"
    listen = LOOPBACK

    def __init__(self, home: Path) -> None:
        self._home = home
        self._programs: Programs | None = None
        self._owner: int | None = None  # the end of a pipe whose other one the supervisor listens to

    async def prepare(self, progress: Progress) -> None:
        """Find Fabric's programs or build them."""
        if self._programs is None:
            self._programs = await asyncio.to_thread(ensure, progress)

    @property
    def _prepared(self) -> Programs:
        if self._programs is None:
            raise ProcessError("the runtime was not prepared before its use")
        return self._programs

    @property
    def builder(self) -> str:
        """The external builder's folder in the cache."""
        return str(self._prepared.builder)

    @property
    def configuration(self) -> Path:
        """Fabric's own core.yaml and orderer.yaml in the cache."""
        return self._prepared.config

    def host(self, process: str) -> str:  # noqa: ARG002
        """Every process is reached at the loopback address."""
        return LOOPBACK

    def inside(self, folder: Path) -> str:
        """A process sees the host's own folders."""
        return str(folder)

    async def open(self) -> bool:
        """Connect to the network's supervisor, or start one that ends with this process until `keep`."""
        if await self._alive():
            return False
        self._release()  # of a supervisor that was killed
        listened, self._owner = os.pipe()
        try:
            launcher = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "fedfabric.network.supervisor",
                str(self._home),
                stdin=listened,
                stderr=subprocess.PIPE,
                env=_inherited(),
                # A Ctrl-C reaches the terminal's whole group; the supervisor hears of it by the pipe instead.
                start_new_session=True,
            )
        finally:
            os.close(listened)
        _output, errors = await launcher.communicate()
        if launcher.returncode:
            said = errors.decode(errors="replace").strip()
            raise ProcessError(f"the supervisor of {self._home} did not start: {said}")
        return True

    async def keep(self) -> None:
        """Let the supervisor outlive this process."""
        if self._owner is not None:
            os.write(self._owner, KEEP)
            self._release()

    async def start(self, processes: Sequence[ProcessSpec]) -> None:
        """Start these at once, and wait until all of them listen."""
        running = {name for name, state in (await self.states()).items() if state.running}
        require_free_ports([process for process in processes if process.name not in running])
        await together(self._start(process) for process in processes)

    async def _start(self, process: ProcessSpec) -> None:
        command, environment = process.command, {**_inherited(), **process.environment}
        if command[0] in {"peer", "orderer"}:
            command = (str(self._prepared.program(command[0])), *command[1:])
            # A peer knows the builder's place from core.yaml, which it reads at its start alone; here it shows who is
            # to be started anew when that place has changed.
            environment["FEDFABRIC_BUILDER"] = self.builder
        description = {
            "name": process.name,
            "command": list(interpreter_command(command)),
            "environment": environment,
            "folder": str(process.folder),
            "ports": list(process.ports),
        }
        _raise_if_failed(await self._ask(op="start", process=description, seconds=READY_SECONDS), process.name)

    async def stop(self, name: str) -> None:
        """Stop one, and start it no more."""
        await self._require(name)
        await self._ask(op="stop", name=name)

    async def remove(self, name: str) -> None:
        """Stop one and forget it; its log stays."""
        await self._require(name)
        await self._ask(op="remove", name=name)

    async def restart(self, name: str) -> None:
        """Stop one and start it again."""
        await self._require(name)
        _raise_if_failed(await self._ask(op="restart", name=name, seconds=READY_SECONDS), name)

    async def states(self) -> Mapping[str, ProcessState]:
        """All processes that the supervisor has, running or not; none where there is no supervisor."""
        if not await self._alive():
            return {}
        answer = await self._ask(op="list")
        return {state["name"]: ProcessState(**state) for state in answer["processes"]}

    async def log(self, name: str, lines: int) -> str:
        """The last lines that a process wrote to its standard output and error."""
        path = self._home / LOGS / f"{name}.log"
        if path.parent != self._home / LOGS or not path.is_file():
            known = ", ".join(sorted(log.stem for log in (self._home / LOGS).glob("*.log")))
            raise ProcessError(f"no process {name} has run here; there are logs of: {known or 'none'}")
        return await asyncio.to_thread(tail, path, lines)

    async def abandon(self) -> None:
        """Stop everything if this process is its owner."""
        if self._owner is not None:
            await self.close()

    async def close(self) -> None:
        """Stop the network's processes and their supervisor, by asking the supervisor."""
        if await self._alive():
            with contextlib.suppress(ConnectionError):
                await self._ask(op="shutdown")
            await _until_released(self._home / LOCK)
        self._release()

    async def _require(self, name: str) -> None:
        known = await self.states()
        if name not in known:
            raise ProcessError(f"there is no process {name}; the network runs {', '.join(sorted(known)) or 'none'}")

    async def _alive(self) -> bool:
        try:
            _reader, writer = await self._connect()
        except OSError:
            return False
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        return True

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        with folder_address(self._home) as address:
            return await asyncio.open_unix_connection(address, limit=MAXIMUM_LINE_BYTES)

    async def _ask(self, **request: object) -> dict[str, Any]:
        reader, writer = await self._connect()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                writer.write(json.dumps(request).encode() + b"\n")
                await writer.drain()
                line = await reader.readline()
        except TimeoutError as error:
            raise _silent(self._home) from error
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        if not line:
            raise ProcessError(f"the supervisor of {self._home} went away; see {self._home / LOGS}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _release(self) -> None:
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None


def require_free_ports(processes: Sequence[ProcessSpec]) -> None:
    """Check that nobody listens where these processes are to listen.

    Raises:
        PortError: names the port and the process that holds it.
    """
    taken = listening_ports()
    for process in processes:
        for port in process.ports:
            if port in taken:
                raise PortError(
                    f"port {port}, which {process.name} needs, is in use by {port_holder(port)}: end that process, or "
                    "take the network down with --wipe so that it gets new ports"
                )


def port_holder(port: int) -> str:
    """The process that listens on a port, in words."""
    import psutil  # noqa: PLC0415 (slow to import, and only errors need it)

    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.laddr or not connection.pid:
                continue
            if connection.laddr.port == port:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    return "another user's process"


async def _until_released(lock: Path) -> None:
    """Wait until the supervisor is gone: it holds this lock as long as it lives."""
    deadline = time.monotonic() + ANSWER_SECONDS
    with lock.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise _silent(lock.parent) from None
                await asyncio.sleep(_POLL_SECONDS)
            else:
                return


def _silent(home: Path) -> ProcessError:
    return ProcessError(
        f"the supervisor of {home} has not answered for {ANSWER_SECONDS:g} s: end the process "
        f"'fedfabric.network.supervisor {home}', then 'network up'"
    )


def _inherited() -> dict[str, str]:
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


def _raise_if_failed(answer: dict[str, Any], name: str) -> None:
    if "error" in answer:
        ended = (answer.get("state") or {}).get("last_exit")
        said = f" Its last lines:\n{answer['log']}" if answer.get("log") else ""
        raise ProcessError(f"{name} {answer['error']}{f' ({ended})' if ended else ''}.{said}")
