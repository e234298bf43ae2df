"""A founded consortium on a ledger in memory: the fake one, and the shim's own, which must not differ."""

import pytest
from fedfabric.tests.unit.chaincode.fake_stub import FakeLedger
from fedfabric.tests.unit.chaincode.memory_ledger import MemoryLedger
from fedfabric.tests.unit.chaincode.world import World


@pytest.fixture(params=[FakeLedger, MemoryLedger], ids=["fake ledger", "memory peer"])
async def world(request: pytest.FixtureRequest) -> World:
    world = World(ledger=request.param())
    await world.found()
    return world
