"""Refusals: each code is one class, documented, and survives the journey to a client."""

import re
from pathlib import Path

import pytest
from fedfabric.chaincode.records import REFUSALS, read_refusal, refusals

ERRORS = Path(__file__).parents[3] / "docs" / "reference" / "errors.md"


def documented() -> dict[str, list[str]]:
    rows = re.findall(r"^\| ([A-Z_]+) \| (.*) \| (.*) \| (.*) \|$", ERRORS.read_text(encoding="utf-8"), re.MULTILINE)
    return {code: [status, meaning, remedy] for code, status, meaning, remedy in rows}


@pytest.mark.parametrize("code", REFUSALS)
def test_every_code_is_documented_with_its_status_meaning_and_remedy(code):
    status, meaning, remedy = documented()[code]
    if code != "UNKNOWN_REFUSAL":
        assert status == str(REFUSALS[code].status)
    assert meaning == (REFUSALS[code].__doc__ or "").split("\n\n")[0].replace("``", "`")
    assert len(remedy) > 10


def test_no_code_is_documented_that_is_not_there():
    assert set(documented()) == set(REFUSALS)


def test_a_code_is_never_given_to_a_second_class():
    with pytest.raises(TypeError, match="CONFLICT belongs to Conflict"):
        type("Other", (refusals.Refusal,), {"code": "CONFLICT"})


@pytest.mark.parametrize("code", sorted(set(REFUSALS) - {"UNKNOWN_REFUSAL"}))
def test_statuses_are_refusals_and_messages_come_back_as_their_class(code):
    refusal = REFUSALS[code]("a.b", 'text with "quotes"')
    assert 400 <= refusal.status <= 499
    back = read_refusal(f"chaincode response {refusal.status}, {refusal.message()}")
    assert type(back) is type(refusal)
    assert (back.field, back.text) == ("a.b", 'text with "quotes"')


def test_a_later_versions_code_is_kept_as_unknown():
    back = read_refusal('{"code":"NEW_ONE","field":"x","text":"why"}')
    assert isinstance(back, refusals.UnknownRefusal)
    assert back.text == "NEW_ONE: why"


@pytest.mark.parametrize(
    "message",
    [
        "",
        "no JSON",
        '{"code":',
        '{"code":1,"field":"","text":""}',
        '{"code":"X"}',
        '{"code":"X","field":"","text":"","n":1}',
    ],
)
def test_other_messages_are_no_refusals_of_ours(message):
    assert read_refusal(message) is None
