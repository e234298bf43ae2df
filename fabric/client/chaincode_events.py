"""Chaincode events: what the valid transactions of a chaincode announced, in the ledger's order."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeAlias

import grpc
from fabric_protos.gateway import gateway_pb2

from .block_events import FilteredBlockEventsRequest, height, seek
from .calls import Calls, busy_as_unavailable
from .checkpoints import CheckpointError, Position
from .errors import GatewayError, UnsignedError
from .events import Events
from .messages import opened
from .signed_requests import SignedRequest

__all__ = ["ChaincodeEvent", "ChaincodeEventsRequest"]

_Bytes: TypeAlias = bytes  # the class has a property of that name


@dataclass(frozen=True)
class ChaincodeEvent:
    """What one valid transaction announced; a transaction has at most one event."""

    block_number: int
    transaction_id: str
    chaincode_name: str
    event_name: str
    payload: bytes


class ChaincodeEventsRequest(SignedRequest[gateway_pb2.SignedChaincodeEventsRequest]):
    """The question for a chaincode's events. It may be signed elsewhere, as a proposal may."""

    def __init__(self, calls: Calls, signed: gateway_pb2.SignedChaincodeEventsRequest) -> None:
        super().__init__(signed)
        self._calls = calls

    @classmethod
    def build(
        cls, calls: Calls, channel_name: str, chaincode_name: str, start: Position | None
    ) -> "ChaincodeEventsRequest":
        """The unsigned question; `start=None` is the next block to be committed."""
        request = gateway_pb2.ChaincodeEventsRequest(
            channel_id=channel_name,
            chaincode_id=chaincode_name,
            identity=calls.identity.serialized(),
            start_position=seek(start),
            after_transaction_id=start.transaction_id if start else "",
        )
        return cls(calls, gateway_pb2.SignedChaincodeEventsRequest(request=request.SerializeToString()))

    @classmethod
    def parse(cls, calls: Calls, data: _Bytes, signature: _Bytes = b"") -> "ChaincodeEventsRequest":
        """The request of `ChaincodeEventsRequest.bytes`, with a signature made elsewhere if one is given.

        Raises:
            MalformedError: the bytes are no such request.
        """
        signed = opened(gateway_pb2.SignedChaincodeEventsRequest, data)
        opened(gateway_pb2.ChaincodeEventsRequest, signed.request)
        if signature:
            signed.signature = signature
        return cls(calls, signed)

    def events(self, *, reconnect: bool = False) -> Events[ChaincodeEvent]:
        """The events. `reconnect`: go on by itself where the stream broke off, when the peer is back.

        Raises:
            UnsignedError: it is to reconnect, and the gateway was connected without a signer.
        """
        if reconnect and not self._calls.can_sign:
            raise UnsignedError("a stream that reconnects signs anew, and the gateway was connected without a signer")
        return Events(self, reconnect=reconnect)

    async def stream(self) -> AsyncGenerator[tuple[ChaincodeEvent, Position], None]:
        """Events, each with the position behind it.

        Raises:
            GatewayError: the peer refused or ended the stream.
            CheckpointError: it is to go on after a transaction that is not in its block.
        """
        if not self._signed.signature:
            self._signed.signature = self._calls.sign(self.message)
        if self._calls.can_sign:
            await self._check_start()
        # The peer counts the stream among its calls for as long as it lasts.
        async with self._calls.slots.take(continues=True):
            call = self._calls.gateway.ChaincodeEvents(self._signed, timeout=self._calls.deadlines.events)
            try:
                async for reply in call:
                    for event in reply.events:
                        yield (
                            ChaincodeEvent(
                                reply.block_number, event.tx_id, event.chaincode_id, event.event_name, event.payload
                            ),
                            Position(reply.block_number, event.tx_id),
                        )
            except grpc.aio.AioRpcError as error:
                raise busy_as_unavailable(error) from error
            finally:
                call.cancel()
        raise GatewayError("", grpc.StatusCode.UNAVAILABLE, "the peer ended the stream of events")

    def at(self, position: Position) -> "ChaincodeEventsRequest":
        """The same request from another position on, unsigned."""
        request = opened(gateway_pb2.ChaincodeEventsRequest, self.message)
        return ChaincodeEventsRequest.build(self._calls, request.channel_id, request.chaincode_id, position)

    async def _check_start(self) -> None:
        # After a transaction that the channel does not have, the peer would be silent for ever.
        request = opened(gateway_pb2.ChaincodeEventsRequest, self.message)
        number, transaction_id = request.start_position.specified.number, request.after_transaction_id
        if not transaction_id or number >= await height(self._calls, request.channel_id):
            return
        blocks = FilteredBlockEventsRequest.build(self._calls, request.channel_id, Position(number), number)
        async with aclosing(blocks.stream()) as stream:
            async for block, _ in stream:
                if any(transaction.txid == transaction_id for transaction in block.filtered_transactions):
                    return
        raise CheckpointError(
            f"block {number} of channel {request.channel_id} has no transaction {transaction_id}: the checkpoint is of "
            "another network; remove it to begin anew"
        )

    async def pinned(self) -> "ChaincodeEventsRequest":
        """The same request with a number for its beginning, should that be the next block."""
        request = opened(gateway_pb2.ChaincodeEventsRequest, self.message)
        if request.start_position.HasField("specified"):
            return self
        return self.at(Position(await height(self._calls, request.channel_id)))
