"""The life of a training job, on the fake ledger."""

import pytest
from fedfabric.chaincode.records import (
    JobPage,
    JobState,
    JobView,
    RoundState,
    RoundView,
    TokenRef,
    canonical_json,
    refusals,
)
from fedfabric.tests.unit.chaincode.fake_stub import MVCC_READ_CONFLICT, VALID
from fedfabric.tests.unit.chaincode.world import WINDOW, A, B, C, D, World, blob, change, digest, outcome, plan, terms


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


async def test_every_step_of_a_job_is_an_event(world):
    uses = await world.prepare()
    told = []

    async def step(msp, role, function, request):
        made = await world.submit(msp, role, function, request)
        told.extend(world.events())
        return made

    job = await step(A, "scientist", "training:submit", {"id": "j1", "plan": plan(rounds=1), "datasets": uses[:2]})
    decision = {"job": "j1", "digest": job["digest"], "privacy": "clear"}
    await step(A, "steward", "training:approve", decision)
    await step(B, "steward", "training:approve", decision)
    await step(A, "scientist", "training:add", {"job": "j1", "dataset": uses[2]})
    await step(C, "steward", "training:refuse", decision)
    await step(A, "gateway", "training:start", {"job": "j1"})
    place = {"job": "j1", "round": 1}
    for msp in (A, B):
        await step(msp, "gateway", "training:update", place | {"attempt": 1, "blob": blob("u"), "samples": 1})
    await step(A, "scientist", "training:cancel", {"job": "j1"})
    await step(A, "gateway", "training:close", place)
    for msp in (A, B):
        await step(
            msp,
            "gateway",
            "training:attest",
            place | {"attempt": 1, "outcome": outcome("o", summed=(A, B)), "accept": True},
        )
    await step(A, "gateway", "training:finalise", place | {"outcome": digest("o"), "attestations": [A, B]})
    assert told == [
        "job.submitted",
        *["job.approved"] * 2,
        "job.owner_added",
        "job.declined",
        "job.started",
        "round.opened",
        *["round.updated"] * 2,
        "job.stopping",
        "round.closed",
        *["round.attested"] * 2,
        "round.final",
        "job.finished",
    ]


async def test_the_end_of_a_job_that_failed_is_an_event(world):
    await world.job()
    await world.submit(A, "scientist", "training:cancel", {"job": "j1"})
    assert world.events() == ["round.aborted", "job.cancelled"]
    await world.run_job([{"dataset": f"{A}/heart", "version": 1}], job="j2")
    world.now = (await world.round(1, "j2")).update_until_ms + 2 * WINDOW
    await world.abort_round(1, "j2")
    assert world.events() == ["round.aborted", "job.aborted"]


async def test_a_round_is_opened_with_what_it_needs(world):
    await world.job()
    first = await world.round()
    assert [member.msp for member in first.cohort] == [A, B, C]
    assert (first.total_samples, first.quorum, first.attempt) == (300, 2, 1)
    assert first.update_until_ms == world.now + 10_000
    assert first.model.digest == digest("initial model")
    await world.whole_round(A, B, C)
    assert (await world.round(2)).model.digest == digest("model result 1")


async def test_the_optimisers_state_goes_on_to_the_next_round(world):
    await world.job()
    for msp in (A, B, C):
        await world.update(msp)
    await world.close()
    for msp in (A, B, C):
        request = {"job": "j1", "round": 1, "attempt": 1, "outcome": outcome("with state", state=True), "accept": True}
        await world.submit(msp, "gateway", "training:attest", request)
    await world.finalise(A, B, C, text="with state")
    assert (await world.round(2)).optimizer_state.digest == digest("state with state")


# -- submission and decisions


async def test_a_job_starts_when_every_owner_has_approved(world):
    uses = await world.prepare()
    job = await world.submit(A, "scientist", "training:submit", {"id": "j1", "plan": plan(), "datasets": uses})
    for msp in (A, B):
        await world.approve(msp, "j1", job["digest"])
    with pytest.raises(refusals.ApprovalsMissing, match=f"waiting for {C}$"):
        await world.submit(B, "gateway", "training:start", {"job": "j1"})
    await world.approve(C, "j1", job["digest"])
    for _ in range(2):
        started = await world.submit(B, "gateway", "training:start", {"job": "j1"})
    assert (started["state"], started["round"], world.events()) == ("running", 1, [])
    view = await world.evaluate("training:show", {"job": "j1"}, JobView)
    assert [row.msp for row in view.decisions] == [A, B, C]


async def test_a_refusal_ends_the_job_and_gives_the_budget_back(world):
    uses = await world.prepare()
    row = await world.mint(A, 50)
    request = {"id": "j1", "plan": plan(), "datasets": uses, "budget": "40", "inputs": [row]}
    job = await world.submit(A, "scientist", "training:submit", request)
    assert await world.balance(A) == 10
    decision = {"job": "j1", "digest": job["digest"], "privacy": "clear", "reason": "not for this purpose"}
    await world.submit(C, "steward", "training:refuse", decision)
    assert world.events() == ["job.declined", "job.refused"]
    assert (await world.show()).state == JobState.REFUSED
    assert await world.balance(A) == 50
    with pytest.raises(refusals.WrongState):
        await world.approve(A, "j1", job["digest"])


async def test_an_owner_decides_once(world):
    uses = await world.prepare()
    job = await world.submit(A, "scientist", "training:submit", {"id": "j1", "plan": plan(), "datasets": uses})
    for _ in range(2):
        await world.approve(B, "j1", job["digest"])
    assert world.events() == []
    with pytest.raises(refusals.Conflict):
        await world.submit(B, "steward", "training:refuse", {"job": "j1", "digest": job["digest"], "privacy": "clear"})


