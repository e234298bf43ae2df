"""The trainers' process: started with an empty environment, spoken to on a socket pair, watched, and ended.

The gateway never imports torch. One process per gateway, the zygote (`python -m fedfabric.trainers.zygote`), has
imported it and forks a confined child for each task; requests and answers are JSON lines on its file descriptor 3.
What a task may see lies in one folder in memory, which is removed with the task.
"""

import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import psutil
import structlog

from .configuration import TrainerSettings
from .limits import Deadlines

__all__ = ["Scratch", "TrainerError", "TrainerGoneError", "TrainerResult", "Zygote"]

ZYGOTE_MODULE: Final = "fedfabric.trainers.zygote"
_MAXIMUM_LINE: Final = 1 << 20
_WATCH_SECONDS: Final = 0.25
_GRACE_SECONDS: Final = 10.0
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
    seconds: float
    """From request to answer."""


class Scratch:
    """Folders in memory for tasks: private to this user, and swept when a gateway of the same state starts."""

    def __init__(self, parent: Path, owner: str) -> None:
        self._parent = parent
        self._prefix = f"fedfabric-{owner}-"

    def sweep(self) -> int:
        """Remove what a gateway that was killed left here; how many folders."""
        stale = [path for path in self._parent.glob(f"{self._prefix}*") if path.is_dir() and not path.is_symlink()]
        for path in stale:
            _remove(path)
        return len(stale)

    @asynccontextmanager
    async def folder(self) -> AsyncIterator[Path]:
        """A new folder with `data` and `out` in it, gone afterwards.

        Raises:
            TrainerError: there is no folder in memory to be had.
        """
        path = self._parent / f"{self._prefix}{secrets.token_hex(8)}"
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


def _remove(path: Path) -> None:
    for folder, _, _ in os.walk(path):
        with suppress(OSError):
            Path(folder).chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)


class _Process:
    """One zygote: a pid, its end as a future, and its line protocol."""

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        self.pid = pid
        self.waiting: dict[str, asyncio.Future[Mapping[str, Any]]] = {}
        self.ended: asyncio.Future[int] = loop.create_future()
        self._reader = reader
        self._writer = writer
        self._pidfd = os.pidfd_open(pid)
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
                future = self.waiting.pop(answer["id"], None)
                if future is not None and not future.done():
                    future.set_result(answer)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("zygote.broke_protocol", pid=self.pid, error=type(error).__name__)
            self.kill()
        finally:
            gone = TrainerGoneError("TRAINER_GONE", "the trainers' process ended")
            for future in self.waiting.values():
                if not future.done():
                    future.set_exception(gone)
            self.waiting.clear()

    @property
    def alive(self) -> bool:
        return not self.ended.done() and not self._pump.done()

    async def send(self, request: Mapping[str, Any]) -> None:
        self._writer.write(json.dumps(request).encode() + b"\n")
        await self._writer.drain()

    def kill(self) -> None:
        if not self.ended.done():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def children(self) -> list[psutil.Process]:
        try:
            return list(psutil.Process(self.pid).children(recursive=True))
        except psutil.NoSuchProcess:
            return []

    async def close(self) -> None:
        """End it: it leaves when its socket closes, and is killed if it doesn't."""
        children = self.children()
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()
        try:
            await asyncio.wait_for(asyncio.shield(self.ended), _GRACE_SECONDS)
        except TimeoutError:
            self.kill()
            await self.ended
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        self._pump.cancel()
        with suppress(asyncio.CancelledError):
            await self._pump


class Zygote:
    """Runs trainer tasks, `settings.concurrent` at a time; the process behind it starts anew when it has ended."""

    def __init__(self, settings: TrainerSettings, deadlines: Deadlines, *, module: str = ZYGOTE_MODULE) -> None:
        self._settings = settings
        self._deadlines = deadlines
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
        """Have a zygote: import torch once before the first task needs it."""
        async with self._starting:
            if self._process is not None and self._process.alive:
                return
            if self._process is not None:
                await self._process.close()
            ours, theirs = socket.socketpair()
            with theirs:
                pid = _spawn(self._module, theirs.fileno())
            reader, writer = await asyncio.open_connection(sock=ours, limit=_MAXIMUM_LINE)
            self._process = _Process(pid, reader, writer)
            log.info("zygote.started", pid=pid)

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
            await self.start()
            process = self._process
            if process is None:  # pragma: no cover - start() has set it
                raise TrainerGoneError("TRAINER_GONE", "the trainers' process did not start")
            request = {
                "id": secrets.token_hex(8),
                "task": task,
                **{name: str(value) if isinstance(value, Path) else value for name, value in fields.items()},
                "limits": {
                    "memory_bytes": self._settings.memory_bytes,
                    "seconds": max(1, int(seconds)),
                    "file_bytes": self._settings.file_bytes,
                    "threads": self.threads,
                },
            }
            return await self._exchange(process, request, seconds)

    async def _exchange(self, process: _Process, request: Mapping[str, Any], seconds: float) -> TrainerResult:
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Mapping[str, Any]] = loop.create_future()
        process.waiting[request["id"]] = answered
        began = loop.time()
        watch = asyncio.create_task(self._watch(process), name="trainer memory")
        try:
            await process.send(request)
            # The child keeps the limit itself; the grace covers a zygote that has not finished importing torch.
            answer = await asyncio.wait_for(answered, seconds + self._deadlines.zygote_start)
        except TimeoutError:
            process.kill()
            raise TrainerError("TRAINER_TIMEOUT", f"the trainer took longer than {seconds:.0f} s") from None
        except OSError as error:
            raise TrainerGoneError("TRAINER_GONE", "the trainers' process ended") from error
        except asyncio.CancelledError:
            # Who cancels wants no result, so nothing may go on computing one.
            process.kill()
            raise
        finally:
            process.waiting.pop(request["id"], None)
            watch.cancel()
            exceeded = await _result_of(watch)
        if answer.get("ok") is True and isinstance(answer.get("result"), dict):
            return TrainerResult(answer["result"], loop.time() - began)
        if exceeded:
            raise TrainerError("TRAINER_MEMORY", f"the trainer used more than {self._settings.memory_bytes} bytes")
        fault = answer.get("error")
        if isinstance(fault, dict):
            raise TrainerError(str(fault.get("code", "TRAINER_FAILED"))[:64], str(fault.get("text", ""))[:2000])
        raise TrainerError("TRAINER_FAILED", "the trainer gave no reason")

    async def _watch(self, process: _Process) -> bool:
        """End children above their memory: rlimits count addresses, not what is resident. True when one was."""
        exceeded = False
        try:
            while True:
                for child in process.children():
                    with suppress(psutil.NoSuchProcess):
                        if child.memory_info().rss > self._settings.memory_bytes:
                            child.kill()
                            exceeded = True
                await asyncio.sleep(_WATCH_SECONDS)
        except asyncio.CancelledError:
            return exceeded

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


async def _result_of(watch: "asyncio.Task[bool]") -> bool:
    try:
        return await watch
    except asyncio.CancelledError:
        return False


def _spawn(module: str, descriptor: int) -> int:
    # posix_spawn: nothing of this process's is inherited but the three standard streams and descriptor 3, and the
    # environment is empty from the first instruction on.
    source = os.dup(descriptor) if descriptor == 3 else descriptor
    try:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-m", module],
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
