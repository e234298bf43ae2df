"""Each command that speaks to a gateway: what it asks of the client, and the JSON that it prints."""

import dataclasses
import json
import time
from types import FunctionType, SimpleNamespace

import fedfabric.gateway
import numpy as np
import pytest
from fedfabric.aggregation import MemoryTensors, write_tensors
from fedfabric.chaincode.records import (
    AccessRequest,
    AccessState,
    Balance,
    Blob,
    CohortMember,
    Column,
    Consortium,
    Dataset,
    DatasetState,
    DatasetTerms,
    DatasetUse,
    Decision,
    Grant,
    Job,
    JobState,
    JobTerms,
    Member,
    Mint,
    MintApproval,
    MintRequest,
    Owner,
    Plan,
    Privacy,
    Revocation,
    Round,
    RoundState,
    Token,
    TokenRef,
    Verdict,
)
from fedfabric.console import main
from fedfabric.console.exit_codes import ExitCode
from fedfabric.console.job_lines import money
from fedfabric.gateway import (
    ApiError,
    Client,
    Description,
    Exported,
    JobReport,
    JobReview,
    Profile,
    RoundReport,
    RoundTiming,
)
from fedfabric.trainers import build_bundle

DIGEST = "ab" * 32
BLOB = Blob(address="1" * 64, digest="2" * 64, size=10)
TERMS = DatasetTerms(
    title="Heart disease", blob=BLOB, samples=304, licence="CC-BY-4.0", purposes=("training",), jurisdiction="US"
)
OWN = Dataset(id="ClevelandMSP/heart", owner="ClevelandMSP", version=1, state=DatasetState.ACTIVE, terms=TERMS)
FOREIGN = Dataset(id="HungaryMSP/heart", owner="HungaryMSP", version=3, state=DatasetState.ACTIVE, terms=TERMS)
REQUEST = AccessRequest(
    id="r1",
    requester="ClevelandMSP",
    dataset=FOREIGN.id,
    owner="HungaryMSP",
    version=3,
    digest=BLOB.digest,
    purpose="training",
    price="0",
    payer="ClevelandMSP",
    escrow=None,
    note="",
    state=AccessState.GRANTED,
)
PLAN = Plan(bundle=BLOB, model=BLOB, clip="1.0", rounds=2, approval_ms=1000, update_ms=1000, attest_ms=1000)
OWNER = Owner(msp="ClevelandMSP", dataset=OWN.id, version=1, digest=BLOB.digest, samples=304, grant=None)
JOB = Job(
    id="heart-1",
    digest=DIGEST,
    terms=JobTerms(
        id="heart-1",
        submitter="ClevelandMSP",
        title="",
        plan=PLAN,
        owners=(OWNER,),
        budget="100",
        payer="ClevelandMSP",
    ),
    owners=(OWNER,),
    state=JobState.FINISHED,
    rounds_final=2,
    submitted_ms=1,
    approve_until_ms=2,
    window_ms=1000,
    escrow=None,
    escrowed="0",
    paid="100",
    model=BLOB,
)


YEAR_MS = 365 * 86_400_000
DESCRIPTION = Description(
    version="0.1.0",
    msp_id="ClevelandMSP",
    channel="consortium",
    chaincode="fedfabric",
    block_number=3,
    genesis_hash=DIGEST,
    caller_msp_id="ClevelandMSP",
    caller_role="steward",
    caller_account="ClevelandMSP/ada",
    trains=True,
    peer="127.0.0.1:7051",
    peer_lost_ms=0,
    block_time_ms=round(time.time() * 1000) - 7_200_000,
    certificates_end_ms=round(time.time() * 1000) + YEAR_MS,
    caller_certificate_ends_ms=round(time.time() * 1000) + YEAR_MS,
)


class FakePart:
    """Answers each call with what the test laid out under ``part.method``, and writes the call down."""

    def __init__(self, name, client):
        self._name, self._client = name, client

    def __getattr__(self, method):
        name = f"{self._name}.{method}"

        def call(*arguments, **options):
            self._client.calls.append((name, arguments, options))
            return FakeCall(self._client.answers[name], arguments)

        return call


class FakeCall:
    def __init__(self, answer, arguments=()):
        self._answer, self._arguments = answer, arguments

    def __await__(self):
        async def give():
            if isinstance(self._answer, Exception):
                raise self._answer
            if isinstance(self._answer, FunctionType):
                return self._answer(*self._arguments)
            return self._answer

        return give().__await__()

    async def __aiter__(self):
        for item in self._answer:
            yield item


