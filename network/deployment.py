"""Channel and chaincode on running processes: join, install, approve, commit, and the transaction that proves it.

Every step asks first what is already so, so that a half-finished network is completed by doing it all again.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence

import grpc

from ..fabric.client import ClientError, GatewayError
from ..fabric.discovery import DiscoveryError, endorsing_organisations
from ..fabric.lifecycle import CHANNEL_ENDORSEMENT, Definition, LifecycleError, PeerAdministration, UnknownOutcomeError
from ..fabric.policies import parse_signature_rule
from .connections import Connections
from .errors import ReadinessError
from .founding import GENESIS, Layout, package
from .processes import Place
from .specification import ChaincodeSpec, OrganisationSpec
from .together import together

READY_SECONDS = 60.0
ATTEMPT_SECONDS = 10.0
_LOST = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.ABORTED})
UNKNOWN_FUNCTION = "network-readiness"
"""Asked of chaincodes without a probe: that the chaincode refuses it shows that it answers."""
_PAUSE_SECONDS = 0.02


def definition(chaincode: ChaincodeSpec, sequence: int = 1) -> Definition:
    """What organisations approve of a chaincode."""
    rule = chaincode.endorsement
    if rule is None or rule.startswith("/"):
        return Definition(chaincode.name, chaincode.version, sequence, rule or CHANNEL_ENDORSEMENT)
    return Definition(chaincode.name, chaincode.version, sequence, parse_signature_rule(rule))


async def insist(step: Callable[[], Awaitable[None]], seconds: float = READY_SECONDS) -> None:
    """Do a step again while it is lost on its way, which may be for it counts as done once it is so.

    An orderer that takes a transaction while the set of orderers, or the configuration, changes may drop it.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            await step()
        except (grpc.aio.AioRpcError, LifecycleError) as error:
            lost = error.code() in _LOST if isinstance(error, grpc.aio.AioRpcError) else _void(error)
            if not lost or time.monotonic() > deadline:
                raise
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            return


def _void(error: LifecycleError) -> bool:
    """Whether a transaction may not be in a block, or is invalid in one for a reason that the next may not meet."""
    return isinstance(error, UnknownOutcomeError) or any(
        code in error.text for code in ("MVCC_READ_CONFLICT", "ENDORSEMENT_POLICY_FAILURE")
    )


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
    organisations = layout.state.spec.organisations
    orderers = [place for organisation in organisations for place in layout.orderers(organisation)]
    peers = [place for organisation in organisations for place in layout.peers(organisation)]

    async def join_peers() -> None:
        # One after the other, so that no two dial each other at the same moment: each would close its own connection
        # as a double of the other's (Fabric's gossip/comm/conn.go), and wait 5 s for an answer before it tries again.
        async with asyncio.TaskGroup() as group:
            for place in peers:
                await join_peer(layout, connections, place, block)
                group.create_task(install(layout, connections, place))

    await together([*(join_orderer(layout, connections, place, block) for place in orderers), join_peers()])


async def define(layout: Layout, connections: Connections, chaincode: ChaincodeSpec) -> None:
    """Have every organisation approve a chaincode's definition, and commit it."""
    organisations = [one for one in layout.state.spec.organisations if one.peers]
    peers = await together(connections.peer(layout.peers(one)[0], ATTEMPT_SECONDS) for one in organisations)
    channel, wanted = layout.state.spec.channel, definition(chaincode)
    present = await peers[0].committed(channel, chaincode.name)
    if present is not None and all(present.approvals.get(one.msp_id) for one in organisations):
        return
    package_id = package(chaincode).package_id

    async def approve(peer: PeerAdministration) -> None:
        await insist(lambda: peer.approve(channel, wanted, package_id))

    await together(approve(peer) for peer in peers)
    await insist(lambda: _commit(channel, wanted, peers))


async def adopt(layout: Layout, connections: Connections, place: Place, chaincode: ChaincodeSpec) -> None:
    """Have a newcomer approve the definition that the channel has committed."""
    peer = await connections.peer(place, ATTEMPT_SECONDS)
    channel = layout.state.spec.channel
    present = await peer.committed(channel, chaincode.name)
    if present is None:
        raise ReadinessError(f"{place.name} has joined {channel}, and sees no chaincode {chaincode.name} there")
    if not present.approvals.get(place.organisation.msp_id):
        wanted, package_id = definition(chaincode, present.sequence), package(chaincode).package_id
        await insist(lambda: peer.approve(channel, wanted, package_id))


