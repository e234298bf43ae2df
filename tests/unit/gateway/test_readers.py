"""Who gets a blob: addresses are public, and whoever names one in a job of its own gets nothing by it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fedfabric.chaincode.records import CommitUpdate
from fedfabric.gateway.blocks import read_block
from fedfabric.gateway.journal import Journal
from fedfabric.gateway.read_model import ReadModel
from fedfabric.gateway.services.blobs import may_fetch
from fedfabric.tests.unit.audit.ledger import JOB, MEMBERS, Run

MAKER, FELLOW, THIEF = MEMBERS


@dataclass
class Gateway:
    """As much of an organisation's gateway as decides."""

    me: str
    model: ReadModel
    journal: Journal

    def gives(self, address: str) -> set[str]:
        return {msp for msp in MEMBERS if may_fetch(self, msp, address)}


class Channel:
    """A job of two organisations, and a third one on the channel."""

    def __init__(self, folder: Path) -> None:
        self.run = Run(folder)
        self.gateways = {
            msp: Gateway(msp, ReadModel(folder / f"{msp}.sqlite", msp), Journal(folder / f"{msp}.journal"))
            for msp in MEMBERS
        }

    async def begin(self) -> None:
        await self.run.found()
        await self.run.offer(MEMBERS)
        await self.run.submit_job(MEMBERS[:2])
        for msp in MEMBERS[:2]:
            await self.run.approve(msp)
        await self.run.begin()

    def gives(self, msp: str, address: str) -> set[str]:
        """To whom an organisation's gateway gives a blob, as the ledger now is."""
        gateway = self.gateways[msp]
        for block in self.run.ledger.blocks[gateway.model.position :]:
            gateway.model.apply(read_block(block, "fedfabric"))
        return gateway.gives(address)

    async def submit(self, job: str, submitter: str, **plan: Any) -> None:
        request = {
            "id": job,
            "plan": self.run.plan | plan,
            "datasets": [{"dataset": f"{submitter}/heart", "version": 1}],
            "budget": "0",
            "inputs": [],
        }
        await self.run.ledger.submit(submitter, "scientist", "training:submit", request)

    def close(self) -> None:
        for gateway in self.gateways.values():
            gateway.model.close()
            gateway.journal.close()


@pytest.fixture
async def channel(tmp_path: Path):
    channel = Channel(tmp_path)
    await channel.begin()
    yield channel
    channel.close()


async def test_who_names_a_blob_in_a_job_of_its_own_does_not_get_it_and_keeps_nobody_from_it(channel: Channel) -> None:
    await channel.run.deliver(1, MEMBERS[:2])
    update = channel.run.updates[0]["blob"]
    assert channel.gives(MAKER, update["address"]) == channel.gives(FELLOW, update["address"]) == {MAKER, FELLOW}
    await channel.submit("thief", THIEF, model=update)
    assert channel.gives(MAKER, update["address"]) == {MAKER, FELLOW}
    # Its fellow passes nothing on that somebody else claims too; the maker gives it to all who are entitled.
    assert channel.gives(FELLOW, update["address"]) == {FELLOW}


async def test_an_outcome_is_its_attesters_to_give_whoever_names_it(channel: Channel) -> None:
    run = channel.run
    updates = await run.deliver(1, MEMBERS[:2])
    await run.close(1, MEMBERS[:2])
    outcome = run.aggregate(MEMBERS[:2], updates)
    await channel.submit("thief", THIEF, model=outcome["model"])
    await run.attest(1, MEMBERS[:2], outcome)
    for msp in (MAKER, FELLOW):
        assert channel.gives(msp, outcome["model"]["address"]) == {MAKER, FELLOW}


async def test_who_names_a_blob_before_its_maker_does_not_get_it(channel: Channel) -> None:
    made = {"address": "ee" * 32, "digest": "dd" * 32, "size": 9}
    own = CommitUpdate(job=JOB, round=1, attempt=1, blob=made, samples=1, metrics={})
    channel.gateways[MAKER].journal.store_update(own)
    brought = {**made, "address": "ff" * 32}
    channel.gateways[MAKER].journal.note_made(brought["address"], "")
    await channel.submit("thief", THIEF, model=made)
    await channel.submit("another", THIEF, model=brought)
    assert channel.gives(MAKER, made["address"]) == set()
    assert channel.gives(MAKER, brought["address"]) == set()


async def test_a_submitter_gives_what_it_trains_from_to_those_it_asks(channel: Channel) -> None:
    plan = channel.run.plan["bundle"]["address"]
    await channel.submit("next", THIEF)
    assert channel.gives(MAKER, plan) == {MAKER, FELLOW}
    assert channel.gives(THIEF, plan) == {THIEF}
    # Who was asked for one of the jobs alone has it from that job's submitter.
    assert channel.gives(FELLOW, plan) == {FELLOW}


async def test_what_no_job_names_is_given_to_nobody(channel: Channel) -> None:
    assert channel.gives(MAKER, "0" * 64) == set()