class FakeClient:
    """The client's surface, without a gateway."""

    def __init__(self):
        self.calls, self.answers, self.profiles = [], {}, []
        self.profile = SimpleNamespace(msp_id="ClevelandMSP", gateway="127.0.0.1:7")
        for part in ("datasets", "access", "tokens", "jobs", "blobs", "models", "audit", "consortium"):
            setattr(self, part, FakePart(part, self))

    def describe(self):
        return FakeCall(self.answers.get("describe", DESCRIPTION))

    def connect(self, profile):
        self.profiles.append(profile)
        return self

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        return None


@pytest.fixture
def client(monkeypatch):
    fake = FakeClient()
    monkeypatch.setattr(fedfabric.gateway, "connect", fake.connect, raising=False)
    for variable in ("FEDFABRIC_PROFILE", "FEDFABRIC_OUTPUT"):
        monkeypatch.delenv(variable, raising=False)
    return fake


def run(capsys, *arguments):
    status = main([*map(str, arguments)])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return status, out, err


def run_json(capsys, *arguments):
    status, out, err = run(capsys, *arguments, "--output", "json")
    assert status == 0, err
    return json.loads(out)


def as_json(record):
    return json.loads(record.model_dump_json())


def test_the_profile_is_the_one_named_or_the_environments(capsys, client, monkeypatch, tmp_path):
    client.answers["datasets.list"] = []
    run(capsys, "data", "list", "--profile", tmp_path / "ada.toml")
    monkeypatch.setenv("FEDFABRIC_PROFILE", str(tmp_path / "basil.toml"))
    run(capsys, "data", "list")
    assert client.profiles == [tmp_path / "ada.toml", tmp_path / "basil.toml"]


def test_data_register_passes_every_term_on(capsys, client, tmp_path):
    client.answers["datasets.register"] = OWN
    found = run_json(
        capsys,
        *("data", "register", "heart", tmp_path, "--title", "Heart disease", "--samples", 304),
        *("--licence", "CC-BY-4.0", "--jurisdiction", "US", "--column", "age:number", "--column", "num:integer"),
        *("--purpose", "training", "--purpose", "research", "--price", 5, "--retention-days", 30),
    )
    assert found == as_json(OWN)
    ((_, arguments, options),) = client.calls
    assert callable(options.pop("progress"))
    assert arguments == ("heart", tmp_path)
    assert [(column.name, column.type) for column in options.pop("columns")] == [("age", "number"), ("num", "integer")]
    assert options == {
        "title": "Heart disease",
        "description": "",
        "samples": 304,
        "licence": "CC-BY-4.0",
        "purposes": ("training", "research"),
        "retention_days": 30,
        "jurisdiction": "US",
        "price": "5",
    }


def test_a_column_without_type_is_named(capsys, client, tmp_path):
    arguments = ("data", "register", "heart", tmp_path, "--title", "t", "--samples", 1, "--licence", "x")
    status, _, err = run(capsys, *arguments, "--jurisdiction", "US", "--column", "age")
    assert status == ExitCode.BAD_INPUT
    assert "'age'" in err
    assert "NAME:TYPE" in err
    assert client.calls == []


def test_data_list_show_and_retire_print_the_ledgers_records(capsys, client):
    client.answers |= {"datasets.list": [OWN, FOREIGN], "datasets.show": OWN, "datasets.retire": OWN}
    assert run_json(capsys, "data", "list", "heart", "--retired") == [as_json(OWN), as_json(FOREIGN)]
    assert run_json(capsys, "data", "show", OWN.id) == as_json(OWN)
    assert run_json(capsys, "data", "retire", OWN.id) == as_json(OWN)
    assert client.calls[0] == ("datasets.list", ("heart",), {"retired": True})
    _, text, _ = run(capsys, "data", "list")
    assert "ClevelandMSP/heart" in text
    assert "304" in text


def test_data_update_changes_what_is_named_and_leaves_the_rest(capsys, client):
    client.answers |= {"datasets.show": OWN, "datasets.update": OWN}
    given = ("--price", 20, "--column", "age:number", "--column", "num:integer", "--description", "")
    assert run_json(capsys, "data", "update", OWN.id, *given) == as_json(OWN)
    _, (identifier, version, terms), _ = client.calls[-1]
    assert (identifier, version) == (OWN.id, 1)
    columns = (Column(name="age", type="number"), Column(name="num", type="integer"))
    assert terms == TERMS.model_copy(update={"price": "20", "columns": columns})
    assert [name for name, _, _ in client.calls] == ["datasets.show", "datasets.update"]


