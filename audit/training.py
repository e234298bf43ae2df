"""One job's links, derived again from its rows: grants, approvals, updates, quorums and payments.

The contracts' own rules are run again elsewhere (`replay`). Here the job's promises are derived a second time, from
the rows and from whose certificates signed them, in the auditor's own words.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ..chaincode.records import (
    AccessRequest,
    AccessState,
    Attestation,
    Consortium,
    Dataset,
    DatasetState,
    Decision,
    Grant,
    Job,
    Missing,
    Role,
    Round,
    RoundState,
    Token,
    Update,
    Verdict,
    access_grant_key,
    access_request_key,
    access_revocation_key,
    attestation_key,
    consortium_key,
    dataset_key,
    decision_key,
    job_key,
    missing_key,
    round_key,
    update_key,
)
from .report import Check, Findings
from .state import RecordBrokenError, State, Writer, read_record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..chaincode.records import CohortMember
    from ..fabric.blocks import NamespaceAccess

_PURPOSE: Final = "training"
_FOLLOWING: Final = {
    RoundState.OPEN: (RoundState.CLOSED, RoundState.ABORTED),
    RoundState.CLOSED: (RoundState.CLOSED, RoundState.FINAL, RoundState.ABORTED),
}
"""What a round may become; what is final or aborted stays so."""
_FIXED: Final = (
    "job",
    "number",
    "cohort",
    "total_samples",
    "quorum",
    "model",
    "optimizer_state",
    "window_ms",
    "opened_ms",
    "update_until_ms",
)
"""What a round keeps from its opening."""


@dataclass
class RoundLinks:
    """What the ledger says of one round: its record as it is now, and its members' rows."""

    record: Round
    updates: dict[str, Update] = field(default_factory=dict)
    attestations: dict[str, Attestation] = field(default_factory=dict)
    """Of the present attempt."""
    missing: dict[str, Missing] = field(default_factory=dict)
    """Of the present attempt."""


@dataclass
class JobLinks:
    """What the ledger says of the job; grows by its rounds alone."""

    job: Job | None = None
    rounds: dict[int, RoundLinks] = field(default_factory=dict)
    escrowed: int = 0
    """What the auditor holds to be in escrow."""


