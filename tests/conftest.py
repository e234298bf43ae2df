"""Networks that tests share, with a chaincode of keys and values on each."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from fedfabric.network.specification import ChaincodeSpec, ProbeSpec

pytest_plugins = ["fedfabric.network.pytest_plugin"]

CHAINCODES = Path(__file__).parent / "network" / "chaincodes"


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Whatever uses a shared network is marked so."""
    for item in items:
        if {"bft_network", "raft_network"}.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.network)


@pytest.fixture(scope="session")
def network_chaincodes() -> Sequence[ChaincodeSpec]:
    """The chaincode `kv` of tests/network/chaincodes."""
    return (
        ChaincodeSpec(name="kv", command=("python", str(CHAINCODES / "kv.py")), probe=ProbeSpec(function="nothing")),
    )
