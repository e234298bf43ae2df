"""`round`: what the ledger costs a round of a job: its share of the time, and the bytes that stay on it.

Four organisations, each with a peer, a BFT orderer, a chaincode server and a gateway, blocks cut after 50 ms. Jobs of
two models in turns, one of nine parameters and one of a million, over the same few examples.

The ledger's share of a round is told in three ways. The round's wall time, from the commit that opened it to the commit
that ended it, less what members report of their own work: the slowest training (the trainer's fork in it), transfer and
aggregation. The same less the evaluation of the new global model. And on the ledger, by the transactions' own times
(round_ledger.py); the table beside it shows on what a round waited.
"""

import asyncio
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedfabric.chaincode.records import DatasetUse, MintRequest
from fedfabric.network.network import Network
from fedfabric.network.programs import FABRIC_VERSION
from fedfabric.network.pytest_plugin import bft_specification
from fedfabric.network.specification import ChaincodeSpec, OrderingSpec
from fedfabric.trainers import build_bundle

from .figures import Report, at_most
from .round_ledger import LEDGER, WAY, RoundOnLedger, rounds, watched
from .standing import PARTS, Run, Standing

ORGANISATIONS = ("cleveland", "hungary", "long-beach", "switzerland")
PLAN = Path(__file__).resolve().parent / "wide"
WIDTHS = {"small": 1, "large": 1000}
BATCH_TIMEOUT_MS = 50
RUNS = 3
ROUNDS = 8
CLIP = "1.0"
LONE = 10
LEDGER_SECONDS = 0.5
MOST_GROWTH = 1.05
COMPUTING = tuple(part for part in PARTS if part != "evaluation")
SCALE = (
    f"{len(ORGANISATIONS)} organisations on one machine; {ROUNDS} rounds a job, the first left out; models of 9 and of "
    "1,007,001 parameters."
)
WORK = (
    "Subtracted are the slowest times that members report: training (in the trainer, its fork included), transfer and "
    "aggregation; in the second line the evaluation of the new model too, which is members' work and no transaction. "
    "Training is a member's whole work up to the stored update: reading and decrypting data and encoding are in it."
)
CHAIN = (
    "On the ledger is what the transactions' own times say: from an act's proposal to the arrival of its block, and "
    "from a block to the next act where nothing is computed in between."
)
CUTTING = (
    "Four transactions wait for one another: use, update, attest, finalise. Each begins a block that is cut "
    f"{BATCH_TIMEOUT_MS} ms later, so {4 * BATCH_TIMEOUT_MS} ms of a round are that wait. Closing goes on beside the "
    "members' summing, and is counted on the ledger all the same."
)


@dataclass(frozen=True)
class Measured:
    """A job that ran, and what its rounds but the first left on the ledger."""

    run: Run
    steady: Sequence[RoundOnLedger]

    def rest(self, subtracted: Sequence[str]) -> float:
        """The median round's seconds less the slowest of each of these parts."""
        rests = (
            one.seconds - sum(self.run.parts[part][index] for part in subtracted)
            for index, one in enumerate(self.steady, start=1)
        )
        return statistics.median(rests)

    def median(self, of: Callable[[RoundOnLedger], float]) -> float:
        """The median round's value."""
        return statistics.median(of(one) for one in self.steady)


async def _measure(house: Standing, job: str, width: int, uses: Sequence[DatasetUse], count: int) -> Measured:
    bundle = build_bundle(PLAN, build_bundle(PLAN).params | {"width": width})
    async with watched(house.network, house.organisations[0]) as arrived:
        run = await house.run(job, bundle, uses, rounds=count, clip=CLIP, seed=0)
    return Measured(run, rounds(arrived, job, count)[1:])


async def _lone(house: Standing) -> tuple[list[float], list[float]]:
    """Seconds of endorsing, and of ordering and committing, transactions that nothing runs beside."""
    endorsing, committing = [], []
    async with house.contract(house.organisations[0], "tokens") as contract:
        for number in range(LONE):
            mint = MintRequest(id=f"lone-{number}", owner=house.msp(house.organisations[0]), amount="1")
            proposal = contract.propose("approve", mint.canonical())
            began = time.perf_counter()
            transaction = await proposal.endorse()
            endorsed = time.perf_counter()
            await (await transaction.submit()).status()
            endorsing.append(endorsed - began)
            committing.append(time.perf_counter() - endorsed)
    return endorsing, committing


