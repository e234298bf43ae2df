"""The consortium's record on behalf of the operators whose keys lie on this machine: founded, and grown.

Each organisation's administrator signs for it alone and speaks to its own peer, as their operators would from machines
of their own with ``fedfabric.connect(profile).consortium``.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ..chaincode.records import (
    Consortium,
    ConsortiumChange,
    ConsortiumRequest,
    ConsortiumView,
    Member,
    quorum,
    read_refusal,
    refusals,
)
from ..fabric.client import Contract, EndorseError, connect, open_channel

if TYPE_CHECKING:
    from ..network import Network


SEEN_SECONDS = 15.0
PAUSE_SECONDS = 0.05


async def found(network: "Network") -> Consortium:
    """Found the consortium of the organisations that run peers; one that is founded already stays as it is."""
    founders = [name for name, one in network.organisations.items() if one.peers]
    async with _contract(network, founders[0]) as contract:
        present = await _show(contract)
    if present is not None:
        return present
    members = [_member(network, name) for name in founders]
    return await _change(
        network, founders, ConsortiumChange(sequence=1, members=_sorted(members), window_ms=_w(network))
    )


async def admit(network: "Network", organisation: str) -> Consortium:
    """Make an organisation that has joined the channel a member, by a majority of those who are."""
    names = {one.msp_id: name for name, one in network.organisations.items()}
    first = next(name for name, one in network.organisations.items() if one.peers and name != organisation)
    async with _contract(network, first) as contract:
        present = await _show(contract)
    if present is None:
        return await found(network)
    newcomer = _member(network, organisation)
    if present.member(newcomer.msp) is not None:
        return present
    voters = [names[member.msp] for member in present.members if member.msp in names]
    change = ConsortiumChange(
        sequence=present.sequence + 1,
        members=_sorted([*present.members, newcomer]),
        window_ms=present.window_ms,
    )
    return await _change(network, voters[: quorum(len(present.members))], change)


async def _change(network: "Network", voters: Iterable[str], change: ConsortiumChange) -> Consortium:
    voters = list(voters)

    async def approve(name: str) -> None:
        async with _contract(network, name) as contract:
            await contract.submit("approve", change.canonical())

    async with asyncio.TaskGroup() as group:
        for name in voters:
            group.create_task(approve(name))
    deadline = time.monotonic() + SEEN_SECONDS
    async with _contract(network, voters[0]) as contract:
        while True:
            try:
                return Consortium.model_validate_json(await contract.submit("apply", change.canonical()))
            except EndorseError as error:
                # The others' approvals are committed; the peers that endorse this may be a block behind.
                refusal = read_refusal(error.refusal.message) if error.refusal else None
                if not isinstance(refusal, refusals.QuorumMissing) or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(PAUSE_SECONDS)


async def _show(contract: Contract) -> Consortium | None:
    answer = await contract.evaluate("show", ConsortiumRequest().canonical())
    return ConsortiumView.model_validate_json(answer).consortium


@asynccontextmanager
async def _contract(network: "Network", organisation: str) -> AsyncIterator[Contract]:
    """The contract ``consortium``, as the organisation's administrator sees it at its own peer."""
    described, admin = network.organisations[organisation], network.administrator(organisation)
    async with open_channel(described.peer_endpoint, described.peer_tls_ca.read_bytes()) as channel:
        gateway = connect(channel, admin.identity(), admin.signer())
        yield gateway.network(network.channel_name).contract(network.chaincode_name, "consortium")


def _member(network: "Network", organisation: str) -> Member:
    described = network.organisations[organisation]
    return Member(msp=described.msp_id, gateway=described.gateway_endpoint)


def _sorted(members: Iterable[Member]) -> tuple[Member, ...]:
    return tuple(sorted(members, key=lambda member: member.msp))


def _w(network: "Network") -> int:
    return network.spec.window_ms
