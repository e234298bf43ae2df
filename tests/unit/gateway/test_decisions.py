"""What a gateway decides, row by row of the states' tables, and that what it decides is what the contracts take."""

from typing import Any

import pytest
from fedfabric.chaincode import records
from fedfabric.chaincode.records import JobState, Privacy, RoundState, Verdict
from fedfabric.gateway import decisions
from fedfabric.gateway.decisions import JobSituation, Own, Todo, decide
from hypothesis import given, settings
from hypothesis import strategies as st

A, B, C = "AMSP", "BMSP", "CMSP"
STAGGER = 500
OPENED = 1_000_000
UPDATE_UNTIL = OPENED + 60_000
ATTEST_UNTIL = OPENED + 90_000
W = 1000
BLOB = records.Blob(address="a" * 64, digest="b" * 64, size=3)
PLAN = records.Plan(
    bundle=BLOB, model=BLOB, clip="1.0", rounds=3, approval_ms=60_000, update_ms=60_000, attest_ms=30_000
)
OUTCOME = records.Outcome(digest="c" * 64, model=BLOB, summed=(A, B, C))
LIE = records.Outcome(digest="d" * 64, model=BLOB, summed=(A, B, C))


def owner(msp: str, *, late: bool = False) -> records.Owner:
    return records.Owner(msp=msp, dataset=f"{msp}/x", version=1, digest="e" * 64, samples=10, grant=None, late=late)


def job(state: JobState = JobState.RUNNING, number: int = 1) -> records.Job:
    owners = tuple(owner(msp) for msp in (A, B, C))
    terms = records.JobTerms(id="job", submitter=A, title="", plan=PLAN, owners=owners, budget="0", payer=A)
    return records.Job(
        id="job",
        digest=terms.digest,
        terms=terms,
        owners=owners,
        state=state,
        round=number if state is JobState.RUNNING else 0,
        submitted_ms=OPENED,
        approve_until_ms=OPENED + 60_000,
        window_ms=W,
        escrow=None,
        escrowed="0",
        model=BLOB,
    )


def decision(of: records.Job, msp: str, verdict: Verdict = Verdict.APPROVED, digest: str = "") -> records.Decision:
    return records.Decision(
        job=of.id,
        msp=msp,
        verdict=verdict,
        digest=digest or of.digest,
        dataset=f"{msp}/x",
        version=1,
        privacy=Privacy.CLEAR,
        reason="",
    )


def opened(cohort: tuple[str, ...] = (A, B, C)) -> records.Round:
    return records.Round(
        job="job",
        number=1,
        state=RoundState.OPEN,
        cohort=tuple(
            records.CohortMember(msp=msp, dataset=f"{msp}/x", version=1, grant=None, samples=10) for msp in cohort
        ),
        total_samples=10 * len(cohort),
        quorum=records.quorum(len(cohort)),
        model=BLOB,
        optimizer_state=None,
        window_ms=W,
        opened_ms=OPENED,
        update_until_ms=UPDATE_UNTIL,
    )


def closed(counted: tuple[str, ...] = (A, B, C)) -> records.Round:
    return opened().model_copy(update={"state": RoundState.CLOSED, "counted": counted, "attest_until_ms": ATTEST_UNTIL})


def updates(*members: str) -> dict[str, records.Update]:
    return {
        msp: records.Update(job="job", round=1, attempt=1, msp=msp, blob=BLOB, samples=10, metrics={})
        for msp in members
    }


def attestations(**said: tuple[records.Outcome, bool]) -> dict[str, records.Attestation]:
    return {
        msp: records.Attestation(
            job="job", round=1, attempt=1, msp=msp, outcome=outcome, accept=accept, samples=1, metrics={}
        )
        for msp, (outcome, accept) in said.items()
    }


def missing(**said: tuple[str, ...]) -> dict[str, records.Missing]:
    return {
        msp: records.Missing(job="job", round=1, attempt=1, msp=msp, members=members) for msp, members in said.items()
    }


def seen(of: records.Job, approved: dict[str, records.Decision] | None = None, **rows: Any) -> JobSituation:
    return JobSituation(of, approved or {}, window_ms=W, **rows)


