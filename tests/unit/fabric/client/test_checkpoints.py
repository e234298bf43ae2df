"""One table of behaviours, run on both checkpointers; then what only a file must stand."""

import json
import os

import pytest
from fedfabric.fabric.client import (
    ChaincodeEvent,
    CheckpointError,
    FileCheckpointer,
    InMemoryCheckpointer,
    Position,
)


@pytest.fixture(params=["memory", "file"])
def checkpointer(request, tmp_path):
    return InMemoryCheckpointer() if request.param == "memory" else FileCheckpointer(tmp_path / "checkpoint.json")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.json"


def test_a_new_checkpointer_has_no_position(checkpointer):
    assert checkpointer.position is None


def test_after_a_block_the_next_one_is_expected(checkpointer):
    checkpointer.checkpoint_block(7)
    assert checkpointer.position == Position(8)


def test_after_a_transaction_its_block_goes_on(checkpointer):
    checkpointer.checkpoint_transaction(7, "tx")
    assert checkpointer.position == Position(7, "tx")


def test_after_an_event_its_block_goes_on(checkpointer):
    checkpointer.checkpoint_chaincode_event(ChaincodeEvent(9, "tx", "kv", "name", b""))
    assert checkpointer.position == Position(9, "tx")


def test_block_zero_is_a_position_like_any_other(checkpointer):
    checkpointer.checkpoint_transaction(0, "")
    assert checkpointer.position == Position(0, "")


def test_a_block_forgets_the_transaction_before_it(checkpointer):
    checkpointer.checkpoint_transaction(7, "tx")
    checkpointer.checkpoint_block(7)
    assert checkpointer.position == Position(8, "")


@pytest.mark.parametrize("number", [-1, 2**64])
def test_a_number_that_no_block_can_have_is_refused(checkpointer, number):
    checkpointer.checkpoint_transaction(3, "tx")
    with pytest.raises(ValueError, match="block number"):
        checkpointer.checkpoint_transaction(number, "")
    assert checkpointer.position == Position(3, "tx")


def test_a_file_brings_its_position_back(path):
    FileCheckpointer(path).checkpoint_transaction(2**63, "tx")
    assert FileCheckpointer(path).position == Position(2**63, "tx")


def test_a_file_has_the_official_clients_form(path):
    FileCheckpointer(path).checkpoint_transaction(5, "tx")
    assert json.loads(path.read_text()) == {"blockNumber": 5, "transactionId": "tx"}


def test_a_file_is_only_the_owners(path):
    FileCheckpointer(path).checkpoint_block(1)
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_other_file_stays(path):
    FileCheckpointer(path).checkpoint_block(1)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_checkpoint_that_fails_leaves_the_one_before(path, monkeypatch, step):
    checkpointer = FileCheckpointer(path)
    checkpointer.checkpoint_block(1)

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os if step == "fsync" else type(path), step, fail)
        with pytest.raises(OSError, match="disk full"):
            checkpointer.checkpoint_block(2)
    assert checkpointer.position == FileCheckpointer(path).position == Position(2)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_what_a_killed_process_left_behind_is_overwritten(path):
    FileCheckpointer(path).checkpoint_block(1)
    path.with_name(f".{path.name}.new").write_text('{"blockNum')
    again = FileCheckpointer(path)
    assert again.position == Position(2)
    again.checkpoint_block(2)
    assert FileCheckpointer(path).position == Position(3)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"5",
        b"{}",
        b'{"blockNumber": 5}',
        b'{"blockNumber": "5", "transactionId": ""}',
        b'{"blockNumber": 5.0, "transactionId": ""}',
        b'{"blockNumber": true, "transactionId": ""}',
        b'{"blockNumber": -1, "transactionId": ""}',
        b'{"blockNumber": 18446744073709551616, "transactionId": ""}',
        b'{"blockNumber": 5, "transactionId": null}',
        b"[" * 4000,
        b'{"blockNumber": 5, "transactionId": "' + b"x" * 5000 + b'"}',
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused_and_left_alone(path, content):
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checkpoint\.json"):
        FileCheckpointer(path)
    assert path.read_bytes() == content


def test_a_file_that_cannot_be_read_is_not_taken_for_a_missing_one(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    with pytest.raises(NotADirectoryError):
        FileCheckpointer(plain / "checkpoint.json")
