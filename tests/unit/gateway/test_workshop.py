"""A member's sum: of what its row and its bytes allow, and of what the disk still holds."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from fedfabric.chaincode.records import Outcome, Update
from fedfabric.gateway.blobs import BlobBrokenError, BlobStore
from fedfabric.gateway.blocks import read_block
from fedfabric.gateway.errors import CorruptError
from fedfabric.gateway.journal import Journal
from fedfabric.gateway.limits import Deadlines, Limits
from fedfabric.gateway.read_model import ReadModel
from fedfabric.gateway.workshop import Workshop
from fedfabric.gateway.zygote import Scratch
from fedfabric.tests.unit.audit.ledger import JOB, MEMBERS, Run, RunSettings

KEY = bytes(32)


class Exchange:
    """Gives every blob of the run."""

    def __init__(self, run: Run, store: BlobStore) -> None:
        self.run = run
        self.store = store
        self.asked: list[str] = []

    async def ensure(self, blob, holders) -> float:
        self.asked.append(blob.address)
        if not await self.store.has(blob.address):
            await self.store.put([self.run.ledger.blobs[blob.address]], KEY, expected=blob.address)
        return 0.0

    async def drop_broken(self, blobs) -> None:
        for blob in blobs:
            try:
                async with await self.store.open(blob.address, KEY) as reader:
                    await reader.read(1 << 30)
            except BlobBrokenError:
                await self.store.delete(blob.address)


@dataclass
class Shop:
    run: Run
    model: ReadModel
    exchange: Exchange
    workshop: Workshop
    folder: Path

    async def deliver(self) -> list[Update]:
        """Every member's update, on the ledger."""
        await self.run.deliver(1, MEMBERS)
        await self.run.close(1, MEMBERS)
        for block in self.run.ledger.blocks[self.model.position :]:
            self.model.apply(read_block(block, "fedfabric"))
        return self.model.updates(JOB, 1)

    async def aggregate(self) -> Outcome:
        rows = self.model.updates(JOB, 1)
        return await self.workshop.aggregate(self.model.job(JOB), self.model.round(JOB, 1), rows)

    def damage(self, address: str) -> None:
        path = self.folder / "blobs" / address[:2] / address
        content = bytearray(path.read_bytes())
        content[min(200, len(content) - 20)] ^= 1
        path.write_bytes(content)


@pytest.fixture
async def shop(tmp_path: Path):
    run = Run(tmp_path, RunSettings(rounds=1))
    await run.found()
    await run.offer(MEMBERS)
    await run.start()
    store = BlobStore(str(tmp_path / "blobs"), tmp_path / "staging", 1 << 30)
    exchange = Exchange(run, store)
    scratch = Scratch(tmp_path, "shop")
    with ReadModel(tmp_path / "ledger.sqlite", MEMBERS[0]) as model, Journal(tmp_path / "journal.sqlite") as journal:
        parts = SimpleNamespace(
            me=MEMBERS[0],
            store=store,
            secrets=SimpleNamespace(storage_key=KEY),
            exchange=exchange,
            zygote=None,
            scratch=scratch,
            journal=journal,
            limits=Limits(),
            deadlines=Deadlines(),
        )
        yield Shop(run, model, exchange, Workshop(parts), tmp_path)
    await asyncio.to_thread(scratch.close)


async def test_an_update_larger_than_any_of_its_model_is_not_even_fetched(shop: Shop) -> None:
    shop.run.spoiled_update = (MEMBERS[1], lambda _: bytes(5 << 20))
    rows = {row.msp: row for row in await shop.deliver()}
    outcome = await shop.aggregate()
    assert outcome.summed == (MEMBERS[0], MEMBERS[2])
    assert rows[MEMBERS[0]].blob.address in shop.exchange.asked
    assert rows[MEMBERS[1]].blob.address not in shop.exchange.asked


async def test_what_the_disk_has_damaged_is_fetched_again_and_summed(shop: Shop) -> None:
    rows = await shop.deliver()
    for row in rows:
        await shop.exchange.ensure(row.blob, [])
    shop.damage(rows[1].blob.address)
    outcome = await shop.aggregate()
    assert outcome.summed == MEMBERS
    assert shop.exchange.asked.count(rows[1].blob.address) == 3


@pytest.mark.parametrize("part", ["bundle", "model"])
async def test_a_damaged_plan_or_model_is_fetched_by_the_next_try(shop: Shop, part: str) -> None:
    await shop.deliver()
    job = shop.model.job(JOB)
    blobs = {"bundle": job.terms.plan.bundle, "model": job.terms.plan.model}
    for blob in blobs.values():
        await shop.exchange.ensure(blob, [])
    shop.damage(blobs[part].address)
    (shop.folder / "task").mkdir()
    with pytest.raises(CorruptError):
        await shop.workshop._lay_out(shop.folder / "task", job, blobs["model"], None)
    await shop.workshop.fetch_for_training(job, shop.model.round(JOB, 1))
    async with await shop.exchange.store.open(blobs[part].address, KEY) as reader:
        assert await reader.read(1 << 20) == shop.run.ledger.blobs[blobs[part].address]


async def test_one_update_that_is_not_to_be_had_does_not_end_the_fetching_of_the_others(shop: Shop) -> None:
    rows = await shop.deliver()
    del shop.run.ledger.blobs[rows[0].blob.address]
    with pytest.raises(KeyError):
        await shop.aggregate()
    for row in rows[1:]:
        assert await shop.exchange.store.has(row.blob.address)
