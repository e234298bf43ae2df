"""What holds in every reachable state, whatever organisations do, in whatever order, in whatever blocks.

Hypothesis plays: every rule simulates transactions, sound ones and absurd ones, against the committed state; blocks are
cut at will, in any order, so that stale transactions meet. After each block the invariants are checked on the raw rows.
"""

import contextlib
from collections.abc import Coroutine
from typing import Any

from fedfabric.chaincode.machine import NEW
from fedfabric.chaincode.records import (
    AccessRequest,
    AccessState,
    Attestation,
    Dataset,
    Decision,
    Job,
    JobState,
    Missing,
    Round,
    RoundState,
    Token,
    Update,
    Use,
    Verdict,
    refusals,
)
from fedfabric.chaincode.states import ACCESS, DATASET, JOB, ROUND
from fedfabric.tests.unit.chaincode.fake_stub import VALID, Endorsed
from fedfabric.tests.unit.chaincode.world import WINDOW, A, B, C, World, blob, digest, outcome, plan
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

MEMBERS = (A, B, C)
WRITTEN_ONCE = {
    "consortium-approval",
    "access-grant",
    "access-revocation",
    "access-use",
    "mint",
    "mint-approval",
    "job-decision",
    "update",
    "missing",
    "attestation",
}
MACHINES = {
    "dataset": (DATASET, Dataset),
    "access-request": (ACCESS, AccessRequest),
    "job": (JOB, Job),
    "round": (ROUND, Round),
}

members = st.sampled_from(MEMBERS)
some_members = st.lists(members, unique=True, max_size=3)
held = st.sampled_from([False, False, False, True])
JOB_FUNCTIONS = {"start": False, "cancel": False, "abort": False, "close": True, "abort_round": True}
"""Functions of jobs, and whether they speak of a round."""


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never waits for anything: the fake stub answers at once."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the fake ledger made somebody wait")


