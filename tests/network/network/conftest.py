"""Networks that tests may break, one for each runtime."""

import pytest_asyncio
from fedfabric.network import Network
from fedfabric.network.pytest_plugin import bft_specification


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def own_network(network_runtime, tmp_path_factory, network_chaincodes):
    """A network of one module alone, under one runtime."""
    spec = bft_specification(network_chaincodes)
    async with Network(spec, home=tmp_path_factory.mktemp(network_runtime), runtime=network_runtime) as network:
        yield network
