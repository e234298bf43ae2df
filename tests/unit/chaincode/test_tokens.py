"""Tokens: minted by a quorum, spent once, and never lost or made by a transfer."""

import pytest
from fedfabric.chaincode.records import Balance, refusals
from fedfabric.tests.unit.chaincode.fake_stub import MVCC_READ_CONFLICT, VALID
from fedfabric.tests.unit.chaincode.world import A, B, C, change, digest

MINT = {"id": "m1", "owner": A, "amount": "100"}


async def test_a_quorum_of_equal_approvals_mints_once(world):
    with pytest.raises(refusals.QuorumMissing, match=r"approved by nobody$"):
        await world.submit(A, "operator", "tokens:mint", MINT)
    for event in (["tokens.approved"], []):
        await world.submit(A, "operator", "tokens:approve", MINT)
        assert world.events() == event
    with pytest.raises(refusals.QuorumMissing, match=f"approved by {A}$"):
        await world.submit(A, "operator", "tokens:mint", MINT)
    await world.submit(B, "operator", "tokens:approve", MINT)
    for event in (["tokens.minted"], [], []):
        await world.submit(C, "operator", "tokens:mint", MINT)
        assert world.events() == event
    assert (await world.balance(A), world.supply()) == (100, 100)


async def test_approvals_of_other_content_do_not_mint(world):
    await world.submit(A, "operator", "tokens:approve", MINT)
    await world.submit(B, "operator", "tokens:approve", MINT | {"amount": "1"})
    await world.submit(C, "operator", "tokens:approve", MINT | {"owner": B})
    for request in (MINT, MINT | {"amount": "1"}, MINT | {"owner": B}):
        with pytest.raises(refusals.QuorumMissing):
            await world.submit(A, "operator", "tokens:mint", request)


async def test_an_approval_is_never_changed_and_an_id_mints_one_thing(world):
    await world.mint(A, 100)
    with pytest.raises(refusals.Conflict):
        await world.submit(A, "operator", "tokens:approve", MINT | {"amount": "7"})
    with pytest.raises(refusals.Conflict):
        await world.submit(A, "operator", "tokens:mint", MINT | {"amount": "7"})
    assert world.supply() == 100


async def test_a_departed_members_approval_counts_no_more(world):
    await world.submit(C, "operator", "tokens:approve", MINT)
    for msp in (A, B):
        await world.submit(msp, "operator", "consortium:approve", change(A, B, sequence=2))
    await world.submit(A, "operator", "consortium:apply", change(A, B, sequence=2))
    await world.submit(A, "operator", "tokens:approve", MINT)
    with pytest.raises(refusals.QuorumMissing):
        await world.submit(A, "operator", "tokens:mint", MINT)


async def test_nothing_is_minted_for_a_member_that_departed_after_the_approvals(world):
    mint = MINT | {"owner": C}
    for msp in (A, B):
        await world.submit(msp, "operator", "tokens:approve", mint)
    for msp in (A, B):
        await world.submit(msp, "operator", "consortium:approve", change(A, B, sequence=2))
    await world.submit(A, "operator", "consortium:apply", change(A, B, sequence=2))
    with pytest.raises(refusals.NotAMember):
        await world.submit(A, "operator", "tokens:mint", mint)


async def test_a_transfer_splits_and_merges(world):
    row = await world.mint(A, 100)
    outputs = [{"owner": B, "amount": "30"}, {"owner": f"{C}/alice", "amount": "20"}, {"owner": A, "amount": "50"}]
    made = await world.submit(A, "scientist", "tokens:transfer", {"owner": A, "inputs": [row], "outputs": outputs})
    assert [token["n"] for token in made["tokens"]] == [0, 1, 2]
    assert world.events() == ["tokens.transferred"]
    assert [await world.balance(owner) for owner in (A, B, f"{C}/alice")] == [50, 30, 20]
    assert world.supply() == 100


async def test_a_named_holders_rows_are_that_holders_alone(world):
    row = await world.mint(f"{A}/alice", 10)
    transfer = {"owner": f"{A}/alice", "inputs": [row], "outputs": [{"owner": B, "amount": "10"}]}
    for msp, name in ((A, "bob"), (B, "alice"), (C, "someone")):
        with pytest.raises(refusals.NotOwner):
            await world.submit(msp, "scientist", "tokens:transfer", transfer, name=name)
    await world.submit(A, "scientist", "tokens:transfer", transfer, name="alice")
    assert await world.balance(B) == 10


async def test_a_row_is_spent_once(world):
    row = await world.mint(A, 10)
    transfer = {"owner": A, "inputs": [row], "outputs": [{"owner": B, "amount": "10"}]}
    await world.submit(A, "operator", "tokens:transfer", transfer)
    with pytest.raises(refusals.TokenUnknown):
        await world.submit(A, "operator", "tokens:transfer", transfer)


