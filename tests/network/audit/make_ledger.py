"""Writes a ledger for later versions to start from: `python -m fedfabric.tests.network.audit.make_ledger FOLDER`.

Three organisations and one orderer run a job of two rounds; what is kept is one organisation's evidence, and its peer,
orderer and chaincode server as they were stopped, with their throw-away keys.
"""

import asyncio
import json
import sys
import tarfile
import tempfile
from pathlib import Path

from fedfabric.fabric.blocks import decode_block
from fedfabric.network import identities
from fedfabric.network.network import Network
from fedfabric.network.specification import ChaincodeSpec, NetworkSpec
from fedfabric.tests.network.audit.conftest import NetworkLedger
from fedfabric.tests.network.chaincode.ledger import Ledger
from fedfabric.tests.unit.audit.ledger import JOB, Run, RunSettings

EXPORTER = "switzerland"
README = """\
A ledger of version 1, which later versions must be able to verify and to start from. A job of two rounds among three
organisations, one of which lied about the first.

- `evidence/`: the blocks and blobs that Switzerland exported.
- `home.tar.xz`: the network's folder as it was taken down: state, certificates and throw-away keys, the peers' and the
  orderer's data.
- `ledger.json`: the job's id and the genesis block's hash.

Made by `python -m fedfabric.tests.network.audit.make_ledger FOLDER`. Keys of this folder protect nothing.
"""


def specification() -> NetworkSpec:
    return NetworkSpec.model_validate(
        {
            "name": "ledger",
            "organisations": [{"name": "cleveland"}, {"name": "hungary"}, {"name": EXPORTER, "orderers": 1}],
            "chaincodes": [ChaincodeSpec().model_dump()],
            "ordering": {"type": "raft"},
            "window_ms": 1000,
        }
    )


async def make(folder: Path) -> None:
    """Write the ledger into a new folder."""
    # Later versions start it after a year too.
    identities.AUTHORITY_DAYS = identities.MEMBER_DAYS = 36_500
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        network = Network(specification(), home=home)
        await network.up(keep=False)
        try:
            async with Ledger(network, network.chaincode_name) as ledger:
                network_ledger = NetworkLedger(ledger)
                (Path(scratch) / "run").mkdir()
                await Run(Path(scratch) / "run", RunSettings(liar="HungaryMSP"), network_ledger).run()
                await network_ledger.export(folder / "evidence", EXPORTER)
            genesis = decode_block(network.genesis_block_path.read_bytes())
        finally:
            await network.down()
        with tarfile.open(folder / "home.tar.xz", "w:xz") as archive:
            archive.add(home, "home", filter=kept)
    about = {"job": JOB, "genesis_hash": genesis.header_hash.hex(), "organisation": EXPORTER}
    (folder / "ledger.json").write_text(json.dumps(about, indent=2) + "\n")
    (folder / "README.md").write_text(README)


def kept(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out logs, and the file that Raft prepares for its next log."""
    parts = Path(entry.name).parts
    return None if parts[-1] == "0.tmp" or (len(parts) > 2 and parts[1] == "logs") else entry


if __name__ == "__main__":
    asyncio.run(make(Path(sys.argv[1])))
