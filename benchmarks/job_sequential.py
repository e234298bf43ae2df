"""The `job` benchmark's plain baseline: one process, one loop. Prints the seconds of each round as JSON.

Run as a program: FOLDER (of `digits.deal`), THREADS, ROUNDS, file for the final model.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from .job_work import evaluate, initial_model, train


def main(folder: Path, threads: int, rounds: int, out: Path) -> None:
    """Train and report."""
    torch.set_num_threads(threads)
    members = sorted(folder.iterdir())
    model = initial_model()
    current = {name: value.clone() for name, value in model.state_dict().items()}
    seconds, accuracy = [], 0.0
    for number in range(1, rounds + 1):
        began = time.perf_counter()
        trained = []
        for member in members:
            model.load_state_dict(current)
            count, _ = train(model, member, number)
            trained.append((count, {name: value.clone() for name, value in model.state_dict().items()}))
        total = sum(count for count, _ in trained)
        current = {name: sum(state[name] * (count / total) for count, state in trained) for name in current}
        model.load_state_dict(current)
        evaluated = [evaluate(model, member) for member in members]
        accuracy = sum(count * found["accuracy"] for count, found in evaluated) / sum(count for count, _ in evaluated)
        seconds.append(time.perf_counter() - began)
    np.savez(out, **{name: value.numpy() for name, value in current.items()})
    print(json.dumps({"rounds": seconds, "accuracy": accuracy}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
