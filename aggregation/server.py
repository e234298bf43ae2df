r"""Server optimisers: from the global model and the weighted mean Δ of the members' deltas to the next model.

All in float64, by elementwise addition, subtraction, product, quotient and square root only. These round the same on
every processor, while sums, dot products, pow and exp don't; so every member gets the same bytes. FedOpt as in Reddi et
al. 2021 (Adaptive Federated Optimization, Algorithm 2): Δ is the pseudo-gradient with its sign turned, so steps are
added.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .errors import ArithmeticUnfitError, EncodingError
from .tensors import ConstantTensors, Tensors, TensorSpec, to_arrays

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Float64 = NDArray[np.float64]

SCALAR = "scalar/"
"""Prefix of the state's scalars; a slot's tensors are named slot/tensor."""


@dataclass(frozen=True)
class ServerOptimizer(ABC):
    """An elementwise optimiser with `slots` state vectors per tensor and named scalars.

    `learning_rate` is η of the server step.
    """

    learning_rate: float = 1.0

    name: ClassVar[str]
    slots: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        _require(0 < self.learning_rate < math.inf, "learning_rate", "above 0")

    def initial_slot(self, slot: str) -> float:  # noqa: ARG002
        """Return the value that a slot's elements start with."""
        return 0.0

    def initial_scalars(self) -> dict[str, float]:
        """Return the scalars before the first round."""
        return {}

    def advance(self, scalars: Mapping[str, float]) -> dict[str, float]:
        """Return the scalars of the next round; called once a round, before its segments."""
        return dict(scalars)

    @abstractmethod
    def step_segment(
        self, model: Float64, delta: Float64, slots: Mapping[str, Float64], scalars: Mapping[str, float]
    ) -> tuple[Float64, dict[str, Float64]]:
        """Return the next values of a segment of the model and of its slots (all of one length)."""

    def state_specs(self, averaged: Mapping[str, TensorSpec]) -> dict[str, tuple[TensorSpec, float]]:
        """Return spec and initial value of each tensor of the state, for a model's averaged tensors."""
        result = {
            f"{slot}/{name}": (TensorSpec("F64", spec.shape), self.initial_slot(slot))
            for slot in self.slots
            for name, spec in averaged.items()
        }
        for name, value in self.initial_scalars().items():
            result[SCALAR + name] = (TensorSpec("F64", ()), value)
        return result

    def init(self, averaged: Mapping[str, TensorSpec]) -> Tensors:
        """Return the state before the first round, for the averaged tensors of a model."""
        return ConstantTensors(self.state_specs(averaged))

    def step(
        self, model: Mapping[str, NDArray[Any]], mean_delta: Mapping[str, Float64], state: Tensors
    ) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Return the next model (each tensor in its own type) and state, all in memory.

        The streamed form, with the same results, is `rounds.aggregate`.
        """
        check_arithmetic()
        old = to_arrays(state)
        scalars = self.advance({n.removeprefix(SCALAR): float(v) for n, v in old.items() if n.startswith(SCALAR)})
        new_model: dict[str, NDArray[Any]] = {}
        new_state: dict[str, NDArray[Any]] = {SCALAR + n: np.array(v) for n, v in scalars.items()}
        for name, values in model.items():
            if name not in mean_delta:
                new_model[name] = values
                continue
            slots = {slot: old[f"{slot}/{name}"] for slot in self.slots}
            stepped, new_slots = self.step_segment(
                values.astype(np.float64), np.asarray(mean_delta[name], dtype=np.float64), slots, scalars
            )
            new_model[name] = stepped.astype(values.dtype)
            new_state |= {f"{slot}/{name}": value for slot, value in new_slots.items()}
        return new_model, new_state

    def describe(self) -> dict[str, str | int]:
        """Return name and parameters as records hold them: numbers as the shortest decimal strings, flags as 0 or 1."""
        result: dict[str, str | int] = {"name": self.name}
        for field in fields(self):
            value = getattr(self, field.name)
            result[field.name] = int(value) if isinstance(value, bool) else repr(float(value))
        return result


@dataclass(frozen=True)
class Sgd(ServerOptimizer):
    """x ← x + η Δ; with η = 1 the mean of the members' models (McMahan et al. 2017)."""

    name: ClassVar[str] = "sgd"

    def step_segment(
        self,
        model: Float64,
        delta: Float64,
        slots: Mapping[str, Float64],  # noqa: ARG002
        scalars: Mapping[str, float],  # noqa: ARG002
    ) -> tuple[Float64, dict[str, Float64]]:
        """Return the next segment."""
        return model + self.learning_rate * delta, {}


