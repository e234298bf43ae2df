"""Records of the ledger to messages of the API and back: equal names, equal meaning, nothing lost.

A message has its record's fields (a test compares them), so one rule serves all: what is absent in a message takes
the record's default, and what the record requires is passed on as it came, for the record to judge.
"""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from pydantic import BaseModel

from ..chaincode.records import Record, parse
from .v1 import records_pb2

__all__ = ["to_message", "to_record"]

_MAXIMUM_BYTES = 8 << 20  # a message is bounded by gRPC already; a report may be longer than a request

AnyRecord = TypeVar("AnyRecord", bound=Record)
AnyMessage = TypeVar("AnyMessage", bound=Message)


def to_record(message: Message, record: type[AnyRecord]) -> AnyRecord:
    """The record that a message says.

    Raises:
        Refusal: a field is missing or has a value that the record does not take; it names the field.
    """
    return parse(json.dumps(_plain(message, record)).encode(), record, limit=_MAXIMUM_BYTES)


def to_message(record: Record, message: type[AnyMessage] | None = None) -> AnyMessage:
    """The message with the record's name and content."""
    kind: Any = message or getattr(records_pb2, type(record).__name__)
    made: AnyMessage = json_format.ParseDict(_content(record), kind())
    return made


def _plain(message: Message, record: type[BaseModel]) -> dict[str, Any]:
    fields = {field.name: field for field in message.DESCRIPTOR.fields}
    found: dict[str, Any] = {}
    for name, info in record.model_fields.items():
        field = fields.get(name)
        if field is None:
            continue
        value = getattr(message, name)
        if field.has_presence and not message.HasField(name):
            if info.is_required() and type(None) in getattr(info.annotation, "__args__", ()):
                found[name] = None
        elif field.has_presence or value or info.is_required():
            found[name] = _value(field, value, info.annotation)
    return found


def _value(field: FieldDescriptor, value: Any, annotation: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(value)
    if field.label == FieldDescriptor.LABEL_REPEATED:
        return [_inner(field, item, annotation) for item in value]
    return _inner(field, value, annotation)


def _inner(field: FieldDescriptor, value: Any, annotation: Any) -> Any:
    return _plain(value, _record_in(annotation)) if field.message_type is not None else value


def _record_in(annotation: Any) -> type[BaseModel]:
    """The record class within `X`, `X | None` or `tuple[X, ...]`, however annotated."""
    waiting = [annotation]
    while waiting:
        current = waiting.pop()
        if isinstance(current, type) and issubclass(current, BaseModel):
            return current
        waiting.extend(getattr(current, "__args__", ()))
        if hasattr(current, "__origin__") and not isinstance(current.__origin__, type):
            waiting.append(current.__origin__)
    raise TypeError(f"{annotation} holds no record")


def _content(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return {
            name: _content(inner)
            for name in type(value).model_fields
            if name != "v" and (inner := getattr(value, name)) is not None
        }
    if isinstance(value, Mapping):
        return {name: _content(inner) for name, inner in value.items()}
    return [_content(inner) for inner in value] if isinstance(value, list | tuple) else value
