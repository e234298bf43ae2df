"""Records: their bytes round-trip both ways, and foreign bytes are refused with the field's name."""

import hashlib
import json
from dataclasses import fields

import pytest
from fedfabric.aggregation import OPTIMIZERS, RingEncoding, decimal, server_optimizer
from fedfabric.chaincode import records
from fedfabric.chaincode.records import (
    MAX_INTEGER,
    SERVER_OPTIMIZERS,
    Record,
    canonical_json,
    decode_events,
    parse,
    refusals,
    tagged_hash,
)
from fedfabric.chaincode.records.canonical import _unique
from fedfabric.chaincode.records.patterns import explain
from fedfabric.tests.unit.chaincode.strategies import documents
from fedfabric.tests.unit.chaincode.strategies import records as valid
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

MODELS = sorted(
    (value for value in vars(records).values() if isinstance(value, type) and issubclass(value, Record)),
    key=lambda model: model.__name__,
)
MODELS.remove(Record)
# What no client sends: answers to look-ups.
ANSWERS = (
    records.AccessPage,
    records.AccessView,
    records.Balance,
    records.ConsortiumView,
    records.DatasetPage,
    records.JobPage,
    records.JobView,
    records.RoundView,
    records.Transfer,
)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
@given(data=st.data())
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_record_is_its_bytes_and_its_bytes_are_the_record(model, data):
    record = data.draw(valid(model))
    written = record.canonical()
    assert model.model_validate_json(written) == record
    assert model.model_validate_json(written).canonical() == written
    assert canonical_json(json.loads(written)) == written


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
@given(data=st.data())
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_document_that_fits_the_schema_is_read_or_refused_and_nothing_else(model, data):
    document = data.draw(documents(model))
    try:
        assert isinstance(parse(canonical_json(document), model), model)
    except refusals.Refusal as refusal:
        assert refusal.code in records.REFUSALS  # noqa: PT017  (either outcome is right; another exception is not)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_records_are_frozen_strict_and_closed(model):
    assert model.model_config["frozen"]
    assert model.model_config["strict"]
    assert model.model_config["extra"] == "forbid"


@pytest.mark.parametrize("model", [one for one in MODELS if one not in ANSWERS], ids=lambda model: model.__name__)
def test_every_string_list_and_integer_of_a_record_is_bounded(model):
    schema = model.model_json_schema()
    # Lists that a contract writes are as long as those that it was sent.
    written = {"approvers", "counted", "withheld", "attestations", "payments", "owners", "members", "cohort"}

    def check(part, name):
        if "$ref" in part:
            return
        for option in part.get("anyOf", ()):
            check(option, name)
        kind = part.get("type")
        if kind == "string" and not {"enum", "const"} & set(part):
            assert "maxLength" in part, name
        if kind == "integer" and "const" not in part:
            assert {"minimum", "maximum"} <= set(part), name
            assert -MAX_INTEGER <= part["minimum"] <= part["maximum"] <= MAX_INTEGER
        if kind == "array":
            assert "maxItems" in part or name in written, name
            check(part["items"], name)

    for name, part in schema.get("properties", {}).items():
        check(part, name)


def test_no_record_has_a_float():
    for model in MODELS:
        assert '"type": "number"' not in json.dumps(model.model_json_schema()), model


def test_a_tagged_hash_separates_tag_and_data():
    assert tagged_hash("job", b"x") == hashlib.sha256(b"job\x00x").hexdigest()
    assert tagged_hash("jo", b"bx") != tagged_hash("job", b"x")


@pytest.mark.parametrize("value", [1.0, {"a": [1.5]}, float("nan"), (1, 2.0)])
def test_canonical_json_refuses_floats(value):
    with pytest.raises(ValueError, match="floats"):
        canonical_json(value)


@pytest.mark.parametrize("value", [2**53, -(2**53), {"a": 10**30}])
def test_canonical_json_refuses_integers_that_others_would_round(value):
    with pytest.raises(ValueError, match="safe integer"):
        canonical_json(value)


