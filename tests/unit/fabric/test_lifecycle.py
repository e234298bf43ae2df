"""The life cycle's steps against a peer and an orderer of our own, over gRPC."""

import asyncio
import datetime
from typing import Any

import grpc
import pytest
from fabric_protos.common import common_pb2, ledger_pb2
from fabric_protos.gateway import gateway_pb2, gateway_pb2_grpc
from fabric_protos.orderer import ab_pb2, ab_pb2_grpc
from fabric_protos.peer import (
    chaincode_pb2,
    peer_pb2_grpc,
    policy_pb2,
    proposal_pb2,
    proposal_response_pb2,
    query_pb2,
    transaction_pb2,
)
from fabric_protos.peer.lifecycle import lifecycle_pb2
from fedfabric.fabric import policies
from fedfabric.fabric.broadcast import BroadcastError, broadcast
from fedfabric.fabric.identity import Identity, private_key_signer, verify
from fedfabric.fabric.lifecycle import Definition, LifecycleError, PeerAdministration, UnknownOutcomeError
from fedfabric.fabric.packages import ccaas_package
from fedfabric.fabric.proposals import EndorsementsDifferError, assemble, propose
from fedfabric.network.identities import Authorities
from google.rpc import status_pb2

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
PACKAGE = ccaas_package("kv_1.0")
DEFINITION = Definition("kv", "1.0", 1)


