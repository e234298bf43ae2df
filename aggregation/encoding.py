r"""Ring encoding: deltas as integers modulo 2^32, whose sum is exact in any order, on any machine, by any thread.

With c the clip, N = Σ n_k the samples registered by a cohort of K, S = (2^31 - 1 - K) / c:

    q_k = ⌊clip(x_k, ±c) · S · n_k / N + u⌋  mod 2^32,   u uniform in [0, 1)
    mean = signed(Σ q_k) / (S · n_surv / N)

Σ|q_k| ≤ S · c + K = 2^31 - 1, so the sum can't overflow, and |q_k| ≤ S · c · n_k / N + 1 holds each member to its
weight. Rounding u makes the encoding unbiased.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import EncodingError, UpdateRefusedError
from .tensors import AVERAGED, SEGMENT, MemoryTensors, MemoryWriter, Tensors, TensorSpec, TensorWriter, segments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from .rounding import Rounding

LARGEST_SUM = 2**31 - 1
LARGEST_COHORT = 1 << 20
_BLOCK = 1 << 16  # elements: 256 KiB


@dataclass(frozen=True)
class RingEncoding:
    """One round's encoding, the same for all its members.

    clip: largest |element| of a delta that is kept, c > 0, in the model's units.
    total_samples: N, the samples that the cohort registered together.
    cohort: K, the members of the cohort.

    Raises:
        EncodingError: a parameter is out of range.
    """

    clip: float
    total_samples: int
    cohort: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.clip) and 1e-12 <= self.clip <= 1e12):
            raise EncodingError(f"clip {self.clip} is not in [1e-12, 1e12]", code="CLIP")
        if not 1 <= self.cohort <= LARGEST_COHORT:
            raise EncodingError(f"a cohort has 1 to {LARGEST_COHORT} members, not {self.cohort}", code="COHORT")
        if not 1 <= self.total_samples < 2**53:
            raise EncodingError(f"total samples {self.total_samples} are not in [1, 2^53)", code="SAMPLES")

    @property
    def scale(self) -> float:
        """S, steps of the ring per unit of the model."""
        return (LARGEST_SUM - self.cohort) / self.clip

    def factor(self, samples: int) -> float:
        """Return S · n / N of an update (or of survivors together) with n samples."""
        if not 1 <= samples <= self.total_samples:
            raise EncodingError(f"{samples} samples are not in [1, {self.total_samples}]", code="SAMPLES")
        return self.scale * samples / self.total_samples

    def limit(self, samples: int) -> int:
        """Return the largest |q| that an honest member with n samples can send."""
        return math.floor(self.clip * self.factor(samples) + 1.0)

    def error_bound(self, survivors: int, survivor_samples: int) -> float:
        """Return the largest |decoded - true| of an element of the weighted mean of clipped deltas."""
        return survivors * self.clip * self.total_samples / (survivor_samples * (LARGEST_SUM - self.cohort))

    def encode_segment(
        self, delta: NDArray[Any], factor: float, uniform: NDArray[np.float64]
    ) -> tuple[NDArray[np.uint32], int]:
        """Return the ring values of a delta's segment and how many of its elements were clipped.

        Raises:
            EncodingError: the delta holds NaN or an infinity.
        """
        values = delta.astype(np.float64)
        # both hand NaN on
        largest = float(np.maximum.reduce(values, initial=0.0))
        smallest = float(np.minimum.reduce(values, initial=0.0))
        if not (math.isfinite(largest) and math.isfinite(smallest)):
            raise EncodingError("the delta holds NaN or an infinity", code="NOT_FINITE")
        saturated = 0
        if largest > self.clip or smallest < -self.clip:
            saturated = int(np.count_nonzero(np.abs(values) > self.clip))
            np.clip(values, -self.clip, self.clip, out=values)
        values *= factor
        values += uniform
        np.floor(values, out=values)
        # a negative float has no defined conversion to unsigned: int64 first, then the low 32 bits
        return values.astype(np.int64).astype(np.uint32), saturated

    def encode(self, delta: Mapping[str, NDArray[Any]], samples: int, rounding: Rounding) -> dict[str, NDArray[Any]]:
        """Return the ring values (uint32, same names and shapes) of a delta held in memory.

        Raises:
            EncodingError: NaN, infinity, a type that is not averaged, samples out of range.
        """
        source = MemoryTensors(delta)
        writer = MemoryWriter(ring_specs(source.specs))
        self.encode_tensors(source, samples, rounding, writer)
        return writer.finish().arrays

    def encode_tensors(self, delta: Tensors, samples: int, rounding: Rounding, writer: TensorWriter) -> int:
        """Write the ring values of a delta by segments; return how many elements were clipped."""
        factor = self.factor(samples)
        saturated = 0
        for name, spec in delta.specs.items():
            stream = rounding.stream(name)
            for start, stop in segments(spec.size, SEGMENT):
                values = delta.read(name, start, stop)
                try:
                    ring, clipped = self.encode_segment(values, factor, stream.take(stop - start))
                except EncodingError as error:
                    raise EncodingError(f"{name}: {error}", code=error.code) from error
                saturated += clipped
                writer.write(name, ring)
        return saturated

    def decode_segment(self, ring: NDArray[np.uint32], survivor_samples: int) -> NDArray[np.float64]:
        """Return the weighted mean of the survivors' deltas from their ring sum."""
        values = ring.view(np.int32).astype(np.float64)
        values /= self.factor(survivor_samples)
        return values

    def decode(self, ring_sum: Mapping[str, NDArray[Any]], survivor_samples: int) -> dict[str, NDArray[np.float64]]:
        """Return the weighted means (float64) of ring sums held in memory."""
        return {
            name: self.decode_segment(np.asarray(ring, dtype=np.uint32, order="C"), survivor_samples)
            for name, ring in ring_sum.items()
        }

    def check(self, update: Tensors, samples: int, member: str = "member") -> None:
        """Check that each element of a clear update is one that an honest member with n samples can send.

        Raises:
            UpdateRefusedError: an element is out of range, or a tensor is not of type U32.
        """
        limit = self.limit(samples)
        for name, spec in update.specs.items():
            if spec.dtype != "U32":
                raise UpdateRefusedError(member, f"{name} has type {spec.dtype}, not U32")
            for start, stop in segments(spec.size, SEGMENT):
                if not within(update.read(name, start, stop), limit):
                    raise UpdateRefusedError(member, f"{name} exceeds the range of its weight, ±{limit}")


