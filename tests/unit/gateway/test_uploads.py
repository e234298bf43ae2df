"""Uploads: whole or refused, one sender at a time, going on where they broke off, never under another's name."""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fedfabric.gateway import admission
from fedfabric.gateway.blobs import BlobStore, BlobTooLargeError
from fedfabric.gateway.errors import ApiError
from fedfabric.gateway.journal import Journal
from fedfabric.gateway.keys import GatewaySecrets
from fedfabric.gateway.limits import Limits
from fedfabric.gateway.segments import SEGMENT_BYTES
from fedfabric.gateway.services.uploads import Received, receive
from fedfabric.gateway.v1.datasets_pb2 import UploadEnd, UploadOpening, UploadRequest

CONTENT = os.urandom(2 * SEGMENT_BYTES + 5)


@dataclass
class Somebody:
    account: str


class SomeParts:
    """What an upload needs of a gateway."""

    def __init__(self, folder: Path, **limits: int) -> None:
        self.limits = Limits(**limits)
        self.store = BlobStore(str(folder / "blobs"), folder / "incoming", maximum=1 << 30)
        self.secrets = GatewaySecrets.load(folder)
        self.journal = Journal(folder / "journal.sqlite")
        self.uploads: set[str] = set()


@pytest.fixture
def parts(tmp_path: Path):
    admission._CALLER.set(Somebody("AMSP/ann"))
    parts = SomeParts(tmp_path, open_uploads=3)
    yield parts
    parts.journal.close()


def opening(size: int = len(CONTENT), upload_id: str = "", kind: str = "plan") -> UploadRequest:
    return UploadRequest(opening=UploadOpening(upload_id=upload_id, size=size, kind=kind))


def piece(content: bytes) -> UploadRequest:
    return UploadRequest(piece=content)


END = UploadRequest(end=UploadEnd())


async def send(parts: SomeParts, *messages: UploadRequest, own_key: bool = False, maximum: int = 1 << 30) -> list:
    async def requests() -> AsyncIterator[UploadRequest]:
        for message in messages:
            yield message

    answers: list = []
    try:
        async for answer in receive(
            parts, requests(), kinds=frozenset({"plan", "model"}), own_key=own_key, maximum=maximum
        ):
            answers.append(answer)  # noqa: PERF401 - those before an error count too
    except ApiError as error:
        answers.append(error)
    return answers


async def test_what_is_sent_is_stored_and_named(parts: SomeParts) -> None:
    *positions, received = await send(parts, opening(), piece(CONTENT[:10]), piece(CONTENT[10:]), END)
    assert isinstance(received, Received)
    assert received.blob.size == len(CONTENT)
    assert [answer.position.position for answer in positions] == [0, 2 * SEGMENT_BYTES]
    async with await parts.store.open(received.blob.address, received.key) as reader:
        assert await reader.read(1 << 30) == CONTENT
    assert parts.journal.uploads() == []
    assert parts.uploads == set()


async def test_a_broken_upload_goes_on_at_its_last_whole_segment(parts: SomeParts) -> None:
    *positions, error = await send(parts, opening(), piece(CONTENT[: SEGMENT_BYTES + 100]))
    assert (error.code, error.field) == ("MALFORMED_REQUEST", "end")
    upload_id = positions[-1].position.upload_id
    assert positions[-1].position.position == SEGMENT_BYTES
    first, *_, received = await send(parts, opening(upload_id=upload_id), piece(CONTENT[SEGMENT_BYTES:]), END)
    assert first.position.position == SEGMENT_BYTES
    async with await parts.store.open(received.blob.address, received.key) as reader:
        assert await reader.read(1 << 30) == CONTENT


async def test_a_data_set_has_a_key_of_its_own_also_after_a_break(parts: SomeParts) -> None:
    *positions, _ = await send(parts, opening(), piece(CONTENT[:SEGMENT_BYTES]), own_key=True)
    upload_id = positions[-1].position.upload_id
    *_, received = await send(parts, opening(upload_id=upload_id), piece(CONTENT[SEGMENT_BYTES:]), END, own_key=True)
    assert received.key != parts.secrets.storage_key
    async with await parts.store.open(received.blob.address, received.key) as reader:
        assert await reader.read(1 << 30) == CONTENT


@pytest.mark.parametrize(
    ("messages", "code", "field"),
    [
        ([], "MALFORMED_REQUEST", "opening"),
        ([piece(b"x")], "MALFORMED_REQUEST", "opening"),
        ([END], "MALFORMED_REQUEST", "opening"),
        ([UploadRequest()], "MALFORMED_REQUEST", "opening"),
        ([opening(kind="virus")], "MALFORMED_REQUEST", "kind"),
        ([opening(size=0)], "TOO_LONG", "size"),
        ([opening(size=-5)], "TOO_LONG", "size"),
        ([opening(size=1 << 40)], "TOO_LONG", "size"),
        ([opening(upload_id="0" * 32)], "UPLOAD_UNKNOWN", ""),
        ([opening(upload_id="../../etc/passwd")], "UPLOAD_UNKNOWN", ""),
        ([opening(size=5), piece(b"1234"), END], "MALFORMED_REQUEST", "size"),
        ([opening(size=5), opening(size=5)], "MALFORMED_REQUEST", "opening"),
        ([opening(size=5), UploadRequest()], "MALFORMED_REQUEST", "part"),
    ],
)
async def test_messages_out_of_order_are_refused(parts: SomeParts, messages, code: str, field: str) -> None:
    *_, error = await send(parts, *messages)
    assert (error.code, error.field) == (code, field)


async def test_more_bytes_than_announced_end_the_upload(parts: SomeParts) -> None:
    with pytest.raises(BlobTooLargeError):
        await send(parts, opening(size=5), piece(b"123456"), END)
    assert parts.store.unfinished() == []


async def test_anothers_upload_is_not_gone_on_with(parts: SomeParts) -> None:
    *positions, _ = await send(parts, opening(), piece(CONTENT[:SEGMENT_BYTES]))
    upload_id = positions[-1].position.upload_id
    admission._CALLER.set(Somebody("AMSP/eve"))
    (error,) = await send(parts, opening(upload_id=upload_id), piece(CONTENT[SEGMENT_BYTES:]), END)
    assert error.code == "NOT_THE_CREATOR"
    admission._CALLER.set(Somebody("AMSP/ann"))
    (error,) = await send(parts, opening(upload_id=upload_id, size=7), END)
    assert error.code == "NOT_THE_CREATOR"


async def test_two_do_not_send_to_one_upload(parts: SomeParts) -> None:
    *positions, _ = await send(parts, opening(), piece(CONTENT[:SEGMENT_BYTES]))
    upload_id = positions[-1].position.upload_id
    parts.uploads.add(upload_id)
    (error,) = await send(parts, opening(upload_id=upload_id), END)
    assert error.code == "TOO_MANY"


async def test_who_keeps_beginning_anew_keeps_nobody_else_out(parts: SomeParts) -> None:
    for _ in range(5):
        await send(parts, opening(), piece(b"x"))
    assert len(parts.journal.uploads()) == 3
    assert len(parts.store.unfinished()) == 3
    admission._CALLER.set(Somebody("AMSP/bob"))
    (error,) = await send(parts, opening(), piece(b"x"))
    assert error.code == "TOO_MANY"
