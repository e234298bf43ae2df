"""An orderer's channel participation API: join it to a channel, ask how far it is, take it out again.

The same REST calls as Fabric's `osnadmin`, over mutual TLS, with answers that are bounded and checked.
Source: Fabric's `orderer/common/channelparticipation/restapi.go` and `orderer/common/types/channelinfo.go`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

    from .configuration import Endpoint

_CHANNELS: Final = "/participation/v1/channels"
_MAX_ANSWER_BYTES: Final = 1024 * 1024
"""Of head and body together."""
_PIECE_BYTES: Final = 64 * 1024
_NO_CONTENT: Final = 204
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r]")
_NAME: Final = re.compile(r"[a-z][a-z0-9.-]{0,248}")


class ParticipationError(Exception):
    """The orderer refused, or its answer can't be read.

    Attributes:
        status: the HTTP status, 0 where the answer could not be read.
    """

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class ChannelInfo:
    """How an orderer stands to a channel; `height` counts its blocks."""

    name: str
    relation: str
    """`consenter`, `follower`, `config-tracker` or `other`."""
    status: str
    """`active`, `onboarding`, `inactive` or `failed`."""
    height: int


@dataclass(frozen=True)
class AdministrationTls:
    """Files for mutual TLS with an admin endpoint: roots of its certificate, an administrator's certificate and key."""

    roots: Path
    certificate: Path
    key: Path


class OrdererAdministration:
    """The admin endpoint of one orderer.

    Each call is a connection of its own, and is over within `timeout_s`, however slowly the orderer answers. It raises
    ParticipationError where the orderer refuses, and OSError (ssl.SSLError, TimeoutError, ConnectionRefusedError) where
    it can't be reached or has not answered in time.
    """

    def __init__(self, endpoint: Endpoint, tls: AdministrationTls, *, timeout_s: float = 10.0) -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._context = ssl.create_default_context(cafile=str(tls.roots))
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._context.load_cert_chain(str(tls.certificate), str(tls.key))

    async def join(self, block: bytes) -> ChannelInfo:
        """Join the orderer to the channel of a configuration block (genesis, or the latest for a running channel)."""
        boundary = secrets.token_hex(16)
        body = b"".join(
            (
                f"--{boundary}\r\n".encode(),
                b'Content-Disposition: form-data; name="config-block"; filename="config.block"\r\n',
                b"Content-Type: application/octet-stream\r\n\r\n",
                block,
                f"\r\n--{boundary}--\r\n".encode(),
            )
        )
        content_type = f"multipart/form-data; boundary={boundary}"
        return _channel_info(await self._call("POST", _CHANNELS, 201, body, content_type))

    async def channel(self, name: str) -> ChannelInfo:
        """Return how the orderer stands to a channel; status 404 in the error where it has not joined it."""
        return _channel_info(await self._call("GET", self._path(name), 200))

    async def channels(self) -> tuple[str, ...]:
        """Return the names of the channels that the orderer has joined, sorted."""
        answer = await self._call("GET", _CHANNELS, 200)
        listed = answer.get("channels") or []
        if not isinstance(listed, list) or not all(
            isinstance(one, dict) and isinstance(one.get("name"), str) for one in listed
        ):
            raise ParticipationError("the orderer's list of channels can't be read")
        return tuple(sorted(one["name"] for one in listed))

    async def remove(self, name: str) -> None:
        """Take the orderer out of a channel and delete its copy of it."""
        await self._call("DELETE", self._path(name), 204)

    @staticmethod
    def _path(name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ParticipationError(f"{name!r} is no channel name")
        return f"{_CHANNELS}/{name}"

    async def _call(
        self, method: str, path: str, expected: int, body: bytes = b"", content_type: str = ""
    ) -> dict[str, Any]:
        what = f"{method} {path} at {self._endpoint}"
        try:
            async with asyncio.timeout(self._timeout_s):
                status, answer = _status_and_body(await self._exchange(method, path, body, content_type), what)
        except TimeoutError as error:
            raise TimeoutError(
                f"{what}: no whole answer within {self._timeout_s:g} s; see the orderer's log"
            ) from error
        content: Any = {}
        if status != _NO_CONTENT:
            try:
                content = json.loads(answer)
            except (ValueError, RecursionError) as error:
                raise ParticipationError(f"{what}: status {status}, and no JSON", status) from error
        if not isinstance(content, dict):
            raise ParticipationError(f"{what}: status {status}, and no JSON object", status)
        if status != expected:
            text = str(content.get("error", ""))[:1000]
            raise ParticipationError(f"{what}: status {status}: {text}", status)
        return content

    async def _exchange(self, method: str, path: str, body: bytes, content_type: str) -> bytes:
        # HTTP/1.0, so that the answer is what comes until the orderer hangs up, with no chunks in it.
        head = f"{method} {path} HTTP/1.0\r\nHost: {self._endpoint}\r\nContent-Length: {len(body)}\r\n"
        if content_type:
            head += f"Content-Type: {content_type}\r\n"
        reader, writer = await asyncio.open_connection(
            self._endpoint.host, self._endpoint.port, ssl=self._context, limit=_PIECE_BYTES
        )
        try:
            writer.write(f"{head}\r\n".encode() + body)
            await writer.drain()
            answer = bytearray()
            while piece := await reader.read(_PIECE_BYTES):
                answer += piece
                if len(answer) > _MAX_ANSWER_BYTES:
                    raise ParticipationError(f"{method} {path}: the answer is longer than {_MAX_ANSWER_BYTES} bytes")
            return bytes(answer)
        finally:
            writer.transport.abort()  # a farewell would be waited for
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def _status_and_body(answer: bytes, what: str) -> tuple[int, bytes]:
    head, end, body = answer.partition(b"\r\n\r\n")
    line = _STATUS_LINE.match(head + b"\r")
    if not end or line is None:
        raise ParticipationError(f"{what}: no HTTP answer: {answer[:60]!r}")
    return int(line[1]), body


def _channel_info(answer: dict[str, Any]) -> ChannelInfo:
    fields = (answer.get("name"), answer.get("consensusRelation"), answer.get("status"), answer.get("height"))
    name, relation, status, height = fields
    if not (
        isinstance(name, str) and isinstance(relation, str) and isinstance(status, str) and isinstance(height, int)
    ):
        raise ParticipationError("the orderer's channel information can't be read")
    return ChannelInfo(name, relation, status, height)
