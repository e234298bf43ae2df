"""PyTorch local training, federated processes and the sandbox that a plan runs in. No chain, no network.

`build_federated_averaging_process` gives the process object for one process; `python -m fedfabric.trainers.zygote` runs
the same halves for a gateway, each task in a confined child. Names are loaded on first use: importing this room does
not import PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .algorithms import Algorithm, ClientContext, Contribution, LocalTools
    from .data import Dataset
    from .errors import PlanError, SandboxError, TaskError, TrainerError
    from .fedavg import FedAvg, FedSGD
    from .loading import Plan, load_plan
    from .plans import PlanBundle, PlanLimits, build_bundle, plan_digest, read_bundle
    from .process import Process, RoundMetrics, State, build_federated_averaging_process

_HOMES = {
    "Algorithm": "algorithms",
    "ClientContext": "algorithms",
    "Contribution": "algorithms",
    "Dataset": "data",
    "FedAvg": "fedavg",
    "FedSGD": "fedavg",
    "LocalTools": "algorithms",
    "Plan": "loading",
    "PlanBundle": "plans",
    "PlanError": "errors",
    "PlanLimits": "plans",
    "Process": "process",
    "RoundMetrics": "process",
    "SandboxError": "errors",
    "State": "process",
    "TaskError": "errors",
    "TrainerError": "errors",
    "build_bundle": "plans",
    "build_federated_averaging_process": "process",
    "load_plan": "loading",
    "plan_digest": "plans",
    "read_bundle": "plans",
}

__all__ = [
    "Algorithm",
    "ClientContext",
    "Contribution",
    "Dataset",
    "FedAvg",
    "FedSGD",
    "LocalTools",
    "Plan",
    "PlanBundle",
    "PlanError",
    "PlanLimits",
    "Process",
    "RoundMetrics",
    "SandboxError",
    "State",
    "TaskError",
    "TrainerError",
    "build_bundle",
    "build_federated_averaging_process",
    "load_plan",
    "plan_digest",
    "read_bundle",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)
