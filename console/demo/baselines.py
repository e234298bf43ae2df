"""What the federated model is measured against: each hospital alone, all data in one place, and the majority class.

The same plan, initial model, optimiser and number of passes over the data in all of them; the same hold-out for all:
the union of the hospitals' own hold-outs, a quarter of the patients, stratified by hospital and diagnosis. Five splits
show the spread. Nobody in a real consortium can compute these figures, since they need everybody's patients in one
place; the demo holds all four data sets and so can.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from ...aggregation import MemoryTensors, RingEncoding, Sgd, Tensors, to_arrays
from ...trainers import ClientContext, Dataset, Plan, Process, State, load_plan
from .figures import Scores

SEEDS = range(5)
"""Of the split, the initial model and the order of training; 0 is the run on the network."""
MAJORITY = {"auc": 0.5, "balanced_accuracy": 0.5}
"""A constant answer ranks nobody and is right for one of the two classes: both figures are a half by definition."""


@dataclass(frozen=True)
class Trial:
    """One seed: its plan, every hospital's data under its split, and the pooled hold-out."""

    seed: int
    plan: Plan
    data: Mapping[str, Dataset]
    """By the hospital's title."""

    @classmethod
    def load(cls, plan: Path, folders: Mapping[str, Path], seed: int) -> "Trial":
        """Read everything for one seed."""
        loaded = load_plan(plan, {"split_seed": seed})
        return cls(seed, loaded, {title: loaded.load(folder) for title, folder in folders.items()})

    @property
    def holdout(self) -> Dataset:
        """All hospitals' patients in one data set; its hold-out is the pooled one."""
        return Dataset(pool(one.train for one in self.data.values()), pool(one.holdout for one in self.data.values()))

    def score(self, model: torch.nn.Module) -> Scores:
        """The plan's metrics on the pooled hold-out."""
        return self.plan.metrics(model, self.holdout)

    def score_tensors(self, model: Tensors) -> Scores:
        """The same of a model's tensors, as jobs store them."""
        return self.score(self._process(1.0).model(State(model)))

    def central(self, data: Dataset, rounds: int) -> torch.nn.Module:
        """The model after as many passes over ``data``, in one place, as a job of ``rounds`` makes."""
        local = self.plan.algorithm
        process = replace(self._process(1.0), algorithm=replace(local, local_epochs=rounds * local.local_epochs))
        start = process.initialize(self.seed).model
        contribution, _ = process.client(start, data, {}, ClientContext("baseline", 1, "central", self.seed))
        arrays = to_arrays(start)
        arrays |= {name: arrays[name] + step for name, step in contribution.tensors["delta"].items()}
        return process.model(State(MemoryTensors(arrays)))

    def federated(self, rounds: int, late: str, joined: int, clip: float) -> torch.nn.Module:
        """The model after ``rounds`` of the same process object in one process; ``late`` joins in round ``joined``."""
        process = self._process(clip)
        state = process.initialize(self.seed)
        for number in range(1, rounds + 1):
            cohort = {title: one for title, one in self.data.items() if title != late or number >= joined}
            state, _ = process.next(state, cohort, job=f"seed-{self.seed}")
        return process.model(state)

    def _process(self, clip: float) -> Process:
        return self.plan.process(Sgd(), partial(RingEncoding, clip))


def pool(sets: Iterable[object]) -> torch.utils.data.TensorDataset:
    """Several hospitals' patients as one set."""
    parts = [one.tensors for one in sets if isinstance(one, torch.utils.data.TensorDataset)]
    return torch.utils.data.TensorDataset(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def compare(trials: Iterable[Trial], rounds: int) -> dict[str, list[Scores]]:
    """Scores on the pooled hold-out, one per seed, of ``pooled``, each hospital alone by title, and ``majority``."""
    found: dict[str, list[Scores]] = {"pooled": []}
    for trial in trials:
        found["pooled"].append(trial.score(trial.central(trial.holdout, rounds)))
        for title, data in trial.data.items():
            found.setdefault(title, []).append(trial.score(trial.central(data, rounds)))
    found["majority"] = [dict(MAJORITY) for _ in found["pooled"]]
    return found
