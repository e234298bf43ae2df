"""The gRPC listener against grpcio's client and against bare sockets."""

import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest
from fedfabric.fabric.shim import listener as listener_module
from fedfabric.fabric.shim.http2 import DATA, GOAWAY, HEADERS, PING, SETTINGS, ConnectionLimits
from fedfabric.fabric.shim.listener import CallFailedError, Listener

DEADLINE = 20
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@asynccontextmanager
async def listening(limits: ConnectionLimits | None = None, **methods):
    listener = Listener({f"/test.Service/{name}": method for name, method in methods.items()}, limits)
    await listener.start("127.0.0.1", 0, None)
    try:
        yield listener
    finally:
        async with asyncio.timeout(DEADLINE):
            await listener.stop(0.1)


def call(channel: grpc.aio.Channel, name: str) -> grpc.aio.StreamStreamCall:
    return channel.stream_stream(f"/test.Service/{name}")()


async def echo(call):
    async for payload in call:
        await call.write(payload)


async def within(awaitable):
    async with asyncio.timeout(DEADLINE):
        return await awaitable


OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def client(listener: Listener) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}", options=OPTIONS)


async def test_messages_go_both_ways_in_order():
    async with listening(Echo=echo) as listener, client(listener) as channel:
        stream = call(channel, "Echo")
        for number in range(500):
            await stream.write(str(number).encode())
        assert [await within(stream.read()) for _ in range(500)] == [str(number).encode() for number in range(500)]
        await stream.done_writing()
        assert await within(stream.read()) is grpc.aio.EOF
        assert await stream.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("size", [0, 1, 16_384, 65_535, 65_536, 1_000_000, 30_000_000])
async def test_a_message_of_any_size_comes_back_whole(size):
    payload = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    async with listening(Echo=echo) as listener, client(listener) as channel:
        stream = call(channel, "Echo")
        await within(stream.write(payload))
        assert await within(stream.read()) == payload
        stream.cancel()


async def test_several_calls_on_one_connection_do_not_mix():
    async with listening(Echo=echo) as listener, client(listener) as channel:
        streams = [call(channel, "Echo") for _ in range(8)]
        for turn in range(20):
            for number, stream in enumerate(streams):
                await stream.write(f"{number}/{turn}".encode())
        for number, stream in enumerate(streams):
            assert [await within(stream.read()) for _ in range(20)] == [
                f"{number}/{turn}".encode() for turn in range(20)
            ]
            stream.cancel()


async def code_of(stream) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await within(stream.read())
    return error.value.code(), error.value.details()


async def test_an_unknown_method_is_unimplemented():
    async with listening(Echo=echo) as listener, client(listener) as channel:
        code, text = await code_of(call(channel, "Unknown"))
        assert (code, text) == (grpc.StatusCode.UNIMPLEMENTED, "there is no method /test.Service/Unknown")


async def test_a_method_ends_its_call_with_a_status_of_its_own_or_an_internal_error(caplog):
    async def fail(call):
        raise CallFailedError(9, "nicht möglich")

    async def crash(call):
        raise RuntimeError("secret")

    async with listening(Fail=fail, Crash=crash) as listener, client(listener) as channel:
        assert await code_of(call(channel, "Fail")) == (grpc.StatusCode.FAILED_PRECONDITION, "nicht möglich")
        assert await code_of(call(channel, "Crash")) == (grpc.StatusCode.INTERNAL, "internal error")
    assert "secret" in caplog.text


async def test_a_cancelled_call_cancels_its_method():
    cancelled = asyncio.Event()

    async def wait(call):
        await call.write(b"started")
        try:
            async for _ in call:
                pass
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with listening(Wait=wait) as listener, client(listener) as channel:
        stream = call(channel, "Wait")
        await within(stream.read())
        stream.cancel()
        await within(cancelled.wait())


async def test_a_lost_connection_cancels_its_methods():
    cancelled = asyncio.Event()

    async def wait(call):
        await call.write(b"started")
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with listening(Wait=wait) as listener, client(listener) as channel:
        await within(call(channel, "Wait").read())
        (protocol,) = listener.protocols
        protocol.abort()
        await within(cancelled.wait())


