"""Block events: a channel's blocks from the peer's deliver service, whole, filtered or with private data."""

import hashlib
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, ClassVar, Final, Generic, Self, TypeAlias, TypeVar

import grpc
from fabric_protos.common import common_pb2
from fabric_protos.orderer import ab_pb2
from fabric_protos.peer import events_pb2

from .calls import Calls, busy_as_unavailable
from .checkpoints import Position
from .errors import GatewayError, UnsignedError
from .events import Events
from .messages import opened

__all__ = [
    "BlockAndPrivateDataEventsRequest",
    "BlockEventsRequest",
    "FilteredBlockEventsRequest",
    "height",
    "seek",
]

_Bytes: TypeAlias = bytes  # the classes have a property of that name
_Block = TypeVar("_Block")

_LAST: Final = 2**64 - 1
# How a deliver stream says why it ends, in gRPC's terms.
_ENDINGS: Final = {
    common_pb2.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    common_pb2.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    common_pb2.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    common_pb2.REQUEST_ENTITY_TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    common_pb2.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
}


class _DeliverRequest(Generic[_Block]):
    """The question for a channel's blocks. It may be signed elsewhere, as a proposal may."""

    _method: ClassVar[str]
    _field: ClassVar[str]

    def __init__(self, calls: Calls, envelope: common_pb2.Envelope) -> None:
        self._calls = calls
        self._envelope = envelope

    @classmethod
    def build(cls, calls: Calls, channel_name: str, start: Position | None, stop_block: int | None = None) -> Self:
        """The unsigned question; `start=None` is the next block to be committed, `stop_block=None` never stops."""
        return cls._seeking(calls, channel_name, seek(start), _number(_LAST if stop_block is None else stop_block))

    @classmethod
    def from_newest(cls, calls: Calls, channel_name: str) -> Self:
        """The unsigned question for the newest block that the peer has, and all that come after it."""
        return cls._seeking(calls, channel_name, ab_pb2.SeekPosition(newest=ab_pb2.SeekNewest()), _number(_LAST))

    @classmethod
    def _seeking(cls, calls: Calls, channel_name: str, start: ab_pb2.SeekPosition, stop: ab_pb2.SeekPosition) -> Self:
        channel_header = common_pb2.ChannelHeader(
            type=common_pb2.DELIVER_SEEK_INFO, channel_id=channel_name, tls_cert_hash=calls.tls_certificate_hash
        )
        channel_header.timestamp.seconds, channel_header.timestamp.nanos = divmod(time.time_ns(), 1_000_000_000)
        payload = common_pb2.Payload(
            header=common_pb2.Header(
                channel_header=channel_header.SerializeToString(),
                signature_header=common_pb2.SignatureHeader(creator=calls.identity.serialized()).SerializeToString(),
            ),
            data=ab_pb2.SeekInfo(start=start, stop=stop).SerializeToString(),
        )
        return cls(calls, common_pb2.Envelope(payload=payload.SerializeToString()))

    @classmethod
    def parse(cls, calls: Calls, data: _Bytes, signature: _Bytes = b"") -> Self:
        """The request of `bytes`, with a signature made elsewhere if one is given.

        Raises:
            MalformedError: the bytes are no such request.
        """
        envelope = opened(common_pb2.Envelope, data)
        request = cls(calls, envelope)
        request._opened()
        if signature:
            envelope.signature = signature
        return request

    @property
    def bytes(self) -> _Bytes:
        """The whole (common.Envelope), with its signature if it has one."""
        return bytes(self._envelope.SerializeToString())

    @property
    def message(self) -> _Bytes:
        """What is to be signed."""
        return bytes(self._envelope.payload)

    @property
    def digest(self) -> _Bytes:
        """SHA-256 of what is to be signed."""
        return hashlib.sha256(self.message).digest()

    def events(self, *, reconnect: bool = False) -> Events[_Block]:
        """The blocks. `reconnect`: go on by itself where the stream broke off, when the peer is back.

        Raises:
            UnsignedError: it is to reconnect, and the gateway was connected without a signer.
        """
        if reconnect and not self._calls.can_sign:
            raise UnsignedError("a stream that reconnects signs anew, and the gateway was connected without a signer")
        return Events(self, reconnect=reconnect)

    async def stream(self) -> AsyncGenerator[tuple[_Block, Position], None]:
        """Blocks, each with the position behind it; ends behind the stop, raises GatewayError if it ends before."""
        envelope = self._envelope if self._envelope.signature else self._signed_now()
        call = getattr(self._calls.deliver, self._method)(timeout=self._calls.deadlines.events)
        try:
            await call.write(envelope)
            await call.done_writing()
            async for reply in call:
                if reply.WhichOneof("Type") != self._field:
                    if reply.status == common_pb2.SUCCESS:
                        return
                    name = common_pb2.Status.Name(reply.status) if reply.status in _ENDINGS else str(reply.status)
                    raise GatewayError(
                        "",
                        _ENDINGS.get(reply.status, grpc.StatusCode.UNKNOWN),
                        f"the peer ended the stream of blocks: {name}",
                    )
                block = getattr(reply, self._field)
                yield block, Position(self._block_number(block) + 1)
        except grpc.aio.AioRpcError as error:
            raise busy_as_unavailable(error) from error
        finally:
            call.cancel()
        raise GatewayError("", grpc.StatusCode.UNAVAILABLE, "the peer ended the stream of blocks")

    def at(self, position: Position) -> Self:
        """The same request from another block on, unsigned."""
        channel_name, info = self._opened()
        return self._seeking(self._calls, channel_name, seek(position), info.stop)

    async def pinned(self) -> Self:
        """The same request with a number for its beginning, should that be the next block."""
        channel_name, info = self._opened()
        if info.start.HasField("specified"):
            return self
        return self.at(Position(await height(self._calls, channel_name)))

    def _signed_now(self) -> common_pb2.Envelope:
        # Stamped anew: peers refuse a request that is older than their time window, as one kept for long would be.
        channel_name, info = self._opened()
        message = self._seeking(self._calls, channel_name, info.start, info.stop).message
        return common_pb2.Envelope(payload=message, signature=self._calls.sign(message))

    def _opened(self) -> tuple[str, ab_pb2.SeekInfo]:
        payload = opened(common_pb2.Payload, self.message)
        header = opened(common_pb2.ChannelHeader, payload.header.channel_header)
        return header.channel_id, opened(ab_pb2.SeekInfo, payload.data)

    @staticmethod
    def _block_number(block: Any) -> int:
        return int(block.header.number)


