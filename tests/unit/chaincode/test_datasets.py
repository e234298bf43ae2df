"""Data sets: only their owner registers, updates and retires them."""

import json

import pytest
from fedfabric.chaincode.records import Dataset, DatasetPage, refusals
from fedfabric.tests.unit.chaincode.world import A, B, blob, terms


async def test_a_data_set_is_its_owners_from_registration_to_retirement(world):
    made = await world.register(A)
    assert (made["id"], made["owner"], made["version"], made["state"]) == (f"{A}/heart", A, 1, "active")
    assert world.events() == ["dataset.registered"]
    request = {"id": f"{A}/heart", "version": 1, "terms": terms(blob=blob("more data"), samples=200)}
    with pytest.raises(refusals.NotOwner):
        await world.submit(B, "steward", "datasets:update", request)
    assert (await world.submit(A, "steward", "datasets:update", request))["version"] == 2
    with pytest.raises(refusals.NotOwner):
        await world.submit(B, "steward", "datasets:retire", {"id": f"{A}/heart"})
    await world.submit(A, "steward", "datasets:retire", {"id": f"{A}/heart"})
    shown = await world.evaluate("datasets:show", {"id": f"{A}/heart"}, Dataset, msp=B)
    assert (shown.state, shown.version) == ("retired", 2)
    with pytest.raises(refusals.WrongState, match="the data set is retired"):
        await world.submit(A, "steward", "datasets:update", request | {"version": 2, "terms": terms()})


async def test_the_same_again_is_success_and_other_content_a_conflict(world):
    await world.register(A)
    assert (await world.register(A))["version"] == 1
    assert world.events() == []
    with pytest.raises(refusals.Conflict, match="registered already"):
        await world.register(A, samples=7)
    request = {"id": f"{A}/heart", "version": 1, "terms": terms(samples=7)}
    for event in (["dataset.updated"], []):
        assert (await world.submit(A, "steward", "datasets:update", request))["version"] == 2
        assert world.events() == event
    with pytest.raises(refusals.VersionDiffers, match="has version 2"):
        await world.submit(A, "steward", "datasets:update", request | {"terms": terms(samples=8)})
    with pytest.raises(refusals.Conflict):
        await world.register(A, samples=7)
    with pytest.raises(refusals.VersionDiffers):
        await world.submit(A, "steward", "datasets:update", request | {"version": 3})
    for event in (["dataset.retired"], []):
        await world.submit(A, "steward", "datasets:retire", {"id": f"{A}/heart"})
        assert world.events() == event


async def test_a_retired_data_set_is_not_registered_again(world):
    await world.register(A)
    await world.submit(A, "steward", "datasets:retire", {"id": f"{A}/heart"})
    with pytest.raises(refusals.Conflict):
        await world.register(A)


async def test_two_owners_may_use_one_name(world):
    await world.register(A)
    await world.register(B)
    page = await world.evaluate("datasets:list", {}, DatasetPage)
    assert [one.id for one in page.datasets] == [f"{A}/heart", f"{B}/heart"]


async def test_a_list_comes_in_pages(world):
    for number in range(5):
        await world.register(A, name=f"d{number}")
    seen, bookmark = [], ""
    for _ in range(3):
        page = await world.evaluate("datasets:list", {"limit": 2, "bookmark": bookmark}, DatasetPage)
        seen += [one.id for one in page.datasets]
        bookmark = page.bookmark
    assert (seen, bookmark) == ([f"{A}/d{number}" for number in range(5)], "")


@pytest.mark.parametrize("bookmark", ["x", "\x00job\x00", "\x00token\x00A\x00"])
async def test_a_bookmark_of_another_list_is_refused(world, bookmark):
    with pytest.raises(refusals.InvalidField) as refused:
        await world.evaluate("datasets:list", {"bookmark": bookmark}, DatasetPage)
    assert refused.value.field == "bookmark"


@pytest.mark.parametrize("function", ["datasets:update", "datasets:retire", "datasets:show"])
async def test_an_unknown_id_is_named(world, function):
    request = {"id": f"{A}/none"} | ({"version": 1, "terms": terms()} if function == "datasets:update" else {})
    with pytest.raises(refusals.UnknownDataset) as refused:
        await world.propose(A, "steward", function, request)
    assert refused.value.field == "id"


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"samples": 0}, "OUT_OF_RANGE", "terms.samples"),
        ({"samples": -5}, "OUT_OF_RANGE", "terms.samples"),
        ({"samples": 2**45}, "OUT_OF_RANGE", "terms.samples"),
        ({"samples": 2**53}, "OUT_OF_RANGE", ""),
        ({"samples": "100"}, "INVALID_FIELD", "terms.samples"),
        ({"samples": True}, "INVALID_FIELD", "terms.samples"),
        ({"price": "-1"}, "INVALID_FIELD", "terms.price"),
        ({"price": "1" + "0" * 30}, "TOO_LARGE", "terms.price"),
        ({"title": "x" * 201}, "TOO_LARGE", "terms.title"),
        ({"title": "a\x00b"}, "INVALID_FIELD", "terms.title"),
        ({"description": "x" * 2001}, "TOO_LARGE", "terms.description"),
        ({"licence": ""}, "INVALID_FIELD", "terms.licence"),
        ({"purposes": []}, "INVALID_FIELD", "terms.purposes"),
        ({"purposes": ["p"] * 33}, "TOO_LARGE", "terms.purposes"),
        ({"purposes": ["p", "p"]}, "INVALID_FIELD", "terms"),
        ({"columns": [{"name": "a", "type": "float"}] * 2}, "INVALID_FIELD", "terms"),
        ({"columns": [{"name": "a b", "type": "float"}]}, "INVALID_FIELD", "terms.columns.0.name"),
        ({"columns": [{"name": f"c{n}", "type": "float"} for n in range(513)]}, "TOO_LARGE", "terms.columns"),
        ({"jurisdiction": "Switzerland"}, "TOO_LARGE", "terms.jurisdiction"),
        ({"retention_days": 10**6}, "OUT_OF_RANGE", "terms.retention_days"),
        ({"blob": blob("x") | {"digest": "A" * 64}}, "INVALID_FIELD", "terms.blob.digest"),
        ({"blob": blob("x") | {"size": 0}}, "OUT_OF_RANGE", "terms.blob.size"),
        ({"blob": {}}, "MISSING_FIELD", "terms.blob.address"),
        ({"colour": "red"}, "UNKNOWN_FIELD", "terms.colour"),
    ],
)
async def test_bad_terms_are_refused_by_field_and_nothing_is_written(world, changes, code, field):
    before = dict(world.ledger.state)
    request = {"name": "heart", "terms": terms() | changes}
    argument = json.dumps(request).encode()
    with pytest.raises(refusals.Refusal) as refused:
        await world.propose(A, "steward", "datasets:register", argument)
    assert (refused.value.code, refused.value.field) == (code, field)
    assert world.ledger.state == before
