"""A chaincode server's settings from its environment."""

from pathlib import Path

import pytest
from fedfabric.fabric.shim import Limits, ServerSettings, SettingsError, TransportSecurity

COMPLETE = {
    "CHAINCODE_ID": "kv:abc",
    "CHAINCODE_SERVER_ADDRESS": "127.0.0.1:7052",
    "CHAINCODE_TLS_KEY": "/tls/key",
    "CHAINCODE_TLS_CERT": "/tls/certificate",
    "CHAINCODE_CLIENT_CA_CERT": "/tls/ca",
}


def test_the_usual_environment():
    settings = ServerSettings.from_environment(COMPLETE | {"CORE_PEER_LOCALMSPID": "Org1MSP"})
    assert settings == ServerSettings(
        chaincode_id="kv:abc",
        address="127.0.0.1:7052",
        tls=TransportSecurity(Path("/tls/key"), Path("/tls/certificate"), Path("/tls/ca")),
        msp_id="Org1MSP",
    )


@pytest.mark.parametrize("name", sorted(COMPLETE))
@pytest.mark.parametrize("value", [None, "", "  "])
def test_what_is_missing_is_named(name, value):
    environment = {**COMPLETE, name: value}
    if value is None:
        del environment[name]
    with pytest.raises(SettingsError, match=name):
        ServerSettings.from_environment(environment)


def test_tls_is_off_only_when_asked():
    environment = {
        "CHAINCODE_ID": "kv:abc",
        "CHAINCODE_SERVER_ADDRESS": "127.0.0.1:0",
        "CHAINCODE_TLS_DISABLED": "true",
    }
    assert ServerSettings.from_environment(environment).tls is None
    with pytest.raises(SettingsError, match="CHAINCODE_TLS_KEY"):
        ServerSettings.from_environment({**environment, "CHAINCODE_TLS_DISABLED": "false"})
    with pytest.raises(SettingsError, match="true or false"):
        ServerSettings.from_environment({**environment, "CHAINCODE_TLS_DISABLED": "yes"})


@pytest.mark.parametrize(
    "address", ["7052", "host", "host:", ":7052", "host:port", "host:70000", "host:-1", "host:\u0661"]
)
def test_an_address_is_host_and_port(address):
    with pytest.raises(SettingsError, match="CHAINCODE_SERVER_ADDRESS"):
        ServerSettings.from_environment({**COMPLETE, "CHAINCODE_SERVER_ADDRESS": address})


def test_limits():
    settings = ServerSettings.from_environment(
        {
            **COMPLETE,
            "CHAINCODE_MAX_CONCURRENCY": "7",
            "CHAINCODE_TRANSACTION_SECONDS": "1.5",
            "CHAINCODE_GRACE_SECONDS": "0",
        }
    )
    assert settings.limits == Limits(running=7)
    assert (settings.transaction_seconds, settings.grace_seconds) == (1.5, 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CHAINCODE_MAX_CONCURRENCY", "0"),
        ("CHAINCODE_MAX_CONCURRENCY", "-1"),
        ("CHAINCODE_MAX_CONCURRENCY", "1.5"),
        ("CHAINCODE_MAX_CONCURRENCY", "many"),
        ("CHAINCODE_MAX_CONCURRENCY", "nan"),
        ("CHAINCODE_MAX_CONCURRENCY", "inf"),
        ("CHAINCODE_MAX_CONCURRENCY", "1" * 400),
        ("CHAINCODE_TRANSACTION_SECONDS", "0"),
        ("CHAINCODE_GRACE_SECONDS", "-1"),
        ("CHAINCODE_GRACE_SECONDS", "nan"),
        ("CHAINCODE_GRACE_SECONDS", "soon"),
    ],
)
def test_a_limit_out_of_bounds_is_named(name, value):
    with pytest.raises(SettingsError, match=name):
        ServerSettings.from_environment({**COMPLETE, name: value})
