"""The recipe of one round, which a gateway, the one-process simulation and the auditor share.

`encode_update` turns a trained delta into the bytes that a member publishes; `aggregate` turns the round's updates into
the next global model and the digest that every honest member attests. Both go segment by segment, so memory does not
grow with the model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from .digests import tagged_json_hash
from .encoding import RingEncoding, add_within, ring_specs
from .errors import AggregationError, EncodingError, UpdateRefusedError
from .manifests import Manifest, ManifestBuilder
from .server import SCALAR, ServerOptimizer, check_arithmetic
from .tensor_files import DEFAULT_LIMITS, TensorFile, TensorFileWriter
from .tensors import AVERAGED, SEGMENT, MemoryWriter, Tensors, TensorSpec, TensorWriter, segments

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from .rounding import Rounding

DELTA = "delta"
"""The vector that FedAvg's members send: their local model less the global one. Its tensors are delta/NAME."""


@dataclass(frozen=True)
class Update:
    """A member's encoded update: `tensors` are U32 under delta/NAME, `samples` is n_k as registered in its record."""

    member: str
    tensors: Tensors
    samples: int


class _Closing(ABC):
    """Has tensors that may be open files; a context manager that closes them."""

    @abstractmethod
    def _tensors(self) -> tuple[Tensors, ...]: ...

    def close(self) -> None:
        """Close the files behind the tensors; tensors in memory stay usable."""
        for tensors in self._tensors():
            if isinstance(tensors, TensorFile):
                tensors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class EncodedUpdate(_Closing):
    """What encoding gave: the update, its manifest and digest, and how many of its elements the clip cut.

    Written to a file, it holds the file open: close it, or use it as a context manager.
    """

    tensors: Tensors
    manifest: Manifest
    saturated: int
    elements: int

    @property
    def digest(self) -> str:
        """The update's digest."""
        return self.manifest.digest

    def _tensors(self) -> tuple[Tensors, ...]:
        return (self.tensors,)


@dataclass(frozen=True)
class Aggregate(_Closing):
    """The outcome of a round. Written to files, it holds them open: close it, or use it as a context manager.

    digest: H(ring sum ‖ model ‖ optimiser state), what members attest.
    counted: the members in the sum, refused: those left out and why. Both follow from the updates' bytes alone, so that
    honest members agree on them.
    """

    model: Tensors
    state: Tensors
    model_digest: str
    state_digest: str
    ring_digest: str
    digest: str
    samples: int
    counted: tuple[str, ...] = ()
    refused: tuple[UpdateRefusedError, ...] = ()

    def _tensors(self) -> tuple[Tensors, ...]:
        return self.model, self.state


def aggregate_digest(ring: str, model: str, state: str) -> str:
    """Return the digest attested for a round, from the digests of ring sum, model and optimiser state."""
    return tagged_json_hash("aggregate", {"v": 1, "ring": ring, "model": model, "state": state})