def test_data_update_with_a_folder_stores_it_first(capsys, client, tmp_path):
    stored = Blob(address="5" * 64, digest="6" * 64, size=11)
    client.answers |= {"datasets.show": OWN, "datasets.upload": stored, "datasets.update": OWN}
    run_json(capsys, "data", "update", OWN.id, tmp_path, "--samples", 320)
    assert [name for name, _, _ in client.calls] == ["datasets.show", "datasets.upload", "datasets.update"]
    assert client.calls[-1][1][2] == TERMS.model_copy(update={"blob": stored, "samples": 320})


@pytest.mark.parametrize(
    ("arguments", "found", "status", "told"),
    [
        ((OWN.id,), OWN, ExitCode.BAD_INPUT, "nothing is to be changed"),
        ((OWN.id, "FOLDER"), OWN, ExitCode.BAD_INPUT, "--samples"),
        ((OWN.id, "FOLDER", "--samples", 1, "--price", "-1"), OWN, ExitCode.BAD_INPUT, "--price"),
        ((OWN.id, "FOLDER", "--samples", 1, "--column", "age"), OWN, ExitCode.BAD_INPUT, "NAME:TYPE"),
        ((FOREIGN.id, "FOLDER", "--samples", 1), FOREIGN, ExitCode.DENIED, "belongs to HungaryMSP"),
    ],
    ids=["nothing", "no rows", "a negative price", "no column", "of others"],
)
def test_an_update_that_would_be_refused_sends_no_data(capsys, client, tmp_path, arguments, found, status, told):
    client.answers |= {"datasets.show": found, "datasets.upload": BLOB, "datasets.update": OWN}
    arguments = [tmp_path if one == "FOLDER" else one for one in arguments]
    ended, _, err = run(capsys, "data", "update", *arguments)
    assert ended == status
    assert told in err
    assert not {"datasets.upload", "datasets.update"} & {name for name, _, _ in client.calls}


LOST = dataclasses.replace(DESCRIPTION, peer_lost_ms=round(time.time() * 1000) - 3_600_000 * 3)


@pytest.mark.parametrize(
    "arguments",
    [
        ("data", "list"),
        ("data", "show", OWN.id),
        ("access", "list"),
        ("token", "balance"),
        ("job", "list"),
        ("job", "show", "heart-1"),
        ("job", "watch", "heart-1"),
        ("gateway", "status"),
    ],
    ids=" ".join,
)
def test_whoever_reads_what_a_gateway_has_stored_is_told_that_its_peer_is_away(capsys, client, arguments):
    token = Token(owner="ClevelandMSP", tx="0" * 64, n=0, amount="7")
    client.answers |= {
        "datasets.list": [OWN],
        "datasets.show": OWN,
        "access.list": [REQUEST],
        "tokens.balance": Balance(owner="ClevelandMSP", total="7", tokens=(token,)),
        "jobs.list": [JOB],
        "jobs.show": report(),
        "jobs.watch": [report()],
        "describe": LOST,
    }
    status, out, err = run(capsys, *arguments)
    assert (status, bool(out)) == (0, True)
    assert "the gateway's peer 127.0.0.1:7051 has been away for 3 h" in err
    assert "as of block 3" in err
    assert "fedfabric network up" in err
    status, out, err = run(capsys, *arguments, "--output", "json")
    json.loads(out)
    warning = json.loads(err)["warning"]
    assert (warning["code"], set(warning)) == ("PEER_AWAY", {"code", "what", "remedy"})
    client.answers["describe"] = DESCRIPTION
    assert run(capsys, *arguments)[2] == ""


def test_gateway_status_tells_age_and_peer_in_words_and_the_numbers_as_json(capsys, client):
    client.answers["describe"] = LOST
    _, text, _ = run(capsys, "gateway", "status")
    assert "3, its last transaction 2 h ago" in text
    assert "127.0.0.1:7051, away for 3 h" in text
    assert "_ms" not in text.replace(" ms ", "_ms")
    assert run_json(capsys, "gateway", "status") == dataclasses.asdict(LOST)
    client.answers["describe"] = DESCRIPTION
    assert "127.0.0.1:7051, connected" in run(capsys, "gateway", "status")[1]


@pytest.mark.parametrize(
    ("field", "whose"),
    [("certificates_end_ms", "the gateway's certificate"), ("caller_certificate_ends_ms", "your certificate")],
)
def test_gateway_status_warns_of_a_certificate_that_is_about_to_run_out(capsys, client, field, whose):
    soon = round(time.time() * 1000) + 29 * 86_400_000
    client.answers["describe"] = dataclasses.replace(DESCRIPTION, **{field: soon})
    _, _, err = run(capsys, "gateway", "status")
    assert f"{whose} runs out on " in err
    assert "renew it" in err
    later = soon + 2 * 86_400_000
    client.answers["describe"] = dataclasses.replace(DESCRIPTION, **{field: later})
    assert run(capsys, "gateway", "status")[2] == ""


