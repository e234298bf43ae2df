"""Data sets' archives: the same files give the same bytes, and foreign archives are distrusted."""

import io
import os
import tarfile
from pathlib import Path

import pytest
from fedfabric.gateway.archives import ArchiveError, ArchiveLimits, pack, packed_size, unpack


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    file.seek(0)
    return file


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    return info


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "inner").mkdir(parents=True)
    (folder / "patients.csv").write_text("age,num\n63,1\n")
    (folder / "inner" / "more.bin").write_bytes(bytes(3000))
    (folder / "empty").write_bytes(b"")
    return folder


def test_a_folder_comes_back_read_only(source: Path, tmp_path: Path) -> None:
    content = b"".join(pack(source))
    assert len(content) == packed_size(source)
    target = tmp_path / "target"
    target.mkdir()
    assert unpack(io.BytesIO(content), target) == 3000 + 13
    assert (target / "patients.csv").read_text() == "age,num\n63,1\n"
    assert (target / "inner" / "more.bin").read_bytes() == bytes(3000)
    assert (target / "patients.csv").stat().st_mode & 0o777 == 0o400
    assert target.stat().st_mode & 0o777 == 0o500


def test_times_and_owners_do_not_change_the_bytes(source: Path) -> None:
    before = b"".join(pack(source))
    os.utime(source / "patients.csv", (1, 1))
    (source / "patients.csv").chmod(0o600)
    assert b"".join(pack(source)) == before


def test_a_single_file_is_an_archive_of_one(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    unpack(io.BytesIO(b"".join(pack(source / "patients.csv"))), target)
    assert [path.name for path in target.iterdir()] == ["patients.csv"]


def test_a_link_is_not_packed(source: Path) -> None:
    (source / "link").symlink_to("/etc/passwd")
    with pytest.raises(ArchiveError, match="link"):
        packed_size(source)


def test_a_folder_without_files_is_not_packed(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="no file"):
        packed_size(tmp_path)


HOSTILE = {
    "a path that climbs": (member("../escape"), b"x"),
    "a path that climbs from within": (member("a/../../escape"), b"x"),
    "an absolute path": (member("/tmp/escape"), b"x"),
    "a control character": (member("a\nb"), b"x"),
    "a hidden file": (member(".profile"), b"x"),
    "a symbolic link": (member("link", tarfile.SYMTYPE, "/etc/passwd"), b""),
    "a hard link": (member("link", tarfile.LNKTYPE, "patients.csv"), b""),
    "a device": (member("null", tarfile.CHRTYPE), b""),
    "a pipe": (member("pipe", tarfile.FIFOTYPE), b""),
    "a folder": (member("folder", tarfile.DIRTYPE), b""),
    "too deep a path": (member("/".join("abcdefghi")), b"x"),
    "a name that is too long": (member("a" * 200), b"x"),
}


@pytest.mark.parametrize("flaw", HOSTILE)
def test_a_hostile_archive_is_refused(flaw: str, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError):
        unpack(tar_of(HOSTILE[flaw]), tmp_path)
    assert not (tmp_path.parent / "escape").exists()


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="twice"):
        unpack(tar_of((member("a"), b"1"), (member("a"), b"2")), tmp_path)


def test_a_file_that_is_a_folder_too_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="twice"):
        unpack(tar_of((member("a"), b"1"), (member("a/b"), b"2")), tmp_path)


def test_more_files_or_bytes_than_allowed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="more than"):
        unpack(tar_of(*((member(f"f{at}"), b"") for at in range(5))), tmp_path, ArchiveLimits(files=4))
    with pytest.raises(ArchiveError, match="more than"):
        unpack(tar_of((member("g"), bytes(11))), tmp_path, ArchiveLimits(bytes=10))


@pytest.mark.parametrize("content", [b"", b"no tar", bytes(1024), b"x" * 5000])
def test_bytes_that_are_no_archive_are_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError):
        unpack(io.BytesIO(content), tmp_path)


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    content = tar_of((member("a"), bytes(5000))).getvalue()
    with pytest.raises(ArchiveError):
        unpack(io.BytesIO(content[:2000]), tmp_path)
