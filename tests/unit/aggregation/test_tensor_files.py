import importlib.util
import json
import os
import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from fedfabric.aggregation import (
    MemoryTensors,
    TensorFile,
    TensorFileError,
    TensorFileLimits,
    TensorFileWriter,
    TensorSpec,
    manifest_of,
    to_arrays,
    write_tensors,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

HOSTILE = Path(__file__).parent / "hostile"
FILES = sorted(HOSTILE.glob("*.safetensors"))
ARRAYS = {
    "b.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "a.bias": np.array(1.5),
    "counter": np.array(7, dtype=np.int64),
    "empty": np.zeros((0, 3), dtype=np.float32),
    "mask": np.array([True, False]),
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_hostile_files_are_refused_with_the_code_in_their_name(path):
    code = path.name.split(".", maxsplit=1)[0]
    with pytest.raises(TensorFileError) as refusal:
        TensorFile(path)
    assert refusal.value.code == code


def test_the_hostile_files_are_those_that_their_script_writes():
    spec = importlib.util.spec_from_file_location("make", HOSTILE / "make.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    written = {
        name.replace(" ", ".") + ".safetensors": data for name, data in make.FILES.items() if len(data) < 100_000
    }
    assert {path.name: path.read_bytes() for path in FILES} == written
    for name, data in make.FILES.items():
        with pytest.raises(TensorFileError) as refusal:
            TensorFile(BytesIO(data))
        assert refusal.value.code == name.split()[0], name


def test_a_file_is_what_the_official_library_reads(tmp_path):
    write_tensors(tmp_path / "m", MemoryTensors(ARRAYS))
    official = safetensors.numpy.load_file(tmp_path / "m")
    assert official.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert official[name].dtype == array.dtype
        np.testing.assert_array_equal(official[name], array)


def test_the_official_librarys_files_are_read(tmp_path):
    safetensors.numpy.save_file(ARRAYS, tmp_path / "m", metadata={"format": "pt"})
    with TensorFile(tmp_path / "m") as file:
        assert list(file.specs) == sorted(ARRAYS)
        for name, array in to_arrays(file).items():
            np.testing.assert_array_equal(array, ARRAYS[name])
        assert manifest_of(file).digest == manifest_of(MemoryTensors(ARRAYS)).digest


def test_the_same_tensors_give_the_same_bytes_in_any_order(tmp_path):
    write_tensors(tmp_path / "a", MemoryTensors(ARRAYS))
    write_tensors(tmp_path / "b", MemoryTensors(dict(reversed(ARRAYS.items()))))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_segments_are_read_from_anywhere(tmp_path):
    write_tensors(tmp_path / "m", MemoryTensors(ARRAYS))
    with TensorFile(tmp_path / "m") as file:
        np.testing.assert_array_equal(file.read("b.weight", 5, 9), [5, 6, 7, 8])
        with pytest.raises(TensorFileError, match="of 12"):
            file.read("b.weight", 5, 13)


def test_a_file_that_shrinks_while_it_is_read_is_an_error_and_not_zeros(tmp_path):
    write_tensors(tmp_path / "m", MemoryTensors({"w": np.ones(100_000, dtype=np.float32)}))
    with TensorFile(tmp_path / "m") as file:
        os.truncate(tmp_path / "m", 200_000)
        with pytest.raises(TensorFileError) as refusal:
            file.read("w", 0, 100_000)
        assert refusal.value.code == "TRUNCATED"


def test_limits_are_kept(tmp_path):
    write_tensors(tmp_path / "m", MemoryTensors({"w": np.ones(1000, dtype=np.float32)}))
    with pytest.raises(TensorFileError, match="at most"):
        TensorFile(tmp_path / "m", TensorFileLimits(file_bytes=4000))


def test_an_unfinished_file_leaves_nothing_behind(tmp_path):
    with TensorFileWriter(tmp_path / "m", {"w": TensorSpec("F32", (4,))}) as writer:
        writer.write("w", np.zeros(3, dtype=np.float32))
        with pytest.raises(TensorFileError, match="3 of 4"):
            writer.finish()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_get_its_name_leaves_nothing_behind(tmp_path):
    (tmp_path / "m").mkdir()
    with pytest.raises(IsADirectoryError):
        write_tensors(tmp_path / "m", MemoryTensors(ARRAYS))
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_content_is_durable_before_the_name_and_the_name_before_it_is_said(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace

    def noting_fsync(descriptor):
        done.append("folder" if Path(f"/proc/self/fd/{descriptor}").readlink() == tmp_path else "file")
        fsync(descriptor)

    def noting_replace(source, target):
        done.append("name")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "replace", noting_replace)
    write_tensors(tmp_path / "m", MemoryTensors(ARRAYS))
    assert done == ["file", "name", "folder"]


def test_more_or_other_elements_than_announced_are_refused(tmp_path):
    with TensorFileWriter(tmp_path / "m", {"w": TensorSpec("F32", (4,))}) as writer:
        with pytest.raises(TensorFileError, match="more than 4"):
            writer.write("w", np.zeros(5, dtype=np.float32))
        with pytest.raises(TensorFileError, match="announced"):
            writer.write("w", np.zeros(4))


def test_a_full_disk_is_an_error_and_leaves_the_old_file(tmp_path, monkeypatch):
    write_tensors(tmp_path / "m", MemoryTensors({"w": np.ones(4, dtype=np.float32)}))
    before = (tmp_path / "m").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        write_tensors(tmp_path / "m", MemoryTensors({"w": np.zeros(4, dtype=np.float32)}))
    assert (tmp_path / "m").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
def test_arbitrary_bytes_never_raise_anything_else(data):
    with pytest.raises(TensorFileError):
        TensorFile(BytesIO(data))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 200), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_read_within_the_file(position, value):
    header = json.dumps({"w": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}}).encode()
    data = bytearray(len(header).to_bytes(8, "little") + header + bytes(64))
    data[position % len(data)] = value
    try:
        file = TensorFile(BytesIO(bytes(data)))
    except TensorFileError:
        return
    assert sum(spec.nbytes for spec in file.specs.values()) == 64
    to_arrays(file)


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.text("abc._0", min_size=1, max_size=8),
        hnp.arrays(st.sampled_from([np.float32, np.int64, np.uint32, np.bool_]), hnp.array_shapes(min_dims=0)),
        max_size=5,
    )
)
def test_what_is_written_is_read(arrays):
    with tempfile.TemporaryDirectory() as folder:
        write_tensors(Path(folder) / "m", MemoryTensors(arrays))
        with TensorFile(Path(folder) / "m") as file:
            read = to_arrays(file)
    assert list(read) == sorted(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
