"""Plans: the code that a job runs at every member, as one bundle of canonical bytes.

A bundle is a zip with `plan.py`, `plan.json` (parameters, a flat object) and whatever modules and files they use:
entries sorted by name, stored without compression, one fixed time, no extra bytes. Reading builds the bundle anew from
what it read and demands the same bytes, so a bundle can hide nothing between its entries and one content has one
digest. Needs no torch.
"""

from __future__ import annotations

import io
import json
import re
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ..aggregation import tagged_hash
from .errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FIXED_TIME = (1980, 1, 1, 0, 0, 0)
IGNORED = ("__pycache__", ".git", ".DS_Store", ".ipynb_checkpoints")
# Sizes and places in a zip (PKWARE's APPNOTE, 4.3): what stands before an entry's data and before its name in the
# directory, and the record at the end, whose field at 12 is the directory's size.
_LOCAL_HEADER = 30
_DIRECTORY_HEADER = 46
_END = 22
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", re.ASCII)
_KEY = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)


@dataclass(frozen=True)
class PlanLimits:
    """What a bundle holds at most."""

    bundle_bytes: int = 16 << 20
    files: int = 256
    file_bytes: int = 8 << 20
    path_bytes: int = 200
    depth: int = 8
    parameters: int = 256


DEFAULT_LIMITS = PlanLimits()


@dataclass(frozen=True)
class PlanBundle:
    """A plan's files by path, in path order."""

    files: Mapping[str, bytes]

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of plan.json."""
        return _read_params(self.files["plan.json"])

    def to_bytes(self) -> bytes:
        """Return the canonical zip."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(self.files):
                info = zipfile.ZipInfo(name, FIXED_TIME)
                info.create_system = 3
                info.external_attr = (stat.S_IFREG | 0o644) << 16
                archive.writestr(info, self.files[name])
        return buffer.getvalue()

    @property
    def digest(self) -> str:
        """The plan's digest, 64 hex digits."""
        return plan_digest(self.to_bytes())

    def unpack(self, folder: Path) -> None:
        """Write the files below an existing empty folder."""
        for name, data in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def plan_digest(bundle: bytes) -> str:
    """Return the digest that owners approve: the tagged hash of the bundle's bytes."""
    return tagged_hash("plan", bundle)


def build_bundle(
    folder: Path, params: Mapping[str, Any] | None = None, limits: PlanLimits = DEFAULT_LIMITS
) -> PlanBundle:
    """Bundle a folder that holds plan.py and, unless `params` is given, plan.json.

    Raises:
        PlanError: a file is missing, is a link, or exceeds the limits.
    """
    files: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if any(part in IGNORED for part in relative.parts):
            continue
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise PlanError(f"{relative} is a link or a special file; a bundle holds plain files")
        if path.is_file():
            size = path.stat().st_size
            if size > limits.file_bytes:
                raise PlanError(f"{relative} has {size} bytes, {limits.file_bytes} are taken at most")
            files[relative.as_posix()] = path.read_bytes()
    if params is not None:
        files["plan.json"] = json.dumps(dict(params), sort_keys=True, indent=2, allow_nan=False).encode() + b"\n"
    bundle = PlanBundle(dict(sorted(files.items())))
    _check(bundle.files, limits)
    if len(bundle.to_bytes()) > limits.bundle_bytes:
        raise PlanError(f"the bundle exceeds {limits.bundle_bytes} bytes")
    return bundle


def read_bundle(data: bytes, limits: PlanLimits = DEFAULT_LIMITS) -> PlanBundle:
    """Read a bundle that someone else made.

    Raises:
        PlanError: it is not the canonical zip of permitted files.
    """
    if len(data) > limits.bundle_bytes:
        raise PlanError(f"a bundle of {len(data)} bytes, {limits.bundle_bytes} are taken at most")
    end = data[-_END:]
    if end[:4] != b"PK\5\6" or data[-_END - 20 : -_END - 16] == b"PK\6\7":
        raise PlanError("the zip does not end as a canonical one does")
    if int.from_bytes(end[12:16], "little") > limits.files * (_DIRECTORY_HEADER + limits.path_bytes):
        raise PlanError(f"the zip's directory is longer than that of {limits.files} files")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _refuse_overlap(archive.infolist(), len(data))
            files = _read_entries(archive, limits)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, OSError, RuntimeError) as error:
        raise PlanError(f"not a zip: {type(error).__name__}") from error
    _check(files, limits)
    bundle = PlanBundle(dict(sorted(files.items())))
    if bundle.to_bytes() != data:
        raise PlanError("the zip is not canonical (order, times, attributes or bytes between entries)")
    return bundle