def names(todo: Todo) -> list[str]:
    return sorted(type(action).__name__ for action in todo.actions)


def at(situation: JobSituation, now_ms: int, own: Own = Own(), me: str = A) -> Todo:  # noqa: B008
    return decide(situation, own, me, now_ms, stagger_ms=STAGGER)


# -- before the start


def test_nothing_starts_before_every_owner_has_approved() -> None:
    of = job(JobState.SUBMITTED)
    todo = at(seen(of, {A: decision(of, A), B: decision(of, B)}), OPENED)
    assert todo == Todo(wake_ms=OPENED + 60_000 + 2 * W)


@pytest.mark.parametrize(
    "last", [{"verdict": Verdict.REFUSED}, {"digest": "0" * 64}], ids=["refused", "of another digest"]
)
def test_what_is_no_approval_of_this_job_does_not_count(last: dict) -> None:
    of = job(JobState.SUBMITTED)
    rows = {A: decision(of, A), B: decision(of, B), C: decision(of, C, **last)}
    assert not at(seen(of, rows), OPENED).actions


def test_a_job_that_all_approved_is_started() -> None:
    of = job(JobState.SUBMITTED)
    assert names(at(seen(of, {msp: decision(of, msp) for msp in (A, B, C)}), OPENED)) == ["StartJob"]


def test_a_job_that_is_not_approved_in_time_is_aborted_two_windows_later() -> None:
    of = job(JobState.SUBMITTED)
    over = of.approve_until_ms + 2 * W
    assert not at(seen(of), over - 1).actions
    assert names(at(seen(of), over)) == ["AbortJob"]


@pytest.mark.parametrize("state", [JobState.FINISHED, JobState.REFUSED, JobState.CANCELLED, JobState.ABORTED])
def test_nothing_is_done_for_a_job_that_has_ended(state: JobState) -> None:
    assert at(seen(job(state), round=opened()), OPENED + 10**9) == Todo()


# -- an open round


def test_a_member_trains_and_then_commits_what_it_has_stored() -> None:
    situation = seen(job(), round=opened())
    assert names(at(situation, OPENED)) == ["Train"]
    assert names(at(situation, OPENED, Own(update=True))) == ["CommitUpdate"]
    assert not at(seen(job(), round=opened(), updates=updates(A)), OPENED, Own(update=True)).actions


def test_nobody_trains_past_the_deadline_or_without_trainers_or_after_giving_up() -> None:
    situation = seen(job(), round=opened())
    assert not at(situation, UPDATE_UNTIL).actions
    assert not at(situation, OPENED, Own(trains=False)).actions
    assert not at(situation, OPENED, Own(failed=frozenset({"train"}))).actions
    assert not at(situation, OPENED, me="DMSP").actions


def test_a_round_is_closed_when_the_whole_cohort_is_in() -> None:
    situation = seen(job(), round=opened(), updates=updates(A, B, C))
    assert names(at(situation, OPENED, me="DMSP")) == ["CloseRound"]


def test_the_sum_does_not_wait_for_a_closing_whose_count_is_known() -> None:
    situation = seen(job(), round=opened(), updates=updates(A, B, C))
    assert names(at(situation, OPENED)) == ["Aggregate", "CloseRound"]
    assert names(at(situation, OPENED, Own(outcome=True))) == ["CloseRound", "Evaluate"]
    assert names(at(situation, OPENED, Own(outcome=True, verdict=True))) == ["CloseRound"]
    assert not at(seen(job(), round=opened(), updates=updates(A, B)), OPENED).actions


def test_a_round_waits_for_its_deadline_and_two_windows() -> None:
    situation = seen(job(), round=opened(), updates=updates(A, B))
    assert at(situation, UPDATE_UNTIL + 2 * W - 1) == Todo(wake_ms=UPDATE_UNTIL + 2 * W)
    assert names(at(situation, UPDATE_UNTIL + 2 * W)) == ["CloseRound"]
    lonely = seen(job(), round=opened(), updates=updates(A))
    assert names(at(lonely, UPDATE_UNTIL + 2 * W)) == ["AbortRound"]


# -- a closed round


