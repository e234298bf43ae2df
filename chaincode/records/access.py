"""Requests for access to a data set, and the owner's rows: grant, revocation, uses."""

from enum import StrEnum
from typing import Literal

from .canonical import Record
from .fields import Account, AmountOrZero, DatasetId, Digest, Id, Line, MspId, Positive, Timestamp
from .tokens import Inputs, TokenRef


class AccessState(StrEnum):
    """Where a request stands."""

    REQUESTED = "requested"
    GRANTED = "granted"
    REVOKED = "revoked"
    WITHDRAWN = "withdrawn"


class RequestAccess(Record):
    """Request of ``access:request``; the grantee is the caller's organisation."""

    id: Id
    dataset: DatasetId
    version: Positive
    """The version that the caller saw."""
    purpose: Id
    """One of the data set's permitted purposes."""
    payer: Account | None = None
    """Whose rows pay the price; the caller's organisation when None."""
    inputs: Inputs = ()
    """Rows that cover the data set's price; none when it is free."""
    note: Line = ""


class GrantAccess(Record):
    """Request of ``access:grant``, by the data set's owner; the escrow becomes the owner's."""

    id: Id
    expires_ms: Timestamp = 0
    """Ledger time from which the grant serves no longer, 0 for never."""


class RevokeAccess(Record):
    """Request of ``access:revoke``, by the data set's owner: no release and no round under it any more."""

    id: Id
    reason: Line = ""


class WithdrawAccess(Record):
    """Request of ``access:withdraw``, by the requester before a grant; the escrow goes back."""

    id: Id


class UseAccess(Record):
    """Request of ``access:use``, by the owner's gateway before a byte is released or a trainer starts."""

    id: Id
    operation: Id
    """What the use is for, unique within the grant: a job's round, a download."""
    detail: Line = ""


class ShowAccess(Record):
    """Request of ``access:show``."""

    id: Id


class AccessRequest(Record):
    """The state record of a request. Digest, version and price are the data set's when it was made."""

    v: Literal[1] = 1
    id: Id
    requester: MspId
    dataset: DatasetId
    owner: MspId
    version: Positive
    digest: Digest
    purpose: Id
    price: AmountOrZero
    payer: Account
    escrow: TokenRef | None
    """The row that holds the price until the owner grants or the requester withdraws."""
    note: Line
    state: AccessState
    expires_ms: Timestamp = 0


class Grant(Record):
    """The owner's grant. Write-once."""

    v: Literal[1] = 1
    request: Id
    owner: MspId
    requester: MspId
    dataset: DatasetId
    version: Positive
    digest: Digest
    purpose: Id
    expires_ms: Timestamp


class Revocation(Record):
    """The owner's revocation of its grant. Write-once."""

    v: Literal[1] = 1
    request: Id
    owner: MspId
    reason: Line


class Use(Record):
    """One use of a grant, recorded before it. Write-once."""

    v: Literal[1] = 1
    request: Id
    owner: MspId
    operation: Id
    detail: Line


class AccessView(Record):
    """Answer of ``access:show``."""

    request: AccessRequest
    uses: tuple[Use, ...]
