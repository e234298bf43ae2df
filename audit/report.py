"""What an audit says: numbered checks, the links that broke, and the job's figures read back from the ledger."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_FINDINGS: Final = 200
"""Findings that are kept; the rest is counted."""


class Check(StrEnum):
    """The checks in the order in which each leans on those before it."""

    GENESIS = "genesis"
    CHAIN = "chain"
    ORDERERS = "orderers"
    CONFIGURATION = "configuration"
    CREATORS = "creators"
    ENDORSEMENTS = "endorsements"
    VERSIONS = "versions"
    CONTRACTS = "contracts"
    TOKENS = "tokens"
    JOB = "job"
    GRANTS = "grants"
    APPROVALS = "approvals"
    UPDATES = "updates"
    BLOBS = "blobs"
    QUORUM = "quorum"
    AGGREGATE = "aggregate"
    PAYMENTS = "payments"

    @property
    def number(self) -> int:
        """The check's place in the report, from 0."""
        return list(Check).index(self)


TITLES: Final[Mapping[Check, str]] = {
    Check.GENESIS: "Block 0 has the hash that the auditor was given",
    Check.CHAIN: "Every block's data has the hash in its header, and every header that of the block before",
    Check.ORDERERS: "Every block is signed as the channel's configuration before it asks",
    Check.CONFIGURATION: "Every change of the configuration is signed as the elements that it changes ask",
    Check.CREATORS: "Every transaction is signed by a certificate of a member of the channel",
    Check.ENDORSEMENTS: "Every valid transaction is endorsed as its chaincode's policy asks",
    Check.VERSIONS: "Every valid transaction read the values that the ledger had",
    Check.CONTRACTS: "The contracts, run again, give the same answers, rows and events",
    Check.TOKENS: "No token is made but by a mint, and none is lost",
    Check.JOB: "The job is on the ledger",
    Check.GRANTS: "Each round's cohort had grants signed by the data sets' owners",
    Check.APPROVALS: "Each owner's own certificate approved the job's digest",
    Check.UPDATES: "Each round aggregates updates that members of its cohort signed",
    Check.BLOBS: "Plan, models and updates are the bytes that the ledger names",
    Check.QUORUM: "Each final round has a quorum of equal attestations, each signed by its own member",
    Check.AGGREGATE: "Each final round's model, computed again from its updates, is the one attested and the job's",
    Check.PAYMENTS: "Each final round paid what the job's terms say, and the rest went back",
}


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    NOTHING = "nothing to check"
    """The ledger holds nothing that it is about: no round of a refused job has a quorum to be checked."""
    FAILED = "failed"
    NOT_DONE = "not done"
    """Something that it needs is missing or broken; the findings say what."""


_SOUND: Final = frozenset({Outcome.PASSED, Outcome.NOTHING})


@dataclass(frozen=True)
class Finding:
    """A link that is broken. `link` names it, `text` says how."""

    check: Check
    link: str
    text: str


@dataclass(frozen=True)
class Remark:
    """What a member did wrong, on record, without breaking the job: `link` names it, `text` says how."""

    link: str
    text: str


@dataclass(frozen=True)
class CheckResult:
    """One check: how often it was made, and how it ended."""

    check: Check
    outcome: Outcome
    made: int

    @property
    def title(self) -> str:
        """What is checked, as a sentence."""
        return TITLES[self.check]


@dataclass(frozen=True)
class MemberFigures:
    """What one member of a round's cohort did. Metrics are integers in units of 1e-6, as on the ledger."""

    msp: str
    registered_samples: int
    samples: int | None
    """Of the update; None without one."""
    counted: bool
    training: Mapping[str, int]
    """Metrics of its own training."""
    attested: str | None
    """The outcome's digest that it attested; None where it did not."""
    accepted: bool | None
    evaluation_samples: int
    evaluation: Mapping[str, int]
    """Metrics of the new global model on its own hold-out."""
    paid: str
    """Tokens, as digits."""


@dataclass(frozen=True)
class RoundFigures:
    """One round as the ledger has it."""

    number: int
    state: str
    quorum: int
    opened_ms: int
    """Ledger time, milliseconds since 1970."""
    members: tuple[MemberFigures, ...]
    outcome: str | None
    model: str | None
    """The new global model's digest."""
    recomputed: bool
    """Whether the auditor computed the outcome again and got the same."""
    dissent: tuple[str, ...]
    """Members that attested another outcome than the final one, or refused it."""
    global_metrics: Mapping[str, int]
    """Means of the members' evaluations, weighted by their hold-outs' rows, rounded down, in units of 1e-6."""


