"""What colluding majorities can write, of endorsers with modified chaincode or of orderers, and what gives it away."""

import copy
import dataclasses
import json

import pytest
from fabric_protos.common import common_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fedfabric.audit import Check, verify_job
from fedfabric.chaincode import cohort, jobs, rounds
from fedfabric.fabric.configuration import Batch
from fedfabric.fabric.configuration_update import with_batch
from fedfabric.tests.unit.audit.ledger import JOB, MEMBERS, House, Run, RunSettings

A, B, C = MEMBERS
MINUTE = 60_000
OTHER_BLOB = {"address": "ab" * 32, "digest": "cd" * 32, "size": 1}


def altering(kind: str, **fields):
    """A modified chaincode that writes other values into rows of one kind; a callable changes the value."""

    def alter(writes: dict[str, bytes]) -> None:
        for key, row in writes.items():
            if key.split("\0")[1:2] == [kind] and row:
                content = json.loads(row)
                for name, value in fields.items():
                    content[name] = value(content[name]) if callable(value) else value
                writes[key] = json.dumps(content, separators=(",", ":"), sort_keys=True).encode()

    return alter


def without(kind: str):
    """A modified chaincode that writes no rows of one kind."""

    def alter(writes: dict[str, bytes]) -> None:
        for key in [key for key in writes if key.split("\0")[1:2] == [kind]]:
            del writes[key]

    return alter


def without_guards(machine):
    """A state machine as modified chaincode has it: every transition, no condition."""
    return dataclasses.replace(
        machine, transitions=tuple(dataclasses.replace(one, guards=()) for one in machine.transitions)
    )


@pytest.fixture
def modified(monkeypatch):
    """Contracts without deadlines and quorums, until the audit."""
    monkeypatch.setattr(rounds, "ROUND", without_guards(rounds.ROUND))
    monkeypatch.setattr(jobs, "JOB", without_guards(jobs.JOB))
    return monkeypatch


@pytest.fixture
async def run(tmp_path) -> Run:
    (tmp_path / "run").mkdir()
    return Run(tmp_path / "run", RunSettings(rounds=1))


def audit(run: Run, tmp_path):
    return verify_job(run.ledger.write(tmp_path / "out"), None, run.ledger.genesis_hash, JOB)


def broken(report, check: Check) -> str:
    return "\n".join(f"{one.link}: {one.text}" for one in report.findings if one.check is check)


async def whole(run: Run) -> None:
    await run.found()
    await run.offer(MEMBERS)
    await run.start()
    await run.round(1, MEMBERS)


