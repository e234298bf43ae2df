"""Jobs and rounds as lines of text."""

from typing import TYPE_CHECKING

from .output import Format, chosen, show

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..chaincode.records import Job
    from ..gateway import RoundReport


def round_line(one: "RoundReport") -> str:
    """A round in one line: state, who takes part, the mean of the members' figures, what it gave."""
    record = one.round
    outcome = f" -> {record.outcome.digest[:16]}" if record.outcome else ""
    members = f"{len(one.updates)} updates, {len(one.attestations)} attestations of {len(record.cohort)}"
    took = f" in {(one.ended_ms - one.opened_ms) / 1000:.2f} s" if one.ended_ms else ""
    line = f"round {record.number:>3} {record.state.value:<7} {members}{took}  {figures(one.metrics)}{outcome}"
    failed = f" given up here: {one.own_failure}" if one.own_failure else ""
    return f"{line} {record.reason}".rstrip() + failed


def figures(metrics: "Mapping[str, int]") -> str:
    """Metrics of the ledger, units of 1e-6, for people; the seconds that stand beside them are left out."""
    shown = {name: value / 1e6 for name, value in sorted(metrics.items()) if not name.startswith("time.")}
    return " ".join(f"{name} {value:.4f}" for name, value in shown.items())


def money(job: "Job") -> str:
    """Where a job's budget is: paid, held, and gone back to whom."""
    held = int(job.escrowed)
    back = int(job.terms.budget) - int(job.paid) - held
    parts = ((job.paid, "tokens paid"), (held, "in escrow"), (back, f"back to {job.terms.payer}"))
    return ", ".join(f"{amount} {what}" for amount, what in parts if int(amount)) or "nothing paid"


def show_job(job: "Job", title: str) -> None:
    """A job's record: as JSON whole, as text what decides."""
    if chosen.format is Format.JSON:
        show(job)
        return
    plan = job.terms.plan
    show(
        {
            "job": job.id,
            "title": job.terms.title,
            "state": job.state.value + (f": {job.reason}" if job.reason else ""),
            "submitter": job.terms.submitter,
            "data": [f"{owner.dataset} v{owner.version} ({owner.samples} rows)" for owner in job.owners],
            "rounds": f"{job.rounds_final} of {plan.rounds} final",
            "algorithm": f"{plan.algorithm}, server {plan.optimizer.name}, clip {plan.clip}, {plan.privacy.value}",
            "budget": f"{job.terms.budget}: {money(job)}",
            "plan": plan.bundle.digest,
            "model": job.model.digest,
            "digest": job.digest,
        },
        title=title,
    )
