"""Killed at any row of the state tables, whoever it is, the job ends with the model that it would have ended with."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable

import psutil
import pytest
from fedfabric.gateway import ApiError
from fedfabric.tests.network.gateway.chain import Happenings, committed_twice, happenings, leader, transactions
from fedfabric.tests.network.gateway.house import ORGANISATIONS, House
from fedfabric.tests.network.gateway.reference import model_digest

ROUNDS = 2
DEEDS = ("training:update", "training:attest", "training:close", "training:finalise", "training:start", "access:use")

ROWS: dict[str, Callable[[object], bool]] = {
    "submitted": lambda event: event.type == "job.submitted",
    "approved by one": lambda event: event.type == "job.approved",
    "a round opened": lambda event: event.type == "round.opened",
    "a first update": lambda event: event.type == "round.updated",
    "a round closed": lambda event: event.type == "round.closed",
    "a first attestation": lambda event: event.type == "round.attested",
    "a round final": lambda event: event.type == "round.final",
}


async def kill_process(house: House, name: str) -> None:
    """The network's supervisor starts it again."""
    state = await house.network.process(name)
    if state.pid is not None:
        os.kill(state.pid, signal.SIGKILL)


async def kill_leader(house: House) -> None:
    await kill_process(house, f"orderer0.{await leader(house, 'switzerland')}")


async def kill_gateway(house: House, organisation: str) -> None:
    await house.kill(organisation)
    await house.start(organisation)


async def kill_trainer(house: House) -> None:
    """The trainers' process and its children, at every gateway that has one."""
    for gateway in house.gateways.values():
        for child in psutil.Process(gateway.pid).children(recursive=True):
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue


VICTIMS: dict[str, Callable[[House], Awaitable[None]]] = {
    "a peer": lambda house: kill_process(house, "peer0.hungary"),
    "the leading orderer": kill_leader,
    "a chaincode server": lambda house: kill_process(house, f"chaincode-{house.chaincode}.hungary"),
    "the submitter's gateway": lambda house: kill_gateway(house, "cleveland"),
    "a second gateway": lambda house: kill_gateway(house, "hungary"),
    "a third gateway": lambda house: kill_gateway(house, "switzerland"),
    "the trainers": kill_trainer,
}

# One victim at each row, so that each of both is there once; the whole matrix is the soak.
TARGETS = [
    ("submitted", "the submitter's gateway"),
    ("approved by one", "a chaincode server"),
    ("a round opened", "the trainers"),
    ("a first update", "a second gateway"),
    ("a round closed", "the leading orderer"),
    ("a first attestation", "a third gateway"),
    ("a round final", "a peer"),
]
MATRIX = [(row, victim) for row in ROWS for victim in VICTIMS if (row, victim) not in TARGETS]
INSTANTS = range(20)


async def run(house: House, name: str, strike: Callable[[Happenings], Awaitable[None]]) -> None:
    """Run a job with something happening beside it, and hold its end against the undisturbed run."""
    datasets = await house.data_of(name, *ORGANISATIONS)
    async with happenings(house, "switzerland") as seen:
        task = asyncio.create_task(strike(seen))
        try:
            job = await again(lambda: house.submit(name, datasets, rounds=ROUNDS))
            for organisation in ORGANISATIONS:
                await again(lambda organisation=organisation: house.approve(job, organisation))
            report = await again(lambda: house.ended("switzerland", name))
            await asyncio.wait_for(task, 120)
        finally:
            task.cancel()
            await asyncio.wait({task})
    assert report.job.state.value == "finished", report.job.reason
    counted = [one.round.counted for one in report.rounds]
    assert counted == [tuple(sorted(house.msp(one) for one in ORGANISATIONS))] * ROUNDS
    assert report.job.model.digest == await asyncio.to_thread(model_digest, house, name, name, [ORGANISATIONS] * ROUNDS)
    assert committed_twice(await transactions(house, "switzerland", name), *DEEDS) == []


async def again(work: Callable[[], Awaitable], seconds: float = 60):
    """A person who tries again while a gateway or a peer is away."""
    passing = {"GATEWAY_UNAVAILABLE", "PEER_UNAVAILABLE", "OUTCOME_UNKNOWN", "ENDORSEMENT_FAILED", "PLAN_FAILED"}
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while True:
        try:
            return await work()
        except ApiError as error:
            if error.code not in passing or loop.time() > until:
                raise
        await asyncio.sleep(0.2)


def strike_at(house: House, row: str, victim: str) -> Callable[[Happenings], Awaitable[None]]:
    async def strike(seen: Happenings) -> None:
        await seen.until(ROWS[row], 120)
        await VICTIMS[victim](house)

    return strike


def named(row: str, victim: str) -> str:
    return f"kill-{list(ROWS).index(row)}-{list(VICTIMS).index(victim)}"


@pytest.mark.parametrize(("row", "victim"), TARGETS)
async def test_a_job_survives(house: House, row: str, victim: str) -> None:
    await run(house, named(row, victim), strike_at(house, row, victim))


@pytest.mark.soak
@pytest.mark.parametrize(("row", "victim"), MATRIX)
async def test_a_job_survives_the_whole_matrix(house: House, row: str, victim: str) -> None:
    await run(house, named(row, victim), strike_at(house, row, victim))


@pytest.mark.soak
@pytest.mark.parametrize("seed", INSTANTS)
async def test_a_job_survives_a_death_at_a_seeded_instant(house: House, seed: int) -> None:
    chance = random.Random(seed)
    victim, pause = chance.choice(list(VICTIMS)), chance.uniform(0, 2.5)

    async def strike(seen: Happenings) -> None:
        await seen.until(ROWS["submitted"], 120)
        await asyncio.sleep(pause)
        await VICTIMS[victim](house)

    await run(house, f"instant-{seed}", strike)
