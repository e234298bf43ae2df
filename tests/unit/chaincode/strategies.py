"""Hypothesis strategies for our records, made from each model's JSON schema: so a new field is covered by itself."""

import re
from functools import cache
from typing import Any

from fedfabric.chaincode.records import Record, canonical_json
from hypothesis import strategies as st
from pydantic import ValidationError

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


@cache
def documents(model: type[Record]) -> st.SearchStrategy[Any]:
    """JSON documents that fit the model's schema; most of them also pass its validators."""
    schema = model.model_json_schema()
    return _values(schema, schema.get("$defs", {}))


@cache
def records(model: type[Record]) -> st.SearchStrategy[Any]:
    """Valid records."""

    def build(document: Any) -> Any:
        try:
            return model.model_validate_json(canonical_json(document))
        except ValidationError:
            return None

    return documents(model).map(build).filter(lambda record: record is not None)


def _values(schema: dict[str, Any], definitions: dict[str, Any]) -> st.SearchStrategy[Any]:  # noqa: C901  (one case for each kind)
    if "$ref" in schema:
        return _values(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions)
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of([_values(option, definitions) for option in schema["anyOf"]])
    kind = schema["type"]
    if kind == "null":
        return st.none()
    if kind == "boolean":
        return st.booleans()
    if kind == "integer":
        return st.integers(schema.get("minimum"), schema.get("maximum"))
    if kind == "string":
        return _strings(schema)
    if kind == "array":
        least, most = schema.get("minItems", 0), min(schema.get("maxItems", 3), max(3, schema.get("minItems", 0)))
        return st.lists(_values(schema["items"], definitions), min_size=least, max_size=most)
    if "properties" not in schema:
        if "patternProperties" in schema:
            ((pattern, values),) = schema["patternProperties"].items()
            return st.dictionaries(_matching(pattern), _values(values, definitions), max_size=3)
        return st.just({})
    properties = {name: _values(one, definitions) for name, one in schema["properties"].items()}
    required = set(schema.get("required", ()))
    return st.fixed_dictionaries(
        {name: one for name, one in properties.items() if name in required},
        optional={name: one for name, one in properties.items() if name not in required},
    )


@cache
def _matching(pattern: str) -> st.SearchStrategy[str]:
    return st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True)


def _strings(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    most = schema.get("maxLength", 20)
    if "pattern" in schema:
        return _matching(schema["pattern"]).filter(lambda text: len(text) <= most)
    characters = st.characters(codec="utf-8").filter(lambda c: not _UNSAFE.match(c))
    return st.text(characters, min_size=schema.get("minLength", 0), max_size=min(most, 30))