FLAWS = {
    "empty": (b"", "MALFORMED", ""),
    "no_json": (b"{", "MALFORMED", ""),
    "trailing_bytes": (b'{"id":"a"} x', "MALFORMED", ""),
    "not_utf8": (b'{"id":"\xff"}', "MALFORMED", ""),
    "utf16": ('{"id":"a"}'.encode("utf-16"), "MALFORMED", ""),
    "byte_order_mark": (b'\xef\xbb\xbf{"id":"a"}', "MALFORMED", ""),
    "lone_surrogate": (b'{"id":"\\ud800"}', "MALFORMED", ""),
    "name_twice": (b'{"id":"a","id":"b"}', "MALFORMED", "id"),
    "second_name_twice": (b'{"owner":"A","id":"a","id":"b"}', "MALFORMED", "id"),
    "name_twice_deep": (b'{"owner":{"x":1,"x":2}}', "MALFORMED", "x"),
    "not_a_number": (b'{"id":NaN}', "MALFORMED", ""),
    "infinity": (b'{"id":-Infinity}', "MALFORMED", ""),
    "float": (b'{"id":1.0}', "MALFORMED", ""),
    "exponent": (b'{"id":1e3}', "MALFORMED", ""),
    "integer_beyond_2_53": (b'{"id":9007199254740992}', "OUT_OF_RANGE", ""),
    "integer_of_5000_digits": (b'{"id":' + b"9" * 5000 + b"}", "OUT_OF_RANGE", ""),
    "deep": (b'{"id":' + b"[" * 9 + b"]" * 9 + b"}", "TOO_LARGE", ""),
    "deep_beyond_the_stack": (b"[" * 60_000, "TOO_LARGE", ""),
    "too_long": (b'{"id":"' + b"a" * 65_536 + b'"}', "TOO_LARGE", ""),
    "array_instead_of_object": (b"[]", "INVALID_FIELD", ""),
    "null": (b"null", "INVALID_FIELD", ""),
    "missing": (b'{"owner":"A","amount":"1"}', "MISSING_FIELD", "id"),
    "unknown": (b'{"id":"a","owner":"A","amount":"1","colour":"red"}', "UNKNOWN_FIELD", "colour"),
    "unknown_with_control_characters": (b'{"id":"a","owner":"A","amount":"1","\\u0007":1}', "UNKNOWN_FIELD", "?"),
    "number_for_string": (b'{"id":1,"owner":"A","amount":"1"}', "INVALID_FIELD", "id"),
    "amount_as_number": (b'{"id":"a","owner":"A","amount":1}', "INVALID_FIELD", "amount"),
    "amount_zero": (b'{"id":"a","owner":"A","amount":"0"}', "INVALID_FIELD", "amount"),
    "amount_negative": (b'{"id":"a","owner":"A","amount":"-1"}', "INVALID_FIELD", "amount"),
    "amount_with_leading_zero": (b'{"id":"a","owner":"A","amount":"01"}', "INVALID_FIELD", "amount"),
    "amount_fraction": (b'{"id":"a","owner":"A","amount":"1.5"}', "INVALID_FIELD", "amount"),
    "amount_with_other_digits": ('{"id":"a","owner":"A","amount":"\u0661"}'.encode(), "INVALID_FIELD", "amount"),
    "amount_with_newline": (b'{"id":"a","owner":"A","amount":"1\\n"}', "INVALID_FIELD", "amount"),
    "amount_overflow": (b'{"id":"a","owner":"A","amount":"1' + b"0" * 30 + b'"}', "TOO_LARGE", "amount"),
    "id_upper_case": (b'{"id":"A","owner":"A","amount":"1"}', "INVALID_FIELD", "id"),
    "id_too_long": (b'{"id":"' + b"a" * 65 + b'","owner":"A","amount":"1"}', "TOO_LARGE", "id"),
    "id_that_climbs": (b'{"id":"../a","owner":"A","amount":"1"}', "INVALID_FIELD", "id"),
    "id_with_zero_byte": (b'{"id":"a\\u0000b","owner":"A","amount":"1"}', "INVALID_FIELD", "id"),
    "owner_is_an_escrow": (b'{"id":"a","owner":"job:j1","amount":"1"}', "INVALID_FIELD", "owner"),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_foreign_json_is_refused_with_code_and_field(flaw):
    data, code, field = FLAWS[flaw]
    with pytest.raises(refusals.Refusal) as refused:
        parse(data, records.MintRequest)
    assert (refused.value.code, refused.value.field) == (code, field)
    assert refused.value.message().isascii()
    assert len(refused.value.message()) < 500


def test_a_long_objects_name_given_twice_is_found_in_one_pass():
    class Counted(str):
        compared = 0
        __hash__ = str.__hash__

        def __eq__(self, other):
            Counted.compared += 1
            return str.__eq__(self, other)

    names = [Counted(f"n{number}") for number in range(2000)]
    with pytest.raises(refusals.Malformed) as refused:
        _unique([(name, 0) for name in [*names, Counted("n1999")]])
    assert refused.value.field == "n1999"
    assert Counted.compared < 10 * len(names)


@pytest.mark.parametrize("character", ["\x00", "\n", "\x1b", "\x7f", "\x85", "\u2028", "\u202e", "\u2066", "\ufeff"])
def test_control_characters_in_texts_are_refused(character):
    document = {"id": "a", "expires_ms": 0}
    with pytest.raises(refusals.InvalidField) as refused:
        parse(canonical_json({"id": "a", "reason": f"fine {character}"}), records.RevokeAccess)
    assert refused.value.field == "reason"
    assert parse(canonical_json(document), records.GrantAccess).id == "a"


def test_other_scripts_in_texts_are_welcome():
    text = "Universitätsspital Zürich, Magyar Állam 心臓病 می‌خواهم"
    assert parse(canonical_json({"id": "a", "reason": text}), records.RevokeAccess).reason == text


def test_events_round_trip_and_foreign_ones_are_refused():
    events = (
        records.RoundOpened(job="j", round=1, cohort=("A", "B")),
        records.JobChanged(type="job.finished", job="j"),
    )
    assert decode_events(records.encode_events(events)) == events
    with pytest.raises(ValueError, match="type"):
        decode_events(b'[{"type":"job.exploded","job":"j"}]')


def test_members_come_in_order_so_that_one_change_has_one_digest():
    members = [{"msp": "B"}, {"msp": "A"}]
    with pytest.raises(refusals.InvalidField, match="order of their MSP ids"):
        parse(canonical_json({"sequence": 1, "members": members}), records.ConsortiumChange)


def test_keys_are_the_peers_composite_keys():
    key = records.update_key("j1", 7, "ClevelandMSP")
    assert key == "\x00update\x00j1\x00000007\x00ClevelandMSP\x00"
    # Round 10 lies behind round 9 when rows are listed.
    assert records.round_key("j", 9) < records.round_key("j", 10)


def test_no_two_kinds_of_record_share_a_key():
    keys = {
        records.consortium_key(),
        records.consortium_approval_key(1, "a" * 64, "A"),
        records.dataset_key("A/a"),
        records.access_request_key("a"),
        records.access_grant_key("a", "A"),
        records.access_revocation_key("a", "A"),
        records.access_use_key("a", "A", "a"),
        records.token_key("A", "a" * 64, 0),
        records.mint_key("a"),
        records.mint_approval_key("a", "A"),
        records.job_key("a"),
        records.decision_key("a", "A"),
        records.round_key("a", 1),
        records.update_key("a", 1, "A"),
        records.missing_key("a", 1, 1, "A"),
        records.attestation_key("a", 1, 1, "A"),
    }
    assert len({key.split("\x00")[1] for key in keys}) == len(keys) == 16


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_a_string_of_another_form_is_refused_in_words(model):
    def patterns(part):
        if isinstance(part, dict):
            if isinstance(part.get("pattern"), str):
                yield part["pattern"]
            for inner in part.values():
                yield from patterns(inner)
        elif isinstance(part, list):
            for inner in part:
                yield from patterns(inner)

    for pattern in patterns(model.model_json_schema()):
        assert explain(pattern).startswith("must be "), pattern
        assert "[" not in explain(pattern)


def test_a_patterns_words_reach_the_refusal():
    with pytest.raises(refusals.InvalidField) as refused:
        parse(b'{"id":"a","owner":"A","amount":"-1"}', records.MintRequest)
    assert refused.value.text == "must be a positive integer as a string of digits"


def test_a_document_as_long_as_the_limit_is_read():
    document = canonical_json({"id": "a", "reason": "because"})
    assert parse(document, records.RevokeAccess, limit=len(document)).id == "a"
    with pytest.raises(refusals.TooLarge):
        parse(document, records.RevokeAccess, limit=len(document) - 1)


def test_integers_up_to_2_53_are_read():
    request = {"job": "j", "round": 1, "attempt": 1, "samples": 1, "metrics": {"loss": -MAX_INTEGER}}
    request["blob"] = {"address": "0" * 64, "digest": "0" * 64, "size": 1}
    assert parse(canonical_json(request), records.CommitUpdate).metrics == {"loss": -MAX_INTEGER}
    assert parse(canonical_json({"id": "a", "expires_ms": MAX_INTEGER}), records.GrantAccess).expires_ms == MAX_INTEGER


def test_the_server_optimisers_are_those_that_aggregators_know():
    known = {name: {field.name for field in fields(kind)} for name, kind in OPTIMIZERS.items()}
    assert {name: set(parameters) for name, parameters in SERVER_OPTIMIZERS.items()} == known


DECIMALS = st.from_regex(r"\A(0|[1-9][0-9]{0,11})(\.[0-9]{1,17})?\Z") | st.sampled_from(
    ["0", "1", "0.0", "1.0", "0.99999999999999999", "0.999999", "0.999998", "0.00000000000000001"]
)


@given(
    named=st.sampled_from([(name, one) for name, parameters in SERVER_OPTIMIZERS.items() for one in parameters]),
    value=DECIMALS,
)
@settings(max_examples=400)
def test_an_aggregator_can_build_every_server_optimiser_that_the_ledger_admits(named, value):
    name, parameter = named
    try:
        admitted = records.ServerOptimizer(name=name, parameters={parameter: value})
    except ValidationError:
        return
    server_optimizer({"name": admitted.name, **admitted.parameters})


@given(clip=DECIMALS)
def test_an_aggregator_can_encode_with_every_clip_that_the_ledger_admits(clip):
    try:
        TypeAdapter(records.Clip).validate_python(clip)
    except ValidationError:
        return
    RingEncoding(decimal(clip, "clip"), 100, 3)
