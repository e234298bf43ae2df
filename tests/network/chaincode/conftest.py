"""Our contracts on the shared network, under names of their own."""

from collections.abc import AsyncIterator

import pytest_asyncio
from fedfabric.network.network import Network
from fedfabric.network.specification import ChaincodeSpec
from fedfabric.tests.network.chaincode.ledger import Ledger


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def ledger(bft_network: Network) -> AsyncIterator[Ledger]:
    """A founded consortium of three organisations; tests use ids of their own."""
    await bft_network.deploy(ChaincodeSpec(name="contracts"))
    async with Ledger(bft_network, "contracts") as ledger:
        await ledger.found()
        yield ledger
