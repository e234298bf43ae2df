"""Prints the digests of two fixed rounds under each server optimiser; run as a program under other conditions."""

import json
import sys

import numpy as np
from fedfabric.aggregation import (
    OPTIMIZERS,
    MemoryTensors,
    RingEncoding,
    Rounding,
    Update,
    aggregate,
    encode_update,
    server_optimizer,
)


def fixed_values(shape, seed, scale):
    """Values from integer arithmetic alone, so that no generator's version enters the golden digests."""
    count = int(np.prod(shape))
    integers = (np.arange(count, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(seed * 40503)) % np.uint64(65521)
    return ((integers.astype(np.float64) - 32760.0) * (scale / 32760.0)).astype(np.float32).reshape(shape)


def digests() -> dict[str, str]:
    shapes = {"conv.weight": (8, 1, 5, 5), "fc.weight": (300, 1001), "fc.bias": (17,)}
    model = MemoryTensors(
        {name: fixed_values(shape, 1, 0.5) for name, shape in shapes.items()} | {"steps": np.array(3)}
    )
    samples = {"AlphaMSP": 120, "BetaMSP": 77, "GammaMSP": 3}
    encoding = RingEncoding(0.05, 260, 4)
    found = {}
    for name in sorted(OPTIMIZERS):
        parameters = {"bias_correction": 1} if name == "yogi" else {}
        optimizer = server_optimizer({"name": name, **parameters})
        current, state = model, None
        for number in (1, 2):
            updates = []
            for index, (member, count) in enumerate(samples.items()):
                delta = {f"delta/{n}": fixed_values(s, number * 10 + index, 0.06) for n, s in shapes.items()}
                rounding = Rounding(member.encode() * 4, "golden", number)
                encoded = encode_update(MemoryTensors(delta), current.specs, count, encoding, rounding)
                updates.append(Update(member, encoded.tensors, count))
            outcome = aggregate(current, updates, encoding, optimizer, state)
            current, state = outcome.model, outcome.state
        found[name] = outcome.digest
    return found


if __name__ == "__main__":
    json.dump(digests(), sys.stdout, indent=2)
    print()
