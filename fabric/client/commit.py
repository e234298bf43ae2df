"""A commit: asking the peer how a submitted transaction ended."""

import asyncio
from dataclasses import dataclass
from typing import TypeAlias

from fabric_protos.gateway import gateway_pb2

from .calls import Calls
from .messages import opened
from .signed_requests import SignedRequest
from .statuses import Ended, Statuses
from .validation_codes import ValidationCode

__all__ = ["Commit", "Status"]

_Bytes: TypeAlias = bytes  # the class has a property of that name


@dataclass(frozen=True)
class Status:
    """How a transaction ended: its validation code and the number of its block, counted from 0."""

    code: ValidationCode
    block_number: int
    transaction_id: str

    @property
    def successful(self) -> bool:
        """Whether the transaction was valid, so that its writes hold."""
        return self.code is ValidationCode.VALID


class Commit(SignedRequest[gateway_pb2.SignedCommitStatusRequest]):
    """The question how a transaction ended. It may be asked again, by anybody with an identity of the channel.

    Attributes:
        transaction_id: of the transaction.
        result: what the contract returned; holds only if the transaction was valid. b"" where it is not known.
    """

    def __init__(
        self,
        calls: Calls,
        signed: gateway_pb2.SignedCommitStatusRequest,
        channel_name: str,
        transaction_id: str,
        *,
        result: _Bytes = b"",
        ended: Ended | None = None,
    ) -> None:
        super().__init__(signed)
        self._calls = calls
        self._statuses = Statuses.of(calls, channel_name)
        self._ended = ended
        self.transaction_id = transaction_id
        self.result = result

    @classmethod
    def build(
        cls, calls: Calls, channel_name: str, transaction_id: str, *, result: _Bytes = b"", ended: Ended | None = None
    ) -> "Commit":
        """The unsigned question, for a transaction of any client; `ended` if it was watched before it was sent."""
        request = gateway_pb2.CommitStatusRequest(
            channel_id=channel_name, transaction_id=transaction_id, identity=calls.identity.serialized()
        )
        signed = gateway_pb2.SignedCommitStatusRequest(request=request.SerializeToString())
        return cls(calls, signed, channel_name, transaction_id, result=result, ended=ended)

    @classmethod
    def parse(cls, calls: Calls, data: _Bytes, signature: _Bytes = b"") -> "Commit":
        """The commit of `Commit.bytes`, with a signature made elsewhere if one is given.

        Raises:
            MalformedError: the bytes are no commit status request.
        """
        signed = opened(gateway_pb2.SignedCommitStatusRequest, data)
        request = opened(gateway_pb2.CommitStatusRequest, signed.request)
        if signature:
            signed.signature = signature
        return cls(calls, signed, request.channel_id, request.transaction_id)

    async def status(self) -> Status:
        """Wait until the transaction is in a block and return how it ended.

        Raises:
            CommitStatusError: it could not be learnt in time.
            UnsignedError: it is unsigned and the gateway can't sign.
        """
        clock = asyncio.get_running_loop().time
        begun = clock()
        reply = None
        if self._ended is not None:
            reply = await self._statuses.told(self._ended)
        if reply is None:
            self._ended = None
            if not self._signed.signature:
                self._signed.signature = self._calls.sign(self.message)
            with self._statuses.asking():
                reply = await self._calls.commit_status(self._signed, self.transaction_id, clock() - begun)
        return Status(ValidationCode(reply.result), reply.block_number, self.transaction_id)
