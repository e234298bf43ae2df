r"""Federated averaging (McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from Decentralized
Data).

Each member starts at the global model w, makes E epochs of minibatch steps on its own data and sends w_k - w with
weight n_k; the server adds η Σ_k (n_k / n) (w_k - w). With one step of plain SGD at rate η_l on the full batch,
w_k - w = -η_l ∇F_k(w), so that at a server rate of 1 a round is w_t = w_{t-1} - η_l Σ_k (n_k / n) ∇F_k(w_{t-1}):
`FedSGD`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from .algorithms import ClientContext, ClientState, Contribution, LocalTools, repeatable
from .data import batches, samples_of
from .errors import PlanError
from .models import difference, load_tensors, module_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..aggregation import Tensors
    from .data import Examples


@dataclass(frozen=True)
class FedAvg:
    """The client's half of FedAvg.

    local_epochs: passes over the member's examples per round.
    batch_size: examples of a step; 0 takes all at once.
    max_steps: steps after which a round's local work ends; 0 for no such end.
    """

    local_epochs: int = 1
    batch_size: int = 32
    max_steps: int = 0

    def __post_init__(self) -> None:
        for name, least, most in (("local_epochs", 1, 10_000), ("batch_size", 0, 2**31), ("max_steps", 0, 2**31)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                raise PlanError(f"{name} is a whole number in [{least}, {most}], not {str(value)[:40]}")

    @classmethod
    def from_params(cls, params: Mapping[str, object]) -> FedAvg:
        """Return the algorithm as a plan's parameters of the same names set it."""
        known = {name: params[name] for name in ("local_epochs", "batch_size", "max_steps") if name in params}
        return cls(**known)  # type: ignore[arg-type]  # __post_init__ checks

    @property
    def vectors(self) -> tuple[str, ...]:
        """One vector, the difference of the models."""
        return ("delta",)

    def client(
        self, broadcast: Tensors, train: Examples, client_state: ClientState, ctx: ClientContext, tools: LocalTools
    ) -> tuple[Contribution, ClientState]:
        """Train from the global model on the member's examples.

        Raises:
            TaskError: MODEL_MISMATCH, DATA_INVALID or NOT_FINITE.
        """
        samples = samples_of(train)
        with repeatable(ctx.seed, ctx.threads):
            model = tools.model_fn()
            load_tensors(model, broadcast)
            loss = self._train(model, train, ctx, tools)
            after = module_tensors(model).arrays
        delta = difference(after, broadcast)
        return Contribution({"delta": delta}, samples, {"loss": loss * samples}), client_state

    def _train(self, model: torch.nn.Module, train: Examples, ctx: ClientContext, tools: LocalTools) -> float:
        """Step through the epochs; return the mean loss per example of the last one, before each step."""
        optimizer = tools.client_optimizer_fn(model.parameters())
        generator = torch.Generator().manual_seed(ctx.seed)
        model.train()
        steps, mean = 0, 0.0
        for _ in range(self.local_epochs):
            total, seen = 0.0, 0
            for inputs, target in batches(train, self.batch_size, generator):
                optimizer.zero_grad(set_to_none=True)
                loss = tools.loss_fn(model(*inputs), target)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                total += float(loss.detach()) * len(target)
                seen += len(target)
                steps += 1
                if steps == self.max_steps:
                    return total / seen
            mean = total / seen
        return mean


def FedSGD() -> FedAvg:  # noqa: N802  the algorithm's name
    """Return FedAvg's single-step case on full batches, which is the article's formula."""
    return FedAvg(local_epochs=1, batch_size=0)
