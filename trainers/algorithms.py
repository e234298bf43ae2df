"""What every federated algorithm is made of: what a member gets, what it sends, and its local work between."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from ..aggregation import tagged_json_hash

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ..aggregation import Tensors
    from .data import Examples

ModelFn = Callable[[], torch.nn.Module]
ClientOptimizerFn = Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]
LossFn = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
ClientState = Mapping[str, Any]
"""What a member keeps for itself between rounds; {} at first."""


@dataclass(frozen=True)
class ClientContext:
    """The place of one member's work: job, round (from 1), attempt and member (its MSP id); its threads.

    The order of batches and every draw of the model follow from the place alone, so that a restart on the same machine
    repeats the same work.
    """

    job: str
    round: int
    member: str
    attempt: int = 0
    threads: int = 1

    @property
    def seed(self) -> int:
        """The seed of this place, in [0, 2^60)."""
        place = {"job": self.job, "round": self.round, "attempt": self.attempt, "member": self.member}
        return int(tagged_json_hash("training seed", place)[:15], 16)


@dataclass(frozen=True)
class Contribution:
    """What a member's work gives.

    tensors: by vector name ("delta", …), then by tensor name; encoded and summed exactly.
    weight: n_k, the samples that it rests on.
    scalars: sums over the member's samples (of losses, hits, …), for reports.
    """

    tensors: Mapping[str, Mapping[str, NDArray[Any]]]
    weight: int
    scalars: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LocalTools:
    """What the plan or the caller brings: model, optimiser and loss (mean over a batch)."""

    model_fn: ModelFn
    client_optimizer_fn: ClientOptimizerFn
    loss_fn: LossFn = torch.nn.functional.cross_entropy


class Algorithm(Protocol):
    """The client's half of a federated algorithm. The server's half is `aggregation.step` with its optimiser."""

    @property
    def vectors(self) -> tuple[str, ...]:
        """The named vectors that a contribution carries."""
        ...

    def client(
        self, broadcast: Tensors, train: Examples, client_state: ClientState, ctx: ClientContext, tools: LocalTools
    ) -> tuple[Contribution, ClientState]:
        """Work locally from the global model; return what to send and what to keep."""
        ...


@contextmanager
def repeatable(seed: int, threads: int) -> Iterator[None]:
    """Make PyTorch, numpy and random repeat inside, and leave the caller's generators and settings as they were."""
    python, numpy_state = random.getstate(), np.random.get_state()
    previous_threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    with torch.random.fork_rng(devices=[]):
        try:
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(True)
            memory.fill_uninitialized_memory = False  # costs time, and hides nothing here
            yield
        finally:
            memory.fill_uninitialized_memory = filled
            torch.use_deterministic_algorithms(deterministic)
            torch.set_num_threads(previous_threads)
            np.random.set_state(numpy_state)
            random.setstate(python)
