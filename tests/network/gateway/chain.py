"""What the blocks say, read from a peer and not from any gateway."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fabric_protos.common import common_pb2
from fedfabric.chaincode.records import EVENT_NAME, Event, decode_events
from fedfabric.fabric import blocks
from fedfabric.fabric.client import connect, open_channel
from fedfabric.tests.network.gateway.house import House


@dataclass(frozen=True)
class Sent:
    """A transaction in a block."""

    function: str
    argument: bytes
    msp_id: str
    code: str
    transaction_id: str
    block: int
    writes: int


async def transactions(house: House, organisation: str, job: str) -> list[Sent]:
    """Every transaction of the chaincode that names a job, the invalid ones too."""
    described = house.network.organisations[organisation]
    admin = house.network.administrator(organisation)
    found = []
    async with open_channel(described.peer_endpoint, described.peer_tls_ca.read_bytes()) as channel:
        network = connect(channel, admin.identity(), admin.signer()).network(house.network.channel_name)
        height = await network.height()
        async with network.block_events(start_block=0, stop_block=height - 1) as events:
            async for raw in events:
                block = blocks.decode_block(raw)
                for one in block.transactions:
                    if one.action is None or one.action.chaincode != house.chaincode:
                        continue
                    function, argument = one.action.arguments[0].decode(), b"".join(one.action.arguments[1:])
                    if f'"{job}"'.encode() in argument:
                        access = one.action.access(house.chaincode)
                        found.append(
                            Sent(
                                function,
                                argument,
                                one.creator.msp_id,
                                one.validation_name,
                                one.transaction_id,
                                block.number,
                                len(access.writes) if access else 0,
                            )
                        )
    return found


async def leader(house: House, organisation: str) -> str:
    """The organisation whose BFT orderer leads, by the view in the latest block (leaders do not rotate)."""
    described = house.network.organisations[organisation]
    admin = house.network.administrator(organisation)
    async with open_channel(described.peer_endpoint, described.peer_tls_ca.read_bytes()) as channel:
        network = connect(channel, admin.identity(), admin.signer()).network(house.network.channel_name)
        last = await network.height() - 1
        async with network.block_events(start_block=last, stop_block=last) as events:
            block = blocks.decode_block(await anext(events))
    view = common_pb2.OrdererBlockMetadata.FromString(block.signed_metadata).consenter_metadata
    orderers = [one.name for one in house.network.spec.organisations if one.orderers]
    return orderers[_first_varint(view) % len(orderers)]


def _first_varint(message: bytes) -> int:
    """Field 1 of a protobuf message, 0 where it is absent (smartbftprotos.ViewMetadata.view_id)."""
    if not message.startswith(b"\x08"):
        return 0
    value = shift = 0
    for byte in message[1:]:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value
    raise ValueError("the message was cut")


def committed_twice(sent: list[Sent], *functions: str) -> list[Any]:
    """Deeds that one organisation has committed more than once, also where the second changed nothing."""
    effective = Counter(
        (one.function, one.msp_id, one.argument) for one in sent if one.code == "VALID" and one.function in functions
    )
    return [deed for deed, count in effective.items() if count > 1]


class Happenings:
    """The contracts' events since the subscription, for awaiting a row of a state table."""

    def __init__(self) -> None:
        self._seen: list[Event] = []
        self._more = asyncio.Condition()

    async def take(self, event: Event) -> None:
        async with self._more:
            self._seen.append(event)
            self._more.notify_all()

    async def until(self, condition: Callable[[Event], bool], seconds: float = 60) -> Event:
        async with asyncio.timeout(seconds), self._more:
            await self._more.wait_for(lambda: any(condition(event) for event in self._seen))
            return next(event for event in self._seen if condition(event))


@asynccontextmanager
async def happenings(house: House, organisation: str) -> AsyncIterator[Happenings]:
    """Follow the chaincode's events at an organisation's peer, also over the peer's own death."""
    described = house.network.organisations[organisation]
    admin = house.network.administrator(organisation)
    async with open_channel(described.peer_endpoint, described.peer_tls_ca.read_bytes()) as channel:
        network = connect(channel, admin.identity(), admin.signer()).network(house.network.channel_name)
        seen = Happenings()
        async with network.chaincode_events(
            house.chaincode, start_block=await network.height(), reconnect=True
        ) as events:

            async def follow() -> None:
                async for event in events:
                    if event.event_name == EVENT_NAME:
                        for one in decode_events(event.payload):
                            await seen.take(one)

            task = asyncio.create_task(follow())
            try:
                yield seen
            finally:
                task.cancel()
                await asyncio.wait({task})