def test_an_access_request_is_for_the_version_that_is_there_now(capsys, client):
    client.answers |= {"datasets.show": FOREIGN, "access.request": REQUEST}
    assert run_json(capsys, "access", "request", FOREIGN.id, "--id", "r1", "--note", "please") == as_json(REQUEST)
    expected = {"dataset": FOREIGN.id, "version": 3, "purpose": "training", "note": "please"}
    assert client.calls[-1] == ("access.request", ("r1",), expected)


def test_grants_end_when_they_were_told_to(capsys, client, monkeypatch):
    grant = Grant(
        request="r1",
        owner="HungaryMSP",
        requester="ClevelandMSP",
        dataset=FOREIGN.id,
        version=3,
        digest=BLOB.digest,
        purpose="training",
        expires_ms=0,
    )
    client.answers["access.grant"] = grant
    monkeypatch.setattr("fedfabric.console.access.time.time", lambda: 1_000.0)
    assert run_json(capsys, "access", "grant", "r1") == as_json(grant)
    run_json(capsys, "access", "grant", "r1", "--days", 2)
    day = 24 * 3600 * 1000
    assert [options for _, _, options in client.calls] == [{"expires_ms": 0}, {"expires_ms": 1_000_000 + 2 * day}]


def test_a_request_is_withdrawn(capsys, client):
    client.answers["access.withdraw"] = REQUEST
    assert run_json(capsys, "access", "withdraw", "r1") == as_json(REQUEST)
    assert client.calls == [("access.withdraw", ("r1",), {})]


@pytest.mark.parametrize("option", [("--msp-id", "OtherMSP"), ("--peers", "3")])
def test_an_organisation_that_is_in_the_network_is_not_added_as_another(capsys, monkeypatch, option):
    present = SimpleNamespace(msp_id="ClevelandMSP", peers=("127.0.0.1:7051",))
    network = SimpleNamespace(organisations={"cleveland": present})
    monkeypatch.setattr("fedfabric.console.network.find", lambda _: network)
    status, _, err = run(capsys, "network", "add-org", "cleveland", *option)
    assert status == ExitCode.BAD_INPUT
    assert "in the network already, as ClevelandMSP with 1 peers" in err


def test_where_a_jobs_budget_is():
    job = JOB.model_copy(
        update={"paid": "60", "escrowed": "0", "terms": JOB.terms.model_copy(update={"budget": "100"})}
    )
    assert money(job) == f"60 tokens paid, 40 back to {job.terms.payer}"
    running = job.model_copy(update={"escrowed": "40"})
    assert money(running) == "60 tokens paid, 40 in escrow"


def test_access_revoke_and_list(capsys, client):
    revocation = Revocation(request="r1", owner="HungaryMSP", reason="enough")
    client.answers |= {"access.revoke": revocation, "access.list": [REQUEST]}
    assert run_json(capsys, "access", "revoke", "r1", "--reason", "enough") == as_json(revocation)
    assert run_json(capsys, "access", "list", "--dataset", FOREIGN.id, "--state", "granted") == [as_json(REQUEST)]
    assert client.calls[-1] == ("access.list", (), {"dataset": FOREIGN.id, "state": "granted"})


MINT = MintRequest(id="m1", owner="ClevelandMSP", amount="100")


def test_a_mint_without_its_quorum_is_approved_and_waits(capsys, client):
    client.answers |= {
        "tokens.approve_mint": MintApproval(msp="ClevelandMSP", mint=MINT),
        "tokens.mint": ApiError("one of two", code="QUORUM_MISSING"),
    }
    found = run_json(capsys, "token", "mint", "m1", "--amount", 100, "--for", "ClevelandMSP")
    assert (found["minted"], found["approved_by"]) == (False, "ClevelandMSP")


def test_the_approval_that_completes_the_quorum_mints(capsys, client):
    token = TokenRef(owner="ClevelandMSP", tx="0" * 64, n=0)
    client.answers |= {
        "tokens.approve_mint": MintApproval(msp="HungaryMSP", mint=MINT),
        "tokens.mint": Mint(mint=MINT, token=token, approvers=("ClevelandMSP", "HungaryMSP")),
    }
    found = run_json(capsys, "token", "mint", "m1", "--amount", 100, "--for", "ClevelandMSP")
    assert (found["minted"], found["approvers"]) == (True, ["ClevelandMSP", "HungaryMSP"])


