"""A member's share of a round in plain PyTorch, for what the `job` benchmark compares with. The seeds are the job's.

No code of ours but the plan and the seeds: the loop is the one that anybody writes.
"""

from pathlib import Path

import torch
from fedfabric.trainers import ClientContext, load_plan
from torch import nn

from .digits import PLAN, SEED

JOB = "bench"
_LOADED: dict[Path, tuple] = {}


def plan():
    """The plan, loaded once in a process."""
    return _once(PLAN, lambda: load_plan(PLAN))


def data(folder: Path):
    """A member's data, loaded once in a process."""
    return _once(folder, lambda: plan().load(folder))


def _once(key: Path, make):
    if key not in _LOADED:
        _LOADED[key] = make()
    return _LOADED[key]


def initial_model() -> nn.Module:
    """The model before the first round, the job's own."""
    torch.manual_seed(SEED)
    return plan().model()


def train(model: nn.Module, folder: Path, number: int) -> tuple[int, float]:
    """Train one epoch in place; examples and mean loss."""
    inputs, labels = data(folder).train.tensors
    params = plan().params
    seed = ClientContext(JOB, number, folder.name).seed
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    optimizer = torch.optim.SGD(model.parameters(), lr=params["learning_rate"])
    model.train()
    total = 0.0
    for batch in order.split(params["batch_size"]):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(batch)
    return len(labels), total / len(labels)


def evaluate(model: nn.Module, folder: Path) -> tuple[int, dict[str, float]]:
    """Examples and metrics on a member's hold-out."""
    held = data(folder)
    return len(held.holdout), plan().metrics(model, held)