async def test_a_client_that_is_not_read_waits(monkeypatch):
    monkeypatch.setattr(listener_module, "MAXIMUM_UNREAD", 10)
    go_on, paused = asyncio.Event(), asyncio.Event()
    most = 0

    async def slow(call):
        nonlocal most
        await call.write(b"started")
        await go_on.wait()
        async for payload in call:
            most = max(most, len(call._unread))
            await call.write(payload)

    async with listening(Slow=slow) as listener, client(listener) as channel:
        stream = call(channel, "Slow")
        await within(stream.read())
        (protocol,) = listener.protocols
        pause = protocol._transport.pause_reading
        monkeypatch.setattr(protocol._transport, "pause_reading", lambda: (paused.set(), pause()))
        payloads = [bytes([number]) * 60_000 for number in range(100)]

        async def write():
            for payload in payloads:
                await stream.write(payload)

        writing = asyncio.create_task(write())
        await within(paused.wait())
        go_on.set()
        assert [await within(stream.read()) for _ in payloads] == payloads
        await writing
        assert most < 50, "what one read brought, not all"
        stream.cancel()


async def test_a_call_that_ends_unread_holds_up_no_other(monkeypatch):
    monkeypatch.setattr(listener_module, "MAXIMUM_UNREAD", 10)
    full = asyncio.Event()

    async def leaves(unread):
        while len(unread._unread) < 10:  # noqa: ASYNC110 (the client's bytes come by themselves)
            await asyncio.sleep(0.001)
        full.set()

    async with listening(Leaves=leaves, Echo=echo) as listener, client(listener) as channel:
        left, answered = call(channel, "Leaves"), call(channel, "Echo")
        for _ in range(10):
            await within(left.write(b"x"))
        await within(full.wait())
        assert await within(left.code()) is grpc.StatusCode.OK
        await within(answered.write(b"still here"))
        assert await within(answered.read()) == b"still here"


async def test_a_client_that_does_not_read_makes_its_method_wait():
    written = 0

    async def flood(call):
        nonlocal written
        while True:
            await call.write(b"x" * 10_000)
            written += 1

    async with listening(Flood=flood) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(PREFACE + len(FLOOD).to_bytes(3) + bytes((1, 4)) + (1).to_bytes(4) + FLOOD)
        await within(reader.readexactly(60_000))
        for _ in range(200):  # turns of the loop in which the method could go on if nothing stopped it
            await asyncio.sleep(0)
        stopped_at = written
        assert 0 < stopped_at <= 7 + listener_module.MAXIMUM_UNSENT
        for stream in (0, 1):  # the client opens its windows, and reads on
            writer.write(b"\x00\x00\x04\x08\x00" + stream.to_bytes(4) + (2_000_000).to_bytes(4))
        await within(reader.readexactly(1_500_000))
        assert written > stopped_at
        writer.close()


FLOOD = b"\x83\x86" + b"\x04\x13/test.Service/Flood" + b"\x0f\x10\x10application/grpc"
WIDE_WINDOWS = b"\x00\x00\x06\x04\x00" + bytes(4) + b"\x00\x04\x7f\xff\xff\xff"
WIDE_WINDOWS += b"\x00\x00\x04\x08\x00" + bytes(4) + (2**30).to_bytes(4)


async def test_a_client_that_lets_the_socket_fill_is_not_read_and_served_on_when_it_reads():
    done = asyncio.Event()

    async def flood(call):
        for _ in range(300):
            await call.write(b"x" * 100_000)
        done.set()

    async with listening(Flood=flood) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, limit=1000)
        writer.write(PREFACE + WIDE_WINDOWS + len(FLOOD).to_bytes(3) + bytes((1, 4)) + (1).to_bytes(4) + FLOOD)
        async with asyncio.timeout(DEADLINE):
            while not any(protocol._pauses for protocol in listener.protocols):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        (protocol,) = listener.protocols
        assert protocol._pauses == {0}
        assert not protocol._transport.is_reading()
        assert not done.is_set()
        received = 0
        while received < 300 * 100_000:
            received += len(await within(reader.read(2**20)))
        await within(done.wait())
        assert not protocol._pauses
        assert protocol._transport.is_reading()
        writer.close()


async def test_a_call_that_is_reset_before_it_begins_leaves_nothing():
    begun = asyncio.Event()

    async def flood(_):
        begun.set()

    async with listening(Flood=flood) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        headers = len(FLOOD).to_bytes(3) + bytes((1, 4)) + (1).to_bytes(4) + FLOOD
        reset = (4).to_bytes(3) + bytes((3, 0)) + (1).to_bytes(4) + (8).to_bytes(4)
        ping = (8).to_bytes(3) + bytes((6, 0)) + bytes(4) + b"answered"
        writer.write(PREFACE + headers + reset + ping)
        async with asyncio.timeout(DEADLINE):
            await reader.readuntil(b"answered")
        (protocol,) = listener.protocols
        await asyncio.sleep(0)  # the cancelled task's own turn
        assert protocol._calls == {}
        assert not begun.is_set()
        writer.close()