async def test_a_decision_names_the_digest_and_the_policy_that_were_reviewed(world):
    uses = await world.prepare()
    job = await world.submit(A, "scientist", "training:submit", {"id": "j1", "plan": plan(), "datasets": uses})
    with pytest.raises(refusals.DigestDiffers) as refused:
        await world.approve(B, "j1", digest("another job"))
    assert refused.value.field == "digest"
    decision = {"job": "j1", "digest": job["digest"], "privacy": "masked"}
    with pytest.raises(refusals.DigestDiffers) as refused:
        await world.submit(B, "steward", "training:approve", decision)
    assert refused.value.field == "privacy"
    with pytest.raises(refusals.NotOwner):
        await (grown := await _with_d(world)).approve(D, "j1", job["digest"])
    assert grown


async def test_approvals_come_before_their_deadline_and_a_job_without_them_is_aborted(world):
    uses = await world.prepare()
    row = await world.mint(A, 50)
    request = {"id": "j1", "plan": plan(), "datasets": uses, "budget": "50", "inputs": [row]}
    job = await world.submit(A, "scientist", "training:submit", request)
    world.now += 9_999
    await world.approve(A, "j1", job["digest"])
    world.now += 1
    with pytest.raises(refusals.DeadlinePassed):
        await world.approve(B, "j1", job["digest"])
    for _ in range(2):
        with pytest.raises(refusals.TooEarly):
            await world.submit(B, "gateway", "training:abort", {"job": "j1"})
        world.now += 2 * WINDOW - 1
    world.now -= 2 * WINDOW - 2
    for _ in range(2):
        await world.submit(B, "gateway", "training:abort", {"job": "j1"})
    assert (await world.show()).state == JobState.ABORTED
    assert await world.balance(A) == 50


async def test_masked_jobs_are_refused_as_not_yet_supported(world):
    uses = await world.prepare()
    request = {"id": "j1", "plan": plan(privacy="masked"), "datasets": uses}
    with pytest.raises(refusals.MaskedNotSupported) as refused:
        await world.submit(A, "scientist", "training:submit", request)
    assert refused.value.field == "plan.privacy"


async def test_the_same_job_again_is_success_and_another_under_its_id_a_conflict(world):
    uses = await world.prepare()
    row = await world.mint(A, 50)
    request = {"id": "j1", "plan": plan(), "datasets": uses, "budget": "50", "inputs": [row]}
    first = await world.submit(A, "scientist", "training:submit", request)
    assert await world.submit(A, "scientist", "training:submit", request) == first
    assert world.events() == []
    for changes in ({"budget": "49"}, {"plan": plan(rounds=3)}, {"datasets": uses[:1]}, {"title": "x"}):
        with pytest.raises(refusals.Conflict):
            await world.submit(A, "scientist", "training:submit", request | changes)


async def test_a_jobs_digest_covers_all_its_terms(world):
    uses = await world.prepare()
    seen = set()
    variants = (
        {},
        {"title": "x"},
        {"plan": plan(rounds=3)},
        {"plan": plan(clip="1.50")},
        {"plan": plan(bundle=blob("other"))},
        {"plan": plan(optimizer={"name": "adam", "parameters": {"learning_rate": "0.1"}})},
        {"datasets": uses[:2]},
    )
    for number, changes in enumerate(variants):
        request = {"id": f"j{number}", "plan": plan(), "datasets": uses} | changes
        seen.add((await world.submit(A, "scientist", "training:submit", request))["digest"])
    assert len(seen) == len(variants)


@pytest.mark.parametrize(
    ("changes", "refusal", "field"),
    [
        ({"datasets": []}, refusals.InvalidField, "datasets"),
        ({"datasets": [{"dataset": f"{A}/heart", "version": 1}] * 257}, refusals.TooLarge, "datasets"),
        ({"datasets": [{"dataset": f"{A}/heart", "version": 1}] * 2}, refusals.InvalidField, ""),
        ({"datasets": [{"dataset": f"{A}/none", "version": 1}]}, refusals.UnknownDataset, "datasets.0.dataset"),
        ({"datasets": [{"dataset": f"{A}/heart", "version": 2}]}, refusals.VersionDiffers, "datasets.0.version"),
        ({"datasets": [{"dataset": f"{B}/heart", "version": 1}]}, refusals.GrantMissing, "datasets.0.grant"),
        (
            {"datasets": [{"dataset": f"{B}/heart", "version": 1, "grant": "none"}]},
            refusals.UnknownRequest,
            "datasets.0.grant",
        ),
        (
            {"datasets": [{"dataset": f"{B}/heart", "version": 1, "grant": "g-" + C.lower()}]},
            refusals.GrantDiffers,
            "datasets.0.grant",
        ),
        ({"budget": "-1"}, refusals.InvalidField, "budget"),
        ({"budget": "1" + "0" * 30}, refusals.TooLarge, "budget"),
        ({"budget": "5"}, refusals.SumsDiffer, "inputs"),
        ({"budget": "5", "inputs": [{"tx": "0" * 64, "n": 0}]}, refusals.TokenUnknown, "inputs.0"),
        ({"inputs": [{"tx": "0" * 64, "n": 0}]}, refusals.SumsDiffer, "inputs"),
        ({"budget": "5", "payer": B}, refusals.NotOwner, "payer"),
        ({"id": "J1"}, refusals.InvalidField, "id"),
        ({"title": "a\nb"}, refusals.InvalidField, "title"),
        ({"plan": plan(rounds=0)}, refusals.OutOfRange, "plan.rounds"),
        ({"plan": plan(rounds=10_001)}, refusals.OutOfRange, "plan.rounds"),
        ({"plan": plan(update_ms=0)}, refusals.OutOfRange, "plan.update_ms"),
        ({"plan": plan(attest_ms=-1)}, refusals.OutOfRange, "plan.attest_ms"),
        ({"plan": plan(approval_ms=2**40)}, refusals.OutOfRange, "plan.approval_ms"),
        ({"plan": plan(clip="-1")}, refusals.InvalidField, "plan.clip"),
        ({"plan": plan(clip="NaN")}, refusals.InvalidField, "plan.clip"),
        ({"plan": plan(clip="Infinity")}, refusals.InvalidField, "plan.clip"),
        ({"plan": plan(clip="1e400")}, refusals.InvalidField, "plan.clip"),
        ({"plan": plan(clip="0")}, refusals.InvalidField, "plan.clip"),
        ({"plan": plan(clip="0.000")}, refusals.InvalidField, "plan.clip"),
        ({"plan": plan(clip="0.0000000000009")}, refusals.InvalidField, "plan.clip"),
        ({"plan": plan(optimizer={"name": "lion"})}, refusals.InvalidField, "plan.optimizer"),
        ({"plan": plan(optimizer={"parameters": {"beta1": "0.1"}})}, refusals.InvalidField, "plan.optimizer"),
        ({"plan": plan(optimizer={"parameters": {"learning_rate": "0"}})}, refusals.InvalidField, "plan.optimizer"),
        ({"plan": plan(algorithm="../x")}, refusals.InvalidField, "plan.algorithm"),
        (
            {"plan": plan(optimizer={"name": "sgd", "parameters": {f"p{n}": "1" for n in range(17)}})},
            refusals.TooLarge,
            "plan.optimizer.parameters",
        ),
    ],
)
async def test_a_bad_job_is_refused_by_field_and_nothing_is_written(world, changes, refusal, field):
    await world.prepare()
    before = dict(world.ledger.state)
    request = {"id": "j1", "plan": plan(), "datasets": [{"dataset": f"{A}/heart", "version": 1}]} | changes
    with pytest.raises(refusal) as refused:
        await world.submit(A, "scientist", "training:submit", request)
    assert refused.value.field == field
    assert world.ledger.state == before


