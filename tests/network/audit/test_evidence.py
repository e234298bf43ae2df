"""What a real network wrote is verified offline, and what was changed in a copy of it is found."""

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from fedfabric.audit import AuditSettings, Check, verify_job
from fedfabric.fabric.blocks import block_file_name, read_blocks
from fedfabric.tests.network.audit.conftest import CHAINCODE, Evidence
from fedfabric.tests.unit.audit.ledger import JOB

SETTINGS = AuditSettings(chaincode=CHAINCODE)


@pytest.fixture
def copy(evidence: Evidence, tmp_path: Path) -> Path:
    shutil.copytree(evidence.folder, tmp_path / "copy")
    return tmp_path / "copy"


def broken(report, check: Check) -> str:
    return "\n".join(f"{one.link}: {one.text}" for one in report.findings if one.check is check)


def test_a_real_jobs_evidence_is_verified(evidence: Evidence) -> None:
    report = verify_job(evidence.folder, None, evidence.genesis_hash, JOB, SETTINGS)
    assert report.findings == ()
    assert report.verified
    assert [one.state for one in report.rounds] == ["final", "final"]
    assert [one.dissent for one in report.rounds] == [("HungaryMSP",), ()]
    assert all(one.recomputed for one in report.rounds)
    assert set(report.certificate_authorities) >= {"ClevelandMSP", "HungaryMSP", "SwitzerlandMSP"}


def test_a_copied_folder_is_verified_where_there_is_no_network(evidence: Evidence, copy: Path) -> None:
    program = textwrap.dedent(
        """
        import json, socket, sys
        from pathlib import Path
        from fedfabric.audit import AuditSettings, verify_job

        folder, genesis_hash, job, chaincode = sys.argv[1:]
        interfaces = [name for _, name in socket.if_nameindex()]
        report = verify_job(Path(folder), None, genesis_hash, job, AuditSettings(chaincode=chaincode))
        print(json.dumps({"interfaces": interfaces, "verdict": report.verdict}))
        """
    )
    shut = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*shut, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make a network namespace")
    done = subprocess.run(
        [*shut, sys.executable, "-c", program, str(copy), evidence.genesis_hash, JOB, CHAINCODE],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["verdict"] == "verified"
    assert set(said["interfaces"]) <= {"lo"}


def test_a_changed_update_in_a_real_block_is_named(evidence: Evidence, copy: Path) -> None:
    digest = evidence.run.updates[0]["blob"]["digest"].encode()
    number = next(
        block.number
        for block in read_blocks(copy / "blocks")
        for transaction in block.transactions
        if transaction.action and any(digest in argument for argument in transaction.action.arguments)
    )
    path = copy / "blocks" / block_file_name(number)
    path.write_bytes(path.read_bytes().replace(digest, b"ab" * 32))
    report = verify_job(copy, None, evidence.genesis_hash, JOB, SETTINGS)
    assert f"block {number}: its transactions have the hash" in broken(report, Check.CHAIN)
    assert f"block {number}" in report.verdict
    assert "training:update job heart round 1 by ClevelandMSP" in broken(report, Check.CREATORS)


def test_a_changed_blob_is_named(evidence: Evidence, copy: Path) -> None:
    address = evidence.run.updates[-1]["blob"]["address"]
    path = copy / "blobs" / address
    data = bytearray(path.read_bytes())
    data[-1] ^= 0x80
    path.write_bytes(bytes(data))
    report = verify_job(copy, None, evidence.genesis_hash, JOB, SETTINGS)
    assert f"update of SwitzerlandMSP in round 2 of job {JOB}: blob {address}" in broken(report, Check.BLOBS)