@dataclass(frozen=True)
class SgdMomentum(ServerOptimizer):
    """FedAvgM (Hsu et al. 2019): m ← β m + Δ; x ← x + η m."""

    momentum: float = 0.9

    name: ClassVar[str] = "sgdm"
    slots: ClassVar[tuple[str, ...]] = ("m",)

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(0 <= self.momentum < 1, "momentum", "in [0, 1)")

    def step_segment(
        self,
        model: Float64,
        delta: Float64,
        slots: Mapping[str, Float64],
        scalars: Mapping[str, float],  # noqa: ARG002
    ) -> tuple[Float64, dict[str, Float64]]:
        """Return the next segment."""
        m = self.momentum * slots["m"] + delta
        return model + self.learning_rate * m, {"m": m}


@dataclass(frozen=True)
class _Adaptive(ServerOptimizer):
    """m ← β1 m + (1 - β1) Δ; v by the subclass, from v = τ²; x ← x + η m / (√v + τ).

    With `bias_correction`, m and v are divided by 1 - β1^t and 1 - β2^t as in Kingma & Ba 2015; the powers are carried
    in the state by multiplication.
    """

    learning_rate: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3
    bias_correction: bool = False

    slots: ClassVar[tuple[str, ...]] = ("m", "v")

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(0 <= self.beta1 < 1, "beta1", "in [0, 1)")
        _require(0 <= self.beta2 < 1, "beta2", "in [0, 1)")
        _require(0 < self.tau < math.inf, "tau", "above 0")

    def initial_slot(self, slot: str) -> float:
        """Return 0 for m and τ² for v; 0 for v too where the bias of a start at 0 is corrected."""
        return self.tau * self.tau if slot == "v" and not self.bias_correction else 0.0

    def initial_scalars(self) -> dict[str, float]:
        """Return β^0 = 1 for both powers, where they are used."""
        return {"beta1_power": 1.0, "beta2_power": 1.0} if self.bias_correction else {}

    def advance(self, scalars: Mapping[str, float]) -> dict[str, float]:
        """Return the powers multiplied once more."""
        if not self.bias_correction:
            return {}
        return {
            "beta1_power": scalars["beta1_power"] * self.beta1,
            "beta2_power": scalars["beta2_power"] * self.beta2,
        }

    @abstractmethod
    def second_moment(self, v: Float64, square: Float64) -> Float64:
        """Return the next v, from v and Δ²."""

    def step_segment(
        self, model: Float64, delta: Float64, slots: Mapping[str, Float64], scalars: Mapping[str, float]
    ) -> tuple[Float64, dict[str, Float64]]:
        """Return the next segment."""
        m = self.beta1 * slots["m"] + (1.0 - self.beta1) * delta
        v = self.second_moment(slots["v"], delta * delta)
        if self.bias_correction:
            corrected_m = m / (1.0 - scalars["beta1_power"])
            corrected_v = v / (1.0 - scalars["beta2_power"])
        else:
            corrected_m, corrected_v = m, v
        return model + self.learning_rate * corrected_m / (np.sqrt(corrected_v) + self.tau), {"m": m, "v": v}


@dataclass(frozen=True)
class Adam(_Adaptive):
    """FedAdam: v ← β2 v + (1 - β2) Δ²."""

    name: ClassVar[str] = "adam"

    def second_moment(self, v: Float64, square: Float64) -> Float64:
        """Return the next v."""
        return self.beta2 * v + (1.0 - self.beta2) * square


@dataclass(frozen=True)
class Yogi(_Adaptive):
    """FedYogi: v ← v - (1 - β2) Δ² sign(v - Δ²)."""

    name: ClassVar[str] = "yogi"

    def second_moment(self, v: Float64, square: Float64) -> Float64:
        """Return the next v."""
        return v - (1.0 - self.beta2) * square * np.sign(v - square)


