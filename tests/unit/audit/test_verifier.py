"""What an audit finds: nothing in an honest ledger, and each link that was tampered with, by its name."""

import json

import pytest
from fabric_protos.common import common_pb2
from fedfabric.audit import AuditInputError, Check, Outcome, genesis_hash, verify_job
from fedfabric.fabric.blocks import block_file_name
from fedfabric.tests.unit.audit.ledger import JOB, MEMBERS, Ledger, Run, RunSettings, rewrite

LIAR = "HungaryMSP"
LATE = "VaMSP"


@pytest.fixture(scope="session")
async def honest(tmp_path_factory) -> Run:
    """Two rounds; one member lies about the first, one joins for the second."""
    return await Run(tmp_path_factory.mktemp("honest"), RunSettings(liar=LIAR, late=LATE)).run()


@pytest.fixture
def ledger(honest) -> Ledger:
    return honest.ledger.copy()


def verify(ledger: Ledger, folder, job: str = JOB):
    return verify_job(ledger.write(folder), None, ledger.genesis_hash, job)


def broken(report, check: Check) -> str:
    """The links and texts that a check found broken, as one text."""
    return "\n".join(f"{one.link}: {one.text}" for one in report.findings if one.check is check)


class TestAnHonestLedger:
    def test_is_verified_from_end_to_end(self, honest, tmp_path):
        report = verify(honest.ledger, tmp_path)
        assert report.findings == ()
        assert report.verdict == "verified"
        assert [result.outcome for result in report.checks] == [Outcome.PASSED] * len(Check)
        assert all(result.made for result in report.checks)

    def test_says_who_lied_without_breaking_the_job(self, honest, tmp_path):
        report = verify(honest.ledger, tmp_path)
        assert [remark.link for remark in report.remarks] == [f"attestation of {LIAR} in round 1 of job {JOB}"]
        assert report.rounds[0].dissent == (LIAR,)
        assert report.rounds[1].dissent == ()

    def test_gives_the_figures_back(self, honest, tmp_path):
        report = verify(honest.ledger, tmp_path)
        first, second = report.rounds
        assert (first.state, second.state, report.job_state) == ("final", "final", "finished")
        assert [member.msp for member in second.members] == sorted((*MEMBERS, LATE))
        assert first.global_metrics == {"auc": 800_001}
        assert second.members[0].training == {"loss": 698_000}
        assert first.recomputed
        assert second.recomputed
        # 500 a round; round 1 has five parts (three updates, two attesters), round 2 eight.
        assert [member.paid for member in first.members] == ["200", "100", "200"]
        assert [member.paid for member in second.members] == ["124"] * 4
        assert report.paid == "996"
        assert report.founders == tuple(sorted(MEMBERS))

    def test_survives_json(self, honest, tmp_path):
        report = verify(honest.ledger, tmp_path)
        again = json.loads(json.dumps(report.to_dict()))
        assert again["verified"] is True
        assert len(again["checks"]) == len(Check)
        assert len(report.lines()) > len(Check)

    def test_is_read_from_the_folder_of_blocks_too(self, honest, tmp_path):
        folder = honest.ledger.write(tmp_path)
        assert verify_job(folder / "blocks", folder / "blobs", genesis_hash(folder), JOB).verified

    def test_needs_no_intermediate_models_which_it_computes_itself(self, honest, tmp_path):
        folder = honest.ledger.write(tmp_path)
        report = verify(honest.ledger, folder)
        kept = {honest.plan["bundle"]["address"], honest.plan["model"]["address"]}
        kept |= {update["blob"]["address"] for update in honest.updates}
        for path in (folder / "blobs").iterdir():
            if path.name not in kept:
                path.unlink()
        again = verify_job(folder, None, honest.ledger.genesis_hash, JOB)
        assert again.verified
        assert again.model == report.model

    def test_ignores_rubbish_that_peers_marked_invalid(self, ledger, tmp_path):
        rubbish = common_pb2.Envelope(payload=b"\xff", signature=b"none").SerializeToString()
        ledger.cut([rubbish, ledger.blocks[5].data.data[0]], bytes([22, 19]))
        assert verify(ledger, tmp_path).verified


