import asyncio
import time

import grpc
import pytest
from fabric_protos.common import common_pb2
from fedfabric.fabric.client import ChaincodeEvent, CheckpointError, GatewayError, InMemoryCheckpointer, connect

BLOCK_KINDS = [
    ("block_events", "Deliver", lambda block: block.header.number),
    ("filtered_block_events", "DeliverFiltered", lambda block: block.number),
    ("block_and_private_data_events", "DeliverWithPrivateData", lambda block: block.block.header.number),
]


@pytest.fixture
def network(gateway):
    return gateway.network("consortium")


async def announce(fake, numbers):
    for number in numbers:
        await fake.announce(number)


async def take(events, count):
    return [await anext(events) for _ in range(count)]


async def test_a_chaincodes_events_come_in_order(network, fake):
    await announce(fake, range(3))
    async with network.chaincode_events("kv", start_block=0) as events:
        assert await take(events, 2) == [
            ChaincodeEvent(0, "tx0", "kv", "event0", b""),
            ChaincodeEvent(1, "tx1", "kv", "event1", b""),
        ]


async def test_another_chaincodes_events_do_not_come(network, fake):
    await announce(fake, range(1))
    async with network.chaincode_events("other", start_block=0) as events:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(events), 0.05)


async def test_without_a_start_only_what_is_still_to_come_is_read(network, fake):
    await announce(fake, range(2))
    async with network.chaincode_events("kv") as events:
        await fake.asked("ChaincodeEvents")
        await fake.announce(2)
        assert (await anext(events)).block_number == 2


async def test_a_checkpoint_goes_before_the_start_block(network, fake):
    await announce(fake, range(4))
    checkpointer = InMemoryCheckpointer()
    async with network.chaincode_events("kv", start_block=1, checkpoint=checkpointer) as events:
        event = await anext(events)
        assert event.block_number == 1
        checkpointer.checkpoint_chaincode_event(event)
    async with network.chaincode_events("kv", start_block=0, checkpoint=checkpointer) as events:
        assert (await anext(events)).block_number == 2
    assert fake.requests["ChaincodeEvents"][-1].after_transaction_id == "tx1"


async def test_a_checkpoint_of_another_network_is_an_error_not_silence(network, fake):
    await announce(fake, range(3))
    checkpointer = InMemoryCheckpointer()
    checkpointer.checkpoint_transaction(1, "tx of another network")
    async with network.chaincode_events("kv", checkpoint=checkpointer, reconnect=True) as events:
        with pytest.raises(CheckpointError, match="another network"):
            await anext(events)


async def test_a_checkpoint_ahead_of_a_peer_that_catches_up_is_gone_on_with(network, fake):
    await announce(fake, range(1))
    checkpointer = InMemoryCheckpointer()
    checkpointer.checkpoint_transaction(2, "tx2")
    async with network.chaincode_events("kv", checkpoint=checkpointer) as events:
        await fake.asked("ChaincodeEvents")
        await announce(fake, range(1, 4))
        assert (await anext(events)).block_number == 3


async def test_a_cancelled_read_loses_nothing(network, fake):
    async with network.chaincode_events("kv", start_block=0) as events:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(events), 0.01)
        await announce(fake, range(2))
        assert [event.block_number for event in await take(events, 2)] == [0, 1]


async def test_a_stream_that_breaks_off_is_an_error_at_every_read(network, fake):
    await announce(fake, range(1))
    async with network.chaincode_events("kv", start_block=0) as events:
        await anext(events)
        await fake.end_all_streams()
        for _ in range(2):
            with pytest.raises(GatewayError) as caught:
                await anext(events)
            assert caught.value.code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(("kind", "method", "number"), BLOCK_KINDS)
async def test_a_block_stream_that_breaks_off_is_an_error(network, fake, kind, method, number):
    await announce(fake, range(1))
    async with getattr(network, kind)(start_block=0) as events:
        assert number(await anext(events)) == 0
        await fake.end_all_streams()
        with pytest.raises(GatewayError, match="ended the stream"):
            await anext(events)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (common_pb2.FORBIDDEN, grpc.StatusCode.PERMISSION_DENIED),
        (common_pb2.NOT_FOUND, grpc.StatusCode.NOT_FOUND),
        (common_pb2.BAD_REQUEST, grpc.StatusCode.INVALID_ARGUMENT),
        (common_pb2.SERVICE_UNAVAILABLE, grpc.StatusCode.UNAVAILABLE),
        (common_pb2.INTERNAL_SERVER_ERROR, grpc.StatusCode.UNKNOWN),
    ],
)
async def test_the_peers_reason_to_end_a_block_stream_is_told(network, fake, status, code):
    await fake.end_all_streams(status)
    async with network.block_events(start_block=0) as events:
        with pytest.raises(GatewayError) as caught:
            await anext(events)
    assert caught.value.code is code


@pytest.mark.parametrize(("kind", "method", "number"), BLOCK_KINDS)
async def test_blocks_come_from_start_to_stop(network, fake, kind, method, number):
    await announce(fake, range(5))
    async with getattr(network, kind)(start_block=1, stop_block=3) as events:
        assert [number(block) async for block in events] == [1, 2, 3]
        with pytest.raises(StopAsyncIteration):
            await anext(events)


