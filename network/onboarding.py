"""Adding an organisation to a running channel, without downtime.

Order: the newcomer's processes run first, then the channel's configuration takes it in, then its peer joins, approves
the committed chaincode and shows a transaction. From the configuration on, a majority counts the newcomer, which does
not endorse yet; so it is refused unless the others can carry that majority alone, and undone if the newcomer is not
endorsing in time.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

import grpc
from fabric_protos.common import configtx_pb2

from ..fabric.broadcast import BroadcastError, broadcast
from ..fabric.configuration import ConfigurationError, read_config
from ..fabric.configuration_update import (
    application_msps,
    compute_update,
    sign_update,
    update_envelope,
    with_application,
    without_application,
)
from ..fabric.lifecycle import LifecycleError
from . import deployment
from .connections import Connections, connected
from .errors import NetworkError, OnboardingError
from .founding import GENESIS, Layout
from .processes import Place
from .runtime import Progress
from .specification import OrganisationSpec
from .together import together

CONFIGURED_SECONDS = 30.0
ENDORSING_SECONDS = 60.0
_ANSWER_SECONDS = 10.0
_PAUSE_SECONDS = 0.05

Change = Callable[[configtx_pb2.Config], configtx_pb2.Config]


async def live_endorsers(
    layout: Layout, connections: Connections, members: Sequence[OrganisationSpec]
) -> list[OrganisationSpec]:
    """The members that endorse now, which must be enough for the majority of one member more.

    Raises:
        OnboardingError: names who is missing.
    """
    # One member becomes one of two, and nobody could carry two alone.
    needed = min((len(members) + 1) // 2 + 1, len(members))
    states = await layout.runtime.states()
    refusals: dict[str, str] = {}
    for one in members:
        for process in layout.processes(one):
            if process.kind != "orderer" and not (process.name in states and states[process.name].running):
                refusals[one.name] = f"{process.name} does not run"
    # Without enough of them, none could commit the transaction that is asked for next.
    if len(members) - len(refusals) >= needed:
        running = [one for one in members if one.name not in refusals]
        answers = await together(_refusal(layout, connections, one) for one in running)
        refusals |= {one.name: text for one, text in zip(running, answers, strict=True) if text}
    live = [one for one in members if one.name not in refusals]
    if len(live) < needed:
        named = "\n".join(f"  {name}: {text}" for name, text in refusals.items())
        raise OnboardingError(
            f"{len(live)} of {len(members)} organisations endorse now, and {needed} are needed while a newcomer joins; "
            f"nothing was changed. Bring up first ('network up'):\n{named}"
        )
    return live


async def _refusal(layout: Layout, connections: Connections, organisation: OrganisationSpec) -> str:
    """Why an organisation does not endorse now, "" if it does."""
    try:
        await deployment.prove(layout, connections, organisation, seconds=_ANSWER_SECONDS)
    except NetworkError as error:
        return str(error)
    return ""


async def change_channel(
    layout: Layout,
    connections: Connections,
    members: Sequence[OrganisationSpec],
    live: Sequence[OrganisationSpec],
    change: Change,
) -> None:
    """Change the channel's configuration, signed by every member's administrator; returns when the peers of the live
    members have it.

    A change that is already so counts as done.

    Raises:
        OnboardingError: it was refused, or did not reach the peers in time.
    """
    channel = layout.state.spec.channel
    peers = [await connections.peer(layout.peers(one)[0]) for one in live]
    _, current = read_config(await peers[0].configuration_block(channel))
    updated = change(current)
    try:
        update = compute_update(channel, current, updated)
    except ConfigurationError:
        return
    administrators = [connections.administrator(one) for one in members]
    signatures = [sign_update(update, identity, signer) for identity, signer in administrators]
    envelope = update_envelope(update, signatures, *administrators[0])
    places = [place for one in layout.state.spec.organisations for place in layout.orderers(one)]
    orderers = [await connections.channel(place) for place in places]
    try:
        await broadcast(orderers, envelope, deadline_s=CONFIGURED_SECONDS)
    except BroadcastError as error:
        raise OnboardingError(f"the channel's configuration was not changed: {error}") from error
    deadline = time.monotonic() + CONFIGURED_SECONDS
    for peer, one in zip(peers, live, strict=True):
        while read_config(await peer.configuration_block(channel))[1].sequence <= current.sequence:
            if time.monotonic() > deadline:
                raise OnboardingError(
                    f"the peer of {one.name} does not have the new configuration after {CONFIGURED_SECONDS:.0f} s"
                )
            await asyncio.sleep(_PAUSE_SECONDS)


async def onboard(layout: Layout, newcomer: OrganisationSpec, say: Progress) -> None:
    """Take an organisation, whose files are written and which the state names, into the channel.

    Raises:
        OnboardingError: it could not be; the channel's configuration is as it was before.
    """
    members = [one for one in layout.state.spec.organisations if one.peers and one.name != newcomer.name]
    async with connected(layout) as connections:
        live = await live_endorsers(layout, connections, members)
        say(f"starting the processes of {newcomer.name}")
        await layout.runtime.start(layout.processes(newcomer))
        said = layout.channel_organisation(newcomer)
        say(f"changing the configuration of {layout.state.spec.channel}, signed by {len(members)} administrators")
        try:
            await change_channel(layout, connections, members, live, lambda config: with_application(config, said))
            await _join(layout, connections, newcomer, live, say)
        except BaseException as error:
            say(f"{newcomer.name} is not endorsing; taking it out of the channel again")
            try:
                await asyncio.shield(
                    asyncio.ensure_future(_remove(layout, connections, members, live, newcomer.msp_id))
                )
            except (OnboardingError, LifecycleError, grpc.aio.AioRpcError) as failure:
                stuck = OnboardingError(
                    f"{newcomer.name} did not join ({error}), and the channel's configuration still names it "
                    f"({failure}): run 'network up', which takes it out"
                )
                stuck.undone = False
                raise stuck from error
            if isinstance(error, Exception):
                raise OnboardingError(f"{newcomer.name} did not join; it was taken out again: {error}") from error
            raise


async def withdraw(layout: Layout, connections: Connections, newcomer: OrganisationSpec) -> None:
    """Take an organisation out of the channel whose joining was interrupted, if the configuration names it."""
    members = [one for one in layout.state.spec.organisations if one.peers]
    await _remove(layout, connections, members, members, newcomer.msp_id)


async def _join(
    layout: Layout,
    connections: Connections,
    newcomer: OrganisationSpec,
    live: Sequence[OrganisationSpec],
    say: Progress,
) -> None:
    channel = layout.state.spec.channel
    block = (layout.home / GENESIS).read_bytes()
    height = await (await connections.peer(layout.peers(live[0])[0])).height(channel)

    async def join(place: Place) -> None:
        await deployment.join_peer(layout, connections, place, block)
        await deployment.caught_up(connections, place, channel, height, ENDORSING_SECONDS)
        await deployment.install(layout, connections, place)

    say("joining its peers and catching up")
    await together(join(place) for place in layout.peers(newcomer))
    first = layout.peers(newcomer)[0]
    for chaincode in layout.state.spec.chaincodes:
        await deployment.adopt(layout, connections, first, chaincode)
    say("committing its first transaction")
    everybody = frozenset(one.msp_id for one in (*live, newcomer))
    await together(
        deployment.prove(layout, connections, one, expected=everybody, seconds=ENDORSING_SECONDS)
        for one in (newcomer, live[0])
    )


async def _remove(
    layout: Layout,
    connections: Connections,
    members: Sequence[OrganisationSpec],
    live: Sequence[OrganisationSpec],
    msp_id: str,
) -> None:
    def removed(config: configtx_pb2.Config) -> configtx_pb2.Config:
        return without_application(config, msp_id) if msp_id in application_msps(config) else config

    await change_channel(layout, connections, members, live, removed)