@dataclass(frozen=True)
class Report:
    """The result of an audit. `verdict` is the short answer, the rest is why."""

    job: str
    channel: str
    genesis_hash: str
    height: int
    """Blocks read."""
    last_block_hash: str
    job_state: str
    budget: str
    paid: str
    model: str | None
    """The digest of the job's global model."""
    checks: tuple[CheckResult, ...]
    findings: tuple[Finding, ...]
    findings_left_out: int
    remarks: tuple[Remark, ...]
    remarks_left_out: int
    rounds: tuple[RoundFigures, ...]
    founders: tuple[str, ...]
    """The organisations that founded the consortium: compare them with what was agreed."""
    certificate_authorities: Mapping[str, tuple[str, ...]]
    """Per MSP of the genesis block, the SHA-256 fingerprints of its roots: compare them with the organisations'."""
    assumptions: tuple[str, ...] = field(default=())
    """What was taken as given."""

    @property
    def verified(self) -> bool:
        """Whether every check that there was something for was made and passed."""
        return all(result.outcome in _SOUND for result in self.checks)

    @property
    def verdict(self) -> str:
        """`verified`, or the first link that breaks."""
        if self.verified:
            return "verified"
        if self.findings:
            return f"broken: {self.findings[0].link}: {self.findings[0].text}"
        missing = next(result.check.value for result in self.checks if result.outcome not in _SOUND)
        return f"not verified: {missing} could not be checked"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data for JSON."""
        return {
            "v": 1,
            "verdict": self.verdict,
            "verified": self.verified,
            **asdict(self),
            "checks": [
                {
                    "number": result.check.number,
                    "check": result.check.value,
                    "title": result.title,
                    "outcome": result.outcome.value,
                    "made": result.made,
                }
                for result in self.checks
            ],
        }

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        marks = {
            Outcome.PASSED: "ok",
            Outcome.FAILED: "BROKEN",
            Outcome.NOT_DONE: "not done",
            Outcome.NOTHING: "nothing",
        }
        lines = [f"job {self.job} on channel {self.channel}: {self.verdict}"]
        if self.height:
            standing = f"; the job is {self.job_state}" if self.job_state else ""
            lines.append(f"as of block {self.height - 1}, whose hash is {self.last_block_hash}{standing}")
        lines += [
            f"{result.check.number:2} {marks[result.outcome]:8} {result.title} ({result.made})"
            for result in self.checks
        ]
        lines += [f"   {one.check.number:2} {one.link}: {one.text}" for one in self.findings]
        if self.findings_left_out:
            lines.append(f"   and {self.findings_left_out} findings more")
        lines += [f"on record: {one.link}: {one.text}" for one in self.remarks]
        if self.remarks_left_out:
            lines.append(f"on record: and {self.remarks_left_out} things more")
        lines += [f"taken as given: {one}" for one in self.assumptions]
        return lines


class Findings:
    """Collects checks and findings while an audit runs; bounded, whatever the ledger holds."""

    def __init__(self) -> None:
        self._made = dict.fromkeys(Check, 0)
        self._failed: set[Check] = set()
        self._not_done: set[Check] = set()
        self._findings: list[Finding] = []
        self._remarks: list[Remark] = []
        self._left_out = 0
        self._remarks_left_out = 0

    def made(self, check: Check, count: int = 1) -> None:
        """Count a check that was made."""
        self._made[check] += count

    def broken(self, check: Check, link: str, text: str) -> None:
        """Record a link that is broken."""
        self._failed.add(check)
        finding = Finding(check, link, text)
        if finding in self._findings:
            return
        if len(self._findings) < MAX_FINDINGS:
            self._findings.append(finding)
        else:
            self._left_out += 1

    def remark(self, link: str, text: str) -> None:
        """Record a member's misconduct that the rules took care of."""
        remark = Remark(link, text)
        if remark in self._remarks:
            return
        if len(self._remarks) < MAX_FINDINGS:
            self._remarks.append(remark)
        else:
            self._remarks_left_out += 1

    def not_done(self, *checks: Check) -> None:
        """Record checks that could not be made, or not to their end."""
        self._not_done.update(checks)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings in the order of their checks, each check's in the order of the ledger."""
        return tuple(sorted(self._findings, key=lambda finding: finding.check.number))

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """The remarks in the order of the ledger."""
        return tuple(self._remarks)

    @property
    def findings_left_out(self) -> int:
        """Findings beyond the most that are kept."""
        return self._left_out

    @property
    def remarks_left_out(self) -> int:
        """Remarks beyond the most that are kept."""
        return self._remarks_left_out

    def results(self) -> tuple[CheckResult, ...]:
        """Return every check's result."""
        return tuple(CheckResult(check, self._outcome(check), self._made[check]) for check in Check)

    def _outcome(self, check: Check) -> Outcome:
        if check in self._failed:
            return Outcome.FAILED
        if check in self._not_done:
            return Outcome.NOT_DONE
        return Outcome.PASSED if self._made[check] else Outcome.NOTHING