async def caught_up(connections: Connections, place: Place, channel: str, height: int, seconds: float) -> None:
    """Wait until a peer has as many blocks as another had.

    Raises:
        ReadinessError: it has not in time.
    """
    peer = await connections.peer(place)
    deadline = time.monotonic() + seconds
    present = 0
    while present < height:
        # A newcomer's peer does not know its own administrator until it has read as far as the block that names it.
        with contextlib.suppress(LifecycleError):
            present = await peer.height(channel)
        if present < height and time.monotonic() > deadline:
            raise ReadinessError(f"{place.name} has {present} of {height} blocks of {channel} after {seconds:.0f} s")
        await asyncio.sleep(0 if present >= height else _PAUSE_SECONDS)


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


async def endorsers(layout: Layout, connections: Connections, place: Place, chaincode: str) -> frozenset[str]:
    """The MSP ids with a live peer that can endorse a chaincode, as one peer sees the channel; none: empty."""
    channel = await connections.channel(place)
    identity, signer = connections.administrator(place.organisation)
    try:
        return await endorsing_organisations(channel, layout.state.spec.channel, chaincode, identity, signer)
    except (DiscoveryError, grpc.aio.AioRpcError):
        return frozenset()


async def prove(
    layout: Layout,
    connections: Connections,
    organisation: OrganisationSpec,
    *,
    expected: frozenset[str] = frozenset(),
    chaincodes: Sequence[ChaincodeSpec] | None = None,
    seconds: float = READY_SECONDS,
) -> None:
    """Show that every chaincode (or these) is ready at this organisation's peers.

    Ready is: each peer knows enough endorsers (all of `expected`, MSP ids), its chaincode server answers, and a
    transaction is committed where the chaincode has a probe.

    Raises:
        ReadinessError: it was not so in time; the text holds the last refusal.
    """
    deadline = time.monotonic() + seconds
    await together(
        # A policy of the chaincode's own may leave organisations out; the channel's counts all of them.
        _prove(
            layout,
            connections,
            place,
            chaincode,
            expected=expected if chaincode.endorsement is None else frozenset(),
            deadline=deadline,
        )
        for place in layout.peers(organisation)
        for chaincode in (layout.state.spec.chaincodes if chaincodes is None else chaincodes)
    )


async def _prove(
    layout: Layout,
    connections: Connections,
    place: Place,
    chaincode: ChaincodeSpec,
    *,
    expected: frozenset[str],
    deadline: float,
) -> None:
    while not (known := await endorsers(layout, connections, place, chaincode.name)) or not expected <= known:
        if time.monotonic() > deadline:
            raise ReadinessError(
                f"{place.name} knows no live peers of {', '.join(sorted(expected - known)) or 'any organisation'} that "
                f"endorse {chaincode.name}: see the peers' logs"
            )
        await asyncio.sleep(_PAUSE_SECONDS)
    gateway = await connections.gateway(place)
    contract = gateway.network(layout.state.spec.channel).contract(chaincode.name)
    while True:
        try:
            if chaincode.probe is None:
                await contract.evaluate(UNKNOWN_FUNCTION)
            else:
                await contract.submit(chaincode.probe.function, *chaincode.probe.arguments)
        except (ClientError, grpc.aio.AioRpcError) as error:
            refused = isinstance(error, GatewayError) and error.refusal is not None
            if refused and chaincode.probe is None:
                return  # the chaincode itself has answered
            # While the orderers have no leader, or chaincode is being connected, refusals are usual; one by the
            # contract is final.
            if refused or time.monotonic() > deadline:
                raise ReadinessError(f"{chaincode.name} is not ready at {place.name}: {error}") from error
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            return


__all__ = [
    "adopt",
    "caught_up",
    "define",
    "definition",
    "endorsers",
    "install",
    "join_all",
    "join_orderer",
    "join_peer",
    "prove",
]
