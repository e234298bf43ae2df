"""safetensors files: every byte of a header is distrusted, tensors are read and written by segments.

Format: 8 bytes little-endian length of the header, the header as JSON (name to dtype, shape, data_offsets), the
tensors' little-endian bytes (https://github.com/huggingface/safetensors#format). A file is taken only if its tensors
cover the bytes after the header without hole or overlap, so that nothing can hide in it.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np

from .errors import TensorFileError
from .tensors import DTYPES, SEGMENT, Tensors, TensorSpec, segments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True)
class TensorFileLimits:
    """What a reader takes at most."""

    header_bytes: int = 4 << 20
    tensors: int = 20_000
    name_bytes: int = 256
    dimensions: int = 8
    file_bytes: int = 1 << 40


DEFAULT_LIMITS = TensorFileLimits()


class TensorFile:
    """A safetensors file open for reading by segments. Use as a context manager, or close it.

    Raises:
        TensorFileError: the file is not exactly what its header says, or exceeds `limits`.
    """

    def __init__(self, source: Path | str | BinaryIO, limits: TensorFileLimits = DEFAULT_LIMITS) -> None:
        self._owned = isinstance(source, (Path, str))
        self._file: BinaryIO = Path(source).open("rb") if isinstance(source, (Path, str)) else source  # noqa: SIM115
        try:
            self._size = self._file.seek(0, os.SEEK_END)
            self._specs, self._offsets, self._data_start = _read_header(self._file, self._size, limits)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file if it was opened here."""
        if self._owned:
            self._file.close()

    @property
    def specs(self) -> Mapping[str, TensorSpec]:
        """Type and shape by name, in name order."""
        return self._specs

    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return elements [start, stop) of the flattened tensor.

        Raises:
            TensorFileError: the file has become shorter since it was opened.
        """
        spec = self._specs[name]
        if not 0 <= start <= stop <= spec.size:
            raise TensorFileError(f"{name}: elements [{start}, {stop}) of {spec.size}", code="RANGE")
        values = np.empty(stop - start, dtype=spec.numpy)
        if values.size:
            self._file.seek(self._data_start + self._offsets[name] + start * spec.numpy.itemsize)
            view = values.view(np.uint8).data
            while len(view):
                count = self._file.readinto(view)  # type: ignore[attr-defined]
                if not count:
                    raise TensorFileError(f"{name}: the file was cut short while it was read", code="TRUNCATED")
                view = view[count:]
        return values


def _read_exactly(file: BinaryIO, count: int, what: str) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = file.read(count - len(data))
        if not piece:
            raise TensorFileError(f"{what}: {len(data)} of {count} bytes", code="TRUNCATED")
        data += piece
    return bytes(data)


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise TensorFileError("the header names a key twice", code="DUPLICATE")
    return result


def _refuse_constant(text: str) -> None:
    raise TensorFileError(f"the header holds {text}", code="HEADER")


def _read_header(
    file: BinaryIO, size: int, limits: TensorFileLimits
) -> tuple[dict[str, TensorSpec], dict[str, int], int]:
    if size > limits.file_bytes:
        raise TensorFileError(f"{size} bytes, {limits.file_bytes} are taken at most", code="TOO_LARGE")
    file.seek(0)
    length = int.from_bytes(_read_exactly(file, 8, "header length"), "little")
    if length > limits.header_bytes:
        raise TensorFileError(f"header of {length} bytes, {limits.header_bytes} are taken at most", code="TOO_LARGE")
    if 8 + length > size:
        raise TensorFileError(f"header of {length} bytes in a file of {size}", code="TRUNCATED")
    raw = _read_exactly(file, length, "header")
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant)
    except TensorFileError:
        raise
    except (ValueError, RecursionError) as error:
        raise TensorFileError(f"the header is not JSON: {type(error).__name__}", code="HEADER") from error
    if not isinstance(header, dict):
        raise TensorFileError("the header is not an object", code="HEADER")
    _check_metadata(header.pop("__metadata__", {}))
    if len(header) > limits.tensors:
        raise TensorFileError(f"{len(header)} tensors, {limits.tensors} are taken at most", code="TOO_LARGE")
    specs: dict[str, TensorSpec] = {}
    spans: list[tuple[int, int, str]] = []
    for name in sorted(header):
        specs[name], begin, end = _read_entry(name, header[name], limits)
        spans.append((begin, end, name))
    _check_cover(spans, size - 8 - length)
    return specs, {name: begin for begin, _, name in spans}, 8 + length


def _check_metadata(metadata: object) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise TensorFileError("__metadata__ is not an object of strings", code="HEADER")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _read_entry(name: str, entry: object, limits: TensorFileLimits) -> tuple[TensorSpec, int, int]:
    if not name or not name.isprintable() or len(name.encode("utf-8", "surrogatepass")) > limits.name_bytes:
        raise TensorFileError(f"tensor name {name[:40]!r} is empty, too long or not printable", code="NAME")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise TensorFileError(f"{name}: an entry has exactly dtype, shape and data_offsets", code="HEADER")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise TensorFileError(f"{name}: type {str(dtype)[:20]!r} is not one of {', '.join(DTYPES)}", code="DTYPE")
    if not isinstance(shape, list) or len(shape) > limits.dimensions or not all(_whole(n) for n in shape):
        raise TensorFileError(f"{name}: shape is not a list of at most {limits.dimensions} sizes", code="SHAPE")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_whole(n) for n in offsets):
        raise TensorFileError(f"{name}: data_offsets is not a pair of offsets", code="OFFSETS")
    spec = TensorSpec(dtype, tuple(shape))
    begin, end = offsets
    if end - begin != spec.nbytes:
        raise TensorFileError(f"{name}: {end - begin} bytes for a shape that takes {spec.nbytes}", code="OFFSETS")
    return spec, begin, end


def _check_cover(spans: list[tuple[int, int, str]], available: int) -> None:
    position = 0
    for begin, end, name in sorted(spans):
        if begin != position:
            raise TensorFileError(f"{name}: starts at {begin}, the one before ends at {position}", code="OFFSETS")
        position = end
    if position > available:
        raise TensorFileError(f"tensors of {position} bytes in {available}", code="TRUNCATED")
    if position < available:
        raise TensorFileError(f"{available - position} bytes behind the last tensor", code="TRAILING")


def header_bytes(specs: Mapping[str, TensorSpec]) -> bytes:
    """Return the length and header of a file with these tensors in name order, padded to 8 bytes."""
    header: dict[str, object] = {}
    position = 0
    for name in sorted(specs):
        spec = specs[name]
        header[name] = {
            "dtype": spec.dtype,
            "shape": list(spec.shape),
            "data_offsets": [position, position + spec.nbytes],
        }
        position += spec.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


class TensorFileWriter:
    """Writes a safetensors file by segments; it appears under its name only when complete and on disk.

    The same tensors give the same bytes. Use as a context manager: what is not finished is removed.
    """

    def __init__(self, path: Path | str, specs: Mapping[str, TensorSpec]) -> None:
        self._path = Path(path)
        self._specs = {name: specs[name] for name in sorted(specs)}
        self._position = dict.fromkeys(self._specs, 0)
        header = header_bytes(self._specs)
        self._offsets: dict[str, int] = {}
        offset = len(header)
        for name, spec in self._specs.items():
            self._offsets[name] = offset
            offset += spec.nbytes
        self._part = self._path.with_name(f".{self._path.name}.{secrets.token_hex(6)}.part")
        self._fd = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _pwrite_all(self._fd, header, 0)
        except BaseException:
            self.abandon()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    def write(self, name: str, values: NDArray[Any]) -> None:
        """Append the next elements of a tensor.

        Raises:
            TensorFileError: another type than announced, or more elements.
            OSError: the disk is full or fails.
        """
        spec = self._specs[name]
        if values.dtype != spec.numpy:
            raise TensorFileError(f"{name}: values of type {values.dtype}, announced as {spec.dtype}", code="DTYPE")
        start = self._position[name]
        if start + values.size > spec.size:
            raise TensorFileError(f"{name}: more than {spec.size} elements", code="RANGE")
        if values.size:
            data = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
            _pwrite_all(self._fd, data, self._offsets[name] + start * spec.numpy.itemsize)
        self._position[name] = start + values.size

    def finish(self) -> TensorFile:
        """Make the file durable under its name and return it open for reading.

        Raises:
            TensorFileError: a tensor is incomplete.
            OSError: the disk fails.
        """
        for name, spec in self._specs.items():
            if self._position[name] != spec.size:
                raise TensorFileError(f"{name}: {self._position[name]} of {spec.size} elements", code="TRUNCATED")
        os.fsync(self._fd)
        self._part.replace(self._path)
        os.close(self._fd)
        self._fd = -1
        _sync_folder(self._path.parent)
        return TensorFile(self._path)

    def abandon(self) -> None:
        """Remove what was written, unless it is finished."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, which the files' own fsync does not."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _pwrite_all(fd: int, data: bytes | memoryview, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view = view[count:]
        offset += count


def write_tensors(path: Path | str, tensors: Tensors) -> None:
    """Write tensors to a safetensors file."""
    with TensorFileWriter(path, tensors.specs) as writer:
        for name, spec in tensors.specs.items():
            for start, stop in segments(spec.size, SEGMENT):
                writer.write(name, tensors.read(name, start, stop))
        writer.finish().close()
