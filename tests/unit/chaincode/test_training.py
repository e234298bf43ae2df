"""The life of a training job, on the fake ledger."""

from fedfabric.chaincode.records import JobState
from fedfabric.tests.unit.chaincode.world import A, B, C, digest


async def test_a_job_of_two_rounds_finishes_and_pays_everybody(world):
    job = await world.job(budget=1000)
    assert (job.state, job.round) == (JobState.RUNNING, 1)
    assert await world.balance(A) == 0
    assert await world.balance("job:j1") == 1000
    await world.whole_round(A, B, C)
    assert world.events() == ["round.final", "round.opened"]
    await world.whole_round(A, B, C, number=2)
    assert world.events() == ["round.final", "job.finished"]
    job = await world.show()
    assert (job.state, job.rounds_final, job.paid) == (JobState.FINISHED, 2, "996")
    assert job.model.digest == digest("model result 2")
    # 500 a round in 6 parts of 83: each member gets 2 * 2 * 83, and 4 go back to the submitter.
    assert [await world.balance(msp) for msp in (A, B, C)] == [332 + 4, 332, 332]
    assert await world.balance("job:j1") == 0
