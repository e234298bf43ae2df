"""What brings a network up, in which order and with whose trust, against stand-ins for its processes."""

import asyncio
import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from fedfabric.network import deployment
from fedfabric.network.founding import GENESIS, Layout, found_trust, organisation_folder
from fedfabric.network.identities import Authorities
from fedfabric.network.processes import peer_process
from fedfabric.network.pytest_plugin import bft_specification
from fedfabric.network.specification import ChaincodeSpec
from fedfabric.network.state import NetworkState


@pytest.fixture
def layout(tmp_path):
    spec = bft_specification([ChaincodeSpec(name="kv")])
    names = [f"peer0.{one.name}:{port}" for one in spec.organisations for port in ("listen", "chaincode", "operations")]
    ports = {name: number for number, name in enumerate(names, start=20_000)}
    state = NetworkState(runtime="native", founding=spec, spec=spec, ports=ports)
    runtime = SimpleNamespace(host=lambda _process: "127.0.0.1", inside=str, listen="127.0.0.1", builder="/builder")
    return Layout(tmp_path, state, runtime)


class Node:
    """A peer or an orderer that takes its time to join, and remembers who was joining meanwhile."""

    def __init__(self, name, journal):
        self.name = name
        self.journal = journal

    async def channels(self):
        return ()

    async def installed(self):
        return ()

    async def join(self, _block):
        self.journal.append(("joins", self.name))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.journal.append(("joined", self.name))

    async def install(self, package):
        self.journal.append(("installed", self.name, package.package_id.partition(":")[0]))


async def test_peers_join_one_after_the_other_so_that_no_two_dial_each_other_at_once(layout):
    (layout.home / GENESIS).write_bytes(b"block")
    journal = []

    async def peer(place):
        return Node(place.name, journal)

    await deployment.join_all(layout, SimpleNamespace(peer=peer, orderer=lambda place: Node(place.name, journal)))
    members = ["peer0.cleveland", "peer0.hungary", "peer0.switzerland"]
    joining = [entry for entry in journal if entry[0] != "installed" and entry[1].startswith("peer")]
    assert joining == [entry for name in members for entry in (("joins", name), ("joined", name))]
    assert {entry[1] for entry in journal if entry[0] == "installed"} == set(members)
    assert {entry[1] for entry in journal if entry[0] == "joined"} > set(members)  # and the orderers


def test_a_peer_trusts_every_member_in_tls_before_it_has_read_a_channel(layout):
    members = [one for one in layout.state.spec.organisations if one.peers]
    now = datetime.datetime.now(datetime.UTC)
    for one in layout.state.spec.organisations:
        Authorities.create(one.name, now).save(organisation_folder(layout.home, one.name))
    for one in members:
        found_trust(layout, one)
        settings = peer_process(layout.home, layout.runtime, layout.peers(one)[0], layout.state.spec).environment
        trusted = Path(settings["CORE_PEER_TLS_ROOTCERT_FILE"]).read_bytes()
        for member in members:
            assert Authorities.load(organisation_folder(layout.home, member.name)).tls.certificate in trusted
        assert trusted.count(b"BEGIN CERTIFICATE") == len(members)
