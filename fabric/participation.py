"""An orderer's channel participation API: join it to a channel, ask how far it is, take it out again.

The same REST calls as Fabric's `osnadmin`, over mutual TLS, with answers that are bounded and checked.
Source: Fabric's `orderer/common/channelparticipation/restapi.go` and `orderer/common/types/channelinfo.go`.
"""

from __future__ import annotations

import asyncio
import http.client
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
    """The admin endpoint of one orderer. Each call is a connection of its own and ends within `timeout_s`.

    Every call raises ParticipationError where the orderer refuses, and OSError (ssl.SSLError, TimeoutError,
    ConnectionRefusedError) where it can't be reached.
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
        status, answer = await asyncio.to_thread(self._exchange, method, path, body, content_type)
        content: Any = {}
        if answer:
            try:
                content = json.loads(answer)
            except ValueError as error:
                raise ParticipationError(f"{method} {path}: status {status}, and no JSON", status) from error
        if not isinstance(content, dict):
            raise ParticipationError(f"{method} {path}: status {status}, and no JSON object", status)
        if status != expected:
            text = str(content.get("error", ""))[:1000]
            raise ParticipationError(f"{method} {path} at {self._endpoint}: status {status}: {text}", status)
        return content

    def _exchange(self, method: str, path: str, body: bytes, content_type: str) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(
            self._endpoint.host, self._endpoint.port, timeout=self._timeout_s, context=self._context
        )
        try:
            headers = {"Content-Type": content_type} if content_type else {}
            connection.request(method, path, body=body or None, headers=headers)
            response = connection.getresponse()
            answer = response.read(_MAX_ANSWER_BYTES + 1)
            if len(answer) > _MAX_ANSWER_BYTES:
                raise ParticipationError(f"{method} {path}: the answer is longer than {_MAX_ANSWER_BYTES} bytes")
        except http.client.HTTPException as error:
            raise ParticipationError(f"{method} {path} at {self._endpoint}: no HTTP answer: {error!r}") from error
        else:
            return response.status, answer
        finally:
            connection.close()


def _channel_info(answer: dict[str, Any]) -> ChannelInfo:
    fields = (answer.get("name"), answer.get("consensusRelation"), answer.get("status"), answer.get("height"))
    name, relation, status, height = fields
    if not (
        isinstance(name, str) and isinstance(relation, str) and isinstance(status, str) and isinstance(height, int)
    ):
        raise ParticipationError("the orderer's channel information can't be read")
    return ChannelInfo(name, relation, status, height)
