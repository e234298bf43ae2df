"""Fetching from another gateway that breaks off, lies, stalls or is somebody else."""

import asyncio
import datetime
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from fedfabric.aggregation import merkle_leaf, merkle_root_of_digests
from fedfabric.chaincode.records import Blob, Consortium, Member
from fedfabric.gateway.blobs import BlobStore, StoreFullError
from fedfabric.gateway.errors import CorruptError, NotFoundError
from fedfabric.gateway.exchange import Exchange, PeerCredentials
from fedfabric.gateway.headings import check_heading
from fedfabric.gateway.limits import Deadlines, Limits
from fedfabric.gateway.segments import SEGMENT_BYTES
from fedfabric.gateway.trust import Membership, Trust
from fedfabric.gateway.v1 import blobs_pb2, blobs_pb2_grpc
from fedfabric.network.identities import Authorities

KEY = bytes(32)
CONTENT = os.urandom(2 * SEGMENT_BYTES + 77)
PARTS = [CONTENT[at : at + SEGMENT_BYTES] for at in range(0, len(CONTENT), SEGMENT_BYTES)]
LEAVES = [merkle_leaf(part) for part in PARTS]
BLOB = Blob(address=merkle_root_of_digests(LEAVES), digest="0" * 64, size=len(CONTENT))
WITHHELD = Blob(address="a" * 64, digest="0" * 64, size=5)
NOW = datetime.datetime.now(datetime.UTC)
AUTHORITIES = {name: Authorities.create(name, NOW) for name in ("ours", "theirs")}


@dataclass
class Holder(blobs_pb2_grpc.BlobsServicer):
    """A gateway that gives the blob, as a test has it."""

    heading: Callable[[], blobs_pb2.BlobHeading] = lambda: blobs_pb2.BlobHeading(
        address=BLOB.address, size=BLOB.size, leaves=b"".join(LEAVES)
    )
    parts: list[bytes] = field(default_factory=lambda: list(PARTS))
    breaks_after: list[int] = field(default_factory=list)
    """For each fetch: so many segments are sent before the connection breaks."""
    stalls: bool = False
    asked: list[int] = field(default_factory=list)

    async def Fetch(self, request, context):  # noqa: N802
        self.asked.append(request.first_segment)
        yield blobs_pb2.FetchResponse(heading=self.heading())
        left = self.breaks_after.pop(0) if self.breaks_after else len(self.parts)
        for part in self.parts[request.first_segment :]:
            if not left:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the line broke")
            left -= 1
            yield blobs_pb2.FetchResponse(segment=part)
        if self.stalls:
            await asyncio.Event().wait()


class Model:
    def __init__(self, **gateways: str) -> None:
        members = tuple(Member(msp=msp, gateway=gateway) for msp, gateway in sorted(gateways.items()))
        self._consortium = Consortium(sequence=1, members=members, window_ms=1000, approvers=())

    def consortium(self) -> Consortium:
        return self._consortium