@pytest.mark.parametrize(
    ("step", "refusal"),
    [
        (("access:revoke", {"id": "g-" + B.lower()}), refusals.GrantRevoked),
        (("datasets:retire", {"id": f"{B}/heart"}), refusals.DatasetRetired),
    ],
)
async def test_a_job_cannot_name_what_is_no_longer_given(world, step, refusal):
    uses = await world.prepare()
    await world.submit(B, "steward", *step)
    with pytest.raises(refusal):
        await world.submit(A, "scientist", "training:submit", {"id": "j1", "plan": plan(), "datasets": uses})


async def test_a_grant_for_another_organisation_does_not_serve(world):
    uses = await world.prepare()
    stolen = [uses[2]]
    with pytest.raises(refusals.GrantDiffers):
        await world.submit(B, "scientist", "training:submit", {"id": "j1", "plan": plan(), "datasets": stolen})


async def test_data_that_is_not_for_training_is_not_trained_on(world):
    await world.register(A, purposes=["statistics"])
    request = {"id": "j1", "plan": plan(), "datasets": [{"dataset": f"{A}/heart", "version": 1}]}
    with pytest.raises(refusals.PurposeNotPermitted):
        await world.submit(A, "scientist", "training:submit", request)


# -- rounds


async def test_an_organisation_outside_the_cohort_can_neither_update_nor_attest(world):
    await (grown := await _with_d(world)).job_of(A, B, C)
    with pytest.raises(refusals.NotInCohort):
        await grown.update(D)
    for msp in (A, B, C):
        await grown.update(msp)
    await grown.close()
    with pytest.raises(refusals.NotInCohort):
        await grown.attest(D)


async def test_an_update_is_committed_once_and_the_same_again_is_success(world):
    await world.job()
    await world.update(A)
    await world.update(A)
    assert world.events() == []
    with pytest.raises(refusals.Conflict):
        await world.update(A, text="a better one")
    for msp in (B, C):
        await world.update(msp)
    await world.close()
    # A repetition that arrives late is still only a repetition.
    await world.update(A)
    with pytest.raises(refusals.Conflict):
        await world.update(A, text="a better one")


@pytest.mark.parametrize(
    ("changes", "refusal", "field"),
    [
        ({"samples": 101}, refusals.SamplesExceeded, "samples"),
        ({"samples": 0}, refusals.OutOfRange, "samples"),
        ({"samples": -1}, refusals.OutOfRange, "samples"),
        ({"attempt": 2}, refusals.WrongState, "attempt"),
        ({"round": 2}, refusals.UnknownRound, "round"),
        ({"round": 0}, refusals.OutOfRange, "round"),
        ({"job": "none"}, refusals.UnknownJob, "job"),
        ({"metrics": {"loss": "NaN"}}, refusals.InvalidField, "metrics.loss"),
        ({"metrics": {f"m{n}": 1 for n in range(33)}}, refusals.TooLarge, "metrics"),
        ({"metrics": {"Loss!": 1}}, refusals.InvalidField, "metrics.Loss!"),
        ({"blob": blob("u") | {"address": "../" + "0" * 61}}, refusals.InvalidField, "blob.address"),
    ],
)
async def test_a_bad_update_is_refused_by_field_and_nothing_is_written(world, changes, refusal, field):
    await world.job()
    before = dict(world.ledger.state)
    request = {"job": "j1", "round": 1, "attempt": 1, "blob": blob("u"), "samples": 100} | changes
    with pytest.raises(refusal) as refused:
        await world.submit(A, "gateway", "training:update", request)
    assert refused.value.field.removesuffix(".[key]") == field
    assert world.ledger.state == before


async def test_updates_are_taken_before_the_deadline_and_the_round_is_closed_two_windows_after_it(world):
    await world.job()
    await world.update(A)
    until = (await world.round()).update_until_ms
    world.now = until - 1
    await world.update(B)
    world.now = until
    with pytest.raises(refusals.DeadlinePassed):
        await world.update(C)
    world.now = until + 2 * WINDOW - 1
    with pytest.raises(refusals.TooEarly, match=f"t is {world.now} and must be {world.now + 1}$"):
        await world.close()
    world.now = until + 2 * WINDOW
    closed = await world.close()
    assert closed["counted"] == [A, B]


async def test_a_round_of_the_whole_cohort_is_closed_at_once_by_any_gateway(world):
    await world.job()
    for msp in (A, B, C):
        await world.update(msp)
    first = await world.close(msp=C)
    assert await world.close(msp=A) == first
    assert world.events() == []


