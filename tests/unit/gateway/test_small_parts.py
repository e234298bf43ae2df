"""Purse, metrics of models, keys, journal: the small parts that a gateway leans on."""

import sqlite3
from pathlib import Path

import pytest
from fedfabric.chaincode import records
from fedfabric.chaincode.records import Attestation, Blob, CommitUpdate, Outcome, Output, Token, TokenInput
from fedfabric.fabric.client import ForeignTransactionError
from fedfabric.gateway import journal as journal_module
from fedfabric.gateway.client_session import Asked, check_arguments
from fedfabric.gateway.errors import ApiError
from fedfabric.gateway.journal import Act, Journal, StoredAttestation, StoredUpload
from fedfabric.gateway.keys import GatewaySecrets, SecretError
from fedfabric.gateway.purse import Purse
from fedfabric.gateway.read_model import metrics_of
from fedfabric.gateway.workshop import MemberFailedError, accepts, integer_metrics

BLOB = Blob(address="a" * 64, digest="b" * 64, size=3)
MILLION = 1_000_000


def row(amount: int, n: int = 0, owner: str = "AMSP") -> Token:
    return Token(owner=owner, tx=f"{n:064x}", n=0, amount=str(amount))


# -- purse


def test_the_largest_rows_pay_and_as_few_as_will_do() -> None:
    rows = [row(1, 1), row(50, 2), row(20, 3)]
    inputs, total = Purse().pick(rows, "AMSP", 60)
    assert total == 70
    assert {one.tx for one in inputs} == {rows[1].tx, rows[2].tx}


def test_two_callers_are_not_handed_the_same_row() -> None:
    now = [0.0]
    purse = Purse(lambda: now[0])
    rows = [row(10, 1), row(10, 2)]
    first, _ = purse.pick(rows, "AMSP", 10)
    second, _ = purse.pick(rows, "AMSP", 10)
    assert first != second
    with pytest.raises(ApiError, match="offered in the last minute"):
        purse.pick(rows, "AMSP", 10)
    now[0] = 61
    assert purse.pick(rows, "AMSP", 20)[1] == 20


def test_an_account_that_holds_too_little_is_told_how_much() -> None:
    with pytest.raises(ApiError, match="holds 5 tokens, 6 are to be paid") as caught:
        Purse().pick([row(5)], "AMSP", 6)
    assert caught.value.code == "FUNDS_MISSING"


def test_dust_does_not_make_a_transaction_longer_than_it_may_be() -> None:
    dust = [row(1, n) for n in range(1, 101)]
    with pytest.raises(ApiError, match="not in 64 rows"):
        Purse().pick(dust, "AMSP", 65)
    inputs, _ = Purse().pick([*dust, row(1000, 200)], "AMSP", 900)
    assert len(inputs) == 1


# -- figures


def said(samples: int, accept: bool = True, **metrics: int) -> Attestation:
    return Attestation(
        job="j",
        round=1,
        attempt=1,
        msp="AMSP",
        outcome=Outcome(digest="c" * 64, model=BLOB, summed=("AMSP",)),
        accept=accept,
        samples=samples,
        metrics=metrics,
    )


def test_a_rounds_figures_are_weighted_by_hold_out() -> None:
    rows = [said(10, loss=100), said(30, loss=300), said(1000, accept=False, loss=9), said(0, loss=7)]
    assert metrics_of(rows) == {"loss": 250}