def test_another_refusal_of_a_mint_is_a_failure(capsys, client):
    client.answers |= {
        "tokens.approve_mint": MintApproval(msp="HungaryMSP", mint=MINT),
        "tokens.mint": ApiError("not a member", code="NOT_A_MEMBER"),
    }
    status, _, err = run(capsys, "token", "mint", "m1", "--amount", 100, "--for", "ClevelandMSP")
    assert status == ExitCode.DENIED
    assert "NOT_A_MEMBER" in err


def test_token_balance(capsys, client):
    token = Token(owner="job:heart-1", tx="0" * 64, n=0, amount="7")
    balance = Balance(owner="job:heart-1", total="7", tokens=(token,))
    client.answers["tokens.balance"] = balance
    assert run_json(capsys, "token", "balance", "job:heart-1") == as_json(balance)
    assert client.calls == [("tokens.balance", ("job:heart-1",), {})]


@pytest.mark.parametrize(
    ("account", "unknown"),
    [
        ("ClevelandMSP", ""),
        ("ClevelandMSP/ada", ""),
        ("NowhereMSP", "NowhereMSP is no member of the consortium"),
        ("NowhereMSP/ada", "NowhereMSP is no member of the consortium"),
        ("job:heart-1", ""),
        ("job:nosuch", "no job nosuch"),
        ("request:nosuch", "no request nosuch"),
    ],
)
def test_an_empty_account_is_said_to_be_empty_and_an_unknown_one_unknown(capsys, client, account, unknown):
    def found(name):
        if name == "nosuch":
            raise ApiError("no job nosuch" if account.startswith("job") else "no request nosuch", code="UNKNOWN_JOB")

    member = Member(msp="ClevelandMSP", gateway="127.0.0.1:1")
    client.answers |= {
        "tokens.balance": Balance(owner=account, total="0", tokens=()),
        "consortium.show": Consortium(sequence=1, members=(member,), window_ms=1000, approvers=()),
        "jobs.show": found,
        "access.show": found,
    }
    status, out, err = run(capsys, "token", "balance", account)
    assert status == 0
    assert "the account has no tokens" in out
    assert unknown in err
    assert ("ACCOUNT_UNKNOWN" in err) == bool(unknown)


WEIGHTS = {"weight": np.array([1, 2], "f4"), "bias": np.array([0], "f4")}


def save_file(path, **tensors):
    write_tensors(path, MemoryTensors(tensors))


def submit(capsys, client, tmp_path, *more):
    (tmp_path / "plan.zip").write_bytes(b"plan")
    return run(capsys, "job", "submit", "heart-1", "--plan", tmp_path / "plan.zip", *more, "--output", "json")


def test_job_submit_looks_grants_up_uploads_and_asks_for_all_of_it(capsys, client, tmp_path):
    client.answers |= {
        "datasets.show": FOREIGN,
        "access.list": [REQUEST, REQUEST.model_copy(update={"requester": "SwitzerlandMSP", "id": "theirs"})],
        "blobs.upload_plan": BLOB,
        "models.initialise": BLOB,
        "jobs.submit": JOB,
    }
    status, out, err = submit(
        capsys,
        client,
        tmp_path,
        *("--data", FOREIGN.id, "--rounds", 4, "--budget", 100, "--seed", 7),
        *("--server", "adam:learning_rate=0.1", "--update-seconds", 9, "--attest-seconds", 8, "--approval-minutes", 2),
    )
    assert status == 0, err
    assert json.loads(out) == as_json(JOB)
    request = client.calls[-1][1][0]
    assert request.datasets == (DatasetUse(dataset=FOREIGN.id, version=3, grant="r1"),)
    assert (request.plan.rounds, request.budget) == (4, "100")
    assert (request.plan.approval_ms, request.plan.update_ms, request.plan.attest_ms) == (120_000, 9_000, 8_000)
    assert request.plan.optimizer.model_dump() == {"name": "adam", "parameters": {"learning_rate": "0.1"}}
    assert ("models.initialise", (BLOB,), {"seed": 7}) in client.calls


