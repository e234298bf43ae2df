"""The `round` benchmark's plan: two classes by a network as wide as `width` says, so that only the model's size varies.

A member's folder holds `examples.csv` (columns x0 … xN-1, y in 0/1).
"""

import csv
from pathlib import Path

import torch
from fedfabric.trainers import Dataset
from torch import nn
from torch.utils.data import TensorDataset


def model_fn(params: dict) -> nn.Module:
    """Two hidden layers of `width` units: width² + 7 width + 1 parameters with four features."""
    width = params["width"]
    return nn.Sequential(
        nn.Linear(params["features"], width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, 1),
        nn.Flatten(0),
    )


def client_optimizer_fn(model_params, params: dict) -> torch.optim.Optimizer:
    """Plain stochastic gradient descent."""
    return torch.optim.SGD(model_params, lr=params["learning_rate"])


def loss_fn(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats."""
    return nn.functional.binary_cross_entropy_with_logits(logits, labels)


def load(folder: Path, params: dict) -> Dataset:
    """Read one member's examples."""
    with (folder / "examples.csv").open(newline="", encoding="utf-8") as lines:
        rows = [[float(value) for value in row.values()] for row in csv.DictReader(lines)]
    values = torch.tensor(rows, dtype=torch.float32)
    features, labels = values[:, :-1], values[:, -1]
    kept = len(rows) - int(len(rows) * params["holdout_fraction"])
    return Dataset(
        train=TensorDataset(features[:kept], labels[:kept]), holdout=TensorDataset(features[kept:], labels[kept:])
    )


def metrics(model: nn.Module, holdout: TensorDataset, params: dict) -> dict[str, float]:  # noqa: ARG001
    """Mean cross-entropy in nats, and the share of examples read right."""
    features, labels = holdout.tensors
    logits = model(features)
    return {
        "loss": loss_fn(logits, labels).item(),
        "accuracy": ((logits > 0) == (labels > 0.5)).double().mean().item(),
    }
