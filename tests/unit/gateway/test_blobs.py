"""The blob store: whole or not at all, under its own address, within its bounds, on any store of fsspec."""

import asyncio
import errno
import os
import subprocess
import threading
from pathlib import Path

import fsspec
import pytest
from fedfabric.aggregation import merkle_root
from fedfabric.gateway.blobs import (
    Addressed,
    BlobBrokenError,
    BlobMissingError,
    BlobStore,
    BlobStoreError,
    BlobTooLargeError,
    StoreFullError,
    WrongAddressError,
    check_address,
)
from fedfabric.gateway.segments import SEGMENT_BYTES

KEY = bytes(32)
CONTENT = os.urandom(2 * SEGMENT_BYTES + 1000)


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    url = str(tmp_path / "blobs") if request.param == "folder" else f"memory://{tmp_path.name}-{os.getpid()}"
    return BlobStore(url, tmp_path / "incoming", maximum=8 * SEGMENT_BYTES)


def left_over(store: BlobStore) -> list[str]:
    found = store._fs.find(store._root)
    return [path for path in found if ".part" in path] + store.unfinished()


async def test_a_blob_comes_back_from_its_address(store: BlobStore) -> None:
    stored = await store.put([CONTENT[:7], CONTENT[7:]], KEY)
    pieces = [CONTENT[at : at + SEGMENT_BYTES] for at in range(0, len(CONTENT), SEGMENT_BYTES)]
    assert stored.address == merkle_root(pieces)
    async with await store.open(stored.address, KEY) as reader:
        assert reader.size == len(CONTENT)
        assert b"".join([segment async for segment in reader.segments()]) == CONTENT
        assert await reader.segment(2) == pieces[2]
    assert not left_over(store)


async def test_equal_content_is_stored_once(store: BlobStore) -> None:
    first, second = await store.put([b"same"], KEY), await store.put([b"same"], KEY)
    assert first == second
    assert len(store._fs.find(store._root)) == 1


async def test_a_data_set_is_addressed_by_its_sealed_bytes(store: BlobStore) -> None:
    first = await store.put([b"same"], KEY, addressed=Addressed.SEALED)
    second = await store.put([b"same"], KEY, addressed=Addressed.SEALED)
    assert first.address != second.address


async def test_other_bytes_than_expected_are_not_stored(store: BlobStore) -> None:
    with pytest.raises(WrongAddressError):
        await store.put([b"these"], KEY, expected=merkle_root([b"those"]))
    assert not await store.has(merkle_root([b"these"]))
    assert not left_over(store)


async def test_more_bytes_than_allowed_are_not_stored(store: BlobStore) -> None:
    with pytest.raises(BlobTooLargeError):
        await store.put([bytes(100), bytes(100)], KEY, maximum=150)
    with pytest.raises(BlobTooLargeError):
        await store.put([bytes(SEGMENT_BYTES)] * 9, KEY)
    assert not left_over(store)


async def test_a_sender_that_breaks_off_leaves_nothing_under_an_address(store: BlobStore) -> None:
    async def broken():
        yield CONTENT[:SEGMENT_BYTES]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await store.put(broken(), KEY)
    assert not left_over(store)
    assert store._fs.find(store._root) == []


async def test_an_upload_goes_on_after_a_restart(store: BlobStore, tmp_path: Path) -> None:
    upload = await store.upload(KEY, upload_id="0" * 32)
    await upload.write(CONTENT)
    await upload.close()
    assert store.unfinished() == ["0" * 32]
    restarted = BlobStore(store._fs.unstrip_protocol(store._root), tmp_path / "incoming", maximum=1 << 30)
    again = await restarted.resume(KEY, "0" * 32)
    assert again.position == 2 * SEGMENT_BYTES
    await again.write(CONTENT[again.position :])
    stored = await again.finish()
    async with await restarted.open(stored.address, KEY) as reader:
        assert await reader.read(len(CONTENT)) == CONTENT


async def test_two_uploads_under_one_id_are_refused(store: BlobStore) -> None:
    async with await store.upload(KEY, upload_id="1" * 32):
        with pytest.raises(BlobStoreError, match="can't begin"):
            await store.upload(KEY, upload_id="1" * 32)


async def test_an_upload_that_is_not_here_can_not_go_on(store: BlobStore) -> None:
    with pytest.raises(BlobMissingError):
        await store.resume(KEY, "2" * 32)


@pytest.mark.parametrize(
    "address", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 65, "0" * 63 + "/", "0" * 64 + "\n"]
)
def test_nothing_but_64_digits_is_an_address(address: str) -> None:
    with pytest.raises(ValueError, match="64"):
        check_address(address)


@pytest.mark.parametrize("upload_id", ["", "../x", "0" * 31, "g" * 32, "0" * 32 + "\n"])
def test_nothing_but_32_digits_is_an_upload(store: BlobStore, upload_id: str) -> None:
    with pytest.raises(ValueError, match="32"):
        store.staged(upload_id)


async def test_an_unknown_address_is_said_to_be_missing(store: BlobStore) -> None:
    with pytest.raises(BlobMissingError):
        await store.open("0" * 64, KEY)


