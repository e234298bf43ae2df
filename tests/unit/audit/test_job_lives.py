"""Jobs that ended otherwise than by all rounds of all members: honest, so verified."""

import pytest
from fedfabric.audit import verify_job
from fedfabric.tests.unit.audit.ledger import JOB, MEMBERS, Run, RunSettings

A, B, C = MEMBERS
MINUTE = 60_000
WINDOWS = 2 * 5000


@pytest.fixture
def begun(tmp_path):
    """A job whose first round is open."""

    async def begin(**settings) -> Run:
        (tmp_path / "run").mkdir()
        run = Run(tmp_path / "run", RunSettings(**settings))
        await run.found()
        await run.offer(MEMBERS)
        await run.start()
        return run

    return begin


@pytest.fixture
def audited(tmp_path):
    def audit(run: Run):
        report = verify_job(run.ledger.write(tmp_path / "out"), None, run.ledger.genesis_hash, JOB)
        assert report.findings == ()
        assert report.verified
        return report

    return audit


async def submit(run: Run, role: str, function: str, number: int = 0, msp: str = A) -> None:
    request = {"job": JOB, "round": number} if number else {"job": JOB}
    await run.ledger.submit(msp, role, function, request)


@pytest.mark.parametrize(
    ("optimizer", "parameters"),
    [("sgd", {}), ("sgdm", {"momentum": "0.5"}), ("adagrad", {"tau": "0.01"}), ("yogi", {"learning_rate": "0.05"})],
)
async def test_every_server_step_is_computed_again(begun, audited, optimizer, parameters):
    run = await begun(optimizer={"name": optimizer, "parameters": parameters})
    await run.round(1, MEMBERS)
    await run.round(2, MEMBERS)
    assert all(one.recomputed for one in audited(run).rounds)


@pytest.mark.parametrize("budget", [0, 1, 5, 11, 1001, 10**25])
async def test_a_budget_that_does_not_divide_goes_back_in_part(begun, audited, budget):
    run = await begun(budget=budget)
    await run.round(1, MEMBERS)
    await run.round(2, MEMBERS)
    assert int(audited(run).paid) == budget // 2 // 6 * 12


async def test_one_persons_tokens_pay(begun, audited):
    run = await begun(payer=f"{A}/clientscientist")
    await run.round(1, MEMBERS)
    await run.round(2, MEMBERS)
    assert audited(run).paid == "996"


async def test_a_member_that_is_away_is_not_counted_after_the_deadline(begun, audited):
    run = await begun(rounds=1)
    updates = await run.deliver(1, MEMBERS, absent=(C,))
    run.ledger.now += MINUTE + WINDOWS
    await run.close(1, MEMBERS)
    outcome = run.aggregate(MEMBERS, updates)
    attesters = await run.attest(1, MEMBERS, outcome, silent=(C,))
    await run.finalise(1, outcome, attesters)
    (only,) = audited(run).rounds
    assert [member.counted for member in only.members] == [True, True, False]
    assert [member.paid for member in only.members] == ["500", "500", "0"]


async def test_a_member_that_is_not_counted_may_attest(begun, audited):
    run = await begun(rounds=1)
    updates = await run.deliver(1, MEMBERS, absent=(C,))
    run.ledger.now += MINUTE + WINDOWS
    await run.close(1, MEMBERS)
    outcome = run.aggregate(MEMBERS, updates)
    await run.finalise(1, outcome, await run.attest(1, MEMBERS, outcome))
    assert [member.paid for member in audited(run).rounds[0].members] == ["400", "400", "200"]


async def test_a_member_that_withholds_its_update_is_left_out_and_on_record(begun, audited):
    run = await begun(rounds=1)
    updates = await run.deliver(1, MEMBERS)
    await run.close(1, MEMBERS)
    run.ledger.blobs.pop(run.updates[-1]["blob"]["address"])
    await run.miss(1, (A, B), (C,))
    await run.recount(1)
    outcome = run.aggregate(MEMBERS, updates[:2])
    await run.finalise(1, outcome, await run.attest(1, (A, B), outcome, attempt=2))
    report = audited(run)
    assert [member.paid for member in report.rounds[0].members] == ["500", "500", "0"]
    assert f"update of {C} in round 1" in report.remarks[0].link
    assert "could not get" in report.remarks[0].text