class Peer(peer_pb2_grpc.EndorserServicer, gateway_pb2_grpc.GatewayServicer):
    """Answers each function with what `answers` gives for its arguments: a payload, or a refusal's text."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.called: list[str] = []
        self.submitted: list[gateway_pb2.SubmitRequest] = []
        self.submit_faults: list[grpc.StatusCode] = []
        self.fault_details: list[str] = ["no Raft leader"]
        self.code = transaction_pb2.VALID

    async def ProcessProposal(self, request, context):  # noqa: N802
        proposal = proposal_pb2.Proposal.FromString(request.proposal_bytes)
        header = common_pb2.Header.FromString(proposal.header)
        creator = Identity.parse(common_pb2.SignatureHeader.FromString(header.signature_header).creator)
        verify(creator.certificate, request.proposal_bytes, request.signature)
        payload = proposal_pb2.ChaincodeProposalPayload.FromString(proposal.payload)
        call = chaincode_pb2.ChaincodeInvocationSpec.FromString(payload.input).chaincode_spec
        function, *arguments = call.input.args
        self.called.append(f"{call.chaincode_id.name}:{function.decode()}")
        answer = self.answers[function.decode()](*arguments)
        if isinstance(answer, str):
            return proposal_response_pb2.ProposalResponse(
                response=proposal_response_pb2.Response(status=500, message=answer)
            )
        return proposal_response_pb2.ProposalResponse(
            response=proposal_response_pb2.Response(status=200, payload=answer),
            payload=b"result " + answer,
            endorsement=proposal_response_pb2.Endorsement(endorser=b"peer", signature=b"signature"),
        )

    async def Submit(self, request, context):  # noqa: N802
        if self.submit_faults:
            code = self.submit_faults.pop(0)
            details = [gateway_pb2.ErrorDetail(address="orderer", message=text) for text in self.fault_details]
            status = status_pb2.Status(code=code.value[0], message="no Raft leader: SERVICE_UNAVAILABLE")
            for detail in details:
                status.details.add().Pack(detail)
            context.set_trailing_metadata([("grpc-status-details-bin", status.SerializeToString())])
            await context.abort(code, status.message)
        self.submitted.append(request)
        return gateway_pb2.SubmitResponse()

    async def CommitStatus(self, request, context):  # noqa: N802
        return gateway_pb2.CommitStatusResponse(result=self.code, block_number=1)


class Orderer(ab_pb2_grpc.AtomicBroadcastServicer):
    """Answers each envelope with the next of `statuses`; None closes the stream without an answer."""

    def __init__(self) -> None:
        self.statuses: list[int | None] = []
        self.envelopes: list[common_pb2.Envelope] = []
        self.info = "said so"

    async def Broadcast(self, requests, context):  # noqa: N802
        async for envelope in requests:
            self.envelopes.append(envelope)
            status = self.statuses.pop(0) if self.statuses else common_pb2.SUCCESS
            if status is None:
                return
            yield ab_pb2.BroadcastResponse(status=status, info=self.info)


@pytest.fixture(scope="module")
def administrator():
    issued = Authorities.create("AMSP", NOW).signing.issue("admin", NOW, kind="admin")
    return Identity("AMSP", issued.certificate), private_key_signer(issued.key)


@pytest.fixture
async def serve():
    """Serve one servicer; gives a channel to it."""
    servers, channels = [], []

    async def begin(servicer) -> grpc.aio.Channel:
        server = grpc.aio.server()
        if isinstance(servicer, Peer):
            peer_pb2_grpc.add_EndorserServicer_to_server(servicer, server)
            gateway_pb2_grpc.add_GatewayServicer_to_server(servicer, server)
        else:
            ab_pb2_grpc.add_AtomicBroadcastServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        channels.append(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
        return channels[-1]

    yield begin
    for channel in channels:
        await channel.close()
    for server in servers:
        await server.stop(None)


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.fixture
async def administration(peer, serve, administrator):
    return PeerAdministration(await serve(peer), *administrator, deadline_s=5)


class TestJoining:
    async def test_sends_the_genesis_block_to_cscc(self, peer, administration):
        peer.answers["JoinChain"] = lambda block: b"" if block == b"genesis" else "another block"
        await administration.join(b"genesis")
        assert peer.called == ["cscc:JoinChain"]

    async def test_again_counts_as_done_and_other_refusals_do_not(self, peer, administration):
        peer.answers["JoinChain"] = lambda _: "ledger [ch1] already exists with state [ACTIVE]"
        await administration.join(b"genesis")
        peer.answers["JoinChain"] = lambda _: "access denied"
        with pytest.raises(LifecycleError, match="JoinChain: access denied"):
            await administration.join(b"genesis")

    async def test_is_seen_in_channels_height_and_blocks(self, peer, administration):
        listed = query_pb2.ChannelQueryResponse(channels=[query_pb2.ChannelInfo(channel_id=one) for one in ("b", "a")])
        block = common_pb2.Block(header=common_pb2.BlockHeader(number=3))
        peer.answers |= {
            "GetChannels": listed.SerializeToString,
            "GetChainInfo": lambda name: ledger_pb2.BlockchainInfo(height=len(name)).SerializeToString(),
            "GetBlockByNumber": lambda name, number: block.SerializeToString() if number == b"3" else "none",
            "GetConfigBlock": lambda name: block.SerializeToString(),
        }
        assert await administration.channels() == ("a", "b")
        assert await administration.height("four") == 4
        assert (await administration.block("four", 3)).header.number == 3
        assert (await administration.configuration_block("four")).header.number == 3

    async def test_a_refusal_of_a_megabyte_is_cut_short(self, peer, administration):
        peer.answers["JoinChain"] = lambda _: "no " * 1_000_000
        with pytest.raises(LifecycleError) as caught:
            await administration.join(b"genesis")
        assert len(caught.value.text) == 4000
        assert len(str(caught.value)) < 4100

    async def test_an_answer_in_an_unknown_form_is_an_error(self, peer, administration):
        peer.answers["GetChannels"] = lambda: b"\xff"
        with pytest.raises(LifecycleError, match="GetChannels: the answer is not a protos"):
            await administration.channels()


class TestInstalling:
    async def test_gives_the_id_that_the_peer_computed(self, peer, administration):
        result = lifecycle_pb2.InstallChaincodeResult(package_id=PACKAGE.package_id, label=PACKAGE.label)
        peer.answers["InstallChaincode"] = lambda _: result.SerializeToString()
        assert await administration.install(PACKAGE) == PACKAGE.package_id
        peer.answers["InstallChaincode"] = lambda _: "chaincode already successfully installed (package ID 'x')"
        assert await administration.install(PACKAGE) == PACKAGE.package_id

    async def test_refuses_another_id_than_ours(self, peer, administration):
        result = lifecycle_pb2.InstallChaincodeResult(package_id="kv_1.0:other")
        peer.answers["InstallChaincode"] = lambda _: result.SerializeToString()
        with pytest.raises(LifecycleError, match=r"kv_1\.0:other"):
            await administration.install(PACKAGE)


class TestApproving:
    async def test_is_endorsed_submitted_and_waited_for(self, peer, administration, administrator):
        seen = []

        def approve(argument):
            seen.append(lifecycle_pb2.ApproveChaincodeDefinitionForMyOrgArgs.FromString(argument))
            return b""

        peer.answers["ApproveChaincodeDefinitionForMyOrg"] = approve
        await administration.approve("ch1", DEFINITION, PACKAGE.package_id)
        assert seen[0].source.local_package.package_id == PACKAGE.package_id
        policy = policy_pb2.ApplicationPolicy.FromString(seen[0].validation_parameter)
        assert policy.channel_config_policy_reference == "/Channel/Application/Endorsement"
        (submitted,) = peer.submitted
        envelope = submitted.prepared_transaction
        verify(administrator[0].certificate, envelope.payload, envelope.signature)

    async def test_again_with_equal_content_counts_as_done(self, peer, administration):
        peer.answers["ApproveChaincodeDefinitionForMyOrg"] = lambda _: "attempted to redefine … with unchanged content"
        await administration.approve("ch1", DEFINITION, PACKAGE.package_id)
        assert peer.submitted == []

    async def test_waits_while_orderers_have_no_leader_and_sends_the_same_envelope(self, peer, administration):
        peer.answers["ApproveChaincodeDefinitionForMyOrg"] = lambda _: b""
        peer.submit_faults = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED]
        await administration.approve("ch1", DEFINITION, PACKAGE.package_id)
        assert len(peer.submitted) == 1

    async def test_that_the_orderers_have_already_is_waited_for(self, peer, administration):
        peer.answers["ApproveChaincodeDefinitionForMyOrg"] = lambda _: b""
        peer.submit_faults = [grpc.StatusCode.UNAVAILABLE]
        peer.fault_details = ["request already processed", "failed: request already exists"]
        await administration.approve("ch1", DEFINITION, PACKAGE.package_id)
        assert peer.submitted == []

    @pytest.mark.parametrize("held", ["Submit", "CommitStatus"])
    async def test_that_is_not_seen_committed_in_time_is_said_to_be_unknown(self, peer, serve, administrator, held):
        peer.answers["ApproveChaincodeDefinitionForMyOrg"] = lambda _: b""
        cancelled = asyncio.Event()

        async def hold(request, context):
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        setattr(peer, held, hold)
        administration = PeerAdministration(await serve(peer), *administrator, deadline_s=0.3)
        with pytest.raises(UnknownOutcomeError, match=r"was not seen committed in 0\.3 s.*do the step again") as caught:
            await administration.approve("ch1", DEFINITION, PACKAGE.package_id)
        assert caught.value.step == "ApproveChaincodeDefinitionForMyOrg"
        await asyncio.wait_for(cancelled.wait(), 5)

    async def test_that_is_committed_invalid_for_a_reason_of_a_later_fabric_is_an_error(self, peer, administration):
        peer.answers["ApproveChaincodeDefinitionForMyOrg"] = lambda _: b""
        peer.code = 77
        with pytest.raises(LifecycleError, match="is 77"):
            await administration.approve("ch1", DEFINITION, PACKAGE.package_id)

    async def test_that_is_committed_invalid_is_an_error(self, peer, administration):
        peer.answers["ApproveChaincodeDefinitionForMyOrg"] = lambda _: b""
        peer.code = transaction_pb2.MVCC_READ_CONFLICT
        with pytest.raises(LifecycleError, match="is MVCC_READ_CONFLICT"):
            await administration.approve("ch1", DEFINITION, PACKAGE.package_id)

    async def test_by_a_signature_rule_carries_the_rule(self):
        rule = policies.parse_signature_rule("OR('AMSP.peer','BMSP.peer')")
        fields = Definition("kv", "1", 1, endorsement=rule).fields()
        assert policy_pb2.ApplicationPolicy.FromString(fields["validation_parameter"]).signature_policy == rule


class TestCommitting:
    @pytest.fixture
    def committed(self, peer):
        """What the peer says is committed: None, or a definition."""
        held: dict[str, Definition | None] = {"definition": None}

        def query(_):
            definition = held["definition"]
            if definition is None:
                return "namespace kv is not defined"
            fields = definition.fields()
            return lifecycle_pb2.QueryChaincodeDefinitionResult(
                sequence=definition.sequence,
                version=definition.version,
                validation_parameter=fields["validation_parameter"],
                approvals={"AMSP": True, "BMSP": False},
            ).SerializeToString()

        peer.answers |= {"QueryChaincodeDefinition": query, "CommitChaincodeDefinition": lambda _: b""}
        return held

    async def test_collects_endorsements_of_all_peers_given(
        self, peer, administration, committed, serve, administrator
    ):
        other_peer = Peer()
        other_peer.answers["CommitChaincodeDefinition"] = lambda _: b""
        other = PeerAdministration(await serve(other_peer), *administrator)
        await administration.commit("ch1", DEFINITION, [other])
        payload = common_pb2.Payload.FromString(peer.submitted[0].prepared_transaction.payload)
        action = transaction_pb2.ChaincodeActionPayload.FromString(
            transaction_pb2.Transaction.FromString(payload.data).actions[0].payload
        )
        assert len(action.action.endorsements) == 2
        assert other_peer.submitted == []

    async def test_of_what_is_committed_already_does_nothing(self, peer, administration, committed):
        committed["definition"] = DEFINITION
        await administration.commit("ch1", DEFINITION)
        assert peer.called == ["_lifecycle:QueryChaincodeDefinition"]
        found = await administration.committed("ch1", "kv")
        assert (found.version, found.sequence, dict(found.approvals)) == ("1.0", 1, {"AMSP": True, "BMSP": False})

    async def test_is_refused_as_a_whole_if_one_peer_refuses(
        self, peer, administration, committed, serve, administrator
    ):
        other_peer = Peer()
        other_peer.answers["CommitChaincodeDefinition"] = lambda _: "not approved by BMSP"
        other = PeerAdministration(await serve(other_peer), *administrator)
        with pytest.raises(LifecycleError, match="not approved by BMSP"):
            await administration.commit("ch1", DEFINITION, [other])
        assert peer.submitted == []

    async def test_asks_who_is_ready(self, peer, administration):
        result = lifecycle_pb2.CheckCommitReadinessResult(approvals={"AMSP": True})
        peer.answers["CheckCommitReadiness"] = lambda _: result.SerializeToString()
        assert await administration.readiness("ch1", DEFINITION) == {"AMSP": True}


class TestProposals:
    def test_ids_are_the_hash_of_nonce_and_creator_and_transient_data_stay_out(self, administrator):
        identity, sign = administrator
        secret = b"a secret"
        proposal = propose(
            identity, sign, "kv", (b"f",), channel_name="ch1", transient={"k": secret}, created_ns=5, nonce=b"n"
        )
        again = propose(identity, sign, "kv", (b"f",), channel_name="ch1", created_ns=5, nonce=b"n")
        assert proposal.transaction_id == again.transaction_id
        response = proposal_response_pb2.ProposalResponse(payload=b"p")
        assert secret in proposal.signed.proposal_bytes
        assert secret not in assemble(proposal, [response], sign).payload

    def test_endorsements_of_different_results_make_no_transaction(self, administrator):
        identity, sign = administrator
        proposal = propose(identity, sign, "kv", (b"f",))
        responses = [proposal_response_pb2.ProposalResponse(payload=payload) for payload in (b"a", b"b")]
        for given in ([], responses):
            with pytest.raises(EndorsementsDifferError):
                assemble(proposal, given, sign)


class TestBroadcasting:
    async def test_ends_with_the_first_orderer_that_takes_the_envelope(self, serve):
        busy, free = Orderer(), Orderer()
        busy.statuses = [common_pb2.SERVICE_UNAVAILABLE, common_pb2.SERVICE_UNAVAILABLE]
        envelope = common_pb2.Envelope(payload=b"p")
        await broadcast([await serve(busy), await serve(free)], envelope)
        assert free.envelopes == [envelope]

    async def test_asks_again_until_there_is_a_leader(self, serve):
        orderer = Orderer()
        orderer.statuses = [common_pb2.SERVICE_UNAVAILABLE, None, common_pb2.SUCCESS]
        await broadcast([await serve(orderer)], common_pb2.Envelope(payload=b"p"))
        assert len(orderer.envelopes) == 3

    async def test_says_what_was_refused(self, serve):
        orderer = Orderer()
        orderer.statuses = [common_pb2.BAD_REQUEST]
        with pytest.raises(BroadcastError, match="BAD_REQUEST: said so") as caught:
            await broadcast([await serve(orderer)], common_pb2.Envelope(payload=b"p"))
        assert caught.value.certain

    async def test_says_what_was_refused_with_a_status_of_a_later_fabric(self, serve):
        orderer = Orderer()
        orderer.statuses = [499]
        with pytest.raises(BroadcastError, match="status 499: said so"):
            await broadcast([await serve(orderer)], common_pb2.Envelope(payload=b"p"))

    async def test_takes_an_orderer_at_its_word_that_has_the_envelope_already(self, serve):
        orderer = Orderer()
        orderer.statuses, orderer.info = [common_pb2.SERVICE_UNAVAILABLE], "request already exists"
        await broadcast([await serve(orderer)], common_pb2.Envelope(payload=b"p"))
        assert len(orderer.envelopes) == 1

    async def test_does_not_know_after_an_answer_was_lost(self, serve):
        orderer = Orderer()
        orderer.statuses = [None, common_pb2.BAD_REQUEST]
        with pytest.raises(BroadcastError) as caught:
            await broadcast([await serve(orderer)], common_pb2.Envelope(payload=b"p"))
        assert not caught.value.certain

    async def test_gives_up_at_its_deadline_and_says_that_it_does_not_know(self):
        nobody = grpc.aio.insecure_channel("127.0.0.1:1")
        with pytest.raises(BroadcastError) as caught:
            await asyncio.wait_for(broadcast([nobody], common_pb2.Envelope(payload=b"p"), deadline_s=0.3), 10)
        await nobody.close()
        assert not caught.value.certain
