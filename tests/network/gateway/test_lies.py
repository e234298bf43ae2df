"""A minority that lies is put on record and changes nothing; a majority that disagrees ends the job and is not paid."""

import asyncio
from pathlib import Path

import pytest
from fedfabric.gateway import ApiError
from fedfabric.tests.network.gateway.house import ORGANISATIONS, House
from fedfabric.tests.network.gateway.reference import model_digest

LYING = Path(__file__).with_name("lying_gateway.py")
WITHHOLDING = Path(__file__).with_name("withholding_gateway.py")
POISONING = Path(__file__).with_name("poisoning_gateway.py")


async def balance(house: House, owner: str) -> int:
    auditor = await house.client("cleveland", "auditor")
    return int((await auditor.tokens.balance(owner)).total)


async def balances(house: House) -> dict[str, int]:
    return {one: await balance(house, house.msp(one)) for one in ORGANISATIONS}


async def test_a_gateway_that_lies_about_its_aggregate_is_outvoted_and_recorded(house: House) -> None:
    await house.mint("lie", house.msp("cleveland"), 600)
    datasets = await house.data_of("lie", *ORGANISATIONS)
    async with house.replaced(LYING, "hungary"):
        before = await balances(house)
        job = await house.submit("lie", datasets, rounds=2, budget="600")
        await house.approve(job)
        report = await house.ended("switzerland", "lie")
    assert report.job.state.value == "finished", report.job.reason
    for one in report.rounds:
        said = {row.msp: row.outcome for row in one.round.attestations}
        assert set(said) == {house.msp(name) for name in ORGANISATIONS}
        assert said[house.msp("hungary")] != one.round.outcome.digest
        assert said[house.msp("cleveland")] == said[house.msp("switzerland")] == one.round.outcome.digest
        # The liar's update was counted and paid; its attestation was not.
        parts = {payment.msp: payment.parts for payment in one.round.payments}
        assert parts == {house.msp("cleveland"): 2, house.msp("hungary"): 1, house.msp("switzerland"): 2}
    expected = await asyncio.to_thread(model_digest, house, "lie", "lie", [ORGANISATIONS] * 2)
    assert report.job.model.digest == expected
    await house.at_block("cleveland", report.block_number)
    after = await balances(house)
    assert sum(after.values()) == sum(before.values())
    # 300 a round in 5 parts of 60: the submitter paid 600 and earned 2 x 120.
    assert {one: after[one] - before[one] for one in ORGANISATIONS} == {
        "cleveland": -600 + 240,
        "hungary": 120,
        "switzerland": 240,
    }


async def test_a_majority_that_disagrees_aborts_the_job_and_nobody_is_paid(house: House) -> None:
    await house.mint("quarrel", house.msp("cleveland"), 500)
    datasets = await house.data_of("quarrel", *ORGANISATIONS)
    async with house.replaced(LYING, "hungary", "switzerland"):
        before = await balances(house)
        job = await house.submit("quarrel", datasets, rounds=2, budget="500")
        assert await balance(house, "job:quarrel") == 500
        await house.approve(job)
        report = await house.ended("cleveland", "quarrel")
    assert report.job.state.value == "aborted"
    assert "no quorum" in report.job.reason
    (only,) = report.rounds
    assert only.round.state.value == "aborted"
    assert len({row.outcome for row in only.round.attestations}) == 3
    assert only.round.payments == ()
    assert await balances(house) == before
    assert await balance(house, "job:quarrel") == 0
    scientist = await house.client("cleveland", "scientist")
    with pytest.raises(ApiError) as caught:
        await scientist.models.fetch("quarrel", house.folder / "model", round_number=1)
    assert caught.value.code == "MODEL_UNKNOWN"


async def test_bytes_that_are_no_update_are_left_out_by_all_honest_members_alike_and_not_paid(house: House) -> None:
    await house.mint("poison", house.msp("cleveland"), 500)
    datasets = await house.data_of("poison", *ORGANISATIONS)
    async with house.replaced(POISONING, "hungary"):
        job = await house.submit("poison", datasets, rounds=1, budget="500")
        await house.approve(job)
        report = await house.ended("switzerland", "poison")
    assert report.job.state.value == "finished", report.job.reason
    (only,) = report.rounds
    assert len(only.round.counted) == 3
    honest = (house.msp("cleveland"), house.msp("switzerland"))
    assert only.round.outcome.summed == honest
    # What the poisoner got is for its attestation of the honest members' sum.
    parts = {payment.msp: payment.parts for payment in only.round.payments}
    assert parts == {honest[0]: 2, house.msp("hungary"): 1, honest[1]: 2}
    said = {row.msp: row.outcome for row in only.round.attestations}
    assert said[house.msp("cleveland")] == said[house.msp("switzerland")] == only.round.outcome.digest


async def test_who_commits_an_update_and_withholds_it_is_named_and_not_paid_for_it(house: House) -> None:
    await house.mint("withheld", house.msp("cleveland"), 600)
    datasets = await house.data_of("withheld", *ORGANISATIONS)
    async with house.replaced(WITHHOLDING, "hungary"):
        job = await house.submit("withheld", datasets, rounds=2, budget="600", attest_ms=6000)
        await house.approve(job)
        report = await house.ended("switzerland", "withheld")
    assert report.job.state.value == "finished", report.job.reason
    honest = ("cleveland", "switzerland")
    for one in report.rounds:
        assert (one.round.attempt, one.round.withheld) == (2, (house.msp("hungary"),))
        assert one.round.counted == one.round.outcome.summed == tuple(map(house.msp, honest))
        parts = {payment.msp: payment.parts for payment in one.round.payments}
        assert [parts[house.msp(name)] for name in honest] == [2, 2]
        # It holds all the updates, so it may attest, and is paid for that if it does so in time: nobody waits for it.
        assert parts.get(house.msp("hungary"), 1) == 1