ROWS = {
    "more samples than registered": (
        "training:update",
        altering("update", samples=9999),
        Check.UPDATES,
        f"update of {A} in round 1 of job {JOB}: claims 9999 samples, 100 are registered",
    ),
    "an update of another round": (
        "training:update",
        altering("update", attempt=2),
        Check.UPDATES,
        "speaks of something else than its key",
    ),
    "an attestation of another round": (
        "training:attest",
        altering("attestation", round=2),
        Check.QUORUM,
        "speaks of something else than its key",
    ),
    "another digest of the job": (
        "training:submit",
        altering("job", digest="cd" * 32),
        Check.JOB,
        f"not {'cd' * 32}",
    ),
    "terms that change": (
        "training:finalise",
        altering("job", terms=lambda terms: terms | {"title": "another"}),
        Check.JOB,
        "changes its terms",
    ),
    "less in escrow than the budget": (
        "training:submit",
        altering("token", amount=lambda amount: "999" if amount == "1000" else "78"),
        Check.PAYMENTS,
        f"escrow of job {JOB}: 999 went into it, the budget is 1000",
    ),
    "a quorum of one": ("training:start", altering("round", quorum=1), Check.QUORUM, "its quorum is 1 of 3"),
    "another total of samples": (
        "training:start",
        altering("round", total_samples=1),
        Check.UPDATES,
        "its total of samples is not the cohort's",
    ),
    "another optimiser's state to start from": (
        "training:start",
        altering("round", optimizer_state=OTHER_BLOB),
        Check.AGGREGATE,
        "starts from another model or optimiser's state",
    ),
    "another model of the job than its plan's": (
        "training:submit",
        altering("job", model=OTHER_BLOB),
        Check.AGGREGATE,
        f"makes its model {'cd' * 32}, which must be",
    ),
    "another model of the job between its rounds": (
        "training:start",
        altering("job", model=OTHER_BLOB),
        Check.AGGREGATE,
        f"makes its model {'cd' * 32}, which must be",
    ),
    "another model of the job than its last round's outcome": (
        "training:finalise",
        altering("job", model=OTHER_BLOB),
        Check.AGGREGATE,
        f"makes its model {'cd' * 32}, which must be",
    ),
    "another optimiser's state of the job than its last round's outcome": (
        "training:finalise",
        altering("job", optimizer_state=None),
        Check.AGGREGATE,
        "makes its optimiser's state none, which must be",
    ),
    "a final round that its job does not know of": (
        "training:finalise",
        without("job"),
        Check.JOB,
        f"round 1 of job {JOB}: final without its job's record",
    ),
    "an update's deadline that changes": (
        "training:close",
        altering("round", update_until_ms=1),
        Check.UPDATES,
        "changes its update_until_ms, fixed at its opening",
    ),
    "a window that changes": (
        "training:close",
        altering("round", window_ms=900),
        Check.UPDATES,
        "changes its window_ms, fixed at its opening",
    ),
    "another deadline of the attestations": (
        "training:close",
        altering("round", attest_until_ms=lambda until: until + 1),
        Check.QUORUM,
        "has it attested until",
    ),
    "a round that is final and was never closed": (
        "training:close",
        altering("round", state="final"),
        Check.UPDATES,
        "makes it final, and it was open",
    ),
    "another model to start from": (
        "training:start",
        altering("round", model=OTHER_BLOB),
        Check.AGGREGATE,
        "starts from another model",
    ),
    "a cohort that changes": (
        "training:close",
        altering("round", cohort=lambda cohort: cohort[:2]),
        Check.UPDATES,
        "changes its cohort, fixed at its opening",
    ),
    "updates that are not counted": (
        "training:close",
        altering("round", counted=[A, B]),
        Check.UPDATES,
        f"it counts {A}, {B}, updates came from {A}, {B}, {C}",
    ),
    "more samples in the cohort than registered": (
        "training:start",
        altering("round", cohort=lambda cohort: [one | {"samples": one["samples"] + 1} for one in cohort]),
        Check.GRANTS,
        "it counts 101 samples, registered are 100",
    ),
    "a grant for another data set": (
        "access:grant",
        altering("access-grant", dataset=f"{A}/other"),
        Check.GRANTS,
        "is for something else",
    ),
    "a grant that was over": (
        "access:grant",
        altering("access-grant", expires_ms=1),
        Check.GRANTS,
        "had expired",
    ),
    "an approval of another version": (
        "training:approve",
        altering("job-decision", version=7),
        Check.APPROVALS,
        "another data set or version",
    ),
    "an approval of another policy": (
        "training:approve",
        altering("job-decision", privacy="masked"),
        Check.APPROVALS,
        "it is for the policy masked, the job's is clear",
    ),
    "a list of who said what": (
        "training:finalise",
        altering("round", attestations=[]),
        Check.QUORUM,
        "its list of who said what is not that of the attestations",
    ),
    "another payment on record": (
        "training:finalise",
        altering("round", payments=[{"msp": A, "parts": 2, "amount": "1"}]),
        Check.PAYMENTS,
        f"payment of {A} for round 1 of job {JOB}: the record says 1, the terms give 332",
    ),
    "less given back": (
        "training:finalise",
        altering("token", amount=lambda amount: "3" if amount == "4" else amount),
        Check.PAYMENTS,
        f"refund of job {JOB}",
    ),
    "a model at another address": (
        "training:attest",
        altering("attestation", outcome=lambda one: one | {"model": one["model"] | {"address": "ab" * 32}}),
        Check.AGGREGATE,
        "which is not what it computes to",
    ),
    "a row that is no record": (
        "training:start",
        altering("round", state="unheard-of"),
        Check.JOB,
        "not a Round record",
    ),
}


