"""A chaincode server on a real port: mutual TLS, shutdown, what keeps it from starting."""

import asyncio
import contextlib
import datetime
import ipaddress
import os
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
import shim_protocol as peer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fedfabric.fabric import shim
from fedfabric.fabric.shim import (
    ChaincodeServer,
    Contract,
    ContractChaincode,
    ServerSettings,
    SettingsError,
    TransportSecurity,
    transaction,
)
from fedfabric.fabric.shim.handler import Message

DEADLINE = 10
KV = Path(__file__).parents[3] / "network" / "chaincodes" / "kv.py"


class Echo(Contract):
    go_on = asyncio.Event()

    @transaction()
    async def echo(self, stub, value: str) -> str:
        return value

    @transaction()
    async def wait(self, stub) -> str:
        await Echo.go_on.wait()
        return "waited"


def insecure(**changes) -> ServerSettings:
    return ServerSettings("kv:1", "127.0.0.1:0", None, **changes)


class Peer:
    """A peer's end of a real stream."""

    def __init__(self, channel: grpc.aio.Channel):
        self.call = channel.stream_stream(
            "/protos.Chaincode/Connect",
            request_serializer=Message.SerializeToString,
            response_deserializer=Message.FromString,
        )()

    async def ready(self) -> "Peer":
        assert (await self.read()).type == Message.REGISTER
        await self.call.write(peer.REGISTERED)
        await self.call.write(peer.ready(1000, 1000))
        return self

    async def read(self):
        async with asyncio.timeout(DEADLINE):
            return await self.call.read()

    async def invoke(self, tx_id: str, *args: bytes) -> bytes:
        await self.call.write(peer.transaction(tx_id, *args))
        response = peer.response_of(await self.read())
        assert response.status == 200, response.message
        return response.payload


def issue(name: str, issuer=None):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    )
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def pem(issued) -> tuple[bytes, bytes]:
    certificate, key = issued
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    authority, foreign = issue("authority"), issue("foreign authority")
    for name, issued in {
        "authority": authority,
        "server": issue("server", authority),
        "peer": issue("peer", authority),
        "stranger": issue("stranger", foreign),
    }.items():
        certificate, key = pem(issued)
        (folder / f"{name}.crt").write_bytes(certificate)
        (folder / f"{name}.key").write_bytes(key)
    return folder


def secure(tls: Path, **changes: str) -> ServerSettings:
    files = {"key": "server.key", "certificate": "server.crt", "client_ca": "authority.crt", **changes}
    return ServerSettings(
        "kv:1", "127.0.0.1:0", TransportSecurity(**{name: tls / file for name, file in files.items()})
    )


