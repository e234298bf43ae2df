"""A tiny logistic regression on `examples.csv` (columns x0 … xN-1, y in 0/1), for tests of whatever runs plans."""

import csv
from pathlib import Path

import torch
from fedfabric.trainers import Dataset
from torch.utils.data import TensorDataset


def model_fn(params: dict) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(params["features"], 1), torch.nn.Flatten(0))


def client_optimizer_fn(model_params, params: dict) -> torch.optim.Optimizer:
    return torch.optim.SGD(model_params, lr=params["learning_rate"])


def loss_fn(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)


def load(folder: Path, params: dict) -> Dataset:
    with (folder / "examples.csv").open(newline="", encoding="utf-8") as lines:
        rows = [[float(value) for value in row.values()] for row in csv.DictReader(lines)]
    values = torch.tensor(rows, dtype=torch.float32)
    features, labels = values[:, :-1], values[:, -1]
    kept = len(rows) - int(len(rows) * params["holdout_fraction"])
    return Dataset(
        train=TensorDataset(features[:kept], labels[:kept]), holdout=TensorDataset(features[kept:], labels[kept:])
    )


def metrics(model: torch.nn.Module, holdout: TensorDataset, params: dict) -> dict[str, float]:
    features, labels = holdout.tensors
    logits = model(features)
    return {
        "loss": loss_fn(logits, labels).item(),
        "accuracy": ((logits > 0) == (labels > 0.5)).double().mean().item(),
    }
