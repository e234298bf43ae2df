"""A founded consortium on a fake ledger."""

import pytest
from fedfabric.tests.unit.chaincode.world import World


@pytest.fixture
async def world() -> World:
    world = World()
    await world.found()
    return world
