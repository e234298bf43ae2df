"""The federated process: the same object in one process and, half by half, across organisations.

Shaped as TensorFlow Federated's: `state = process.initialize()`, `state, metrics = process.next(state, data)`. A job
across organisations calls `client` in each member's trainer; encoding, sum and server step are the functions of
`aggregation` that a gateway calls too. With the same rounding secrets both ways give the same bytes.
"""

from __future__ import annotations

import secrets as system_secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from ..aggregation import (
    MemoryTensors,
    RingEncoding,
    Rounding,
    ServerOptimizer,
    Sgd,
    Update,
    aggregate,
    encode_update,
    manifest_of,
    step,
)
from .algorithms import ClientContext, ClientState, Contribution, LocalTools, repeatable
from .data import Dataset, samples_of
from .errors import TaskError
from .fedavg import FedAvg
from .models import load_tensors, module_tensors

if TYPE_CHECKING:
    from ..aggregation import Aggregate, Tensors
    from .algorithms import Algorithm, ClientOptimizerFn, LossFn, ModelFn

EncodingFn = Callable[[int, int], RingEncoding]
"""(total samples N, cohort K) → the round's encoding; `partial(RingEncoding, clip)`."""


@dataclass(frozen=True)
class State:
    """The server's state after `round` rounds.

    digest: what members attested for the last round; "" before the first.
    client_states: what members keep, by member; in a job each stays with its member.
    """

    model: Tensors
    optimizer: Tensors | None = None
    round: int = 0
    digest: str = ""
    client_states: Mapping[str, ClientState] = field(default_factory=dict)

    @property
    def model_digest(self) -> str:
        """The global model's digest."""
        return manifest_of(self.model).digest


@dataclass(frozen=True)
class RoundMetrics:
    """What `next` reports.

    scalars: means per example over the counted members (the loss of local training, before each step).
    samples: n_k by member. saturated: elements that the clip cut, by member; a share above a few per thousand says that
    the clip is too small.
    """

    round: int
    scalars: Mapping[str, float]
    samples: Mapping[str, int]
    saturated: Mapping[str, int]
    digest: str


@dataclass(frozen=True)
class Process:
    """A federated process; made by `build_federated_averaging_process`."""

    algorithm: Algorithm
    tools: LocalTools
    server_optimizer: ServerOptimizer
    encoding: EncodingFn

    def initialize(self, seed: int = 0) -> State:
        """Return the state before the first round; the model's random values follow from the seed."""
        with repeatable(seed, 1):
            return State(module_tensors(self.tools.model_fn()))

    def client(
        self, broadcast: Tensors, data: Dataset, client_state: ClientState, ctx: ClientContext
    ) -> tuple[Contribution, ClientState]:
        """Do a member's half of a round.

        Raises:
            TaskError: the data or model doesn't fit, or training diverged.
        """
        return self.algorithm.client(broadcast, data.train, client_state, ctx, self.tools)

    def server(self, state: State, ring_sum: Tensors, samples: int, encoding: RingEncoding) -> tuple[State, Aggregate]:
        """Do the server's half of a round, from the ring sum of survivors with `samples` examples together."""
        outcome = step(state.model, ring_sum, samples, encoding, self.server_optimizer, state=state.optimizer)
        return self._advance(state, outcome), outcome

    def next(
        self,
        state: State,
        data: Mapping[str, Dataset],
        *,
        job: str = "local",
        secrets: Mapping[str, bytes] | None = None,
        threads: int = 1,
    ) -> tuple[State, RoundMetrics]:
        """Run one round with every member in this process.

        Args:
            state: of the previous round.
            data: the cohort's data by member.
            job: id that seeds local training; a job of this id trains the same.
            secrets: rounding secrets by member, at least 16 bytes each; drawn afresh where None.
            threads: PyTorch threads of a member's training.

        Raises:
            TaskError: a member's data or training is at fault.
            EncodingError: a member's update can't be encoded.
        """
        if not data:
            raise TaskError("DATA_INVALID", "a round needs at least one member")
        members = sorted(data)
        registered = {member: samples_of(data[member].train) for member in members}
        encoding = self.encoding(sum(registered.values()), len(members))
        number = state.round + 1
        kept = dict(state.client_states)
        updates: list[Update] = []
        contributions: list[Contribution] = []
        saturated: dict[str, int] = {}
        for member in members:
            ctx = ClientContext(job, number, member, threads=threads)
            contribution, kept[member] = self.client(state.model, data[member], kept.get(member, {}), ctx)
            secret = system_secrets.token_bytes(32) if secrets is None else secrets[member]
            encoded = encode_update(
                flatten(contribution), state.model.specs, contribution.weight, encoding, Rounding(secret, job, number)
            )
            updates.append(Update(member, encoded.tensors, contribution.weight))
            contributions.append(contribution)
            saturated[member] = encoded.saturated
        outcome = aggregate(state.model, updates, encoding, self.server_optimizer, state.optimizer)
        names = sorted(set().union(*(contribution.scalars for contribution in contributions)))
        means = {name: sum(c.scalars.get(name, 0.0) for c in contributions) / outcome.samples for name in names}
        metrics = RoundMetrics(number, means, registered, saturated, outcome.digest)
        return replace(self._advance(state, outcome), client_states=kept), metrics

    def model(self, state: State) -> torch.nn.Module:
        """Return the global model as a module, ready to evaluate."""
        module = self.tools.model_fn()
        load_tensors(module, state.model)
        return module.eval()

    @staticmethod
    def _advance(state: State, outcome: Aggregate) -> State:
        return State(outcome.model, outcome.state, state.round + 1, outcome.digest, state.client_states)


def flatten(contribution: Contribution) -> MemoryTensors:
    """Return a contribution's tensors under VECTOR/NAME, as trainers write and gateways encode them."""
    flat: dict[str, Any] = {}
    for vector, tensors in contribution.tensors.items():
        flat |= {f"{vector}/{name}": values for name, values in tensors.items()}
    return MemoryTensors(flat)


def build_federated_averaging_process(
    model_fn: ModelFn,
    client_optimizer_fn: ClientOptimizerFn,
    server_optimizer_fn: Callable[[], ServerOptimizer] = Sgd,
    *,
    algorithm: Algorithm | None = None,
    encoding: EncodingFn | None = None,
    loss_fn: LossFn = torch.nn.functional.cross_entropy,
) -> Process:
    """Build a federated averaging process.

    Args:
        model_fn: makes the model; called anew for each use.
        client_optimizer_fn: parameters → the members' optimiser, made anew in each round.
        server_optimizer_fn: makes the server's optimiser; `Sgd` with rate 1 averages the members' models.
        algorithm: the members' work; FedAvg of one epoch in batches of 32 by default.
        encoding: (N, K) → the round's ring encoding; clips each element of a delta at ±1 by default.
        loss_fn: (outputs, targets) → mean loss of a batch; cross-entropy by default.
    """
    return Process(
        algorithm=FedAvg() if algorithm is None else algorithm,
        tools=LocalTools(model_fn, client_optimizer_fn, loss_fn),
        server_optimizer=server_optimizer_fn(),
        encoding=partial(RingEncoding, 1.0) if encoding is None else encoding,
    )
