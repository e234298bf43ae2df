"""Real networks for tests: ``pytest_plugins = ["fedfabric.network.pytest_plugin"]`` in the top-most conftest.py.

A network is brought up once for a whole run, when the first test asks for it, and shared; tests use names of their own.
It goes down at the end of the run, and when the run dies. What it offers is said by the fixture `network_chaincodes`,
which a conftest.py overrides.

Fixtures: `bft_network` (three organisations with a peer and an orderer each, and a regulator with an orderer),
`raft_network` (two organisations with a peer each, one orderer), both native. A test that takes `network_runtime` is
run once for each runtime: `native`, and `docker` where an engine answers (elsewhere it is skipped, and says so).
"""

import contextlib
import gc
import warnings
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio

from .network import Network
from .specification import ChaincodeSpec, NetworkSpec

WINDOW_MS = 1000
ENGINE_SECONDS = 5


def bft_specification(chaincodes: Sequence[ChaincodeSpec], **changes: Any) -> NetworkSpec:
    """Cleveland, Hungary and Switzerland with a peer and an orderer each, and a regulator with an orderer."""
    members = [{"name": name, "orderers": 1} for name in ("cleveland", "hungary", "switzerland")]
    return NetworkSpec.model_validate(
        {
            "name": "bft",
            "organisations": [*members, {"name": "regulator", "peers": 0, "orderers": 1}],
            "chaincodes": [chaincode.model_dump() for chaincode in chaincodes],
            "window_ms": WINDOW_MS,
            **changes,
        }
    )


def raft_specification(chaincodes: Sequence[ChaincodeSpec], **changes: Any) -> NetworkSpec:
    """Alpha and Beta with a peer each; Alpha runs the one orderer."""
    return NetworkSpec.model_validate(
        {
            "name": "raft",
            "organisations": [{"name": "alpha", "orderers": 1}, {"name": "beta"}],
            "chaincodes": [chaincode.model_dump() for chaincode in chaincodes],
            "ordering": {"type": "raft"},
            "window_ms": WINDOW_MS,
            **changes,
        }
    )


def engine_answers() -> bool:
    """Whether a Docker engine can be used here."""
    try:
        import docker  # noqa: PLC0415 (of the extra `docker`)
    except ImportError:
        return False
    try:
        with contextlib.closing(docker.from_env(timeout=ENGINE_SECONDS)) as engine:
            return bool(engine.ping())
    except docker.errors.DockerException:
        pass
    with warnings.catch_warnings():  # docker forgets to close the socket at which nobody answered
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    return False


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what takes `network_runtime` under each runtime."""
    if "network_runtime" in metafunc.fixturenames:
        absent = pytest.mark.skipif(not engine_answers(), reason="no Docker engine answers")
        docker = pytest.param("docker", marks=[pytest.mark.docker, absent])
        metafunc.parametrize("network_runtime", ["native", docker], scope="module")


@pytest.fixture(scope="session")
def network_chaincodes() -> Sequence[ChaincodeSpec]:
    """The chaincodes that the shared networks start with; override it to test your own."""
    return (ChaincodeSpec(),)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def bft_network(
    tmp_path_factory: pytest.TempPathFactory, network_chaincodes: Sequence[ChaincodeSpec]
) -> AsyncIterator[Network]:
    """A native network of three organisations with a peer each, ordered by four BFT orderers."""
    async with Network(bft_specification(network_chaincodes), home=tmp_path_factory.mktemp("bft")) as network:
        yield network


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def raft_network(
    tmp_path_factory: pytest.TempPathFactory, network_chaincodes: Sequence[ChaincodeSpec]
) -> AsyncIterator[Network]:
    """A native network of two organisations with a peer each, ordered by one Raft orderer."""
    async with Network(raft_specification(network_chaincodes), home=tmp_path_factory.mktemp("raft")) as network:
        yield network
