"""The gate under callers that keep what they have opened: they come to their own bound, and hurt nobody."""

import asyncio
import datetime
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from fedfabric.gateway.admission import Admission
from fedfabric.gateway.client_session import api_error
from fedfabric.gateway.limits import Deadlines, Limits
from fedfabric.gateway.metrics import Metrics
from fedfabric.gateway.trust import Caller, Membership, Trust
from fedfabric.gateway.v1 import blobs_pb2, blobs_pb2_grpc
from fedfabric.network.identities import Authorities
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

NOW = datetime.datetime.now(datetime.UTC)
AUTHORITIES = {msp: Authorities.create(msp, NOW) for msp in ("AMSP", "BMSP", "CMSP")}
ROOTS = {msp: authorities.signing.certificate for msp, authorities in AUTHORITIES.items()}
LIMITS = Limits(concurrent_calls=5, foreign_calls=2, health_calls=3)
SEGMENT, WATCH = bytes(50_000), health_pb2.HealthCheckRequest()


class Blobs(blobs_pb2_grpc.BlobsServicer):
    """Gives segments without end, and notes which fetches have ended."""

    def __init__(self) -> None:
        self.ended: asyncio.Queue[str] = asyncio.Queue()

    async def Fetch(self, request, _) -> AsyncIterator[blobs_pb2.FetchResponse]:  # noqa: N802
        try:
            while True:
                yield blobs_pb2.FetchResponse(segment=SEGMENT)
        finally:
            self.ended.put_nowait(request.address)


class Gate:
    """A server behind the gate, and callers of three organisations; AMSP is the gateway's own."""

    def __init__(self) -> None:
        self.blobs = Blobs()
        self.port = 0

    @asynccontextmanager
    async def serving(self, **deadlines: float):
        trust = Trust({msp: Membership(msp, (root,)) for msp, root in ROOTS.items()})
        metrics = Metrics()
        admission = Admission("AMSP", lambda: trust, metrics, limits=LIMITS, deadlines=Deadlines(**deadlines))
        server = grpc.aio.server(interceptors=[admission])
        blobs_pb2_grpc.add_BlobsServicer_to_server(self.blobs, server)
        servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        issued = AUTHORITIES["AMSP"].tls.issue("gateway", NOW, hosts=("127.0.0.1",))
        credentials = grpc.ssl_server_credentials([(issued.key, issued.certificate)], b"".join(ROOTS.values()), True)
        self.port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        try:
            yield self
        finally:
            await server.stop(0)
            metrics.close()

    @asynccontextmanager
    async def caller(self, msp: str, role: str = ""):
        attributes = {"fedfabric.role": role or ("gateway" if msp != "AMSP" else "scientist")}
        me = AUTHORITIES[msp].signing.issue("somebody", NOW, kind="client", attributes=attributes)
        credentials = grpc.ssl_channel_credentials(AUTHORITIES["AMSP"].tls.certificate, me.key, me.certificate)
        # A connection of its own for each.
        options = [("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options=options)
        async with channel:
            yield channel


@pytest.fixture
async def gate():
    async with Gate().serving() as gate:
        yield gate


def fetching(channel: grpc.aio.Channel, name: str = "a"):
    return blobs_pb2_grpc.BlobsStub(channel).Fetch(blobs_pb2.FetchRequest(address=name))


def watching(channel: grpc.aio.Channel):
    return health_pb2_grpc.HealthStub(channel).Watch(WATCH)


async def refused(call) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async with asyncio.timeout(10):
            await call.read() if hasattr(call, "read") else await call
    return api_error(caught.value).code


async def everything(call) -> None:
    async for _ in call:
        pass


async def answers(channel: grpc.aio.Channel) -> bool:
    try:
        return bool((await health_pb2_grpc.HealthStub(channel).Check(WATCH, timeout=10)).status)
    except grpc.aio.AioRpcError:
        return False


async def opens(call) -> bool:
    try:
        return bool(await call.read())
    except grpc.aio.AioRpcError:
        return False


async def test_streams_that_another_organisation_never_reads_take_nothing_from_anybody_else(gate: Gate) -> None:
    async with gate.caller("BMSP") as bad, gate.caller("CMSP") as other, gate.caller("AMSP") as own:
        opened = [fetching(bad) for _ in range(LIMITS.foreign_calls)]
        for call in opened:
            await call.read()
        for _ in range(LIMITS.concurrent_calls):
            assert await refused(fetching(bad)) == "TOO_MANY"
        for channel, most in ((other, LIMITS.foreign_calls), (own, LIMITS.concurrent_calls)):
            calls = [fetching(channel) for _ in range(most)]
            for call in calls:
                assert (await call.read()).segment == SEGMENT
        assert (await health_pb2_grpc.HealthStub(bad).Check(WATCH, timeout=10)).status


async def test_health_watches_leave_calls_and_others_health_alone(gate: Gate) -> None:
    async with gate.caller("BMSP") as bad, gate.caller("AMSP") as own:
        watches = [watching(bad) for _ in range(LIMITS.health_calls)]
        for watch in watches:
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert await refused(watching(bad)) == "TOO_MANY"
        assert await refused(health_pb2_grpc.HealthStub(bad).Check(WATCH)) == "TOO_MANY"
        assert (await fetching(bad).read()).segment
        assert (await watching(own).read()).status
        watches[0].cancel()
        async with asyncio.timeout(10):
            while not await opens(watching(bad)):  # until the server has heard of it
                pass


async def test_calls_that_are_denied_are_counted_too(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    enter = Admission._counted

    def noted(self: Admission, method: str, who: Caller):
        counted.append(who.msp_id)
        return enter(self, method, who)

    monkeypatch.setattr(Admission, "_counted", noted)
    async with gate.caller("BMSP", role="auditor") as other:
        assert await refused(fetching(other)) not in {"", "TOO_MANY"}
    assert counted == ["BMSP"]


async def test_a_call_whose_request_does_not_come_is_counted_and_ended() -> None:
    async with Gate().serving(caller=0.3) as gate, gate.caller("BMSP") as bad, gate.caller("AMSP") as own:
        check = bad.stream_unary("/grpc.health.v1.Health/Check")
        gone = asyncio.Event()

        async def nothing() -> AsyncIterator[bytes]:
            await gone.wait()
            yield b""

        calls = [check(nothing()) for _ in range(LIMITS.health_calls)]
        assert await refused(check(nothing())) in {"TOO_MANY", "GATEWAY_TIMEOUT"}
        for call in calls:
            assert await refused(call) in {"TOO_MANY", "GATEWAY_TIMEOUT"}
        async with asyncio.timeout(20):
            while not await answers(bad):  # until those calls are over at the server too
                pass
        assert (await health_pb2_grpc.HealthStub(own).Check(WATCH, timeout=10)).status
        gone.set()


async def test_a_fetch_that_is_not_read_is_ended_and_stays_its_organisations_until_it_is_gone() -> None:
    async with Gate().serving(caller=0.3) as gate, gate.caller("BMSP") as other, gate.caller("BMSP") as bad:
        calls = [fetching(bad, str(number)) for number in range(LIMITS.foreign_calls)]
        async with asyncio.timeout(10):
            assert {await gate.blobs.ended.get() for _ in calls} == {"0", "1"}
        assert await refused(fetching(other)) == "TOO_MANY"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await everything(calls[0])
        assert api_error(caught.value).code == "GATEWAY_TIMEOUT"
        assert "read what was sent" in caught.value.details()
        async with asyncio.timeout(10):
            while not await opens(fetching(other)):  # until that call is over at the server too
                pass
