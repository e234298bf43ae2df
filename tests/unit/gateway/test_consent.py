"""What the own organisation has not signed is not run, whatever the ledger says: the majority may have made it up."""

import copy
import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from fabric_protos.common import common_pb2
from fedfabric.chaincode import records
from fedfabric.chaincode.records import (
    access_grant_key,
    canonical_json,
    dataset_key,
    decision_key,
    job_key,
)
from fedfabric.gateway.blocks import BlockError, read_block
from fedfabric.gateway.consent import Consent, ConsentError, check_consent
from fedfabric.gateway.read_model import OtherChannelError, ReadModel
from fedfabric.gateway.trust import Trust
from fedfabric.tests.unit.audit.ledger import JOB, MEMBERS, Ledger, Run, RunSettings

SUBMITTER, ME, THIRD = MEMBERS
CHAINCODE = "fedfabric"


@dataclass
class Case:
    """A ledger at a point, and what a gateway of one organisation makes of it."""

    run: Run
    folder: Path
    me: str = ME

    def __post_init__(self) -> None:
        self.model = ReadModel(self.folder / f"{self.me}.sqlite", self.me)

    @property
    def ledger(self) -> Ledger:
        return self.run.ledger

    def follow(self) -> "Case":
        for block in self.ledger.blocks[self.model.position :]:
            self.model.apply(read_block(block, CHAINCODE))
        return self

    def check(self, now_ms: int | None = None) -> Consent:
        self.follow()
        job = self.model.job(JOB)
        current = self.model.round(JOB, 1)
        now = datetime.datetime.fromtimestamp((now_ms or self.ledger.now) / 1000, datetime.UTC)
        return check_consent(
            job,
            current.member(self.me),
            model=self.model,
            trust=Trust.from_configuration(self.model.configuration()),
            chaincode=CHAINCODE,
            now=now,
        )

    def forge(self, key: str, change: Callable[[dict], dict]) -> None:
        """A majority of organisations writes what it likes into the state, under a transaction of its own."""
        row = self.model._writer.execute("SELECT value FROM rows WHERE key = ?", (key.encode(),)).fetchone()
        value = canonical_json(change(json.loads(row[0])))
        with self.model._writer as database:
            database.execute("UPDATE rows SET value = ? WHERE key = ?", (value, key.encode()))


async def begun(folder: Path) -> Run:
    """A job in its first round, nothing delivered yet."""
    run = Run(folder, RunSettings(rounds=2))
    await run.found()
    await run.offer(MEMBERS)
    await run.start()
    return run


