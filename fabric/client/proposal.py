"""A proposal: what a client asks of a chaincode, to be evaluated by one peer or endorsed as the policy asks."""

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2
from fabric_protos.peer import chaincode_pb2, proposal_pb2

from ..identity import Identity
from .calls import Calls
from .messages import opened, proposal_arguments, transaction_headers
from .transaction import Transaction

__all__ = ["Proposal", "endorse", "evaluate"]

_Bytes: TypeAlias = bytes  # the class has a property of that name
_NONCE_BYTES: Final = 24


class Proposal:
    """A proposed transaction.

    It signs itself when it is used, if the gateway can sign; otherwise sign `message` (or `digest`) elsewhere and go
    on with `Gateway.signed_proposal(proposal.bytes, signature)`.

    Attributes:
        channel_name, chaincode_name: where it is to run.
        arguments: the transaction's qualified name first.
        creator: whose proposal it is.
    """

    def __init__(
        self,
        calls: Calls,
        proposed: gateway_pb2.ProposedTransaction,
        *,
        channel_name: str,
        chaincode_name: str,
        arguments: tuple[_Bytes, ...],
        creator: _Bytes,
    ) -> None:
        self._calls = calls
        self._proposed = proposed
        self._creator = creator
        self.channel_name = channel_name
        self.chaincode_name = chaincode_name
        self.arguments = arguments

    @classmethod
    def build(
        cls,
        calls: Calls,
        channel_name: str,
        chaincode_name: str,
        arguments: tuple[_Bytes, ...],
        *,
        transient: Mapping[str, _Bytes],
        endorsing_organizations: Sequence[str],
    ) -> "Proposal":
        """A new proposal with a transaction id of its own."""
        creator = calls.identity.serialized()
        nonce = os.urandom(_NONCE_BYTES)
        transaction_id = hashlib.sha256(nonce + creator).hexdigest()
        chaincode = chaincode_pb2.ChaincodeID(name=chaincode_name)
        channel_header = common_pb2.ChannelHeader(
            type=common_pb2.ENDORSER_TRANSACTION,
            channel_id=channel_name,
            tx_id=transaction_id,
            extension=proposal_pb2.ChaincodeHeaderExtension(chaincode_id=chaincode).SerializeToString(),
        )
        channel_header.timestamp.seconds, channel_header.timestamp.nanos = divmod(time.time_ns(), 1_000_000_000)
        header = common_pb2.Header(
            channel_header=channel_header.SerializeToString(),
            signature_header=common_pb2.SignatureHeader(creator=creator, nonce=nonce).SerializeToString(),
        )
        invocation = chaincode_pb2.ChaincodeInvocationSpec(
            chaincode_spec=chaincode_pb2.ChaincodeSpec(
                chaincode_id=chaincode, input=chaincode_pb2.ChaincodeInput(args=arguments)
            )
        )
        payload = proposal_pb2.ChaincodeProposalPayload(input=invocation.SerializeToString(), TransientMap=transient)
        proposal = proposal_pb2.Proposal(header=header.SerializeToString(), payload=payload.SerializeToString())
        proposed = gateway_pb2.ProposedTransaction(
            transaction_id=transaction_id,
            proposal=proposal_pb2.SignedProposal(proposal_bytes=proposal.SerializeToString()),
            endorsing_organizations=endorsing_organizations,
        )
        return cls(
            calls,
            proposed,
            channel_name=channel_name,
            chaincode_name=chaincode_name,
            arguments=arguments,
            creator=creator,
        )

    @classmethod
    def parse(cls, calls: Calls, data: _Bytes, signature: _Bytes = b"") -> "Proposal":
        """The proposal of `Proposal.bytes`, with a signature made elsewhere if one is given.

        Raises:
            MalformedError: the bytes are no proposal, or its transaction id is not that of its creator and nonce.
        """
        proposed = opened(gateway_pb2.ProposedTransaction, data)
        proposal = opened(proposal_pb2.Proposal, proposed.proposal.proposal_bytes)
        channel, signer = transaction_headers(opened(common_pb2.Header, proposal.header), proposed.transaction_id)
        chaincode_name, arguments = proposal_arguments(opened(proposal_pb2.ChaincodeProposalPayload, proposal.payload))
        if signature:
            proposed.proposal.signature = signature
        return cls(
            calls,
            proposed,
            channel_name=channel.channel_id,
            chaincode_name=chaincode_name,
            arguments=arguments,
            creator=signer.creator,
        )

    @property
    def bytes(self) -> _Bytes:
        """The whole (gateway.ProposedTransaction), with its signature if it has one."""
        return bytes(self._proposed.SerializeToString())

    @property
    def message(self) -> _Bytes:
        """What is to be signed."""
        return bytes(self._proposed.proposal.proposal_bytes)

    @property
    def digest(self) -> _Bytes:
        """SHA-256 of what is to be signed."""
        return hashlib.sha256(self.message).digest()

    @property
    def transaction_id(self) -> str:
        """64 hexadecimal digits."""
        return str(self._proposed.transaction_id)

    @property
    def creator(self) -> Identity:
        """Whose proposal it is."""
        return Identity.parse(self._creator)

    def sign(self) -> None:
        """Sign with the gateway's signer; a no-op once signed.

        Raises:
            UnsignedError: the gateway was connected without a signer.
        """
        if not self._proposed.proposal.signature:
            self._proposed.proposal.signature = self._calls.sign(self.message)

    async def evaluate(self) -> _Bytes:
        """Run it on one peer and return the result; nothing is written.

        Raises:
            GatewayError: the peer could not, or the contract refused (`refusal`).
            UnsignedError: it is unsigned and the gateway can't sign.
        """
        self.sign()
        return await evaluate(self._calls, lambda: self)

    async def endorse(self) -> Transaction:
        """Have it endorsed as the policy asks, or by the endorsing organisations that it names.

        Raises:
            EndorseError: the endorsements could not be had, or the contract refused (`refusal`).
            UnsignedError: it is unsigned and the gateway can't sign.
            MalformedError: the peer's answer is no transaction.
            ForeignTransactionError: the peer's answer is not the transaction of this proposal.
        """
        self.sign()
        return await endorse(self._calls, lambda: self)

    def _evaluate_request(self) -> gateway_pb2.EvaluateRequest:
        self.sign()
        return gateway_pb2.EvaluateRequest(
            transaction_id=self.transaction_id,
            channel_id=self.channel_name,
            proposed_transaction=self._proposed.proposal,
            target_organizations=self._proposed.endorsing_organizations,
        )

    def _endorse_request(self) -> gateway_pb2.EndorseRequest:
        self.sign()
        return gateway_pb2.EndorseRequest(
            transaction_id=self.transaction_id,
            channel_id=self.channel_name,
            proposed_transaction=self._proposed.proposal,
            endorsing_organizations=self._proposed.endorsing_organizations,
        )

    def _endorsed(self, envelope: common_pb2.Envelope) -> Transaction:
        prepared = gateway_pb2.PreparedTransaction(transaction_id=self.transaction_id, envelope=envelope)
        transaction = Transaction.from_prepared(self._calls, prepared)
        transaction.check(self.message)
        transaction.watch()
        return transaction


async def evaluate(calls: Calls, propose: Callable[[], Proposal]) -> bytes:
    """Evaluate what `propose` makes when its turn has come; errors as `Proposal.evaluate`."""
    reply = await calls.evaluate(lambda: propose()._evaluate_request())  # noqa: SLF001
    return bytes(reply.result.payload)


async def endorse(calls: Calls, propose: Callable[[], Proposal]) -> Transaction:
    """Have endorsed what `propose` makes when its turn has come; errors as `Proposal.endorse`."""
    proposed: list[Proposal] = []

    def make() -> gateway_pb2.EndorseRequest:
        proposed[:] = [propose()]
        return proposed[0]._endorse_request()  # noqa: SLF001

    reply = await calls.endorse(make)
    return proposed[0]._endorsed(reply.prepared_transaction)  # noqa: SLF001