@dataclass(frozen=True)
class Adagrad(ServerOptimizer):
    """FedAdagrad: m ← β1 m + (1 - β1) Δ; v ← v + Δ², from τ²; x ← x + η m / (√v + τ)."""

    learning_rate: float = 0.1
    beta1: float = 0.0
    tau: float = 1e-3

    name: ClassVar[str] = "adagrad"
    slots: ClassVar[tuple[str, ...]] = ("m", "v")

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(0 <= self.beta1 < 1, "beta1", "in [0, 1)")
        _require(0 < self.tau < math.inf, "tau", "above 0")

    def initial_slot(self, slot: str) -> float:
        """Return 0 for m, τ² for v."""
        return self.tau * self.tau if slot == "v" else 0.0

    def step_segment(
        self,
        model: Float64,
        delta: Float64,
        slots: Mapping[str, Float64],
        scalars: Mapping[str, float],  # noqa: ARG002
    ) -> tuple[Float64, dict[str, Float64]]:
        """Return the next segment."""
        m = self.beta1 * slots["m"] + (1.0 - self.beta1) * delta
        v = slots["v"] + delta * delta
        return model + self.learning_rate * m / (np.sqrt(v) + self.tau), {"m": m, "v": v}


OPTIMIZERS: dict[str, type[ServerOptimizer]] = {
    optimizer.name: optimizer for optimizer in (Sgd, SgdMomentum, Adagrad, Adam, Yogi)
}
_DECIMAL = re.compile(r"\d{1,17}(\.\d{1,17})?(e-?\d{1,2})?", re.ASCII)


def decimal(text: str | int, what: str = "number") -> float:
    """Return the float64 nearest to a non-negative decimal as records hold it ("0.1", "1e-3", 1).

    Raises:
        EncodingError: it is not such a decimal.
    """
    if isinstance(text, int) and not isinstance(text, bool) and 0 <= text < 2**53:
        return float(text)
    if isinstance(text, str) and _DECIMAL.fullmatch(text):
        return float(text)
    raise EncodingError(f'{what} {str(text)[:40]!r} is not a decimal such as "0.1" or "1e-3"', code="PARAMETER")


def server_optimizer(description: Mapping[str, str | int]) -> ServerOptimizer:
    """Return the optimiser that a record describes: `name` and any of its parameters as decimals, flags as 0 or 1.

    Raises:
        EncodingError: an unknown name or parameter, or a value out of range.
    """
    kind = OPTIMIZERS.get(str(description.get("name")))
    if kind is None:
        raise EncodingError(
            f"server optimiser {str(description.get('name'))[:40]!r} is none of {', '.join(OPTIMIZERS)}",
            code="PARAMETER",
        )
    known = {field.name for field in fields(kind)}
    values: dict[str, Any] = {}
    for key, text in description.items():
        if key == "name":
            continue
        if key not in known:
            raise EncodingError(f"{kind.name} has no parameter {key[:40]!r}", code="PARAMETER")
        if key == "bias_correction":
            _require(text in (0, 1, "0", "1"), key, "0 or 1")
            values[key] = bool(int(text))
        else:
            values[key] = decimal(text, key)
    return kind(**values)


def _require(holds: bool, name: str, what: str) -> None:
    if not holds:
        raise EncodingError(f"{name} must be {what}", code="PARAMETER")


def check_arithmetic() -> None:
    """Check that this thread keeps subnormal numbers and rounds to nearest, as every member must.

    Raises:
        ArithmeticUnfitError: a library has switched the processor to flush to zero, or changed its rounding.
    """
    subnormal64 = np.array([5e-324, 2.2250738585072014e-308])
    subnormal32 = np.array([1e-45, 1.1754944e-38], dtype=np.float32)
    halves = np.array([1.0, -1.0]) + np.array([2.0**-53, -(2.0**-53)])
    if (
        not np.all(subnormal64 * 1.0 > 0)
        or not np.all(subnormal32 * np.float32(1) > 0)
        or subnormal64[1] * 0.5 == 0
        or np.array([1e-310]).astype(np.float64)[0] + 0.0 == 0
        or not np.array_equal(halves, [1.0, -1.0])
        or np.array([1.5 * 2.0**-149]).astype(np.float32)[0] == 0
    ):
        raise ArithmeticUnfitError(
            "subnormal numbers are flushed or rounding is not to nearest in this thread "
            "(a library compiled with -ffast-math?): digests would differ from other members'"
        )
