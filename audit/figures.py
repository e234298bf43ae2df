"""A job's figures as the ledger has them, so that what a summary claims can be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .report import MemberFigures, RoundFigures

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..chaincode.records import Attestation
    from .training import JobLinks, RoundLinks


def round_figures(links: JobLinks, recomputed: set[int]) -> tuple[RoundFigures, ...]:
    """Return the figures of each round in order."""
    return tuple(_round(one, one.record.number in recomputed) for _, one in sorted(links.rounds.items()))


def _round(links: RoundLinks, recomputed: bool) -> RoundFigures:
    record = links.record
    paid = {payment.msp: payment.amount for payment in record.payments}
    members = []
    for member in record.cohort:
        update = links.updates.get(member.msp)
        attestation = links.attestations.get(member.msp)
        members.append(
            MemberFigures(
                msp=member.msp,
                registered_samples=member.samples,
                samples=update.samples if update else None,
                counted=member.msp in record.counted,
                training=dict(update.metrics) if update else {},
                attested=attestation.outcome.digest if attestation else None,
                accepted=attestation.accept if attestation else None,
                evaluation_samples=attestation.samples if attestation else 0,
                evaluation=dict(attestation.metrics) if attestation else {},
                paid=paid.get(member.msp, "0"),
            )
        )
    outcome = record.outcome
    agreeing = [row for row in links.attestations.values() if outcome is not None and row.outcome == outcome]
    dissent = sorted(
        row.msp
        for row in links.attestations.values()
        if outcome is not None and (row.outcome != outcome or not row.accept)
    )
    return RoundFigures(
        number=record.number,
        state=record.state.value,
        quorum=record.quorum,
        opened_ms=record.opened_ms,
        members=tuple(members),
        outcome=outcome.digest if outcome else None,
        model=outcome.model.digest if outcome else None,
        recomputed=recomputed,
        dissent=tuple(dissent),
        global_metrics=_means(agreeing),
    )


def _means(rows: Iterable[Attestation]) -> dict[str, int]:
    """Return each metric's mean over the members that report it, weighted by their hold-outs' rows."""
    sums: dict[str, tuple[int, int]] = {}
    for row in rows:
        for name, value in row.metrics.items():
            total, weight = sums.get(name, (0, 0))
            sums[name] = (total + value * row.samples, weight + row.samples)
    return {name: total // weight for name, (total, weight) in sorted(sums.items()) if weight}
