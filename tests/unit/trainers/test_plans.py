import io
import os
import stat
import struct
import subprocess
import sys
import zipfile

import pytest
from fedfabric.aggregation import tagged_hash
from fedfabric.trainers import PlanBundle, PlanError, PlanLimits, build_bundle, plan_digest, read_bundle

PLAN = b"def model_fn(params): ...\n"
GOOD = PlanBundle({"plan.json": b'{"rate": 0.1}\n', "plan.py": PLAN})


def folder_with(tmp_path, **files):
    for name, text in {"plan.py": PLAN.decode(), "plan.json": "{}", **files}.items():
        path = tmp_path / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def archive(entries, **options):
    """A zip written by hand: entries are (name, data, changes of the ZipInfo)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", options.get("compression", zipfile.ZIP_STORED)) as file:
        for name, data, changes in entries:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.compress_type = options.get("compression", zipfile.ZIP_STORED)
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            for key, value in changes.items():
                setattr(info, key, value)
            file.writestr(info, data)
        file.comment = options.get("comment", b"")
    return buffer.getvalue()


BASE = [("plan.json", b"{}", {}), ("plan.py", PLAN, {})]


def test_a_bundle_reads_back():
    bundle = read_bundle(GOOD.to_bytes())
    assert bundle == GOOD
    assert bundle.params == {"rate": 0.1}
    assert bundle.digest == plan_digest(GOOD.to_bytes()) == tagged_hash("plan", GOOD.to_bytes())


def test_the_same_content_has_one_digest_whatever_times_modes_and_caches(tmp_path):
    first = build_bundle(folder_with(tmp_path / "a", net__layers__py="x = 1"))
    second_folder = folder_with(tmp_path / "b", net__layers__py="x = 1")
    (second_folder / "__pycache__").mkdir()
    (second_folder / "__pycache__" / "plan.pyc").write_bytes(b"cache")
    os.utime(second_folder / "plan.py", (1, 1))
    (second_folder / "plan.py").chmod(0o755)
    assert build_bundle(second_folder).to_bytes() == first.to_bytes()


def test_parameters_can_be_given(tmp_path):
    bundle = build_bundle(folder_with(tmp_path), {"rounds": 3})
    assert bundle.params == {"rounds": 3}


def test_unpacking_gives_the_files(tmp_path):
    bundle = PlanBundle({**GOOD.files, "deep/er/data.bin": b"\0"})
    bundle.unpack(tmp_path)
    assert (tmp_path / "deep/er/data.bin").read_bytes() == b"\0"


def bomb():
    return archive([*BASE, ("zeros", bytes(50 << 20), {})], compression=zipfile.ZIP_DEFLATED)


HOSTILE = {
    "a path that climbs": archive([("../evil.py", b"", {}), *BASE]),
    "a path that climbs inside": archive([("a/../../evil.py", b"", {}), *BASE]),
    "an absolute path": archive([("/etc/evil", b"", {}), *BASE]),
    "a backslash": archive([("a\\..\\evil", b"", {}), *BASE]),
    "a drive": archive([("C:evil", b"", {}), *BASE]),
    "a dot segment": archive([("./evil", b"", {}), *BASE]),
    "a doubled slash": archive([("a//evil", b"", {}), *BASE]),
    "a hidden file": archive([(".bashrc", b"", {}), *BASE]),
    "a control character": archive([("a\nb", b"", {}), *BASE]),
    "other letters": archive([("plän", b"", {}), *BASE]),
    "a path too long": archive([("a/" * 4 + "b" * 199, b"", {}), *BASE]),
    "a path too deep": archive([("a/" * 9 + "b", b"", {}), *BASE]),
    "a folder entry": archive([("a/", b"", {}), *BASE]),
    "a link": archive([("link", b"/etc/passwd", {"external_attr": (stat.S_IFLNK | 0o777) << 16}), *BASE]),
    "a device": archive([("zdevice", b"", {"external_attr": (stat.S_IFCHR | 0o666) << 16}), *BASE]),
    "a bomb": bomb(),
    "compressed entries": archive(BASE, compression=zipfile.ZIP_DEFLATED),
    "entries out of order": archive(BASE[::-1]),
    "another time": archive([BASE[0], ("plan.py", PLAN, {"date_time": (2020, 1, 1, 0, 0, 0)})]),
    "another mode": archive([BASE[0], ("plan.py", PLAN, {"external_attr": (stat.S_IFREG | 0o755) << 16})]),
    "a comment": archive(BASE, comment=b"hidden"),
    "an entry's comment": archive([BASE[0], ("plan.py", PLAN, {"comment": b"hidden"})]),
    "an extra field": archive([BASE[0], ("plan.py", PLAN, {"extra": b"\x99\x99\x04\0abcd"})]),
    "bytes before": b"#!/bin/sh\n" + GOOD.to_bytes(),
    "bytes behind": GOOD.to_bytes() + b"x",
    "no zip": b"PK nothing",
    "nothing": b"",
    "cut short": GOOD.to_bytes()[:-10],
    "no plan.py": archive([BASE[0]]),
    "no plan.json": archive([BASE[1]]),
    "a file that is a folder too": archive([("a", b"", {}), ("a/b", b"", {}), *BASE]),
    "plan.py that is no Python": archive([BASE[0], ("plan.py", b"def (", {})]),
    "plan.py with a null byte": archive([BASE[0], ("plan.py", b"x = '\0'", {})]),
    "parameters that are no JSON": archive([("plan.json", b"{", {}), BASE[1]]),
    "parameters with NaN": archive([("plan.json", b'{"a": NaN}', {}), BASE[1]]),
    "parameters in a list": archive([("plan.json", b"[]", {}), BASE[1]]),
    "parameters nested": archive([("plan.json", b'{"a": {"b": 1}}', {}), BASE[1]]),
    "parameters nested very deep": archive([("plan.json", b"[" * 60_000, {}), BASE[1]]),
    "a parameter's name with a space": archive([("plan.json", b'{"a b": 1}', {}), BASE[1]]),
    "parameters of a megabyte": archive([("plan.json", b'{"a": "' + b"x" * (1 << 20) + b'"}', {}), BASE[1]]),
    "three hundred files": archive([*BASE, *[(f"q{i:03}", b"", {}) for i in range(300)]]),
}


@pytest.mark.parametrize("flaw", HOSTILE)
def test_hostile_bundles_are_refused(flaw):
    with pytest.raises(PlanError) as refusal:
        read_bundle(HOSTILE[flaw])
    assert refusal.value.code == "PLAN_INVALID"


def test_nothing_is_inflated_before_it_is_refused():
    with pytest.raises(PlanError, match="zeros is compressed"):
        read_bundle(archive([("a-zeros", bytes(1000), {}), *BASE], compression=zipfile.ZIP_DEFLATED))


def test_entries_that_share_bytes_are_refused_before_one_is_read(monkeypatch):
    # Each entry's data begins with the next one's header: 40 entries of 100 kB in a zip of little more than that.
    names = [f"q{number:02}" for number in range(40)]
    headers = [
        struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 33, 0, 0, 0, len(name), 0) + name.encode() for name in names
    ]
    body = b"".join(headers) + bytes(100_000)
    directory = b""
    for place, name in enumerate(names):
        offset = place * len(headers[0])
        size = len(body) - offset - len(headers[0])
        directory += struct.pack(
            "<4s6H3I5H2I",
            b"PK\1\2",
            0x314,
            20,
            0,
            0,
            0,
            33,
            0,
            size,
            size,
            len(name),
            0,
            0,
            0,
            0,
            0o100644 << 16,
            offset,
        )
        directory += name.encode()
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, len(names), len(names), len(directory), len(body), 0)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("an entry was read"))
    with pytest.raises(PlanError, match="'q01' overlaps the entry before it"):
        read_bundle(body + directory + end)


def test_an_entry_beyond_the_end_is_refused_before_one_is_read(monkeypatch):
    data = bytearray(GOOD.to_bytes())
    directory = data.rindex(b"PK\x01\x02")
    data[directory + 20 : directory + 28] = struct.pack("<2I", len(data), len(data))
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("an entry was read"))
    with pytest.raises(PlanError, match="beyond the zip's end"):
        read_bundle(bytes(data))


def test_a_directory_of_more_files_than_taken_is_refused_before_it_is_read(monkeypatch):
    many = archive([(f"q{number}", b"", {}) for number in range(2000)])
    monkeypatch.setattr(zipfile, "ZipInfo", lambda *_: pytest.fail("an entry of the directory was read"))
    with pytest.raises(PlanError, match="longer than that of 256 files"):
        read_bundle(many)
    with pytest.raises(PlanError, match="does not end as"):
        read_bundle(many[:-22] + struct.pack("<4sIQI", b"PK\6\7", 0, 0, 1) + many[-22:])


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_path_named_twice_is_refused():
    with pytest.raises(PlanError, match="twice"):
        read_bundle(archive([BASE[0], BASE[1], ("plan.py", b"import evil", {})]))


def test_an_encrypted_entry_is_refused():
    data = bytearray(GOOD.to_bytes())
    directory = data.index(b"PK\x01\x02")
    data[directory + 8] |= 1
    with pytest.raises(PlanError):
        read_bundle(bytes(data))


def test_a_size_that_lies_is_refused():
    data = bytearray(GOOD.to_bytes())
    directory = data.index(b"PK\x01\x02")
    data[directory + 20 : directory + 28] = b"\xff\xff\xff\x7f" * 2
    with pytest.raises(PlanError):
        read_bundle(bytes(data))


@pytest.mark.parametrize("position", range(0, len(GOOD.to_bytes()), 7))
def test_a_changed_byte_changes_the_digest_or_is_refused(position):
    data = bytearray(GOOD.to_bytes())
    data[position] ^= 0x20
    try:
        changed = read_bundle(bytes(data))
    except PlanError:
        return
    assert changed.digest != GOOD.digest
    assert changed.files != GOOD.files


def test_limits_are_kept():
    with pytest.raises(PlanError, match="at most"):
        read_bundle(GOOD.to_bytes(), PlanLimits(bundle_bytes=100))
    with pytest.raises(PlanError, match="at most"):
        read_bundle(GOOD.to_bytes(), PlanLimits(file_bytes=10))


def test_a_folder_with_links_is_not_bundled(tmp_path):
    folder = folder_with(tmp_path)
    (folder / "link.py").symlink_to("/etc/passwd")
    with pytest.raises(PlanError, match="link"):
        build_bundle(folder)


def test_bundling_needs_no_torch():
    program = (
        "import sys\nfrom fedfabric.trainers import build_bundle, read_bundle, plan_digest, PlanError\n"
        "import fedfabric.trainers.zygote\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
