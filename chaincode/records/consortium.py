"""Who the members are, and the rows by which a majority of them changes that."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .canonical import Record, tagged_hash
from .fields import Digest, Endpoint, MspId, Positive, Role, Window
from .patterns import matching

HpkeKey = Annotated[str, matching("([0-9a-f]{2}){0,2048}", 4096, "bytes in lower-case hexadecimal, or empty")]
"""Public key for messages to an organisation (HPKE), hexadecimal, or nothing."""


class Member(Record):
    """An organisation of the consortium."""

    msp: MspId
    gateway: Endpoint = ""
    """Where its gateway listens."""
    hpke_key: HpkeKey = ""
    roles: Annotated[tuple[Role, ...], Field(max_length=5)] = tuple(Role)
    """Roles that its certificates may act in; the dispatcher refuses others."""


Members = Annotated[tuple[Member, ...], Field(min_length=1, max_length=256)]


class ConsortiumChange(Record):
    """The consortium's record number ``sequence``, as proposed: the whole list, not a difference."""

    v: Literal[1] = 1
    sequence: Annotated[int, Field(ge=1, le=999_999)]
    """One more than the present record's; 1 founds."""
    members: Members
    window_ms: Window = 5000

    @model_validator(mode="after")
    def _sorted(self) -> Self:
        names = [member.msp for member in self.members]
        if names != sorted(set(names)):
            raise ValueError("members must be unique and in the order of their MSP ids")
        return self

    @property
    def digest(self) -> str:
        """What an approval names."""
        return tagged_hash("consortium-change", self.canonical())


class Consortium(Record):
    """The present members; every quorum is of them, or of a list copied from them."""

    v: Literal[1] = 1
    sequence: Positive
    members: Members
    window_ms: Window
    approvers: tuple[MspId, ...]
    """Whose approvals made this record the present one."""

    def member(self, msp: str) -> Member | None:
        """The member with this MSP id, if there is one."""
        return next((member for member in self.members if member.msp == msp), None)


class ConsortiumApproval(Record):
    """One member's (or founder's) approval of a change. Write-once."""

    v: Literal[1] = 1
    msp: MspId
    digest: Digest
    change: ConsortiumChange


class ConsortiumRequest(Record):
    """Request of ``consortium:show``."""


class ConsortiumView(Record):
    """Answer of ``consortium:show``."""

    consortium: Consortium | None
    """None before the founding."""
    approvals: tuple[ConsortiumApproval, ...]
    """Of changes that would be the next."""
