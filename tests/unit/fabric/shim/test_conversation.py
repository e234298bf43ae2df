"""A stream alive: contracts as tasks, one writer, a peer that may be slow, hostile or gone."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import shim_protocol as peer
from fabric_protos.peer import chaincode_shim_pb2
from fedfabric.fabric.shim import Handler, Limits, PeerError, ProtocolError, Response, Stub
from fedfabric.fabric.shim.conversation import Conversation
from fedfabric.fabric.shim.handler import Message

DEADLINE = 10


class Chaincode:
    def __init__(self, act: Callable[[Stub], Awaitable[Response | bytes]]):
        self.act = act

    async def invoke(self, stub: Stub) -> Response:
        result = await self.act(stub)
        return result if isinstance(result, Response) else Response(payload=result)


class Wire:
    """The peer's end of the stream: `send` to the chaincode, `next` from it."""

    def __init__(self):
        self.to_chaincode: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.from_chaincode: asyncio.Queue[Message] = asyncio.Queue()
        self.writing = False

    def __aiter__(self):
        return self

    async def __anext__(self) -> bytes:
        payload = await self.to_chaincode.get()
        if payload is None:
            raise StopAsyncIteration
        return payload

    async def write(self, payload: bytes) -> None:
        assert not self.writing, "two writes at a time"
        self.writing = True
        await asyncio.sleep(0)
        self.writing = False
        self.from_chaincode.put_nowait(Message.FromString(payload))

    def send(self, *messages: Message) -> None:
        for message in messages:
            self.to_chaincode.put_nowait(message.SerializeToString())

    async def next(self) -> Message:
        async with asyncio.timeout(DEADLINE):
            return await self.from_chaincode.get()

    def hang_up(self) -> None:
        self.to_chaincode.put_nowait(None)


@asynccontextmanager
async def talking(act, *, limits=None, ready=None, **options):
    wire = Wire()
    conversation = Conversation(Handler("kv:1", limits), Chaincode(act), wire.write, **options)
    running = asyncio.create_task(conversation.run(wire))
    assert (await wire.next()).type == Message.REGISTER
    wire.send(peer.REGISTERED, ready or peer.ready())
    try:
        yield wire, conversation, running
    finally:
        wire.hang_up()
        async with asyncio.timeout(DEADLINE):
            await asyncio.wait((running,))
        if (
            not running.cancelled()
            and running.exception() is not None
            and not isinstance(running.exception(), ProtocolError)
        ):
            running.result()


def payload_of(message: Message) -> bytes:
    response = peer.response_of(message)
    assert response.status < 400, response.message
    return response.payload


async def get(stub: Stub) -> bytes:
    return await stub.get_state("key")


async def test_a_transaction_asks_and_answers():
    async with talking(get) as (wire, _, _):
        wire.send(peer.transaction("t1", b"get"))
        request = await wire.next()
        assert (request.type, request.txid, request.channel_id) == (Message.GET_STATE, "t1", "ch1")
        assert chaincode_shim_pb2.GetState.FromString(request.payload).key == "key"
        wire.send(peer.answer("t1", b"value"))
        assert payload_of(await wire.next()) == b"value"


async def test_an_error_of_the_peer_is_raised_in_the_contract():
    async def act(stub):
        with pytest.raises(PeerError, match="no such thing"):
            await stub.get_state("key")
        return b"caught"

    async with talking(act) as (wire, _, _):
        wire.send(peer.transaction())
        await wire.next()
        wire.send(peer.error("t1", b"no such thing"))
        assert payload_of(await wire.next()) == b"caught"


async def test_an_error_nobody_catches_is_a_refusal_with_the_peers_text():
    async with talking(get) as (wire, _, _):
        wire.send(peer.transaction())
        await wire.next()
        wire.send(peer.error("t1", b"no such thing"))
        response = peer.response_of(await wire.next())
        assert (response.status, response.message) == (500, "no such thing")


async def test_a_refused_batch_at_the_end_fails_the_transaction():
    async def act(stub):
        await stub.put_state("key", b"value")
        stub.set_event("written", b"")
        return b"done"

    async with talking(act, ready=peer.ready(write_batch=10)) as (wire, _, _):
        wire.send(peer.transaction())
        batch = await wire.next()
        assert batch.type == Message.WRITE_BATCH_STATE
        wire.send(peer.error("t1", b"collection not defined"))
        message = await wire.next()
        assert peer.response_of(message).status == 500
        assert peer.response_of(message).message == "collection not defined"
        assert not message.HasField("chaincode_event")


async def test_a_refusal_sends_no_writes_and_no_event():
    async def act(stub):
        await stub.put_state("key", b"value")
        stub.set_event("written", b"")
        return Response(422, "no")

    async with talking(act, ready=peer.ready(write_batch=10)) as (wire, _, _):
        wire.send(peer.transaction())
        message = await wire.next()
        assert peer.response_of(message).status == 422
        assert not message.HasField("chaincode_event")


