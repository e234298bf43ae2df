"""The driver over a scripted ledger: each deed once at a time, again after trouble, given up when it can't succeed."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from fedfabric.chaincode.records import Blob, CommitUpdate, Outcome
from fedfabric.fabric.client import EndorseError
from fedfabric.gateway import driver as driver_module
from fedfabric.gateway.blobs import StoreFullError
from fedfabric.gateway.consent import ConsentError
from fedfabric.gateway.decisions import Evaluate, ReportMissing
from fedfabric.gateway.driver import Driver
from fedfabric.gateway.errors import NotFoundError
from fedfabric.gateway.follower import Follower
from fedfabric.gateway.journal import Journal, StoredAttestation
from fedfabric.gateway.read_model import ReadModel
from fedfabric.gateway.zygote import TrainerError, TrainerGoneError
from fedfabric.tests.unit.audit.ledger import JOB, MEMBERS, Run, RunSettings

ME = MEMBERS[0]
CHAINCODE = "fedfabric"


@dataclass
class FakeLedger:
    """Notes acts, and fails as the script says."""

    script: list[Exception] = field(default_factory=list)
    acts: list[str] = field(default_factory=list)
    happened: asyncio.Event = field(default_factory=asyncio.Event)

    async def act(self, name: str, function: str, _request) -> float:
        self.acts.append(name)
        self.happened.set()
        if self.script:
            raise self.script.pop(0)
        return 0.1


@dataclass
class FakeWorkshop:
    """Trains and sums as the script says."""

    journal: Journal
    script: list[Exception | None] = field(default_factory=list)
    trained: int = 0
    running: int = 0
    most: int = 0
    hold: asyncio.Event | None = None

    async def fetch_for_training(self, _job, _current) -> None:
        return

    async def train(self, job, current, _consent, _clock):
        self.trained += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.hold is not None:
                await self.hold.wait()
            if self.script and (error := self.script.pop(0)) is not None:
                raise error
        finally:
            self.running -= 1


class Stage:
    """A gateway's driver in the middle of a job in its first round."""

    def __init__(self, run: Run, folder: Path, me: str = ME) -> None:
        self.run = run
        self.model = ReadModel(folder / "ledger.sqlite", me)
        self.journal = Journal(folder / "journal.sqlite")
        self.follower = Follower(self.model, CHAINCODE)
        self.ledger = FakeLedger()
        self.workshop = FakeWorkshop(self.journal)
        self.now_ms = run.ledger.now
        self.driver = Driver(
            me,
            follower=self.follower,
            journal=self.journal,
            ledger=self.ledger,
            workshop=self.workshop,
            chaincode=CHAINCODE,
            trains=True,
            stagger_ms=0,
            clock_ms=lambda: self.now_ms,
        )

    async def catch_up(self) -> None:
        for block in self.run.ledger.blocks[self.model.position :]:
            await self.follower.take(block)

    async def until(self, condition, seconds: float = 5) -> None:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - the driver has no event for it
                await asyncio.sleep(0.005)

    def close(self) -> None:
        self.model.close()
        self.journal.close()