async def test_a_double_spend_in_one_block_is_an_mvcc_conflict(world):
    row = await world.mint(A, 10)
    spends = [
        await world.propose(
            A, "operator", "tokens:transfer", {"owner": A, "inputs": [row], "outputs": [{"owner": to, "amount": "10"}]}
        )
        for to in (B, C)
    ]
    assert world.ledger.commit(*spends) == [VALID, MVCC_READ_CONFLICT]
    assert [await world.balance(owner) for owner in (A, B, C)] == [0, 10, 0]


async def test_credits_to_one_account_never_conflict(world):
    rows = [await world.mint(owner, 10, f"for-{owner.lower()}") for owner in (A, B, C)]
    spends = [
        await world.propose(
            owner,
            "operator",
            "tokens:transfer",
            {"owner": owner, "inputs": [row], "outputs": [{"owner": A, "amount": "10"}]},
        )
        for owner, row in zip((A, B, C), rows, strict=True)
    ]
    assert world.ledger.commit(*spends) == [VALID] * 3
    assert await world.balance(A) == 30


@pytest.mark.parametrize(
    ("changes", "refusal", "field"),
    [
        ({"outputs": [{"owner": B, "amount": "99"}]}, refusals.SumsDiffer, "outputs"),
        ({"outputs": [{"owner": B, "amount": "101"}]}, refusals.SumsDiffer, "outputs"),
        ({"outputs": [{"owner": B, "amount": "0"}]}, refusals.InvalidField, "outputs.0.amount"),
        ({"outputs": [{"owner": B, "amount": "-100"}]}, refusals.InvalidField, "outputs.0.amount"),
        ({"outputs": [{"owner": B, "amount": "1e2"}]}, refusals.InvalidField, "outputs.0.amount"),
        ({"outputs": [{"owner": B, "amount": 100}]}, refusals.InvalidField, "outputs.0.amount"),
        ({"outputs": [{"owner": B, "amount": "1" * 31}]}, refusals.TooLarge, "outputs.0.amount"),
        ({"outputs": []}, refusals.InvalidField, "outputs"),
        ({"outputs": [{"owner": B, "amount": "1"}] * 65}, refusals.TooLarge, "outputs"),
        ({"outputs": [{"owner": "StrangerMSP", "amount": "100"}]}, refusals.NotAMember, "outputs.0.owner"),
        ({"outputs": [{"owner": "job:j1", "amount": "100"}]}, refusals.InvalidField, "outputs.0.owner"),
        ({"inputs": []}, refusals.InvalidField, "inputs"),
        ({"inputs": [{"tx": digest("none"), "n": 0}]}, refusals.TokenUnknown, "inputs.0"),
        ({"inputs": [{"tx": digest("none"), "n": -1}]}, refusals.OutOfRange, "inputs.0.n"),
        ({"owner": B}, refusals.NotOwner, "owner"),
        ({"owner": "job:j1"}, refusals.InvalidField, "owner"),
    ],
)
async def test_a_bad_transfer_is_refused_by_field_and_nothing_is_written(world, changes, refusal, field):
    row = await world.mint(A, 100)
    before = dict(world.ledger.state)
    request = {"owner": A, "inputs": [row], "outputs": [{"owner": B, "amount": "100"}]} | changes
    with pytest.raises(refusal) as refused:
        await world.submit(A, "operator", "tokens:transfer", request)
    assert refused.value.field == field
    assert world.ledger.state == before


async def test_a_row_named_twice_is_not_counted_twice(world):
    row = await world.mint(A, 100)
    request = {"owner": A, "inputs": [row, row], "outputs": [{"owner": B, "amount": "200"}]}
    with pytest.raises(refusals.Duplicate) as refused:
        await world.submit(A, "operator", "tokens:transfer", request)
    assert refused.value.field == "inputs.1"


async def test_amounts_beyond_2_53_are_exact_and_beyond_30_digits_refused(world):
    most = 10**30 - 1
    rows = [await world.mint(A, most, f"m{number}") for number in range(2)]
    outputs = [{"owner": A, "amount": str(most)}, {"owner": B, "amount": str(most)}]
    await world.submit(A, "operator", "tokens:transfer", {"owner": A, "inputs": rows, "outputs": outputs})
    assert (await world.balance(A), world.supply()) == (most, 2 * most)
    held = await world.evaluate("tokens:balance", {"owner": B}, Balance)
    assert held.total == str(most)


async def test_a_minted_row_needs_an_owner_that_can_spend_it(world):
    with pytest.raises(refusals.NotAMember) as refused:
        await world.submit(A, "operator", "tokens:approve", MINT | {"owner": "StrangerMSP"})
    assert refused.value.field == "owner"
