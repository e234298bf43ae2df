import hashlib

import numpy as np
import pytest
from fedfabric.aggregation import ManifestBuilder, MemoryTensors, manifest_of, tagged_hash

WEIGHTS = {"w": np.arange(600_000, dtype=np.float32), "b": np.ones((2, 2), dtype=np.float32)}


def test_segments_are_tagged_hashes_of_each_mebibyte():
    manifest = manifest_of(MemoryTensors(WEIGHTS))
    data = WEIGHTS["w"].tobytes()
    (entry,) = [tensor for tensor in manifest.tensors if tensor.name == "w"]
    pieces = [data[start : start + (1 << 20)] for start in range(0, len(data), 1 << 20)]
    assert entry.segments == tuple(tagged_hash("segment", piece) for piece in pieces)
    assert len(entry.segments) == 3


def test_the_digest_is_over_the_canonical_manifest():
    manifest = manifest_of(MemoryTensors(WEIGHTS))
    assert manifest.digest == hashlib.sha256(b"manifest\0" + manifest.to_bytes()).hexdigest()


@pytest.mark.parametrize("piece", [97, 1000, 262_144, 262_145, 600_000])
def test_the_digest_does_not_depend_on_how_elements_arrive(piece):
    tensors = MemoryTensors({"w": WEIGHTS["w"]})
    builder = ManifestBuilder(tensors.specs)
    size = tensors.specs["w"].size
    for start in range(0, size, piece):
        builder.add("w", tensors.read("w", start, min(start + piece, size)))
    assert builder.finish().digest == manifest_of(tensors).digest


@pytest.mark.parametrize(
    "other",
    [
        {**WEIGHTS, "b": np.ones((4,), dtype=np.float32)},
        {**WEIGHTS, "b": np.ones((2, 2), dtype=np.int32)},
        {"w": WEIGHTS["w"], "c": WEIGHTS["b"]},
        {"w": np.nextafter(WEIGHTS["w"], np.float32(9)), "b": WEIGHTS["b"]},
        {**WEIGHTS, "x": np.zeros(0, dtype=np.float32)},
    ],
    ids=["shape", "type", "name", "values", "an empty tensor more"],
)
def test_the_digest_changes_with_each_part(other):
    assert manifest_of(MemoryTensors(other)).digest != manifest_of(MemoryTensors(WEIGHTS)).digest


def test_no_tensors_have_a_digest_too():
    assert manifest_of(MemoryTensors({})).to_bytes() == b'{"tensors":[],"v":1}'
