"""Bytes that everybody derives alike: canonical JSON (RFC 8785), tagged hashes, the strict reader of foreign JSON."""

import hashlib
import json
from typing import Any, TypeVar

import rfc8785
from pydantic import BaseModel, ConfigDict, ValidationError

from . import refusals
from .patterns import explain

MAX_REQUEST_BYTES = 65_536
"""The longest argument that a contract reads, in bytes."""
MAX_DEPTH = 8
"""The deepest nesting of arrays and objects in a request."""
MAX_INTEGER = 2**53 - 1
"""The largest integer that canonical JSON carries; amounts beyond are strings of digits."""


class Record(BaseModel):
    """A value of the ledger: frozen, strict, unknown fields refused. Its bytes are canonical JSON."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", hide_input_in_errors=True)

    def canonical(self) -> bytes:
        """The record as canonical JSON (RFC 8785), the form in which it is stored, sent and hashed."""
        return rfc8785.dumps(self.model_dump(mode="json"))


AnyRecord = TypeVar("AnyRecord", bound=BaseModel)


def canonical_json(value: Any) -> bytes:
    """Encode plain data (objects, arrays, strings, integers, booleans, null) as RFC 8785.

    Raises:
        ValueError: a float, an integer beyond 2^53 - 1 or a lone surrogate is in it.
    """
    _refuse_floats(value)
    return rfc8785.dumps(value)


def tagged_hash(tag: str, data: bytes) -> str:
    """SHA-256 over the ASCII tag, a zero byte and the data, as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(tag.encode("ascii") + b"\x00" + data).hexdigest()


def parse(data: bytes, model: type[AnyRecord], *, limit: int = MAX_REQUEST_BYTES) -> AnyRecord:
    """Read a client's JSON into ``model``, refusing what two implementations could read in two ways.

    Refused beside what the model itself refuses: more than ``limit`` bytes, bytes that are not UTF-8, duplicate
    names in an object, numbers that are no integers, integers beyond 2^53 - 1, nesting beyond ``MAX_DEPTH``.

    Raises:
        Refusal: names the field (dotted path; "" when the document as a whole is at fault).
    """
    if len(data) > limit:
        raise refusals.TooLarge("", f"{len(data)} bytes, at most {limit} are read")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise refusals.Malformed("", f"not UTF-8 at byte {error.start}") from error
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_float=_no_float,
            parse_int=_bounded_integer,
            parse_constant=_no_float,
        )
    except RecursionError as error:
        raise refusals.TooLarge("", f"nested deeper than {MAX_DEPTH}") from error
    except json.JSONDecodeError as error:
        raise refusals.Malformed("", f"not JSON: {error.msg} at character {error.pos}") from error
    _check_depth(value, MAX_DEPTH)
    try:
        return model.model_validate_json(_encode(value))
    except ValidationError as error:
        raise _refusal(error) from error


def _encode(value: Any) -> bytes:
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise refusals.Malformed("", "a string holds a lone surrogate") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for name, value in pairs:
        if name in seen:
            raise refusals.Malformed(printable(name), "named twice in one object")
        seen[name] = value
    return seen


def _no_float(text: str) -> Any:
    raise refusals.Malformed("", f"{printable(text)} is not an integer; fractions travel as strings")


def _bounded_integer(text: str) -> int:
    # int() of thousands of digits is slow and refused by Python itself; 17 characters hold every allowed integer.
    if len(text) > 17 or not -MAX_INTEGER <= int(text) <= MAX_INTEGER:
        raise refusals.OutOfRange("", f"{printable(text)} is beyond 2^53 - 1; amounts travel as strings of digits")
    return int(text)


def _check_depth(value: Any, left: int) -> None:
    if isinstance(value, dict | list):
        if not left:
            raise refusals.TooLarge("", f"nested deeper than {MAX_DEPTH}")
        for inner in value.values() if isinstance(value, dict) else value:
            _check_depth(inner, left - 1)


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        raise ValueError("canonical JSON of the ledger carries no floats")  # noqa: TRY004  (as rfc8785 does)
    if isinstance(value, dict):
        for inner in value.values():
            _refuse_floats(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_floats(inner)


_LENGTHS = {"string_too_long", "too_long", "bytes_too_long"}
_RANGES = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}


def _refusal(error: ValidationError) -> refusals.Refusal:
    """The first fault that pydantic names, as a refusal of ours; pydantic's order is the model's field order."""
    first = error.errors(include_url=False, include_input=False)[0]
    field = printable(".".join(str(part) for part in first["loc"]))
    kind, text = first["type"], first["msg"]
    if kind == "missing":
        return refusals.MissingField(field, "is required")
    if kind == "extra_forbidden":
        return refusals.UnknownField(field, "is not a field of this request")
    if kind == "string_pattern_mismatch":
        text = explain(first["ctx"]["pattern"])
    if kind in _LENGTHS:
        return refusals.TooLarge(field, text)
    if kind in _RANGES:
        return refusals.OutOfRange(field, text)
    return refusals.InvalidField(field, text.removeprefix("Value error, "))


def printable(text: str) -> str:
    """Foreign text cut to 100 characters, anything but printable ASCII replaced: safe in errors and logs."""
    return "".join(c if " " <= c <= "~" else "?" for c in text[:100])
