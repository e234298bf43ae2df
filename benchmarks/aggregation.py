"""`aggregation`: ten encoded updates of ten million parameters summed exactly, against numpy's float32 sum of them.

The sum is the one that gateways make, by segments; with each value checked against its member's weight on the way, as
clear updates are, and without, as masked ones are. numpy's is the faster of `np.sum(axis=0)` and adding array by array.
All run on one thread, take turns, and are timed by that thread's processor time, so that what else the machine does
counts for none. Encoding, hashing, decoding with the server step, and a whole round from files to files are printed
apart.
"""

import functools
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fedfabric.aggregation import (
    Adam,
    MemoryTensors,
    RingEncoding,
    Rounding,
    TensorFile,
    Update,
    aggregate,
    encode_update,
    manifest_of,
    step,
    update_specs,
    write_tensors,
)
from fedfabric.aggregation.rounds import RingSum
from fedfabric.aggregation.tensors import segments

from .figures import Report, at_most

PARAMETERS = 10_000_000
MEMBERS = 10
RUNS = 9
MEBIBYTE = 1 << 20


def _seconds(work: Callable[[], Any]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


def _numpy_sum(stack: np.ndarray) -> None:
    np.sum(stack, axis=0)


def _numpy_additions(stack: np.ndarray) -> None:
    total = stack[0].copy()
    for row in stack[1:]:
        np.add(total, row, out=total)


def _ring_sum(updates: list[Update], encoding: RingEncoding | None) -> None:
    ring = RingSum(updates, encoding)
    for name, spec in ring.specs.items():
        for start, stop in segments(spec.size):
            ring.read(name, start, stop)


def _ratios(ours: list[float], theirs: list[float]) -> list[float]:
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def _deltas() -> np.ndarray:
    generator = np.random.default_rng(1)
    stack = np.empty((MEMBERS, PARAMETERS), dtype=np.float32)
    generator.standard_normal(out=stack, dtype=np.float32)
    stack *= np.float32(0.01)
    return stack


def _file_round(folder: Path, parameters: int, updates: int) -> tuple[float, int]:
    """A whole round from files to files: seconds, and the most memory that numpy held, in bytes."""
    specs = MemoryTensors({"w": np.zeros(parameters, dtype=np.float32)})
    encoding = RingEncoding(0.1, MEMBERS, MEMBERS)
    write_tensors(folder / "global", specs)
    delta = MemoryTensors({"delta/w": np.full(parameters, 0.01, dtype=np.float32)})
    for k in range(updates):
        rounding = Rounding(bytes([k]) * 32, "bench", 1)
        encode_update(delta, specs.specs, 1, encoding, rounding, out=folder / f"{k}").close()
    del specs, delta
    files = [TensorFile(folder / f"{k}") for k in range(updates)]
    with TensorFile(folder / "global") as model:
        members = [Update(str(k), file, 1) for k, file in enumerate(files)]
        seconds = _seconds(lambda: aggregate(model, members, encoding, Adam(), out=folder).close())
        tracemalloc.start()
        aggregate(model, members, encoding, Adam(), out=folder).close()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    for file in files:
        file.close()
    return seconds, peak


def run() -> Report:
    """Measure."""
    report = Report("aggregation")
    stack = _deltas()
    encoding = RingEncoding(0.1, MEMBERS, MEMBERS)
    model = MemoryTensors({"w": np.zeros(PARAMETERS, dtype=np.float32)})
    updates, encode = [], []
    for k in range(MEMBERS):
        delta = {"delta/w": stack[k]}
        rounding = Rounding(bytes([k]) * 32, "bench", 1)
        began = time.thread_time()
        ring = encoding.encode(delta, 1, rounding)
        encode.append(time.thread_time() - began)
        updates.append(Update(str(k), MemoryTensors(ring), 1))
    ring_sum = MemoryTensors(
        {"delta/w": np.add.reduce([update.tensors.arrays["delta/w"] for update in updates], dtype=np.uint32)}
    )
    candidates = (functools.partial(_numpy_sum, stack), functools.partial(_numpy_additions, stack))
    plain, checked, theirs = [], [], []
    for _ in range(RUNS):
        plain.append(min(_seconds(lambda: _ring_sum(updates, None)) for _ in range(2)) * 1000)
        checked.append(min(_seconds(lambda: _ring_sum(updates, encoding)) for _ in range(2)) * 1000)
        theirs.append(min(_seconds(candidate) for candidate in candidates) * 1000)
    report.add("ring sum / numpy float32 sum", _ratios(plain, theirs), "x", at_most(1.1))
    report.add("the same with every value checked / numpy", _ratios(checked, theirs), "x")
    report.add("ring sum", plain, "ms")
    report.add("ring sum with every value checked", checked, "ms")
    report.add("numpy float32 sum", theirs, "ms")
    report.add("encoding an update", [seconds * 1000 for seconds in encode], "ms")
    report.add("hashing an update", [_seconds(lambda: manifest_of(ring_sum)) * 1000 for _ in range(3)], "ms")
    stepping = [_seconds(lambda: step(model, ring_sum, MEMBERS, encoding, Adam())) * 1000 for _ in range(3)]
    report.add("decoding, Adam step and hashing", stepping, "ms")
    assert ring_sum.specs == update_specs(model.specs)
    peaks = {}
    for parameters in (PARAMETERS // 10, PARAMETERS):
        with tempfile.TemporaryDirectory() as folder:
            seconds, peaks[parameters] = _file_round(Path(folder), parameters, MEMBERS)
    report.add("a round from files to files (Adam)", seconds * 1000, "ms")
    report.add("memory of a round, 1 M parameters", peaks[PARAMETERS // 10] / MEBIBYTE, "MiB")
    report.add("memory of a round, 10 M parameters", peaks[PARAMETERS] / MEBIBYTE, "MiB")
    report.add("memory, 10 M over 1 M", peaks[PARAMETERS] / peaks[PARAMETERS // 10], "x", at_most(1.5))
    report.notes.append(
        f"{MEMBERS} updates of {PARAMETERS:,} parameters. Each ratio is of the faster of two runs, taken in turns, in "
        "processor time of one thread; numpy's is the faster of np.sum and adding array by array."
    )
    return report
