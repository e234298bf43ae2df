"""Tokens: unspent rows. A transaction names the rows that it spends; the sums of inputs and outputs are equal."""

from typing import Annotated, Literal

from pydantic import Field

from .canonical import Record
from .fields import Account, Amount, Id, MspId, TokenOwner, TransactionId

RowNumber = Annotated[int, Field(ge=0, le=9999)]


class TokenRef(Record):
    """Names an unspent row."""

    owner: TokenOwner
    tx: TransactionId
    """The transaction that wrote the row."""
    n: RowNumber
    """Its place among that transaction's outputs."""


class TokenInput(Record):
    """Names an unspent row of the account that pays."""

    tx: TransactionId
    n: RowNumber


Inputs = Annotated[tuple[TokenInput, ...], Field(max_length=64)]


class Token(Record):
    """An unspent row; it is deleted when it is spent."""

    v: Literal[1] = 1
    owner: TokenOwner
    tx: TransactionId
    n: RowNumber
    amount: Amount

    @property
    def ref(self) -> TokenRef:
        """The row's name."""
        return TokenRef(owner=self.owner, tx=self.tx, n=self.n)


class Output(Record):
    """Tokens for an account."""

    owner: Account
    amount: Amount


class MintRequest(Record):
    """Request of ``tokens:approve`` and of ``tokens:mint``: equal approvals of a quorum of members, then the mint."""

    id: Id
    owner: Account
    amount: Amount


class MintApproval(Record):
    """One member's approval of a mint. Write-once."""

    v: Literal[1] = 1
    msp: MspId
    mint: MintRequest


class Mint(Record):
    """A mint that was carried out. Write-once, so that an id mints once."""

    v: Literal[1] = 1
    mint: MintRequest
    token: TokenRef
    approvers: tuple[MspId, ...]


class TransferRequest(Record):
    """Request of ``tokens:transfer``: merge, split or pay."""

    owner: Account
    """Whose rows are spent: the caller's organisation, or ``MSP/enrolment id`` of the caller."""
    inputs: Annotated[tuple[TokenInput, ...], Field(min_length=1, max_length=64)]
    outputs: Annotated[tuple[Output, ...], Field(min_length=1, max_length=64)]


class Transfer(Record):
    """Answer of ``tokens:transfer``: the rows written, in the order of the outputs."""

    tokens: tuple[TokenRef, ...]


class BalanceRequest(Record):
    """Request of ``tokens:balance``."""

    owner: TokenOwner


class Balance(Record):
    """An owner's unspent rows. The total is a string of digits without bound."""

    owner: TokenOwner
    total: str
    tokens: tuple[Token, ...]
