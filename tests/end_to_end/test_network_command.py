"""``fedfabric network``: what it starts outlives it, unless it is interrupted."""

import datetime
import json
import signal
import tomllib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

pytestmark = [pytest.mark.network, pytest.mark.timeout(120)]

NETWORK = """\
name: small
ordering: {type: raft}
organisations:
  - {name: alpha, orderers: 1}
"""


@pytest.fixture
def network_yaml(machine):
    path = machine.folder / "network.yaml"
    path.write_text(NETWORK)
    return path


def run(machine, *arguments):
    command = machine.start("fedfabric", *arguments)
    told, _ = command.communicate()
    assert "Traceback" not in told
    return command.returncode, told


def test_a_network_outlives_the_command_is_adopted_by_the_next_and_goes_down(machine, network_yaml):
    status, told = run(machine, "network", "up", network_yaml)
    assert status == 0, told
    assert "alpha (AlphaMSP)" in told
    assert machine.processes()

    again, told = run(machine, "network", "up", network_yaml)
    assert again == 0, told
    assert "adopting what runs" in told

    status, told = run(machine, "network", "status", "--output", "json")
    assert status == 0, told
    assert json.loads(told)["up"] is True

    status, told = run(machine, "network", "add-user", "alpha", "eve", "--role", "king")
    assert status == 3, told
    status, told = run(machine, "network", "add-user", "alpha", "eve", "--role", "auditor", "--output", "json")
    assert status == 0, told
    assert json.loads(told)["profile"].endswith("/small/profiles/alpha/eve.toml")

    status, told = run(machine, "network", "export", "--folder", machine.folder / "export")
    assert status == 0, told
    assert (machine.folder / "export" / "alpha" / "connection.json").is_file()

    status, told = run(machine, "network", "logs", "peer0.alpha", "--lines", 3)
    assert status == 0, told
    status, told = run(machine, "network", "logs", "peer9.alpha")
    assert status == 5, told

    status, told = run(machine, "network", "down", "--wipe")
    assert status == 0, told
    assert machine.left_behind() == {}
    assert not (machine.folder / "home" / "small").exists()


@pytest.mark.parametrize(
    "moment", ["starting processes", "committing the first transaction", "founding the consortium"]
)
def test_an_interrupted_bring_up_leaves_nothing_running(machine, network_yaml, moment):
    up = machine.start("fedfabric", "network", "up", network_yaml)
    for line in up.stdout:
        if line.startswith(moment):
            break
    up.send_signal(signal.SIGINT)
    told, _ = up.communicate()
    assert up.returncode == 130, told
    assert "Traceback" not in told
    assert machine.left_behind() == {}


def test_the_gateway_ends_in_order_and_says_what_keeps_it_from_starting(machine, network_yaml):
    status, told = run(machine, "network", "up", network_yaml)
    assert status == 0, told
    config = machine.folder / "home" / "small" / "gateways" / "alpha" / "gateway.toml"
    gateway = machine.start("fedfabric", "gateway", "start", "--config", config)
    profile = machine.folder / "home" / "small" / "profiles" / "alpha" / "steward.toml"
    status, told = run(machine, "gateway", "status", "--wait", 60, "--profile", profile)
    assert status == 0, told

    second, told = run(machine, "gateway", "start", "--config", config)
    assert second == 11
    assert "a gateway runs on the state folder" in told

    gateway.send_signal(signal.SIGTERM)
    told, _ = gateway.communicate()
    assert gateway.returncode == 0, told
    assert "Traceback" not in told
    run(machine, "network", "down", "--wipe")
    assert machine.left_behind() == {}


def test_a_gateway_waits_for_its_network_says_so_and_goes_on_at_once_when_it_is_back(machine, network_yaml):
    status, told = run(machine, "network", "up", network_yaml)
    assert status == 0, told
    status, told = run(machine, "network", "down")
    assert status == 0, told
    home = machine.folder / "home" / "small"
    config, profiles = home / "gateways" / "alpha" / "gateway.toml", home / "profiles" / "alpha"
    gateway = machine.start("fedfabric", "gateway", "start", "--config", config, "--output", "json")

    def next_state():
        return next(json.loads(line) for line in gateway.stdout if line.startswith('{"state"'))

    waits = next_state()
    assert (waits["state"], waits["seconds"]) == ("waiting", 60)
    assert "fedfabric network up" in waits["remedy"]
    status, told = run(machine, "network", "up", network_yaml)
    assert status == 0, told
    assert next_state()["state"] == "serving"

    status, told = run(machine, "network", "down")
    assert status == 0, told
    for _ in range(5):  # gRPC by itself would be waiting for seconds between its tries by now
        status, told = run(machine, "data", "list", "--profile", profiles / "steward.toml")
        assert status == 0, told
        assert "PEER_AWAY" in told
    status, told = run(machine, "network", "up", network_yaml)
    assert status == 0, told
    mint = ("token", "mint", "m1", "--amount", 5, "--for", "AlphaMSP", "--profile", profiles / "operator.toml")
    status, told = run(machine, *mint)
    assert status == 0, told
    status, told = run(machine, "data", "list", "--profile", profiles / "steward.toml")
    assert (status, "PEER_AWAY" in told) == (0, False), told

    gateway.send_signal(signal.SIGTERM)
    rest, _ = gateway.communicate()
    assert gateway.returncode == 0, rest
    run(machine, "network", "down", "--wipe")
    assert machine.left_behind() == {}


def test_a_certificate_of_another_network_is_refused_in_our_words_alone(machine, network_yaml):
    status, told = run(machine, "network", "up", network_yaml)
    assert status == 0, told
    status, told = run(machine, "network", "add-user", "alpha", "eve", "--role", "steward")
    assert status == 0, told
    home = machine.folder / "home" / "small"
    gateway = machine.start("fedfabric", "gateway", "start", "--config", home / "gateways" / "alpha" / "gateway.toml")
    profile = home / "profiles" / "alpha" / "eve.toml"
    status, told = run(machine, "gateway", "status", "--wait", 60, "--profile", profile)
    assert status == 0, told

    key = ec.generate_private_key(ec.SECP256R1())
    stranger = machine.folder / "stranger"
    stranger.mkdir()
    (stranger / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (stranger / "certificate.pem").write_bytes(self_signed(key).public_bytes(Encoding.PEM))
    facts = tomllib.loads(profile.read_text())
    roots = profile.parent / facts["trust_roots"]
    for change in (
        {"certificate": str(stranger / "certificate.pem"), "key": str(stranger / "key.pem")},
        {"trust_roots": str(stranger / "certificate.pem")},
    ):
        own = {name: str(profile.parent / facts[name]) for name in ("certificate", "key")}
        table = {**facts, **own, "trust_roots": str(roots), **change}
        (stranger / "profile.toml").write_text("\n".join(f"{name} = {json.dumps(to)}" for name, to in table.items()))
        status, told = run(machine, "gateway", "status", "--profile", stranger / "profile.toml")
        assert status == 6, told
        first, second = told.splitlines()
        assert ("for nobody's" if "key" in change else "trust_roots do not know") in first
        assert second.startswith("  to do: ")

    gateway.send_signal(signal.SIGTERM)
    told, _ = gateway.communicate()
    assert gateway.returncode == 0, told
    assert "E0000" not in told
    run(machine, "network", "down", "--wipe")


def self_signed(key):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stranger")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    return builder.sign(key, hashes.SHA256())
