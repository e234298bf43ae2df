"""A peer's discovery service: whose peers can endorse a chaincode now, as this peer sees the channel.

The peer's Gateway service plans endorsements by the same knowledge, which gossip brings; so a plan found here is one
that it will find too.
Source: fabric-protos `discovery/protocol.proto`; Fabric's `discovery/endorsement`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fabric_protos.discovery import protocol_pb2, protocol_pb2_grpc
from fabric_protos.peer import proposal_response_pb2

from .identity import Identity, InvalidIdentityError

if TYPE_CHECKING:
    import grpc

    from .identity import Signer

DEADLINE_S: Final = 5.0


class DiscoveryError(Exception):
    """The peer knows no set of live peers that satisfies the chaincode's policy, or refused to say."""


async def endorsing_organisations(
    channel: grpc.aio.Channel,
    channel_name: str,
    chaincode: str,
    identity: Identity,
    signer: Signer,
    *,
    deadline_s: float = DEADLINE_S,
) -> frozenset[str]:
    """The MSP ids that have a live peer in some set of peers that satisfies the chaincode's policy.

    Raises:
        DiscoveryError: there is no such set.
        grpc.aio.AioRpcError: the peer could not be asked.
    """
    call = proposal_response_pb2.ChaincodeCall(name=chaincode)
    interest = proposal_response_pb2.ChaincodeInterest(chaincodes=[call])
    query = protocol_pb2.Query(channel=channel_name, cc_query=protocol_pb2.ChaincodeQuery(interests=[interest]))
    payload = protocol_pb2.Request(
        authentication=protocol_pb2.AuthInfo(client_identity=identity.serialized()), queries=[query]
    ).SerializeToString()
    request = protocol_pb2.SignedRequest(payload=payload, signature=signer(payload))
    response = await protocol_pb2_grpc.DiscoveryStub(channel).Discover(request, timeout=deadline_s)
    if len(response.results) != 1:
        raise DiscoveryError(f"the peer answered one question with {len(response.results)} results")
    result = response.results[0]
    if result.WhichOneof("result") != "cc_query_res":
        raise DiscoveryError(result.error.content or "the peer answered another question")
    try:
        return frozenset(
            Identity.parse(peer.identity).msp_id
            for descriptor in result.cc_query_res.content
            for group in descriptor.endorsers_by_groups.values()
            for peer in group.peers
        )
    except InvalidIdentityError as error:
        raise DiscoveryError("the peer named an endorser whose identity can't be read") from error
