"""What a plan's `load` returns, and batches of it in a repeatable order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch

from .errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Examples(Protocol):
    """A map-style data set of PyTorch: length and items (input, …, target)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


@dataclass(frozen=True)
class Dataset:
    """One organisation's examples.

    train: what local training uses; its length is the organisation's n_k.
    holdout: what never enters training; metrics and votes on global models are computed on it.
    """

    train: Examples
    holdout: Examples


def samples_of(examples: Examples) -> int:
    """Return the number of examples.

    Raises:
        TaskError: DATA_INVALID, there is none.
    """
    count = len(examples)
    if count < 1:
        raise TaskError("DATA_INVALID", "the plan's load returned no training example")
    return count


def batches(
    examples: Examples, batch_size: int, generator: torch.Generator
) -> Iterator[tuple[tuple[torch.Tensor, ...], torch.Tensor]]:
    """Yield one epoch of (inputs, target), shuffled by the generator; the last batch may be smaller.

    A batch size of 0 gives all examples at once, in their own order.
    """
    count = len(examples)
    if batch_size == 0 or batch_size >= count:
        order = torch.arange(count) if batch_size == 0 else torch.randperm(count, generator=generator)
        yield _batch(examples, order, whole=batch_size == 0)
        return
    order = torch.randperm(count, generator=generator)
    for start in range(0, count, batch_size):
        yield _batch(examples, order[start : start + batch_size], whole=False)


def _batch(examples: Examples, order: torch.Tensor, *, whole: bool) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    if isinstance(examples, torch.utils.data.TensorDataset):
        # indexing whole tensors is some 50 times faster than collating items
        parts = examples.tensors if whole else tuple(tensor[order] for tensor in examples.tensors)
    else:
        items = [examples[int(index)] for index in order]
        parts = tuple(cast("list[torch.Tensor]", torch.utils.data.default_collate(items)))
    if len(parts) < 2:
        raise TaskError("DATA_INVALID", "an example is (input, …, target)")
    return tuple(parts[:-1]), parts[-1]
