"""A heart-disease classifier of several hospitals: what every hospital runs on its own patients, and nothing else.

The owner of the data reads this file before approving a job: these few functions are all of the code that comes near
the patients. They run in a process without network and without keys; what leaves it is a model update of 13 numbers
and the figures that ``metrics`` returns.

Model: logistic regression on 12 columns of eight measurements, p(disease) = sigmoid(w·x + b).
"""

import csv
import math
from pathlib import Path

import numpy as np
import torch
from fedfabric.trainers import Dataset

# What the four centres all measured: a column is used when no centre lacks it for more than a third of its patients.
# That leaves out cholesterol (Switzerland writes 0 for everybody), fasting sugar, slope, vessels and thal. The
# constants bring a column to about unit size; they are round clinical figures and not taken from anybody's patients.
NUMBERS = {"age": (55.0, 10.0), "trestbps": (130.0, 20.0), "thalch": (140.0, 25.0), "oldpeak": (1.0, 1.0)}
CHOICES = {
    "sex": ("Male",),
    "cp": ("typical angina", "atypical angina", "non-anginal", "asymptomatic"),
    "restecg": ("lv hypertrophy", "st-t abnormality"),
    "exang": ("TRUE",),
}
IMPOSSIBLE_ZERO = {"trestbps"}  # a resting blood pressure of 0 is a missing one
COLUMNS = len(NUMBERS) + sum(map(len, CHOICES.values()))


def model_fn(params: dict) -> torch.nn.Module:  # noqa: ARG001  every plan has this shape
    """Logistic regression, (batch, 12) float32 → (batch,) logits."""
    return torch.nn.Sequential(torch.nn.Linear(COLUMNS, 1), torch.nn.Flatten(0))


def client_optimizer_fn(model_params, params: dict) -> torch.optim.Optimizer:
    """Plain stochastic gradient descent."""
    return torch.optim.SGD(model_params, lr=params["learning_rate"])


def loss_fn(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean binary cross-entropy, in nats."""
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)


def load(folder: Path, params: dict) -> Dataset:
    """Read one hospital's ``patients.csv`` and split it; gaps are filled from the hospital's own training patients.

    The split is stratified by diagnosis and drawn from ``params["split_seed"]``; the hospital's hold-out is its part
    of the pooled one. A patient who is listed twice is counted once, so that nobody stands on both sides.
    """
    with (folder / "patients.csv").open(newline="", encoding="utf-8") as lines:
        rows = {tuple(value for name, value in row.items() if name != "id"): row for row in csv.DictReader(lines)}
    patients = list(rows.values())
    values = np.array([_measurements(patient) for patient in patients])
    sick = np.array([int(patient["num"]) > 0 for patient in patients])

    random = np.random.default_rng(params["split_seed"])
    held_out = np.zeros(len(patients), dtype=bool)
    for diagnosis in (False, True):
        chosen = random.permutation(np.flatnonzero(sick == diagnosis))
        held_out[chosen[: round(len(chosen) * params["holdout_fraction"])]] = True

    typical = np.nanmedian(values[~held_out], axis=0)
    values = np.where(np.isnan(values), typical, values)
    features, labels = torch.tensor(values, dtype=torch.float32), torch.tensor(sick, dtype=torch.float32)
    return Dataset(
        train=torch.utils.data.TensorDataset(features[~held_out], labels[~held_out]),
        holdout=torch.utils.data.TensorDataset(features[held_out], labels[held_out]),
    )


def metrics(
    model: torch.nn.Module,
    holdout: torch.utils.data.TensorDataset,
    params: dict,  # noqa: ARG001  every plan has this shape
) -> dict[str, float]:
    """Loss, balanced accuracy at p = ½ and, where both diagnoses occur, the area under the ROC curve."""
    features, labels = holdout.tensors
    with torch.no_grad():
        logits = model(features)
    sick, well = logits[labels == 1], logits[labels == 0]
    found = {"loss": loss_fn(logits, labels).item()}
    if len(sick) and len(well):
        found["balanced_accuracy"] = ((sick > 0).double().mean() + (well <= 0).double().mean()).item() / 2
        pairs = sick[:, None] - well[None, :]  # AUC is the share of (sick, well) pairs in the right order, ties half
        found["auc"] = ((pairs > 0).double() + (pairs == 0).double() / 2).mean().item()
    return found


def _measurements(patient: dict[str, str]) -> list[float]:
    """The 12 columns of one patient, NaN where the hospital did not measure."""
    values = []
    for name, (centre, scale) in NUMBERS.items():
        number = float(patient[name] or "nan")
        values.append(math.nan if number == 0 and name in IMPOSSIBLE_ZERO else (number - centre) / scale)
    for name, choices in CHOICES.items():
        values.extend((patient[name] == choice) - 0.5 if patient[name] else math.nan for choice in choices)
    return values