async def test_two_peers_at_a_time_are_served():
    async with (
        ChaincodeServer(ContractChaincode(Echo()), insecure()) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        first, second = await Peer(channel).ready(), await Peer(channel).ready()
        assert await first.invoke("t1", b"echo", b"1") == b"1"
        assert await second.invoke("t1", b"echo", b"2") == b"2"
        first.call.cancel()
        assert await second.invoke("t2", b"echo", b"3") == b"3"
        second.call.cancel()


async def test_a_broken_protocol_ends_one_stream_only():
    async with (
        ChaincodeServer(ContractChaincode(Echo()), insecure()) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        good, bad = await Peer(channel).ready(), await Peer(channel).ready()
        await bad.call.write(peer.REGISTERED)
        assert (await bad.read()).type == Message.ERROR
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await bad.read()
        assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert await good.invoke("t1", b"echo", b"1") == b"1"
        good.call.cancel()


async def test_stopping_waits_for_what_runs():
    Echo.go_on = asyncio.Event()
    server = ChaincodeServer(ContractChaincode(Echo()), insecure())
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        connected = await Peer(channel).ready()
        await connected.call.write(peer.transaction("t1", b"wait"))
        await connected.invoke("t2", b"echo", b"the first has been started")
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0)
        await connected.call.write(peer.transaction("t3", b"echo", b"late"))
        assert peer.response_of(await connected.read()).status == 503
        assert not stopping.done()
        Echo.go_on.set()
        assert peer.response_of(await connected.read()).payload == b"waited"
        assert await connected.read() is grpc.aio.EOF
        async with asyncio.timeout(DEADLINE):
            await stopping
            await server.serve()


async def test_stopping_does_not_wait_for_ever():
    Echo.go_on = asyncio.Event()
    server = ChaincodeServer(ContractChaincode(Echo()), insecure(grace_seconds=0.1))
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        connected = await Peer(channel).ready()
        await connected.call.write(peer.transaction("t1", b"wait"))
        await connected.invoke("t2", b"echo", b"the first has been started")
        async with asyncio.timeout(DEADLINE):
            await server.stop()
            await server.stop()  # again changes nothing


def client_credentials(tls: Path, name: str | None) -> grpc.ChannelCredentials:
    roots = (tls / "authority.crt").read_bytes()
    if name is None:
        return grpc.ssl_channel_credentials(roots)
    return grpc.ssl_channel_credentials(roots, (tls / f"{name}.key").read_bytes(), (tls / f"{name}.crt").read_bytes())


async def test_the_peer_is_served_over_mutual_tls(tls):
    async with ChaincodeServer(ContractChaincode(Echo()), secure(tls)) as server:
        address = f"127.0.0.1:{server.port}"
        async with grpc.aio.secure_channel(address, client_credentials(tls, "peer")) as channel:
            connected = await Peer(channel).ready()
            assert await connected.invoke("t1", b"echo", b"1") == b"1"
            connected.call.cancel()


@pytest.mark.parametrize("name", [None, "stranger"])
async def test_nobody_else_is_served(tls, name):
    async with ChaincodeServer(ContractChaincode(Echo()), secure(tls)) as server:
        address = f"127.0.0.1:{server.port}"
        async with grpc.aio.secure_channel(address, client_credentials(tls, name)) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await Peer(channel).read()
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_client_that_does_not_speak_http2_is_hung_up_on(tls):
    context = ssl.create_default_context(cafile=str(tls / "authority.crt"))
    context.load_cert_chain(tls / "peer.crt", tls / "peer.key")
    async with ChaincodeServer(ContractChaincode(Echo()), secure(tls)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
        async with asyncio.timeout(DEADLINE):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()


async def test_without_tls_a_warning_says_so(caplog):
    async with ChaincodeServer(ContractChaincode(Echo()), insecure()):
        assert "TLS is off" in caplog.text


async def test_a_port_in_use_is_an_error_that_says_so():
    async with ChaincodeServer(ContractChaincode(Echo()), insecure()) as server:
        second = ChaincodeServer(ContractChaincode(Echo()), ServerSettings("kv:1", f"127.0.0.1:{server.port}", None))
        with pytest.raises(SettingsError, match=f"can't listen on 127.0.0.1:{server.port}"):
            await second.start()


@pytest.mark.parametrize("name", ["key", "certificate", "client_ca"])
async def test_an_unreadable_file_is_named(tls, name):
    server = ChaincodeServer(ContractChaincode(Echo()), secure(tls, **{name: "absent.pem"}))
    with pytest.raises(SettingsError, match=r"absent\.pem can't be read"):
        await server.start()


async def test_a_file_that_is_no_certificate_is_an_error(tls):
    (tls / "garbage.pem").write_bytes(b"garbage")
    server = ChaincodeServer(ContractChaincode(Echo()), secure(tls, certificate="garbage.pem"))
    with pytest.raises(SettingsError):
        await server.start()


# --- as a process


def environment(**changes: str) -> dict[str, str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {
        "PATH": os.environ["PATH"],
        "CHAINCODE_ID": "kv:1",
        "CHAINCODE_SERVER_ADDRESS": f"127.0.0.1:{port}",
        "CHAINCODE_TLS_DISABLED": "true",
        **changes,
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_process_cleanly_after_its_transactions(number):
    settings = environment()
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(KV), env=settings, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with grpc.aio.insecure_channel(settings["CHAINCODE_SERVER_ADDRESS"]) as channel:
            async with asyncio.timeout(DEADLINE):
                await channel.channel_ready()
            connected = await Peer(channel).ready()
            await connected.call.write(peer.transaction("t1", b"slow", b"300"))
            await connected.invoke("t2", b"nothing")
            process.send_signal(number)
            assert peer.response_of(await connected.read()).payload == b"slept"
            assert await connected.read() is grpc.aio.EOF
        async with asyncio.timeout(DEADLINE):
            _, errors = await process.communicate()
        assert process.returncode == 0
        assert b"Traceback" not in errors
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"CHAINCODE_ID": ""}, b"CHAINCODE_ID is missing"),
        ({"CHAINCODE_TLS_DISABLED": "false"}, b"CHAINCODE_TLS_KEY is missing"),
        ({"CORE_CHAINCODE_LOGGING_LEVEL": "chatty"}, b"CORE_CHAINCODE_LOGGING_LEVEL"),
        ({"CHAINCODE_SERVER_ADDRESS": "192.0.2.1:7052"}, b"can't listen on 192.0.2.1:7052"),
    ],
)
def test_what_keeps_it_from_starting_is_one_line_and_a_status(changes, text):
    done = subprocess.run(
        [sys.executable, str(KV)], env=environment(**changes), capture_output=True, timeout=DEADLINE, check=False
    )
    assert done.returncode == 2
    assert text in done.stderr
    assert b"Traceback" not in done.stderr


def test_the_room_is_light():
    """A chaincode server must not pay for what it does not use."""
    code = (
        "import sys; import fedfabric.fabric.shim as shim; shim.serve, shim.Contract;"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {
        "grpc",
        "torch",
        "numpy",
        "pydantic",
        "cryptography",
        "structlog",
        "rich",
        "typer",
        "fsspec",
        "yaml",
    }


def test_contracts_alone_need_no_grpc():
    code = "import sys; from fedfabric.fabric.shim import Contract, Stub, MemoryPeer; assert 'grpc' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], timeout=30, check=True)


def test_every_public_name_can_be_imported():
    for name in shim.__all__:
        assert getattr(shim, name) is not None
    assert set(shim.__all__) <= set(dir(shim))
    with pytest.raises(AttributeError):
        _ = shim.nothing_of_that_name
