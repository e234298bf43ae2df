"""Mutual TLS at the gateway's port: it survives many connections at once, and follows changed authorities."""

import datetime
import socket
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from fedfabric.gateway.server_credentials import following_credentials
from fedfabric.network.identities import Authorities
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

NOW = datetime.datetime.now(datetime.UTC)
OURS, NEWCOMER = (Authorities.create(msp, NOW) for msp in ("AMSP", "BMSP"))
SERVER = OURS.tls.issue("gateway", NOW, hosts=("127.0.0.1",))
CLIENT = OURS.signing.issue("somebody", NOW, kind="client")
HANDSHAKES = 4000

SERVE = """
import asyncio, sys
from pathlib import Path
import grpc
from fedfabric.gateway.server_credentials import following_credentials

async def serve(folder):
    key, certificate, roots = ((folder / name).read_bytes() for name in ("key", "certificate", "roots"))
    server = grpc.aio.server()
    port = server.add_secure_port("127.0.0.1:0", following_credentials(key, certificate, lambda: roots))
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()

asyncio.run(serve(Path(sys.argv[1])))
"""


@pytest.fixture
def served(tmp_path):
    """A server in a process of its own, since what is tested would take this one along."""
    for name, content in {
        "key": SERVER.key,
        "certificate": SERVER.certificate,
        "roots": OURS.signing.certificate,
        "client.key": CLIENT.key,
        "client.certificate": CLIENT.certificate,
    }.items():
        (tmp_path / name).write_bytes(content)
    process = subprocess.Popen([sys.executable, "-c", SERVE, tmp_path], stdout=subprocess.PIPE, text=True)
    with process:
        yield process, int(process.stdout.readline())
        process.kill()


def test_thousands_of_connections_at_once_do_not_crash_the_server(served, tmp_path):
    process, port = served
    context = ssl.create_default_context(cadata=OURS.tls.certificate.decode())
    context.load_cert_chain(tmp_path / "client.certificate", tmp_path / "client.key")
    context.set_alpn_protocols(["h2"])

    def shake_hands(_: int) -> str:
        with (
            socket.create_connection(("127.0.0.1", port), 10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            return connection.selected_alpn_protocol()

    with ThreadPoolExecutor(16) as callers:
        assert set(callers.map(shake_hands, range(HANDSHAKES))) == {"h2"}
    assert process.poll() is None


async def test_authorities_that_join_and_leave_are_followed_at_the_next_connection():
    roots = OURS.signing.certificate
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_secure_port("127.0.0.1:0", following_credentials(SERVER.key, SERVER.certificate, lambda: roots))
    await server.start()
    they = NEWCOMER.signing.issue("somebody", NOW, kind="client")

    async def call() -> None:
        credentials = grpc.ssl_channel_credentials(OURS.tls.certificate, they.key, they.certificate)
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)

    async def refused() -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    try:
        await refused()
        roots += NEWCOMER.signing.certificate
        await call()
        roots = OURS.signing.certificate
        await refused()
    finally:
        await server.stop(0)
