"""A data set's bytes: a tar of plain files, packed by the steward's client and unpacked into a trainer's folder.

Packing gives the same bytes for the same files: names in order, one time, no owners. Unpacking distrusts everything:
only plain files with plain names, so many, so large.
"""

import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

__all__ = ["ArchiveError", "ArchiveLimits", "pack", "packed_size", "unpack"]

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+ -]{0,127}", re.ASCII)
_BLOCK: Final = 512
_PIECE: Final = 1 << 20


class ArchiveError(ValueError):
    """The bytes are not such an archive, or files can't be packed into one."""


@dataclass(frozen=True)
class ArchiveLimits:
    """What is unpacked at most."""

    files: int = 10_000
    bytes: int = 16 << 30
    depth: int = 8


DEFAULT_LIMITS: Final = ArchiveLimits()


def _found(source: Path) -> list[tuple[str, Path]]:
    if source.is_symlink() or not (source.is_file() or source.is_dir()):
        raise ArchiveError(f"{source} is neither a plain file nor a folder")
    if source.is_file():
        found = [(source.name, source)]
    else:
        found = []
        for path in sorted(source.rglob("*")):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise ArchiveError(f"{path} is a link or a special file; a data set holds plain files")
            if path.is_file():
                found.append((path.relative_to(source).as_posix(), path))
    for name, _ in found:
        _check_name(name, DEFAULT_LIMITS)
    if not found:
        raise ArchiveError(f"{source} holds no file")
    return sorted(found)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o444
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def packed_size(source: Path) -> int:
    """The bytes that `pack` will give."""
    total = 2 * _BLOCK
    for name, path in _found(source):
        size = path.stat().st_size
        total += len(_header(name, size)) + -(-size // _BLOCK) * _BLOCK
    return total


def pack(source: Path) -> Iterator[bytes]:
    """A file's or a folder's archive, piece by piece.

    Raises:
        ArchiveError: there is a link or a special file, a name with other characters than letters, digits and
            "_.+- ", nothing at all, or a file changed while it was read.
        OSError: a file can't be read.
    """
    for name, path in _found(source):
        size = path.stat().st_size
        yield _header(name, size)
        left = size
        with path.open("rb") as file:
            while left:
                piece = file.read(min(left, _PIECE))
                if not piece:
                    raise ArchiveError(f"{path} became shorter while it was read")
                left -= len(piece)
                yield piece
        yield bytes(-size % _BLOCK)
    yield bytes(2 * _BLOCK)


def unpack(file: IO[bytes] | Any, folder: Path, limits: ArchiveLimits = DEFAULT_LIMITS) -> int:
    """Unpack an archive into an empty folder, its files read-only, and return the bytes of its files.

    Raises:
        ArchiveError: it holds anything but plain files with plain names, or more than allowed.
        OSError: there is no room.
    """
    files = total = 0
    try:
        with tarfile.open(fileobj=file, mode="r|") as archive:
            for member in archive:
                files += 1
                total += member.size
                _check_name(member.name, limits)
                if not member.isreg() or member.issparse():
                    raise ArchiveError(f"{member.name} is not a plain file")
                if files > limits.files or total > limits.bytes:
                    raise ArchiveError(f"more than {limits.files} files or {limits.bytes} bytes")
                content = archive.extractfile(member)
                if content is None:  # pragma: no cover - a plain file has content
                    raise ArchiveError(f"{member.name} is not a plain file")
                _write(folder / member.name, content)
    except (tarfile.TarError, EOFError, UnicodeError) as error:
        raise ArchiveError(f"not an archive of files: {type(error).__name__}") from error
    if not files:
        raise ArchiveError("the archive holds no file")
    for inner, _, _ in os.walk(folder):
        Path(inner).chmod(0o500)
    return total


def _write(path: Path, content: IO[bytes]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400)
    except (FileExistsError, NotADirectoryError) as error:
        raise ArchiveError(f"{path.name} or a folder above it is in the archive twice") from error
    with os.fdopen(handle, "wb") as file:
        while piece := content.read(_PIECE):
            file.write(piece)


def _check_name(name: str, limits: ArchiveLimits) -> None:
    parts = name.split("/")
    if len(parts) > limits.depth or not all(_NAME.fullmatch(part) for part in parts):
        raise ArchiveError(f"{name[:60]!r} is not a plain name (letters, digits, '_', '.', '+', '-'; no '..')")
