"""The trainers' process: started with an empty environment, spoken to on a socket pair, and ended with the gateway.

The gateway never imports torch. One process per gateway, the zygote (`python -I -m fedfabric.trainers.zygote`), has
imported it and forks a confined child for each task, whose memory, time and bytes it watches; requests and answers are
JSON lines on its file descriptor 3. What tasks may see lies in one folder in memory, a task's part of it is removed
with the task.
"""

import asyncio
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import structlog

from .configuration import TrainerSettings
from .limits import Deadlines

__all__ = ["Scratch", "TrainerError", "TrainerGoneError", "TrainerResult", "Zygote"]

ZYGOTE_MODULE: Final = "fedfabric.trainers.zygote"
_MAXIMUM_LINE: Final = 1 << 20
_GRACE_SECONDS: Final = 10.0
_PREFIX: Final = "fedfabric-"
_FRESH_SECONDS: Final = 10.0
_NICE: Final = 10  # so that the consensus's heartbeats hold beside training

log = structlog.get_logger(__name__)


class TrainerError(Exception):
    """A task did not end well; `code` is stable, the text is for people and holds nothing of the data."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


class TrainerGoneError(TrainerError):
    """The trainers' process ended under the task: nothing is known about it, and it may be tried again."""


@dataclass(frozen=True)
class TrainerResult:
    """What a task answered."""

    fields: Mapping[str, Any]