class TestATamperedBlob:
    @pytest.mark.parametrize("what", ["update", "model", "plan"])
    def test_is_named(self, honest, ledger, tmp_path, what):
        blob, link = {
            "update": (honest.updates[4]["blob"], f"update of {MEMBERS[1]} in round 2 of job {JOB}"),
            "model": (honest.plan["model"], f"initial model of job {JOB}"),
            "plan": (honest.plan["bundle"], f"plan of job {JOB}"),
        }[what]
        data = ledger.blobs[blob["address"]]
        ledger.blobs[blob["address"]] = data[:-1] + bytes([data[-1] ^ 1])
        report = verify(ledger, tmp_path)
        assert not report.verified
        assert [finding.link for finding in report.findings] == [link]
        assert blob["address"] in report.findings[0].text

    def test_that_is_missing_is_named(self, honest, ledger, tmp_path):
        del ledger.blobs[honest.updates[0]["blob"]["address"]]
        report = verify(ledger, tmp_path)
        assert "not in the folder" in broken(report, Check.BLOBS)
        assert not report.verified

    def test_that_is_a_final_models_is_named(self, honest, ledger, tmp_path):
        address = honest.outcomes[-1]["model"]["address"]
        ledger.blobs[address] += b"\0"
        report = verify(ledger, tmp_path)
        assert "model.safetensors of aggregate of round 2" in broken(report, Check.BLOBS)


def alter_row(kind: str, field: str, value):
    """A change of one field in rows of one kind."""

    def change(key: str, row: bytes) -> bytes:
        if key.split("\0")[1:2] != [kind] or not row:
            return row
        content = json.loads(row)
        content[field] = value(content[field]) if callable(value) else value
        return json.dumps(content, separators=(",", ":"), sort_keys=True).encode()

    return change


DIGEST = {"address": "ab" * 32, "digest": "cd" * 32, "size": 1000}
TAMPERINGS = {
    "update": (
        "training:update",
        '"round":2',
        alter_row("update", "blob", DIGEST),
        "training:update job heart round 2",
    ),
    "attestation": (
        "training:attest",
        '"round":1',
        alter_row("attestation", "accept", False),
        "training:attest job heart round 1",
    ),
    "payment": (
        "training:finalise",
        '"round":1',
        alter_row("token", "amount", "7"),
        "training:finalise job heart round 1",
    ),
    "grant": ("access:grant", "", alter_row("access-grant", "dataset", "X/y"), "access:grant"),
    "approval": (
        "training:approve",
        "",
        alter_row("job-decision", "digest", "cd" * 32),
        "training:approve job heart",
    ),
}


class TestATamperedRow:
    """The bytes in one block's file are changed, by somebody with nobody's keys."""

    @pytest.mark.parametrize("what", TAMPERINGS)
    def test_in_a_block_breaks_the_blocks_hash_and_is_named(self, ledger, tmp_path, what):
        function, about, change, link = TAMPERINGS[what]
        number = ledger.find(function, about)
        ledger.blocks[number].data.data[0] = rewrite(ledger.blocks[number].data.data[0], change)
        report = verify(ledger, tmp_path)
        assert f"block {number}" in report.verdict
        assert f"block {number}: its transactions have the hash" in broken(report, Check.CHAIN)
        assert f"block {number}, transaction 0: {link}" in broken(report, Check.CREATORS)
        assert f"block {number}, transaction 0: {link}" in broken(report, Check.ENDORSEMENTS)
        assert f"block {number}, transaction 0: {link}" in broken(report, Check.CONTRACTS)

    @pytest.mark.parametrize("what", TAMPERINGS)
    def test_under_new_hashes_lacks_the_orderers_signatures(self, ledger, tmp_path, what):
        function, about, change, _ = TAMPERINGS[what]
        number = ledger.find(function, about)
        ledger.blocks[number].data.data[0] = rewrite(ledger.blocks[number].data.data[0], change)
        ledger.reseal(number, signers=(2, 4))
        report = verify(ledger, tmp_path)
        assert not broken(report, Check.CHAIN)
        assert f"block {number}: 2 of 2 orderer signatures hold" in broken(report, Check.ORDERERS)

    @pytest.mark.parametrize("what", TAMPERINGS)
    def test_is_named_even_if_all_orderers_collude(self, ledger, tmp_path, what):
        function, about, change, link = TAMPERINGS[what]
        number = ledger.find(function, about)
        ledger.blocks[number].data.data[0] = rewrite(ledger.blocks[number].data.data[0], change)
        ledger.reseal(number)
        report = verify(ledger, tmp_path)
        assert not broken(report, Check.ORDERERS)
        assert link in broken(report, Check.CREATORS)
        assert link in broken(report, Check.ENDORSEMENTS)


