"""A report's own rules: what a verdict says, how much is kept, and that the documents name every check."""

from pathlib import Path

import pytest
from fedfabric.audit import Check, Outcome
from fedfabric.audit.report import MAX_FINDINGS, TITLES, Findings, Report

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "audit.md"


def report(findings: Findings) -> Report:
    return Report(
        job="j",
        channel="c",
        genesis_hash="00",
        height=1,
        last_block_hash="00",
        job_state="finished",
        budget="0",
        paid="0",
        model=None,
        checks=findings.results(),
        findings=findings.findings,
        findings_left_out=findings.findings_left_out,
        remarks=findings.remarks,
        remarks_left_out=findings.remarks_left_out,
        rounds=(),
        founders=(),
        certificate_authorities={},
        assumptions=("the sun rises",),
    )


def test_the_reference_names_every_check_in_its_place():
    listed = [line for line in REFERENCE.read_text().splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert listed == [f"| {check.number} | {check.value} | {TITLES[check]} |" for check in Check]


def test_all_checks_passed_is_verified():
    assert report(Findings()).verdict == "verified"


def test_the_verdict_is_the_first_broken_link_in_the_order_of_checks():
    findings = Findings()
    findings.broken(Check.PAYMENTS, "payment of A", "too much")
    findings.broken(Check.CHAIN, "block 3", "another hash")
    findings.not_done(Check.AGGREGATE)
    findings.made(Check.TOKENS)
    said = report(findings)
    assert said.verdict == "broken: block 3: another hash"
    assert [one.link for one in said.findings] == ["block 3", "payment of A"]
    outcomes = {one.check: one.outcome for one in said.checks}
    assert outcomes[Check.CHAIN] is Outcome.FAILED
    assert outcomes[Check.AGGREGATE] is Outcome.NOT_DONE
    assert outcomes[Check.TOKENS] is Outcome.PASSED


def test_a_check_for_which_there_was_nothing_says_so():
    findings = Findings()
    findings.made(Check.JOB)
    said = report(findings)
    outcomes = {one.check: one.outcome for one in said.checks}
    assert (outcomes[Check.JOB], outcomes[Check.QUORUM]) == (Outcome.PASSED, Outcome.NOTHING)
    assert said.verified
    line = next(line for line in said.lines() if TITLES[Check.QUORUM] in line)
    assert "nothing" in line
    assert "ok" not in line


def test_a_check_that_was_not_done_is_not_verified():
    findings = Findings()
    findings.not_done(Check.BLOBS)
    assert report(findings).verdict == "not verified: blobs could not be checked"
    assert not report(findings).verified


def test_findings_are_kept_once_and_bounded():
    findings = Findings()
    for number in range(MAX_FINDINGS + 5):
        findings.broken(Check.CHAIN, f"block {number}", "flaw")
        findings.broken(Check.CHAIN, f"block {number}", "flaw")
        findings.remark(f"row {number}", "odd")
        findings.remark(f"row {number}", "odd")
    said = report(findings)
    assert len(said.findings) == len(said.remarks) == MAX_FINDINGS
    assert said.findings_left_out >= 5
    assert any("findings more" in line for line in said.lines())
    assert said.remarks[1].link == "row 1"
    assert said.remarks_left_out >= 5
    assert any("things more" in line for line in said.lines())


@pytest.mark.parametrize(
    "text",
    [
        "BROKEN",
        "as of block 0, whose hash is 00; the job is finished",
        "on record: row",
        "taken as given: the sun rises",
        " 1 BROKEN",
    ],
)
def test_lines_say(text):
    findings = Findings()
    findings.broken(Check.CHAIN, "block 3", "another hash")
    findings.remark("row", "odd")
    assert any(text in line for line in report(findings).lines())
