"""The supervisor of one native network: starts its processes, starts crashed ones again, and outlives the command.

``python -m fedfabric.network.supervisor FOLDER`` becomes a daemon in a session of its own and returns when its socket
FOLDER/supervisor.sock answers. On it, each connection asks once, in a line of JSON, and gets a line of JSON. The
supervisor's children die with it (PR_SET_PDEATHSIG), so whatever runs has somebody who watches it. Its standard input,
where that is a pipe, is its owner's word: when it closes without ``keep`` everything stops, so that an interrupted
bring-up leaves nothing.
"""

import asyncio
import contextlib
import ctypes
import datetime
import fcntl
import functools
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SOCKET = "supervisor.sock"
LOCK = "supervisor.lock"
LOGS = "logs"
MAXIMUM_LINE_BYTES = 4 * 2**20
GRACE_SECONDS = 1.5
FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0
STEADY_SECONDS = 10.0
POLL_SECONDS = 0.01
KEEP = b"keep\n"
_PR_SET_PDEATHSIG = 1


@contextlib.contextmanager
def folder_address(folder: Path):  # type: ignore[no-untyped-def]
    """The socket's path by way of the folder's descriptor, since a socket's address has at most 107 bytes."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)


_LISTENS = re.compile(rb":([0-9A-F]{4}) [0-9A-F]+:[0-9A-F]{4} 0A ")


def listening_ports() -> set[int]:
    """The TCP ports of this machine on which somebody listens, read without connecting to any."""
    ports = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):
            ports |= {int(port, 16) for port in _LISTENS.findall(Path(table).read_bytes())}
    return ports


@dataclass
class Child:
    """One supervised process and what became of it so far."""

    name: str
    command: list[str]
    environment: dict[str, str]
    folder: str
    ports: list[int]
    wanted: bool = True
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    delay: float = FIRST_DELAY_SECONDS
    restarts: int = 0
    last_exit: str | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    pending: asyncio.TimerHandle | None = None

    def same_as(self, other: "Child") -> bool:
        """Whether both are to run alike."""
        return (self.command, self.environment, self.folder) == (other.command, other.environment, other.folder)

    def state(self) -> dict[str, Any]:
        """What a caller is told."""
        return {
            "name": self.name,
            "running": self.process is not None,
            "pid": self.process.pid if self.process else None,
            "restarts": self.restarts,
            "last_exit": self.last_exit,
        }


class Supervisor:
    """Holds the children of one network."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._children: dict[str, Child] = {}
        self._finished = asyncio.Event()
        self._journal = os.open(
            home / LOGS / "supervisor.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._stopping = False
        self._ports: set[int] = set()
        self._ports_read = 0.0

    async def serve(self, listener: socket.socket, owner: int, ready: Callable[[], None]) -> None:
        """Answer until somebody asks for the end, or SIGTERM arrives."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._finished.set)
        server = await asyncio.start_unix_server(self._converse, sock=listener, limit=MAXIMUM_LINE_BYTES)
        self._record("supervisor started", pid=os.getpid())
        if stat.S_ISFIFO(os.fstat(owner).st_mode):
            loop.add_reader(owner, self._hear, owner)
        ready()
        async with server:
            await self._finished.wait()
        await self._stop(list(self._children.values()))
        self._record("supervisor ended")
        os.close(self._journal)

    def _hear(self, owner: int) -> None:
        """What the owner says: `keep`, or nothing any more."""
        said = os.read(owner, len(KEEP))
        asyncio.get_running_loop().remove_reader(owner)
        if said != KEEP:
            self._record("the owner went away; stopping")
            self._finished.set()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        operations: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "start": self._start,
            "stop": self._stop_one,
            "remove": self._remove,
            "restart": self._restart,
            "list": self._list,
            "shutdown": self._shutdown,
        }
        try:
            request = json.loads(await reader.readline())
            try:
                answer = await operations[request["op"]](request)
            except OSError as error:
                answer = {"error": f"{error.strerror}: {error.filename}"}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except (ValueError, KeyError, ConnectionError) as error:
            self._record("a connection failed", error=repr(error))
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            if self._stopping:
                self._finished.set()

    async def _start(self, request: dict[str, Any]) -> dict[str, Any]:
        child = Child(**request["process"])
        known = self._children.get(child.name)
        if known is not None and known.process is not None and known.same_as(child):
            child = known
        else:
            if known is not None:
                child.restarts, child.last_exit = known.restarts, known.last_exit
                await self._stop([known])
            self._children[child.name] = child
            self._spawn(child)
        return await self._until_listening(child, time.monotonic() + float(request["seconds"]))

    async def _until_listening(self, child: Child, deadline: float) -> dict[str, Any]:
        restarts = child.restarts
        while True:
            if child.process is None or child.restarts > restarts:
                # It would be started again for ever; whoever asked for it is told instead, with what it said.
                return {"error": "died", "state": child.state(), "log": self._last_words(child)}
            if self._listening().issuperset(child.ports):
                return {"state": child.state()}
            if time.monotonic() > deadline:
                return {"error": "does not listen", "state": child.state(), "log": self._last_words(child)}
            await asyncio.sleep(POLL_SECONDS)

    def _listening(self) -> set[int]:
        """The ports that are listened on, read once for all who ask at about the same time."""
        now = time.monotonic()
        if now > self._ports_read + POLL_SECONDS / 2:
            self._ports, self._ports_read = listening_ports(), now
        return self._ports

    async def _stop_one(self, request: dict[str, Any]) -> dict[str, Any]:
        child = self._children[request["name"]]
        await self._stop([child])
        return {"state": child.state()}

    async def _remove(self, request: dict[str, Any]) -> dict[str, Any]:
        await self._stop([self._children.pop(request["name"])])
        return {}

    async def _restart(self, request: dict[str, Any]) -> dict[str, Any]:
        child = self._children[request["name"]]
        await self._stop([child])
        self._spawn(child)
        return await self._until_listening(child, time.monotonic() + float(request["seconds"]))

    async def _list(self, _request: dict[str, Any]) -> dict[str, Any]:
        return {"pid": os.getpid(), "processes": [child.state() for child in self._children.values()]}

    async def _shutdown(self, _request: dict[str, Any]) -> dict[str, Any]:
        await self._stop(list(self._children.values()))
        self._stopping = True
        return {}

    def _spawn(self, child: Child) -> None:
        child.wanted, child.pending = True, None
        child.ended.clear()
        with (self._home / LOGS / f"{child.name}.log").open("ab") as log:
            child.process = subprocess.Popen(
                child.command,
                env=child.environment,
                cwd=child.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # One thread only, so that running Python between fork and exec is safe.
                preexec_fn=functools.partial(self._die_with, os.getpid()),  # noqa: PLW1509
            )
        child.started = time.monotonic()
        self._record("started", process=child.name, pid=child.process.pid)
        descriptor = os.pidfd_open(child.process.pid)
        asyncio.get_running_loop().add_reader(descriptor, self._ended, child, child.process, descriptor)

    def _die_with(self, supervisor: int) -> None:
        self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:
            os.kill(os.getpid(), signal.SIGKILL)

    def _ended(self, child: Child, process: subprocess.Popen[bytes], descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(descriptor)
        os.close(descriptor)
        code = process.wait()
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        child.last_exit = f"{f'signal {-code}' if code < 0 else f'exit code {code}'} at {now}"
        child.process = None
        child.ended.set()
        self._record("ended", process=child.name, pid=process.pid, code=code, wanted=child.wanted)
        if not child.wanted:
            return
        if time.monotonic() - child.started > STEADY_SECONDS:
            child.delay = FIRST_DELAY_SECONDS
        child.pending = loop.call_later(child.delay, self._again, child)
        child.delay = min(2 * child.delay, LONGEST_DELAY_SECONDS)

    def _again(self, child: Child) -> None:
        child.restarts += 1
        try:
            self._spawn(child)
        except OSError as error:
            self._record("not started again", process=child.name, error=str(error))
            child.pending = asyncio.get_running_loop().call_later(child.delay, self._again, child)

    async def _stop(self, children: Iterable[Child]) -> None:
        """End these together: SIGTERM, and SIGKILL for whoever is still there after the grace."""
        stopping = []
        for child in children:
            child.wanted = False
            if child.pending is not None:
                child.pending.cancel()
            if child.process is not None:
                child.process.send_signal(signal.SIGTERM)
                stopping.append((child, child.process))
        if not stopping:
            return
        waits = [asyncio.ensure_future(child.ended.wait()) for child, _process in stopping]
        _done, late = await asyncio.wait(waits, timeout=GRACE_SECONDS)
        for child, process in stopping:
            if not child.ended.is_set():
                self._record("did not end in time; killed", process=child.name, pid=process.pid)
            # The group, so that whatever the process started ends too.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if late:
            await asyncio.wait(late)

    def _last_words(self, child: Child, lines: int = 15) -> str:
        said = tail(self._home / LOGS / f"{child.name}.log", 200).splitlines()
        # A Go program says why it gives up before the stack of where it was.
        panics = [number for number, line in enumerate(said) if line.startswith("panic: ")]
        begin = panics[-1] if panics else max(0, len(said) - lines)
        return "\n".join(said[begin : begin + lines])

    def _record(self, event: str, **values: object) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "event": event, **values}) + "\n"
        with contextlib.suppress(OSError):  # a full disk must not keep a crashed process from being started again
            os.write(self._journal, line.encode())


def tail(path: Path, lines: int) -> str:
    """The last lines of a log, of which at most 256 KiB are read."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 256 * 1024))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


def main(arguments: list[str]) -> int:
    """Become the supervisor of the network in a folder; returns in the caller's process once it answers."""
    home = Path(arguments[0])
    receiving, sending = os.pipe()
    if os.fork():
        os.close(sending)
        with os.fdopen(receiving, "rb") as pipe:
            answer = pipe.read()
        if answer == b"ready":
            return 0
        sys.stderr.write(answer.decode() or "the supervisor died at once\n")
        return 1
    os.close(receiving)
    os.setsid()
    try:
        _become(home, sending)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.write(sending, f"{error.strerror or error}\n".encode())
        return 1
    return 0


def _become(home: Path, sending: int) -> None:
    (home / LOGS).mkdir(exist_ok=True)
    lock = os.open(home / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OSError("this network has a supervisor already") from error
    errors = os.open(home / LOGS / "supervisor-errors.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDWR)
    owner = os.dup(0)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with folder_address(home) as address:
        (home / SOCKET).unlink(missing_ok=True)
        listener.bind(address)
    (home / SOCKET).chmod(0o600)
    listener.listen(128)

    def ready() -> None:
        for target, source in ((0, nothing), (1, errors), (2, errors)):
            os.dup2(source, target)
        os.write(sending, b"ready")
        os.close(sending)

    try:
        asyncio.run(Supervisor(home).serve(listener, owner, ready))
    finally:
        (home / SOCKET).unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