async def test_a_round_without_a_quorum_of_updates_aborts_the_job_and_nobody_is_paid(world):
    await world.job(budget=600)
    await world.update(A)
    until = (await world.round()).update_until_ms
    with pytest.raises(refusals.TooEarly):
        await world.abort_round()
    world.now = until + 2 * WINDOW
    with pytest.raises(refusals.QuorumMissing):
        await world.close()
    for _ in range(2):
        await world.abort_round()
    job = await world.show()
    assert (job.state, job.reason) == (JobState.ABORTED, "round 1: too few updates before its deadline")
    assert [await world.balance(msp) for msp in (A, B, C)] == [600, 0, 0]
    assert world.supply() == 600


async def test_a_round_with_its_quorum_of_updates_is_closed_and_not_aborted(world):
    await world.job()
    for msp in (A, B):
        await world.update(msp)
    world.now = (await world.round()).update_until_ms + 2 * WINDOW
    with pytest.raises(refusals.QuorumPossible):
        await world.abort_round()
    await world.close()


async def test_attestations_need_a_closed_round_and_come_before_their_deadline(world):
    await world.job()
    for msp in (A, B, C):
        await world.update(msp)
    with pytest.raises(refusals.WrongState):
        await world.attest(A)
    await world.close()
    await world.attest(A)
    await world.attest(A)
    assert world.events() == []
    with pytest.raises(refusals.Conflict):
        await world.attest(A, text="on second thought")
    with pytest.raises(refusals.Conflict):
        await world.attest(A, accept=False)
    world.now = (await world.round()).attest_until_ms
    with pytest.raises(refusals.DeadlinePassed):
        await world.attest(B)


async def test_a_liar_is_outvoted_recorded_and_not_paid_for_its_attestation(world):
    await world.job(budget=1000)
    for msp in (A, B, C):
        await world.update(msp)
    await world.close()
    await world.attest(A)
    await world.attest(B, text="a lie")
    with pytest.raises(refusals.QuorumMissing):
        await world.finalise(A)
    with pytest.raises(refusals.QuorumMissing):
        await world.finalise(B, text="a lie")
    await world.attest(C)
    for attesters in ((B,), (A, C)):
        with pytest.raises(refusals.QuorumMissing, match="2 of 3"):
            await world.finalise(*attesters, text="a lie")
    with pytest.raises(refusals.AttestationsDiffer, match=f"attested by {A}, {C}"):
        await world.finalise(A, B, C)
    with pytest.raises(refusals.AttestationsDiffer):
        await world.finalise(A)
    await world.finalise(A, C)
    final = await world.round()
    assert (final.state, final.outcome.digest) == (RoundState.FINAL, digest("result 1"))
    said = {one.msp: one.outcome for one in final.attestations}
    assert said == {A: digest("result 1"), B: digest("a lie"), C: digest("result 1")}
    # 500 in 5 parts: B is paid for its update alone.
    assert [await world.balance(msp) for msp in (A, B, C)] == [200, 100, 200]


async def test_members_agree_on_the_whole_outcome_and_not_on_its_digest_alone(world):
    await world.job()
    for msp in (A, B, C):
        await world.update(msp)
    await world.close()
    for msp in (A, B, C):
        said = outcome("result 1") | {"model": blob(f"model of {msp}")}
        await world.submit(
            msp, "gateway", "training:attest", {"job": "j1", "round": 1, "attempt": 1, "outcome": said, "accept": True}
        )
    with pytest.raises(refusals.QuorumMissing):
        await world.finalise(A, B, C)
    await world.abort_round()


async def test_a_disagreeing_majority_aborts_the_job_and_nobody_is_paid(world):
    await world.job(budget=600)
    for msp in (A, B, C):
        await world.update(msp)
    await world.close()
    await world.attest(A, text="one")
    with pytest.raises(refusals.QuorumPossible):
        await world.abort_round()
    await world.attest(B, text="two")
    with pytest.raises(refusals.QuorumPossible):
        await world.abort_round()
    await world.attest(C, text="three")
    await world.abort_round()
    assert (await world.show()).state == JobState.ABORTED
    assert [await world.balance(msp) for msp in (A, B, C)] == [600, 0, 0]
    assert len((await world.round()).attestations) == 3


async def test_a_model_that_the_members_do_not_accept_is_not_final(world):
    await world.job(budget=600)
    for msp in (A, B, C):
        await world.update(msp)
    await world.close()
    await world.attest(A)
    await world.attest(B, accept=False)
    await world.attest(C, accept=False)
    with pytest.raises(refusals.QuorumMissing):
        await world.finalise(A, B, C)
    await world.abort_round()
    assert await world.balance(A) == 600


async def test_the_accepting_quorum_pays_those_too_who_got_the_same_and_did_not_accept(world):
    await world.job(budget=600)
    for msp in (A, B, C):
        await world.update(msp)
    await world.close()
    await world.attest(A)
    await world.attest(B)
    await world.attest(C, accept=False)
    await world.finalise(A, B, C)
    assert [await world.balance(msp) for msp in (A, B, C)] == [100, 100, 100]


async def test_a_member_that_dies_before_attesting_is_waited_for_until_its_deadline(world):
    await world.job(budget=600)
    for msp in (A, B, C):
        await world.update(msp)
    await world.close()
    for msp in (A, B):
        await world.attest(msp)
    until = (await world.round()).attest_until_ms
    world.now = until + 2 * WINDOW - 1
    with pytest.raises(refusals.TooEarly, match=f"t is {world.now} and must be {world.now + 1}$"):
        await world.finalise(A, B)
    world.now = until + 2 * WINDOW
    with pytest.raises(refusals.QuorumPossible):
        await world.abort_round()
    await world.finalise(A, B)
    assert [await world.balance(msp) for msp in (A, B, C)] == [120, 120, 60]


async def test_a_member_that_died_before_its_update_is_not_waited_for_and_may_attest(world):
    await world.job(budget=600)
    for msp in (A, B):
        await world.update(msp)
    world.now = (await world.round()).update_until_ms + 2 * WINDOW
    await world.close()
    await world.attest(A)
    await world.attest(C)
    with pytest.raises(refusals.TooEarly):
        await world.finalise(A, C)
    await world.attest(B)
    await world.finalise(A, B, C)
    # 300 in 5 parts: C is paid for attesting alone, and is in the next round's cohort.
    assert [await world.balance(msp) for msp in (A, B, C)] == [120, 120, 60]
    assert [member.msp for member in (await world.round(2)).cohort] == [A, B, C]