async def test_stopping_cancels_what_outlasts_the_grace_period():
    async def wait(call):
        await call.write(b"started")
        await asyncio.Event().wait()

    async with listening(Wait=wait) as listener, client(listener) as channel:
        stream = call(channel, "Wait")
        await within(stream.read())
        await within(listener.stop(0.05))
        code, _ = await code_of(stream)
        assert code in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
        assert not listener.protocols


async def test_stopping_does_not_wait_for_a_client_that_does_not_read(monkeypatch):
    monkeypatch.setattr(listener_module, "CLOSING_SECONDS", 0.05)

    started = asyncio.Event()

    async def flood(call):
        started.set()
        while True:
            await call.write(b"x" * 100_000)

    async with listening(Flood=flood) as listener:
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(PREFACE + WIDE_WINDOWS + len(FLOOD).to_bytes(3) + bytes((1, 4)) + (1).to_bytes(4) + FLOOD)
        await within(started.wait())
        await within(listener.stop(0.05))
        assert not listener.protocols
        writer.close()


async def test_a_silent_client_is_asked_and_then_dropped(monkeypatch, caplog):
    monkeypatch.setattr(listener_module, "KEEPALIVE_SECONDS", 0.05)
    monkeypatch.setattr(listener_module, "KEEPALIVE_TIMEOUT_SECONDS", 0.05)
    async with listening(Echo=echo) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(PREFACE)
        data = await within(reader.read())
        assert b"\x00\x00\x08\x06\x00" in data, "it was asked by a PING"
        assert "does not answer" in caplog.text
        writer.close()


async def test_a_client_that_answers_stays(monkeypatch):
    monkeypatch.setattr(listener_module, "KEEPALIVE_SECONDS", 0.02)
    async with listening(Echo=echo) as listener, client(listener) as channel:
        stream = call(channel, "Echo")
        await stream.write(b"1")
        assert await within(stream.read()) == b"1"
        await asyncio.sleep(0.3)
        await stream.write(b"2")
        assert await within(stream.read()) == b"2"
        stream.cancel()


async def frames_until(reader, kind: int) -> list[int]:
    """The types of the frames that come, up to one of a kind."""
    kinds = []
    while not kinds or kinds[-1] != kind:
        header = await within(reader.readexactly(9))
        await within(reader.readexactly(int.from_bytes(header[:3])))
        kinds.append(header[3])
    return kinds


async def test_a_ping_is_answered_though_nothing_else_is_to_be_sent():
    async with listening(Echo=echo) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(PREFACE)
        await frames_until(reader, SETTINGS)
        writer.write(b"\x00\x00\x08\x06\x00" + bytes(4) + b"12345678")
        assert PING in await frames_until(reader, PING)
        writer.close()


async def test_a_stopping_server_says_so_while_its_calls_go_on():
    go_on = asyncio.Event()

    async def flood(call):
        await call.write(b"started")
        await go_on.wait()

    async with listening(Flood=flood) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(PREFACE + len(FLOOD).to_bytes(3) + bytes((1, 4)) + (1).to_bytes(4) + FLOOD)
        await frames_until(reader, DATA)
        stopping = asyncio.create_task(listener.stop(DEADLINE))
        assert await frames_until(reader, GOAWAY) == [GOAWAY]
        assert not stopping.done()
        go_on.set()
        await within(stopping)
        assert await frames_until(reader, HEADERS) == [HEADERS]
        writer.close()


async def test_garbage_ends_its_connection_only():
    async with listening(Echo=echo) as listener, client(listener) as channel:
        stream = call(channel, "Echo")
        await stream.write(b"1")
        assert await within(stream.read()) == b"1"
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await within(reader.read())
        writer.close()
        await stream.write(b"2")
        assert await within(stream.read()) == b"2"
        stream.cancel()


async def test_only_so_many_connections(monkeypatch):
    monkeypatch.setattr(listener_module, "MAXIMUM_CONNECTIONS", 1)
    async with listening(Echo=echo) as listener:
        first = await asyncio.open_connection("127.0.0.1", listener.port)
        assert await within(first[0].readexactly(9))
        second = await asyncio.open_connection("127.0.0.1", listener.port)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await within(second[0].readexactly(9))
        for _, writer in (first, second):
            writer.close()
