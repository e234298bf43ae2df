"""Opening the nested messages of proposals and transactions, with errors that say which layer is broken."""

import hashlib
from typing import TypeVar

from fabric_protos.common import common_pb2
from fabric_protos.peer import chaincode_pb2, proposal_pb2
from google.protobuf.message import DecodeError, Message

from .errors import MalformedError

__all__ = ["MAXIMUM_BYTES", "opened", "proposal_arguments", "transaction_headers"]

MAXIMUM_BYTES = 100 * 1024 * 1024
"""Fabric's own bound on a message (peer and orderer take 100 MiB)."""

_M = TypeVar("_M", bound=Message)


def opened(kind: type[_M], data: bytes) -> _M:
    """A message from its bytes.

    Raises:
        MalformedError: the bytes are not such a message, or more than 100 MiB.
    """
    if len(data) > MAXIMUM_BYTES:
        raise MalformedError(f"{kind.DESCRIPTOR.full_name}: {len(data)} bytes, {MAXIMUM_BYTES} are the most")
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise MalformedError(f"these bytes are not a {kind.DESCRIPTOR.full_name}") from error
    return message


def transaction_headers(
    header: common_pb2.Header, transaction_id: str
) -> tuple[common_pb2.ChannelHeader, common_pb2.SignatureHeader]:
    """Both headers of a proposal or a transaction.

    Raises:
        MalformedError: the type is not an endorser transaction's, or the id is not the one that creator and nonce give.
    """
    channel = opened(common_pb2.ChannelHeader, header.channel_header)
    signature = opened(common_pb2.SignatureHeader, header.signature_header)
    if channel.type != common_pb2.ENDORSER_TRANSACTION:
        raise MalformedError(f"the channel header's type is {channel.type}, not that of an endorser transaction")
    computed = hashlib.sha256(signature.nonce + signature.creator).hexdigest()
    if not computed == channel.tx_id == transaction_id:
        raise MalformedError(f"transaction id {transaction_id!r} is not the one of its creator and nonce, {computed}")
    return channel, signature


def proposal_arguments(payload: proposal_pb2.ChaincodeProposalPayload) -> tuple[str, tuple[bytes, ...]]:
    """The chaincode's name and its arguments, the transaction's name first."""
    invocation = opened(chaincode_pb2.ChaincodeInvocationSpec, payload.input)
    return invocation.chaincode_spec.chaincode_id.name, tuple(invocation.chaincode_spec.input.args)