class Ledger(RuleBasedStateMachine):
    """A consortium in which anything may be tried."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        run(self.world.found())
        self.minted = 0
        self.mints = 0
        self.asked = 0
        self.submitted = 0
        self.pending: list[Endorsed] = []

    @initialize(
        submitter=members,
        owners=st.lists(members, unique=True, min_size=1),
        budget=st.integers(0, 90),
        rounds=st.integers(1, 3),
    )
    def have_data_tokens_and_a_job(self, submitter: str, owners: list[str], budget: int, rounds: int) -> None:
        run(self.world.register(A))
        run(self.world.register(B, price="3"))
        run(self.world.register(C))
        for msp in MEMBERS:
            run(self.world.mint(msp, 100, f"first-{msp.lower()}"))
        self.minted = 300
        self.submit(submitter, "j0", owners, budget, rounds)
        self.cut()
        self.start("j0", B)

    # -- acting

    def act(self, msp: str, role: str, function: str, request: dict[str, Any]) -> None:
        with contextlib.suppress(refusals.Refusal):
            self.pending.append(run(self.world.propose(msp, role, function, request)))

    def do(self, msp: str, role: str, function: str, request: dict[str, Any]) -> None:
        self.act(msp, role, function, request)
        self.cut()

    def cut(self) -> None:
        before = dict(self.world.ledger.state)
        state = dict(before)
        pending, self.pending = self.pending, []
        for one, code in zip(pending, self.world.ledger.commit(*pending), strict=True):
            if code != VALID:
                continue
            self.check_transaction(one, state)
            for key, value in one.writes.items():
                state.pop(key, None) if value is None else state.__setitem__(key, (value, 0))

    def settle(self, hold: bool) -> None:
        """Cut a block, or hold what was endorsed back for a later one."""
        if not hold:
            self.cut()

    @precondition(lambda self: len(self.pending) > 1)
    @rule(data=st.data())
    def cut_a_block_in_another_order(self, data: Any) -> None:
        self.pending = data.draw(st.permutations(self.pending))
        self.cut()

    @rule(milliseconds=st.sampled_from([1, WINDOW, 2 * WINDOW, 10_000, 12_000]))
    def wait(self, milliseconds: int) -> None:
        self.world.now += milliseconds

    @rule(owner=members, amount=st.integers(1, 50))
    def mint(self, owner: str, amount: int) -> None:
        self.cut()
        run(self.world.mint(owner, amount, f"m{self.mints}"))
        self.mints += 1
        self.minted += amount

    @rule(by=members, to=members, share=st.integers(-1, 60), twice=st.booleans(), hold=held, data=st.data())
    def transfer(self, by: str, to: str, share: int, twice: bool, hold: bool, data: Any) -> None:
        rows = self.tokens(by)
        chosen = data.draw(st.lists(st.sampled_from(rows), min_size=1, max_size=3)) if rows else []
        total = sum(int(row.amount) for row in chosen)
        outputs = [{"owner": to, "amount": str(share)}, {"owner": by, "amount": str(total - share)}]
        request = {
            "owner": by,
            "inputs": [{"tx": row.tx, "n": row.n} for row in chosen],
            "outputs": [output for output in outputs if output["amount"] != "0"],
        }
        for _ in range(1 + twice):
            self.act(by, "operator", "tokens:transfer", request)
        self.settle(hold)

    @rule(msp=members, owner=members, pay=st.booleans(), hold=held)
    def ask(self, msp: str, owner: str, pay: bool, hold: bool) -> None:
        self.asked += 1
        self.ask_for(msp, owner, f"r{self.asked}", pay=pay)
        self.settle(hold)

    @precondition(lambda self: self.rows("access-request", AccessRequest))
    @rule(
        data=st.data(),
        function=st.sampled_from(["grant", "revoke", "withdraw", "use"]),
        expires=st.sampled_from([0, 5_000]),
        hold=held,
    )
    def go_on_with_a_request(self, data: Any, function: str, expires: int, hold: bool) -> None:
        asked = data.draw(st.sampled_from(self.rows("access-request", AccessRequest)))
        if function == "grant":
            when = {"expires_ms": self.world.now + expires} if expires else {}
            self.act(asked.owner, "steward", "access:grant", {"id": asked.id, **when})
        elif function == "use":
            self.act(asked.owner, "gateway", "access:use", {"id": asked.id, "operation": "o1"})
        elif function == "revoke":
            self.act(asked.owner, "steward", "access:revoke", {"id": asked.id})
        else:
            self.act(asked.requester, "scientist", "access:withdraw", {"id": asked.id})
        self.settle(hold)

    @rule(
        msp=members,
        owners=st.lists(members, unique=True, min_size=1),
        budget=st.integers(0, 90),
        rounds=st.integers(1, 3),
        then=st.sampled_from(["start", "refuse", "cancel", "late", "nothing"]),
    )
    def submit_a_job(self, msp: str, owners: list[str], budget: int, rounds: int, then: str) -> None:
        self.submitted += 1
        job = f"j{self.submitted}"
        self.submit(msp, job, owners, budget, rounds)
        self.cut()
        known = self.row("job", Job, job)
        if known is None:
            return
        if then == "start":
            self.start(job, B)
        elif then == "refuse":
            self.do(owners[0], "steward", "training:refuse", {"job": job, "digest": known.digest, "privacy": "clear"})
        elif then == "cancel":
            self.do(msp, "scientist", "training:cancel", {"job": job})
        elif then == "late":
            self.world.now += 10_000 + 2 * WINDOW
            self.do(B, "gateway", "training:abort", {"job": job})

    @precondition(lambda self: self.live_jobs())
    @rule(data=st.data(), owner=members, approve=st.booleans())
    def add(self, data: Any, owner: str, approve: bool) -> None:
        job = data.draw(st.sampled_from(self.live_jobs()))
        by = job.terms.submitter
        if owner != by:
            self.get_access(by, owner)
        self.do(by, "scientist", "training:add", {"job": job.id, "dataset": self.named(by, owner)})
        if approve:
            self.do(owner, "steward", "training:approve", {"job": job.id, "digest": job.digest, "privacy": "clear"})

    @precondition(lambda self: self.live_rounds())
    @rule(data=st.data(), hold=held)
    def cancel(self, data: Any, hold: bool) -> None:
        job = data.draw(st.sampled_from(self.live_jobs()))
        self.act(job.terms.submitter, "scientist", "training:cancel", {"job": job.id})
        self.settle(hold)

    @precondition(lambda self: self.live_rounds())
    @rule(data=st.data(), deliverers=some_members, samples=st.integers(1, 101), hold=held)
    def update(self, data: Any, deliverers: list[str], samples: int, hold: bool) -> None:
        place = self.draw_round(data)
        for msp in deliverers:
            request = place | {"attempt": 1, "blob": blob("u"), "samples": samples}
            self.act(msp, "gateway", "training:update", request)
        self.settle(hold)

    @precondition(lambda self: self.live_rounds())
    @rule(data=st.data(), by=members, function=st.sampled_from(["close", "abort_round"]), hold=held)
    def close_or_abort(self, data: Any, by: str, function: str, hold: bool) -> None:
        self.act(by, "gateway", f"training:{function}", self.draw_round(data))
        self.settle(hold)

    @precondition(lambda self: self.live_rounds())
    @rule(
        data=st.data(),
        said=st.dictionaries(members, st.tuples(st.sampled_from(["honest", "lie"]), st.booleans())),
        hold=held,
    )
    def attest(self, data: Any, said: dict[str, tuple[str, bool]], hold: bool) -> None:
        place = self.draw_round(data)
        for msp, (text, accept) in said.items():
            self.act(msp, "gateway", "training:attest", self.outcome_of(place, text) | {"accept": accept})
        self.settle(hold)

    def outcome_of(self, place: dict[str, Any], text: str) -> dict[str, Any]:
        """The place of an attestation and an outcome of all the updates that the round counts now."""
        known = self.row("round", Round, place["job"], f"{place['round']:06d}")
        return place | {"attempt": known.attempt, "outcome": outcome(text, summed=known.counted or MEMBERS)}

    @precondition(lambda self: self.live_rounds())
    @rule(data=st.data(), missed=members, by=some_members, recount=st.booleans(), hold=held)
    def miss(self, data: Any, missed: str, by: list[str], recount: bool, hold: bool) -> None:
        place = self.draw_round(data)
        attempt = self.row("round", Round, place["job"], f"{place['round']:06d}").attempt
        for msp in by:
            self.act(msp, "gateway", "training:report_missing", place | {"attempt": attempt, "members": [missed]})
        if recount:
            self.cut()
            self.act(A, "gateway", "training:recount", place)
        self.settle(hold)

    @precondition(lambda self: self.live_rounds())
    @rule(
        data=st.data(), by=members, text=st.sampled_from(["honest", "lie"]), named=st.none() | some_members, hold=held
    )
    def finalise(self, data: Any, by: str, text: str, named: list[str] | None, hold: bool) -> None:
        place = self.draw_round(data)
        if named is None:
            rows = self.rows("attestation", Attestation)
            here = [row for row in rows if (row.job, row.round) == (place["job"], place["round"])]
            named = [row.msp for row in here if row.outcome.digest == digest(text)]
        self.act(by, "gateway", "training:finalise", place | {"outcome": digest(text), "attestations": sorted(named)})
        self.settle(hold)

    @precondition(lambda self: self.live_rounds())
    @rule(data=st.data(), absent=st.none() | members, said=st.sampled_from(["honest", "honest", "lie", "each another"]))
    def play_a_round(self, data: Any, absent: str | None, said: str) -> None:
        """A round as it may go, so that jobs get somewhere."""
        place = self.draw_round(data)
        known = self.row("round", Round, place["job"], f"{place['round']:06d}")
        present = [member.msp for member in known.cohort if member.msp != absent]
        for msp in present:
            self.do(msp, "gateway", "training:update", place | {"attempt": 1, "blob": blob(msp), "samples": 100})
        if len(present) < len(known.cohort):
            self.world.now = max(self.world.now, known.update_until_ms + 2 * WINDOW)
        self.do(A, "gateway", "training:close", place)
        for msp in present:
            text = msp if said == "each another" else said
            self.do(msp, "gateway", "training:attest", self.outcome_of(place, text) | {"accept": True})
        finalise = place | {"outcome": digest(said), "attestations": sorted(present)}
        self.do(A, "gateway", "training:finalise", finalise)
        if said == "each another":
            self.do(A, "gateway", "training:abort_round", place)

    @rule(
        msp=members,
        role=st.sampled_from(["operator", "steward", "scientist", "gateway"]),
        function=st.sampled_from(sorted(JOB_FUNCTIONS)),
        job=st.integers(0, 3),
        number=st.integers(1, 3),
        hold=held,
    )
    def try_anything(self, msp: str, role: str, function: str, job: int, number: int, hold: bool) -> None:
        request = {"job": f"j{job}"} | ({"round": number} if JOB_FUNCTIONS[function] else {})
        self.act(msp, role, f"training:{function}", request)
        self.settle(hold)

    @precondition(lambda self: self.rows("access-request", AccessRequest))
    @rule(msp=members, data=st.data(), function=st.sampled_from(["grant", "revoke", "withdraw", "use"]))
    def try_anothers_request(self, msp: str, data: Any, function: str) -> None:
        asked = data.draw(st.sampled_from(self.rows("access-request", AccessRequest)))
        request = {"id": asked.id} | ({"operation": "o2"} if function == "use" else {})
        for role in ("steward", "gateway", "scientist"):
            self.do(msp, role, f"access:{function}", request)

    @rule(msp=members, chance=st.integers(0, 5))
    def retire(self, msp: str, chance: int) -> None:
        if chance == 0:
            self.do(msp, "steward", "datasets:retire", {"id": f"{msp}/heart"})

    def submit(self, msp: str, job: str, owners: list[str], budget: int, rounds: int) -> None:
        for owner in owners:
            if owner != msp:
                self.get_access(msp, owner)
        rows = self.tokens(msp) if budget else []
        request = {
            "id": job,
            "plan": plan(rounds=rounds),
            "datasets": [self.named(msp, owner) for owner in owners],
            "budget": str(budget),
            "inputs": [{"tx": row.tx, "n": row.n} for row in rows],
        }
        self.act(msp, "scientist", "training:submit", request)

    def start(self, job: str, by: str) -> None:
        known = self.row("job", Job, job)
        for owner in known.owners if known else ():
            self.do(owner.msp, "steward", "training:approve", {"job": job, "digest": known.digest, "privacy": "clear"})
        self.do(by, "gateway", "training:start", {"job": job})

    def ask_for(self, by: str, owner: str, request: str, *, pay: bool) -> None:
        rows = self.tokens(by)[:1] if pay else []
        asked = {
            "id": request,
            "dataset": f"{owner}/heart",
            "version": 1,
            "purpose": "training",
            "inputs": [{"tx": row.tx, "n": row.n} for row in rows],
        }
        self.act(by, "scientist", "access:request", asked)

    def get_access(self, by: str, owner: str) -> None:
        self.asked += 1
        self.ask_for(by, owner, f"r{self.asked}", pay=owner == B)
        self.cut()
        self.do(owner, "steward", "access:grant", {"id": f"r{self.asked}"})

    def draw_round(self, data: Any) -> dict[str, Any]:
        one = data.draw(st.sampled_from(self.live_rounds()))
        return {"job": one.job, "round": one.number}

    # -- looking

    def rows(self, kind: str, model: Any) -> list[Any]:
        prefix = f"\x00{kind}\x00"
        stored = sorted(self.world.ledger.state.items())
        return [model.model_validate_json(value) for key, (value, _) in stored if key.startswith(prefix)]

    def row(self, kind: str, model: Any, *attributes: str) -> Any:
        value, _ = self.world.ledger.state.get("\x00" + "".join(f"{one}\x00" for one in (kind, *attributes)), (b"", 0))
        return model.model_validate_json(value) if value else None

    def tokens(self, owner: str) -> list[Token]:
        return [row for row in self.rows("token", Token) if row.owner == owner]

    def live_rounds(self) -> list[Round]:
        return [one for one in self.rows("round", Round) if one.state in (RoundState.OPEN, RoundState.CLOSED)]

    def live_jobs(self) -> list[Job]:
        return [one for one in self.rows("job", Job) if one.state in (JobState.SUBMITTED, JobState.RUNNING)]

    def named(self, by: str, owner: str) -> dict[str, Any]:
        use: dict[str, Any] = {"dataset": f"{owner}/heart", "version": 1}
        found = [row for row in self.rows("access-request", AccessRequest) if (row.requester, row.owner) == (by, owner)]
        return use | ({"grant": found[-1].id} if found and owner != by else {})

    # -- what must hold

    def check_transaction(self, one: Endorsed, state: dict[str, tuple[bytes, int]]) -> None:
        """One valid transaction against the state before it."""
        for key, value in one.writes.items():
            kind, *_ = key[1:-1].split("\x00")
            before = state.get(key, (None, 0))[0]
            assert kind not in WRITTEN_ONCE or before is None, f"a row of {kind} was written twice"
            assert value is not None or kind == "token", f"a row of {kind} was deleted"
            if kind in MACHINES:
                machine, model = MACHINES[kind]
                came = model.model_validate_json(before).state if before else NEW
                went = model.model_validate_json(value).state
                allowed = {row.next for row in machine.transitions if row.state == came}
                assert went in allowed, (kind, came, went)
            if kind == "access-use":
                use = Use.model_validate_json(value)
                asked = AccessRequest.model_validate_json(state[f"\x00access-request\x00{use.request}\x00"][0])
                assert asked.state == AccessState.GRANTED
                assert not asked.expires_ms or one.timestamp_ms < asked.expires_ms
                assert f"\x00access-grant\x00{use.request}\x00{use.owner}\x00" in state
                assert f"\x00access-revocation\x00{use.request}\x00{use.owner}\x00" not in state
            if kind == "round" and before is None:
                self.check_opening(Round.model_validate_json(value), state)

    def check_opening(self, opened: Round, state: dict[str, tuple[bytes, int]]) -> None:
        job = Job.model_validate_json(state[f"\x00job\x00{opened.job}\x00"][0])
        for member in opened.cohort:
            decision = Decision.model_validate_json(state[f"\x00job-decision\x00{job.id}\x00{member.msp}\x00"][0])
            assert (decision.verdict, decision.digest) == (Verdict.APPROVED, job.digest)
            if member.msp != job.terms.submitter:
                asked = AccessRequest.model_validate_json(state[f"\x00access-request\x00{member.grant}\x00"][0])
                assert (asked.state, asked.requester) == (AccessState.GRANTED, job.terms.submitter)
            assert Dataset.model_validate_json(state[f"\x00dataset\x00{member.msp}\x00heart\x00"][0]).state == "active"

    @invariant()
    def supply_is_conserved(self) -> None:
        assert self.world.supply() == self.minted

    @invariant()
    def escrow_is_held_claimed_or_refunded(self) -> None:
        rows = self.rows("token", Token)
        for job in self.rows("job", Job):
            held = sum(int(row.amount) for row in rows if row.owner == f"job:{job.id}")
            assert held == int(job.escrowed)
            running = job.state in (JobState.SUBMITTED, JobState.RUNNING)
            assert running or (held, job.escrow) == (0, None)
            if running:
                assert held + int(job.paid) == int(job.terms.budget)
        for asked in self.rows("access-request", AccessRequest):
            held = sum(int(row.amount) for row in rows if row.owner == f"request:{asked.id}")
            assert held == (int(asked.price) if asked.state == AccessState.REQUESTED else 0)
        escrows = {f"job:{job.id}" for job in self.rows("job", Job)}
        escrows |= {f"request:{asked.id}" for asked in self.rows("access-request", AccessRequest)}
        assert {row.owner for row in rows} <= escrows | set(MEMBERS)

    @invariant()
    def no_round_is_final_without_its_quorum(self) -> None:
        updates, attestations = self.rows("update", Update), self.rows("attestation", Attestation)
        for one in self.rows("round", Round):
            delivered = {row.msp for row in updates if (row.job, row.round) == (one.job, one.number)}
            place = (one.job, one.number, one.attempt)
            said = [row for row in attestations if (row.job, row.round, row.attempt) == place]
            cohort = {member.msp for member in one.cohort}
            assert delivered | {row.msp for row in said} <= cohort
            assert one.quorum == len(cohort) // 2 + 1
            if one.state in (RoundState.CLOSED, RoundState.FINAL):
                assert set(one.counted) <= delivered
                assert len(one.counted) >= one.quorum
            if one.state == RoundState.FINAL:
                assert one.outcome is not None
                assert sum(row.accept and row.outcome == one.outcome for row in said) >= one.quorum
                paid = sum(int(payment.amount) for payment in one.payments)
                job = self.row("job", Job, one.job)
                assert paid <= int(job.terms.budget) // job.terms.plan.rounds
                agreeing = {row.msp for row in said if row.outcome == one.outcome}
                assert {payment.msp for payment in one.payments} == agreeing | set(one.outcome.summed)
                assert set(one.outcome.summed) <= set(one.counted)
            assert not set(one.counted) & set(one.withheld)
            if one.attempt > 1:
                words = [row for row in self.rows("missing", Missing) if (row.job, row.round) == (one.job, one.number)]
                for msp in one.withheld:
                    assert any(
                        sum(msp in row.members for row in words if row.attempt == attempt) >= one.quorum
                        for attempt in range(1, one.attempt)
                    )
            if one.state != RoundState.FINAL:
                assert (one.outcome, one.payments) == (None, ())

    @invariant()
    def a_job_has_at_most_one_live_round_and_it_is_the_last(self) -> None:
        for job in self.rows("job", Job):
            rounds = [one for one in self.rows("round", Round) if one.job == job.id]
            assert [one.number for one in rounds] == list(range(1, job.round + 1))
            live = [one.number for one in rounds if one.state in (RoundState.OPEN, RoundState.CLOSED)]
            assert live == ([job.round] if job.state == JobState.RUNNING else [])
            assert job.rounds_final == sum(one.state == RoundState.FINAL for one in rounds)
            if job.state == JobState.FINISHED:
                assert job.rounds_final == job.terms.plan.rounds


def test_whatever_is_tried_supply_escrow_quorums_and_grants_hold():
    run_state_machine_as_test(
        Ledger,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