@pytest.fixture(scope="module")
async def started(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return await begun(tmp_path_factory.mktemp("consent"))


@pytest.fixture
def case(started: Run, tmp_path: Path):
    run = copy.copy(started)
    run.ledger = started.ledger.copy()
    case = Case(run, tmp_path)
    yield case
    case.model.close()


def refused(case: Case, code: str, **when: int) -> str:
    with pytest.raises(ConsentError) as caught:
        case.check(**when)
    assert caught.value.code == code
    return str(caught.value)


def test_what_a_steward_has_signed_is_consent(case: Case) -> None:
    consent = case.check()
    assert consent.dataset.id == f"{ME}/heart"
    assert consent.grant.requester == SUBMITTER


def test_the_own_jobs_own_data_needs_no_grant(started: Run, tmp_path: Path) -> None:
    case = Case(started, tmp_path, SUBMITTER)
    assert case.check().grant is None
    case.model.close()


def test_an_approval_that_others_wrote_is_none(case: Case) -> None:
    case.follow()
    with case.model._writer as database:
        database.execute("DELETE FROM signed WHERE key = ?", (decision_key(JOB, ME).encode(),))
    assert "no certificate" in refused(case, "NOT_SIGNED")


@pytest.mark.parametrize(
    ("key", "what"),
    [
        (decision_key(JOB, ME), "approval"),
        (access_grant_key(Run.grant(ME), ME), "grant"),
        (dataset_key(f"{ME}/heart"), "data set"),
    ],
    ids=lambda value: value if " " in value or value.isalpha() else "",
)
def test_anothers_signature_in_place_of_the_own_is_refused(case: Case, key: str, what: str) -> None:
    case.follow()
    # The same transaction, its creator's organisation exchanged: the signature no longer fits.
    stored = case.model.signed(key)
    envelope = common_pb2.Envelope.FromString(stored)
    forged = common_pb2.Envelope(
        payload=envelope.payload.replace(b"steward", b"Steward", 1) if b"steward" in envelope.payload else b"",
        signature=envelope.signature,
    )
    flipped = envelope.signature[:-1] + bytes([envelope.signature[-1] ^ 1])
    changed = common_pb2.Envelope(payload=envelope.payload, signature=flipped)
    for bad in (changed, forged, common_pb2.Envelope(payload=envelope.payload)):
        with case.model._writer as database:
            database.execute("UPDATE signed SET envelope = ? WHERE key = ?", (bad.SerializeToString(), key.encode()))
        refused(case, "NOT_SIGNED")
    assert what


def test_a_transaction_of_a_gateway_is_no_stewards_approval(case: Case) -> None:
    case.follow()
    key = decision_key(JOB, ME)
    writes = {key: case.model._writer.execute("SELECT value FROM rows WHERE key = ?", (key.encode(),)).fetchone()[0]}
    gateway = case.ledger.houses[ME].person("client", "gateway")
    arguments = (b"training:approve", canonical_json({"job": JOB, "digest": case.run.job["digest"]}))
    case.ledger.cut([case.ledger.envelope(gateway, CHAINCODE, arguments, {}, writes)])
    assert "not signed by a steward" in refused(case, "NOT_SIGNED")


def test_a_revocation_is_not_taken_for_a_grant(case: Case) -> None:
    case.follow()
    key = access_grant_key(Run.grant(ME), ME)
    writes = {key: case.model._writer.execute("SELECT value FROM rows WHERE key = ?", (key.encode(),)).fetchone()[0]}
    steward = case.ledger.houses[ME].person("client", "steward")
    arguments = (b"access:revoke", canonical_json({"id": Run.grant(ME)}))
    case.ledger.cut([case.ledger.envelope(steward, CHAINCODE, arguments, {}, writes)])
    assert "was not written by access:grant" in refused(case, "NOT_SIGNED")


def test_other_terms_under_an_approved_digest_are_refused(case: Case) -> None:
    case.follow()

    def other_plan(job: dict) -> dict:
        job["terms"]["plan"]["bundle"]["digest"] = "f" * 64
        return job

    case.forge(job_key(JOB), other_plan)
    refused(case, "DIGEST_DIFFERS")


def test_other_terms_under_their_own_digest_are_refused(case: Case) -> None:
    case.follow()

    def other_plan(job: dict) -> dict:
        job["terms"]["plan"]["bundle"]["digest"] = "f" * 64
        job["digest"] = records.JobTerms.model_validate_json(canonical_json(job["terms"])).digest
        return job

    case.forge(job_key(JOB), other_plan)
    refused(case, "APPROVAL_DIFFERS")


def check_member(case: Case, dataset: str) -> Consent:
    """The consent to a member of a round that has not been opened, with this data set."""
    run = case.run
    return check_consent(
        case.model.job(JOB),
        records.CohortMember(msp=ME, dataset=dataset, version=1, grant=run.grant(ME), samples=run.samples[ME]),
        model=case.model,
        trust=Trust.from_configuration(case.model.configuration()),
        chaincode=CHAINCODE,
        now=datetime.datetime.fromtimestamp(run.ledger.now / 1000, datetime.UTC),
    )


async def test_a_decision_for_another_data_set_than_the_terms_name_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path, RunSettings(rounds=1))
    await run.found()
    await run.offer(MEMBERS)
    await run.submit_job()
    request = {"job": JOB, "digest": run.job["digest"], "privacy": "clear"}
    other = rewritten("job-decision", lambda row: row.update(dataset=f"{ME}/other"))
    await run.ledger.submit(ME, "steward", "training:approve", request, alter=other)
    case = Case(run, tmp_path).follow()
    with pytest.raises(ConsentError, match="the data set approved") as caught:
        check_member(case, f"{ME}/other")
    assert caught.value.code == "APPROVAL_DIFFERS"
    case.model.close()


