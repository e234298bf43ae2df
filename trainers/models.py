"""Between PyTorch modules and named tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..aggregation import MemoryTensors, TensorSpec, averaged_specs, to_arrays
from .errors import PlanError, TaskError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ..aggregation import Tensors


def module_tensors(module: torch.nn.Module) -> MemoryTensors:
    """Return a module's parameters and buffers by their names in its state_dict, as copies.

    Raises:
        PlanError: a tensor has a type that numpy lacks (bfloat16, complex), or the state holds something else.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for name, value in module.state_dict().items():
        if not isinstance(value, torch.Tensor):
            raise PlanError(f"the model's state holds {name}, which is not a tensor")
        if value.dtype not in _TYPES:
            raise PlanError(f"{name}: type {value.dtype} can't be aggregated; use float32 or float64")
        arrays[name] = value.detach().cpu().numpy().copy()
    tensors = MemoryTensors(arrays)
    averaged_specs(tensors.specs)
    return tensors


_TYPES = (
    torch.float32,
    torch.float64,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint8,
    torch.bool,
)


def load_tensors(module: torch.nn.Module, tensors: Tensors) -> None:
    """Set a module's parameters and buffers.

    Raises:
        TaskError: MODEL_MISMATCH, the tensors are not those of this module.
    """
    state = module.state_dict()
    found = dict(tensors.specs)
    for name in sorted(state.keys() | found.keys()):
        if name not in found or name not in state:
            where = "the plan's model" if name in state else "the given model"
            raise TaskError("MODEL_MISMATCH", f"only {where} has tensor {name[:80]}")
        if tuple(state[name].shape) != found[name].shape or state[name].dtype != _torch_type(found[name]):
            raise TaskError(
                "MODEL_MISMATCH",
                f"tensor {name[:80]} is {found[name].dtype} {list(found[name].shape)}, "
                f"the plan's model has {str(state[name].dtype).removeprefix('torch.')} {list(state[name].shape)}",
            )
    module.load_state_dict({name: torch.from_numpy(array) for name, array in to_arrays(tensors).items()})


def _torch_type(spec: TensorSpec) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype=spec.numpy)).dtype


def difference(after: Mapping[str, NDArray[Any]], before: Tensors) -> dict[str, NDArray[Any]]:
    """Return after - before for the averaged tensors, each in its own type.

    Raises:
        TaskError: NOT_FINITE, training ended in NaN or an infinity.
    """
    delta = {}
    for name, spec in averaged_specs(before.specs).items():
        with np.errstate(over="ignore", invalid="ignore"):
            values = after[name] - before.read(name, 0, spec.size).reshape(spec.shape)
        if not np.all(np.isfinite(values)):
            raise TaskError("NOT_FINITE", f"training ended with NaN or an infinity in {name[:80]}")
        delta[name] = values
    return delta