@pytest.mark.parametrize(("kind", "method", "number"), BLOCK_KINDS)
async def test_blocks_go_on_at_a_checkpoint(network, fake, kind, method, number):
    await announce(fake, range(5))
    checkpointer = InMemoryCheckpointer()
    checkpointer.checkpoint_block(2)
    async with getattr(network, kind)(checkpoint=checkpointer) as events:
        assert number(await anext(events)) == 3


async def test_a_block_request_is_stamped_when_it_is_sent(network, fake):
    await announce(fake, range(2))
    request = network.block_events_request(start_block=0)
    made = time.time_ns()
    async with request.events(reconnect=True) as events:
        await take(events, 2)
        broken = time.time_ns()
        await fake.restart()
        await fake.announce(2)
        await anext(events)
    assert made <= fake.stamps[0] <= broken <= fake.stamps[-1]


async def test_the_height_is_the_number_of_blocks(network, fake):
    await announce(fake, range(3))
    assert await network.height() == 3


async def test_a_stream_goes_on_when_the_peer_is_back(network, fake):
    await announce(fake, range(2))
    async with network.chaincode_events("kv", start_block=0, reconnect=True) as events:
        assert [event.block_number for event in await take(events, 2)] == [0, 1]
        await fake.restart()
        await announce(fake, range(2, 4))
        assert [event.block_number for event in await take(events, 2)] == [2, 3]


@pytest.mark.parametrize(("kind", "method", "number"), BLOCK_KINDS)
async def test_a_block_stream_goes_on_when_the_peer_is_back(network, fake, kind, method, number):
    await announce(fake, range(2))
    async with getattr(network, kind)(start_block=0, stop_block=3, reconnect=True) as events:
        assert [number(block) for block in await take(events, 2)] == [0, 1]
        await fake.restart()
        await announce(fake, range(2, 4))
        assert [number(block) async for block in events] == [2, 3]


@pytest.mark.parametrize("kind", ["chaincode_events", "block_events"])
async def test_a_reconnecting_stream_without_a_start_misses_nothing_committed_while_it_was_away(network, fake, kind):
    await announce(fake, range(2))
    method = {"chaincode_events": "ChaincodeEvents", "block_events": "Deliver"}[kind]
    arguments = ("kv",) if kind == "chaincode_events" else ()
    async with getattr(network, kind)(*arguments, reconnect=True) as events:
        await fake.asked(method)
        await fake.stop()
        await fake.announce(2)
        await fake.start(fake.port)
        event = await anext(events)
        assert (event.block_number if kind == "chaincode_events" else event.header.number) == 2


async def test_a_reconnecting_stream_takes_a_busy_peer_for_one_that_comes_back(network, fake, failure):
    await announce(fake, range(1))
    fake.script["ChaincodeEvents"].append(
        failure(grpc.StatusCode.UNKNOWN, "too many requests for /gateway.Gateway, exceeding concurrency limit (500)")
    )
    async with network.chaincode_events("kv", start_block=0, reconnect=True) as events:
        assert (await anext(events)).block_number == 0


@pytest.mark.parametrize("code", [grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND])
async def test_a_reconnecting_stream_gives_up_where_the_peer_says_no(network, fake, failure, code):
    fake.script["ChaincodeEvents"].append(failure(code))
    async with network.chaincode_events("kv", start_block=0, reconnect=True) as events:
        with pytest.raises(GatewayError) as caught:
            await anext(events)
    assert caught.value.code is code
    assert fake.calls.count("ChaincodeEvents") == 1


async def test_a_stream_holds_a_slot_until_it_is_closed(channel, member, fake):
    await announce(fake, range(1))
    gateway = connect(channel, member.identity, member.sign, in_flight=1)
    network = gateway.network("consortium")
    async with network.chaincode_events("kv", start_block=0) as events:
        await anext(events)
        evaluated = asyncio.create_task(network.contract("kv").evaluate("get"))
        for _ in range(100):
            await asyncio.sleep(0)
        assert "Evaluate" not in fake.calls
    assert await evaluated == b"get"


async def test_a_closed_stream_has_ended(network, fake):
    await announce(fake, range(3))
    events = network.chaincode_events("kv", start_block=0)
    await anext(events)
    await events.aclose()
    await events.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_closing_ends_a_read_that_waits(network, fake):
    events = network.chaincode_events("kv", start_block=0)
    reading = asyncio.create_task(anext(events))
    await fake.asked("ChaincodeEvents")
    await events.aclose()
    with pytest.raises(StopAsyncIteration):
        await reading


async def test_a_slow_reader_holds_the_peer_back(network, fake):
    await announce(fake, range(100))
    async with network.chaincode_events("kv", start_block=0) as events:
        await fake.asked("ChaincodeEvents")
        for _ in range(500):
            await asyncio.sleep(0)
        assert len(events._items) <= 16
        assert [event.block_number for event in await take(events, 100)] == list(range(100))