async def test_many_transactions_interleave_and_each_gets_its_own_answer():
    async def act(stub):
        values = [await stub.get_state(f"{stub.tx_id}/{number}") for number in range(3)]
        return b"".join(values)

    async with talking(act) as (wire, _, _):
        wire.send(*(peer.transaction(f"t{number}") for number in range(50)))
        results = {}
        held = []
        while len(results) < 50:
            message = await wire.next()
            if message.type == Message.COMPLETED:
                results[message.txid] = payload_of(message)
                continue
            held.append(message)
            if len(held) == 50 - len(results) or len(held) > 10:
                for asked in reversed(held):  # answered in another order than asked
                    key = chaincode_shim_pb2.GetState.FromString(asked.payload).key
                    wire.send(peer.answer(asked.txid, key.encode() + b";"))
                held.clear()
            elif wire.from_chaincode.empty() and held:
                asked = held.pop()
                key = chaincode_shim_pb2.GetState.FromString(asked.payload).key
                wire.send(peer.answer(asked.txid, key.encode() + b";"))
        assert results == {f"t{n}": f"t{n}/0;t{n}/1;t{n}/2;".encode() for n in range(50)}


async def test_gathered_requests_of_one_transaction_go_out_one_by_one():
    async def act(stub):
        return b",".join(await asyncio.gather(*(stub.get_state(str(number)) for number in range(4))))

    async with talking(act) as (wire, _, _):
        wire.send(peer.transaction())
        for _ in range(4):
            request = await wire.next()
            assert wire.from_chaincode.empty()
            await asyncio.sleep(0)
            assert wire.from_chaincode.empty(), "a second request before the first one's answer"
            wire.send(peer.answer("t1", chaincode_shim_pb2.GetState.FromString(request.payload).key.encode()))
        assert payload_of(await wire.next()) == b"0,1,2,3"


async def test_a_late_answer_is_not_taken_for_the_next_requests():
    asked = asyncio.Event()

    async def act(stub):
        waiting = asyncio.create_task(stub.get_state("slow"))
        await asked.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return await stub.get_state("next")

    async with talking(act) as (wire, _, _):
        wire.send(peer.transaction())
        await wire.next()
        asked.set()
        await asyncio.sleep(0)
        wire.send(peer.answer("t1", b"late"))
        request = await wire.next()
        assert chaincode_shim_pb2.GetState.FromString(request.payload).key == "next"
        wire.send(peer.answer("t1", b"value"))
        assert payload_of(await wire.next()) == b"value"


async def test_a_transaction_ends_only_after_its_last_answer():
    async def act(stub):
        try:
            async with asyncio.timeout(0.01):
                await stub.get_state("slow")
        except TimeoutError:
            return b"gave up"
        return b"unexpected"

    async with talking(act) as (wire, _, _):
        wire.send(peer.transaction())
        await wire.next()
        with pytest.raises(asyncio.TimeoutError):
            async with asyncio.timeout(0.1):
                await wire.from_chaincode.get()
        wire.send(peer.error("t1", b"late"))
        assert payload_of(await wire.next()) == b"gave up"


async def test_a_cancelled_write_that_the_peer_refuses_fails_the_transaction():
    async def act(stub):
        try:
            async with asyncio.timeout(0.01):
                await stub.put_state("key", b"value")
        except TimeoutError:
            return b"gave up"
        return b"unexpected"

    async with talking(act) as (wire, _, _):
        wire.send(peer.transaction())
        await wire.next()
        await asyncio.sleep(0.02)
        wire.send(peer.error("t1", b"refused"))
        assert peer.response_of(await wire.next()).status == 500