class TestATamperedBlock:
    def test_of_another_network_is_not_the_one_given(self, ledger, tmp_path):
        report = verify_job(ledger.write(tmp_path), None, "00" * 32, JOB)
        assert [finding.check for finding in report.findings] == [Check.GENESIS]
        assert report.verdict.startswith("broken: block 0")

    def test_that_is_missing_ends_the_walk_by_its_name(self, ledger, tmp_path):
        folder = ledger.write(tmp_path)
        (folder / "blocks" / block_file_name(7)).unlink()
        report = verify_job(folder, None, ledger.genesis_hash, JOB)
        assert "00000007.block is missing" in report.verdict
        assert Outcome.PASSED not in {result.outcome for result in report.checks}

    @pytest.mark.parametrize("cut", [0, 1, 100, -1])
    def test_that_is_cut_short_is_named(self, ledger, tmp_path, cut):
        folder = ledger.write(tmp_path)
        path = folder / "blocks" / block_file_name(9)
        path.write_bytes(path.read_bytes()[:cut])
        report = verify_job(folder, None, ledger.genesis_hash, JOB)
        assert not report.verified
        assert "block 9" in report.verdict

    def test_that_was_swapped_is_named(self, ledger, tmp_path):
        folder = ledger.write(tmp_path)
        first, second = (folder / "blocks" / block_file_name(number) for number in (8, 9))
        first_bytes = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(first_bytes)
        report = verify_job(folder, None, ledger.genesis_hash, JOB)
        assert "00000008.block holds block 9" in report.verdict

    def test_that_was_dropped_and_the_rest_renumbered_breaks_the_chain(self, ledger, tmp_path):
        number = ledger.find("training:attest")
        del ledger.blocks[number]
        for later in ledger.blocks[number:]:
            later.header.number -= 1
        report = verify(ledger, tmp_path)
        assert f"block {number}: it follows a block with the hash" in broken(report, Check.CHAIN)

    def test_whose_flag_hides_a_transaction_shows_in_what_read_it(self, ledger, tmp_path):
        number = ledger.find("training:update", '"round":1')
        ledger.blocks[number].metadata.metadata[2] = bytes([11])
        report = verify(ledger, tmp_path)
        assert f"it read update of {MEMBERS[0]} in round 1 of job {JOB}" in broken(report, Check.VERSIONS)

    def test_whose_flag_calls_an_unendorsed_transaction_valid_is_named(self, ledger, tmp_path):
        ledger.cut([ledger.blocks[5].data.data[0]])
        report = verify(ledger, tmp_path)
        assert broken(report, Check.CONTRACTS) or broken(report, Check.VERSIONS)


