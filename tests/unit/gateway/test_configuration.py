"""gateway.toml and profiles: what is wrong in them is named, file and key, and never quoted."""

from pathlib import Path

import pytest
from fedfabric.gateway.configuration import (
    ConfigurationError,
    GatewayConfiguration,
    Profile,
    split_address,
)

GATEWAY = """
msp_id = "ClevelandMSP"
listen = "127.0.0.1:7100"
endpoint = "127.0.0.1:7100"
channel = "consortium"
chaincode = "fedfabric"
certificate = "users/gateway.pem"
key = "users/gateway.key"
tls_certificate = "tls.pem"
tls_key = "tls.key"
state = "state"
[peer]
endpoint = "127.0.0.1:7051"
tls_ca = "/etc/peer-ca.pem"
"""
PROFILE = """
gateway = "127.0.0.1:7100"
msp_id = "ClevelandMSP"
certificate = "me.pem"
key = "me.key"
trust_roots = "roots.pem"
channel = "consortium"
"""


def gateway(tmp_path: Path, text: str = GATEWAY) -> GatewayConfiguration:
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    return GatewayConfiguration.load(path)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    found = gateway(tmp_path)
    assert found.certificate == tmp_path / "users" / "gateway.pem"
    assert found.peer.tls_ca == Path("/etc/peer-ca.pem")
    assert found.blobs_url == str(tmp_path / "state" / "blobs")


FLAWS = {
    "a key that is missing": ('msp_id = "ClevelandMSP"\n', "", "msp_id is missing"),
    "a key that is unknown": ("[peer]", 'speed = "fast"\n[peer]', "speed is not a key of this file"),
    "a key that is unknown in a table": ("tls_ca", 'colour = "red"\ntls_ca', "peer.colour is not a key"),
    "an address without a port": ('"127.0.0.1:7051"', '"127.0.0.1"', "peer.endpoint: expected host:port"),
    "a port that is none": ('"127.0.0.1:7051"', '"127.0.0.1:70510"', "peer.endpoint: expected host:port"),
    "a number for a text": ('"consortium"', "7", "channel: Input should be a valid string"),
    "figures served to everybody": ("[peer]", 'metrics = "0.0.0.0:9000"\n[peer]', "metrics: expected host:port on a"),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flaw_is_named_with_file_and_key(flaw: str, tmp_path: Path) -> None:
    before, after, said = FLAWS[flaw]
    with pytest.raises(ConfigurationError, match=r"gateway\.toml") as caught:
        gateway(tmp_path, GATEWAY.replace(before, after, 1))
    assert said in str(caught.value)


def test_a_value_is_not_quoted_in_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        gateway(tmp_path, GATEWAY.replace('"127.0.0.1:7051"', '"secret-place"'))
    assert "secret-place" not in str(caught.value)


def test_what_is_no_toml_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not TOML"):
        gateway(tmp_path, "msp_id = ")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="is not TOML"):
        GatewayConfiguration.load(tmp_path / "binary.toml")


def test_a_file_without_end_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="longer than"):
        gateway(tmp_path, "#" * 100_000)


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't be read: No such file"):
        Profile.load(tmp_path / "nobody.toml")


def test_a_profile_is_found_by_argument_then_by_environment(tmp_path: Path) -> None:
    path = tmp_path / "profile.toml"
    path.write_text(PROFILE)
    assert Profile.find(path).key == tmp_path / "me.key"
    assert Profile.find(None, {"FEDFABRIC_PROFILE": str(path)}).msp_id == "ClevelandMSP"
    with pytest.raises(ConfigurationError, match="no profile"):
        Profile.find(None, {})


def test_addresses_are_split_and_checked() -> None:
    assert split_address("[::1]:80") == ("[::1]", 80)
    assert split_address("gateway.example:7100") == ("gateway.example", 7100)
    for text in ("", ":1", "a:", "a:b", "a b:1", "a:1:2", "a:123456", "http://a:1"):
        with pytest.raises(ValueError, match="host:port"):
            split_address(text)