async def test_a_deadline_is_over_by_the_window_raised_since(begun, audited):
    run = await begun(rounds=1)
    updates = await run.deliver(1, MEMBERS, absent=(C,))
    change = {"sequence": 2, "members": [{"msp": msp} for msp in MEMBERS], "window_ms": 20_000}
    for msp in MEMBERS:
        await run.ledger.submit(msp, "operator", "consortium:approve", change)
    await run.ledger.submit(A, "operator", "consortium:apply", change)
    run.ledger.now += MINUTE + 40_000
    await run.close(1, MEMBERS)
    outcome = run.aggregate(MEMBERS, updates)
    await run.finalise(1, outcome, await run.attest(1, MEMBERS, outcome))
    audited(run)


async def test_a_member_that_refuses_the_model_is_on_record(begun, audited):
    run = await begun(rounds=1)
    updates = await run.deliver(1, MEMBERS)
    await run.close(1, MEMBERS)
    outcome = run.aggregate(MEMBERS, updates)
    await run.finalise(1, outcome, await run.attest(1, MEMBERS, outcome, refusing=(B,)))
    report = audited(run)
    assert report.rounds[0].dissent == (B,)
    assert "refuses" in report.remarks[0].text


async def test_members_that_disagree_abort_the_job_and_the_budget_goes_back(begun, audited):
    run = await begun()
    await run.round(1, MEMBERS)
    updates = await run.deliver(2, MEMBERS)
    await run.close(2, MEMBERS)
    outcome = run.aggregate(MEMBERS, updates)
    for number, msp in enumerate(MEMBERS):
        await run.attest(2, (msp,), outcome | {"digest": f"{number}a" * 32})
    await submit(run, "gateway", "training:abort_round", 2)
    report = audited(run)
    assert (report.job_state, report.paid) == ("aborted", "498")
    assert [one.state for one in report.rounds] == ["final", "aborted"]


async def test_too_few_updates_abort_the_job(begun, audited):
    run = await begun()
    await run.deliver(1, MEMBERS, absent=(B, C))
    run.ledger.now += MINUTE + WINDOWS
    await submit(run, "gateway", "training:abort_round", 1)
    assert audited(run).job_state == "aborted"


async def test_a_cancelled_job_gives_its_budget_back_at_once_or_after_its_round(begun, audited):
    run = await begun()
    await run.round(1, MEMBERS)
    await submit(run, "scientist", "training:cancel")
    report = audited(run)
    assert (report.job_state, report.paid) == ("cancelled", "498")


async def test_a_job_cancelled_within_a_round_pays_for_it(begun, audited):
    run = await begun()
    updates = await run.deliver(1, MEMBERS)
    await submit(run, "scientist", "training:cancel")
    await run.close(1, MEMBERS)
    outcome = run.aggregate(MEMBERS, updates)
    await run.finalise(1, outcome, await run.attest(1, MEMBERS, outcome))
    report = audited(run)
    assert (report.job_state, report.paid) == ("cancelled", "498")


async def test_a_revoked_owner_is_in_no_later_round(begun, audited):
    run = await begun()
    updates = await run.deliver(1, MEMBERS)
    await run.ledger.submit(C, "steward", "access:revoke", {"id": run.grant(C)})
    await run.close(1, MEMBERS)
    outcome = run.aggregate(MEMBERS, updates)
    await run.finalise(1, outcome, await run.attest(1, MEMBERS, outcome))
    await run.round(2, (A, B))
    assert [member.msp for member in audited(run).rounds[1].members] == [A, B]


async def test_a_job_that_still_runs_or_was_never_started_is_verified_so_far(begun, audited, tmp_path):
    run = await begun()
    await run.deliver(1, MEMBERS)
    assert audited(run).job_state == "running"


async def test_a_job_that_was_refused_gives_its_budget_back(tmp_path, audited):
    (tmp_path / "run").mkdir()
    run = Run(tmp_path / "run")
    await run.found()
    await run.offer(MEMBERS)
    await run.submit_job()
    refusal = {"job": JOB, "digest": run.job["digest"], "privacy": "clear", "reason": "no"}
    await run.ledger.submit(B, "steward", "training:refuse", refusal)
    assert audited(run).job_state == "refused"