def test_a_loss_that_explodes_is_not_accepted_and_one_that_rises_is() -> None:
    assert accepts({"loss": 5 * MILLION}, None)
    assert accepts({"auc": 1}, {"auc": 2})
    assert accepts({"loss": MILLION}, {"loss": MILLION // 2})
    assert accepts({"loss": 8 * MILLION}, {"loss": 4 * MILLION})
    assert not accepts({"loss": 8 * MILLION + 1}, {"loss": 4 * MILLION})
    assert accepts({"loss": MILLION + 10}, {"loss": 10})
    assert not accepts({"loss": MILLION + 11}, {"loss": 10})


@pytest.mark.parametrize(
    "metrics",
    [
        None,
        [],
        {"loss": float("nan")},
        {"loss": float("inf")},
        {"loss": "0.1"},
        {"Loss": 0.1},
        {"loss\n": 0.1},
        {"time.training": 1},
        {f"m{at}": 1 for at in range(40)},
        {7: 1},
    ],
)
def test_figures_that_are_none_are_refused(metrics: object) -> None:
    with pytest.raises(MemberFailedError):
        integer_metrics(metrics)


def test_figures_become_integers_within_what_json_carries() -> None:
    assert integer_metrics({"loss": 0.1234567, "big": 1e300, "small": -1e300, "n": 3}) == {
        "loss": 123457,
        "big": 2**53 - 1,
        "small": -(2**53 - 1),
        "n": 3 * MILLION,
    }


# -- keys


def test_secrets_are_made_once_and_kept(tmp_path: Path) -> None:
    first, second = GatewaySecrets.load(tmp_path), GatewaySecrets.load(tmp_path)
    assert first == second
    assert first.storage_key != first.rounding_secret
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert first.storage_key.hex() not in repr(first)
    assert repr(first.storage_key) not in repr(first)


def test_a_secret_that_others_may_read_or_that_was_cut_is_refused(tmp_path: Path) -> None:
    GatewaySecrets.load(tmp_path)
    (tmp_path / "storage.key").chmod(0o644)
    with pytest.raises(SecretError, match="chmod 600"):
        GatewaySecrets.load(tmp_path)
    (tmp_path / "storage.key").chmod(0o600)
    (tmp_path / "storage.key").write_bytes(b"short")
    with pytest.raises(SecretError, match="5 bytes instead of 32"):
        GatewaySecrets.load(tmp_path)


def test_a_wrapped_key_opens_for_what_it_is_about_alone(tmp_path: Path) -> None:
    secrets = GatewaySecrets.load(tmp_path)
    wrapped = secrets.wrap(b"k" * 32, b"data set")
    assert secrets.unwrap(wrapped, b"data set") == b"k" * 32
    for changed, about in ((wrapped, b"another"), (wrapped[:-1] + bytes([wrapped[-1] ^ 1]), b"data set")):
        with pytest.raises(SecretError):
            secrets.unwrap(changed, about)


# -- journal


def update(samples: int) -> CommitUpdate:
    return CommitUpdate(job="job", round=1, attempt=1, blob=BLOB, samples=samples, metrics={"loss": 1})


def test_the_first_update_stored_is_the_one_that_counts(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite") as journal:
        assert journal.store_update(update(5)) == update(5)
        assert journal.store_update(update(6)) == update(5)
    with Journal(tmp_path / "j.sqlite") as journal:
        assert journal.update("job", 1, 1) == update(5)
        assert journal.update("job", 1, 2) is None


def test_the_journal_outlives_its_process(tmp_path: Path) -> None:
    outcome = Outcome(digest="c" * 64, model=BLOB, summed=("AMSP",))
    verdict = StoredAttestation(accept=False, samples=3, metrics={"loss": 2})
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.store_act(Act("update job 1 1", "tx", b"envelope"))
        journal.store_outcome("job", 1, 1, outcome)
        journal.store_verdict("job", 1, 1, verdict)
        journal.store_failure("job", 2, 1, "train", "PLAN_FAILED: it does not load")
        journal.add_time("job", 1, "ledger", 0.5)
        journal.add_time("job", 1, "ledger", 0.25)
        journal.store_data_key("a" * 64, b"wrapped")
        journal.store_upload(StoredUpload("0" * 32, "AMSP/ann", "plan", 10, b"wrapped"))
    with Journal(tmp_path / "j.sqlite") as journal:
        assert journal.act("update job 1 1") == Act("update job 1 1", "tx", b"envelope")
        assert journal.outcome("job", 1, 1) == outcome
        assert journal.verdict("job", 1, 1) == verdict
        assert journal.failure("job", 2, 1, "train") == "PLAN_FAILED: it does not load"
        assert journal.failure("job", 1, 1, "train") is None
        assert journal.failure("job", 2, 2, "train") is None
        assert journal.failures("job", 2, 1) == {"train": "PLAN_FAILED: it does not load"}
        assert journal.failures("job", 2, 2) == {}
        assert journal.times("job", 1) == {"ledger": 750_000}
        assert journal.data_key("a" * 64) == b"wrapped"
        assert journal.upload("0" * 32).account == "AMSP/ann"
        journal.settle_act("update job 1 1")
        assert journal.act("update job 1 1") is None


def test_a_journal_whose_making_was_cut_short_is_made_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "_SCHEMA", journal_module._SCHEMA + "no such statement;")
    with pytest.raises(sqlite3.OperationalError):
        Journal(tmp_path / "j.sqlite")
    monkeypatch.undo()
    with Journal(tmp_path / "j.sqlite") as journal:
        assert journal.failures("job", 1, 1) == {}


def test_a_journal_of_a_later_version_is_not_touched(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "j.sqlite") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(sqlite3.DatabaseError, match="later version"):
        Journal(tmp_path / "j.sqlite")


# -- what a client signs


TRANSFER = records.TransferRequest.model_construct(owner="AMSP", inputs=(), outputs=(Output(owner="BMSP", amount="5"),))
PICKED = (TokenInput(tx="a" * 64, n=0),)
CHANGE = Output(owner="AMSP", amount="2")


def proposed(**changes) -> tuple[bytes, bytes]:
    record = TRANSFER.model_copy(update={"inputs": PICKED, "outputs": (*TRANSFER.outputs, CHANGE), **changes})
    return b"tokens:transfer", record.canonical()


def test_a_client_signs_what_it_asked_with_rows_and_change_filled_in() -> None:
    check_arguments(proposed(), Asked("tokens:transfer", TRANSFER, ("inputs", "outputs")))


@pytest.mark.parametrize(
    "arguments",
    [
        (b"tokens:mint", proposed()[1]),
        (b"tokens:transfer",),
        (b"tokens:transfer", b"{}"),
        (b"tokens:transfer", b"not json"),
        proposed(owner="CMSP"),
        proposed(outputs=(Output(owner="EVE", amount="5"), CHANGE)),
        proposed(outputs=(Output(owner="BMSP", amount="6"), CHANGE)),
        proposed(outputs=(*TRANSFER.outputs, Output(owner="EVE", amount="2"))),
        proposed(outputs=()),
    ],
    ids=["another function", "no argument", "an empty request", "no request", "another payer", "another payee",
         "another amount", "change to another", "no outputs"],
)  # fmt: skip
def test_a_client_signs_nothing_else(arguments: tuple[bytes, ...]) -> None:
    with pytest.raises(ForeignTransactionError):
        check_arguments(arguments, Asked("tokens:transfer", TRANSFER, ("inputs", "outputs")))


def test_an_account_that_a_caller_named_is_not_exchanged() -> None:
    asked = records.RequestAccess(id="r", dataset="BMSP/x", version=1, purpose="training", payer="AMSP/ann")
    filled = asked.model_copy(update={"inputs": PICKED})
    check_arguments((b"access:request", filled.canonical()), Asked("access:request", asked, ("inputs", "payer")))
    other = filled.model_copy(update={"payer": "AMSP"})
    with pytest.raises(ForeignTransactionError, match="another account"):
        check_arguments((b"access:request", other.canonical()), Asked("access:request", asked, ("inputs", "payer")))


def test_what_is_not_to_be_filled_in_is_signed_byte_for_byte() -> None:
    asked = records.RetireDataset(id="AMSP/x")
    check_arguments((b"datasets:retire", asked.canonical()), Asked("datasets:retire", asked))
    with pytest.raises(ForeignTransactionError):
        check_arguments((b"datasets:retire", asked.canonical() + b" "), Asked("datasets:retire", asked))