def averaged_specs(model: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
    """Return a model's tensors that are averaged, in name order.

    Raises:
        AggregationError: a tensor has a float type that this does not average (F16).
    """
    for name, spec in model.items():
        if spec.dtype.startswith("F") and spec.dtype not in AVERAGED:
            raise AggregationError(f"{name}: a model's float tensors are {' or '.join(AVERAGED)}, not {spec.dtype}")
    return {name: model[name] for name in sorted(model) if model[name].dtype in AVERAGED}


def delta_specs(model: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
    """Return the tensors that a trainer's delta has for a model: delta/NAME for each averaged one."""
    return {f"{DELTA}/{name}": spec for name, spec in averaged_specs(model).items()}


def update_specs(model: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
    """Return the tensors that an encoded update has for a model."""
    return ring_specs(delta_specs(model))


def largest_update_bytes(model: Mapping[str, TensorSpec]) -> int:
    """Return the bytes of the largest file that can be an encoded update for a model.

    Whoever says of an update that it is larger has not sent one: it is left out unread, by everybody alike.

    Raises:
        AggregationError: a tensor has a float type that is not averaged (F16).
    """
    return 8 + DEFAULT_LIMITS.header_bytes + sum(spec.nbytes for spec in update_specs(model).values())


def encode_update(
    delta: Tensors,
    model: Mapping[str, TensorSpec],
    samples: int,
    encoding: RingEncoding,
    rounding: Rounding,
    *,
    out: Path | None = None,
) -> EncodedUpdate:
    """Encode a trained delta for publication, into the file `out` or in memory.

    Args:
        delta: the trainer's delta/NAME tensors; distrusted.
        model: the global model's specs.
        samples: n_k, at most what the organisation registered.
        encoding: the round's.
        rounding: the bits of this organisation, job, round and attempt.
        out: path of the safetensors file to write.

    Raises:
        EncodingError: other tensors than the model's, NaN, infinity, samples out of range.
    """
    _require_specs(delta.specs, delta_specs(model))
    specs = update_specs(model)
    with _Output(specs, out) as output:
        saturated = encoding.encode_tensors(delta, samples, rounding, output)
        tensors = output.finish()
    return EncodedUpdate(tensors, output.manifest, saturated, sum(spec.size for spec in specs.values()))


def aggregate(
    model: Tensors,
    updates: Iterable[Update],
    encoding: RingEncoding,
    optimizer: ServerOptimizer,
    state: Tensors | None = None,
    *,
    out: Path | None = None,
) -> Aggregate:
    """Sum a round's updates exactly and step the global model.

    An update whose tensors or values no honest member can send is left out, and the rest is summed without it.

    Args:
        model: the global model that the updates were trained from.
        updates: at most K, from distinct members, whose samples add up to at most N.
        encoding: the round's.
        optimizer: the job's.
        state: the optimiser's state after the previous round; None before the first.
        out: folder for model.safetensors and state.safetensors; None keeps both in memory.

    Raises:
        AggregationError: no update is left, or the round's numbers contradict each other.
        ArithmeticUnfitError: this process would compute other digests than everybody else.
    """
    candidates = sorted(updates, key=lambda update: update.member)
    _check_cohort(candidates, encoding)
    refused: list[UpdateRefusedError] = []
    valid: list[Update] = []
    wanted = update_specs(model.specs)
    for update in candidates:
        try:
            _require_specs(update.tensors.specs, wanted)
            encoding.factor(update.samples)
        except EncodingError as error:
            refused.append(UpdateRefusedError(update.member, str(error)))
        else:
            valid.append(update)
    while valid:
        samples = sum(update.samples for update in valid)
        try:
            outcome = step(model, RingSum(valid, encoding), samples, encoding, optimizer, state=state, out=out)
        except UpdateRefusedError as error:
            # found while summing, so that honest rounds read every update once only
            refused.append(error)
            valid = [update for update in valid if update.member != error.member]
        else:
            members = tuple(update.member for update in valid)
            return replace(outcome, counted=members, refused=tuple(refused))
    raise AggregationError(
        "no update is valid: " + "; ".join(str(error) for error in refused[:8]) if refused else "no update",
        code="NO_UPDATES",
    )


class RingSum:
    """The sum modulo 2^32 of updates, as tensors that are summed while they are read.

    With an encoding, each value is checked against its member's weight. Without, none is: values under a mask are
    uniform over the ring, and only their sum means something.
    """

    def __init__(self, updates: list[Update], encoding: RingEncoding | None) -> None:
        self._updates = updates
        self._limits = [None if encoding is None else encoding.limit(update.samples) for update in updates]

    @property
    def specs(self) -> Mapping[str, TensorSpec]:
        """The specs that all updates share."""
        return self._updates[0].tensors.specs

    def read(self, name: str, start: int, stop: int) -> NDArray[np.uint32]:
        """Return elements [start, stop) of the sum.

        Raises:
            UpdateRefusedError: an update holds a value beyond its member's weight.
        """
        total: NDArray[np.uint32] | None = None
        for update, limit in zip(self._updates, self._limits, strict=True):
            total = add_within(total, cast("NDArray[np.uint32]", update.tensors.read(name, start, stop)), limit)
            if total is None:
                raise UpdateRefusedError(update.member, f"{name} exceeds the range of its weight, ±{limit}")
        return np.zeros(stop - start, dtype=np.uint32) if total is None else total


def step(
    model: Tensors,
    ring_sum: Tensors,
    samples: int,
    encoding: RingEncoding,
    optimizer: ServerOptimizer,
    *,
    state: Tensors | None = None,
    out: Path | None = None,
) -> Aggregate:
    """Decode a ring sum and step the global model: the server's half of a round.

    Args:
        model: the global model before the round.
        ring_sum: U32 tensors delta/NAME, the sum of the survivors' encoded updates.
        samples: n_surv, the survivors' samples together.
        encoding: the round's.
        optimizer: the job's.
        state: the optimiser's state after the previous round; None before the first.
        out: folder for model.safetensors and state.safetensors; None keeps both in memory.

    Raises:
        AggregationError: tensors that are not the model's, or a result that is not finite.
        ArithmeticUnfitError: this process would compute other digests than everybody else.
    """
    check_arithmetic()
    averaged = averaged_specs(model.specs)
    if not averaged:
        raise AggregationError("the model has no tensor that is averaged", code="EMPTY_MODEL")
    _require_specs(ring_sum.specs, update_specs(model.specs))
    state = optimizer.init(averaged) if state is None else state
    state_specs = dict(state.specs)
    if state_specs != {name: spec for name, (spec, _) in optimizer.state_specs(averaged).items()}:
        raise AggregationError("the optimiser's state is not that of this model and optimiser", code="STATE")
    with (
        _Output(model.specs, out and out / "model.safetensors") as new_model,
        _Output(state_specs, out and out / "state.safetensors") as new_state,
    ):
        ring = ManifestBuilder(ring_sum.specs)
        scalars = optimizer.advance(_scalars(state))
        for name, value in scalars.items():
            new_state.write(SCALAR + name, np.array([value]))
        for name, spec in model.specs.items():
            for start, stop in segments(spec.size, SEGMENT):
                old = model.read(name, start, stop)
                if name not in averaged:
                    new_model.write(name, old)
                    continue
                summed = ring_sum.read(f"{DELTA}/{name}", start, stop)
                ring.add(f"{DELTA}/{name}", summed)
                stepped, slots = optimizer.step_segment(
                    old.astype(np.float64),
                    encoding.decode_segment(summed, samples),
                    {slot: state.read(f"{slot}/{name}", start, stop) for slot in optimizer.slots},
                    scalars,
                )
                new_model.write(name, _cast(name, stepped, spec))
                for slot, values in slots.items():
                    new_state.write(f"{slot}/{name}", values)
        tensors = new_model.finish(), new_state.finish()
    ring_digest = ring.finish().digest
    return Aggregate(
        model=tensors[0],
        state=tensors[1],
        model_digest=new_model.digest,
        state_digest=new_state.digest,
        ring_digest=ring_digest,
        digest=aggregate_digest(ring_digest, new_model.digest, new_state.digest),
        samples=samples,
    )


def _scalars(state: Tensors) -> dict[str, float]:
    return {
        name.removeprefix(SCALAR): float(state.read(name, 0, 1)[0]) for name in state.specs if name.startswith(SCALAR)
    }


def _check_cohort(updates: list[Update], encoding: RingEncoding) -> None:
    members = [update.member for update in updates]
    if len(set(members)) != len(members):
        raise AggregationError("a member has two updates in one round", code="DUPLICATE")
    if len(updates) > encoding.cohort:
        raise AggregationError(f"{len(updates)} updates of a cohort of {encoding.cohort}", code="COHORT")
    if sum(update.samples for update in updates) > encoding.total_samples:
        raise AggregationError("the updates' samples add up to more than the cohort registered", code="SAMPLES")


def _require_specs(found: Mapping[str, TensorSpec], wanted: Mapping[str, TensorSpec]) -> None:
    if dict(found) == dict(wanted):
        return
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            raise EncodingError(f"tensor {name} is missing", code="TENSORS")
        if name not in wanted:
            raise EncodingError(f"tensor {name} is not one of the model's", code="TENSORS")
        if found[name] != wanted[name]:
            raise EncodingError(
                f"tensor {name} is {found[name].dtype} {list(found[name].shape)}, "
                f"the model takes {wanted[name].dtype} {list(wanted[name].shape)}",
                code="TENSORS",
            )


def _cast(name: str, values: NDArray[np.float64], spec: TensorSpec) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        result = values.astype(spec.numpy)
    if not np.all(np.isfinite(result)):
        raise AggregationError(f"{name}: the server step left the range of {spec.dtype}", code="NOT_FINITE")
    return result


class _Output:
    """Writes tensors into a file, or into memory where there is no path, and hashes them in the same pass.

    What is not finished is removed on leaving.
    """

    def __init__(self, specs: Mapping[str, TensorSpec], path: Path | None) -> None:
        self._writer: TensorWriter = MemoryWriter(specs) if path is None else TensorFileWriter(path, specs)
        self._builder = ManifestBuilder(specs)
        self.manifest = Manifest(())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if isinstance(self._writer, TensorFileWriter):
            self._writer.abandon()

    def write(self, name: str, values: NDArray[Any]) -> None:
        values = np.ascontiguousarray(values)
        self._builder.add(name, values)
        self._writer.write(name, values)

    def finish(self) -> Tensors:
        self.manifest = self._builder.finish()
        return self._writer.finish()

    @property
    def digest(self) -> str:
        return self.manifest.digest
