import copy
import pickle

import grpc
import pytest
from fabric_protos.peer import transaction_pb2
from fedfabric.fabric import client
from fedfabric.fabric.client import (
    ClientError,
    CommitError,
    CommitStatusError,
    Deadlines,
    EndorseError,
    GatewayError,
    PeerDetail,
    Retries,
    SubmitError,
    ValidationCode,
    connect,
)


def test_every_exported_name_is_there():
    assert sorted(set(client.__all__), key=str.lower) == sorted(client.__all__, key=str.lower)
    for name in client.__all__:
        assert getattr(client, name) is not None


def test_every_error_of_the_package_is_exported_and_has_its_root():
    errors = {
        name: thing
        for module in (client.errors, client.checkpoints)
        for name, thing in vars(module).items()
        if isinstance(thing, type) and issubclass(thing, Exception) and thing.__module__ == module.__name__
    }
    assert set(errors) <= set(client.__all__)
    assert all(issubclass(error, ClientError) for error in errors.values())


def test_a_known_bad_outcome_is_not_an_unknown_one():
    assert not issubclass(CommitError, GatewayError)
    assert not issubclass(CommitStatusError, CommitError)


def test_the_validation_codes_are_fabrics():
    assert {code.name: int(code) for code in ValidationCode} == dict(transaction_pb2.TxValidationCode.items())


def test_a_validation_code_of_a_later_fabric_has_a_name():
    code = ValidationCode(77)
    assert (code.name, int(code)) == ("UNKNOWN_77", 77)
    assert code is not ValidationCode.VALID


@pytest.mark.parametrize("error_class", [GatewayError, EndorseError, SubmitError, CommitStatusError])
def test_a_gateway_error_survives_pickling(error_class):
    error = error_class("tx", grpc.StatusCode.ABORTED, "message", [PeerDetail("a:1", "Org1MSP", "no")])
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is error_class
        assert (again.transaction_id, again.code, again.message, again.details) == (
            "tx",
            grpc.StatusCode.ABORTED,
            "message",
            error.details,
        )
        assert str(again) == str(error)


def test_a_commit_error_survives_pickling():
    error = CommitError(ValidationCode.MVCC_READ_CONFLICT, "tx", 7)
    again = pickle.loads(pickle.dumps(error))
    assert (again.code, again.transaction_id, again.block_number, str(again)) == (error.code, "tx", 7, str(error))


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_pauses_grow_to_their_bound(chance):
    retries = Retries(first_pause=0.1, longest_pause=0.5, chance=lambda: chance)
    share = 0.5 + chance / 2
    assert [retries.pause(number) for number in (1, 2, 3, 4, 50)] == pytest.approx(
        [0.1 * share, 0.2 * share, 0.4 * share, 0.5 * share, 0.5 * share]
    )


def test_settings_do_not_change_once_made():
    for settings in (Deadlines(), Retries()):
        with pytest.raises(AttributeError):
            settings.unavailable = 1


async def test_the_channel_stays_the_callers(channel, member):
    gateway = connect(channel, member.identity, member.sign)
    assert gateway.identity is member.identity
    del gateway
    assert channel.get_state() is not grpc.ChannelConnectivity.SHUTDOWN


def test_a_key_is_never_shown(member):
    assert "PRIVATE" not in repr(member.sign)