async def test_a_refusal_is_no_approval(tmp_path: Path) -> None:
    run = Run(tmp_path, RunSettings(rounds=1))
    await run.found()
    await run.offer(MEMBERS)
    await run.submit_job()
    request = {"job": JOB, "digest": run.job["digest"], "privacy": "clear"}
    await run.ledger.submit(ME, "steward", "training:refuse", request)
    case = Case(run, tmp_path).follow()
    with pytest.raises(ConsentError) as caught:
        check_member(case, f"{ME}/heart")
    assert caught.value.code == "NOT_SIGNED"
    case.model.close()


async def test_a_revoked_grant_is_none(tmp_path: Path) -> None:
    case = Case(await begun(tmp_path), tmp_path)
    case.check()
    await case.ledger.submit(ME, "steward", "access:revoke", {"id": Run.grant(ME)})
    refused(case, "GRANT_REVOKED")
    case.model.close()


@pytest.mark.parametrize(
    ("function", "request_", "code"),
    [
        ("access:revoke", {"id": Run.grant(ME)}, "GRANT_REVOKED"),
        ("datasets:retire", {"id": f"{ME}/heart"}, "DATASET_RETIRED"),
        ("datasets:update", {"id": f"{ME}/heart", "version": 1}, "DATASET_RETIRED"),
    ],
)
async def test_what_a_steward_takes_away_is_gone_though_a_majority_writes_nothing(
    tmp_path: Path, function: str, request_: dict, code: str
) -> None:
    case = Case(await begun(tmp_path), tmp_path)
    terms = json.loads(case.check().dataset.terms.canonical())
    if function == "datasets:update":
        request_ = {**request_, "terms": {**terms, "purposes": ["statistics"]}}
    await case.ledger.submit(ME, "steward", function, request_, alter=dict.clear)
    refused(case, code)
    case.model.close()


def test_a_refusal_after_an_approval_ends_it_though_a_majority_writes_nothing(case: Case) -> None:
    steward = case.ledger.houses[ME].person("client", "steward")
    request = {"job": JOB, "digest": case.run.job["digest"], "privacy": "clear"}
    case.ledger.cut([case.ledger.envelope(steward, CHAINCODE, (b"training:refuse", canonical_json(request)), {}, {})])
    assert "was refused" in refused(case, "APPROVAL_DIFFERS")


@pytest.mark.parametrize("role", ["steward", "scientist"])
def test_a_transaction_that_says_nothing_readable_takes_nothing_away(case: Case, role: str) -> None:
    somebody = case.ledger.houses[ME].person("client", role)
    for argument in (b"", b"[]", b"null", b"{}", b'{"id":', b"[" * 100_000, b"\xff", b'{"id":"\\ud800"}'):
        case.ledger.cut([case.ledger.envelope(somebody, CHAINCODE, (b"access:revoke", argument), {}, {})])
    case.ledger.cut([case.ledger.envelope(somebody, CHAINCODE, (b"access:revoke",), {}, {})])
    assert case.check().grant is not None


def rewritten(kind: str, change: Callable[[dict], object]) -> Callable[[dict], None]:
    """What a majority's modified chaincode makes of the rows of a kind."""

    def alter(writes: dict[str, bytes]) -> None:
        for key, value in writes.items():
            if value and key.split("\x00")[1] == kind:
                row = json.loads(value)
                change(row)
                writes[key] = canonical_json(row)

    return alter


