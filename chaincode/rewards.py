"""What a round pays: equal parts to the updates in the sum and to the attesters of the final outcome."""

from collections.abc import Collection

from .records import Payment


def payments(budget: int, rounds: int, summed: Collection[str], attesters: Collection[str]) -> tuple[Payment, ...]:
    """Divide one round's share of a budget, in the order of MSP ids.

    A round has ``budget // rounds``; a part is that divided by the number of parts, rounded down. A member has one
    part for its update and one for its attestation. What the divisions leave stays in escrow and goes back at the
    job's end, so no token is lost or made.
    """
    parts = {msp: (msp in summed) + (msp in attesters) for msp in sorted({*summed, *attesters})}
    part = budget // rounds // sum(parts.values()) if parts else 0
    return tuple(Payment(msp=msp, parts=number, amount=str(part * number)) for msp, number in parts.items())