async def test_a_round_is_aborted_when_too_few_attest_in_time(world):
    await world.job(budget=600)
    for msp in (A, B, C):
        await world.update(msp)
    await world.close()
    await world.attest(A)
    world.now = (await world.round()).attest_until_ms + 2 * WINDOW
    with pytest.raises(refusals.QuorumMissing):
        await world.finalise(A)
    await world.abort_round()
    assert await world.balance(A) == 600


async def _closed(world, **changes):
    """A round in which all delivered and which is closed, with a budget of 60 a round."""
    await world.job(budget=120, **changes)
    for msp in (A, B, C):
        await world.update(msp)
    await world.close()


async def test_an_update_that_a_quorum_cannot_get_is_left_out_in_a_new_attempt_and_not_paid(world):
    await _closed(world)
    await world.attest(C)
    await world.report_missing(A, C)
    with pytest.raises(refusals.QuorumMissing, match="a quorum can't get"):
        await world.recount()
    await world.report_missing(B, C)
    assert world.events() == ["round.missed"]
    world.now += 1000
    record = await world.recount()
    assert world.events() == ["round.recounted"]
    assert (record["state"], record["attempt"], record["counted"], record["withheld"]) == ("closed", 2, [A, B], [C])
    assert record["attest_until_ms"] == world.now + 10_000
    for msp in (A, B):
        await world.attest(msp)
    await world.finalise(A, B)
    paid = {payment.msp: payment.amount for payment in (await world.round()).payments}
    assert paid == {A: "30", B: "30"}


async def test_what_was_attested_before_a_recount_counts_no_more(world):
    await _closed(world)
    await world.attest(C)
    await world.attest(A, accept=False)
    for msp in (A, B):
        await world.report_missing(msp, C)
    await world.recount()
    view = await world.evaluate("training:round", {"job": "j1", "round": 1}, RoundView)
    assert (view.attestations, view.missing) == ((), ())
    with pytest.raises(refusals.WrongState, match="attempt is 2"):
        await world.attest(B, attempt=1)
    await world.attest(A)


async def test_a_minority_cannot_have_an_update_left_out(world):
    await _closed(world)
    await world.report_missing(A, B, C)
    with pytest.raises(refusals.QuorumMissing):
        await world.recount()
    for msp in (A, B, C):
        await world.attest(msp)
    await world.finalise(A, B, C)


async def test_a_quorum_that_agrees_comes_before_one_that_misses(world):
    await _closed(world)
    for msp in (A, B):
        await world.report_missing(msp, C)
        await world.attest(msp)
    with pytest.raises(refusals.QuorumPossible, match="no outcome has a quorum"):
        await world.recount()


async def test_a_round_is_not_counted_anew_below_its_quorum_and_its_end_names_who_withheld(world):
    await _closed(world)
    for msp in (A, B):
        await world.report_missing(msp, B, C)
    with pytest.raises(refusals.QuorumMissing, match="a quorum of updates is left"):
        await world.recount()
    world.now = (await world.round()).attest_until_ms + 2 * WINDOW
    await world.abort_round()
    assert (await world.show()).reason == f"round 1: no quorum for one outcome; nobody has the updates of {B}, {C}"


async def test_what_is_missed_is_said_once_in_time_by_the_cohort_of_what_is_counted(world):
    await world.job()
    await world.update(A)
    await world.update(B)
    with pytest.raises(refusals.WrongState):
        await world.report_missing(A, C)
    world.now = (await world.round()).update_until_ms + 2 * WINDOW
    await world.close()
    with pytest.raises(refusals.NotCounted, match=C) as refused:
        await world.report_missing(A, B, C)
    assert refused.value.field == "members"
    with pytest.raises(refusals.WrongState, match="attempt is 1"):
        await world.report_missing(A, B, attempt=2)
    await world.report_missing(A, B)
    await world.report_missing(A, B)
    with pytest.raises(refusals.Conflict):
        await world.report_missing(A, A, B)
    world.now = (await world.round()).attest_until_ms
    with pytest.raises(refusals.DeadlinePassed):
        await world.report_missing(C, B)
    with pytest.raises(refusals.InvalidField):
        await world.report_missing(C, B, A)


async def test_an_update_that_all_leave_out_of_the_sum_is_not_paid(world):
    await _closed(world)
    said = {"job": "j1", "round": 1, "attempt": 1, "outcome": outcome("result 1", summed=(A, B)), "accept": True}
    for msp in (A, B, C):
        await world.submit(msp, "gateway", "training:attest", said)
    await world.finalise(A, B, C)
    paid = {payment.msp: (payment.parts, payment.amount) for payment in (await world.round()).payments}
    assert paid == {A: (2, "24"), B: (2, "24"), C: (1, "12")}


async def test_an_outcome_sums_only_what_is_counted(world):
    await world.job()
    await world.update(A)
    await world.update(B)
    world.now = (await world.round()).update_until_ms + 2 * WINDOW
    await world.close()
    said = {"job": "j1", "round": 1, "attempt": 1, "outcome": outcome("result 1"), "accept": True}
    with pytest.raises(refusals.NotCounted) as refused:
        await world.submit(A, "gateway", "training:attest", said)
    assert refused.value.field == "outcome.summed"


