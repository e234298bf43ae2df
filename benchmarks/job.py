"""`job`: a whole training job across three organisations against Flower's simulation and a plain loop of the same work.

MNIST of 5,000, 600 digits a member, the FedAvg paper's network of 1.66 million parameters, batches of 10, one epoch,
ten rounds. The network and the gateways stand; a job is timed from its submission (plan and initial model uploaded,
approvals signed) to the finished model in the scientist's hands. Ledger, attestations by evaluation on every member's
hold-out, escrow and payments are in it. Flower runs from a cold process at 1 and at 2 CPUs a client, and the faster
counts. That all do the same work is checked: the final models agree.
"""

import asyncio
import statistics
import tempfile
from pathlib import Path

from fedfabric.chaincode.records import DatasetUse
from fedfabric.network.network import Network
from fedfabric.network.pytest_plugin import bft_specification
from fedfabric.network.specification import ChaincodeSpec
from fedfabric.tests.network.gateway.house import ORGANISATIONS
from fedfabric.trainers import build_bundle

from .digits import HOLDOUT, MEMBERS, PLAN, ROUNDS, SEED, TRAIN, deal
from .figures import Report, at_most
from .job_flower import Baseline, apart, flower, sequential
from .job_work import JOB, initial_model
from .standing import MILLION, PARTS, JobError, Run, Standing

RUNS = 3
CLIP = "0.25"
MOST_APART = 0.15


class Digits(Standing):
    """The three organisations, each with its digits registered."""

    uses: tuple[DatasetUse, ...] = ()

    async def register_digits(self, folders: list[Path]) -> None:
        """Register every member's digits and grant the first organisation their use."""
        uses = []
        for organisation, folder in zip(ORGANISATIONS, folders, strict=True):
            steward = await self.client(organisation, "steward")
            dataset = await steward.datasets.register(
                "digits",
                folder,
                title="Handwritten digits",
                samples=TRAIN,
                licence="CC-BY-SA-3.0",
                jurisdiction="CH",
            )
            grant = None
            if organisation != ORGANISATIONS[0]:
                await self.at_block(ORGANISATIONS[0], (await steward.describe()).block_number)
                grant = f"digits-{organisation}"
                await self.grant(ORGANISATIONS[0], organisation, dataset.id, grant)
            uses.append(DatasetUse(dataset=dataset.id, version=1, grant=grant))
        self.uses = tuple(uses)

    async def learn(self, job: str, rounds: int) -> Run:
        """Run a job over all digits."""
        return await self.run(job, build_bundle(PLAN), self.uses, rounds=rounds, clip=CLIP, seed=SEED)


async def _ours(folder: Path, folders: list[Path]) -> list[Run]:
    specification = bft_specification((ChaincodeSpec(name="jobs"),))
    async with (
        Network(specification, home=folder / "network") as network,
        Digits(network, "jobs", folder / "gateways", ORGANISATIONS) as house,
    ):
        await house.found()
        await house.start()
        await house.register_digits(folders)
        # Seeds follow from the job's id, so only one job does exactly the baselines' work: the first that is timed.
        # One before it lets every zygote import PyTorch, which is part of a network that stands.
        await house.learn("warm-up", 1)
        return [await house.learn(JOB if index == 0 else f"{JOB}-{index}", ROUNDS) for index in range(RUNS)]


def _steady(seconds: tuple[float, ...]) -> float:
    return statistics.median(seconds[1:])


def _apart(ours: Run, other: Baseline) -> float:
    start = {name: value.numpy() for name, value in initial_model().state_dict().items()}
    return apart(ours.model, other.model, start)


def run() -> Report:
    """Measure."""
    report = Report("job")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        members = folder / "members"
        folders = deal(members, MEMBERS)
        ours = asyncio.run(_ours(folder, folders))
        flowers = {cpus: flower(members, cpus) for cpus in (1, 2)}
        loops = {threads: sequential(members, threads) for threads in (1, 2)}
    fastest = min(flowers.values(), key=lambda one: one.whole)
    loop = min(loops.values(), key=lambda one: one.whole)
    for name, other in (("Flower", fastest), ("the loop", loop)):
        # a mean of models and a sum of deltas differ in the last bit after one round, and nine more multiply that
        if (distance := _apart(ours[0], other)) > MOST_APART:
            raise JobError(f"the job and {name} did not do the same work: {distance:.1%} of the way apart")
    steady = min(one.steady for one in flowers.values())
    report.add("steady round / Flower's", [_steady(one.rounds) / steady for one in ours], "x", at_most(1.0))
    report.add("whole / Flower's", [one.whole / fastest.whole for one in ours], "x", at_most(0.6))
    report.add("steady round", [_steady(one.rounds) for one in ours], "s")
    report.add("whole job", [one.whole for one in ours], "s")
    for cpus, one in flowers.items():
        report.add(f"Flower, {cpus} CPU a client: steady round", one.steady, "s")
        report.add(f"Flower, {cpus} CPU a client: whole", one.whole, "s")
    for threads, one in loops.items():
        report.add(f"plain loop, {threads} threads: round", one.steady, "s")
        report.add(f"plain loop, {threads} threads: whole", one.whole, "s")
    for part in PARTS:
        report.add(f"of a steady round: slowest {part}", [_steady(one.parts[part]) for one in ours], "s")
    ledger = [
        statistics.median(
            total - sum(one.parts[part][index] for part in one.parts) for index, total in enumerate(one.rounds) if index
        )
        for one in ours
    ]
    report.add("of a steady round: the ledger and waiting", ledger, "s")
    report.add("accuracy on all hold-outs", [one.report.rounds[-1].metrics["accuracy"] / MILLION for one in ours], "")
    report.notes.append(
        f"{len(MEMBERS)} members, {TRAIN} digits and {HOLDOUT} held out each, {ROUNDS} rounds. The models of the job "
        f"and of Flower are {_apart(ours[0], fastest):.2%} of their way apart (Flower's accuracy "
        f"{fastest.accuracy:.3f}): both did the same work."
    )
    return report
