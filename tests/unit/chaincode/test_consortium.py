"""The consortium's record: founded by all founders, changed by a majority, never taken over."""

import pytest
from fedfabric.chaincode.records import ConsortiumView, refusals
from fedfabric.tests.unit.chaincode.world import A, B, C, D, World, change


async def test_every_founder_is_needed():
    world = World()
    for msp in (A, B):
        await world.submit(msp, "operator", "consortium:approve", change(A, B, C))
    with pytest.raises(refusals.QuorumMissing, match=f"every founder has approved; approved by {A}, {B}$"):
        await world.submit(A, "operator", "consortium:apply", change(A, B, C))
    await world.submit(C, "operator", "consortium:approve", change(A, B, C))
    record = await world.submit(B, "operator", "consortium:apply", change(A, B, C))
    assert record["approvers"] == [A, B, C]
    assert world.events() == ["consortium.changed"]


@pytest.mark.parametrize(
    "members",
    [(A,), (A, B), (A, B, C, D), (A, B, D)],
    ids=["alone", "without one founder", "with a stranger", "with a stranger for a founder"],
)
async def test_no_other_list_than_the_endorsers_own_founds(members):
    world = World()
    with pytest.raises(refusals.FoundersDiffer, match="the founders are"):
        await world.submit(A, "operator", "consortium:approve", change(*members))
    with pytest.raises(refusals.FoundersDiffer):
        await world.submit(A, "operator", "consortium:apply", change(*members))
    assert world.ledger.state == {}


async def test_a_server_without_founders_founds_nothing():
    world = World(founders=())
    with pytest.raises(refusals.NotAMember, match="none"):
        await world.submit(A, "operator", "consortium:approve", change(A))


async def test_an_organisation_that_founds_alone_under_its_own_environment_gets_other_results_than_the_others():
    # Its own endorser says yes; the others' say no: no two organisations endorse the same.
    alone, honest = World(A, founders=(A,)), World()
    await alone.propose(A, "operator", "consortium:approve", change(A))
    with pytest.raises(refusals.FoundersDiffer):
        await honest.propose(A, "operator", "consortium:approve", change(A))


async def test_a_majority_of_members_changes_the_record_and_a_minority_does_not(world):
    grown = change(A, B, C, D, sequence=2)
    await world.submit(A, "operator", "consortium:approve", grown)
    with pytest.raises(refusals.QuorumMissing, match="more than half"):
        await world.submit(A, "operator", "consortium:apply", grown)
    with pytest.raises(refusals.NotAMember):
        await world.submit(D, "operator", "consortium:approve", grown)
    await world.submit(B, "operator", "consortium:approve", grown)
    await world.submit(A, "operator", "consortium:apply", grown)
    assert (await world.evaluate("consortium:show", {}, ConsortiumView, msp=D)).consortium.sequence == 2


async def test_approvals_of_another_change_do_not_count(world):
    await world.submit(A, "operator", "consortium:approve", change(A, B, C, D, sequence=2))
    await world.submit(B, "operator", "consortium:approve", change(A, B, sequence=2))
    for proposed in (change(A, B, C, D, sequence=2), change(A, B, sequence=2)):
        with pytest.raises(refusals.QuorumMissing):
            await world.submit(C, "operator", "consortium:apply", proposed)


async def test_approvals_of_an_earlier_number_do_not_bring_a_change_back(world):
    without = change(A, B, sequence=2)
    for msp in (A, B):
        await world.submit(msp, "operator", "consortium:approve", without)
    await world.submit(A, "operator", "consortium:apply", without)
    back = change(A, B, C, sequence=3)
    for msp in (A, B):
        await world.submit(msp, "operator", "consortium:approve", back)
    await world.submit(A, "operator", "consortium:apply", back)
    with pytest.raises(refusals.SequenceDiffers, match="number 4"):
        await world.submit(A, "operator", "consortium:apply", without)
    with pytest.raises(refusals.QuorumMissing):
        await world.submit(A, "operator", "consortium:apply", change(A, B, sequence=4))


@pytest.mark.parametrize("other", [change(A, B), change(A, B, C, window_ms=500)], ids=["members", "window"])
async def test_the_present_number_with_other_content_is_refused(world, other):
    with pytest.raises(refusals.SequenceDiffers):
        await world.submit(A, "operator", "consortium:apply", other)


async def test_a_refusal_says_who_has_approved():
    world = World()
    with pytest.raises(refusals.QuorumMissing, match=r"approved by nobody$"):
        await world.submit(A, "operator", "consortium:apply", change(A, B, C))


async def test_a_second_founding_is_refused(world):
    with pytest.raises(refusals.SequenceDiffers):
        await world.submit(A, "operator", "consortium:approve", change(A, B, C, window_ms=60_000))


async def test_saying_it_again_is_success_and_changes_nothing(world):
    assert (await world.submit(A, "operator", "consortium:apply", change(A, B, C)))["sequence"] == 1
    grown = change(A, B, C, D, sequence=2)
    for event in (["consortium.approved"], []):
        await world.submit(A, "operator", "consortium:approve", grown)
        assert world.events() == event
    view = await world.evaluate("consortium:show", {}, ConsortiumView)
    assert [row.msp for row in view.approvals] == [A]


async def test_a_departed_member_can_do_nothing_more(world):
    for msp in (A, B):
        await world.submit(msp, "operator", "consortium:approve", change(A, B, sequence=2))
    await world.submit(A, "operator", "consortium:apply", change(A, B, sequence=2))
    with pytest.raises(refusals.NotAMember):
        await world.register(C)
