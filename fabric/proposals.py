"""Proposals straight to peers' endorsers, and the transaction that their endorsements make.

Applications go through the peer's Gateway service (`client`). What has no channel (install, join), or must not wait
until gossip has met (the first life-cycle transactions), asks the endorsers itself, as here.
Source: Fabric's `protoutil/proputils.go` and `protoutil/txutils.go`.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fabric_protos.common import common_pb2
from fabric_protos.peer import chaincode_pb2, proposal_pb2, transaction_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fabric_protos.peer import proposal_response_pb2

    from .identity import Identity, Signer

_NONCE_BYTES: Final = 24


class EndorsementsDifferError(Exception):
    """Peers endorsed different results, so that no transaction can be made of them."""


@dataclass(frozen=True)
class EndorserProposal:
    """A signed proposal, as `Endorser.ProcessProposal` takes it. `channel_name` is "" where there is no channel yet."""

    transaction_id: str
    channel_name: str
    signed: proposal_pb2.SignedProposal


def propose(
    identity: Identity,
    signer: Signer,
    chaincode: str,
    arguments: Sequence[bytes],
    *,
    channel_name: str = "",
    transient: Mapping[str, bytes] | None = None,
    created_ns: int | None = None,
    nonce: bytes | None = None,
) -> EndorserProposal:
    """Return a signed proposal; its transaction id is the SHA-256 of nonce and creator."""
    creator = identity.serialized()
    nonce = secrets.token_bytes(_NONCE_BYTES) if nonce is None else nonce
    transaction_id = hashlib.sha256(nonce + creator).hexdigest()
    name = chaincode_pb2.ChaincodeID(name=chaincode)
    channel_header = common_pb2.ChannelHeader(
        type=common_pb2.ENDORSER_TRANSACTION,
        channel_id=channel_name,
        tx_id=transaction_id,
        extension=proposal_pb2.ChaincodeHeaderExtension(chaincode_id=name).SerializeToString(),
    )
    channel_header.timestamp.FromNanoseconds(time.time_ns() if created_ns is None else created_ns)
    invocation = chaincode_pb2.ChaincodeInvocationSpec(
        chaincode_spec=chaincode_pb2.ChaincodeSpec(
            type=chaincode_pb2.ChaincodeSpec.GOLANG,
            chaincode_id=name,
            input=chaincode_pb2.ChaincodeInput(args=arguments),
        )
    )
    proposal = proposal_pb2.Proposal(
        header=common_pb2.Header(
            channel_header=channel_header.SerializeToString(),
            signature_header=common_pb2.SignatureHeader(creator=creator, nonce=nonce).SerializeToString(),
        ).SerializeToString(),
        payload=proposal_pb2.ChaincodeProposalPayload(
            input=invocation.SerializeToString(), TransientMap=transient or {}
        ).SerializeToString(),
    ).SerializeToString()
    signed = proposal_pb2.SignedProposal(proposal_bytes=proposal, signature=signer(proposal))
    return EndorserProposal(transaction_id, channel_name, signed)


def assemble(
    proposal: EndorserProposal, responses: Sequence[proposal_response_pb2.ProposalResponse], signer: Signer
) -> common_pb2.Envelope:
    """Return the signed transaction of a proposal and the endorsements that it got. Transient data stays outside.

    Raises:
        EndorsementsDifferError: there is no response, or two of them carry different results.
    """
    if not responses or any(response.payload != responses[0].payload for response in responses):
        raise EndorsementsDifferError(
            f"transaction {proposal.transaction_id}: {len(responses)} endorsements do not carry one result"
        )
    content = proposal_pb2.Proposal.FromString(proposal.signed.proposal_bytes)
    header = common_pb2.Header.FromString(content.header)
    payload = proposal_pb2.ChaincodeProposalPayload.FromString(content.payload)
    payload.TransientMap.clear()
    action = transaction_pb2.ChaincodeActionPayload(
        chaincode_proposal_payload=payload.SerializeToString(),
        action=transaction_pb2.ChaincodeEndorsedAction(
            proposal_response_payload=responses[0].payload,
            endorsements=[response.endorsement for response in responses],
        ),
    )
    transaction = transaction_pb2.Transaction(
        actions=[transaction_pb2.TransactionAction(header=header.signature_header, payload=action.SerializeToString())]
    )
    signed = common_pb2.Payload(header=header, data=transaction.SerializeToString()).SerializeToString()
    return common_pb2.Envelope(payload=signed, signature=signer(signed))