async def test_a_majority_gives_a_grant_no_other_term_than_was_signed(tmp_path: Path) -> None:
    run = Run(tmp_path, RunSettings(rounds=1))
    await run.found()
    expires = run.ledger.now + 100_000
    endless = rewritten("access-grant", lambda row: row.update(expires_ms=0))
    run.ledger.alterations["access:grant"] = endless
    honest = run.ledger.submit

    async def submit(msp: str, role: str, function: str, request: dict, **options: object) -> object:
        if function == "access:grant":
            request = {**request, "expires_ms": expires}
        return await honest(msp, role, function, request, **options)

    run.ledger.submit = submit
    await run.offer(MEMBERS)
    await run.start()
    case = Case(run, tmp_path)
    assert "not the one that was signed" in refused(case, "GRANT_DIFFERS", now_ms=expires + 1)
    case.model.close()


async def test_a_majority_gives_a_data_set_no_other_terms_than_were_signed(tmp_path: Path) -> None:
    run = Run(tmp_path, RunSettings(rounds=1))
    await run.found()
    run.ledger.alterations["datasets:register"] = rewritten("dataset", lambda row: row["terms"].update(samples=99_999))
    await run.offer(MEMBERS)
    await run.start()
    case = Case(run, tmp_path)
    refused(case, "DATASET_RETIRED")
    case.model.close()


def test_a_grant_written_under_anothers_signature_is_refused(case: Case) -> None:
    """The steward signed for another request; a majority writes this one's row under that transaction."""
    case.follow()
    key = access_grant_key(Run.grant(ME), ME)
    row = case.model._writer.execute("SELECT value FROM rows WHERE key = ?", (key.encode(),)).fetchone()[0]
    steward = case.ledger.houses[ME].person("client", "steward")
    arguments = (b"access:grant", canonical_json({"id": "another", "expires_ms": 0}))
    case.ledger.cut([case.ledger.envelope(steward, CHAINCODE, arguments, {}, {key: row})])
    assert "not the one that was signed" in refused(case, "GRANT_DIFFERS")


async def test_a_retired_data_set_is_not_used(tmp_path: Path) -> None:
    case = Case(await begun(tmp_path), tmp_path)
    await case.ledger.submit(ME, "steward", "datasets:retire", {"id": f"{ME}/heart"})
    assert "was not written by" in refused(case, "NOT_SIGNED")
    case.model.close()


def test_a_data_set_whose_record_is_not_the_one_that_was_signed_is_refused(case: Case) -> None:
    case.follow()

    def other_bytes(dataset: dict) -> dict:
        dataset["terms"]["blob"]["address"] = "f" * 64
        return dataset

    case.forge(dataset_key(f"{ME}/heart"), other_bytes)
    refused(case, "DATASET_RETIRED")


def test_anothers_write_under_an_own_key_does_not_take_the_evidence_away(case: Case) -> None:
    other = case.ledger.houses[SUBMITTER].person("client", "steward")
    arguments = (b"training:approve", canonical_json({"job": JOB, "digest": case.run.job["digest"]}))
    case.ledger.cut([case.ledger.envelope(other, CHAINCODE, arguments, {}, {decision_key(JOB, ME): b"{}"})])
    assert case.check().grant is not None


async def test_a_grant_that_is_over_is_none(tmp_path: Path) -> None:
    run = Run(tmp_path, RunSettings(rounds=1))
    await run.found()
    ledger, expires = run.ledger, run.ledger.now + 100_000
    await run.offer((SUBMITTER, THIRD))
    terms = {
        "title": "Heart disease",
        "blob": {"address": "ab" * 32, "digest": "cd" * 32, "size": 1000},
        "samples": run.samples[ME],
        "licence": "CC-BY-4.0",
        "purposes": ["training"],
        "jurisdiction": "CH",
    }
    await ledger.submit(ME, "steward", "datasets:register", {"name": "heart", "terms": terms})
    asked = {"id": run.grant(ME), "dataset": f"{ME}/heart", "version": 1, "purpose": "training"}
    await ledger.submit(SUBMITTER, "scientist", "access:request", asked)
    await ledger.submit(ME, "steward", "access:grant", {"id": run.grant(ME), "expires_ms": expires})
    await run.start()
    case = Case(run, tmp_path)
    case.check(now_ms=expires - 1)
    refused(case, "GRANT_EXPIRED", now_ms=expires)
    case.model.close()