async def test_a_changed_blob_is_refused(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path / "blobs"), tmp_path / "incoming", maximum=1 << 30)
    stored = await store.put([CONTENT], KEY)
    path = tmp_path / "blobs" / stored.address[:2] / stored.address
    content = bytearray(path.read_bytes())
    content[SEGMENT_BYTES + 200] ^= 1
    path.write_bytes(content)
    async with await store.open(stored.address, KEY) as reader:
        assert await reader.segment(0) == CONTENT[:SEGMENT_BYTES]
        with pytest.raises(BlobBrokenError, match="segment 1"):
            await reader.segment(1)


async def test_nothing_readable_is_on_the_disk(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path / "blobs"), tmp_path / "incoming", maximum=1 << 30)
    secret = b"patient 4711 " * 200_000
    upload = await store.upload(KEY)
    await upload.write(secret)
    await upload.close()
    await store.put([secret], KEY)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]  # noqa: ASYNC240
    assert len(files) == 2
    assert all(b"patient" not in path.read_bytes() for path in files)


async def test_a_large_blob_is_not_held_in_memory_to_be_read_whole(store: BlobStore) -> None:
    stored = await store.put([CONTENT], KEY)
    async with await store.open(stored.address, KEY) as reader:
        with pytest.raises(BlobTooLargeError):
            await reader.read(1000)


async def test_a_copy_is_read_only_and_never_overwrites(store: BlobStore, tmp_path: Path) -> None:
    stored = await store.put([CONTENT], KEY)
    target = tmp_path / "copy"
    async with await store.open(stored.address, KEY) as reader:
        await reader.copy_to(target)
        assert target.read_bytes() == CONTENT
        assert target.stat().st_mode & 0o777 == 0o400
        with pytest.raises(FileExistsError):
            await reader.copy_to(target)
    assert target.read_bytes() == CONTENT


class FullFile:
    """A file on a disk that is full after its header."""

    def __init__(self, file) -> None:
        self._file = file
        self._written = 0

    def write(self, data: bytes) -> int:
        self._written += len(data)
        if self._written > SEGMENT_BYTES:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(data)

    def __getattr__(self, name: str):
        return getattr(self._file, name)


async def test_a_full_disk_is_a_clean_error_that_leaves_nothing(store: BlobStore) -> None:
    upload = await store.upload(KEY)
    upload._writer._file = FullFile(upload._writer._file)
    with pytest.raises(StoreFullError, match="no room"):
        await upload.write(CONTENT)
    assert not left_over(store)
    assert store._fs.find(store._root) == []


async def test_a_store_that_is_full_when_the_blob_moves_there_leaves_nothing(tmp_path: Path) -> None:
    store = BlobStore(f"memory://full-{tmp_path.name}", tmp_path / "incoming", maximum=1 << 30)

    def put_file(_local: str, target: str) -> None:
        store._fs.pipe_file(target, b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    store._fs = _Overridden(store._fs, put_file)
    with pytest.raises(StoreFullError):
        await store.put([CONTENT], KEY)
    assert store.unfinished() == []
    assert fsspec.filesystem("memory").find(store._root) == []


class _Overridden:
    def __init__(self, fs, put_file) -> None:
        self._fs = fs
        self.put_file = put_file

    def __getattr__(self, name: str):
        return getattr(self._fs, name)


@pytest.fixture
def small_disk(tmp_path: Path):
    """A disk of 1.5 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1536k", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_really_full_disk_under_staging_or_blobs_leaves_the_store_usable(
    small_disk: Path, tmp_path: Path
) -> None:
    for url, staging in ((small_disk / "blobs", tmp_path / "in"), (tmp_path / "blobs", small_disk / "in")):
        store = BlobStore(str(url), staging, maximum=1 << 30)
        with pytest.raises(StoreFullError):
            await store.put([CONTENT], KEY)
        assert not left_over(store)
        assert store._fs.find(store._root) == []
        stored = await store.put([CONTENT[:1000]], KEY)
        async with await store.open(stored.address, KEY) as reader:
            assert await reader.read(1000) == CONTENT[:1000]
        await store.delete(stored.address)


async def test_many_uploads_at_a_time_do_not_mix(store: BlobStore) -> None:
    contents = [os.urandom(SEGMENT_BYTES + at) for at in range(6)]
    stored = await asyncio.gather(*(store.put([content], KEY) for content in contents))
    for content, blob in zip(contents, stored, strict=True):
        async with await store.open(blob.address, KEY) as reader:
            assert await reader.read(len(content)) == content


def test_a_place_below_a_plain_file_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BlobStoreError, match="can't be used"):
        BlobStore(str(tmp_path / "file" / "blobs"), tmp_path / "incoming", maximum=1)


def test_an_unknown_kind_of_store_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(BlobStoreError, match="can't be used"):
        BlobStore("nonsense://place", tmp_path / "incoming", maximum=1)


@pytest.mark.parametrize("cancellations", [1, 2])
async def test_who_is_cancelled_while_a_file_is_opened_leaves_none_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cancellations: int
) -> None:
    store = BlobStore(str(tmp_path / "blobs"), tmp_path / "incoming", maximum=SEGMENT_BYTES)
    opening, go_on = threading.Event(), threading.Event()
    opened = []

    def slow(file, *arguments, **named):
        opened.append(file)
        opening.set()
        go_on.wait(10)

    monkeypatch.setattr("fedfabric.gateway.blobs.SegmentWriter", slow)
    task = asyncio.create_task(store.upload(KEY))
    await asyncio.to_thread(opening.wait, 10)
    for _ in range(cancellations):
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    await asyncio.wait({task})
    assert task.cancelled()
    assert opened[0].closed
