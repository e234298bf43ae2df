"""Named tensors that are read and written by segments, so that no model has to fit in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .errors import AggregationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

SEGMENT = 1 << 18
"""Elements handled at a time: 1 MiB of 4-byte values, which fits a core's own cache."""

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("<u1"),
    "I8": np.dtype("<i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}
"""safetensors' type codes that numpy has, all little-endian."""

CODES = {dtype: code for code, dtype in DTYPES.items()}

AVERAGED = ("F32", "F64")
"""Types that are averaged; integer and boolean tensors (counters, masks) stay as the global model has them."""


@dataclass(frozen=True)
class TensorSpec:
    """A tensor's type (safetensors' code) and shape (elements per dimension; () is a scalar)."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy type, little-endian."""
        return DTYPES[self.dtype]

    @property
    def nbytes(self) -> int:
        """Length in bytes."""
        return self.size * self.numpy.itemsize


class Tensors(Protocol):
    """Named tensors, readable by flat segments."""

    @property
    def specs(self) -> Mapping[str, TensorSpec]:
        """Type and shape by name, in name order (by code points)."""
        ...

    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return elements [start, stop) of the flattened (row-major) tensor; the caller does not write to them."""
        ...


class TensorWriter(Protocol):
    """Takes tensors by flat segments: in any order between tensors, in order within each."""

    def write(self, name: str, values: NDArray[Any]) -> None:
        """Append the next elements of a tensor."""
        ...

    def finish(self) -> Tensors:
        """Return what was written, once every tensor is complete."""
        ...


def segments(size: int, segment: int = SEGMENT) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of the segments of `size` elements."""
    for start in range(0, size, segment):
        yield start, min(start + segment, size)


def spec_of(array: NDArray[Any]) -> TensorSpec:
    """Return an array's spec.

    Raises:
        AggregationError: numpy's type is none of safetensors'.
    """
    code = CODES.get(array.dtype.newbyteorder("<"))
    if code is None:
        raise AggregationError(f"type {array.dtype} is not one of {', '.join(DTYPES)}", code="DTYPE")
    return TensorSpec(code, tuple(array.shape))


class MemoryTensors:
    """Tensors held as numpy arrays."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.arrays = {
            name: np.ascontiguousarray(arrays[name], dtype=spec_of(arrays[name]).numpy).reshape(arrays[name].shape)
            for name in sorted(arrays)
        }
        self._specs = {name: spec_of(array) for name, array in self.arrays.items()}

    @property
    def specs(self) -> Mapping[str, TensorSpec]:
        """Type and shape by name."""
        return self._specs

    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return a view of elements [start, stop)."""
        return self.arrays[name].reshape(-1)[start:stop]


class MemoryWriter:
    """Collects tensors in memory."""

    def __init__(self, specs: Mapping[str, TensorSpec]) -> None:
        self._specs = dict(specs)
        self._flat = {name: np.empty(spec.size, dtype=spec.numpy) for name, spec in specs.items()}
        self._position = dict.fromkeys(specs, 0)

    def write(self, name: str, values: NDArray[Any]) -> None:
        """Append the next elements of a tensor."""
        start = self._position[name]
        flat = self._flat[name]
        if start + values.size > flat.size:
            raise AggregationError(f"tensor {name} takes {flat.size} elements, more were written")
        flat[start : start + values.size] = values
        self._position[name] = start + values.size

    def finish(self) -> MemoryTensors:
        """Return the tensors.

        Raises:
            AggregationError: one of them is incomplete.
        """
        for name, position in self._position.items():
            if position != self._flat[name].size:
                raise AggregationError(f"tensor {name} is incomplete: {position} of {self._flat[name].size} elements")
        return MemoryTensors({name: flat.reshape(self._specs[name].shape) for name, flat in self._flat.items()})


class ConstantTensors:
    """Tensors of one value each, which take no memory until read: an optimiser's initial state."""

    def __init__(self, values: Mapping[str, tuple[TensorSpec, float]]) -> None:
        self._values = {name: values[name] for name in sorted(values)}

    @property
    def specs(self) -> Mapping[str, TensorSpec]:
        """Type and shape by name."""
        return {name: spec for name, (spec, _) in self._values.items()}

    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return elements [start, stop)."""
        spec, value = self._values[name]
        return np.full(stop - start, value, dtype=spec.numpy)


def to_arrays(tensors: Tensors) -> dict[str, NDArray[Any]]:
    """Return all tensors as arrays of their own, in name order; takes memory for the whole model."""
    return {name: tensors.read(name, 0, spec.size).reshape(spec.shape).copy() for name, spec in tensors.specs.items()}