@pytest.mark.parametrize(
    "error",
    [ValueError("secret"), SystemExit(1), asyncio.CancelledError(), RecursionError(), MemoryError(), GeneratorExit()],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_a_contract_raises_its_client_gets_a_response_and_the_stream_lives(error):
    async def act(stub):
        if stub.tx_id == "bad":
            raise error
        return b"fine"

    async with talking(act) as (wire, _, running):
        wire.send(peer.transaction("bad"))
        response = peer.response_of(await wire.next())
        assert response.status == 500
        assert response.message == f"internal error ({type(error).__name__})"
        wire.send(peer.transaction("good"))
        assert payload_of(await wire.next()) == b"fine"
        assert not running.done()


async def test_a_transaction_that_runs_too_long_is_stopped_and_frees_its_place():
    async def act(stub):
        if stub.tx_id == "slow":
            await stub.get_state("never answered")
        return b"fine"

    limits = Limits(running=1)
    async with talking(act, limits=limits, transaction_seconds=0.05) as (wire, conversation, _):
        wire.send(peer.transaction("slow"), peer.transaction("next"))
        await wire.next()
        message = await wire.next()
        assert (message.type, message.txid) == (Message.ERROR, "slow")
        assert b"stopped after 0.05 s" in message.payload
        assert payload_of(await wire.next()) == b"fine"
        assert not conversation._answers, "nobody waits for the answer any more"
        wire.send(peer.answer("slow", b"far too late"))
        wire.send(peer.transaction("again"))
        assert payload_of(await wire.next()) == b"fine"


async def test_no_more_than_the_bound_run_at_a_time():
    running = most = 0
    go_on = asyncio.Event()

    async def act(stub):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await go_on.wait()
        running -= 1
        return b""

    async with talking(act, limits=Limits(running=3, waiting=10)) as (wire, _, _):
        wire.send(*(peer.transaction(f"t{number}") for number in range(14)))
        assert peer.response_of(await wire.next()).status == 503
        go_on.set()
        for _ in range(13):
            payload_of(await wire.next())
        assert most == 3


async def test_keepalive_is_echoed_while_contracts_run():
    never = asyncio.Event()

    async def act(stub):
        await never.wait()
        return b""

    async with talking(act) as (wire, _, _):
        wire.send(peer.transaction(), peer.KEEPALIVE)
        assert (await wire.next()).type == Message.KEEPALIVE


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff\xff",
        Message(type=Message.REGISTERED).SerializeToString(),
        Message(type=Message.GET_STATE).SerializeToString(),
    ],
    ids=["undecodable", "registered twice", "a chaincode's own request"],
)
async def test_a_broken_protocol_ends_the_stream_with_an_error_and_leaves_nothing_running(payload):
    never = asyncio.Event()

    async def act(stub):
        await never.wait()
        return b""

    before = asyncio.all_tasks()
    async with talking(act) as (wire, _, running):
        wire.send(peer.transaction())
        wire.to_chaincode.put_nowait(payload)
        assert (await wire.next()).type == Message.ERROR
        with pytest.raises(ProtocolError):
            await running
        assert asyncio.all_tasks() <= before


async def test_when_the_peer_leaves_its_transactions_are_stopped():
    stopped = []

    async def act(stub):
        try:
            await stub.get_state("never answered")
        except asyncio.CancelledError:
            stopped.append(stub.tx_id)
            raise
        return b""

    async with talking(act) as (wire, _, running):
        wire.send(peer.transaction("t1"), peer.transaction("t2"))
        await wire.next()
        await wire.next()
        wire.hang_up()
        async with asyncio.timeout(DEADLINE):
            await running
        assert sorted(stopped) == ["t1", "t2"]


async def test_draining_answers_everything_and_then_ends():
    go_on = asyncio.Event()

    async def act(stub):
        await go_on.wait()
        return stub.tx_id.encode()

    async with talking(act, limits=Limits(running=1)) as (wire, conversation, running):
        wire.send(peer.transaction("t1"), peer.transaction("t2"), peer.KEEPALIVE)
        assert (await wire.next()).type == Message.KEEPALIVE
        conversation.drain()
        wire.send(peer.transaction("t3"))
        assert peer.response_of(await wire.next()).status == 503
        go_on.set()
        assert [payload_of(await wire.next()) for _ in range(2)] == [b"t1", b"t2"]
        async with asyncio.timeout(DEADLINE):
            await running


async def test_draining_an_idle_stream_ends_it_at_once():
    async with talking(get) as (_, conversation, running):
        conversation.drain()
        async with asyncio.timeout(DEADLINE):
            await running


async def test_a_peer_that_does_not_read_is_not_read(monkeypatch):
    monkeypatch.setattr("fedfabric.fabric.shim.conversation.MAXIMUM_UNSENT", 10)
    go_on = asyncio.Event()
    wire = Wire()

    async def write(payload):
        await go_on.wait()
        await wire.write(payload)

    running = asyncio.create_task(Conversation(Handler("kv:1"), Chaincode(get), write).run(wire))
    wire.send(peer.REGISTERED, peer.ready(), *[peer.KEEPALIVE] * 1000)
    for _ in range(3000):
        await asyncio.sleep(0)
    assert wire.to_chaincode.qsize() > 980
    go_on.set()
    assert (await wire.next()).type == Message.REGISTER
    for _ in range(1000):
        assert (await wire.next()).type == Message.KEEPALIVE
    wire.hang_up()
    await running


async def test_a_writer_that_fails_ends_the_stream():
    async def broken(payload):
        raise ConnectionError("gone")

    conversation = Conversation(Handler("kv:1"), Chaincode(get), broken)
    with pytest.raises(ConnectionError):
        await conversation.run(Wire())
