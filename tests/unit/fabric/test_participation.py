"""The channel participation client against an orderer's admin endpoint of our own, over real mutual TLS."""

import asyncio
import datetime
import http.server
import json
import ssl
import threading
import time

import pytest
from fedfabric.fabric.configuration import Endpoint
from fedfabric.fabric.participation import (
    AdministrationTls,
    ChannelInfo,
    OrdererAdministration,
    ParticipationError,
)
from fedfabric.network.identities import Authorities

NOW = datetime.datetime.now(datetime.UTC)
INFO = {"name": "ch1", "url": "/participation/v1/channels/ch1", "consensusRelation": "consenter", "status": "active"}


class AdminHandler(http.server.BaseHTTPRequestHandler):
    """Answers as told by the server's `answers`, and keeps what it was asked."""

    def answer(self):
        length = int(self.headers.get("Content-Length", 0))
        self.server.asked.append((self.command, self.path, self.headers, self.rfile.read(length)))
        status, body = self.server.answers.pop(0)
        if callable(body):
            body(self.wfile)
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = answer  # noqa: N815

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    orderer, stranger = Authorities.create("orderer", NOW), Authorities.create("stranger", NOW)
    paths = {}
    for name, authorities in (("orderer", orderer), ("stranger", stranger)):
        issued = authorities.tls.issue("127.0.0.1", NOW, hosts=["127.0.0.1"])
        for what, data in (("roots", authorities.tls.certificate), ("cert", issued.certificate), ("key", issued.key)):
            paths[name, what] = folder / f"{name}.{what}"
            paths[name, what].write_bytes(data)
    return paths


@pytest.fixture
def server(files):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), AdminHandler)
    server.asked, server.answers = [], []
    server.handle_error = lambda *_: None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files["orderer", "cert"], files["orderer", "key"])
    context.load_verify_locations(files["orderer", "roots"])
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def administration(server, files):
    tls = AdministrationTls(files["orderer", "roots"], files["orderer", "cert"], files["orderer", "key"])
    return OrdererAdministration(Endpoint("127.0.0.1", server.server_address[1]), tls, timeout_s=5)


async def test_joining_sends_the_block_as_a_form(server, administration):
    server.answers.append((201, json.dumps({**INFO, "height": 1}).encode()))
    block = bytes(range(256)) * 40
    assert await administration.join(block) == ChannelInfo("ch1", "consenter", "active", 1)
    ((command, path, headers, body),) = server.asked
    assert (command, path) == ("POST", "/participation/v1/channels")
    boundary = headers["Content-Type"].partition("boundary=")[2]
    head, _, rest = body.partition(b"\r\n\r\n")
    assert b'name="config-block"' in head
    assert rest == block + f"\r\n--{boundary}--\r\n".encode()


async def test_channels_are_asked_listed_and_left(server, administration):
    server.answers += [
        (200, json.dumps({**INFO, "height": 7}).encode()),
        (200, json.dumps({"channels": [{"name": "b"}, {"name": "a"}], "systemChannel": None}).encode()),
        (200, b'{"channels": null}'),
        (204, b""),
    ]
    assert (await administration.channel("ch1")).height == 7
    assert await administration.channels() == ("a", "b")
    assert await administration.channels() == ()
    await administration.remove("ch1")
    assert [(command, path) for command, path, *_ in server.asked[-1:]] == [
        ("DELETE", "/participation/v1/channels/ch1")
    ]


@pytest.mark.parametrize(
    ("answer", "text", "status"),
    [
        ((405, b'{"error": "cannot join: channel already exists"}'), "channel already exists", 405),
        ((500, b"<html>"), "no JSON", 500),
        ((200, b"[]"), "no JSON object", 200),
        ((200, b'{"name": 1}'), "can't be read", 0),
        ((200, b" " * (1024 * 1024 + 1)), "longer than", 0),
        ((200, b"[" * 100_000), "no JSON", 200),
        ((200, b""), "no JSON", 200),
        ((200, lambda file: file.write(b"HTTP/1.0 200 OK\r\nX: " + b"x" * 1024 * 1024)), "longer than", 0),
        ((200, lambda file: file.write(b"SSH-2.0-OpenSSH\r\n\r\n{}")), "no HTTP answer", 0),
        ((200, lambda file: file.write(b"HTTP/1.0 200 OK\r\nX: cut sh")), "no HTTP answer", 0),
    ],
)
async def test_what_the_orderer_answers_otherwise_is_an_error(server, administration, answer, text, status):
    server.answers.append(answer)
    with pytest.raises(ParticipationError, match=text) as caught:
        await administration.channel("ch1")
    assert caught.value.status == status


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.0 200 OK\r\n\r\n"])
async def test_an_orderer_that_answers_a_byte_at_a_time_holds_nobody_longer_than_the_time_limit(server, files, begun):
    client_gone = threading.Event()

    def drip(file):
        file.write(begun)
        while not client_gone.wait(0.02):
            file.write(b" ")

    server.answers.append((200, drip))
    tls = AdministrationTls(files["orderer", "roots"], files["orderer", "cert"], files["orderer", "key"])
    administration = OrdererAdministration(Endpoint("127.0.0.1", server.server_address[1]), tls, timeout_s=0.3)
    began = time.monotonic()
    try:
        with pytest.raises(TimeoutError, match=r"GET /participation/v1/channels at .*no whole answer within 0\.3 s"):
            await asyncio.wait_for(administration.channels(), 5)
    finally:
        client_gone.set()
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("name", ["", "../x", "CH", "a/b", "a?b"])
async def test_a_name_that_is_no_channels_is_not_sent(server, administration, name):
    with pytest.raises(ParticipationError, match="no channel name"):
        await administration.channel(name)
    assert server.asked == []


async def test_an_unknown_client_and_an_unknown_server_are_refused(server, files):
    endpoint = Endpoint("127.0.0.1", server.server_address[1])
    unknown_client = AdministrationTls(files["orderer", "roots"], files["stranger", "cert"], files["stranger", "key"])
    with pytest.raises(OSError):  # noqa: PT011 - TLS 1.3 tells a refused client by a reset or by an alert
        await OrdererAdministration(endpoint, unknown_client).channels()
    unknown_server = AdministrationTls(files["stranger", "roots"], files["orderer", "cert"], files["orderer", "key"])
    with pytest.raises(ssl.SSLCertVerificationError):
        await OrdererAdministration(endpoint, unknown_server).channels()


async def test_nobody_listening_is_an_os_error(administration, server):
    server.shutdown()
    server.server_close()
    with pytest.raises(OSError):  # noqa: PT011
        await asyncio.wait_for(administration.channels(), 10)
