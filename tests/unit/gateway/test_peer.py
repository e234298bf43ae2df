"""The gateway's connection to its peer: found again at once, and its loss known to whoever asks."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
from fedfabric.fabric.client import open_channel
from fedfabric.fabric.identity import Identity
from fedfabric.gateway.admission import _CALLER
from fedfabric.gateway.blocks import LedgerBlock, LedgerTransaction
from fedfabric.gateway.configuration import ConfigurationError
from fedfabric.gateway.follower import Follower
from fedfabric.gateway.read_model import ReadModel
from fedfabric.gateway.server import _watch_peer
from fedfabric.gateway.services.description import Gateway
from fedfabric.gateway.services.transactions import _connected
from fedfabric.gateway.trust import Caller
from fedfabric.tests.unit.gateway.test_trust import DAY, NOW, Authority

ME = "ClevelandMSP"


@pytest.fixture
def follower(tmp_path: Path):
    with ReadModel(tmp_path / "ledger.sqlite", ME) as model:
        yield Follower(model, "fedfabric")


async def test_a_peer_that_is_away_is_tried_again_several_times_a_second(tmp_path: Path, follower: Follower) -> None:
    tries: asyncio.Queue[None] = asyncio.Queue()

    async def turn_away(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tries.put_nowait(None)
        writer.close()

    async with await asyncio.start_server(turn_away, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        channel = open_channel(f"127.0.0.1:{port}", Authority("tls ca").pem)
        watch = asyncio.create_task(_watch_peer(channel, follower))
        async with asyncio.timeout(6):  # gRPC by itself tries the sixth time after ten seconds
            for _ in range(6):
                await tries.get()
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        await channel.close()


@asynccontextmanager
async def a_peer(port: int = 0):
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(0)


async def test_a_peer_that_goes_and_comes_back_is_noticed(follower: Follower) -> None:
    async def until(connected: bool) -> None:
        async with asyncio.timeout(10):
            while connected != (not follower.peer_lost_ms):  # noqa: ASYNC110 - gRPC tells one waiter, the watch
                await asyncio.sleep(0.01)

    async with a_peer() as port:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_reconnect_backoff_ms", 100)])
        watch = asyncio.create_task(_watch_peer(channel, follower))
        await channel.channel_ready()
        await until(connected=True)
    await until(connected=False)
    assert follower.peer_lost_ms > 1_600_000_000_000
    async with a_peer(port):
        await until(connected=True)
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        await channel.close()


async def test_how_long_a_peer_is_away_counts_from_its_loss(follower: Follower) -> None:
    follower.peer_is(connected=False, now_ms=5)
    follower.peer_is(connected=False, now_ms=9)
    assert follower.peer_lost_ms == 5
    follower.peer_is(connected=True, now_ms=10)
    assert follower.peer_lost_ms == 0


async def test_a_write_waits_for_a_connection_that_comes_back_and_not_for_one_that_does_not(monkeypatch) -> None:
    ready = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, ready.set)
    await _connected(SimpleNamespace(channel_ready=ready.wait))
    assert ready.is_set()
    monkeypatch.setattr("fedfabric.gateway.services.transactions._RECONNECT_SECONDS", 0.05)
    await asyncio.wait_for(_connected(SimpleNamespace(channel_ready=asyncio.Event().wait)), 5)


def block(number: int, *times_ms: int) -> LedgerBlock:
    transactions = tuple(
        LedgerTransaction(
            id=str(ms), creator=Identity(ME, b""), timestamp_ms=ms, arguments=(), writes=(), payload=b"", signature=b""
        )
        for ms in times_ms
    )
    return LedgerBlock(number, bytes([number]) * 32, bytes([number - 1]) * 32 if number else b"", transactions, None)


def test_the_time_of_the_last_transaction_outlives_blocks_without_one_and_a_restart(tmp_path: Path) -> None:
    with ReadModel(tmp_path / "ledger.sqlite", ME) as model:
        assert model.time_ms == 0
        model.apply(block(0))
        assert model.time_ms == 0
        model.apply(block(1, 30, 70, 50))
        model.apply(block(2))
    with ReadModel(tmp_path / "ledger.sqlite", ME) as model:
        assert model.time_ms == 70


@pytest.fixture
def parts(tmp_path: Path, follower: Follower):
    authority = Authority("ca")
    for name, ends in (("certificate", NOW + 9 * DAY), ("tls_certificate", NOW + 3 * DAY)):
        (tmp_path / name).write_bytes(authority.issue(name, ends=ends))
    configuration = SimpleNamespace(
        msp_id=ME,
        channel="consortium",
        chaincode="fedfabric",
        certificate=tmp_path / "certificate",
        tls_certificate=tmp_path / "tls_certificate",
        peer=SimpleNamespace(endpoint="127.0.0.1:7051"),
        trainer=SimpleNamespace(enabled=True),
    )
    caller = Caller(Identity(ME, authority.issue("ada", ends=NOW + 5 * DAY)), None)
    token = _CALLER.set(caller)
    yield SimpleNamespace(configuration=configuration, follower=follower, model=follower.model)
    _CALLER.reset(token)


def days(end_ms: int) -> float:
    return (end_ms / 1000 - NOW.timestamp()) / DAY.total_seconds()


async def test_a_gateway_tells_of_its_peer_its_blocks_and_the_ends_of_certificates(parts) -> None:
    service = Gateway(parts)
    parts.model.apply(block(0))
    parts.model.apply(block(1, 70))
    parts.follower.peer_is(connected=False, now_ms=99)
    told = await service.Describe(None, None)
    assert (told.peer, told.peer_lost_ms) == ("127.0.0.1:7051", 99)
    assert (told.block_number, told.block_time_ms) == (1, 70)
    assert (days(told.certificates_end_ms), days(told.caller_certificate_ends_ms)) == (3, 5)


@pytest.mark.parametrize("key", ["certificate", "tls_certificate"])
@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_gateway_does_not_start_with_a_file_that_is_no_certificate(parts, key: str, content: bytes | None) -> None:
    path = getattr(parts.configuration, key)
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"^{key}: .* holds no certificate"):
        Gateway(parts)