@pytest.mark.parametrize("what", ROWS)
async def test_a_majority_of_endorsers_that_writes(run, tmp_path, what, modified):
    function, alter, check, text = ROWS[what]
    run.ledger.alterations[function] = alter
    try:
        await whole(run)
    except AssertionError:  # the honest contracts refuse to go on from such rows; what is there is audited
        assert len(run.ledger.blocks) > 5
    modified.undo()
    report = audit(run, tmp_path)
    assert text in broken(report, check)
    assert broken(report, Check.CONTRACTS)


class TestModifiedContracts:
    async def test_a_late_update_and_attestation_are_named(self, run, tmp_path, modified):
        await run.found()
        await run.offer(MEMBERS)
        await run.start()
        run.ledger.now += MINUTE
        updates = await run.deliver(1, MEMBERS)
        await run.close(1, MEMBERS)
        run.ledger.now += MINUTE
        outcome = run.aggregate(MEMBERS, updates)
        await run.finalise(1, outcome, await run.attest(1, MEMBERS, outcome))
        modified.undo()
        report = audit(run, tmp_path)
        assert "came at or after the round's deadline" in broken(report, Check.UPDATES)
        assert "came at or after the attestations' deadline" in broken(report, Check.QUORUM)
        assert "DEADLINE_PASSED" in broken(report, Check.CONTRACTS)

    async def test_a_round_closed_before_its_time_is_named(self, run, tmp_path, modified):
        await run.found()
        await run.offer(MEMBERS)
        await run.start()
        await run.deliver(1, MEMBERS, absent=(C,))
        await run.close(1, MEMBERS)
        modified.undo()
        assert "closed with 2 of 3 updates before its deadline" in broken(audit(run, tmp_path), Check.UPDATES)

    async def test_a_round_counted_anew_without_a_quorum_that_misses_an_update_is_named(self, run, tmp_path, modified):
        await run.found()
        await run.offer(MEMBERS)
        await run.start()
        updates = await run.deliver(1, MEMBERS)
        await run.close(1, MEMBERS)
        await run.miss(1, (A,), (C,))
        run.ledger.alterations["training:recount"] = altering("round", counted=[A, B])
        await run.recount(1)
        outcome = run.aggregate(MEMBERS, updates[:2])
        await run.finalise(1, outcome, await run.attest(1, MEMBERS, outcome, attempt=2))
        modified.undo()
        report = audit(run, tmp_path)
        assert "it is counted anew, though no quorum misses an update" in broken(report, Check.UPDATES)
        assert f"it counts {A}, {B} of {A}, {B}, {C}, though a quorum misses those of nobody" in broken(
            report, Check.UPDATES
        )

    async def counted_anew(self, run: Run, tmp_path, *, agreeing: tuple[str, ...] = (), **fields):
        """A round that is counted anew without the update of the third member, which a quorum misses."""
        await run.found()
        await run.offer(MEMBERS)
        await run.start()
        updates = await run.deliver(1, MEMBERS)
        await run.close(1, MEMBERS)
        if agreeing:
            await run.attest(1, agreeing, run.aggregate(MEMBERS, updates))
        await run.miss(1, (A, B), (C,))
        run.ledger.alterations["training:recount"] = altering("round", **fields)
        await run.recount(1)
        return audit(run, tmp_path)

    async def test_a_round_counted_anew_after_a_quorum_had_agreed_is_named(self, run, tmp_path, modified):
        await self.counted_anew(run, tmp_path, agreeing=(A, B))
        modified.undo()
        report = audit(run, tmp_path)
        assert "it is counted anew, though a quorum had agreed on an outcome" in broken(report, Check.QUORUM)

    async def test_a_round_counted_anew_while_fewer_than_a_quorum_agree_is_not(self, run, tmp_path):
        assert (await self.counted_anew(run, tmp_path, agreeing=(A,))).verified

    async def test_a_round_counted_anew_that_names_others_as_withholding_is_named(self, run, tmp_path):
        report = await self.counted_anew(run, tmp_path, withheld=[B])
        assert f"it names {B} as withholding after nobody" in broken(report, Check.UPDATES)

    async def test_a_round_counted_anew_that_forgets_who_withheld_before_is_named(self, run, tmp_path, modified):
        await self.counted_anew(run, tmp_path)
        await run.miss(1, (A, C), (B,), attempt=2)
        run.ledger.alterations["training:recount"] = altering("round", withheld=[B])
        await run.recount(1)
        modified.undo()
        assert f"it names {B} as withholding after {C}" in broken(audit(run, tmp_path), Check.UPDATES)

    async def test_a_round_counted_anew_with_another_deadline_is_named(self, run, tmp_path):
        report = await self.counted_anew(run, tmp_path, attest_until_ms=lambda until: until + 1)
        assert "has it attested until" in broken(report, Check.QUORUM)

    async def test_a_final_round_that_is_opened_again_is_named(self, run, tmp_path):
        await whole(run)
        state = run.ledger.peer.state("fedfabric")
        (key,) = (key for key in state if key.startswith("\0round\0"))

        def alter(writes):
            writes[key] = state[key]
            altering("round", state="closed")(writes)

        mint = {"id": "m9", "owner": A, "amount": "5"}
        await run.ledger.submit(A, "operator", "tokens:approve", mint, alter=alter)
        report = audit(run, tmp_path)
        assert "makes it closed, and it was final" in broken(report, Check.UPDATES)

    async def test_an_update_that_is_summed_though_its_row_names_another_size_is_named(self, run, tmp_path):
        run.claims = {"size": 7}
        await whole(run)
        report = audit(run, tmp_path)
        size = len(run.ledger.blobs[run.updates[0]["blob"]["address"]])
        assert f"it has {size} bytes, the ledger says 7" in broken(report, Check.BLOBS)
        assert not report.rounds[0].recomputed

    async def test_an_outcome_that_names_others_than_it_sums_is_named(self, run, tmp_path):
        await run.found()
        await run.offer(MEMBERS)
        await run.start()
        updates = await run.deliver(1, MEMBERS)
        await run.close(1, MEMBERS)
        outcome = run.aggregate(MEMBERS, updates) | {"summed": [A, B]}
        await run.finalise(1, outcome, await run.attest(1, MEMBERS, outcome))
        report = audit(run, tmp_path)
        assert f"the updates of {A}, {B}, {C} give" in broken(report, Check.AGGREGATE)

    @pytest.fixture
    async def submitted(self, run, modified):
        """A job approved by all, and contracts that take any owner into a round."""
        await run.found()
        await run.offer(MEMBERS)
        await run.submit_job()
        for msp in MEMBERS:
            await run.approve(msp)
        modified.setattr(cohort, "_approved", lambda *_: True)
        modified.setattr(cohort, "_fault", lambda *_: None)
        return run

    async def overwrite(self, run: Run, kind: str, msp: str, **fields) -> None:
        """Let a transaction of this member's steward change fields of one of its rows."""
        state = run.ledger.peer.state("fedfabric")
        key = next(key for key in state if key.startswith(f"\0{kind}\0") and msp in key)

        def alter(writes):
            row = {key: state[key]}
            altering(kind, **fields)(row)
            writes.update(row)

        await run.ledger.submit(msp, "steward", "access:revoke", {"id": run.grant(msp)}, alter=alter)

    async def begin(self, run: Run, tmp_path, modified):
        await run.begin()
        modified.undo()
        return audit(run, tmp_path)

    async def test_a_refusal_that_counts_as_an_approval_is_named(self, submitted, tmp_path, modified):
        await self.overwrite(submitted, "job-decision", B, verdict="refused")
        report = await self.begin(submitted, tmp_path, modified)
        assert f"approval of {B} for job {JOB}: it is a refusal" in broken(report, Check.APPROVALS)
        assert "did not stand when the round was opened" in broken(report, Check.GRANTS)

    async def test_an_approval_of_another_digest_is_named(self, submitted, tmp_path, modified):
        await self.overwrite(submitted, "job-decision", B, digest="cd" * 32)
        report = await self.begin(submitted, tmp_path, modified)
        assert f"it names the digest {'cd' * 32}, not the job's" in broken(report, Check.APPROVALS)

    async def test_somebody_elses_data_set_is_named(self, submitted, tmp_path, modified):
        await self.overwrite(submitted, "dataset", B, owner="OtherMSP")
        report = await self.begin(submitted, tmp_path, modified)
        assert f"the data set {B}/heart is OtherMSP's" in broken(report, Check.GRANTS)

    async def test_a_retired_data_set_in_a_cohort_is_named(self, submitted, tmp_path, modified):
        retired = {"msp": B, "dataset": f"{B}/heart", "version": 1, "grant": submitted.grant(B), "samples": 110}
        await submitted.ledger.submit(B, "steward", "datasets:retire", {"id": f"{B}/heart"})
        submitted.ledger.alterations["training:start"] = altering(
            "round", cohort=lambda members: [members[0], retired, members[1]], quorum=2, total_samples=330
        )
        report = await self.begin(submitted, tmp_path, modified)
        assert f"{B} in round 1 of job {JOB}: the data set {B}/heart had been retired" in broken(report, Check.GRANTS)

    async def test_another_version_of_a_data_set_in_a_cohort_is_named(self, submitted, tmp_path, modified):
        stale = {"msp": B, "dataset": f"{B}/heart", "version": 1, "grant": submitted.grant(B), "samples": 110}
        await self.overwrite(submitted, "dataset", B, version=2)
        submitted.ledger.alterations["training:start"] = altering(
            "round", cohort=lambda members: [members[0], stale, members[1]], quorum=2, total_samples=330
        )
        report = await self.begin(submitted, tmp_path, modified)
        assert f"the data set {B}/heart had version 2, not 1" in broken(report, Check.GRANTS)

    async def test_an_owner_without_approval_or_grant_in_a_cohort_is_named(self, run, tmp_path, modified):
        await run.found()
        await run.offer((A, B))
        await run.submit_job((A, B))
        await run.approve(A)
        stranger = {"msp": C, "dataset": f"{C}/heart", "version": 1, "grant": None, "samples": 120}
        modified.setattr(cohort, "_approved", lambda *_: True)
        run.ledger.alterations["training:start"] = altering(
            "round", cohort=lambda members: [*members, stranger], total_samples=330
        )
        await run.begin()
        modified.undo()
        report = audit(run, tmp_path)
        assert f"{B} in round 1 of job {JOB}: the owner has not approved the job" in broken(report, Check.APPROVALS)
        assert f"the data set {C}/heart is not registered" in broken(report, Check.GRANTS)
        assert "no grant is named, and the data are not the submitter's" in broken(report, Check.GRANTS)

    async def test_a_final_round_without_its_quorum_is_named(self, run, tmp_path, modified):
        await run.found()
        await run.offer(MEMBERS)
        await run.start()
        updates = await run.deliver(1, MEMBERS)
        await run.close(1, MEMBERS)
        outcome = run.aggregate(MEMBERS, updates)
        attesters = await run.attest(1, MEMBERS, outcome, refusing=(A, B))
        modified.setattr(rounds, "winner", lambda found, _: found[0])
        await run.finalise(1, outcome, attesters)
        modified.undo()
        report = audit(run, tmp_path)
        assert f"{C} attest its outcome and accept it, 2 are needed" in broken(report, Check.QUORUM)

    async def test_what_the_contract_answers_says_and_reads_is_compared(self, run, tmp_path):
        await run.found()
        mint = {"owner": A, "amount": "5"}
        await run.ledger.submit(A, "operator", "tokens:approve", {"id": "m1", **mint}, payload=b"{}")
        await run.ledger.submit(A, "operator", "tokens:approve", {"id": "m2", **mint}, event=("fedfabric", b"[]"))
        await run.ledger.submit(
            A, "operator", "tokens:approve", {"id": "m3", **mint}, change=lambda access: access.ClearField("reads")
        )
        await run.ledger.submit(
            A, "operator", "tokens:approve", {"id": "m4", **mint}, change=lambda access: access.range_queries_info.add()
        )
        await run.ledger.submit(
            A,
            "operator",
            "tokens:approve",
            {"id": "m5", **mint},
            change=lambda access: access.metadata_writes.add(key="k"),
        )
        report = audit(run, tmp_path)
        found = broken(report, Check.CONTRACTS)
        assert "id m1 by ClevelandMSP: its answer to the client is not the contract's" in found
        assert "id m2 by ClevelandMSP: its event is not the contract's" in found
        assert "id m3 by ClevelandMSP: it did not read" in found
        assert "id m4 by ClevelandMSP: it read a range" in broken(report, Check.VERSIONS)
        assert "id m5 by ClevelandMSP: gives the row k a policy" in broken(report, Check.ENDORSEMENTS)

    @pytest.mark.parametrize("function", ["tokens:balance", "show"])
    async def test_a_look_up_that_is_submitted_breaks_nothing_unless_it_writes_or_has_an_event(
        self, run, tmp_path, function
    ):
        await whole(run)
        request = {"owner": A} if "balance" in function else {}

        def with_range(access):
            access.range_queries_info.add()

        await run.ledger.submit(B, "auditor", function, request, change=with_range)
        assert audit(run, tmp_path).verified
        await run.ledger.submit(B, "auditor", function, request, event=("fedfabric", b"[]"))
        assert "a look-up with an event" in broken(audit(run, tmp_path), Check.CONTRACTS)
        await run.ledger.submit(
            C, "auditor", function, request, alter=lambda writes: writes.update({"\0x\0": b"{}"}), change=with_range
        )
        report = audit(run, tmp_path)
        assert f"{function} by {C}: it read a range" in broken(report, Check.VERSIONS)
        assert f"{function} by {C}" in broken(report, Check.CONTRACTS)

    async def test_a_range_read_through_another_chaincode_breaks_nothing(self, run, tmp_path):
        await whole(run)
        creator = run.ledger.houses[A].person("client", "")
        made = {"namespace": "fedfabric", "change": lambda access: access.range_queries_info.add()}
        run.ledger.cut([run.ledger.envelope(creator, "other", (b"tokens:balance",), {}, {}, **made)])
        assert audit(run, tmp_path).verified

    async def test_one_members_private_writes_are_on_record_and_break_nothing(self, run, tmp_path):
        await whole(run)
        hashed = kv_rwset_pb2.HashedRWSet(
            hashed_writes=[kv_rwset_pb2.KVWriteHash(key_hash=bytes(32), value_hash=bytes(32))]
        )
        creator = run.ledger.houses[B].person("client", "")
        call = (b"unheard:of", b"{}")
        private = {f"_implicit_org_{B}": hashed.SerializeToString()}
        run.ledger.cut([run.ledger.envelope(creator, "fedfabric", call, {}, {}, endorsers=(B,), private=private)])
        report = audit(run, tmp_path)
        assert report.verified
        (remark,) = report.remarks
        assert (remark.link, remark.text) == (
            f"collection _implicit_org_{B}",
            "private data were written into it, and no contract does that",
        )
        run.ledger.cut([run.ledger.envelope(creator, "fedfabric", call, {}, {}, endorsers=(B,), private=private)])
        assert audit(run, tmp_path).remarks == (remark,)
        run.ledger.cut([run.ledger.envelope(creator, "fedfabric", call, {}, {}, endorsers=(C,), private=private)])
        assert "/Channel/Application/HungaryMSP/Endorsement" in broken(audit(run, tmp_path), Check.ENDORSEMENTS)

    async def test_what_peers_ran_is_what_the_header_names(self, run, tmp_path):
        await whole(run)
        mint = {"id": "m9", "owner": A, "amount": "5"}
        await run.ledger.submit(A, "operator", "tokens:approve", mint, call_name="another")
        assert audit(run, tmp_path).verified

    async def test_rows_written_through_another_chaincode_are_named(self, run, tmp_path):
        await run.found()
        creator = run.ledger.houses[A].person("client", "operator")
        writes = {"\0mint\0m9\0": b"{}"}
        run.ledger.cut([run.ledger.envelope(creator, "other", (b"f", b""), {}, writes, namespace="fedfabric")])
        report = audit(run, tmp_path)
        assert "it wrote our rows through the chaincode other" in broken(report, Check.CONTRACTS)
        assert "mint m9: not a Mint record" in broken(report, Check.TOKENS)

    async def test_what_the_contracts_refuse_is_named(self, run, tmp_path):
        await run.found()
        creator = run.ledger.houses[A].person("client", "scientist")
        arguments = (b"tokens:approve", b'{"amount":"5","id":"m9","owner":"ClevelandMSP"}')
        run.ledger.cut([run.ledger.envelope(creator, "fedfabric", arguments, {}, {"\0x\0": b"{}"})])
        found = broken(audit(run, tmp_path), Check.CONTRACTS)
        assert "the contract refuses it (403" in found
        assert "ROLE_REQUIRED" in found