def test_own_data_needs_no_grant_and_a_named_grant_is_taken_as_it_is(capsys, client, tmp_path):
    save_file(tmp_path / "model.safetensors", **WEIGHTS)
    client.answers |= {
        "datasets.show": OWN,
        "blobs.upload_plan": BLOB,
        "models.initialise": BLOB,
        "blobs.fetch": lambda _, target: save_file(target, **WEIGHTS),
        "blobs.upload_model": BLOB,
        "jobs.submit": JOB,
    }
    submit(capsys, client, tmp_path, "--data", OWN.id, "--model", tmp_path / "model.safetensors")
    assert client.calls[-1][1][0].datasets[0].grant is None
    client.answers["datasets.show"] = FOREIGN
    submit(capsys, client, tmp_path, "--data", f"{FOREIGN.id}@r9", "--model", tmp_path / "model.safetensors")
    assert client.calls[-1][1][0].datasets[0].grant == "r9"
    assert "blobs.upload_model" in {name for name, _, _ in client.calls}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"weight": np.array([1, np.nan], "f4")}, "weight: element 1 is NaN"),
        ({"weight": np.array([np.inf, 1], "f4")}, "weight: element 0 is NaN, infinite"),
        ({"weight": np.array([1e39, 1], "f8")}, "weight: element 0 is NaN, infinite or too large for float32"),
        ({"weight": np.ones(3, "f4")}, "weight: F32 of shape [3], the plan's model has F32 of shape [2]"),
        ({"weight": np.ones(2, "f8")}, "weight: F64 of shape [2], the plan's model has F32 of shape [2]"),
        ({"other": np.ones(1, "f4")}, "other: the plan's model has no such tensor"),
        ({"bias": None}, "bias: the plan's model has this tensor, the file has not"),
    ],
    ids=["nan", "infinite", "overflow", "shape", "type", "too many", "missing"],
)
def test_an_initial_model_that_the_plan_cannot_start_from_is_refused_before_the_job(
    capsys, client, tmp_path, changes, told
):
    client.answers |= {
        "datasets.show": OWN,
        "blobs.upload_plan": BLOB,
        "models.initialise": BLOB,
        "blobs.fetch": lambda _, target: save_file(target, **WEIGHTS),
        "blobs.upload_model": BLOB,
        "jobs.submit": JOB,
    }
    given = {name: value for name, value in {**WEIGHTS, **changes}.items() if value is not None}
    save_file(tmp_path / "model.safetensors", **given)
    status, _, err = submit(capsys, client, tmp_path, "--data", OWN.id, "--model", tmp_path / "model.safetensors")
    assert status == ExitCode.BAD_INPUT
    error = json.loads(err)["error"]
    assert error["what"].startswith(told)
    assert (error["field"], error["where"]) == ("--model", str(tmp_path / "model.safetensors"))
    assert not {"blobs.upload_model", "jobs.submit"} & {name for name, _, _ in client.calls}


def test_a_file_that_is_no_model_is_refused_before_anything_is_sent(capsys, client, tmp_path):
    (tmp_path / "model").write_bytes(b"no model at all")
    status, _, err = submit(capsys, client, tmp_path, "--data", OWN.id, "--model", tmp_path / "model")
    assert status == ExitCode.BAD_INPUT
    assert "not a model in safetensors" in err
    assert client.calls == []


def test_data_without_a_grant_is_refused_before_anything_is_sent(capsys, client, tmp_path):
    client.answers |= {"datasets.show": FOREIGN, "access.list": []}
    status, _, err = submit(capsys, client, tmp_path, "--data", FOREIGN.id)
    assert status == ExitCode.DENIED
    assert json.loads(err)["error"]["code"] == "GRANT_MISSING"
    assert {name for name, _, _ in client.calls} == {"datasets.show", "access.list"}


@pytest.mark.parametrize("server", ["newton", "adam:speed=1", "sgd:learning_rate=fast", "adam:learning_rate=-1"])
def test_a_server_step_that_does_not_exist_is_refused_at_once(capsys, client, tmp_path, server):
    status, _, err = submit(capsys, client, tmp_path, "--data", OWN.id, "--server", server)
    assert status == ExitCode.BAD_INPUT
    assert json.loads(err)["error"]["field"] == "--server"
    assert client.calls == []


def report(state="finished", reason=""):
    return JobReport(JOB.model_copy(update={"state": JobState(state), "reason": reason}), (), (), 9)


def test_job_review_shows_the_code_and_saves_it(capsys, client, tmp_path):
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "plan.py").write_text("x = 1\n")
    (tmp_path / "plan" / "plan.json").write_text("{}")
    bundle = build_bundle(tmp_path / "plan").to_bytes()
    client.answers["jobs.review"] = JobReview(report("submitted"), DIGEST, bundle)
    found = run_json(capsys, "job", "review", "heart-1", "--save", tmp_path / "saved")
    assert found["digest"] == DIGEST
    assert found["files"] == {"plan.json": "{}", "plan.py": "x = 1\n"}
    assert (tmp_path / "saved" / "plan.py").read_text() == "x = 1\n"
    _, text, _ = run(capsys, "job", "review", "heart-1")
    assert "x = 1" in text
    assert f"job approve heart-1 --digest {DIGEST} --privacy clear" in text