class BlockEventsRequest(_DeliverRequest[common_pb2.Block]):
    """The question for whole blocks (common.Block)."""

    _method = "Deliver"
    _field = "block"


class FilteredBlockEventsRequest(_DeliverRequest[events_pb2.FilteredBlock]):
    """The question for filtered blocks (peer.FilteredBlock): transaction ids, codes and events without payloads."""

    _method = "DeliverFiltered"
    _field = "filtered_block"

    @staticmethod
    def _block_number(block: Any) -> int:
        return int(block.number)


class BlockAndPrivateDataEventsRequest(_DeliverRequest[events_pb2.BlockAndPrivateData]):
    """The question for blocks with the private data that this organisation may see (peer.BlockAndPrivateData)."""

    _method = "DeliverWithPrivateData"
    _field = "block_and_private_data"

    @staticmethod
    def _block_number(block: Any) -> int:
        return int(block.block.header.number)


async def height(calls: Calls, channel_name: str) -> int:
    """The number of blocks that the peer has of a channel.

    Raises:
        GatewayError: the peer refused, or does not answer.
        UnsignedError: the gateway was connected without a signer.
    """
    newest = ab_pb2.SeekPosition(newest=ab_pb2.SeekNewest())
    request = FilteredBlockEventsRequest._seeking(calls, channel_name, newest, newest)  # noqa: SLF001
    async with aclosing(request.stream()) as stream:
        async for _, position in stream:
            return position.block_number
    raise GatewayError("", grpc.StatusCode.UNAVAILABLE, "the peer sent no block")


def seek(start: Position | None) -> ab_pb2.SeekPosition:
    """A position as the peer's services take it; None is the next block to be committed."""
    if start is None:
        return ab_pb2.SeekPosition(next_commit=ab_pb2.SeekNextCommit())
    return _number(start.block_number)


def _number(block_number: int) -> ab_pb2.SeekPosition:
    return ab_pb2.SeekPosition(specified=ab_pb2.SeekSpecified(number=block_number))