class JobAuditor:
    """Takes the writes of valid transactions, each before it is applied to the state."""

    def __init__(self, job: str, state: State, findings: Findings) -> None:
        self._id = job
        self._state = state
        self._findings = findings
        self.links = JobLinks()

    def take(self, access: NamespaceAccess, writer: Writer) -> None:
        """Check what one transaction wrote of the job."""
        writes = {write.key: write.value for write in access.writes if not write.is_delete}
        own_key = job_key(self._id)
        # By key, so that a round is taken before the next one that its finalising opens, in whatever order they stand.
        for key, value in sorted(writes.items()):
            try:
                self._take_row(key, value, writes, writer)
            except RecordBrokenError as error:
                self._findings.broken(Check.JOB, writer.place, str(error))
        if own_key in writes:
            try:
                self._take_job(read_record(writes[own_key], Job), writes, writer)
            except RecordBrokenError as error:
                self._findings.broken(Check.JOB, writer.place, str(error))

    def finish(self) -> None:
        """Say what could not be found."""
        self._findings.made(Check.JOB)
        if self.links.job is None:
            self._findings.broken(Check.JOB, f"job {self._id}", "no such job is on this ledger")
            self._findings.not_done(Check.GRANTS, Check.APPROVALS, Check.UPDATES, Check.QUORUM, Check.PAYMENTS)

    # -- rows

    def _take_row(self, key: str, value: bytes, writes: Mapping[str, bytes], writer: Writer) -> None:
        if self.links.job is None and job_key(self._id) not in writes:
            return
        number = len(self.links.rounds) + 1
        for candidate in (number, number - 1):
            if candidate < 1:
                continue
            if key == round_key(self._id, candidate):
                self._take_round(candidate, read_record(value, Round), writes, writer)
                return
            links = self.links.rounds.get(candidate)
            if links is None:
                continue
            for member in links.record.cohort:
                if key == update_key(self._id, candidate, member.msp):
                    self._take_update(links, member, read_record(value, Update), writer)
                    return
                if key == attestation_key(self._id, candidate, links.record.attempt, member.msp):
                    self._take_attestation(links, member, read_record(value, Attestation), writer)
                    return
                if key == missing_key(self._id, candidate, links.record.attempt, member.msp):
                    self._take_missing(links, member, read_record(value, Missing), writer)
                    return

    def _take_round(self, number: int, record: Round, writes: Mapping[str, bytes], writer: Writer) -> None:
        links = self.links.rounds.get(number)
        if links is None:
            self.links.rounds[number] = RoundLinks(record)
            self._check_opening(record, writes, writer)
            return
        before = links.record
        links.record = record
        link = f"round {number} of job {self._id}"
        for name in _FIXED:
            if getattr(before, name) != getattr(record, name):
                self._findings.broken(Check.UPDATES, link, f"{writer.place} changes its {name}, fixed at its opening")
        if record.state not in _FOLLOWING.get(before.state, ()):
            text = f"{writer.place} makes it {record.state.value}, and it was {before.state.value}"
            self._findings.broken(Check.UPDATES, link, text)
        elif record.state is RoundState.CLOSED:
            if before.state is RoundState.OPEN:
                self._check_closing(links, link, writer)
            else:
                self._check_recount(links, before, link)
            self._check_attest_deadline(record, link, writer)
        if record.state is RoundState.FINAL:
            if job_key(self._id) not in writes:
                self._findings.broken(Check.JOB, link, "final without its job's record")
            self._check_quorum(links, link)
            self._check_payments(links, link, writes, writer)

    def _take_update(self, links: RoundLinks, member: CohortMember, row: Update, writer: Writer) -> None:
        link = f"update of {member.msp} in round {row.round} of job {self._id}"
        self._findings.made(Check.UPDATES)
        self._require_signer(Check.UPDATES, link, writer, member.msp, Role.GATEWAY)
        if row.samples > member.samples:
            self._findings.broken(Check.UPDATES, link, f"claims {row.samples} samples, {member.samples} are registered")
        if (row.job, row.round, row.msp, row.attempt) != (
            self._id,
            links.record.number,
            member.msp,
            links.record.attempt,
        ):
            self._findings.broken(Check.UPDATES, link, "the row speaks of something else than its key")
        if writer.time_ms >= links.record.update_until_ms:
            self._findings.broken(Check.UPDATES, link, "came at or after the round's deadline")
        links.updates[member.msp] = row

    def _take_attestation(self, links: RoundLinks, member: CohortMember, row: Attestation, writer: Writer) -> None:
        link = f"attestation of {member.msp} in round {row.round} of job {self._id}"
        self._check_in_attempt(links, link, member, row, writer)
        links.attestations[member.msp] = row

    def _take_missing(self, links: RoundLinks, member: CohortMember, row: Missing, writer: Writer) -> None:
        link = f"word of {member.msp} on what it can't get in round {row.round} of job {self._id}"
        self._check_in_attempt(links, link, member, row, writer)
        links.missing[member.msp] = row

    def _check_in_attempt(
        self,
        links: RoundLinks,
        link: str,
        member: CohortMember,
        row: Attestation | Missing,
        writer: Writer,
    ) -> None:
        record = links.record
        check = Check.QUORUM if isinstance(row, Attestation) else Check.UPDATES
        self._findings.made(check)
        self._require_signer(check, link, writer, member.msp, Role.GATEWAY)
        if (row.job, row.round, row.attempt, row.msp) != (self._id, record.number, record.attempt, member.msp):
            self._findings.broken(check, link, "the row speaks of something else than its key")
        if writer.time_ms >= record.attest_until_ms:
            self._findings.broken(check, link, "came at or after the attestations' deadline")

    def _take_job(self, job: Job, writes: Mapping[str, bytes], writer: Writer) -> None:
        link = f"job {self._id}"
        before = self.links.job
        self._findings.made(Check.JOB)
        if job.digest != job.terms.digest:
            self._findings.broken(Check.JOB, link, f"its terms have the digest {job.terms.digest}, not {job.digest}")
        if before is None:
            self._require_signer(Check.JOB, link, writer, job.terms.submitter, Role.SCIENTIST)
            self.links.escrowed = _written(writes, f"job:{self._id}")
            self._findings.made(Check.PAYMENTS)
            if self.links.escrowed != int(job.terms.budget):
                self._findings.broken(
                    Check.PAYMENTS,
                    f"escrow of job {self._id}",
                    f"{self.links.escrowed} went into it, the budget is {job.terms.budget}",
                )
        elif (before.terms, before.digest) != (job.terms, job.digest):
            self._findings.broken(Check.JOB, link, f"{writer.place} changes its terms")
        self._check_model(job, before, link, writes, writer)
        if job.state.ended and (before is None or not before.state.ended):
            self._check_refund(job, before, writes, writer)
        self.links.job = job

    # -- what must hold

    def _check_model(
        self, job: Job, before: Job | None, link: str, writes: Mapping[str, bytes], writer: Writer
    ) -> None:
        """Check that a job's model and optimiser's state are its plan's first, then each final round's outcome."""
        expected = (job.terms.plan.model, None) if before is None else (before.model, before.optimizer_state)
        number = before.round if before else 0
        links = self.links.rounds.get(number)
        if links and round_key(self._id, number) in writes and links.record.state is RoundState.FINAL:
            outcome = links.record.outcome
            if outcome is None:
                return  # found as a broken link of the quorum
            expected = (outcome.model, outcome.state)
        for name, found, wanted in zip(
            ("model", "optimiser's state"), (job.model, job.optimizer_state), expected, strict=True
        ):
            if found != wanted:
                self._findings.broken(
                    Check.AGGREGATE,
                    link,
                    f"{writer.place} makes its {name} {found.digest if found else 'none'}, "
                    f"which must be {wanted.digest if wanted else 'none'}",
                )

    def _check_opening(self, record: Round, writes: Mapping[str, bytes], writer: Writer) -> None:
        link = f"round {record.number} of job {self._id}"
        job = read_record(writes[job_key(self._id)], Job) if job_key(self._id) in writes else self.links.job
        if job is None:
            return
        self._findings.made(Check.QUORUM)
        if record.quorum != len(record.cohort) // 2 + 1:
            self._findings.broken(
                Check.QUORUM, link, f"its quorum is {record.quorum} of {len(record.cohort)}, not more than half"
            )
        if record.total_samples != sum(member.samples for member in record.cohort):
            self._findings.broken(Check.UPDATES, link, "its total of samples is not the cohort's")
        if (record.model, record.optimizer_state) != (job.model, job.optimizer_state):
            self._findings.broken(
                Check.AGGREGATE, link, "it starts from another model or optimiser's state than the job's last one"
            )
        for member in record.cohort:
            name = f"{member.msp} in {link}"
            self._findings.made(Check.GRANTS)
            self._check_dataset(member, name)
            if member.grant is None:
                if member.msp != job.terms.submitter:
                    self._findings.broken(Check.GRANTS, name, "no grant is named, and the data are not the submitter's")
            else:
                self._check_grant(member, member.grant, job, name, writer.time_ms)
            self._findings.made(Check.APPROVALS)
            self._check_approval(member, job, name)

    def _check_dataset(self, member: CohortMember, link: str) -> None:
        found = self._state.record(dataset_key(member.dataset), Dataset)
        if found is None:
            self._findings.broken(Check.GRANTS, link, f"the data set {member.dataset} is not registered")
            return
        dataset, writer = found
        self._require_signer(Check.GRANTS, f"data set {member.dataset}", writer, member.msp, Role.STEWARD)
        if dataset.owner != member.msp or dataset.id != member.dataset:
            self._findings.broken(Check.GRANTS, link, f"the data set {member.dataset} is {dataset.owner}'s")
        if dataset.state is not DatasetState.ACTIVE:
            self._findings.broken(Check.GRANTS, link, f"the data set {member.dataset} had been retired")
        if dataset.version != member.version:
            self._findings.broken(
                Check.GRANTS, link, f"the data set {member.dataset} had version {dataset.version}, not {member.version}"
            )
        elif dataset.terms.samples != member.samples:
            self._findings.broken(
                Check.GRANTS, link, f"it counts {member.samples} samples, registered are {dataset.terms.samples}"
            )

    def _check_grant(self, member: CohortMember, request: str, job: Job, link: str, now_ms: int) -> None:
        asked = self._state.record(access_request_key(request), AccessRequest)
        granted = self._state.record(access_grant_key(request, member.msp), Grant)
        if asked is None or granted is None:
            self._findings.broken(Check.GRANTS, link, f"the owner has not granted {request}")
            return
        grant, writer = granted
        self._require_signer(Check.GRANTS, f"grant of {member.msp} for {request}", writer, member.msp, Role.STEWARD)
        named = (grant.request, grant.owner, grant.requester, grant.dataset, grant.version, grant.purpose)
        wanted = (request, member.msp, job.terms.submitter, member.dataset, member.version, _PURPOSE)
        if named != wanted:
            self._findings.broken(Check.GRANTS, link, f"the grant {request} is for something else")
        if grant.expires_ms and now_ms >= grant.expires_ms:
            self._findings.broken(Check.GRANTS, link, f"the grant {request} had expired")
        if asked[0].state is not AccessState.GRANTED or self._state.get(access_revocation_key(request, member.msp)):
            self._findings.broken(Check.GRANTS, link, f"the grant {request} did not stand when the round was opened")

    def _check_approval(self, member: CohortMember, job: Job, link: str) -> None:
        found = self._state.record(decision_key(self._id, member.msp), Decision)
        if found is None:
            self._findings.broken(Check.APPROVALS, link, "the owner has not approved the job")
            return
        decision, writer = found
        name = f"approval of {member.msp} for job {self._id}"
        self._require_signer(Check.APPROVALS, name, writer, member.msp, Role.STEWARD)
        if decision.verdict is not Verdict.APPROVED:
            self._findings.broken(Check.APPROVALS, name, "it is a refusal")
        if (decision.job, decision.msp, decision.digest) != (self._id, member.msp, job.terms.digest):
            self._findings.broken(Check.APPROVALS, name, f"it names the digest {decision.digest}, not the job's")
        if decision.privacy is not job.terms.plan.privacy:
            self._findings.broken(
                Check.APPROVALS,
                name,
                f"it is for the policy {decision.privacy.value}, the job's is {job.terms.plan.privacy.value}",
            )
        if (decision.dataset, decision.version) != (member.dataset, member.version):
            self._findings.broken(Check.APPROVALS, name, "it is for another data set or version")

    def _check_closing(self, links: RoundLinks, link: str, writer: Writer) -> None:
        record = links.record
        self._findings.made(Check.UPDATES)
        present = tuple(member.msp for member in record.cohort if member.msp in links.updates)
        if record.counted != present:
            self._findings.broken(
                Check.UPDATES, link, f"it counts {_names(record.counted)}, updates came from {_names(present)}"
            )
        over = writer.time_ms >= record.update_until_ms + 2 * max(record.window_ms, self._window_ms())
        if len(present) < len(record.cohort) and (not over or len(present) < record.quorum):
            self._findings.broken(
                Check.UPDATES, link, f"closed with {len(present)} of {len(record.cohort)} updates before its deadline"
            )

    def _check_attest_deadline(self, record: Round, link: str, writer: Writer) -> None:
        until = writer.time_ms + (self.links.job.terms.plan.attest_ms if self.links.job else 0)
        if record.attest_until_ms != until:
            self._findings.broken(
                Check.QUORUM, link, f"{writer.place} has it attested until {record.attest_until_ms}, not {until}"
            )

    def _window_ms(self) -> int:
        """Return w of the consortium's present record."""
        found = self._state.record(consortium_key(), Consortium)
        return found[0].window_ms if found else 0

    def _check_recount(self, links: RoundLinks, before: Round, link: str) -> None:
        """Check an attempt that a quorum's word on missing updates opened; what was said before it is over."""
        record = links.record
        self._findings.made(Check.UPDATES)
        times = Counter(msp for row in links.missing.values() for msp in row.members)
        lost = {msp for msp, said in times.items() if said >= record.quorum}
        if record.attempt != before.attempt + 1:
            self._findings.broken(Check.UPDATES, link, f"its attempt {before.attempt} is followed by {record.attempt}")
        accepted = Counter(row.outcome for row in links.attestations.values() if row.accept)
        if any(accepting >= record.quorum for accepting in accepted.values()):
            self._findings.broken(Check.QUORUM, link, "it is counted anew, though a quorum had agreed on an outcome")
        if record.withheld != tuple(sorted({*before.withheld, *lost})):
            self._findings.broken(
                Check.UPDATES,
                link,
                f"it names {_names(record.withheld)} as withholding after {_names(before.withheld)}, "
                f"a quorum misses the updates of {_names(sorted(lost))}",
            )
        if not lost:
            self._findings.broken(Check.UPDATES, link, "it is counted anew, though no quorum misses an update")
        if record.counted != tuple(msp for msp in before.counted if msp not in lost):
            self._findings.broken(
                Check.UPDATES,
                link,
                f"it counts {_names(record.counted)} of {_names(before.counted)}, though a quorum misses those of "
                f"{_names(sorted(lost))}",
            )
        if len(record.counted) < record.quorum:
            self._findings.broken(
                Check.UPDATES, link, f"it goes on with {len(record.counted)} updates, fewer than its quorum"
            )
        for msp in sorted(lost):
            self._findings.remark(
                f"update of {msp} in {link}",
                "a quorum could not get what it had committed; it was left out, and is not paid",
            )
        links.attestations, links.missing = {}, {}

    def _check_quorum(self, links: RoundLinks, link: str) -> None:
        record = links.record
        self._findings.made(Check.QUORUM)
        outcome = record.outcome
        if outcome is None:
            self._findings.broken(Check.QUORUM, link, "final without an outcome")
            return
        agreeing = [row.msp for row in links.attestations.values() if row.outcome == outcome and row.accept]
        if len(agreeing) < record.quorum:
            self._findings.broken(
                Check.QUORUM,
                link,
                f"{_names(sorted(agreeing))} attest its outcome and accept it, {record.quorum} are needed",
            )
        for row in links.attestations.values():
            if row.outcome != outcome:
                self._findings.remark(
                    f"attestation of {row.msp} in {link}",
                    f"it says {row.outcome.digest}, the quorum's outcome is {outcome.digest}",
                )
            elif not row.accept:
                self._findings.remark(f"attestation of {row.msp} in {link}", "it refuses the quorum's outcome")
        said = sorted((row.msp, row.outcome.digest, row.accept) for row in links.attestations.values())
        if said != [(one.msp, one.outcome, one.accept) for one in record.attestations]:
            self._findings.broken(Check.QUORUM, link, "its list of who said what is not that of the attestations")

    def _check_payments(self, links: RoundLinks, link: str, writes: Mapping[str, bytes], writer: Writer) -> None:
        job, record = self.links.job, links.record
        if job is None or record.outcome is None:
            return
        attesters = {row.msp for row in links.attestations.values() if row.outcome == record.outcome}
        summed = record.outcome.summed
        if not set(summed) <= set(record.counted):
            self._findings.broken(Check.PAYMENTS, link, "its outcome sums updates that it does not count")
        parts = {msp: (msp in summed) + (msp in attesters) for msp in {*summed, *attesters}}
        share = int(job.terms.budget) // job.terms.plan.rounds // max(sum(parts.values()), 1)
        recorded = {payment.msp: int(payment.amount) for payment in record.payments}
        for msp in sorted(parts.keys() | recorded.keys()):
            self._findings.made(Check.PAYMENTS)
            name = f"payment of {msp} for {link}"
            owed = share * parts.get(msp, 0)
            if recorded.get(msp, 0) != owed:
                self._findings.broken(
                    Check.PAYMENTS, name, f"the record says {recorded.get(msp, 0)}, the terms give {owed}"
                )
            paid = _written(writes, msp) - self._refunded(job, msp, writes, share * sum(parts.values()))
            if paid != owed:
                self._findings.broken(
                    Check.PAYMENTS, name, f"{writer.place} writes {paid} for it, the terms give {owed}"
                )
        self.links.escrowed -= share * sum(parts.values())

    def _refunded(self, job: Job, msp: str, writes: Mapping[str, bytes], spent: int) -> int:
        """Return what of an account's rows in a final round is the rest of the budget going back to its payer."""
        ended = job_key(self._id) in writes and read_record(writes[job_key(self._id)], Job).state.ended
        return self.links.escrowed - spent if ended and msp == job.terms.payer else 0

    def _check_refund(self, job: Job, before: Job | None, writes: Mapping[str, bytes], writer: Writer) -> None:
        self._findings.made(Check.PAYMENTS)
        link = f"refund of job {self._id}"
        payments = 0
        number = before.round if before else 0
        links = self.links.rounds.get(number)
        if links is not None and round_key(self._id, number) in writes and links.record.state is RoundState.FINAL:
            payments = sum(int(one.amount) for one in links.record.payments if one.msp == job.terms.payer)
        back = _written(writes, job.terms.payer) - payments
        if back != self.links.escrowed:
            self._findings.broken(
                Check.PAYMENTS, link, f"{writer.place} gives {back} back, {self.links.escrowed} are left of the budget"
            )
        self.links.escrowed = 0

    def _require_signer(self, check: Check, link: str, writer: Writer, msp: str, role: Role) -> None:
        if (writer.msp, writer.role) != (msp, role.value):
            self._findings.broken(
                check,
                link,
                f"signed by {writer.msp or 'nobody'} as {writer.role or 'nothing'}, not by {msp}'s {role.value}",
            )


def _written(writes: Mapping[str, bytes], owner: str) -> int:
    """Return the sum of the token rows that a transaction writes for an owner."""
    total = 0
    for key, value in writes.items():
        if key.startswith("\x00token\x00"):
            token = read_record(value, Token)
            total += int(token.amount) if token.owner == owner else 0
    return total


def _names(msps: tuple[str, ...] | list[str]) -> str:
    return ", ".join(msps) or "nobody"