class TestOrderers:
    async def test_a_transaction_marked_valid_twice_is_named(self, run, tmp_path):
        await run.found()
        run.ledger.cut([run.ledger.blocks[-1].data.data[0]])
        assert "a transaction of this id was valid before" in broken(audit(run, tmp_path), Check.VERSIONS)

    async def test_a_transaction_of_another_channel_is_named(self, run, tmp_path):
        creator = run.ledger.houses[A].person("client", "operator")
        run.ledger.cut([run.ledger.envelope(creator, "fedfabric", (b"f", b""), {}, {}, channel_name="other")])
        assert "is for channel other" in broken(audit(run, tmp_path), Check.CREATORS)

    async def test_rubbish_marked_valid_is_named(self, run, tmp_path):
        run.ledger.cut([common_pb2.Envelope(payload=b"\xff", signature=b"s").SerializeToString()])
        assert "marked valid, but payload: not readable" in broken(audit(run, tmp_path), Check.CHAIN)

    async def test_an_id_that_is_not_its_own_is_named(self, run, tmp_path):
        await run.found()
        creator = run.ledger.houses[A].person("client", "operator")
        envelope = common_pb2.Envelope.FromString(run.ledger.blocks[-1].data.data[0])
        payload = common_pb2.Payload.FromString(envelope.payload)
        header = common_pb2.ChannelHeader.FromString(payload.header.channel_header)
        header.tx_id = "ab" * 32
        payload.header.channel_header = header.SerializeToString()
        envelope.payload = payload.SerializeToString()
        envelope.signature = creator.sign(envelope.payload)
        run.ledger.cut([envelope.SerializeToString()])
        report = audit(run, tmp_path)
        assert "its id is not the hash of its nonce and creator" in broken(report, Check.CREATORS)
        assert "answers another proposal" in broken(report, Check.ENDORSEMENTS)

    async def test_a_wrong_last_configuration_is_named(self, run, tmp_path):
        await run.found()
        run.ledger.last_config = 3
        run.ledger.seal(len(run.ledger.blocks) - 1)
        assert "the last configuration is in block 3, it is in 0" in broken(audit(run, tmp_path), Check.ORDERERS)

    @pytest.mark.parametrize("signers", [(), (1, 2), (1, 1, 1)])
    async def test_fewer_than_a_quorum_of_them_is_named(self, run, tmp_path, signers):
        await run.found()
        number = len(run.ledger.blocks) - 1
        run.ledger.seal(number, signers)
        assert f"block {number}" in broken(audit(run, tmp_path), Check.ORDERERS)

    async def test_an_organisation_that_too_few_admitted_is_named(self, run, tmp_path):
        run.ledger.houses["EvilMSP"] = House("EvilMSP")
        run.ledger.add_member("EvilMSP", admitted_by=MEMBERS[:1])
        found = broken(audit(run, tmp_path), Check.CONFIGURATION)
        assert f"asks for /Channel/Application/Admins, signed by {A}" in found

    async def test_a_configuration_that_is_more_than_its_update_is_named(self, run, tmp_path):
        run.ledger.houses["VaMSP"] = House("VaMSP")
        run.ledger.add_member("VaMSP", alter=lambda config: with_batch(config, Batch(timeout_ms=1)))
        assert "not what its update makes" in broken(audit(run, tmp_path), Check.CONFIGURATION)

    async def test_a_configuration_that_nobody_asked_for_is_named(self, run, tmp_path):
        run.ledger.houses["VaMSP"] = House("VaMSP")
        run.ledger.add_member("VaMSP", update=False)
        assert "names no update that made it" in broken(audit(run, tmp_path), Check.CONFIGURATION)


def test_alterations_leave_their_writes_alone_that_they_do_not_name():
    writes = {"\0token\0a\0": b'{"amount":"1"}', "\0job\0j\0": b'{"amount":"1"}'}
    before = copy.copy(writes)
    altering("round", amount="2")(writes)
    assert writes == before
