"""Networks that tests may break, one for each runtime."""

import pytest_asyncio
from fedfabric.network import Network
from fedfabric.network.pytest_plugin import bft_specification


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def module_network(network_runtime, tmp_path_factory, network_chaincodes):
    """A network of one module alone, under one runtime; its time window bears an overloaded machine."""
    spec = bft_specification(network_chaincodes, window_ms=10_000)
    async with Network(spec, home=tmp_path_factory.mktemp(network_runtime), runtime=network_runtime) as network:
        yield network


@pytest_asyncio.fixture(loop_scope="session")
async def own_network(module_network):
    """The module's network, ready again after whatever the test before did to it."""
    await module_network.up(keep=False)
    return module_network