async def _all(folder: Path) -> tuple[dict[str, list[Measured]], list[float], list[float]]:
    specification = bft_specification(
        (ChaincodeSpec(name="jobs"),),
        name="round",
        organisations=[{"name": name, "orderers": 1} for name in ORGANISATIONS],
        ordering=OrderingSpec(type="bft", batch_timeout_ms=BATCH_TIMEOUT_MS),
    )
    measured: dict[str, list[Measured]] = defaultdict(list)
    async with (
        Network(specification, home=folder / "network") as network,
        Standing(network, "jobs", folder / "gateways", ORGANISATIONS) as house,
    ):
        house.trainer = {"concurrent": len(ORGANISATIONS)}
        await house.found()
        await house.start()
        uses = await house.data_of("round", *ORGANISATIONS)
        await _measure(house, "warm-up", 1, uses, 2)  # lets every zygote import PyTorch
        for turn in range(RUNS):
            for size, width in WIDTHS.items():
                measured[size].append(await _measure(house, f"{size}-{turn}", width, uses, ROUNDS))
        return measured, *await _lone(house)


def run() -> Report:
    """Measure."""
    report = Report("round", versions={"fabric": FABRIC_VERSION})
    with tempfile.TemporaryDirectory() as folder:
        measured, endorsing, committing = asyncio.run(_all(Path(folder)))
    goal = at_most(LEDGER_SECONDS)
    for size, ran in measured.items():
        report.add(
            f"{size} model: round less training, transfer, aggregation", [one.rest(COMPUTING) for one in ran], "s", goal
        )
        report.add(f"{size} model: the same less evaluation", [one.rest(PARTS) for one in ran], "s", goal)
        report.add(f"{size} model: on the ledger", [one.median(lambda each: each.on_ledger) for one in ran], "s")
        report.add(f"{size} model: a round", [one.median(lambda each: each.seconds) for one in ran], "s")
        for part in PARTS:
            slowest = [statistics.median(one.run.parts[part][1:]) for one in ran]
            report.add(f"{size} model: slowest {part}", slowest, "s")
        for what, of in (("bytes", lambda each: each.bytes), ("bytes of blocks", lambda each: each.block_bytes)):
            each_bears = [one.median(of) / len(ORGANISATIONS) for one in ran]
            report.add(f"{size} model: {what} a round and organisation", each_bears, "B")
    small, large = ([one.median(lambda each: each.bytes) for one in measured[size]] for size in WIDTHS)
    growth = [one / other for one, other in zip(large, small, strict=True)]
    report.add("bytes, large model / small", growth, "x", at_most(MOST_GROWTH))
    report.add("a lone transaction: endorsed", endorsing, "s")
    report.add("a lone transaction: ordered and committed", committing, "s")
    report.tables += [_ways(measured), _transactions(measured)]
    report.notes += [SCALE, WORK, CHAIN, CUTTING]
    return report


def _ways(measured: dict[str, list[Measured]]) -> tuple[str, Sequence[str], Sequence[Sequence[object]]]:
    """Where a steady round's time goes. Means, so that they add up."""
    means = {
        size: {part: statistics.fmean(each.way()[part] for one in ran for each in one.steady) for part in WAY}
        for size, ran in measured.items()
    }
    rows: list[Sequence[object]] = [(part, *(means[size][part] for size in means)) for part in WAY]
    rows += [
        ("all", *(sum(means[size].values()) for size in means)),
        ("of it on the ledger", *(sum(means[size][part] for part in LEDGER) for size in means)),
    ]
    return ("where a round's time goes: means along the chain of what waited for what, s", ("part", *means), rows)


def _transactions(measured: dict[str, list[Measured]]) -> tuple[str, Sequence[str], Sequence[Sequence[object]]]:
    """What a steady round's transactions are."""
    steady = [each for ran in measured.values() for one in ran for each in one.steady]
    sizes: dict[str, list[int]] = defaultdict(list)
    for step in (step for each in steady for step in each.steps):
        sizes[step.name if step.valid else f"{step.name}, invalid"].append(step.size)
    rows = [(name, len(found) / len(steady), statistics.fmean(found)) for name, found in sizes.items()]
    return ("a round's transactions, of both models", ("transaction", "a round", "bytes each"), rows)