class Scratch:
    """One gateway's folder in memory, with a folder in it for each task; private to this user.

    Args:
        parent: a folder on a tmpfs.
        owner: text that differs between the gateways of a machine and stays the same for one of them.

    Raises:
        TrainerError: there is no folder in memory to be had.
    """

    def __init__(self, parent: Path, owner: str) -> None:
        self.workspace = parent / f"{_PREFIX}{owner}"
        # What gateways left here that were killed, this one among them: it is somebody's data, in memory.
        for left in parent.glob(f"{_PREFIX}*") if parent.is_dir() else ():
            if left == self.workspace or _abandoned(left):
                _remove(left)
        try:
            self.workspace.mkdir(mode=0o700)
            self._lock = os.open(self.workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TrainerError(
                "NO_SCRATCH", f"{parent} can't hold trainers' data ({error.strerror}); name a folder on a tmpfs"
            ) from error

    @asynccontextmanager
    async def folder(self) -> AsyncIterator[Path]:
        """A new folder with `data` and `out` in it, gone afterwards.

        Raises:
            TrainerError: it can't be made.
        """
        path = self.workspace / secrets.token_hex(8)
        try:
            for made in (path, path / "data", path / "out"):
                made.mkdir(mode=0o700)
        except OSError as error:
            _remove(path)
            raise TrainerError("NO_SCRATCH", f"no folder in memory for the trainer: {error.strerror}") from error
        try:
            yield path
        finally:
            await asyncio.to_thread(_remove, path)

    def close(self) -> None:
        """Remove the whole folder."""
        _remove(self.workspace)
        os.close(self._lock)


def _abandoned(folder: Path) -> bool:
    """Whether no living gateway holds a folder: its lock went with its process."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # A gateway that starts beside this one has made its folder and not locked it yet.
        fresh = time.time() - os.fstat(handle).st_mtime < _FRESH_SECONDS
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return not fresh
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    for folder, _, _ in os.walk(path):
        with suppress(OSError):
            Path(folder).chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)


class _Process:
    """One zygote: a pid, its end as a future, and its line protocol."""

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError:  # no descriptor is left: nobody would hear of its end
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        self.pid = pid
        self.waiting: dict[str, asyncio.Future[Mapping[str, Any]]] = {}
        self.ended: asyncio.Future[int] = loop.create_future()
        self.ready: asyncio.Future[Mapping[str, Any]] = loop.create_future()
        self._reader = reader
        self._writer = writer
        loop.add_reader(self._pidfd, self._reap)
        self._pump = asyncio.create_task(self._read(), name="zygote answers")

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        _, status = os.waitpid(self.pid, 0)
        self.ended.set_result(os.waitstatus_to_exitcode(status))

    async def _read(self) -> None:
        try:
            while line := await self._reader.readline():
                answer = json.loads(line)
                if not isinstance(answer, dict):
                    raise TypeError("the answer is not an object")  # noqa: TRY301 - ends as the others do
                self._take(answer)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            log.warning("zygote.broke_protocol", pid=self.pid, error=type(error).__name__)
            self.kill()
        finally:
            for future in (self.ready, *self.waiting.values()):
                if not future.done():
                    future.set_exception(TrainerGoneError("TRAINER_GONE", "the trainers' process ended"))
                    future.exception()  # seen: nobody may be waiting any more
            self.waiting.clear()

    def _take(self, answer: Mapping[str, Any]) -> None:
        if answer.get("ready") is True and not self.ready.done():
            self.ready.set_result(answer)
            log.info("zygote.ready", pid=self.pid, layers=answer.get("layers"), torch=answer.get("torch"))
            return
        future = self.waiting.pop(answer["id"], None)
        if future is not None and not future.done():
            future.set_result(answer)

    @property
    def alive(self) -> bool:
        return not self.ended.done() and not self._pump.done()

    async def send(self, request: Mapping[str, Any]) -> None:
        self._writer.write(json.dumps(request).encode() + b"\n")
        await self._writer.drain()

    def kill(self) -> None:
        if not self.ended.done():
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    async def end(self) -> None:
        """Kill it and wait until it is gone, so that nobody takes it for alive."""
        self.kill()
        await asyncio.shield(self.ended)

    async def close(self) -> None:
        """End it: it leaves with its children when its socket closes, and is killed if it doesn't."""
        if not self.ready.done():
            self.kill()  # it hears nothing while it imports, and has no children yet
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()
        try:
            async with asyncio.timeout(_GRACE_SECONDS):
                await asyncio.shield(self.ended)
        except TimeoutError:
            await self.end()
        self._pump.cancel()
        with suppress(asyncio.CancelledError):
            await self._pump


class Zygote:
    """Runs trainer tasks, `settings.concurrent` at a time; the process behind it starts anew when it has ended."""

    def __init__(
        self, settings: TrainerSettings, deadlines: Deadlines, workspace: Path, *, module: str = ZYGOTE_MODULE
    ) -> None:
        self._settings = settings
        self._deadlines = deadlines
        self._workspace = workspace
        self._module = module
        self._process: _Process | None = None
        self._starting = asyncio.Lock()
        self._slots = asyncio.Semaphore(settings.concurrent)

    @property
    def pid(self) -> int | None:
        """The process id of the zygote that runs now."""
        return self._process.pid if self._process is not None and self._process.alive else None

    @property
    def threads(self) -> int:
        """Threads that one trainer gets."""
        return self._settings.threads or max(1, (os.cpu_count() or 1) // self._settings.concurrent)

    async def start(self) -> None:
        """Have a zygote that has imported torch.

        Raises:
            TrainerGoneError: it could not be started, or ended before it was ready.
            TrainerError: it was not ready in time.
        """
        await self._ready()

    async def _ready(self) -> _Process:
        async with self._starting:
            if self._process is None or not self._process.alive:
                if self._process is not None:
                    await self._process.close()
                self._process = await self._spawned()
            process = self._process
        try:
            async with asyncio.timeout(self._deadlines.zygote_start):
                await asyncio.shield(process.ready)
        except TimeoutError:
            await process.end()
            raise TrainerError("TRAINER_TIMEOUT", "the trainers' process did not start in time") from None
        return process

    async def _spawned(self) -> _Process:
        ours, theirs = socket.socketpair()
        with theirs:
            writer: asyncio.StreamWriter | None = None
            try:
                # Connected first: between the start of the process and the object that will end it nothing is awaited.
                reader, writer = await asyncio.open_connection(sock=ours, limit=_MAXIMUM_LINE)
                return _Process(_spawn(self._module, theirs.fileno(), self._workspace), reader, writer)
            except BaseException as error:
                if writer is None:
                    ours.close()
                else:
                    writer.transport.abort()
                if not isinstance(error, OSError):
                    raise
                raise TrainerGoneError(
                    "TRAINER_GONE", f"the trainers' process could not be started: {error.strerror}"
                ) from error

    async def run(self, task: str, *, seconds: float, **fields: Any) -> TrainerResult:
        """Run one task.

        Args:
            task: "train", "evaluate" or "initialise".
            seconds: the longest that it may take, once it has begun.
            fields: what the task needs: plan, data, model, out (paths), round, params.

        Raises:
            TrainerError: it failed, took too long or too much memory.
            TrainerGoneError: the process ended under it.
        """
        async with self._slots:
            process = await self._ready()
            request = {
                "id": secrets.token_hex(8),
                "task": task,
                **{name: str(value) if isinstance(value, Path) else value for name, value in fields.items()},
                "limits": {
                    "memory_bytes": self._settings.memory_bytes,
                    "seconds": max(1.0, seconds),
                    "file_bytes": self._settings.file_bytes,
                    "threads": self.threads,
                },
            }
            return await self._exchange(process, request, seconds)

    async def _exchange(self, process: _Process, request: Mapping[str, Any], seconds: float) -> TrainerResult:
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Mapping[str, Any]] = loop.create_future()
        process.waiting[request["id"]] = answered
        try:
            await process.send(request)
            # The zygote keeps the limit itself; one that doesn't answer well after it is ended.
            async with asyncio.timeout(max(1.0, seconds) + _GRACE_SECONDS):
                answer = await answered
        except TimeoutError:
            await process.end()
            raise TrainerError("TIME_LIMIT", f"the trainer took longer than {seconds:.0f} s") from None
        except OSError as error:
            raise TrainerGoneError("TRAINER_GONE", "the trainers' process ended") from error
        except asyncio.CancelledError:
            # Who cancels wants no result, so nothing may go on computing one.
            with suppress(OSError):
                await process.send({"id": secrets.token_hex(8), "cancel": request["id"]})
            raise
        finally:
            process.waiting.pop(request["id"], None)
        if answer.get("ok") is True and isinstance(answer.get("result"), dict):
            return TrainerResult(answer["result"])
        fault = answer.get("error")
        if not isinstance(fault, dict):
            raise TrainerError("TRAINER_FAILED", "the trainer gave no reason")
        raise TrainerError(str(fault.get("code", "TRAINER_FAILED"))[:64], str(fault.get("text", ""))[:2000])

    async def close(self) -> None:
        """End the process and every child of it."""
        async with self._starting:
            if self._process is not None:
                await self._process.close()
                self._process = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _spawn(module: str, descriptor: int, workspace: Path) -> int:
    # posix_spawn: nothing of this process's is inherited but the standard streams and descriptor 3, and the
    # environment is empty from the first instruction on. A group of its own, so that Ctrl-C is the gateway's to handle.
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers, not paths
        # What this process itself was handed by whoever started it: Python's own files are closed on exec anyway.
        with suppress(OSError):
            if int(name) > 2:
                os.set_inheritable(int(name), False)
    source = os.dup(descriptor) if descriptor == 3 else descriptor
    try:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-m", module, "--workspace", str(workspace)],
            {},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, source, 3),
            ],
            setpgroup=0,
        )
    finally:
        if source != descriptor:
            os.close(source)
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, _NICE)
    return pid
