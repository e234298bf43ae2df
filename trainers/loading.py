"""Loads a plan's code. Only ever called where that code may run: in a confined child, or by who wrote it."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from .algorithms import LocalTools
from .data import Dataset
from .errors import PlanError
from .fedavg import FedAvg
from .plans import PlanBundle, check_params
from .process import Process, build_federated_averaging_process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import ModuleType

    from ..aggregation import ServerOptimizer
    from .process import EncodingFn

EXPORTS = ("model_fn", "load", "client_optimizer_fn", "metrics")


@dataclass(frozen=True)
class Plan:
    """A plan that is loaded, with the parameters of this job."""

    module: ModuleType
    params: Mapping[str, Any]

    def model(self) -> torch.nn.Module:
        """Return a new model.

        Raises:
            PlanError: `model_fn` returns something else.
        """
        model = self.module.model_fn(dict(self.params))
        if not isinstance(model, torch.nn.Module):
            raise PlanError("model_fn does not return a torch.nn.Module")
        return model

    def load(self, folder: Path) -> Dataset:
        """Return the data of a folder.

        Raises:
            PlanError: `load` returns something else than a Dataset.
        """
        data = self.module.load(folder, dict(self.params))
        if not isinstance(data, Dataset):
            raise PlanError("load does not return a fedfabric.trainers.Dataset")
        return data

    def metrics(self, model: torch.nn.Module, data: Dataset) -> dict[str, float]:
        """Return the plan's metrics of a model on the hold-out."""
        model.eval()
        with torch.no_grad():
            found = self.module.metrics(model, data.holdout, dict(self.params))
        if not isinstance(found, dict):
            raise PlanError("metrics does not return a dict of floats")
        return {str(name): float(value) for name, value in found.items()}

    @property
    def tools(self) -> LocalTools:
        """Model, optimiser and loss as local training takes them."""
        optimizer: Callable[..., torch.optim.Optimizer] = self.module.client_optimizer_fn
        loss = getattr(self.module, "loss_fn", torch.nn.functional.cross_entropy)
        return LocalTools(self.model, partial(_optimizer, optimizer, dict(self.params)), loss)

    @property
    def algorithm(self) -> FedAvg:
        """The local work that the parameters set."""
        return FedAvg.from_params(self.params)

    def process(self, server_optimizer: ServerOptimizer, encoding: EncodingFn) -> Process:
        """Return the process that a job of this plan runs, for one process."""
        return build_federated_averaging_process(
            self.tools.model_fn,
            self.tools.client_optimizer_fn,
            lambda: server_optimizer,
            algorithm=self.algorithm,
            encoding=encoding,
            loss_fn=self.tools.loss_fn,
        )


def _optimizer(make: Callable[..., Any], params: dict[str, Any], parameters: Any) -> torch.optim.Optimizer:
    optimizer = make(parameters, params)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise PlanError("client_optimizer_fn does not return a torch.optim.Optimizer")
    return optimizer


def load_plan(folder: Path, params: Mapping[str, Any] | None = None) -> Plan:
    """Import the plan that lies unpacked in a folder; runs its code.

    Args:
        folder: holds plan.py and plan.json; its other modules can be imported by plan.py.
        params: replace plan.json's of the same name.

    Raises:
        PlanError: it lacks an export or its parameters are malformed.
        Exception: whatever the plan's own code raises.
    """
    bundle = PlanBundle({"plan.json": (folder / "plan.json").read_bytes()})
    merged = bundle.params | dict(params or {})
    check_params(merged)
    spec = importlib.util.spec_from_file_location("plan", folder / "plan.py")
    if spec is None or spec.loader is None:
        raise PlanError("plan.py can't be imported")
    module = importlib.util.module_from_spec(spec)
    written = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder))
    try:
        sys.modules["plan"] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = written
        sys.modules.pop("plan", None)
    for name in EXPORTS:
        if not callable(getattr(module, name, None)):
            raise PlanError(f"plan.py does not define {name}()")
    return Plan(module, merged)
