"""What can go wrong between a proposal and its commit, an error for each step.

    ClientError
    ├── GatewayError               the peer's Gateway service refused or did not answer a call
    │   ├── EndorseError           nothing was sent to the ordering service
    │   ├── SubmitError            the ordering service may or may not have taken the transaction
    │   └── CommitStatusError      the transaction was submitted; how it ended is not known
    ├── CommitError                it is known how it ended: the transaction is in a block, and invalid
    ├── ForeignTransactionError    a prepared transaction is not what its proposal asked for
    ├── MalformedError             bytes that should be a proposal, a transaction … are not
    └── UnsignedError              something is to be sent that nobody has signed

A known bad outcome (CommitError) is thus never taken for an unknown one (CommitStatusError).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import grpc
from fabric_protos.gateway import gateway_pb2
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from .validation_codes import ValidationCode

__all__ = [
    "ClientError",
    "CommitError",
    "CommitStatusError",
    "EndorseError",
    "ForeignTransactionError",
    "GatewayError",
    "MalformedError",
    "PeerDetail",
    "Refusal",
    "SubmitError",
    "UnsignedError",
]

_DETAILS_KEY: Final = "grpc-status-details-bin"
# A peer asks each endorser and orderer of a channel at most a few times; a longer list is not one of Fabric's.
_MOST_DETAILS: Final = 1000
_ORDERED: Final = re.compile(r"request already (processed|exists)")
_CHAINCODE_RESPONSE: Final = re.compile(r"chaincode response (\d{3}), (.*)", re.DOTALL)


class ClientError(Exception):
    """The root of this package's errors."""


@dataclass(frozen=True)
class Refusal:
    """What a contract answered instead of a result: its status (400 to 599) and its message."""

    status: int
    message: str


@dataclass(frozen=True)
class PeerDetail:
    """What one peer or orderer said: its address (host:port), its MSP id and the message."""

    address: str
    msp_id: str
    message: str

    @property
    def refusal(self) -> Refusal | None:
        """The contract's own answer in the message, if it was the contract that refused."""
        found = _CHAINCODE_RESPONSE.fullmatch(self.message)
        return Refusal(int(found[1]), found[2]) if found else None


class GatewayError(ClientError):
    """A call to the peer's Gateway service failed.

    Attributes:
        transaction_id: of the transaction concerned, "" for events.
        code: the call's gRPC status.
        message: the call's message.
        details: what each peer or orderer said that the Gateway service asked.
    """

    step = "gateway"

    def __init__(
        self, transaction_id: str, code: grpc.StatusCode, message: str, details: Sequence[PeerDetail] = ()
    ) -> None:
        self.transaction_id = transaction_id
        self.code = code
        self.message = message
        self.details = tuple(details)
        lines = [f"{self.step} error: {code.name}: {message}"]
        if transaction_id:
            lines[0] += f" (transaction {transaction_id})"
        lines += [f"  {detail.msp_id} {detail.address}: {detail.message}" for detail in self.details]
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.transaction_id, self.code, self.message, self.details)

    @property
    def refusal(self) -> Refusal | None:
        """The contract's answer, if a contract's refusal was among the causes (the first, in the peer's order)."""
        return next((detail.refusal for detail in self.details if detail.refusal), None)

    @classmethod
    def from_rpc(
        cls, transaction_id: str, error: grpc.aio.AioRpcError, *, deadline_over: bool = False
    ) -> "GatewayError":
        """The error of this step for a failed call. A call that the peer cancelled at its deadline exceeded that."""
        code = error.code()
        if deadline_over and code is grpc.StatusCode.CANCELLED:
            code = grpc.StatusCode.DEADLINE_EXCEEDED
        return cls(transaction_id, code, error.details() or "", _details(error))


class EndorseError(GatewayError):
    """The proposal was not endorsed as the policy asks. Nothing was sent to the ordering service."""

    step = "endorse"


class SubmitError(GatewayError):
    """The ordering service refused the transaction, or its answer was lost.

    Except for ABORTED (an orderer said no), the transaction may still commit: the same bytes may be sent again,
    since a transaction id commits at most once.
    """

    step = "submit"

    @property
    def already_ordered(self) -> bool:
        """Whether each node that was heard says that it has the transaction already.

        BFT orderers pass a transaction on to each other. One that hears of it from the peer only after it was ordered
        refuses it, and enough of those refusals make the peer's Gateway service call a success UNAVAILABLE.
        """
        return bool(self.details) and all(_ORDERED.search(detail.message) for detail in self.details)


class CommitStatusError(GatewayError):
    """The transaction was submitted, but how it ended could not be learnt. Ask again by its transaction id."""

    step = "commit status"


class CommitError(ClientError):
    """The transaction is in a block and was found invalid: it has changed nothing.

    Attributes:
        code: why.
        transaction_id: of the transaction.
        block_number: of the block it is in, counted from 0.
    """

    def __init__(self, code: ValidationCode, transaction_id: str, block_number: int = 0) -> None:
        self.code = code
        self.transaction_id = transaction_id
        self.block_number = block_number
        super().__init__(
            f"transaction {transaction_id} is invalid in block {block_number}: {code.name} ({int(code)})",
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.code, self.transaction_id, self.block_number)


class ForeignTransactionError(ClientError):
    """A prepared transaction is not what its proposal asked for: another's header, other arguments."""


class MalformedError(ClientError, ValueError):
    """Bytes are not the message that they should be."""


class UnsignedError(ClientError):
    """Nobody has signed what is to be sent, and the gateway was connected without a signer."""


def _details(error: grpc.aio.AioRpcError) -> list[PeerDetail]:
    # gRPC's own stubs call the metadata a tuple of pairs in one place and a pair in another.
    metadata: Iterable[tuple[str, str | bytes]] = error.trailing_metadata() or ()  # type: ignore[assignment]
    for key, value in metadata:
        if key == _DETAILS_KEY and isinstance(value, bytes):
            return _parse_details(value)
    return []


def _parse_details(value: bytes) -> list[PeerDetail]:
    try:
        status = status_pb2.Status.FromString(value)
        found = []
        for entry in status.details[:_MOST_DETAILS]:
            detail = gateway_pb2.ErrorDetail()
            if entry.Is(detail.DESCRIPTOR):
                entry.Unpack(detail)
                found.append(PeerDetail(detail.address, detail.msp_id, detail.message))
    except DecodeError:
        # The call has failed all the same; its code and message stand without the peers' own words.
        return []
    return found
