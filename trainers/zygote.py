"""The trainers' process: imports PyTorch once, then forks a confined child per task.

Started as `python -I -m fedfabric.trainers.zygote [--workspace FOLDER]` with an empty environment and one end of a
socket pair as descriptor 3, on which it speaks JSON lines:

    → {"id": "7", "task": "train" | "evaluate" | "initialise", "plan": bundle, "data": folder, "model": file,
       "out": folder, "round": {"job", "number", "attempt", "member"}, "params": {…},
       "limits": {"memory_bytes", "seconds", "file_bytes", "threads"}, "seed": 0, "foreign": true}
    → {"id": "8", "cancel": "7"}
    ← {"id": "", "ready": true, "layers": ["landlock", "seccomp", "bubblewrap"], "torch": version}
    ← {"id": "7", "ok": true, "result": {"samples", "metrics", "delta", "seconds"}}
    ← {"id": "7", "ok": false, "error": {"code", "text"}}

With a workspace, and where bubblewrap works, it moves into namespaces that see that folder alone. It ends when the
other end of descriptor 3 closes, and its children with it. What a child prints goes to `trainer.log` in its out folder.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import sandbox
from .answers import checked_result
from .errors import SandboxError, TaskError, TrainerError
from .requests import LONGEST_LINE, TaskRequest, decode_line, parse_request

if TYPE_CHECKING:
    from collections.abc import Mapping

CHANNEL = 3
LOOK_SECONDS = 0.05
"""How often resident memory, written bytes and time of children are looked at."""
LONGEST_ANSWER = 1 << 18
MOST_FILES = 20_000
MOST_CHILDREN = 64
MOST_THREADS = 256
LOG_BYTES = 1 << 20
_STARTED = "FEDFABRIC_ZYGOTE"
_ENVIRONMENT = {
    _STARTED: "1",
    "PYTHONHASHSEED": "0",
    "CUDA_VISIBLE_DEVICES": "",
    "LC_ALL": "C.UTF-8",
    "OMP_WAIT_POLICY": "PASSIVE",
}
"""The whole environment: sets of strings in one order, no GPU before a fork, UTF-8 files, and threads that sleep while
they wait, since a peer and an orderer share the processor."""


@dataclass
class Child:
    """A running task: its process, its answer so far, and why it was ended if it was."""

    request: TaskRequest
    pid: int
    pidfd: int
    pipe: int
    deadline: float
    folders: frozenset[str]
    """What lay in the out folder before."""
    answer: bytearray = field(default_factory=bytearray)
    verdict: tuple[str, str] | None = None
    closed: bool = False

    def end(self, code: str, text: str) -> None:
        """Kill it; the first reason stands."""
        if self.verdict is None:
            self.verdict = (code, text)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)


class Zygote:
    """The loop: one thread, no locks; forks only between events, so that a child inherits nothing half done."""

    def __init__(self, channel: socket.socket, workspace: Path | None) -> None:
        self._channel = channel
        self._workspace = workspace
        self._layers = sandbox.layers()
        self._selector = selectors.DefaultSelector()
        self._buffer = bytearray()
        self._children: dict[int, Child] = {}

    def serve(self) -> None:
        """Answer until the other side closes, then end every child."""
        import torch  # noqa: PLC0415  loaded by main() already, and not before it has started itself anew

        self._send({"id": "", "ready": True, "layers": list(self._layers), "torch": str(torch.__version__)})
        self._selector.register(self._channel, selectors.EVENT_READ, None)
        try:
            while True:
                timeout = LOOK_SECONDS if self._children else None
                for key, _ in self._selector.select(timeout):
                    if key.data is None:
                        if not self._receive():
                            return
                    else:
                        self._read_child(key.data, key.fd)
                self._look()
        finally:
            for child in list(self._children.values()):
                child.end("CANCELLED", "the gateway left")
                os.waitpid(child.pid, 0)

    def _send(self, message: Mapping[str, Any]) -> None:
        self._channel.sendall(json.dumps(message, allow_nan=False).encode() + b"\n")

    def _fail(self, identifier: str, code: str, text: str) -> None:
        self._send({"id": identifier, "ok": False, "error": {"code": code, "text": text}})

    def _receive(self) -> bool:
        data = self._channel.recv(1 << 16)
        if not data:
            return False
        self._buffer += data
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._handle(line)
        if len(self._buffer) > LONGEST_LINE:
            self._fail("", "BAD_REQUEST", f"a line is longer than {LONGEST_LINE} bytes")
            return False
        return True

    def _handle(self, line: bytes) -> None:
        identifier = ""
        try:
            message = decode_line(line)
            identifier = message["id"]
            if "cancel" in message:
                self._cancel(identifier, message["cancel"])
            else:
                self._start(parse_request(message, self._workspace))
        except TrainerError as error:
            self._fail(identifier, error.code, error.text)
        except OSError as error:
            self._fail(identifier, "SANDBOX_FAILED", f"the task could not be started: {error.strerror}")

    def _cancel(self, identifier: str, target: object) -> None:
        for child in self._children.values():
            if child.request.id == target:
                child.end("CANCELLED", "the task was cancelled")
                self._send({"id": identifier, "ok": True, "result": {}})
                return
        raise TaskError("BAD_REQUEST", "no such task runs")

    def _start(self, request: TaskRequest) -> None:
        if request.foreign and not sandbox.foreign_plans_allowed(self._layers):
            raise SandboxError(
                "SANDBOX_UNAVAILABLE",
                "a foreign plan runs only where it can be confined: this kernel needs landlock and libseccomp, or "
                f"bubblewrap with user namespaces; found: {', '.join(self._layers) or 'none'}",
            )
        if any(child.request.id == request.id for child in self._children.values()):
            raise TaskError("BAD_REQUEST", "a task of this id runs")
        if len(self._children) >= MOST_CHILDREN:
            raise TaskError("BAD_REQUEST", f"{MOST_CHILDREN} tasks run already")
        folders = frozenset(entry.name for entry in os.scandir(request.out) if entry.name != request.scratch.name)
        _remove_new_folders(request.out, folders)
        request.scratch.mkdir(mode=0o700)
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        log = os.open(request.out / "trainer.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _child(request, self._layers, parent, write_end, log)
        os.close(write_end)
        os.close(log)
        os.set_blocking(read_end, False)
        child = Child(request, pid, os.pidfd_open(pid), read_end, time.monotonic() + request.limits.seconds, folders)
        self._children[pid] = child
        self._selector.register(read_end, selectors.EVENT_READ, child)
        self._selector.register(child.pidfd, selectors.EVENT_READ, child)

    def _read_child(self, child: Child, descriptor: int) -> None:
        if descriptor == child.pipe:
            self._drain(child)
        elif descriptor == child.pidfd:
            self._reap(child)

    def _drain(self, child: Child) -> None:
        while not child.closed:
            try:
                data = os.read(child.pipe, 1 << 16)
            except BlockingIOError:
                return
            if not data:
                self._close_pipe(child)
                return
            child.answer += data
            if len(child.answer) > LONGEST_ANSWER:
                child.end("PLAN_FAILED", "the trainer's answer is too long")
                self._close_pipe(child)

    def _close_pipe(self, child: Child) -> None:
        self._selector.unregister(child.pipe)
        os.close(child.pipe)
        child.closed = True

    def _reap(self, child: Child) -> None:
        _, status = os.waitpid(child.pid, 0)
        self._drain(child)
        if not child.closed:
            self._close_pipe(child)
        self._selector.unregister(child.pidfd)
        os.close(child.pidfd)
        del self._children[child.pid]
        _remove_new_folders(child.request.out, child.folders)
        self._send(_outcome(child, status))

    def _look(self) -> None:
        now = time.monotonic()
        for child in self._children.values():
            limits = child.request.limits
            if now > child.deadline:
                child.end("TIME_LIMIT", f"the trainer took longer than {limits.seconds:g} s")
                continue
            resident, threads = _usage(child.pid)
            if resident > limits.memory_bytes:
                child.end("MEMORY_LIMIT", f"the trainer used more than {limits.memory_bytes} bytes of memory")
            elif threads > MOST_THREADS + limits.threads:
                child.end("THREAD_LIMIT", f"the trainer started more than {MOST_THREADS} threads")
            elif _written_bytes(child.request.out) > limits.file_bytes:
                child.end("FILE_LIMIT", f"the trainer wrote more than {limits.file_bytes} bytes or too many files")


def _usage(pid: int) -> tuple[int, int]:
    """Return a process's resident bytes and number of threads; zeros once it has ended."""
    try:
        # proc(5): the fields after the program's name, which is in parentheses and may hold anything
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return int(fields[21]) * os.sysconf("SC_PAGE_SIZE"), int(fields[17])
    except (OSError, IndexError, ValueError):
        return 0, 0


