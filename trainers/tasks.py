"""The three tasks of a trainer child: train, evaluate, initialise. Runs after the child is confined."""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
import time
import traceback
from typing import TYPE_CHECKING, Any

import torch

from ..aggregation import AggregationError, TensorFile, manifest_of, write_tensors
from .algorithms import ClientContext, repeatable
from .answers import WRITTEN, finite_metrics
from .data import samples_of
from .errors import TaskError, TrainerError
from .loading import Plan, load_plan
from .models import load_tensors, module_tensors
from .plans import DEFAULT_LIMITS, read_bundle
from .process import flatten

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .requests import TaskRequest


def run_task(request: TaskRequest) -> dict[str, Any]:
    """Run a task and return its result.

    Raises:
        TrainerError: with a stable code. A plan's own words stay on this side: they could carry data.
    """
    started = time.perf_counter()
    os.environ["TMPDIR"] = os.environ["HOME"] = str(request.scratch)
    tempfile.tempdir = str(request.scratch)
    with request.plan.open("rb") as file:
        bundle = read_bundle(file.read(DEFAULT_LIMITS.bundle_bytes + 1))
    code = request.scratch / "plan"
    code.mkdir()
    bundle.unpack(code)
    sys.path.insert(0, str(code))  # for what the plan imports while it runs
    seed = request.seed if request.place is None else _context(request).seed
    with repeatable(seed, request.limits.threads):
        plan = load_plan(code, request.params)
        result = _TASKS[request.task](request, plan)
    result["seconds"] = round(time.perf_counter() - started, 6)
    return result


def _context(request: TaskRequest) -> ClientContext:
    place = request.place
    if place is None:
        raise TaskError("BAD_REQUEST", "round is missing")
    return ClientContext(place.job, place.number, place.member, place.attempt, request.limits.threads)


def _given(path: Path | None, name: str) -> Path:
    if path is None:
        raise TaskError("BAD_REQUEST", f"{name} is missing")
    return path


def _train(request: TaskRequest, plan: Plan) -> dict[str, Any]:
    data = plan.load(_given(request.data, "data"))
    with TensorFile(_given(request.model, "model")) as model:
        contribution, _ = plan.algorithm.client(model, data.train, {}, _context(request), plan.tools)
    write_tensors(request.out / WRITTEN["train"][1], flatten(contribution))
    metrics = {name: total / contribution.weight for name, total in contribution.scalars.items()}
    return {"samples": contribution.weight, "metrics": finite_metrics(metrics)}


def _evaluate(request: TaskRequest, plan: Plan) -> dict[str, Any]:
    data = plan.load(_given(request.data, "data"))
    model = plan.model()
    with TensorFile(_given(request.model, "model")) as tensors:
        load_tensors(model, tensors)
    return {"samples": samples_of(data.holdout), "metrics": finite_metrics(plan.metrics(model, data))}


def _initialise(request: TaskRequest, plan: Plan) -> dict[str, Any]:
    with repeatable(request.seed, 1):
        tensors = module_tensors(plan.model())
    write_tensors(request.out / WRITTEN["initialise"][1], tensors)
    parameters = sum(spec.size for spec in tensors.specs.values())
    return {"digest": manifest_of(tensors).digest, "parameters": parameters}


_TASKS: dict[str, Callable[[TaskRequest, Plan], dict[str, Any]]] = {
    "train": _train,
    "evaluate": _evaluate,
    "initialise": _initialise,
}


def explain(error: BaseException) -> tuple[str, str]:
    """Return code and text of what a task raised; of a plan's exception only its type and place."""
    if isinstance(error, TrainerError):
        return error.code, error.text
    if isinstance(error, AggregationError):
        return "MODEL_MISMATCH", f"{error.code}: {error}"
    text = str(error)
    out_of_memory = isinstance(error, RuntimeError) and ("can't allocate memory" in text or "std::bad_alloc" in text)
    if isinstance(error, MemoryError) or out_of_memory:
        return "MEMORY_LIMIT", "the trainer reached its memory limit"
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return "FILE_LIMIT", "the trainer reached its limit on written bytes"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "DISK_FULL", "no space is left where the trainer writes"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith("plan.py")]
    place = f" at plan.py:{frames[-1].lineno}" if frames else ""
    return "PLAN_FAILED", f"{type(error).__name__}{place}; the trainer's log has more"


def prepare() -> None:
    """Import and make what every task needs, once before the first fork: a first optimiser step takes seconds.

    One thread only: threads do not survive a fork.
    """
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4, 2))
    for kind in (torch.optim.SGD, torch.optim.Adam):
        with repeatable(0, 1):
            optimizer = kind(model.parameters(), lr=0.1)
            loss = torch.nn.functional.cross_entropy(model(torch.ones(2, 1, 4, 4)), torch.zeros(2, dtype=torch.int64))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def ignore_full_files() -> None:
    """Have a write past the limit raise EFBIG instead of ending the process."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
