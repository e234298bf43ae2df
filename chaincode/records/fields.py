"""Types of single fields: what characters, how many, in which range."""

import re
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from .canonical import MAX_INTEGER, Record

MAX_AMOUNT_DIGITS = 30

Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", max_length=64)]
"""A name chosen by a caller."""
MspId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", max_length=64)]
"""An organisation, by the MSP id of its certificates."""
DatasetId = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}/[a-z0-9][a-z0-9._-]{0,63}$", max_length=129),
]
"""A data set: ``MSP/name``."""
Account = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}(/[A-Za-z0-9][A-Za-z0-9._@-]{0,63})?$", max_length=129),
]
"""An owner of tokens: an organisation (``MSP``) or one certificate's holder in it (``MSP/enrolment id``)."""
TokenOwner = Annotated[
    str,
    StringConstraints(
        pattern=r"^((job|request):[a-z0-9][a-z0-9._-]{0,63}"
        r"|[A-Za-z0-9][A-Za-z0-9._-]{0,63}(/[A-Za-z0-9][A-Za-z0-9._@-]{0,63})?)$",
        max_length=129,
    ),
]
"""An account, or an escrow that only a contract moves: ``job:ID``, ``request:ID``."""
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$", max_length=64)]
"""SHA-256 in lower-case hexadecimal."""
TransactionId = Digest
Amount = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,29}$", max_length=MAX_AMOUNT_DIGITS)]
"""Tokens: a positive integer as a string of at most 30 digits."""
AmountOrZero = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,29})$", max_length=MAX_AMOUNT_DIGITS)]
"""Tokens, none allowed."""
Decimal = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,11})(\.[0-9]{1,17})?$", max_length=30)]
"""A non-negative number as decimal digits (``0.001``); who computes with it reads it as float64."""
Endpoint = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9.-]{1,253}:[1-9][0-9]{0,4})?$", max_length=259)]
"""``host:port``, or nothing when not yet known."""
Natural = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Positive = Annotated[int, Field(ge=1, le=MAX_INTEGER)]
Integer = Annotated[int, Field(ge=-MAX_INTEGER, le=MAX_INTEGER)]
Samples = Annotated[int, Field(ge=1, le=2**44)]
"""Rows of a data set; bounded so that a cohort's sum is an integer of canonical JSON."""
Duration = Annotated[int, Field(ge=1, le=31 * 24 * 3600 * 1000)]
"""Milliseconds, at most 31 days."""
Timestamp = Natural
"""Milliseconds since 1970 (UTC), of the ledger's time."""
Window = Annotated[int, Field(ge=100, le=900_000)]
"""w: how far a proposal's timestamp may be from an endorser's clock, in milliseconds."""
RoundNumber = Annotated[int, Field(ge=1, le=100_000)]

# C0 and C1 controls, line and paragraph separators, direction overrides, the byte order mark: they make one text
# look like another on an approver's screen.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def _readable(text: str) -> str:
    found = _UNSAFE.search(text)
    if found:
        raise ValueError(f"holds the control character U+{ord(found.group()):04X} at position {found.start()}")
    return text


def _positive(text: str) -> str:
    if not text.strip("0."):
        raise ValueError("must be more than 0")
    return text


PositiveDecimal = Annotated[Decimal, AfterValidator(_positive)]
"""As Decimal, and not 0."""
Line = Annotated[str, StringConstraints(max_length=200), AfterValidator(_readable)]
"""One line of text for people, without control characters."""
Text = Annotated[str, StringConstraints(max_length=2000), AfterValidator(_readable)]
"""A paragraph for people, without control characters."""
Metrics = Annotated[dict[Id, Integer], Field(max_length=32)]
"""Figures by name, in units of 1e-6."""


class Role(StrEnum):
    """What a certificate's holder does, from its attribute ``fedfabric.role``."""

    OPERATOR = "operator"
    STEWARD = "steward"
    SCIENTIST = "scientist"
    AUDITOR = "auditor"
    GATEWAY = "gateway"


class Blob(Record):
    """Bytes kept off the ledger: where a blob store finds them and what they must hash to."""

    address: Digest
    """Merkle root under which blob stores keep the bytes."""
    digest: Digest
    """Tagged hash of what the bytes mean: a plan's bundle, a model's canonical manifest, a data set's plaintext."""
    size: Positive
    """Bytes."""


def quorum(members: int) -> int:
    """More than half of ``members``: the quorum of every decision on the ledger."""
    return members // 2 + 1
