"""One call of a chaincode as the peer sends it, decoded from the client's signed proposal."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from fabric_protos.common import common_pb2
from fabric_protos.peer import chaincode_pb2, chaincode_shim_pb2, proposal_pb2
from google.protobuf.message import DecodeError

from .errors import ProtocolError, UsageError

if TYPE_CHECKING:
    from ..identity import Identity

__all__ = ["Invocation", "Response", "TransactionKey"]

TransactionKey = tuple[str, str]
"""Channel and transaction id: a transaction that calls into another channel runs in both under one id."""


@dataclass(frozen=True, slots=True)
class Response:
    """A chaincode's answer: endorsed when its status is below 400."""

    status: int = 200
    message: str = ""
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Invocation:
    """What a transaction is called with. Its repr leaves out arguments and transient data, which may be secret."""

    channel_id: str
    tx_id: str
    args: tuple[bytes, ...] = field(repr=False)
    creator_bytes: bytes = field(default=b"", repr=False)
    timestamp_ms: int = 0
    transient: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    decorations: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    is_init: bool = False
    signed_proposal: bytes = field(default=b"", repr=False)

    @property
    def key(self) -> TransactionKey:
        """What tells this transaction from the others on its stream."""
        return self.channel_id, self.tx_id

    @property
    def creator(self) -> "Identity":
        """Who signed the proposal.

        Raises:
            UsageError: the peer sent no proposal along, as in some calls of its own.
        """
        if not self.creator_bytes:
            raise UsageError("this invocation carries no proposal, so nobody has signed it")
        return _identity(self.creator_bytes)


def decode_invocation(message: chaincode_shim_pb2.ChaincodeMessage) -> Invocation:
    """The invocation in an INIT or TRANSACTION message.

    Raises:
        ProtocolError: the chaincode's input or one of the proposal's layers can't be decoded.
    """
    try:
        call = chaincode_pb2.ChaincodeInput.FromString(message.payload)
        is_init = message.type == chaincode_shim_pb2.ChaincodeMessage.INIT
        if not message.HasField("proposal"):
            return Invocation(
                message.channel_id,
                message.txid,
                tuple(call.args),
                decorations=MappingProxyType(dict(call.decorations)),
                is_init=is_init,
            )
        proposal = proposal_pb2.Proposal.FromString(message.proposal.proposal_bytes)
        header = common_pb2.Header.FromString(proposal.header)
        channel_header = common_pb2.ChannelHeader.FromString(header.channel_header)
        signature_header = common_pb2.SignatureHeader.FromString(header.signature_header)
        payload = proposal_pb2.ChaincodeProposalPayload.FromString(proposal.payload)
    except DecodeError as error:
        raise ProtocolError("the peer's invocation can't be decoded") from error
    if not signature_header.creator:
        raise ProtocolError("the proposal in the peer's invocation names no creator")
    timestamp = channel_header.timestamp
    return Invocation(
        channel_id=message.channel_id,
        tx_id=message.txid,
        args=tuple(call.args),
        creator_bytes=signature_header.creator,
        timestamp_ms=timestamp.seconds * 1000 + timestamp.nanos // 1_000_000,
        transient=MappingProxyType(dict(payload.TransientMap)),
        decorations=MappingProxyType(dict(call.decorations)),
        is_init=is_init,
        signed_proposal=message.proposal.SerializeToString(),
    )


@lru_cache(maxsize=1024)
def _identity(serialized: bytes) -> "Identity":
    # Imported at the first look at a creator: a contract that asks for none saves the memory of the X.509 parser.
    from ..identity import Identity  # noqa: PLC0415

    return Identity.parse(serialized)
