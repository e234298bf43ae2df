"""What an audit finds: nothing in an honest ledger, and each link that was tampered with, by its name."""

import copy

import pytest
from fedfabric.audit import Check, Outcome, verify_job
from fedfabric.tests.unit.audit.ledger import JOB, MEMBERS, Run, RunSettings


@pytest.fixture(scope="session")
async def honest(tmp_path_factory):
    return await Run(tmp_path_factory.mktemp("honest"), RunSettings(liar="HungaryMSP", late="VaMSP")).run()


@pytest.fixture
def ledger(honest):
    return copy.copy(honest.ledger)


def verify(ledger, folder, job=JOB):
    return verify_job(ledger.write(folder), None, ledger.genesis_hash, job)


async def test_an_honest_job_is_verified_from_end_to_end(honest, tmp_path):
    report = verify(honest.ledger, tmp_path)
    assert report.findings == ()
    assert report.verified
    assert report.verdict == "verified"
    assert [result.outcome for result in report.checks] == [Outcome.PASSED] * len(Check)
