"""The same job in one process: what three gateways and a ledger must come to, bit for bit."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from fedfabric.aggregation import RingEncoding, Sgd
from fedfabric.tests.network.gateway.house import LINEAR, House
from fedfabric.trainers import Process, load_plan


def model_digest(house: House, name: str, job: str, rounds: Sequence[Sequence[str]], seed: int = 7) -> str:
    """The digest of a job's model, computed without network, ledger or gateway.

    Args:
        house: whose rounding secrets and examples are used.
        name: of the data sets.
        job: its id, from which local training is seeded.
        rounds: the organisations that were counted in each round.
        seed: of the initial model.
    """
    plan = load_plan(LINEAR, {})
    process = Process(plan.algorithm, plan.tools, Sgd(1.0), partial(RingEncoding, 1.0))
    state = process.initialize(seed)
    for members in rounds:
        data = {house.msp(one): plan.load(house.folder / "data" / one / name) for one in members}
        state, _ = process.next(state, data, job=job, secrets=secrets_of(house, members))
    return state.model_digest


def secrets_of(house: House, organisations: Sequence[str]) -> Mapping[str, bytes]:
    """The gateways' rounding secrets, by MSP id."""
    return {
        house.msp(one): Path(house.folder / one / "state" / "rounding.secret").read_bytes() for one in organisations
    }