def test_a_grant_for_another_requester_or_version_is_refused(case: Case) -> None:
    case.follow()

    def by_third(job: dict) -> dict:
        job["terms"]["submitter"] = THIRD
        job["digest"] = records.JobTerms.model_validate_json(canonical_json(job["terms"])).digest
        return job

    case.forge(job_key(JOB), by_third)
    refused(case, "APPROVAL_DIFFERS")


def test_a_cohort_that_names_a_version_that_was_not_approved_is_refused(case: Case) -> None:
    case.follow()
    member = case.model.round(JOB, 1).member(ME).model_copy(update={"version": 2})
    with pytest.raises(ConsentError) as caught:
        check_consent(
            case.model.job(JOB),
            member,
            model=case.model,
            trust=Trust.from_configuration(case.model.configuration()),
            chaincode=CHAINCODE,
            now=datetime.datetime.fromtimestamp(case.ledger.now / 1000, datetime.UTC),
        )
    assert caught.value.code == "APPROVAL_DIFFERS"


def test_a_job_without_a_grant_on_anothers_data_is_refused(case: Case) -> None:
    case.follow()
    member = case.model.round(JOB, 1).member(ME).model_copy(update={"grant": None})
    with pytest.raises(ConsentError) as caught:
        check_consent(
            case.model.job(JOB),
            member,
            model=case.model,
            trust=Trust.from_configuration(case.model.configuration()),
            chaincode=CHAINCODE,
            now=datetime.datetime.fromtimestamp(case.ledger.now / 1000, datetime.UTC),
        )
    assert caught.value.code == "GRANT_MISSING"


# -- the read model, over the same ledger


def test_the_same_block_twice_is_taken_once(case: Case) -> None:
    case.follow()
    assert case.model.apply(read_block(case.ledger.blocks[3], CHAINCODE)) is None
    assert case.model.position == len(case.ledger.blocks)


def test_a_gap_or_another_channels_block_is_refused_and_changes_nothing(case: Case) -> None:
    for block in case.ledger.blocks[:4]:
        case.model.apply(read_block(block, CHAINCODE))
    with pytest.raises(OtherChannelError, match="new state folder"):
        case.model.apply(read_block(case.ledger.blocks[5], CHAINCODE))
    other = copy.deepcopy(case.ledger.blocks[4])
    other.header.previous_hash = bytes(32)
    with pytest.raises(OtherChannelError):
        case.model.apply(read_block(other, CHAINCODE))
    assert case.model.position == 4
    case.follow()


def test_a_block_whose_data_was_changed_is_refused(case: Case) -> None:
    block = copy.deepcopy(case.ledger.blocks[-1])
    block.header.data_hash = bytes(32)
    with pytest.raises(BlockError, match="not what its header says"):
        read_block(block, CHAINCODE)


def test_an_invalid_transaction_changes_nothing(case: Case) -> None:
    case.follow()
    steward = case.ledger.houses[ME].person("client", "steward")
    key = dataset_key(f"{ME}/heart")
    envelope = case.ledger.envelope(steward, CHAINCODE, (b"datasets:retire", b"{}"), {}, {key: b"{}"})
    case.ledger.cut([envelope], flags=bytes([11]))
    case.follow()
    assert case.model.dataset(f"{ME}/heart").version == 1
    assert case.model.position == len(case.ledger.blocks)


def test_a_crash_between_two_blocks_loses_and_repeats_nothing(case: Case, tmp_path: Path) -> None:
    for block in case.ledger.blocks[:10]:
        case.model.apply(read_block(block, CHAINCODE))
    case.model.close()
    case.model = ReadModel(tmp_path / f"{ME}.sqlite", ME)
    assert case.model.position == 10
    case.follow()
    assert case.model.job(JOB).state.value == "running"


