"""Three gateways on the shared network, with a chaincode of their own."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from fedfabric.network.network import Network
from fedfabric.network.specification import ChaincodeSpec
from fedfabric.tests.network.gateway.house import ORGANISATIONS, House


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def house(bft_network: Network, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """Cleveland, Hungary and Switzerland; tests use ids of their own, and leave all three gateways running."""
    await bft_network.deploy(ChaincodeSpec(name="jobs"))
    folder = tmp_path_factory.mktemp("gateways")
    async with House(bft_network, "jobs", folder, ORGANISATIONS) as house:
        await house.found()
        await house.start()
        yield house