@pytest.fixture
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(driver_module, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(driver_module, "_LONGEST_PAUSE", 0.002)
    run = Run(tmp_path, RunSettings(rounds=1))
    await run.found()
    await run.offer(MEMBERS)
    await run.start()
    stage = Stage(run, tmp_path)
    await stage.catch_up()
    task = asyncio.create_task(stage.driver.run())
    yield stage
    task.cancel()
    await asyncio.wait({task})
    stage.close()


async def test_a_deed_under_way_is_not_begun_again_by_further_blocks(stage: Stage) -> None:
    stage.workshop.hold = asyncio.Event()
    await stage.until(lambda: stage.workshop.trained == 1)
    await stage.run.grow(3)
    await stage.catch_up()
    await asyncio.sleep(0.02)
    assert (stage.workshop.trained, stage.workshop.most) == (1, 1)
    stage.workshop.hold.set()


async def test_trouble_of_this_machine_is_tried_a_few_times_and_then_given_up(stage: Stage) -> None:
    stage.workshop.script = [TrainerGoneError("TRAINER_GONE", "it died")] * 50
    await stage.until(lambda: stage.journal.failure(JOB, 1, 1, "train") is not None)
    assert stage.workshop.trained == driver_module._MOST_TRIES
    await asyncio.sleep(0.02)
    assert stage.workshop.trained == driver_module._MOST_TRIES


@pytest.mark.parametrize("error", [NotFoundError("nobody gave the model"), StoreFullError("no space")], ids=repr)
async def test_others_absence_and_a_full_disk_are_waited_out(stage: Stage, error: Exception) -> None:
    stage.workshop.script = [error] * 20
    await stage.until(lambda: stage.workshop.trained > 20)
    assert stage.journal.failure(JOB, 1, 1, "train") is None


async def test_what_can_not_succeed_is_given_up_at_once(stage: Stage) -> None:
    stage.workshop.script = [ConsentError("GRANT_REVOKED", "revoked")]
    await stage.until(lambda: stage.journal.failure(JOB, 1, 1, "train") is not None)
    assert stage.workshop.trained == 1


async def test_a_fault_of_ours_does_not_end_the_gateways_part(stage: Stage) -> None:
    stage.workshop.script = [RuntimeError("a bug"), TrainerError("KILLED", "killed"), None]
    await stage.until(lambda: stage.workshop.trained >= 3)


async def test_a_deed_that_nobody_needs_any_more_is_cancelled(stage: Stage) -> None:
    stage.workshop.hold = asyncio.Event()
    await stage.until(lambda: stage.workshop.running == 1)
    stage.now_ms = stage.model.round(JOB, 1).update_until_ms
    stage.driver._wake.set()
    await stage.until(lambda: stage.workshop.running == 0)


async def test_a_deadline_wakes_without_any_block(stage: Stage) -> None:
    stage.workshop.hold = asyncio.Event()
    current = stage.model.round(JOB, 1)
    stage.now_ms = current.update_until_ms + 2 * current.window_ms
    stage.driver._wake.set()
    await asyncio.wait_for(stage.ledger.happened.wait(), 5)
    assert stage.ledger.acts[0].startswith(f"abort_round {JOB} 1 1 ")


async def test_an_act_is_tried_again_as_long_as_it_is_to_be_done(stage: Stage) -> None:
    stage.workshop.hold = asyncio.Event()
    stage.ledger.script = [EndorseError("tx", grpc.StatusCode.UNAVAILABLE, "no peer")] * 12
    current = stage.model.round(JOB, 1)
    stage.now_ms = current.update_until_ms + 2 * current.window_ms
    stage.driver._wake.set()
    await stage.until(lambda: len(stage.ledger.acts) > 12)
    (name,) = set(stage.ledger.acts)
    assert name.startswith(f"abort_round {JOB} 1 1 ")


async def test_what_says_more_than_before_is_another_act(stage: Stage) -> None:
    """Else the transaction stored for the one would be overwritten by the other's, or sent in its place."""
    stage.workshop.hold = asyncio.Event()
    for members in (("HungaryMSP",), ("HungaryMSP", "SwitzerlandMSP"), ("HungaryMSP",)):
        await stage.driver._do(ReportMissing(JOB, 1, 1, members))
    few, more, again = stage.ledger.acts
    assert few == again != more
    assert all(name.startswith(f"report_missing {JOB} 1 1 ") for name in (few, more))


async def test_what_is_stored_is_committed_and_not_trained_again(tmp_path: Path) -> None:
    run = Run(tmp_path, RunSettings(rounds=1))
    await run.found()
    await run.offer(MEMBERS)
    await run.start()
    stage = Stage(run, tmp_path)
    blob = Blob(address="a" * 64, digest="b" * 64, size=3)
    stage.journal.store_update(CommitUpdate(job=JOB, round=1, attempt=1, blob=blob, samples=1))
    await stage.catch_up()
    task = asyncio.create_task(stage.driver.run())
    await asyncio.wait_for(stage.ledger.happened.wait(), 5)
    assert stage.ledger.acts[0].startswith(f"update {JOB} 1 1 ")
    assert stage.workshop.trained == 0
    task.cancel()
    await asyncio.wait({task})
    stage.close()


async def test_other_organisations_jobs_are_left_to_them(tmp_path: Path) -> None:
    run = Run(tmp_path, RunSettings(rounds=1))
    await run.found()
    await run.offer(MEMBERS)
    await run.start()
    stage = Stage(run, tmp_path, "StrangerMSP")
    await stage.catch_up()
    stage.now_ms += 10**9
    task = asyncio.create_task(stage.driver.run())
    await asyncio.sleep(0.05)
    assert stage.ledger.acts == []
    assert stage.workshop.trained == 0
    task.cancel()
    await asyncio.wait({task})
    stage.close()


def test_a_verdict_that_was_given_up_is_no_acceptance(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite") as journal:
        blob = Blob(address="a" * 64, digest="b" * 64, size=3)
        journal.store_outcome("job", 1, 1, Outcome(digest="c" * 64, model=blob, summed=("AMSP",)))
        stage = object.__new__(Driver)
        stage._journal = journal
        stage._trouble = {}
        stage._give_up(Evaluate("job", 1, 1), "GRANT_REVOKED: revoked")
        assert journal.verdict("job", 1, 1) == StoredAttestation(accept=False, samples=0, metrics={})