def _remove_new_folders(out: Path, before: frozenset[str]) -> None:
    """Remove the folders that a child made in its out folder, its scratch among them."""
    for entry in list(os.scandir(out)):
        if entry.name not in before and entry.is_dir(follow_symlinks=False):
            with suppress(OSError):
                _remove_tree(entry.path)


def _remove_tree(folder: str) -> None:
    """Remove a folder level by level: a child can nest folders deeper than paths or recursion go."""
    while folders := _remove_files(folder):
        for inner in folders:
            for deeper in _remove_files(inner):
                Path(deeper).rename(Path(folder) / secrets.token_hex(16))
            Path(inner).rmdir()
    Path(folder).rmdir()


def _remove_files(folder: str) -> list[str]:
    folders = []
    with os.scandir(folder) as found:
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            else:
                Path(entry.path).unlink()
    return folders


def _written_bytes(folder: Path) -> int:
    """Return the bytes below a folder; more than any limit where there are too many entries or levels."""
    total, entries, pending = 0, 0, [(str(folder), 0)]
    while pending:
        path, depth = pending.pop()
        try:
            with os.scandir(path) as found:
                for entry in found:
                    entries += 1
                    if entries > MOST_FILES or depth > 64:
                        return 1 << 62
                    with suppress(OSError):
                        if entry.is_dir(follow_symlinks=False):
                            pending.append((entry.path, depth + 1))
                        else:
                            total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:  # gone since it was listed
            continue
    return total


