"""A client's bytes over a line that breaks: sent once, gone on with, checked at the end."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from fedfabric.aggregation import merkle_leaf, merkle_root_of_digests
from fedfabric.chaincode.records import Blob
from fedfabric.gateway import admission, client_transfers
from fedfabric.gateway.client_transfers import Source, download, read_all, upload
from fedfabric.gateway.errors import ApiError, CorruptError
from fedfabric.gateway.segments import SEGMENT_BYTES
from fedfabric.gateway.services.uploads import Received, receive
from fedfabric.gateway.v1 import blobs_pb2, datasets_pb2, records_pb2
from fedfabric.tests.unit.gateway.test_uploads import Somebody, SomeParts

CONTENT = os.urandom(3 * SEGMENT_BYTES + 11)
PARTS = [CONTENT[at : at + SEGMENT_BYTES] for at in range(0, len(CONTENT), SEGMENT_BYTES)]
LEAVES = [merkle_leaf(part) for part in PARTS]
BLOB = Blob(address=merkle_root_of_digests(LEAVES), digest="0" * 64, size=len(CONTENT))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_transfers, "_PAUSE", 0.0)


def broken(code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "the line broke")


class Line:
    """A gateway's Upload over a line that breaks after so many pieces, each time it is called."""

    def __init__(self, parts: SomeParts, breaks_after: list[int]) -> None:
        self.parts = parts
        self.breaks_after = breaks_after
        self.pieces = 0

    def __call__(self, messages: AsyncIterator, timeout: float | None) -> AsyncIterator:
        return self._serve(messages)

    async def _serve(self, messages: AsyncIterator) -> AsyncIterator:
        left = self.breaks_after.pop(0) if self.breaks_after else 1 << 30

        async def passing() -> AsyncIterator[datasets_pb2.UploadRequest]:
            nonlocal left
            async for message in messages:
                if message.WhichOneof("part") == "piece":
                    if not left:
                        raise broken()
                    left -= 1
                    self.pieces += 1
                yield message

        async for answer in receive(self.parts, passing(), kinds=frozenset({"plan"}), own_key=False, maximum=1 << 30):
            if isinstance(answer, Received):
                blob = records_pb2.Blob(address=answer.blob.address, digest="0" * 64, size=answer.blob.size)
                yield datasets_pb2.UploadResponse(stored=blob)
            else:
                yield answer


@pytest.fixture
def parts(tmp_path: Path):
    admission._CALLER.set(Somebody("AMSP/ann"))
    parts = SomeParts(tmp_path)
    yield parts
    parts.journal.close()


def pieces() -> object:
    # Pieces that do not end where segments end.
    return iter([CONTENT[at : at + 700_001] for at in range(0, len(CONTENT), 700_001)])


@pytest.mark.parametrize("breaks", [[], [0], [1], [3, 1, 2], [4, 0, 0, 1]])
async def test_an_upload_goes_on_after_each_break(parts: SomeParts, breaks: list[int]) -> None:
    done: list[int] = []
    line = Line(parts, list(breaks))
    blob = await upload(line, pieces, len(CONTENT), kind="plan", progress=lambda sent, _: done.append(sent))
    assert blob == BLOB
    assert done[-1] == len(CONTENT)
    async with await parts.store.open(blob.address, parts.secrets.storage_key) as reader:
        assert await reader.read(1 << 30) == CONTENT


async def test_a_line_that_breaks_for_ever_is_given_up(parts: SomeParts) -> None:
    with pytest.raises(ApiError) as caught:
        await upload(Line(parts, [0] * 50), pieces, len(CONTENT), kind="plan")
    assert caught.value.code == "GATEWAY_UNAVAILABLE"


async def test_bytes_that_can_not_be_read_end_an_upload_with_the_reason() -> None:
    def unreadable():
        yield b"some"
        raise IsADirectoryError(21, "Is a directory", "/tmp")

    async def serve(requests: AsyncIterator, _: object) -> AsyncIterator[bytes]:
        async for _request in requests:
            position = datasets_pb2.UploadPosition(upload_id="u", position=0)
            yield datasets_pb2.UploadResponse(position=position).SerializeToString()

    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(serve)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("s", {"Upload": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        method = channel.stream_stream(
            "/s/Upload",
            request_serializer=datasets_pb2.UploadRequest.SerializeToString,
            response_deserializer=datasets_pb2.UploadResponse.FromString,
        )
        with pytest.raises(IsADirectoryError):
            await upload(method, unreadable, 100, kind="plan")
    await server.stop(0)


class Giving:
    """A gateway's Fetch."""

    def __init__(self, breaks_after: list[int] = (), heading: blobs_pb2.BlobHeading | None = None, parts=None) -> None:
        self.breaks_after = list(breaks_after)
        self.heading = heading or blobs_pb2.BlobHeading(address=BLOB.address, size=BLOB.size, leaves=b"".join(LEAVES))
        self.parts = PARTS if parts is None else parts
        self.asked: list[int] = []

    def __call__(self, request: blobs_pb2.FetchRequest, timeout: float | None) -> "_Answers":
        self.asked.append(request.first_segment)
        left = self.breaks_after.pop(0) if self.breaks_after else None
        return _Answers(self, request.first_segment, left)


class _Answers:
    def __init__(self, giving: Giving, first: int, left: int | None) -> None:
        self._answers = self._all(giving, first, left)

    def __aiter__(self) -> AsyncIterator:
        return self._answers

    def cancel(self) -> None:
        pass

    @staticmethod
    async def _all(giving: Giving, first: int, left: int | None) -> AsyncIterator[blobs_pb2.FetchResponse]:
        yield blobs_pb2.FetchResponse(heading=giving.heading)
        for part in giving.parts[first:]:
            if left is not None and not left:
                raise broken()
            left = None if left is None else left - 1
            yield blobs_pb2.FetchResponse(segment=part)


def source(giving: Giving, maximum: int = 1 << 30) -> Source:
    return Source(giving, blobs_pb2.FetchRequest(address=BLOB.address), BLOB, maximum)


async def test_a_download_goes_on_where_it_broke(tmp_path: Path) -> None:
    giving = Giving([2, 0, 1])
    await download(source(giving), tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == CONTENT
    assert giving.asked == [0, 2, 2, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]  # noqa: ASYNC240


LIES = {
    "another blob": Giving(heading=blobs_pb2.BlobHeading(size=BLOB.size, leaves=b"".join(reversed(LEAVES)))),
    "another size": Giving(heading=blobs_pb2.BlobHeading(size=5, leaves=b"".join(LEAVES))),
    "a changed segment": Giving(parts=[PARTS[0], PARTS[0], *PARTS[2:]]),
    "too few segments": Giving(parts=PARTS[:2]),
}


@pytest.mark.parametrize("lie", LIES)
async def test_other_bytes_are_refused_and_the_file_that_was_there_stays(tmp_path: Path, lie: str) -> None:
    (tmp_path / "model").write_bytes(b"before")
    with pytest.raises(CorruptError):
        await download(source(LIES[lie]), tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]  # noqa: ASYNC240


async def test_more_than_is_wanted_in_memory_is_refused() -> None:
    with pytest.raises(CorruptError):
        await read_all(source(Giving(), maximum=100))
    assert await read_all(source(Giving())) == CONTENT
