"""What the trainers' process is asked, checked before anything is started."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import PlanError, TaskError
from .plans import check_params
from .sandbox import Limits

LONGEST_LINE = 1 << 20
NEEDED = {
    "train": ("plan", "data", "model", "out", "round"),
    "evaluate": ("plan", "data", "model", "out"),
    "initialise": ("plan", "out"),
}
"""The fields that each task needs beside id and task."""

_KNOWN = {"id", "task", "plan", "data", "model", "out", "round", "params", "limits", "seed", "foreign"}


@dataclass(frozen=True)
class Place:
    """Where training takes place: job id, round from 1, attempt from 0, member (MSP id)."""

    job: str
    number: int
    member: str
    attempt: int = 0


@dataclass(frozen=True)
class TaskRequest:
    """One task: paths are absolute; `data` is a folder, `plan` a bundle, `model` a safetensors file."""

    id: str
    task: str
    plan: Path
    out: Path
    data: Path | None
    model: Path | None
    place: Place | None
    params: dict[str, Any]
    limits: Limits
    seed: int
    foreign: bool

    @property
    def scratch(self) -> Path:
        """The child's own folder for temporary files, removed after it."""
        return self.out / ".scratch"


def _refuse(text: str) -> TaskError:
    return TaskError("BAD_REQUEST", text)


def decode_line(line: bytes) -> dict[str, Any]:
    """Decode a line of the protocol.

    Raises:
        TaskError: BAD_REQUEST, it is not a JSON object with an id.
    """
    try:
        message = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _refuse("the line is not JSON") from error
    if not isinstance(message, dict):
        raise _refuse("the line is not a JSON object")
    if not isinstance(message.get("id"), str) or not 0 < len(message["id"]) <= 64:
        raise _refuse("id is not a string of 1 to 64 characters")
    return message


def parse_request(message: dict[str, Any], workspace: Path | None) -> TaskRequest:
    """Check a request.

    Args:
        message: from `decode_line`.
        workspace: the folder that all paths must lie in, where the process sees no other.

    Raises:
        TaskError: BAD_REQUEST, with the field that is at fault.
    """
    task = message.get("task")
    if not isinstance(task, str) or task not in NEEDED:
        raise _refuse(f"task is none of {', '.join(NEEDED)}")
    if unknown := sorted(map(str, message.keys() - _KNOWN)):
        raise _refuse(f"unknown field {unknown[0][:40]}")
    for name in NEEDED[task]:
        if message.get(name) is None:
            raise _refuse(f"{task} needs {name}")
    params = {} if message.get("params") is None else message["params"]
    try:
        check_params(params)
    except PlanError as error:
        raise _refuse(error.text) from error
    paths = {name: _path(message, name, workspace) for name in ("plan", "data", "model", "out")}
    plan, out, data = paths["plan"], paths["out"], paths["data"]
    if plan is None or out is None or not out.is_dir():
        raise _refuse("out is not a folder")
    if data is not None and not data.is_dir():
        raise _refuse("data is not a folder")
    foreign = message.get("foreign", True)
    if not isinstance(foreign, bool):
        raise _refuse("foreign is not a boolean")
    return TaskRequest(
        id=message["id"],
        task=task,
        plan=plan,
        out=out,
        data=data,
        model=paths["model"],
        place=_place(message.get("round")),
        params=params,
        limits=_limits({} if message.get("limits") is None else message["limits"]),
        seed=_whole(message, "seed", 0, 0, 2**60),
        foreign=foreign,
    )


def _path(message: dict[str, Any], name: str, workspace: Path | None) -> Path | None:
    value = message.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value or len(value) > 4096:
        raise _refuse(f"{name} is not an absolute path")
    path = Path(value)
    try:
        path = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise _refuse(f"{name} does not exist") from error
    if workspace is not None and not path.is_relative_to(workspace.resolve()):
        raise _refuse(f"{name} lies outside the workspace")
    return path


def _place(value: object) -> Place | None:
    if value is None:
        return None
    if not isinstance(value, dict) or value.keys() - {"job", "number", "attempt", "member"}:
        raise _refuse("round is not {job, number, attempt, member}")
    texts = [value.get("job"), value.get("member")]
    if not all(isinstance(text, str) and 0 < len(text) <= 256 for text in texts):
        raise _refuse("round.job and round.member are strings of 1 to 256 characters")
    return Place(
        job=value["job"],
        member=value["member"],
        number=_whole(value, "number", 1, 1, 2**31),
        attempt=_whole(value, "attempt", 0, 0, 2**31),
    )


def _whole(value: dict[str, Any], name: str, default: int, least: int, most: int) -> int:
    found = value.get(name, default)
    if not isinstance(found, int) or isinstance(found, bool) or not least <= found <= most:
        raise _refuse(f"{name} is not a whole number in [{least}, {most}]")
    return found


def _limits(value: object) -> Limits:
    if not isinstance(value, dict) or value.keys() - {"memory_bytes", "seconds", "file_bytes", "threads"}:
        raise _refuse("limits is not {memory_bytes, seconds, file_bytes, threads}")
    default = Limits()
    seconds = value.get("seconds", default.seconds)
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 < seconds <= 30 * 86400:
        raise _refuse("limits.seconds is not a number in (0, 2592000]")
    return Limits(
        memory_bytes=_whole(value, "memory_bytes", default.memory_bytes, 1 << 24, 1 << 46),
        seconds=float(seconds),
        file_bytes=_whole(value, "file_bytes", default.file_bytes, 0, 1 << 46),
        threads=_whole(value, "threads", default.threads, 1, 1024),
    )