def _outcome(child: Child, status: int) -> dict[str, Any]:
    """Return the answer for a child that has ended. What it says of itself is taken only in the right form."""
    failure = child.verdict
    if failure is None and os.WIFSIGNALED(status):
        signal_number = os.WTERMSIG(status)
        if signal_number == signal.SIGXCPU:
            failure = ("TIME_LIMIT", "the trainer used up its processor time")
        else:
            failure = ("KILLED", f"the trainer was ended by {signal.Signals(signal_number).name}")
    if failure is None:
        try:
            answer = json.loads(child.answer)
            if answer["ok"] is True and isinstance(answer["result"], dict):
                return {"id": child.request.id, "ok": True, "result": checked_result(child.request, answer["result"])}
            error = answer["error"]
            failure = (_readable(error["code"], 64), _readable(error["text"], 500))
        except TaskError as error:
            failure = (error.code, error.text)
        except (ValueError, KeyError, TypeError, RecursionError):
            failure = ("PLAN_FAILED", f"the trainer ended without an answer (exit {os.waitstatus_to_exitcode(status)})")
    return {"id": child.request.id, "ok": False, "error": {"code": failure[0], "text": failure[1]}}


def _readable(value: object, longest: int) -> str:
    """Return a child's words cut short; a lone surrogate would break whoever writes them down."""
    return str(value)[:longest].encode("utf-8", "replace").decode()


def _child(request: TaskRequest, layers: tuple[str, ...], parent: int, answer: int, log: int) -> None:
    """Be the child: confine, run, answer, leave. Never returns."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        sandbox.die_with_parent(parent)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.dup2(answer, 3)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        os.set_inheritable(3, False)
        code = _confined(request, layers)
    finally:
        os._exit(code)


def _confined(request: TaskRequest, layers: tuple[str, ...]) -> int:
    from .tasks import explain, ignore_full_files, run_task  # noqa: PLC0415  prepared by main()

    message: dict[str, Any]
    try:
        read = tuple(path for path in (request.plan, request.data, request.model) if path is not None)
        ignore_full_files()
        sandbox.confine(sandbox.Walls(read, request.out), request.limits, layers)
        message = {"ok": True, "result": run_task(request)}
    except BaseException as error:
        code, text = explain(error)
        message = {"ok": False, "error": {"code": code, "text": text}}
        with suppress(Exception):
            _log_exception(request)
    data = json.dumps(message, allow_nan=False).encode()
    while data:
        data = data[os.write(CHANNEL, data) :]
    return 0


def _log_exception(request: TaskRequest) -> None:
    import traceback  # noqa: PLC0415

    if (request.out / "trainer.log").stat().st_size < LOG_BYTES:
        os.write(2, traceback.format_exc(limit=50).encode("utf-8", "replace")[-8192:])


def _reexecute(workspace: Path | None) -> None:
    """Start this program anew with its own environment and, where it can be, inside bubblewrap."""
    inner = [sys.executable, "-s", "-P", "-m", "fedfabric.trainers.zygote"]
    if workspace is not None:
        inner += ["--workspace", str(workspace)]
    program = sandbox.bubblewrap_program() if workspace is not None else None
    os.set_inheritable(CHANNEL, True)
    if program is not None and workspace is not None:
        command = sandbox.bubblewrap_arguments(program, workspace, inner)
        os.execve(program, command, dict(_ENVIRONMENT))  # noqa: S606
    os.execve(sys.executable, inner, dict(_ENVIRONMENT))  # noqa: S606


def main(arguments: list[str] | None = None) -> int:
    """Run the trainers' process; returns when the other end of descriptor 3 closes."""
    parser = argparse.ArgumentParser(prog="python -m fedfabric.trainers.zygote", description=__doc__.split("\n")[0])
    parser.add_argument("--workspace", type=Path, help="the only folder that tasks' paths may lie in")
    options = parser.parse_args(arguments)
    workspace = None if options.workspace is None else options.workspace.resolve(strict=True)
    try:
        channel = socket.socket(fileno=CHANNEL)
    except OSError:
        print("descriptor 3 is not a socket: this program is started by a gateway", file=sys.stderr)  # noqa: T201
        return 2
    if os.environ.get(_STARTED) != "1":
        channel.detach()
        _reexecute(workspace)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is the gateway's to handle
    from .tasks import prepare  # noqa: PLC0415  imports torch

    prepare()
    with channel:
        channel.setblocking(True)
        try:
            Zygote(channel, workspace).serve()
        except (BrokenPipeError, ConnectionResetError):
            return 0
    return 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # nothing is left to tidy, and unloading PyTorch keeps a gateway waiting
