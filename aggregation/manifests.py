"""A model's manifest: its tensors' names, types, shapes and segment digests, whose digest is the model's.

The digest covers the manifest and not a file, since two writers give safetensors files of different bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .digests import canonical_json, tagged_hash, tagged_hasher
from .tensors import SEGMENT, Tensors, TensorSpec, segments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

SEGMENT_BYTES = 1 << 20
"""Bytes of a tensor under one segment digest."""


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a manifest; `segments` are the tagged hashes of each 1 MiB of its little-endian bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    segments: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """The tensors in name order."""

    tensors: tuple[TensorEntry, ...]

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that the digest is over."""
        return canonical_json(
            {
                "v": 1,
                "tensors": [
                    {"name": t.name, "dtype": t.dtype, "shape": list(t.shape), "segments": list(t.segments)}
                    for t in self.tensors
                ],
            }
        )

    @property
    def digest(self) -> str:
        """The model's digest, 64 hex digits."""
        return tagged_hash("manifest", self.to_bytes())


class ManifestBuilder:
    """Builds a manifest while segments pass by; in any order between tensors, in order within each."""

    def __init__(self, specs: Mapping[str, TensorSpec]) -> None:
        self._specs = {name: specs[name] for name in sorted(specs)}
        self._digests: dict[str, list[str]] = {name: [] for name in self._specs}
        self._open = {name: (tagged_hasher("segment"), 0) for name in self._specs}

    def add(self, name: str, values: NDArray[Any]) -> None:
        """Take in the next elements of a tensor (contiguous, of the announced type)."""
        data = values.reshape(-1).view(np.uint8).data
        hasher, filled = self._open[name]
        while len(data):
            piece = data[: SEGMENT_BYTES - filled]
            hasher.update(piece)
            filled += len(piece)
            data = data[len(piece) :]
            if filled == SEGMENT_BYTES:
                self._digests[name].append(hasher.hexdigest())
                hasher, filled = tagged_hasher("segment"), 0
        self._open[name] = (hasher, filled)

    def finish(self) -> Manifest:
        """Return the manifest of what was taken in."""
        entries = []
        for name, spec in self._specs.items():
            hasher, filled = self._open[name]
            digests = self._digests[name] + ([hasher.hexdigest()] if filled else [])
            entries.append(TensorEntry(name, spec.dtype, spec.shape, tuple(digests)))
        return Manifest(tuple(entries))


def manifest_of(tensors: Tensors) -> Manifest:
    """Return the manifest of tensors, reading them once by segments."""
    builder = ManifestBuilder(tensors.specs)
    for name, spec in tensors.specs.items():
        for start, stop in segments(spec.size, SEGMENT):
            builder.add(name, tensors.read(name, start, stop))
    return builder.finish()
