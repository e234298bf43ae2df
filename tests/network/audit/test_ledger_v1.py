"""A ledger that version 1 has left is verified, and a network goes on from it."""

import asyncio
import json
import tarfile
from pathlib import Path

import pytest
from fedfabric.audit import verify_job
from fedfabric.network.network import Network
from fedfabric.network.processes import write_configuration
from fedfabric.tests.network.audit.conftest import NetworkLedger
from fedfabric.tests.network.chaincode.ledger import Ledger
from fedfabric.tests.unit.chaincode.world import terms

FOLDER = Path(__file__).parents[2] / "data" / "ledger-v1"
MOST_BYTES = 4 * 1024 * 1024


@pytest.fixture(scope="module")
def about() -> dict[str, str]:
    return json.loads((FOLDER / "ledger.json").read_text())


def test_it_is_small_enough_to_keep() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= MOST_BYTES


def test_its_evidence_is_verified(about: dict[str, str]) -> None:
    report = verify_job(FOLDER / "evidence", None, about["genesis_hash"], about["job"])
    assert report.findings == ()
    assert report.verified
    assert [one.dissent for one in report.rounds] == [("HungaryMSP",), ()]
    assert report.job_state == "finished"


async def test_a_network_goes_on_from_its_state(about: dict[str, str], tmp_path: Path) -> None:
    with tarfile.open(FOLDER / "home.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    network = Network.open(tmp_path / "home")
    await network.runtime.prepare(lambda _: None)
    for folder in sorted((tmp_path / "home" / "processes").iterdir()):
        if folder.name.startswith(("peer", "orderer")):  # these files name the machine's own programs
            write_configuration(folder, network.runtime, peer=folder.name.startswith("peer"))
    async with network, asyncio.timeout(60), Ledger(network, network.chaincode_name) as ledger:
        view = await ledger.evaluate("training:show", {"job": about["job"]}, about["organisation"])
        assert view["job"]["state"] == "finished"
        request = {"name": "later", "terms": terms()}
        await ledger.submit(about["organisation"], "steward", "datasets:register", request)
        exported = NetworkLedger(ledger)
        await exported.export(tmp_path / "evidence", about["organisation"])
    report = verify_job(tmp_path / "evidence", FOLDER / "evidence" / "blobs", about["genesis_hash"], about["job"])
    assert report.verified
    assert report.height > len(list((FOLDER / "evidence" / "blocks").iterdir()))
