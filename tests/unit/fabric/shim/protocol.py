"""Messages as a peer sends them."""

from fabric_protos.common import common_pb2
from fabric_protos.msp import identities_pb2
from fabric_protos.peer import chaincode_pb2, chaincode_shim_pb2, proposal_pb2, proposal_response_pb2

Message = chaincode_shim_pb2.ChaincodeMessage

REGISTERED = Message(type=Message.REGISTERED)
KEEPALIVE = Message(type=Message.KEEPALIVE)


def ready(write_batch: int = 0, multiple_keys: int = 0) -> Message:
    parameters = chaincode_pb2.ChaincodeAdditionalParams(
        use_write_batch=write_batch > 0,
        max_size_write_batch=write_batch,
        use_get_multiple_keys=multiple_keys > 0,
        max_size_get_multiple_keys=multiple_keys,
    )
    return Message(type=Message.READY, payload=parameters.SerializeToString())


def signed_proposal(
    creator: bytes | None = None, seconds: int = 0, nanos: int = 0, transient: dict[str, bytes] | None = None
) -> proposal_pb2.SignedProposal:
    if creator is None:
        creator = identities_pb2.SerializedIdentity(mspid="Org1MSP", id_bytes=b"certificate").SerializeToString()
    channel_header = common_pb2.ChannelHeader(type=common_pb2.ENDORSER_TRANSACTION)
    channel_header.timestamp.seconds = seconds
    channel_header.timestamp.nanos = nanos
    header = common_pb2.Header(
        channel_header=channel_header.SerializeToString(),
        signature_header=common_pb2.SignatureHeader(creator=creator).SerializeToString(),
    )
    payload = proposal_pb2.ChaincodeProposalPayload(TransientMap=transient or {})
    proposal = proposal_pb2.Proposal(header=header.SerializeToString(), payload=payload.SerializeToString())
    return proposal_pb2.SignedProposal(proposal_bytes=proposal.SerializeToString(), signature=b"signature")


def transaction(
    tx_id: str = "t1",
    *args: bytes,
    channel: str = "ch1",
    proposal: proposal_pb2.SignedProposal | None = None,
    init: bool = False,
) -> Message:
    return Message(
        type=Message.INIT if init else Message.TRANSACTION,
        txid=tx_id,
        channel_id=channel,
        payload=chaincode_pb2.ChaincodeInput(args=args).SerializeToString(),
        proposal=proposal or signed_proposal(),
    )


def answer(tx_id: str = "t1", payload: bytes = b"", channel: str = "ch1") -> Message:
    return Message(type=Message.RESPONSE, txid=tx_id, channel_id=channel, payload=payload)


def error(tx_id: str = "t1", text: bytes = b"no", channel: str = "ch1") -> Message:
    return Message(type=Message.ERROR, txid=tx_id, channel_id=channel, payload=text)


def response_of(message: Message) -> proposal_response_pb2.Response:
    assert message.type == Message.COMPLETED, message
    return proposal_response_pb2.Response.FromString(message.payload)
