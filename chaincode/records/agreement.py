"""What a round's attestations add up to. Pure: the same rows give the same answer everywhere."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .training import Attestation, AttestationSummary, Missing, Outcome


@dataclass(frozen=True)
class Camp:
    """Members that attested one outcome."""

    outcome: Outcome
    members: tuple[str, ...]
    """In the order of MSP ids."""
    accepting: int


def camps(attestations: Sequence[Attestation]) -> tuple[Camp, ...]:
    """The attestations grouped by their whole outcome, in the order of each camp's first member."""
    ordered = sorted(attestations, key=lambda row: row.msp)
    outcomes = list(dict.fromkeys(row.outcome for row in ordered))
    return tuple(
        Camp(
            outcome,
            tuple(row.msp for row in ordered if row.outcome == outcome),
            sum(row.accept for row in ordered if row.outcome == outcome),
        )
        for outcome in outcomes
    )


def winner(found: Sequence[Camp], quorum: int) -> Camp | None:
    """The camp whose accepting members are a quorum; more than half of a cohort can be in one camp only."""
    return next((camp for camp in found if camp.accepting >= quorum), None)


def out_of_reach(found: Sequence[Camp], quorum: int, silent: int) -> bool:
    """Whether no outcome can reach the quorum, even if the ``silent`` members all accepted the same one."""
    best = max((camp.accepting for camp in found), default=0)
    return best + silent < quorum


def missed(rows: Sequence[Missing], quorum: int) -> tuple[str, ...]:
    """The members whose updates at least a quorum can't get, in the order of MSP ids."""
    named = Counter(msp for row in rows for msp in row.members)
    return tuple(sorted(msp for msp, times in named.items() if times >= quorum))


def summaries(attestations: Sequence[Attestation]) -> tuple[AttestationSummary, ...]:
    """Who said what, in the order of MSP ids."""
    return tuple(
        AttestationSummary(msp=row.msp, outcome=row.outcome.digest, accept=row.accept)
        for row in sorted(attestations, key=lambda row: row.msp)
    )
