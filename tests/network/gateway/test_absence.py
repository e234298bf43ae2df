"""Who is away costs a round its deadline and no more; who comes back goes on; too few end the job."""

import asyncio

import psutil
from fedfabric.tests.network.gateway.chain import happenings
from fedfabric.tests.network.gateway.house import ORGANISATIONS, House
from fedfabric.tests.network.gateway.reference import model_digest


async def test_a_gateway_that_is_dead_in_a_round_is_not_waited_for_and_rejoins(house: House) -> None:
    datasets = await house.data_of("death", *ORGANISATIONS)
    async with house.absent("hungary"), happenings(house, "cleveland") as seen:
        job = await house.submit("death", datasets, rounds=2, update_ms=15_000)
        await house.approve_directly(job, "hungary")
        await house.approve(job, "cleveland", "switzerland")
        await seen.until(lambda event: event.type == "round.opened")
        # It starts again, and is held until the round has ended without it: importing torch takes its time.
        await house.start("hungary")
        restarted = psutil.Process(house.gateways["hungary"].pid)
        while not restarted.children():  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.01)
        restarted.suspend()
        await seen.until(lambda event: event.type == "round.closed" and event.round == 1)
        restarted.resume()
        report = await house.ended("switzerland", "death")
    assert report.job.state.value == "finished", report.job.reason
    first, second = ({*one.round.counted} for one in report.rounds)
    assert first == {house.msp("cleveland"), house.msp("switzerland")}
    assert second == {house.msp(one) for one in ORGANISATIONS}
    for one in report.rounds:
        assert {row.outcome for row in one.round.attestations} == {one.round.outcome.digest}


async def test_too_few_updates_abort_the_job_and_the_budget_goes_back(house: House) -> None:
    await house.mint("alone", house.msp("cleveland"), 100)
    datasets = await house.data_of("alone", *ORGANISATIONS)
    auditor = await house.client("cleveland", "auditor")
    before = (await auditor.tokens.balance()).total
    async with house.absent("hungary", "switzerland"):
        job = await house.submit("alone", datasets, rounds=2, budget="100", update_ms=3000)
        await house.approve_directly(job, "hungary", "switzerland")
        await house.approve(job, "cleveland")
        report = await house.ended("cleveland", "alone")
    assert report.job.state.value == "aborted"
    assert "too few updates" in report.job.reason
    # The one update that came is of no use to anybody.
    (only,) = report.rounds
    (lone,) = only.updates
    kept = house.folder / "cleveland" / "state" / "blobs" / lone.blob.address[:2] / lone.blob.address
    async with asyncio.timeout(10):
        while kept.exists():  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.02)
    assert (await auditor.tokens.balance()).total == before


async def test_a_job_that_is_not_approved_in_time_ends_by_itself(house: House) -> None:
    datasets = await house.data_of("late", *ORGANISATIONS)
    job = await house.submit("late", datasets, approval_ms=1000)
    await house.approve_directly(job, "cleveland")
    report = await house.ended("hungary", "late", 30)
    assert (report.job.state.value, report.job.reason) == ("aborted", "not started before its approval deadline")


async def test_a_revoked_owner_attests_what_it_is_in_and_is_not_in_what_follows(house: House) -> None:
    datasets = await house.data_of("revoked", *ORGANISATIONS)
    hungary = house.msp("hungary")
    async with happenings(house, "cleveland") as seen:
        job = await house.submit("revoked", datasets, rounds=6)
        steward = await house.client("hungary", "steward")

        async def revoke() -> None:
            await seen.until(lambda event: event.type == "round.updated" and event.msp == hungary)
            await steward.access.revoke("revoked-hungary", reason="ethics board")

        task = asyncio.create_task(revoke())
        await house.approve(job)
        report = await house.ended("switzerland", "revoked")
        await task
    assert report.job.state.value == "finished", report.job.reason
    cohorts = [{member.msp for member in one.round.cohort} for one in report.rounds]
    assert cohorts[0] == {house.msp(one) for one in ORGANISATIONS}
    assert cohorts[-1] == cohorts[0] - {hungary}
    opened = sum(hungary in cohort for cohort in cohorts)
    assert all(hungary not in cohort for cohort in cohorts[opened:])
    assert len((await steward.access.show("revoked-hungary")).uses) <= opened
    heard = [row.msp for one in report.rounds[:opened] for row in one.attestations]
    assert heard.count(hungary) == opened


async def test_the_model_is_the_same_as_in_one_process(house: House) -> None:
    datasets = await house.data_of("same", *ORGANISATIONS)
    job = await house.submit("same", datasets, rounds=3)
    await house.approve(job)
    report = await house.ended("cleveland", "same")
    expected = await asyncio.to_thread(model_digest, house, "same", "same", [ORGANISATIONS] * 3)
    assert report.job.model.digest == expected
