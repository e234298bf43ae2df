"""Access: no use without a grant, the price waits in escrow and is always claimed or refunded."""

import pytest
from fedfabric.chaincode.records import AccessPage, AccessView, refusals
from fedfabric.tests.unit.chaincode.world import A, B, C, terms

ASKED = {"id": "r1", "dataset": f"{B}/heart", "version": 1, "purpose": "training"}
USE = {"id": "r1", "operation": "j1.1"}


async def test_a_request_is_granted_used_and_revoked(world):
    await world.register(B)
    await world.submit(A, "scientist", "access:request", ASKED)
    assert world.events() == ["access.requested"]
    with pytest.raises(refusals.WrongState, match="the access request is requested"):
        await world.submit(B, "gateway", "access:use", USE)
    await world.submit(B, "steward", "access:grant", {"id": "r1"})
    assert world.events() == ["access.granted"]
    await world.submit(B, "gateway", "access:use", USE)
    assert world.events() == ["access.used"]
    await world.submit(B, "steward", "access:revoke", {"id": "r1", "reason": "consent withdrawn"})
    assert world.events() == ["access.revoked"]
    with pytest.raises(refusals.WrongState, match="the access request is revoked"):
        await world.submit(B, "gateway", "access:use", USE | {"operation": "j1.2"})
    view = await world.evaluate("access:show", {"id": "r1"}, AccessView)
    assert (view.request.state, [use.operation for use in view.uses]) == ("revoked", ["j1.1"])


async def test_only_the_owner_grants_revokes_and_uses(world):
    await world.register(B)
    await world.submit(A, "scientist", "access:request", ASKED)
    for function, role, request in (
        ("access:grant", "steward", {"id": "r1"}),
        ("access:revoke", "steward", {"id": "r1"}),
        ("access:use", "gateway", USE),
    ):
        for msp in (A, C):
            with pytest.raises(refusals.NotOwner):
                await world.submit(msp, role, function, request)
    with pytest.raises(refusals.NotOwner):
        await world.submit(C, "scientist", "access:withdraw", {"id": "r1"})


async def test_the_price_is_escrowed_and_a_grant_pays_the_owner(world):
    await world.register(B, price="30")
    row = await world.mint(A, 100)
    with pytest.raises(refusals.SumsDiffer):
        await world.submit(A, "scientist", "access:request", ASKED)
    await world.submit(A, "scientist", "access:request", ASKED | {"inputs": [row]})
    assert [await world.balance(one) for one in (A, "request:r1", B)] == [70, 30, 0]
    await world.submit(B, "steward", "access:grant", {"id": "r1"})
    assert [await world.balance(one) for one in (A, "request:r1", B)] == [70, 0, 30]
    with pytest.raises(refusals.WrongState):
        await world.submit(A, "scientist", "access:withdraw", {"id": "r1"})


async def test_a_withdrawn_request_gives_the_price_back_and_is_granted_no_more(world):
    await world.register(B, price="30")
    row = await world.mint(A, 30)
    await world.submit(A, "scientist", "access:request", ASKED | {"inputs": [row]})
    await world.submit(A, "scientist", "access:withdraw", {"id": "r1"})
    assert world.events() == ["access.withdrawn"]
    await world.submit(A, "scientist", "access:withdraw", {"id": "r1"})
    assert world.events() == []
    assert await world.balance(A) == 30
    with pytest.raises(refusals.WrongState):
        await world.submit(B, "steward", "access:grant", {"id": "r1"})


async def test_grants_expire_by_the_ledgers_time(world):
    await world.register(B)
    await world.submit(A, "scientist", "access:request", ASKED)
    with pytest.raises(refusals.GrantExpired):
        await world.submit(B, "steward", "access:grant", {"id": "r1", "expires_ms": world.now})
    await world.submit(B, "steward", "access:grant", {"id": "r1", "expires_ms": world.now + 10})
    world.now += 9
    await world.submit(B, "gateway", "access:use", USE)
    world.now += 1
    with pytest.raises(refusals.GrantExpired):
        await world.submit(B, "gateway", "access:use", USE | {"operation": "later"})


async def test_the_same_again_is_success_and_other_content_a_conflict(world):
    await world.register(B, price="1")
    inputs = [await world.mint(A, 1)]
    for _ in range(2):
        await world.submit(A, "scientist", "access:request", ASKED | {"inputs": inputs})
    assert world.events() == []
    with pytest.raises(refusals.Conflict):
        await world.submit(A, "scientist", "access:request", ASKED | {"note": "please"})
    with pytest.raises(refusals.Conflict):
        await world.submit(C, "scientist", "access:request", ASKED)
    for function, role, request, other in (
        ("access:grant", "steward", {"id": "r1"}, {"id": "r1", "expires_ms": world.now + 9}),
        ("access:use", "gateway", USE, USE | {"detail": "twice"}),
        ("access:revoke", "steward", {"id": "r1"}, {"id": "r1", "reason": "because"}),
    ):
        for _ in range(2):
            await world.submit(B, role, function, request)
        assert world.events() == []
        with pytest.raises(refusals.Conflict):
            await world.submit(B, role, function, other)
    assert await world.balance(B) == 1