def _refuse_overlap(infos: Iterable[zipfile.ZipInfo], size: int) -> None:
    """Check that entries lie one after the other within the zip, so that all of them together are no longer than it."""
    position = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < position:
            raise PlanError(f"{info.filename[:60]!r} overlaps the entry before it")
        position = info.header_offset + _LOCAL_HEADER + len(info.filename) + info.compress_size
    if position > size:
        raise PlanError("an entry goes beyond the zip's end")


def _read_entries(archive: zipfile.ZipFile, limits: PlanLimits) -> dict[str, bytes]:
    infos = archive.infolist()
    if len(infos) > limits.files:
        raise PlanError(f"{len(infos)} files, {limits.files} are taken at most")
    names = [info.filename for info in infos]
    _check_paths(names, limits)
    if len(set(names)) != len(names):
        raise PlanError("a path occurs twice")
    files = {}
    for info in infos:
        # nothing is inflated: a stored entry can't be larger than the bundle
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise PlanError(f"{info.filename} is compressed; entries are stored")
        if info.flag_bits & 1:
            raise PlanError(f"{info.filename} is encrypted")
        if info.is_dir() or not stat.S_ISREG(info.external_attr >> 16):
            raise PlanError(f"{info.filename} is not a plain file")
        if info.file_size > limits.file_bytes:
            raise PlanError(f"{info.filename} has {info.file_size} bytes, {limits.file_bytes} are taken at most")
        files[info.filename] = archive.read(info)
    return files


def _check_paths(names: Iterable[str], limits: PlanLimits) -> None:
    for name in names:
        parts = PurePosixPath(name).parts
        if (
            len(name) > limits.path_bytes
            or len(parts) > limits.depth
            or not parts
            or "/".join(parts) != name
            or not all(_SEGMENT.fullmatch(part) for part in parts)
        ):
            raise PlanError(
                f"path {name[:60]!r} climbs, is too long or holds other characters than letters, digits, '_', '-', '.'"
            )


def _check(files: Mapping[str, bytes], limits: PlanLimits) -> None:
    _check_paths(files, limits)
    if len(files) > limits.files:
        raise PlanError(f"{len(files)} files, {limits.files} are taken at most")
    folders = {parent.as_posix() for name in files for parent in PurePosixPath(name).parents}
    if folders & files.keys():
        raise PlanError("a path is a file and a folder")
    if "plan.py" not in files:
        raise PlanError("plan.py is missing")
    if "plan.json" not in files:
        raise PlanError("plan.json is missing (parameters; {} if there are none)")
    params = _read_params(files["plan.json"])
    if len(params) > limits.parameters:
        raise PlanError(f"{len(params)} parameters, {limits.parameters} are taken at most")
    try:
        compile(files["plan.py"], "plan.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise PlanError(f"plan.py is not Python: {error}") from error


def _read_params(data: bytes) -> dict[str, Any]:
    def refuse(text: str) -> None:
        raise PlanError(f"plan.json holds {text}")

    if len(data) > 1 << 16:
        raise PlanError("plan.json exceeds 64 KiB")
    try:
        params = json.loads(data.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise PlanError("plan.json is not JSON") from error
    check_params(params)
    return params  # type: ignore[no-any-return]


def check_params(params: object) -> None:
    """Check that parameters are an object of snake-case names to numbers, strings, booleans, null or lists of these.

    Raises:
        PlanError: they are not.
    """
    if not isinstance(params, dict):
        raise PlanError("parameters are not an object")
    for key, value in params.items():
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise PlanError(f"parameter name {str(key)[:40]!r} is not lower-case letters, digits and '_'")
        for item in value if isinstance(value, list) else [value]:
            if item is not None and not isinstance(item, (str, int, float, bool)):
                raise PlanError(f"parameter {key} is neither a scalar nor a list of scalars")
