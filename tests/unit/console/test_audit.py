"""What `audit verify` says of evidence that is not for the job that was named."""

import pytest
from fedfabric.console import main
from fedfabric.console.exit_codes import ExitCode
from fedfabric.gateway.client_audit import _EXPORT_README
from fedfabric.tests.unit.audit.ledger import JOB, Run


@pytest.fixture(scope="module")
async def honest(tmp_path_factory):
    return await Run(tmp_path_factory.mktemp("run")).run()


@pytest.fixture
def evidence(honest, tmp_path):
    return honest.ledger.write(tmp_path / "evidence")


def verify(capsys, honest, folder, job):
    status = main(["audit", "verify", str(folder), job, "--genesis", honest.ledger.genesis_hash])
    return status, *capsys.readouterr()


def test_a_job_that_is_not_on_the_ledger_is_not_found_and_those_that_are_there_are_named(capsys, honest, evidence):
    (evidence / "README.txt").write_text(_EXPORT_README.format(job=JOB))
    status, out, err = verify(capsys, honest, evidence, "nosuch")
    assert status == ExitCode.NOT_FOUND
    assert out == ""
    assert "no job nosuch is on this ledger; the folder was exported for heart" in err
    assert "name one of heart" in err
    assert verify(capsys, honest, evidence, JOB)[0] == ExitCode.SUCCESS


def test_a_folder_exported_for_another_job_says_so_where_the_audit_fails(capsys, honest, evidence):
    (evidence / "README.txt").write_text(_EXPORT_README.format(job="lungs"))
    for blob in (evidence / "blobs").iterdir():
        blob.unlink()
    status, out, _ = verify(capsys, honest, evidence, JOB)
    assert status == ExitCode.AUDIT_FAILED
    assert "exported for the job lungs" in out