def test_a_member_sums_then_evaluates_then_attests() -> None:
    situation = seen(job(), round=closed())
    assert names(at(situation, OPENED)) == ["Aggregate"]
    assert names(at(situation, OPENED, Own(outcome=True))) == ["Evaluate"]
    assert names(at(situation, OPENED, Own(outcome=True, verdict=True))) == ["Attest"]
    assert not at(situation, ATTEST_UNTIL, Own(outcome=True, verdict=True)).actions


def test_a_member_that_was_not_counted_attests_too() -> None:
    assert names(at(seen(job(), round=closed((B, C))), OPENED)) == ["Aggregate"]


def test_a_round_is_final_when_all_that_were_counted_agree() -> None:
    rows = attestations(AMSP=(OUTCOME, True), BMSP=(OUTCOME, True), CMSP=(OUTCOME, True))
    todo = at(seen(job(), round=closed(), attestations=rows), OPENED)
    assert list(todo.actions) == [decisions.FinaliseRound("job", 1, 1, OUTCOME.digest, (A, B, C))]


def test_a_lie_does_not_hold_a_round_up_and_is_not_among_what_carries_it() -> None:
    rows = attestations(AMSP=(OUTCOME, True), BMSP=(LIE, True), CMSP=(OUTCOME, True))
    todo = at(seen(job(), round=closed(), attestations=rows), OPENED)
    assert list(todo.actions) == [decisions.FinaliseRound("job", 1, 1, OUTCOME.digest, (A, C))]


def test_a_quorum_waits_for_a_counted_member_until_the_deadline_and_two_windows() -> None:
    rows = attestations(AMSP=(OUTCOME, True), BMSP=(OUTCOME, True))
    situation = seen(job(), round=closed(), attestations=rows)
    assert at(situation, OPENED) == Todo(wake_ms=ATTEST_UNTIL + 2 * W)
    assert names(at(situation, ATTEST_UNTIL + 2 * W)) == ["FinaliseRound"]


def test_nobody_waits_for_a_member_that_was_not_counted() -> None:
    rows = attestations(AMSP=(OUTCOME, True), BMSP=(OUTCOME, True))
    assert names(at(seen(job(), round=closed((A, B)), attestations=rows), OPENED)) == ["FinaliseRound"]


def test_a_round_is_aborted_as_soon_as_no_outcome_can_win() -> None:
    rows = attestations(AMSP=(OUTCOME, False), BMSP=(LIE, True), CMSP=(OUTCOME, True))
    assert names(at(seen(job(), round=closed(), attestations=rows), OPENED)) == ["AbortRound"]
    undecided = attestations(AMSP=(OUTCOME, True), BMSP=(LIE, True))
    situation = seen(job(), round=closed(), attestations=undecided)
    assert not at(situation, OPENED).actions
    assert names(at(situation, ATTEST_UNTIL + 2 * W)) == ["AbortRound"]


def test_equal_digests_with_other_models_are_not_one_outcome() -> None:
    other = OUTCOME.model_copy(update={"model": BLOB.model_copy(update={"address": "f" * 64})})
    rows = attestations(AMSP=(OUTCOME, True), BMSP=(other, True), CMSP=(other, False))
    assert names(at(seen(job(), round=closed(), attestations=rows), OPENED)) == ["AbortRound"]


PATIENCE = ATTEST_UNTIL - PLAN.attest_ms // 2


def test_a_member_says_half_way_whose_updates_it_cannot_get_and_goes_on_asking() -> None:
    situation = seen(job(), round=closed())
    lacking = Own(lacking=frozenset({C, B}))
    assert at(situation, PATIENCE - 1, lacking) == Todo({decisions.Aggregate("job", 1, 1): 0}, PATIENCE)
    assert at(situation, PATIENCE, lacking).actions == {
        decisions.Aggregate("job", 1, 1): 0,
        decisions.ReportMissing("job", 1, 1, (B, C)): 0,
    }
    assert names(at(situation, PATIENCE)) == ["Aggregate"]
    assert names(at(seen(job(), round=closed(), missing=missing(AMSP=(C,))), PATIENCE, lacking)) == ["Aggregate"]
    assert names(at(situation, PATIENCE, Own(outcome=True, lacking=frozenset({C})))) == ["Evaluate"]
    assert not at(situation, ATTEST_UNTIL, lacking).actions


