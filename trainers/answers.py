"""What a task answers, checked on both sides: the child refuses a plan's bad metrics, the parent trusts no child."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .errors import TaskError

if TYPE_CHECKING:
    from .requests import TaskRequest

MOST_METRICS = 64
WRITTEN = {"train": ("delta", "delta.safetensors"), "initialise": ("model", "model.safetensors")}
"""The field and file name of what a task writes into its out folder."""


def finite_metrics(metrics: object) -> dict[str, float]:
    """Return metrics if they are few, named in printable ASCII and finite.

    Raises:
        TaskError: NOT_FINITE, or PLAN_FAILED for anything else.
    """
    if not isinstance(metrics, dict) or len(metrics) > MOST_METRICS:
        raise TaskError("PLAN_FAILED", f"metrics are not a dict of at most {MOST_METRICS} floats")
    for name, value in metrics.items():
        if not isinstance(name, str) or not name.isascii() or not name.isprintable() or not 0 < len(name) <= 64:
            raise TaskError("PLAN_FAILED", "a metric's name is not 1 to 64 printable ASCII characters")
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise TaskError("PLAN_FAILED", f"metric {name} is not a number")
        if abs(value) > 1e300 or not math.isfinite(value):  # in this order: isfinite takes no integer beyond floats
            raise TaskError("NOT_FINITE", f"metric {name} is NaN or infinite")
    return metrics


def checked_result(request: TaskRequest, result: dict[str, Any]) -> dict[str, Any]:
    """Return a child's result with nothing in it that was not checked: a plan can write it in the task's stead.

    Raises:
        TaskError: PLAN_FAILED or NOT_FINITE.
    """
    seconds = result.get("seconds")
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 <= seconds <= 1e9:
        raise TaskError("PLAN_FAILED", "the trainer's answer is malformed")
    checked: dict[str, Any] = {"seconds": float(seconds)}
    if request.task == "initialise":
        names = ("parameters",)
    else:
        names = ("samples",)
        checked["metrics"] = finite_metrics(result.get("metrics"))
    for name in names:
        value = result.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
            raise TaskError("PLAN_FAILED", f"{name} is not a whole number")
        checked[name] = value
    if request.task in WRITTEN:
        field, file = WRITTEN[request.task]
        path = request.out / file
        if path.is_symlink() or not path.is_file():
            raise TaskError("PLAN_FAILED", f"the trainer wrote no {file}")
        checked[field] = str(path)
    if request.task == "initialise":
        digest = result.get("digest")
        if not isinstance(digest, str) or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise TaskError("PLAN_FAILED", "the trainer's answer is malformed")
        checked["digest"] = digest
    return checked