class TestWhatKeysCanDo:
    """Tampering by members with their own keys, before the transaction was ordered."""

    @pytest.fixture
    async def run(self, tmp_path) -> Run:
        (tmp_path / "run").mkdir()
        run = Run(tmp_path / "run")
        await run.found()
        await run.offer(MEMBERS)
        await run.start()
        return run

    async def test_a_minority_of_endorsers_is_not_enough(self, run, tmp_path):
        request = {"id": "m9", "owner": MEMBERS[0], "amount": "5"}
        await run.ledger.submit(MEMBERS[0], "operator", "tokens:approve", request, endorsers=MEMBERS[:1])
        report = verify(run.ledger, tmp_path)
        assert "tokens:approve id m9" in broken(report, Check.ENDORSEMENTS)
        assert "endorsed by ClevelandMSP" in broken(report, Check.ENDORSEMENTS)

    async def test_a_majority_with_modified_chaincode_is_caught_minting(self, run, tmp_path):
        def more(writes):
            for key, value in writes.items():
                writes[key] = alter_row("token", "amount", "999")(key, value)

        request = {"owner": MEMBERS[0], "inputs": [run.change], "outputs": [{"owner": MEMBERS[1], "amount": "77"}]}
        await run.ledger.submit(MEMBERS[0], "scientist", "tokens:transfer", request, alter=more, endorsers=MEMBERS[:2])
        report = verify(run.ledger, tmp_path)
        assert "it spends 77, mints 0 and writes 999" in broken(report, Check.TOKENS)
        assert "tokens:transfer" in broken(report, Check.CONTRACTS)
        assert "the ledger's end" in broken(report, Check.TOKENS)

    async def test_a_majority_that_pays_itself_is_caught(self, run, tmp_path):
        def steal(writes):
            # The sums stay right: what the first member loses stays in escrow, for the payer in the end.
            for key, value in writes.items():
                if f"\0token\0{MEMBERS[0]}\0" in key:
                    writes[key] = alter_row("token", "amount", "160")(key, value)
                elif f"\0token\0job:{JOB}\0" in key and value:
                    writes[key] = alter_row("token", "amount", "508")(key, value)

        run.ledger.alterations["training:finalise"] = steal
        await run.round(1, MEMBERS)
        report = verify(run.ledger, tmp_path)
        assert f"payment of {MEMBERS[0]} for round 1 of job {JOB}" in broken(report, Check.PAYMENTS)
        assert "training:finalise" in broken(report, Check.CONTRACTS)

    async def test_a_majority_that_agrees_on_a_false_model_is_caught(self, run, tmp_path):
        run.false_digest = "ee" * 32
        await run.round(1, MEMBERS)
        report = verify(run.ledger, tmp_path)
        assert f"aggregate of round 1 of job {JOB}" in broken(report, Check.AGGREGATE)
        assert not report.rounds[0].recomputed

    async def test_an_approval_in_anothers_name_is_caught(self, tmp_path):
        def as_another(writes):
            for key in list(writes):
                if "job-decision" in key:
                    writes[key.replace(MEMBERS[1], MEMBERS[2])] = writes.pop(key).replace(
                        MEMBERS[1].encode(), MEMBERS[2].encode()
                    )

        (tmp_path / "other").mkdir()
        other = Run(tmp_path / "other")
        await other.found()
        await other.offer(MEMBERS)
        await other.submit_job()
        await other.approve(MEMBERS[0])
        await other.approve(MEMBERS[1], alter=as_another)
        await other.approve(MEMBERS[1])
        await other.begin()
        report = verify(other.ledger, tmp_path)
        assert f"approval of {MEMBERS[2]} for job {JOB}: signed by {MEMBERS[1]}" in broken(report, Check.APPROVALS)

    async def test_a_transaction_of_an_unknown_authority_is_caught(self, run, tmp_path):
        stranger = type(run.ledger.houses[MEMBERS[0]])(MEMBERS[0])
        run.ledger.houses[MEMBERS[0]], own = stranger, run.ledger.houses[MEMBERS[0]]
        request = {"id": "m9", "owner": MEMBERS[0], "amount": "5"}
        await run.ledger.submit(MEMBERS[0], "operator", "tokens:approve", request, endorsers=MEMBERS[1:])
        run.ledger.houses[MEMBERS[0]] = own
        run.ledger.reseal(len(run.ledger.blocks) - 1)
        report = verify(run.ledger, tmp_path)
        assert "does not lead to a root of this MSP" in broken(report, Check.CREATORS)


class TestInputs:
    def test_a_job_that_is_not_there_is_named(self, ledger, tmp_path):
        report = verify(ledger, tmp_path, job="other")
        assert report.verdict == "broken: job other: no such job is on this ledger"

    def test_a_hash_that_is_none_and_an_empty_folder_are_refused(self, ledger, tmp_path):
        with pytest.raises(AuditInputError, match="64 hexadecimal digits"):
            verify_job(ledger.write(tmp_path / "x"), None, "abc", JOB)
        (tmp_path / "empty").mkdir()
        with pytest.raises(AuditInputError, match="no block files"):
            verify_job(tmp_path / "empty", None, "00" * 32, JOB)
