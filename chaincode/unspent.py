"""Unspent rows: spending inputs and writing outputs, for every contract that moves tokens."""

from collections.abc import Sequence

from .call import Call
from .records import MAX_AMOUNT_DIGITS, Token, TokenInput, TokenRef, refusals, token_key

_LIMIT = 10**MAX_AMOUNT_DIGITS


async def spend(call: Call, owner: str, inputs: Sequence[TokenInput], field: str = "inputs") -> int:
    """Delete the named rows of ``owner`` and return their sum.

    Each row is read by its key, so that two transactions that spend the same row conflict when they commit.

    Raises:
        Duplicate: an input is named twice.
        TokenUnknown: a row is not there: spent already, or never written.
    """
    names = [(one.tx, one.n) for one in inputs]
    for position, name in enumerate(names):
        if name in names[:position]:
            raise refusals.Duplicate(f"{field}.{position}", "the same row is named twice")
    keys = [token_key(owner, one.tx, one.n) for one in inputs]
    total = 0
    for position, (key, row) in enumerate(zip(keys, await call.read_many(keys, Token), strict=True)):
        if row is None:
            raise refusals.TokenUnknown(
                f"{field}.{position}", f"{owner} has no such unspent row; was it spent already?"
            )
        total += int(row.amount)
        await call.delete(key)
    return total


async def spend_escrow(call: Call, escrow: TokenRef | None) -> int:
    """Delete an escrow's row and return what it held; 0 when there is none."""
    if escrow is None:
        return 0
    return await spend(call, escrow.owner, [TokenInput(tx=escrow.tx, n=escrow.n)], field="")


async def pay(call: Call, owner: str, amount: int) -> TokenRef | None:
    """Write an unspent row for ``owner`` and return its name; nothing and None when ``amount`` is 0.

    Raises:
        AmountOverflow: the amount has more than 30 digits.
    """
    return await write_row(call, owner, amount) if amount else None


async def write_row(call: Call, owner: str, amount: int, field: str = "") -> TokenRef:
    """Write an unspent row of a positive amount and return its name.

    Raises:
        AmountOverflow: the amount has more than 30 digits.
    """
    if amount >= _LIMIT:
        raise refusals.AmountOverflow(field, f"an amount has at most {MAX_AMOUNT_DIGITS} digits")
    row = Token(owner=owner, tx=call.tx, n=call.next_output(), amount=str(amount))
    await call.write(token_key(row.owner, row.tx, row.n), row)
    return row.ref


async def escrow(call: Call, payer: str, inputs: Sequence[TokenInput], amount: int, holder: str) -> TokenRef | None:
    """Spend rows of ``payer``, put ``amount`` into the escrow ``holder`` and give the change back.

    Raises:
        NotOwner: the caller does not own the account.
        SumsDiffer: the inputs are less than ``amount``, or given for nothing.
    """
    call.require_account(payer, "payer")
    if amount == 0:
        if inputs:
            raise refusals.SumsDiffer("inputs", "nothing is to be paid, so no rows are to be spent")
        return None
    total = await spend(call, payer, inputs)
    if total < amount:
        raise refusals.SumsDiffer("inputs", f"the rows named hold {total}, and {amount} is to be paid")
    held = await pay(call, holder, amount)
    await pay(call, payer, total - amount)
    return held
