"""A prepared transaction: an endorsed proposal, to be signed by its creator and sent to the ordering service."""

import hashlib
from typing import TypeAlias

from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2
from fabric_protos.peer import proposal_pb2, proposal_response_pb2, transaction_pb2

from .calls import Calls
from .commit import Commit
from .errors import ForeignTransactionError, MalformedError, SubmitError
from .messages import opened, transaction_headers
from .statuses import Ended, Statuses

__all__ = ["Transaction"]

_Bytes: TypeAlias = bytes  # the class has a property of that name


class Transaction:
    """An endorsed transaction.

    It signs itself when it is sent, if the gateway can sign; otherwise sign `message` (or `digest`) elsewhere, after
    `check`, and go on with `Gateway.signed_transaction(transaction.bytes, signature)`.

    Attributes:
        channel_name: of the channel.
        result: what the contract returned.
    """

    def __init__(
        self, calls: Calls, prepared: gateway_pb2.PreparedTransaction, channel_name: str, result: _Bytes
    ) -> None:
        self._calls = calls
        self._prepared = prepared
        self.channel_name = channel_name
        self.result = result
        self._ended: Ended | None = None

    @classmethod
    def from_prepared(cls, calls: Calls, prepared: gateway_pb2.PreparedTransaction) -> "Transaction":
        """The transaction in a peer's answer.

        Raises:
            MalformedError: it is no endorser transaction of one action, or its id is not its creator's.
        """
        payload = opened(common_pb2.Payload, prepared.envelope.payload)
        channel, _ = transaction_headers(payload.header, prepared.transaction_id)
        action = opened(transaction_pb2.ChaincodeActionPayload, _only_action(payload.data).payload)
        response = opened(proposal_response_pb2.ProposalResponsePayload, action.action.proposal_response_payload)
        result = opened(proposal_pb2.ChaincodeAction, response.extension).response.payload
        return cls(calls, prepared, channel.channel_id, result)

    @classmethod
    def parse(cls, calls: Calls, data: _Bytes, signature: _Bytes = b"") -> "Transaction":
        """The transaction of `Transaction.bytes`, with a signature made elsewhere if one is given.

        Raises:
            MalformedError: the bytes are no prepared transaction.
        """
        prepared = opened(gateway_pb2.PreparedTransaction, data)
        transaction = cls.from_prepared(calls, prepared)
        if signature:
            prepared.envelope.signature = signature
        return transaction

    @property
    def bytes(self) -> _Bytes:
        """The whole (gateway.PreparedTransaction), with its signature if it has one."""
        return bytes(self._prepared.SerializeToString())

    @property
    def message(self) -> _Bytes:
        """What is to be signed."""
        return bytes(self._prepared.envelope.payload)

    @property
    def digest(self) -> _Bytes:
        """SHA-256 of what is to be signed."""
        return hashlib.sha256(self.message).digest()

    @property
    def transaction_id(self) -> str:
        """64 hexadecimal digits."""
        return str(self._prepared.transaction_id)

    def check(self, proposal_message: _Bytes) -> None:
        """Compare with what was proposed (`Proposal.message`), before signing what another prepared.

        Raises:
            ForeignTransactionError: the headers or the arguments are not those of the proposal, or the endorsers
                answered another proposal.
        """
        proposal = opened(proposal_pb2.Proposal, proposal_message)
        proposed_header = opened(common_pb2.Header, proposal.header)
        proposed = opened(proposal_pb2.ChaincodeProposalPayload, proposal.payload)
        payload = opened(common_pb2.Payload, self.message)
        only = _only_action(payload.data)
        action = opened(transaction_pb2.ChaincodeActionPayload, only.payload)
        ours = opened(proposal_pb2.ChaincodeProposalPayload, action.chaincode_proposal_payload)
        response = opened(proposal_response_pb2.ProposalResponsePayload, action.action.proposal_response_payload)
        if (
            payload.header.channel_header != proposed_header.channel_header
            or payload.header.signature_header != proposed_header.signature_header
            or only.header != proposed_header.signature_header
        ):
            raise ForeignTransactionError(f"transaction {self.transaction_id}: its headers are not the proposal's")
        if ours.input != proposed.input or ours.TransientMap:
            raise ForeignTransactionError(f"transaction {self.transaction_id}: its arguments are not the proposal's")
        if response.proposal_hash != _proposal_hash(proposed_header, ours):
            raise ForeignTransactionError(f"transaction {self.transaction_id}: endorsed was another proposal")

    def sign(self) -> None:
        """Sign with the gateway's signer, so that `bytes` can be stored before they are sent; a no-op once signed.

        Raises:
            UnsignedError: the gateway was connected without a signer.
        """
        if not self._prepared.envelope.signature:
            self._prepared.envelope.signature = self._calls.sign(self.message)

    def watch(self) -> None:
        """Have its end told by the stream of blocks, if there is one; to be called before it can have been sent."""
        self._ended = Statuses.of(self._calls, self.channel_name).watch(self.transaction_id)

    async def submit(self) -> Commit:
        """Send it to the ordering service; sending the same transaction again is safe.

        An ordering service that says that it has the transaction already has taken it.

        Raises:
            SubmitError: see there.
            UnsignedError: it is unsigned and the gateway can't sign.
        """
        self.sign()
        # Built first, so that nothing can fail once the transaction is on its way.
        commit = Commit.build(
            self._calls, self.channel_name, self.transaction_id, result=self.result, ended=self._ended
        )
        request = gateway_pb2.SubmitRequest(
            transaction_id=self.transaction_id,
            channel_id=self.channel_name,
            prepared_transaction=self._prepared.envelope,
        )
        try:
            await self._calls.submit(request)
        except SubmitError as error:
            if not error.already_ordered:
                raise
        return commit


def _only_action(data: _Bytes) -> transaction_pb2.TransactionAction:
    actions = opened(transaction_pb2.Transaction, data).actions
    if len(actions) != 1:
        raise MalformedError(f"a transaction has one action, this one {len(actions)}")
    return actions[0]


def _proposal_hash(header: common_pb2.Header, payload: proposal_pb2.ChaincodeProposalPayload) -> _Bytes:
    # protoutil.GetProposalHash1: both headers and the payload without transient data, one after the other.
    digest = hashlib.sha256(header.channel_header)
    digest.update(header.signature_header)
    digest.update(proposal_pb2.ChaincodeProposalPayload(input=payload.input).SerializeToString())
    return digest.digest()
