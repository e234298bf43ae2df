"""Sealed segments: what was written comes back, and nothing else is taken for it."""

import io
import os

import pytest
from fedfabric.aggregation import merkle_root
from fedfabric.gateway.segments import (
    SEGMENT_BYTES,
    BlobBrokenError,
    SegmentFile,
    SegmentReader,
    SegmentWriter,
    WrongKeyError,
)

KEY = bytes(range(32))
OVERHEAD = SEGMENT_BYTES + 16
SIZES = [0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 3 * SEGMENT_BYTES, 3 * SEGMENT_BYTES + 7]


def sealed(content: bytes, pieces: int = 70_001) -> tuple[bytes, str, str]:
    file = io.BytesIO()
    writer = SegmentWriter(file, KEY)
    for start in range(0, len(content), pieces):
        writer.write(content[start : start + pieces])
    plain, cipher, size = writer.finish()
    assert size == len(content)
    return file.getvalue(), plain, cipher


def opened(stored: bytes, key: bytes = KEY) -> bytes:
    return b"".join(SegmentReader(io.BytesIO(stored), key))


@pytest.mark.parametrize("size", SIZES)
def test_content_of_any_length_comes_back(size: int) -> None:
    content = os.urandom(size)
    stored, root, _ = sealed(content)
    assert opened(stored) == content
    parts = [content[at : at + SEGMENT_BYTES] for at in range(0, size, SEGMENT_BYTES)] or [b""]
    assert root == merkle_root(parts)
    assert SegmentReader(io.BytesIO(stored), KEY).root == root


def test_two_sealings_of_the_same_content_share_only_the_plain_root() -> None:
    first, second = sealed(b"same"), sealed(b"same")
    assert first[1] == second[1]
    assert first[0] != second[0]
    assert first[2] != second[2]


def test_another_key_is_named_as_such() -> None:
    with pytest.raises(WrongKeyError):
        opened(sealed(b"content")[0], bytes(32))


@pytest.mark.parametrize("place", ["magic", "salt", "prefix", "commitment", "segment", "tag", "index", "length"])
def test_a_changed_byte_anywhere_is_refused(place: str) -> None:
    stored = bytearray(sealed(os.urandom(2 * SEGMENT_BYTES))[0])
    where = {
        "magic": 0,
        "salt": 8,
        "prefix": 40,
        "commitment": 50,
        "segment": 80 + 5,
        "tag": 80 + OVERHEAD - 1,
        "index": len(stored) - 20,
        "length": len(stored) - 1,
    }[place]
    stored[where] ^= 1
    with pytest.raises(BlobBrokenError):
        opened(bytes(stored))


def test_a_cut_at_a_segment_border_is_refused() -> None:
    stored, _, _ = sealed(os.urandom(3 * SEGMENT_BYTES))
    for segments in range(4):
        with pytest.raises(BlobBrokenError):
            opened(stored[: 80 + segments * OVERHEAD])


def test_swapped_segments_are_refused() -> None:
    stored, _, _ = sealed(os.urandom(3 * SEGMENT_BYTES))
    first, second = stored[80 : 80 + OVERHEAD], stored[80 + OVERHEAD : 80 + 2 * OVERHEAD]
    with pytest.raises(BlobBrokenError, match="segment 0"):
        opened(stored[:80] + second + first + stored[80 + 2 * OVERHEAD :])


def test_a_segment_of_another_blob_under_the_same_key_is_refused() -> None:
    one, _, _ = sealed(os.urandom(2 * SEGMENT_BYTES))
    other, _, _ = sealed(os.urandom(2 * SEGMENT_BYTES))
    with pytest.raises(BlobBrokenError, match="segment 0"):
        opened(one[:80] + other[80 : 80 + OVERHEAD] + one[80 + OVERHEAD :])


def test_an_index_length_that_lies_is_refused_before_it_is_believed() -> None:
    stored, _, _ = sealed(b"content")
    for length in (0, 1, 1 << 40, (1 << 64) - 1):
        with pytest.raises(BlobBrokenError):
            opened(stored[:-8] + length.to_bytes(8, "big"))


def test_an_empty_file_is_no_blob() -> None:
    with pytest.raises(BlobBrokenError):
        opened(b"")


@pytest.mark.parametrize("cut", [80, 80 + OVERHEAD, 80 + OVERHEAD + 17, 80 + 2 * OVERHEAD])
def test_an_interrupted_writer_goes_on_behind_its_last_whole_segment(cut: int) -> None:
    content = os.urandom(3 * SEGMENT_BYTES + 100)
    file = io.BytesIO()
    writer = SegmentWriter(file, KEY)
    writer.write(content)
    file.truncate(cut)
    again = SegmentWriter.resume(file, KEY)
    assert again.position == (cut - 80) // OVERHEAD * SEGMENT_BYTES
    again.write(content[again.position :])
    root, _, _ = again.finish()
    assert opened(file.getvalue()) == content
    assert root == sealed(content)[1]


def test_a_torn_segment_is_written_anew_on_resuming() -> None:
    content = os.urandom(2 * SEGMENT_BYTES + 1)
    file = io.BytesIO()
    SegmentWriter(file, KEY).write(content)
    file.getbuffer()[80 + OVERHEAD + 3] ^= 1
    again = SegmentWriter.resume(file, KEY)
    assert again.position == SEGMENT_BYTES


def test_resuming_with_another_key_is_refused() -> None:
    file = io.BytesIO()
    SegmentWriter(file, KEY).write(b"x")
    with pytest.raises(WrongKeyError):
        SegmentWriter.resume(file, bytes(32))


def test_the_file_view_reads_and_seeks_like_a_file() -> None:
    content = os.urandom(2 * SEGMENT_BYTES + 333)
    stored, _, _ = sealed(content)
    view = io.BufferedReader(SegmentFile(SegmentReader(io.BytesIO(stored), KEY)), buffer_size=4096)
    assert view.seek(0, os.SEEK_END) == len(content)
    assert view.read() == b""
    for start, length in ((0, 10), (SEGMENT_BYTES - 5, 10), (2 * SEGMENT_BYTES + 300, 100), (7, SEGMENT_BYTES + 9)):
        view.seek(start)
        assert view.read(length) == content[start : start + length]
    with pytest.raises(ValueError, match="before its start"):
        view.raw.seek(-1)


def test_a_full_segment_that_is_known_not_to_be_the_last_is_not_held_back() -> None:
    content = os.urandom(2 * SEGMENT_BYTES)
    file = io.BytesIO()
    writer = SegmentWriter(file, KEY, size=len(content))
    writer.write(content[:SEGMENT_BYTES])
    assert writer.position == SEGMENT_BYTES
    writer.write(content[SEGMENT_BYTES:])
    assert writer.position == SEGMENT_BYTES
    writer.finish()
    assert opened(file.getvalue()) == content
