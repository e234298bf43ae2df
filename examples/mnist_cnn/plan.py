"""Handwritten digits with the convolutional network of the FedAvg paper (McMahan et al. 2017, section 3).

A member's folder holds ``images.npy`` (uint8, count by 28 by 28) and ``labels.npy`` (int64, count). The first
``train_samples`` examples are trained on, the rest is the member's hold-out.
"""

from pathlib import Path

import numpy as np
import torch
from fedfabric.trainers import Dataset
from torch import nn
from torch.utils.data import TensorDataset


def model_fn(params: dict) -> nn.Module:  # noqa: ARG001  every plan has this shape
    """Two 5-by-5 convolutions of 32 and 64 channels, each pooled by 2, and 512 units: 1,663,370 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 7 * 7, 512),
        nn.ReLU(),
        nn.Linear(512, 10),
    )


def client_optimizer_fn(model_params, params: dict) -> torch.optim.Optimizer:
    """Plain stochastic gradient descent."""
    return torch.optim.SGD(model_params, lr=params["learning_rate"])


def load(folder: Path, params: dict) -> Dataset:
    """Read one member's digits, scaled to [0, 1]."""
    images = torch.from_numpy(np.load(folder / "images.npy")).float().div_(255).unsqueeze(1)
    labels = torch.from_numpy(np.load(folder / "labels.npy"))
    kept = params["train_samples"]
    return Dataset(
        train=TensorDataset(images[:kept], labels[:kept]), holdout=TensorDataset(images[kept:], labels[kept:])
    )


def metrics(model: nn.Module, holdout: TensorDataset, params: dict) -> dict[str, float]:  # noqa: ARG001
    """Mean cross-entropy in nats, and the share of digits read right."""
    images, labels = holdout.tensors
    logits = model(images)
    return {
        "loss": nn.functional.cross_entropy(logits, labels).item(),
        "accuracy": (logits.argmax(1) == labels).double().mean().item(),
    }
