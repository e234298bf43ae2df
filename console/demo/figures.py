"""Figures over several seeds. Apart from what computes them, so that who prints them need not import PyTorch."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

Scores = dict[str, float]
"""Of one model on one hold-out, by metric: loss, auc, balanced_accuracy."""


@dataclass(frozen=True)
class Figures:
    """A figure over the seeds."""

    mean: float
    spread: float
    """Sample standard deviation over the seeds."""
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> "Figures":
        """Mean and spread of ``values``; a single one has no spread."""
        values = tuple(values)
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0, values)
