"""Channel and chaincode on running processes: join, install, approve, commit, and the transaction that proves it.

Every step asks first what is already so, so that a half-finished network is completed by doing it all again.
"""

import asyncio
import time

import grpc

from ..fabric.client import ClientError, GatewayError
from ..fabric.lifecycle import CHANNEL_ENDORSEMENT, Definition, PeerAdministration
from ..fabric.policies import parse_signature_rule
from .connections import Connections
from .errors import ReadinessError
from .founding import GENESIS, Layout, package
from .processes import Place
from .specification import ChaincodeSpec, OrganisationSpec, ProbeSpec
from .together import together

READY_SECONDS = 60.0
_PAUSE_SECONDS = 0.05


def definition(chaincode: ChaincodeSpec, sequence: int = 1) -> Definition:
    """What organisations approve of a chaincode."""
    rule = chaincode.endorsement
    if rule is None or rule.startswith("/"):
        return Definition(chaincode.name, chaincode.version, sequence, rule or CHANNEL_ENDORSEMENT)
    return Definition(chaincode.name, chaincode.version, sequence, parse_signature_rule(rule))


async def join_orderer(layout: Layout, connections: Connections, place: Place, block: bytes) -> None:
    """Let an orderer take part in the channel, from a configuration block."""
    orderer = connections.orderer(place)
    if layout.state.spec.channel not in await orderer.channels():
        await orderer.join(block)


async def join_peer(layout: Layout, connections: Connections, place: Place, block: bytes) -> None:
    """Let a peer keep the channel's ledger, from its genesis block."""
    peer = await connections.peer(place)
    if layout.state.spec.channel not in await peer.channels():
        await peer.join(block)


async def install(layout: Layout, connections: Connections, place: Place) -> None:
    """Install every chaincode's package on a peer."""
    peer = await connections.peer(place)
    present = await peer.installed()
    for chaincode in layout.state.spec.chaincodes:
        wanted = package(chaincode)
        if wanted.package_id not in present:
            await peer.install(wanted)


async def join_all(layout: Layout, connections: Connections) -> None:
    """Join every orderer and peer, and install the packages."""
    block = (layout.home / GENESIS).read_bytes()

    async def peer(place: Place) -> None:
        await join_peer(layout, connections, place, block)
        await install(layout, connections, place)

    organisations = layout.state.spec.organisations
    orderers = [place for organisation in organisations for place in layout.orderers(organisation)]
    peers = [place for organisation in organisations for place in layout.peers(organisation)]
    await together(
        [
            *(join_orderer(layout, connections, place, block) for place in orderers),
            *(peer(place) for place in peers),
        ]
    )


async def define(layout: Layout, connections: Connections, chaincode: ChaincodeSpec) -> None:
    """Have every organisation approve a chaincode's definition, and commit it."""
    organisations = [one for one in layout.state.spec.organisations if one.peers]
    peers = await together(connections.peer(layout.peers(one)[0]) for one in organisations)
    channel, wanted = layout.state.spec.channel, definition(chaincode)
    present = await peers[0].committed(channel, chaincode.name)
    if present is not None and all(present.approvals.get(one.msp_id) for one in organisations):
        return
    package_id = package(chaincode).package_id
    await together(peer.approve(channel, wanted, package_id) for peer in peers)
    await _commit(channel, wanted, peers)


async def _commit(channel: str, wanted: Definition, peers: list[PeerAdministration]) -> None:
    # A peer endorses the commit by the approvals that it has seen; another organisation's reaches it blocks later.
    deadline = time.monotonic() + READY_SECONDS
    while True:
        views = await together(peer.readiness(channel, wanted) for peer in peers)
        if all(all(view.values()) for view in views):
            break
        if time.monotonic() > deadline:
            raise ReadinessError(f"the approvals of {wanted.name} did not reach every peer in {READY_SECONDS:.0f} s")
        await asyncio.sleep(_PAUSE_SECONDS)
    await peers[0].commit(channel, wanted, peers[1:])


async def prove(
    layout: Layout, connections: Connections, organisation: OrganisationSpec, seconds: float = READY_SECONDS
) -> None:
    """Commit one transaction of each chaincode that has a probe, by this organisation's peers.

    Raises:
        ReadinessError: none was committed in time; the text holds the last refusal.
    """
    for place in layout.peers(organisation):
        gateway = await connections.gateway(place)
        for chaincode in layout.state.spec.chaincodes:
            if chaincode.probe is None:
                continue
            contract = gateway.network(layout.state.spec.channel).contract(chaincode.name)
            deadline = time.monotonic() + seconds
            while True:
                try:
                    await contract.submit(chaincode.probe.function, *chaincode.probe.arguments)
                    break
                except (ClientError, grpc.aio.AioRpcError) as error:
                    # Until gossip has met, the orderers have a leader and chaincode is connected, refusals are usual;
                    # the contract's own refusal is final.
                    refused = isinstance(error, GatewayError) and error.refusal is not None
                    if refused or time.monotonic() > deadline:
                        raise ReadinessError(
                            f"no transaction of {chaincode.name} by {place.name} was committed: {error}"
                        ) from error
                    await asyncio.sleep(_PAUSE_SECONDS)


__all__ = ["ProbeSpec", "define", "definition", "install", "join_all", "join_orderer", "join_peer", "prove"]
