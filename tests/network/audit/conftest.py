"""A job on a real network, by real peers and orderers, and what an organisation exports of it."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from fedfabric.audit import genesis_hash
from fedfabric.fabric.blocks import block_file_name, decode_block
from fedfabric.fabric.client import open_channel
from fedfabric.fabric.lifecycle import PeerAdministration
from fedfabric.network.network import Network
from fedfabric.network.specification import ChaincodeSpec
from fedfabric.tests.network.chaincode.ledger import Ledger
from fedfabric.tests.unit.audit.ledger import Blobs, Run, RunSettings

CHAINCODE = "audited"


class NetworkLedger(Blobs):
    """The network as `Run` uses a ledger: by MSP ids."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self._ledger = ledger
        self._names = {one.msp_id: name for name, one in ledger.network.organisations.items()}

    async def submit(self, msp: str, role: str, function: str, request: Any, **_: Any) -> Any:
        return await self._ledger.submit(self._names[msp], role, function, request)

    async def export(self, folder: Path, organisation: str) -> None:
        """Write what one organisation has: every block of its own peer, and the job's blobs."""
        network = self._ledger.network
        described = network.organisations[organisation]
        reader = await network.enrol(organisation, "reader-audited", role="auditor")
        blocks = folder / "blocks"
        blocks.mkdir(parents=True)
        async with open_channel(described.peer_endpoint, described.peer_tls_ca.read_bytes()) as channel:
            peer = PeerAdministration(channel, reader.identity(), reader.signer())
            for number in range(await peer.height(network.channel_name)):
                block = await peer.block(network.channel_name, number)
                (blocks / block_file_name(number)).write_bytes(block.SerializeToString())
        self.write_blobs(folder / "blobs")


@dataclass(frozen=True)
class Evidence:
    """An export, and the genesis block's hash from the network's own file."""

    folder: Path
    genesis_hash: str
    run: Run


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def evidence(bft_network: Network, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Evidence]:
    """Two rounds of three organisations, one of which lies about the first; exported by Switzerland."""
    await bft_network.deploy(ChaincodeSpec(name=CHAINCODE))
    async with Ledger(bft_network, CHAINCODE) as ledger:
        network_ledger = NetworkLedger(ledger)
        settings = RunSettings(liar="HungaryMSP")
        run = await Run(tmp_path_factory.mktemp("run"), settings, network_ledger).run()
        folder = tmp_path_factory.mktemp("evidence")
        await network_ledger.export(folder, "switzerland")
    block = decode_block(bft_network.genesis_block_path.read_bytes())
    assert genesis_hash(folder) == hashlib.sha256(block.header_bytes).hexdigest()
    yield Evidence(folder, block.header_hash.hex(), run)