def test_deciding_names_the_digest_that_was_reviewed(capsys, client):
    decision = Decision(
        job="heart-1",
        msp="HungaryMSP",
        verdict=Verdict.APPROVED,
        digest=DIGEST,
        dataset=FOREIGN.id,
        version=3,
        privacy=Privacy.CLEAR,
        reason="",
    )
    client.answers |= {"jobs.approve": decision, "jobs.refuse": decision, "jobs.show": report()}
    assert run_json(capsys, "job", "approve", "heart-1", "--digest", DIGEST, "--privacy", "clear") == as_json(decision)
    run_json(capsys, "job", "refuse", "heart-1", "--digest", DIGEST, "--reason", "no")
    assert client.calls == [
        ("jobs.approve", ("heart-1",), {"digest": DIGEST, "privacy": Privacy.CLEAR}),
        ("jobs.show", ("heart-1",), {}),
        ("jobs.refuse", ("heart-1",), {"digest": DIGEST, "privacy": Privacy.CLEAR, "reason": "no"}),
    ]


def test_a_round_that_was_given_up_here_says_why(capsys, client):
    record = Round(
        job="heart-1",
        number=3,
        state=RoundState.OPEN,
        cohort=(CohortMember(msp="HungaryMSP", dataset=FOREIGN.id, version=1, grant=None, samples=9),),
        total_samples=9,
        quorum=1,
        model=JOB.model,
        optimizer_state=None,
        window_ms=1000,
        opened_ms=1,
        update_until_ms=2,
    )
    timing = RoundTiming(0, 0, 0, 0, 0)
    one = RoundReport(record, (), (), {}, timing, 1, 0, 0, own_failure="NOT_FINITE: training ended with NaN")
    client.answers["jobs.show"] = dataclasses.replace(report("running"), rounds=(one,))
    _, text, _ = run(capsys, "job", "show", "heart-1")
    assert "round   3 open" in text
    assert "given up here: NOT_FINITE: training ended with NaN" in text


def test_job_add_asks_with_version_and_grant(capsys, client):
    client.answers |= {"datasets.show": FOREIGN, "access.list": [REQUEST], "jobs.add": JOB}
    assert run_json(capsys, "job", "add", "heart-1", "--data", FOREIGN.id) == as_json(JOB)
    assert client.calls[-1] == ("jobs.add", ("heart-1", FOREIGN.id), {"version": 3, "grant": "r1"})


def test_watching_a_job_that_finishes_prints_a_json_line_for_each_change(capsys, client):
    client.answers["jobs.watch"] = [report("running"), report()]
    status, out, _ = run(capsys, "job", "watch", "heart-1", "--output", "json")
    assert status == 0
    assert [json.loads(line)["job"]["state"] for line in out.splitlines()] == ["running", "finished"]


@pytest.mark.parametrize("state", ["refused", "cancelled", "aborted"])
def test_watching_a_job_that_ends_otherwise_has_an_exit_status_of_its_own(capsys, client, state):
    client.answers["jobs.watch"] = [report(state, "no quorum")]
    status, _, err = run(capsys, "job", "watch", "heart-1")
    assert status == ExitCode.JOB_ENDED_OTHERWISE
    assert "no quorum" in err


def test_job_cancel_list_and_show(capsys, client):
    client.answers |= {"jobs.cancel": JOB, "jobs.list": [JOB], "jobs.show": report()}
    assert run_json(capsys, "job", "cancel", "heart-1") == as_json(JOB)
    assert run_json(capsys, "job", "list", "--state", "finished") == [as_json(JOB)]
    assert run_json(capsys, "job", "show", "heart-1")["job"] == as_json(JOB)
    _, text, _ = run(capsys, "job", "list")
    assert "heart-1" in text
    assert "2/2" in text


def test_model_fetch_names_file_round_and_blob(capsys, client, tmp_path):
    client.answers["models.fetch"] = BLOB
    target = tmp_path / "m.safetensors"
    found = run_json(capsys, "model", "fetch", "heart-1", "--round", 3, "--to", target)
    assert found == {"model": str(target), "job": "heart-1", "round": 3, "blob": as_json(BLOB)}
    ((name, arguments, options),) = client.calls
    assert callable(options.pop("progress"))
    assert (name, arguments, options) == ("models.fetch", ("heart-1", target), {"round_number": 3})