@pytest.mark.parametrize("present", [WINDOW // 2, 3 * WINDOW], ids=["lowered", "raised"])
async def test_a_deadline_is_over_by_the_larger_of_the_window_then_and_now(world, present):
    await world.job()
    await world.update(A)
    await world.update(B)
    changed = change(A, B, C, sequence=2, window_ms=present)
    for msp in (A, B, C):
        await world.submit(msp, "operator", "consortium:approve", changed)
    await world.submit(A, "operator", "consortium:apply", changed)
    world.now = (await world.round()).update_until_ms + 2 * max(present, WINDOW) - 1
    with pytest.raises(refusals.TooEarly):
        await world.close()
    world.now += 1
    await world.close()
    world.now = (await world.round()).attest_until_ms + 2 * max(present, WINDOW) - 1
    with pytest.raises(refusals.QuorumPossible):
        await world.abort_round()
    world.now += 1
    await world.abort_round()


async def test_finalising_again_is_success_with_the_same_outcome_only(world):
    await world.job()
    await world.whole_round(A, B, C)
    await world.finalise(A, B, C)
    assert world.events() == []
    with pytest.raises(refusals.Conflict):
        await world.finalise(A, B, C, text="another")
    with pytest.raises(refusals.WrongState):
        await world.abort_round()


async def test_finalising_an_open_round_is_refused(world):
    await world.job()
    with pytest.raises(refusals.WrongState):
        await world.finalise(A, B)


# -- who takes part next


async def test_a_revoked_grant_is_out_from_the_next_round_and_finishes_the_present_one(world):
    await world.job()
    await world.submit(C, "steward", "access:revoke", {"id": "g-" + C.lower()})
    await world.whole_round(A, B, C)
    assert [member.msp for member in (await world.round(2)).cohort] == [A, B]
    with pytest.raises(refusals.NotInCohort):
        await world.update(C, 2)


async def test_a_retired_data_set_is_out_from_the_next_round(world):
    await world.job()
    await world.submit(B, "steward", "datasets:retire", {"id": f"{B}/heart"})
    await world.whole_round(A, B, C)
    assert [member.msp for member in (await world.round(2)).cohort] == [A, C]


async def test_an_updated_data_set_is_out_from_the_next_round(world):
    await world.job()
    update = {"id": f"{B}/heart", "version": 1, "terms": terms(samples=99)}
    await world.submit(B, "steward", "datasets:update", update)
    await world.whole_round(A, B, C)
    assert [member.msp for member in (await world.round(2)).cohort] == [A, C]


async def test_a_departed_member_is_out_from_the_next_round(world):
    await world.job()
    for msp in (A, B, C):
        await world.update(msp)
    await world.close()
    for msp in (A, B, C):
        await world.attest(msp)
    for msp in (A, B):
        await world.submit(msp, "operator", "consortium:approve", change(A, B, sequence=2))
    await world.submit(A, "operator", "consortium:apply", change(A, B, sequence=2))
    await world.finalise(A, B, C)
    assert [member.msp for member in (await world.round(2)).cohort] == [A, B]


async def test_an_expired_grant_is_out_from_the_next_round(world):
    for msp in (A, B):
        await world.register(msp)
    asked = {"id": "g", "dataset": f"{B}/heart", "version": 1, "purpose": "training"}
    await world.submit(A, "scientist", "access:request", asked)
    await world.submit(B, "steward", "access:grant", {"id": "g", "expires_ms": world.now + 10})
    uses = [{"dataset": f"{A}/heart", "version": 1}, {"dataset": f"{B}/heart", "version": 1, "grant": "g"}]
    await world.run_job(uses)
    world.now += 10
    await world.whole_round(A, B)
    assert [member.msp for member in (await world.round(2)).cohort] == [A]


async def test_when_nobody_may_take_part_any_more_the_job_is_aborted_after_paying_the_round(world):
    await world.register(B)
    await world.grant(B, A, "g")
    await world.run_job([{"dataset": f"{B}/heart", "version": 1, "grant": "g"}], budget=100)
    await world.submit(B, "steward", "access:revoke", {"id": "g"})
    await world.whole_round(B)
    job = await world.show()
    assert (job.state, job.reason, job.rounds_final) == (JobState.ABORTED, "no owner may take part any more", 1)
    assert [await world.balance(msp) for msp in (A, B)] == [50, 50]


async def test_a_job_whose_owners_all_fell_away_before_the_start_does_not_start(world):
    await world.register(B)
    await world.grant(B, A, "g")
    uses = [{"dataset": f"{B}/heart", "version": 1, "grant": "g"}]
    job = await world.submit(A, "scientist", "training:submit", {"id": "j1", "plan": plan(), "datasets": uses})
    await world.approve(B, "j1", job["digest"])
    await world.submit(B, "steward", "access:revoke", {"id": "g"})
    with pytest.raises(refusals.CohortEmpty):
        await world.submit(B, "gateway", "training:start", {"job": "j1"})


async def test_a_late_owner_joins_from_the_next_round_after_its_approval(world):
    grown = await _with_d(world)
    job = await grown.job_of(A, B, C, rounds=3)
    await grown.register(D)
    await grown.grant(D, A, "late")
    add = {"job": "j1", "dataset": {"dataset": f"{D}/heart", "version": 1, "grant": "late"}}
    with pytest.raises(refusals.NotOwner):
        await grown.submit(B, "scientist", "training:add", add)
    for _ in range(2):
        await grown.submit(A, "scientist", "training:add", add)
    assert grown.events() == []
    await grown.whole_round(A, B, C)
    assert [member.msp for member in (await grown.round(2)).cohort] == [A, B, C]
    await grown.approve(D, "j1", job.digest)
    await grown.whole_round(A, B, C, number=2)
    third = await grown.round(3)
    assert [member.msp for member in third.cohort] == [A, B, C, D]
    assert (third.quorum, third.total_samples) == (3, 400)
    await grown.whole_round(A, B, C, D, number=3)
    assert (await grown.show()).state == JobState.FINISHED
    assert (await grown.show()).digest == job.digest


async def test_a_late_owners_refusal_only_keeps_it_out(world):
    grown = await _with_d(world)
    job = await grown.job_of(A, B, C)
    await grown.register(D)
    await grown.grant(D, A, "late")
    add = {"job": "j1", "dataset": {"dataset": f"{D}/heart", "version": 1, "grant": "late"}}
    await grown.submit(A, "scientist", "training:add", add)
    await grown.submit(D, "steward", "training:refuse", {"job": "j1", "digest": job.digest, "privacy": "clear"})
    await grown.whole_round(A, B, C)
    assert [member.msp for member in (await grown.round(2)).cohort] == [A, B, C]


async def test_a_second_data_set_of_an_owner_is_not_added(world):
    await world.job()
    await world.register(B, name="more")
    await world.grant(B, A, "more", name="more")
    add = {"job": "j1", "dataset": {"dataset": f"{B}/more", "version": 1, "grant": "more"}}
    with pytest.raises(refusals.Conflict):
        await world.submit(A, "scientist", "training:add", add)


async def test_a_job_has_a_bounded_number_of_owners(world, monkeypatch):
    grown = await _with_d(world)
    await grown.job_of(A, B, C)
    await grown.register(D)
    await grown.grant(D, A, "late")
    add = {"job": "j1", "dataset": {"dataset": f"{D}/heart", "version": 1, "grant": "late"}}
    monkeypatch.setattr("fedfabric.chaincode.jobs.MAX_OWNERS", 3)
    with pytest.raises(refusals.TooLarge):
        await grown.submit(A, "scientist", "training:add", add)
    monkeypatch.setattr("fedfabric.chaincode.jobs.MAX_OWNERS", 4)
    await grown.submit(A, "scientist", "training:add", add)


async def test_a_departed_members_data_is_not_named_in_a_new_job(world):
    uses = await world.prepare()
    for msp in (A, B):
        await world.submit(msp, "operator", "consortium:approve", change(A, B, sequence=2))
    await world.submit(A, "operator", "consortium:apply", change(A, B, sequence=2))
    with pytest.raises(refusals.NotAMember) as refused:
        await world.submit(A, "scientist", "training:submit", {"id": "j1", "plan": plan(), "datasets": uses})
    assert refused.value.field == "datasets.2.dataset"


async def test_an_addition_needs_a_grant(world):
    grown = await _with_d(world)
    await grown.job_of(A, B, C)
    await grown.register(D)
    add = {"job": "j1", "dataset": {"dataset": f"{D}/heart", "version": 1}}
    with pytest.raises(refusals.GrantMissing):
        await grown.submit(A, "scientist", "training:add", add)


# -- cancelling


async def test_a_job_is_cancelled_at_once_while_nobody_has_delivered(world):
    await world.job(budget=600)
    with pytest.raises(refusals.NotOwner):
        await world.submit(B, "scientist", "training:cancel", {"job": "j1"})
    for _ in range(2):
        await world.submit(A, "scientist", "training:cancel", {"job": "j1"})
    assert ((await world.show()).state, (await world.round()).state) == (JobState.CANCELLED, RoundState.ABORTED)
    assert await world.balance(A) == 600
    with pytest.raises(refusals.WrongState):
        await world.update(B)


async def test_a_submitter_cannot_cancel_out_of_paying_for_a_round_in_which_somebody_delivered(world):
    await world.job(budget=600)
    await world.update(B)
    for event in (["job.stopping"], []):
        cancelled = await world.submit(A, "scientist", "training:cancel", {"job": "j1"})
        assert world.events() == event
    assert (cancelled["state"], cancelled["stopping"]) == ("running", True)
    await world.whole_round(A, B, C)
    job = await world.show()
    assert (job.state, job.round, job.reason) == (JobState.CANCELLED, 1, "cancelled by its submitter")
    assert [await world.balance(msp) for msp in (A, B, C)] == [300 + 100, 100, 100]


async def test_a_stopping_job_that_ended_otherwise_is_cancelled_no_more(world):
    await world.job(rounds=1)
    await world.update(B)
    await world.submit(A, "scientist", "training:cancel", {"job": "j1"})
    await world.whole_round(A, B, C)
    assert (await world.show()).state == JobState.FINISHED
    with pytest.raises(refusals.WrongState):
        await world.submit(A, "scientist", "training:cancel", {"job": "j1"})


async def test_a_submitted_job_is_cancelled_before_its_start(world):
    uses = await world.prepare()
    await world.submit(A, "scientist", "training:submit", {"id": "j1", "plan": plan(), "datasets": uses})
    assert (await world.submit(A, "scientist", "training:cancel", {"job": "j1"}))["state"] == "cancelled"
    with pytest.raises(refusals.WrongState):
        await world.submit(B, "gateway", "training:start", {"job": "j1"})


async def test_a_finished_job_is_over(world):
    job = await world.job(rounds=1)
    await world.whole_round(A, B, C)
    for role, function, request in (
        ("scientist", "training:cancel", {"job": "j1"}),
        ("gateway", "training:abort", {"job": "j1"}),
        ("steward", "training:refuse", {"job": "j1", "digest": job.digest, "privacy": "clear"}),
    ):
        with pytest.raises((refusals.WrongState, refusals.Conflict)):
            await world.submit(A, role, function, request)
    with pytest.raises(refusals.UnknownRound):
        await world.round(2)


# -- money


@pytest.mark.parametrize("budget", [1, 5, 7, 1000, 10**29])
async def test_what_does_not_divide_comes_back(world, budget):
    await world.job(budget=budget, rounds=3)
    for number in (1, 2, 3):
        await world.whole_round(A, B, C, number=number)
        assert world.supply() == budget
    part = budget // 3 // 6
    rest = budget - 3 * 6 * part
    assert [await world.balance(msp) for msp in (A, B, C)] == [6 * part + rest, 6 * part, 6 * part]


async def test_change_beyond_30_digits_is_refused(world):
    uses = await world.prepare()
    rows = [await world.mint(A, 10**30 - 1, f"large{number}") for number in range(2)]
    request = {"id": "j1", "plan": plan(), "datasets": uses, "inputs": rows}
    with pytest.raises(refusals.AmountOverflow):
        await world.submit(A, "scientist", "training:submit", request | {"budget": str(10**30 - 2)})
    await world.submit(A, "scientist", "training:submit", request | {"budget": str(10**30 - 1)})
    assert await world.balance(A) == 10**30 - 1


async def test_a_named_payer_gets_the_rest_back(world):
    uses = await world.prepare()
    row = await world.mint(f"{A}/alice", 100)
    request = {
        "id": "j1",
        "plan": plan(),
        "datasets": uses,
        "budget": "90",
        "payer": f"{A}/alice",
        "inputs": [row],
    }
    with pytest.raises(refusals.NotOwner):
        await world.submit(A, "scientist", "training:submit", request, name="bob")
    await world.submit(A, "scientist", "training:submit", request, name="alice")
    await world.submit(A, "scientist", "training:cancel", {"job": "j1"}, name="bob")
    assert await world.balance(f"{A}/alice") == 100


async def test_nobody_can_spend_an_escrow(world):
    await world.job(budget=600)
    held = TokenRef.model_validate_json(canonical_json((await world.show()).escrow.model_dump()))
    for owner in ("job:j1", A):
        request = {"owner": owner, "inputs": [{"tx": held.tx, "n": held.n}], "outputs": [{"owner": A, "amount": "600"}]}
        with pytest.raises((refusals.InvalidField, refusals.TokenUnknown)):
            await world.submit(A, "operator", "tokens:transfer", request)
    other = {"id": "j2", "plan": plan(), "datasets": [{"dataset": f"{A}/heart", "version": 1}], "budget": "600"}
    with pytest.raises(refusals.TokenUnknown):
        await world.submit(A, "scientist", "training:submit", other | {"inputs": [{"tx": held.tx, "n": held.n}]})


# -- blocks


async def test_all_organisations_write_in_one_block_without_conflicts(world):
    uses = await world.prepare()
    job = await world.submit(A, "scientist", "training:submit", {"id": "j1", "plan": plan(), "datasets": uses})
    approve = {"job": "j1", "digest": job["digest"], "privacy": "clear"}
    proposed = [await world.propose(msp, "steward", "training:approve", approve) for msp in (A, B, C)]
    assert world.ledger.commit(*proposed) == [VALID] * 3
    await world.submit(B, "gateway", "training:start", {"job": "j1"})
    update = {"job": "j1", "round": 1, "attempt": 1, "blob": blob("u"), "samples": 1}
    proposed = [await world.propose(msp, "gateway", "training:update", update) for msp in (A, B, C)]
    assert world.ledger.commit(*proposed) == [VALID] * 3
    await world.close()
    attest = {"job": "j1", "round": 1, "attempt": 1, "outcome": outcome("result 1"), "accept": True}
    proposed = [await world.propose(msp, "gateway", "training:attest", attest) for msp in (A, B, C)]
    assert world.ledger.commit(*proposed) == [VALID] * 3
    finalise = {"job": "j1", "round": 1, "outcome": digest("result 1"), "attestations": [A, B, C]}
    proposed = [await world.propose(msp, "gateway", "training:finalise", finalise) for msp in (A, B, C)]
    assert world.ledger.commit(*proposed) == [VALID, MVCC_READ_CONFLICT, MVCC_READ_CONFLICT]


@pytest.mark.parametrize("hoarded", ["update", "attest"])
async def test_a_transition_voids_what_was_endorsed_before_it(world, hoarded):
    await world.job()
    for msp in (A, B):
        await world.update(msp)
    update = {"job": "j1", "round": 1, "attempt": 1, "blob": blob("u"), "samples": 1}
    late_update = await world.propose(C, "gateway", "training:update", update)
    world.now = (await world.round()).update_until_ms + 2 * WINDOW
    await world.close()
    if hoarded == "update":
        assert world.ledger.commit(late_update) == [MVCC_READ_CONFLICT]
        return
    attest = {"job": "j1", "round": 1, "attempt": 1, "outcome": outcome("hoarded", summed=(A, B)), "accept": True}
    late_attestation = await world.propose(C, "gateway", "training:attest", attest)
    for msp in (A, B):
        await world.attest(msp)
    await world.finalise(A, B)
    assert world.ledger.commit(late_attestation) == [MVCC_READ_CONFLICT]


async def test_an_update_in_the_block_of_the_closing_is_counted_or_void(world):
    await world.job()
    for msp in (A, B):
        await world.update(msp)
    update = {"job": "j1", "round": 1, "attempt": 1, "blob": blob("u"), "samples": 1}
    late = await world.propose(C, "gateway", "training:update", update)
    world.now = (await world.round()).update_until_ms + 2 * WINDOW
    closing = await world.propose(B, "gateway", "training:close", {"job": "j1", "round": 1})
    assert world.ledger.commit(late, closing) == [VALID, MVCC_READ_CONFLICT]
    assert (await world.close())["counted"] == [A, B, C]


async def test_a_revocation_in_the_block_of_the_opening_is_heeded(world):
    await world.job()
    for msp in (A, B, C):
        await world.update(msp)
    await world.close()
    for msp in (A, B, C):
        await world.attest(msp)
    finalise = {"job": "j1", "round": 1, "outcome": digest("result 1"), "attestations": [A, B, C]}
    opening = await world.propose(B, "gateway", "training:finalise", finalise)
    revoking = await world.propose(C, "steward", "access:revoke", {"id": "g-" + C.lower()})
    assert world.ledger.commit(revoking, opening) == [VALID, MVCC_READ_CONFLICT]
    await world.finalise(A, B, C)
    assert [member.msp for member in (await world.round(2)).cohort] == [A, B]


# -- look-ups


async def test_jobs_and_rounds_are_shown_and_listed(world):
    await world.job()
    await world.update(B, samples=7)
    page = await world.evaluate("training:list", {}, JobPage, msp=C)
    assert [one.id for one in page.jobs] == ["j1"]
    view = await world.evaluate("training:round", {"job": "j1", "round": 1}, RoundView)
    assert [(row.msp, row.samples) for row in view.updates] == [(B, 7)]
    with pytest.raises(refusals.UnknownJob):
        await world.show("none")
    with pytest.raises(refusals.UnknownRound):
        await world.round(2)


async def _with_d(world: World) -> World:
    """The same consortium with a fourth member."""
    for msp in (A, B):
        await world.submit(msp, "operator", "consortium:approve", change(A, B, C, D, sequence=2))
    await world.submit(A, "operator", "consortium:apply", change(A, B, C, D, sequence=2))
    return world