def within(ring: NDArray[np.uint32], limit: int) -> bool:
    """Return whether every signed ring value lies in [-limit, limit]."""
    if not ring.size:
        return True
    signed = ring.view(np.int32)
    return bool(int(signed.max()) <= limit and int(signed.min()) >= -limit)


def ring_specs(delta: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
    """Return the encoded update's specs for a delta's.

    Raises:
        EncodingError: a tensor has a type that is not averaged.
    """
    for name, spec in delta.items():
        if spec.dtype not in AVERAGED:
            raise EncodingError(f"{name}: type {spec.dtype} is not averaged ({', '.join(AVERAGED)} are)", code="DTYPE")
    return {name: TensorSpec("U32", spec.shape) for name, spec in delta.items()}


def add_within(
    total: NDArray[np.uint32] | None, piece: NDArray[np.uint32], limit: int | None
) -> NDArray[np.uint32] | None:
    """Add a segment to a sum modulo 2^32 (None is nothing yet) if its signed values lie in [-limit, limit].

    A limit of None adds whatever the values are.

    Returns the sum, or None if a value lies outside; then `total` is of no use any more. Goes by blocks that stay in
    the core's cache between the check and the addition.
    """
    first = total is None
    result = np.empty_like(piece) if total is None else total
    signed = piece.view(np.int32)
    least, most = (np.int32(-limit), np.int32(limit)) if limit is not None else (None, None)
    for start in range(0, piece.size, _BLOCK):
        block = signed[start : start + _BLOCK]
        if most is not None and (np.maximum.reduce(block) > most or np.minimum.reduce(block) < least):
            return None
        part = result[start : start + _BLOCK]
        if first:
            part[:] = piece[start : start + _BLOCK]
        else:
            np.add(part, piece[start : start + _BLOCK], out=part)
    return result