def test_a_round_goes_on_without_what_a_quorum_cannot_get() -> None:
    own = Own(failed=frozenset({"aggregate"}))
    alone = seen(job(), round=closed(), missing=missing(AMSP=(C,)))
    assert not at(alone, PATIENCE, own).actions
    rows = missing(AMSP=(C,), BMSP=(B, C))
    assert names(at(seen(job(), round=closed(), missing=rows), PATIENCE, own)) == ["Recount"]
    agreed = attestations(AMSP=(OUTCOME, True), BMSP=(OUTCOME, True))
    waiting = seen(job(), round=closed(), missing=rows, attestations=agreed)
    assert not at(waiting, PATIENCE, own).actions
    assert names(at(waiting, ATTEST_UNTIL + 2 * W, own)) == ["FinaliseRound"]


def test_a_round_is_not_counted_anew_below_its_quorum() -> None:
    own = Own(failed=frozenset({"aggregate"}))
    situation = seen(job(), round=closed(), missing=missing(AMSP=(B, C), BMSP=(B, C)))
    assert not at(situation, PATIENCE, own).actions
    assert names(at(situation, ATTEST_UNTIL + 2 * W, own)) == ["AbortRound"]


def test_a_deadline_is_over_by_the_larger_of_the_window_then_and_now() -> None:
    rows = updates(A, B)
    raised = JobSituation(job(), window_ms=3 * W, round=opened(), updates=rows)
    assert not at(raised, UPDATE_UNTIL + 6 * W - 1, me="DMSP").actions
    assert names(at(raised, UPDATE_UNTIL + 6 * W)) == ["CloseRound"]
    lowered = JobSituation(job(), window_ms=W // 2, round=opened(), updates=rows)
    assert not at(lowered, UPDATE_UNTIL + 2 * W - 1).actions


# -- whose turn it is


def test_one_acts_at_once_and_the_others_in_turn() -> None:
    situation = seen(job(), round=opened(), updates=updates(A, B, C))
    waits = [next(iter(at(situation, OPENED, me=me).actions.values())) for me in (A, B, C, "submitter")]
    assert sorted(waits) == [0, STAGGER, 2 * STAGGER, 3 * STAGGER]
    assert waits[3] == 3 * STAGGER


@settings(max_examples=200, deadline=None)
@given(
    committed=st.sets(st.sampled_from([A, B, C])),
    state=st.sampled_from([RoundState.OPEN, RoundState.CLOSED]),
    said=st.dictionaries(
        st.sampled_from([A, B, C]), st.tuples(st.sampled_from([OUTCOME, LIE]), st.booleans()), max_size=3
    ),
    now_ms=st.integers(OPENED, ATTEST_UNTIL + 5 * W),
    own=st.builds(Own, update=st.booleans(), outcome=st.booleans(), verdict=st.booleans()),
    missed=st.dictionaries(st.sampled_from([A, B, C]), st.sampled_from([(A,), (C,), (B, C)])),
)
def test_all_gateways_want_the_same_end_of_a_round(committed, state, said, now_ms, own, missed) -> None:
    current = opened() if state is RoundState.OPEN else closed(tuple(sorted(committed)) or (A, B))
    rows = attestations(**said) if state is RoundState.CLOSED else {}
    situation = seen(job(), round=current, updates=updates(*committed), attestations=rows, missing=missing(**missed))
    common = (decisions.CloseRound, decisions.AbortRound, decisions.FinaliseRound, decisions.Recount)
    wanted = [
        {action for action in at(situation, now_ms, own, me).actions if isinstance(action, common)} for me in (A, B, C)
    ]
    assert wanted[0] == wanted[1] == wanted[2]
    assert len(wanted[0]) <= 1
    for me in (A, B, C):
        todo = at(situation, now_ms, own, me)
        # Something is to be done, or there is a time at which something will be.
        assert todo.actions or todo.wake_ms is not None
        assert todo.wake_ms is None or todo.wake_ms > now_ms
