"""Types of single fields: what characters, how many, in which range."""

import re
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from .canonical import MAX_INTEGER, Record
from .patterns import matching

MAX_AMOUNT_DIGITS = 30
_CLIP_DIGITS = 12

_NAME = "1 to 64 of a-z, 0-9, '.', '_' and '-', the first a letter or digit"
_MSP = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_ID = r"[a-z0-9][a-z0-9._-]{0,63}"
_HOLDER = r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}"


def _in_order(members: tuple[str, ...]) -> tuple[str, ...]:
    if list(members) != sorted(set(members)):
        raise ValueError("must be different MSP ids in their order")
    return members


Id = Annotated[str, matching(_ID, 64, _NAME)]
"""A name chosen by a caller."""
MspId = Annotated[str, matching(_MSP, 64, "an MSP id: 1 to 64 letters, digits, '.', '_' and '-'")]
"""An organisation, by the MSP id of its certificates."""
MspIds = Annotated[tuple[MspId, ...], Field(min_length=1, max_length=256), AfterValidator(_in_order)]
"""Different organisations, in the order of their MSP ids."""
DatasetId = Annotated[str, matching(f"{_MSP}/{_ID}", 129, "a data set: its owner's MSP id, '/', and its name")]
"""A data set: ``MSP/name``."""
Account = Annotated[str, matching(f"{_MSP}(/{_HOLDER})?", 129, "an account: an MSP id, or MSP id, '/', enrolment id")]
"""An owner of tokens: an organisation (``MSP``) or one certificate's holder in it (``MSP/enrolment id``)."""
TokenOwner = Annotated[
    str,
    matching(
        f"((job|request):{_ID}|{_MSP}(/{_HOLDER})?)",
        129,
        "an account (an MSP id, or MSP id, '/', enrolment id) or an escrow (job:ID, request:ID)",
    ),
]
"""An account, or an escrow that only a contract moves: ``job:ID``, ``request:ID``."""
Digest = Annotated[str, matching("[0-9a-f]{64}", 64, "64 lower-case hexadecimal digits")]
"""SHA-256 in lower-case hexadecimal."""
TransactionId = Digest
Amount = Annotated[str, matching("[1-9][0-9]{0,29}", MAX_AMOUNT_DIGITS, "a positive integer as a string of digits")]
"""Tokens: a positive integer as a string of at most 30 digits."""
AmountOrZero = Annotated[
    str, matching("(0|[1-9][0-9]{0,29})", MAX_AMOUNT_DIGITS, "a non-negative integer as a string of digits")
]
"""Tokens, none allowed."""
Decimal = Annotated[
    str, matching(r"(0|[1-9][0-9]{0,11})(\.[0-9]{1,17})?", 30, "a non-negative decimal number as a string, like 0.001")
]
"""A non-negative number as decimal digits (``0.001``); who computes with it reads it as float64."""
Endpoint = Annotated[str, matching("([A-Za-z0-9.-]{1,253}:[1-9][0-9]{0,4})?", 259, "host:port, or empty")]
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


def _clips(text: str) -> str:
    whole, _, fraction = text.partition(".")
    if not (whole + fraction[:_CLIP_DIGITS]).strip("0"):
        raise ValueError(f"must be at least 1e-{_CLIP_DIGITS}")
    return text


Clip = Annotated[Decimal, AfterValidator(_clips)]
"""A bound on the coordinates of an update. Below 1e-12 the encoding's scale would leave no precision."""
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


def deadline_over(deadline_ms: int, *windows_ms: int) -> int:
    """The ledger time from which a deadline is over for everybody: 2w after it, with the largest of several w.

    Given w when the deadline was set and the present one, what a clock lie within either brings before the deadline
    can't overlap with what comes after it.
    """
    return deadline_ms + 2 * max(windows_ms)