def test_audit_export_tells_the_hash_and_warns_of_trusting_it(capsys, client, tmp_path):
    client.answers["audit.export"] = Exported(tmp_path, 7, 3, DIGEST)
    found = run_json(capsys, "audit", "export", "heart-1", "--to", tmp_path)
    assert found == {"folder": str(tmp_path), "blocks": 7, "blobs": 3, "genesis_hash": DIGEST}
    _, text, _ = run(capsys, "audit", "export", "heart-1", "--to", tmp_path)
    assert "did not get from there" in text


def test_gateway_status_waits_for_a_gateway_that_is_not_there_yet(capsys, client):
    description = DESCRIPTION
    away, answers = ApiError("not yet", code="GATEWAY_UNAVAILABLE"), []
    client.describe = lambda: FakeCall(answers.pop(0))
    answers[:] = [away, away, description]
    assert run_json(capsys, "gateway", "status", "--wait", 30)["msp_id"] == "ClevelandMSP"
    answers[:] = [away]
    status, _, err = run(capsys, "gateway", "status")
    assert status == ExitCode.UNAVAILABLE
    assert "GATEWAY_UNAVAILABLE" in err


def test_gateway_status_does_not_wait_for_a_gateway_that_refuses(capsys, client):
    answers = [ApiError("who?", code="CERTIFICATE_UNKNOWN")]
    client.describe = lambda: FakeCall(answers.pop(0))
    status, _, err = run(capsys, "gateway", "status", "--wait", 30)
    assert status == ExitCode.DENIED
    assert "CERTIFICATE_UNKNOWN" in err


def test_text_that_others_wrote_cannot_move_the_cursor(capsys, client):
    evil = OWN.model_copy(update={"terms": TERMS.model_copy(update={"title": "a\x1b[2Jb"})})
    client.answers["datasets.show"] = evil
    _, text, _ = run(capsys, "data", "show", OWN.id)
    assert "\x1b" not in text


def test_the_client_that_is_faked_has_the_calls_that_are_faked():
    real = Client(Profile.model_construct(), timeout=1, limits=None, signer=None)
    for part, methods in {
        "datasets": "register upload update list show retire",
        "access": "request grant revoke show list",
        "tokens": "approve_mint mint balance",
        "jobs": "submit review approve refuse add watch cancel list show",
        "blobs": "upload_plan upload_model fetch",
        "models": "initialise fetch",
        "audit": "export",
        "consortium": "show",
    }.items():
        assert all(callable(getattr(getattr(real, part), method)) for method in methods.split())
    assert set(RoundReport.__dataclass_fields__) >= {"round", "updates", "attestations", "metrics"}


def test_a_mint_approved_before_with_another_amount_needs_a_new_id(capsys, client):
    client.answers["tokens.approve_mint"] = ApiError("this row was written before", code="CONFLICT")
    status, _, err = run(capsys, "token", "mint", "m1", "--amount", 100, "--for", "ClevelandMSP")
    assert status == ExitCode.REFUSED
    assert "has approved another amount or account under the id m1" in err
    assert "a new id" in err


def test_model_fetch_says_which_round_the_latest_model_is_of(capsys, client, tmp_path):
    latest = Blob(address="3" * 64, digest="4" * 64, size=10)
    rounds = [
        SimpleNamespace(round=SimpleNamespace(number=number, outcome=outcome))
        for number, outcome in enumerate((SimpleNamespace(model=BLOB), SimpleNamespace(model=latest), None), start=1)
    ]
    client.answers |= {"models.fetch": latest, "jobs.show": SimpleNamespace(rounds=rounds)}
    assert run_json(capsys, "model", "fetch", "heart-1", "--to", tmp_path / "m")["round"] == 2
    client.answers["jobs.show"] = SimpleNamespace(rounds=[])
    _, text, _ = run(capsys, "model", "fetch", "heart-1", "--to", tmp_path / "m")
    assert "the job's initial model" in text


def test_an_export_that_fails_leaves_no_folder_behind(capsys, client, tmp_path):
    def export(_job, folder):
        (folder / "blocks").mkdir(parents=True)
        raise ApiError("no such job", code="UNKNOWN_JOB")

    client.answers["audit.export"] = export
    status, _, _ = run(capsys, "audit", "export", "nosuch", "--to", tmp_path / "evidence")
    assert status == ExitCode.NOT_FOUND
    assert not (tmp_path / "evidence").exists()
    (tmp_path / "mine").mkdir()
    run(capsys, "audit", "export", "nosuch", "--to", tmp_path / "mine")
    assert (tmp_path / "mine").exists()
