"""A network for the shim: its peers send keepalives and count the requests that chaincodes make."""

import asyncio
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
import yaml
from fabric_protos.peer import collection_pb2
from fedfabric.fabric.client import Contract, Gateway, connect, open_channel
from fedfabric.fabric.lifecycle import Definition
from fedfabric.fabric.policies import parse_signature_rule
from fedfabric.network.connections import Connections
from fedfabric.network.deployment import package
from fedfabric.network.network import Network
from fedfabric.network.pytest_plugin import raft_specification
from fedfabric.network.specification import ChaincodeSpec, ProbeSpec

CHAINCODES = Path(__file__).parent.parent / "chaincodes"
PROTOCOL = ChaincodeSpec(
    name="protocol",
    command=("python", str(CHAINCODES / "protocol.py")),
    environment={"CORE_CHAINCODE_LOGGING_LEVEL": "debug"},
    probe=ProbeSpec(function="rewrite", arguments=("probe",)),
)
CALLEE = ChaincodeSpec(
    name="callee", command=("python", str(CHAINCODES / "kv.py")), probe=ProbeSpec(function="nothing")
)


@dataclass
class ShimNetwork:
    """Alpha and Beta with chaincodes `protocol`, `callee` and `initialised`, a gateway at each one's peer."""

    network: Network
    gateways: dict[str, Gateway] = field(default_factory=dict)

    def contract(self, name: str = "", *, at: str = "alpha", chaincode: str = "protocol") -> Contract:
        return self.gateways[at].network(self.network.channel_name).contract(chaincode, name)

    async def requests(self, at: str = "alpha") -> Counter[str]:
        """How often the peer was asked what by chaincodes, by its own count."""
        (place,) = self.network.layout.peers(self.network.spec.organisation(at))
        url = f"http://127.0.0.1:{place.ports['operations']}/metrics"
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=10).read().decode())
        counted: Counter[str] = Counter()
        for line in text.splitlines():
            if line.startswith("chaincode_shim_requests_received{"):
                labels, _, value = line.rpartition(" ")
                counted[labels.split('type="')[1].split('"')[0]] += int(float(value))
        return counted


def collection(name: str, *msp_ids: str) -> collection_pb2.CollectionConfig:
    members = ", ".join(f"'{msp_id}.member'" for msp_id in msp_ids)
    static = collection_pb2.StaticCollectionConfig(
        name=name, required_peer_count=0, maximum_peer_count=1, member_only_read=True, member_only_write=True
    )
    static.member_orgs_policy.signature_policy.CopyFrom(parse_signature_rule(f"OR({members})"))
    if len(msp_ids) == 1:  # the members alone endorse what they alone can see
        peers = parse_signature_rule(f"OR('{msp_ids[0]}.peer')")
        static.endorsement_policy.signature_policy.CopyFrom(peers)
    return collection_pb2.CollectionConfig(static_collection_config=static)


async def define_more(network: Network) -> None:
    """Give `protocol` collections, and define it again under another name with an initialisation."""
    collections = collection_pb2.CollectionConfigPackage(
        config=[collection("shared", "AlphaMSP", "BetaMSP"), collection("alphas", "AlphaMSP")]
    )
    definitions = (
        Definition("protocol", PROTOCOL.version, 2, collections=collections),
        Definition("initialised", PROTOCOL.version, 1, init_required=True),
    )
    async with Connections(network.layout) as connections:
        places = [network.layout.peers(organisation)[0] for organisation in network.spec.organisations]
        peers = [await connections.peer(place) for place in places]
        for definition in definitions:
            for peer in peers:
                await peer.approve(network.channel_name, definition, package(PROTOCOL).package_id)
            for peer in peers:
                while not all((await peer.readiness(network.channel_name, definition)).values()):
                    pass  # the other's approval arrives with its block
            await peers[0].commit(network.channel_name, definition, peers[1:])


def change_peer(network: Network, name: str) -> None:
    """Keepalives every second, and metrics for whoever asks."""
    file = network.home / "processes" / name / "core.yaml"
    settings = yaml.safe_load(file.read_bytes())
    settings["chaincode"]["keepalive"] = 1
    settings["metrics"]["provider"] = "prometheus"
    file.write_text(yaml.safe_dump(settings))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shim_network(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ShimNetwork]:
    spec = raft_specification((PROTOCOL, CALLEE), name="shim", window_ms=60_000)
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(Network(spec, home=tmp_path_factory.mktemp("shim")))
        await define_more(network)
        for name in ("peer0.alpha", "peer0.beta"):
            change_peer(network, name)
            await network.restart(name)
        shim = ShimNetwork(network)
        for name, organisation in network.organisations.items():
            user = await network.enrol(name, "tester", role="scientist")
            roots = organisation.peer_tls_ca.read_bytes()
            channel = await stack.enter_async_context(open_channel(organisation.peer_endpoint, roots))
            shim.gateways[name] = connect(channel, user.identity(), user.signer())
        await network.up(keep=False)  # returns when both peers endorse again
        yield shim
