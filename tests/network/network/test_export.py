"""What `network export` writes is enough for the official Node client and for hfc."""

import asyncio
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import pytest
import pytest_asyncio
import yaml
from fedfabric.benchmarks.official_node import Node
from fedfabric.fabric.identity import private_key_signer, verify
from fedfabric.network.errors import StateError
from fedfabric.network.export import export
from fedfabric.network.programs import cache_folder

pytestmark = pytest.mark.network

REQUIREMENTS = Path(__file__).parents[3] / "requirements" / "hfc.txt"
SECONDS = 120


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def exported(raft_network, tmp_path_factory):
    for organisation in raft_network.organisations:
        await raft_network.enrol(organisation, "application")
    return {one.organisation: one for one in export(raft_network, tmp_path_factory.mktemp("export"))}


def profile_of(exported, organisation):
    return json.loads(exported[organisation].connection_json.read_bytes())


def test_both_forms_of_the_profile_say_the_same(exported):
    for one in exported.values():
        assert yaml.safe_load(one.connection_yaml.read_bytes()) == json.loads(one.connection_json.read_bytes())


def test_a_profile_names_every_peer_and_orderer_with_a_root_that_issued_its_certificate(raft_network, exported):
    profile = profile_of(exported, "alpha")
    assert profile["client"]["organization"] == "alpha"
    assert profile["organizations"]["beta"] == {"mspid": "BetaMSP", "peers": ["peer0.beta"]}
    assert set(profile["peers"]) == {"peer0.alpha", "peer0.beta"}
    assert set(profile["orderers"]) == {"orderer0.alpha"}
    for name, node in (profile["peers"] | profile["orderers"]).items():
        organisation = raft_network.organisations[name.partition(".")[2]]
        assert node["url"].removeprefix("grpcs://") in (*organisation.peers, *organisation.orderers)
        assert node["tlsCACerts"]["pem"] == organisation.peer_tls_ca.read_text()
    assert set(profile["channels"][raft_network.channel_name]["peers"]) == set(profile["peers"])


def test_a_profile_holds_no_private_key(exported):
    for one in exported.values():
        for file in (one.connection_json, one.connection_yaml, one.hfc):
            assert "PRIVATE KEY" not in file.read_text()


def test_a_wallet_entry_holds_a_certificate_and_its_key(exported):
    for one in exported.values():
        assert set(one.users) >= {"admin", "application"}
        for user in one.users:
            entry = json.loads((one.wallet / f"{user}.id").read_bytes())
            assert (entry["type"], entry["version"]) == ("X.509", 1)
            assert entry["mspId"] == f"{one.organisation.capitalize()}MSP"
            signature = private_key_signer(entry["credentials"]["privateKey"].encode())(b"message")
            verify(entry["credentials"]["certificate"].encode(), b"message", signature)


def test_only_the_owner_can_read_a_key(exported):
    for one in exported.values():
        for file in one.connection_json.parent.rglob("*"):
            if file.is_file() and b"PRIVATE KEY" in file.read_bytes():
                assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_exporting_again_overwrites(raft_network, exported):
    before = exported["alpha"].connection_json.read_bytes()
    exported["alpha"].connection_json.write_bytes(b"{}")
    export(raft_network, exported["alpha"].connection_json.parent.parent)
    assert exported["alpha"].connection_json.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_an_error(raft_network, tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    with pytest.raises(StateError, match="can be written"):
        export(raft_network, plain / "export")


async def run_client(*command, environment=None):
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    try:
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    return json.loads(out.decode().splitlines()[-1])


async def test_the_official_node_client_works_by_the_profile_and_wallet(exported):
    key = f"export/{uuid.uuid4().hex}"
    node = await asyncio.to_thread(Node.find)
    folder = await asyncio.to_thread(node.install)
    alpha = exported["alpha"]
    seen = await run_client(
        node.program, folder / "profile.mjs", alpha.connection_json, alpha.wallet, "application", "kv", key
    )
    assert seen["successful"]
    assert (seen["value"], seen["event"], seen["payload"]) == ("from Node", key, "last")
    assert seen["block"] == seen["blockNumber"] > 0
    assert seen["transactions"] > 0


def hfc_python():
    """The interpreter of an environment with hfc, made once in the cache."""
    lock = REQUIREMENTS.read_bytes()
    digest = hashlib.sha256(lock + sys.version.encode()).hexdigest()[:16]
    target = cache_folder() / f"hfc-{digest}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".hfc-", dir=target.parent))
        try:
            install_hfc(staging, lock.decode())
            staging.rename(target)
        except OSError:
            if not target.exists():  # else another run was first
                raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return target / "bin" / "python"


def install_hfc(folder, lock):
    def run(*command):
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    run(sys.executable, "-m", "venv", folder)
    pip = (folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes")
    # Its sources are built by the setuptools of the lock, not by whatever is the newest.
    first, there = [], False
    for line in lock.splitlines():
        there = line.startswith("setuptools==") or (there and line.startswith(" "))
        first += [line] if there else []
    builder = folder / "setuptools.txt"
    builder.write_text("\n".join(first) + "\n")
    run(*pip, "-r", builder)
    run(*pip, "--no-build-isolation", "-r", REQUIREMENTS)


async def test_hfc_works_by_its_profile(exported):
    key = f"export/{uuid.uuid4().hex}"
    python = await asyncio.to_thread(hfc_python)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    script = Path(__file__).parent / "hfc_client.py"
    seen = await run_client(python, script, exported["alpha"].hfc, "application", "kv", key, environment=environment)
    assert (seen["submitted"], seen["value"]) == (key, "from hfc")
    assert seen["block"] == seen["height"] - 1
    assert seen["transactions"] > 0