class Serving:
    """Servers and exchanges of one test, ended with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers: list = []
        self._exchanges: list[Exchange] = []
        self.store = BlobStore(str(folder / "blobs"), folder / "incoming", maximum=1 << 30)

    async def holder(self, holder: Holder, authority: str = "theirs") -> str:
        issued = AUTHORITIES[authority].tls.issue("gateway", NOW, hosts=("127.0.0.1",))
        server = grpc.aio.server()
        blobs_pb2_grpc.add_BlobsServicer_to_server(holder, server)
        credentials = grpc.ssl_server_credentials(
            [(issued.key, issued.certificate)], AUTHORITIES["ours"].signing.certificate, True
        )
        port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        self._servers.append(server)
        return f"127.0.0.1:{port}"

    def exchange(
        self,
        seconds: float = 20,
        idle: float = 5,
        maximum: int = 1 << 30,
        fetches: int = 4,
        turn: float = 60,
        **gateways: str,
    ) -> Exchange:
        me = AUTHORITIES["ours"].signing.issue("gateway", NOW, kind="client")
        theirs = AUTHORITIES["theirs"]
        trust = Trust(
            {
                msp: Membership(msp, (theirs.signing.certificate,), tls_roots=(theirs.tls.certificate,))
                for msp in gateways
            }
        )
        exchange = Exchange(
            self.store,
            KEY,
            Model(**gateways),
            lambda: trust,
            PeerCredentials(me.certificate, me.key),
            limits=Limits(blob_bytes=maximum, fetches=fetches),
            deadlines=Deadlines(fetch=seconds, fetch_idle=idle, fetch_turn=turn),
        )
        self._exchanges.append(exchange)
        return exchange

    async def stored(self) -> bytes:
        async with await self.store.open(BLOB.address, KEY) as reader:
            return await reader.read(1 << 30)

    async def close(self) -> None:
        for exchange in self._exchanges:
            await exchange.close()
        for server in self._servers:
            await server.stop(0)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is awaited is another's inner state
            await asyncio.sleep(0.005)


@pytest.fixture
async def serving(tmp_path: Path):
    serving = Serving(tmp_path)
    yield serving
    await serving.close()


async def test_a_blob_is_fetched_checked_and_then_not_asked_for_again(serving: Serving) -> None:
    holder = Holder()
    exchange = serving.exchange(AMSP=await serving.holder(holder))
    assert await exchange.ensure(BLOB, ["AMSP"]) > 0
    assert await serving.stored() == CONTENT
    assert await exchange.ensure(BLOB, ["AMSP"]) == 0
    assert holder.asked == [0]


async def test_a_fetch_goes_on_behind_the_last_whole_segment(serving: Serving) -> None:
    holder = Holder(breaks_after=[1, 1])
    exchange = serving.exchange(AMSP=await serving.holder(holder))
    await exchange.ensure(BLOB, ["AMSP"])
    assert await serving.stored() == CONTENT
    assert holder.asked == [0, 1, 2]


async def test_a_fetch_goes_on_after_a_restart_of_the_fetching_gateway(serving: Serving) -> None:
    broken = Holder(breaks_after=[1] + [0] * 1000)
    first = serving.exchange(seconds=0.4, AMSP=await serving.holder(broken))
    with pytest.raises(NotFoundError):
        await first.ensure(BLOB, ["AMSP"])
    whole = Holder()
    second = serving.exchange(AMSP=await serving.holder(whole))
    await second.ensure(BLOB, ["AMSP"])
    assert whole.asked == [1]
    assert await serving.stored() == CONTENT


async def test_several_who_want_a_blob_wait_for_one_fetch(serving: Serving) -> None:
    holder = Holder()
    exchange = serving.exchange(AMSP=await serving.holder(holder))
    await asyncio.gather(*(exchange.ensure(BLOB, ["AMSP"]) for _ in range(5)))
    assert holder.asked == [0]


def _heading(**changes) -> Callable[[], blobs_pb2.BlobHeading]:
    fields = {"address": BLOB.address, "size": BLOB.size, "leaves": b"".join(LEAVES), **changes}
    return lambda: blobs_pb2.BlobHeading(**fields)


LIES = {
    "another blob's leaves": Holder(heading=_heading(leaves=b"".join(reversed(LEAVES)))),
    "no leaves": Holder(heading=_heading(leaves=b"")),
    "leaves that were cut": Holder(heading=_heading(leaves=b"".join(LEAVES)[:-1])),
    "another size": Holder(heading=_heading(size=BLOB.size - 1)),
    "a negative size": Holder(heading=_heading(size=-1)),
    "a huge size": Holder(heading=_heading(size=1 << 60)),
    "a changed segment": Holder(parts=[PARTS[0], bytes(SEGMENT_BYTES), PARTS[2]]),
    "segments in another order": Holder(parts=[PARTS[1], PARTS[0], PARTS[2]]),
    "an empty segment": Holder(parts=[PARTS[0], b"", PARTS[2]]),
    "too few segments": Holder(parts=PARTS[:2]),
    "a heading without end": Holder(parts=[], stalls=True),
}


@pytest.mark.parametrize(
    "heading",
    [
        _heading(leaves=b"".join(reversed(LEAVES))),
        _heading(leaves=b""),
        _heading(leaves=b"".join(LEAVES)[:-1]),
        _heading(leaves=b"".join(LEAVES) + LEAVES[0]),
        _heading(size=BLOB.size - 1),
        _heading(size=-1),
        _heading(size=1 << 60),
    ],
)
def test_a_heading_that_lies_is_refused_before_any_segment(heading) -> None:
    with pytest.raises(CorruptError):
        check_heading(heading(), BLOB.address, BLOB.size, 1 << 30)
    assert check_heading(_heading()(), BLOB.address, BLOB.size, 1 << 30) == LEAVES
    with pytest.raises(CorruptError, match="at most 5"):
        check_heading(_heading()(), BLOB.address, None, 5)


@pytest.mark.parametrize("lie", LIES)
async def test_a_holder_that_lies_is_left_for_an_honest_one(serving: Serving, lie: str) -> None:
    liar, honest = LIES[lie], Holder()
    liar.asked.clear()
    exchange = serving.exchange(idle=0.5, AMSP=await serving.holder(liar), BMSP=await serving.holder(honest))
    await exchange.ensure(BLOB, ["AMSP", "BMSP"])
    assert liar.asked
    assert await serving.stored() == CONTENT


async def test_what_nobody_gives_is_said_to_be_missing_in_time(serving: Serving) -> None:
    exchange = serving.exchange(seconds=0.5, AMSP=await serving.holder(Holder(parts=[])))
    with pytest.raises(NotFoundError, match="from: AMSP, BMSP"):
        await exchange.ensure(BLOB, ["AMSP", "BMSP"])
    assert not await serving.store.has(BLOB.address)


async def test_a_gateway_under_anothers_authority_is_not_spoken_to(serving: Serving) -> None:
    impostor = Holder()
    exchange = serving.exchange(seconds=0.6, AMSP=await serving.holder(impostor, authority="ours"))
    with pytest.raises(NotFoundError):
        await exchange.ensure(BLOB, ["AMSP"])
    assert impostor.asked == []


async def test_more_than_the_own_bound_is_not_fetched(serving: Serving) -> None:
    exchange = serving.exchange(seconds=0.5, maximum=SEGMENT_BYTES, AMSP=await serving.holder(Holder()))
    with pytest.raises(NotFoundError):
        await exchange.ensure(BLOB, ["AMSP"])


async def test_what_is_withheld_keeps_nothing_else_from_its_turn(serving: Serving) -> None:
    exchange = serving.exchange(fetches=1, AMSP=await serving.holder(Holder()), BMSP=await serving.holder(Holder()))
    withheld = asyncio.create_task(exchange.ensure(WITHHELD, ["BMSP"]))
    await until(lambda: exchange.lacks(WITHHELD))
    await exchange.ensure(BLOB, ["AMSP"])
    assert not withheld.done()
    withheld.cancel()


async def test_a_holder_that_sends_slowly_keeps_nothing_else_from_its_turn(serving: Serving) -> None:
    leaf = merkle_leaf(b"slow")
    blob = Blob(address=merkle_root_of_digests([leaf]), digest="0" * 64, size=4)
    slow = Holder(heading=_heading(address=blob.address, size=4, leaves=leaf), parts=[], stalls=True)
    exchange = serving.exchange(
        60, 60, fetches=1, turn=0.5, AMSP=await serving.holder(slow), BMSP=await serving.holder(Holder())
    )
    slowed = asyncio.create_task(exchange.ensure(blob, ["AMSP"]))
    await until(lambda: slow.asked)
    async with asyncio.timeout(20):
        await exchange.ensure(BLOB, ["BMSP"])
    assert not slowed.done()
    slowed.cancel()
    await asyncio.wait({slowed})


async def test_a_fetch_ends_with_the_last_who_waits_for_it(serving: Serving) -> None:
    stalling = Holder(parts=PARTS[:1], stalls=True)
    exchange = serving.exchange(
        60, 60, fetches=1, AMSP=await serving.holder(stalling), BMSP=await serving.holder(Holder())
    )
    first, second = (asyncio.create_task(exchange.ensure(BLOB, ["AMSP"])) for _ in range(2))
    await until(lambda: stalling.asked)
    first.cancel()
    await asyncio.wait({first})
    (fetch,) = exchange._running.values()
    assert not fetch.task.cancelling()
    second.cancel()
    await asyncio.wait({second})
    # Begun anew at once, on the file that the cancelled one lets go of first.
    async with asyncio.timeout(10):
        await exchange.ensure(BLOB, ["BMSP"])
    assert await serving.stored() == CONTENT
    assert (first.cancelled(), second.cancelled(), exchange.lacks(BLOB)) == (True, True, False)


async def test_what_has_waited_for_its_turn_alone_is_not_said_to_be_lacking(serving: Serving) -> None:
    exchange = serving.exchange(
        fetches=1, AMSP=await serving.holder(Holder(stalls=True, parts=[])), BMSP=await serving.holder(Holder())
    )
    stalled = asyncio.create_task(exchange.ensure(BLOB, ["AMSP"]))
    await until(lambda: exchange.lacks(BLOB))
    waiting = asyncio.create_task(exchange.ensure(WITHHELD, ["BMSP"]))
    await until(lambda: len(exchange._running) == 2)
    assert not exchange.lacks(WITHHELD)
    for task in (waiting, stalled):
        task.cancel()
    await asyncio.wait({waiting, stalled})
    assert not exchange.lacks(WITHHELD)


@pytest.mark.parametrize("size", [1, BLOB.size - 1, BLOB.size + 1])
async def test_another_size_under_an_address_hinders_nothing_and_is_had_by_nobody(serving: Serving, size: int) -> None:
    lie = BLOB.model_copy(update={"size": size})
    # Its holder says what the row says, so that the segments are sent.
    liar = Holder(heading=_heading(size=size))
    exchange = serving.exchange(AMSP=await serving.holder(liar), BMSP=await serving.holder(Holder()))
    false = asyncio.create_task(exchange.ensure(lie, ["AMSP", "BMSP"]))
    await until(lambda: liar.asked)
    await exchange.ensure(BLOB, ["BMSP"])
    assert await serving.stored() == CONTENT
    assert not exchange.lacks(BLOB)
    # Now that the bytes are here, they are not had under this row either: all members say the same of it.
    asked = len(liar.asked)
    await until(lambda: len(liar.asked) > asked + 1)
    assert exchange.lacks(lie)
    assert not false.done()
    false.cancel()
    await asyncio.wait({false})


async def test_a_false_size_alone_is_not_stored(serving: Serving) -> None:
    lie = BLOB.model_copy(update={"size": BLOB.size + 1})
    exchange = serving.exchange(seconds=0.5, AMSP=await serving.holder(Holder(heading=_heading(size=lie.size))))
    with pytest.raises(NotFoundError):
        await exchange.ensure(lie, ["AMSP"])
    assert not await serving.store.has(BLOB.address)


@pytest.mark.parametrize("place", [SEGMENT_BYTES // 2, -1])
async def test_what_the_disk_has_damaged_is_fetched_again(serving: Serving, tmp_path: Path, place: int) -> None:
    holder = Holder()
    exchange = serving.exchange(AMSP=await serving.holder(holder))
    await exchange.ensure(BLOB, ["AMSP"])
    path = tmp_path / "blobs" / BLOB.address[:2] / BLOB.address
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    await exchange.drop_broken([BLOB])
    await exchange.ensure(BLOB, ["AMSP"])
    assert await serving.stored() == CONTENT
    await exchange.drop_broken([BLOB, WITHHELD])
    assert await exchange.ensure(BLOB, ["AMSP"]) == 0
    assert len(holder.asked) == 2


async def test_a_data_set_that_somebody_names_is_not_taken_for_a_damaged_blob(serving: Serving) -> None:
    upload = await serving.store.put([b"patients"], os.urandom(32))
    exchange = serving.exchange(seconds=0.2, AMSP=await serving.holder(Holder()))
    named = Blob(address=upload.address, digest="0" * 64, size=upload.size)
    with pytest.raises(NotFoundError):
        await exchange.ensure(named, ["AMSP"])
    await exchange.drop_broken([named])
    assert await serving.store.has(named.address)


async def test_a_fault_of_the_own_disk_accuses_nobody(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = serving.exchange(AMSP=await serving.holder(Holder()))

    async def full(*_: object, **__: object) -> None:
        raise StoreFullError("no space left")

    monkeypatch.setattr(serving.store, "upload", full)
    with pytest.raises(StoreFullError):
        await exchange.ensure(BLOB, ["AMSP"])
    assert not exchange.lacks(BLOB)


def test_the_key_is_not_in_a_repr() -> None:
    assert "secret" not in repr(PeerCredentials(b"certificate", b"secret"))