@pytest.mark.parametrize(
    ("changes", "refusal", "field"),
    [
        ({"dataset": f"{B}/none"}, refusals.UnknownDataset, "dataset"),
        ({"version": 2}, refusals.VersionDiffers, "version"),
        ({"version": 0}, refusals.OutOfRange, "version"),
        ({"purpose": "advertising"}, refusals.PurposeNotPermitted, "purpose"),
        ({"dataset": "heart"}, refusals.InvalidField, "dataset"),
        ({"dataset": f"{B}/../x"}, refusals.InvalidField, "dataset"),
        ({"payer": C}, refusals.NotOwner, "payer"),
        ({"payer": f"{A}/somebody-else"}, refusals.NotOwner, "payer"),
        ({"inputs": [{"tx": "0" * 64, "n": 0}]}, refusals.TokenUnknown, "inputs.0"),
        ({"inputs": [{"tx": "0" * 64, "n": 0}] * 65}, refusals.TooLarge, "inputs"),
    ],
)
async def test_a_bad_request_is_refused_by_field_and_nothing_is_written(world, changes, refusal, field):
    await world.register(B, price="5")
    before = dict(world.ledger.state)
    with pytest.raises(refusal) as refused:
        await world.submit(A, "scientist", "access:request", ASKED | changes)
    assert refused.value.field == field
    assert world.ledger.state == before


async def test_nobody_is_named_as_payer_by_others_even_where_nothing_is_paid(world):
    await world.register(B)
    for payer in (C, f"{A}/somebody-else"):
        with pytest.raises(refusals.NotOwner) as refused:
            await world.submit(A, "scientist", "access:request", ASKED | {"payer": payer})
        assert refused.value.field == "payer"


async def test_rows_for_a_free_data_set_are_refused_and_kept(world):
    await world.register(B)
    row = await world.mint(A, 5)
    with pytest.raises(refusals.SumsDiffer):
        await world.submit(A, "scientist", "access:request", ASKED | {"inputs": [row]})
    assert await world.balance(A) == 5


async def test_a_retired_data_set_is_neither_asked_for_nor_granted(world):
    await world.register(B)
    await world.submit(A, "scientist", "access:request", ASKED)
    await world.submit(B, "steward", "datasets:retire", {"id": f"{B}/heart"})
    with pytest.raises(refusals.DatasetRetired):
        await world.submit(A, "scientist", "access:request", ASKED | {"id": "r2"})
    with pytest.raises(refusals.DatasetRetired):
        await world.submit(B, "steward", "access:grant", {"id": "r1"})


async def test_a_request_for_an_older_version_is_not_granted_and_its_price_goes_back(world):
    await world.register(B, price="30")
    row = await world.mint(A, 100)
    await world.submit(A, "scientist", "access:request", ASKED | {"inputs": [row]})
    update = {"id": f"{B}/heart", "version": 1, "terms": terms(samples=7, price="30")}
    await world.submit(B, "steward", "datasets:update", update)
    with pytest.raises(refusals.VersionDiffers):
        await world.submit(B, "steward", "access:grant", {"id": "r1"})
    await world.submit(A, "scientist", "access:withdraw", {"id": "r1"})
    assert await world.balance(A) == 100


@pytest.mark.parametrize("function", ["access:grant", "access:revoke", "access:withdraw", "access:use", "access:show"])
async def test_an_unknown_request_is_named(world, function):
    request = {"id": "none"} | ({"operation": "o"} if function == "access:use" else {})
    role = {"access:use": "gateway", "access:withdraw": "scientist"}.get(function, "steward")
    with pytest.raises(refusals.UnknownRequest) as refused:
        await world.propose(A, role, function, request)
    assert refused.value.field == "id"


async def test_requests_are_listed(world):
    await world.register(B)
    for number in range(3):
        await world.submit(A, "scientist", "access:request", ASKED | {"id": f"r{number}"})
    page = await world.evaluate("access:list", {"limit": 2}, AccessPage)
    assert [one.id for one in page.requests] == ["r0", "r1"]
    page = await world.evaluate("access:list", {"bookmark": page.bookmark}, AccessPage)
    assert ([one.id for one in page.requests], page.bookmark) == (["r2"], "")