def test_what_people_search_is_found_and_operators_are_words(case: Case) -> None:
    case.follow()
    model = case.model
    found, after = model.datasets("heart disease", "", 2, retired=False)
    assert [one.id for one in found] == [f"{msp}/heart" for msp in MEMBERS[:2]]
    assert after == found[-1].id
    rest, end = model.datasets("heart", after, 2, retired=False)
    assert [one.id for one in rest] == [f"{MEMBERS[2]}/heart"]
    assert end == ""
    for query in ('heart" OR "x', "NEAR(heart", "heart AND NOT", "*", '"', "id:heart^"):
        model.datasets(query, "", 10, retired=False)
    assert model.datasets("nothing", "", 10, retired=False) == ([], "")


def test_rows_and_blobs_are_found_where_they_belong(case: Case) -> None:
    case.follow()
    model = case.model
    assert {row.msp for row in model.decisions(JOB)} == set(MEMBERS)
    assert model.jobs_with_blob(case.run.plan["bundle"]["address"]) == [JOB]
    assert model.jobs_with_blob("0" * 64) == []
    assert sum(int(row.amount) for row in model.tokens(f"job:{JOB}")) == case.run.settings.budget
    assert sum(int(row.amount) for row in model.tokens(SUBMITTER)) == 77
    assert model.round_times(JOB, 1).opened_ms == model.round(JOB, 1).opened_ms
    assert model.round_times(JOB, 1).closed_ms == 0
    assert model.genesis_hash == case.ledger.genesis_hash
    assert [job.id for job in model.own_open_jobs()] == [JOB]


@pytest.mark.parametrize(("me", "its"), [(SUBMITTER, True), (ME, True), ("StrangerMSP", False)])
async def test_jobs_are_at_hand_for_those_who_have_a_part_as_long_as_something_can_happen(
    tmp_path: Path, me: str, its: bool
) -> None:
    case = Case(await begun(tmp_path), tmp_path, me)
    assert [job.id for job in case.follow().model.own_open_jobs()] == [JOB] * its
    for number in (1, 2):
        await case.run.round(number, MEMBERS)
    case.follow()
    assert case.model.job(JOB).state is records.JobState.FINISHED
    assert case.model.own_open_jobs() == []
    case.model.close()


def test_a_job_whose_row_is_deleted_is_at_hand_no_more(case: Case) -> None:
    case.follow()
    somebody = case.ledger.houses[ME].person("client", "gateway")
    case.ledger.cut([case.ledger.envelope(somebody, CHAINCODE, (b"training:x", b"{}"), {}, {job_key(JOB): b""})])
    assert case.follow().model.own_open_jobs() == []


def test_a_file_of_an_older_version_is_built_anew(case: Case, tmp_path: Path) -> None:
    case.follow()
    case.model._writer.execute("PRAGMA user_version = 1")
    case.model.close()
    case.model = ReadModel(tmp_path / f"{ME}.sqlite", ME)
    assert case.model.position == 0
    case.follow()
    assert case.model.job(JOB) is not None


async def test_a_transaction_is_the_chaincodes_whatever_name_stands_in_its_call(case: Case) -> None:
    run = case.run
    creator = run.ledger.houses[ME].person("client", "operator")
    call = (b"tokens:approve", b"{}")
    run.ledger.cut([run.ledger.envelope(creator, CHAINCODE, call, {}, {"\0k\0": b"v"}, call_name="another")])
    (taken,) = read_block(run.ledger.blocks[-1], CHAINCODE).transactions
    assert taken.arguments == call
    assert [write.value for write in taken.writes] == [b"v"]


async def test_rows_that_another_chaincode_had_written_are_taken_and_its_arguments_are_not(case: Case) -> None:
    run = case.run
    creator = run.ledger.houses[ME].person("client", "operator")
    call = (b"training:approve", b"{}")
    run.ledger.cut([run.ledger.envelope(creator, "other", call, {}, {"\0k\0": b"v"}, namespace=CHAINCODE)])
    (taken,) = read_block(run.ledger.blocks[-1], CHAINCODE).transactions
    assert taken.arguments == ()
    assert [write.value for write in taken.writes] == [b"v"]
