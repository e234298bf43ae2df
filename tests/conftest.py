"""Networks that tests share, with a chaincode of keys and values on each."""

import os
import signal
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
import structlog
from fedfabric.network.specification import ChaincodeSpec, ProbeSpec

pytest_plugins = ["fedfabric.network.pytest_plugin"]

CHAINCODES = Path(__file__).parent / "network" / "chaincodes"


def pytest_configure() -> None:
    """A shell starts what it runs in the background deaf to SIGINT, and what tests interrupt inherits that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Whatever uses a shared network is marked so."""
    for item in items:
        if {"bft_network", "raft_network"}.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.network)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything can be installed, a test that lacks a part is a failure and not a skip."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"not to be skipped where CI=true: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def structlog_as_it_was() -> Generator[None]:
    """A command that a test ran in this process has set structlog to write to the test's own captured stream."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def network_chaincodes() -> Sequence[ChaincodeSpec]:
    """The chaincode `kv` of tests/network/chaincodes."""
    return (
        ChaincodeSpec(name="kv", command=("python", str(CHAINCODES / "kv.py")), probe=ProbeSpec(function="nothing")),
    )
