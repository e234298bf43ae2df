import hashlib

import grpc
import pytest
from fabric_protos.common import common_pb2
from fabric_protos.peer import chaincode_pb2, proposal_pb2
from fedfabric.fabric.client import (
    NO_RETRIES,
    CommitError,
    CommitStatusError,
    EndorseError,
    GatewayError,
    SubmitError,
    ValidationCode,
)

STEPS = [
    ("evaluate", "Evaluate", GatewayError),
    ("submit", "Endorse", EndorseError),
    ("submit", "Submit", SubmitError),
    ("submit", "CommitStatus", CommitStatusError),
]


async def test_a_submitted_transaction_returns_its_result(contract, fake):
    assert await contract.submit("put", "key", b"\x00value") == b"put|key|\x00value"
    assert fake.calls == ["Endorse", "Submit", "CommitStatus"]


async def test_an_evaluated_transaction_returns_its_result_and_writes_nothing(contract, fake):
    assert await contract.evaluate("get", "key") == b"get|key"
    assert fake.blocks == []


async def test_a_named_contract_qualifies_its_transactions(gateway):
    contract = gateway.network("consortium").contract("kv", "datasets")
    assert await contract.evaluate("register", "x") == b"datasets:register|x"


async def test_a_commit_tells_how_its_transaction_ended(contract, fake):
    fake.outcomes.append(ValidationCode.MVCC_READ_CONFLICT)
    commit = await contract.submit_async("put", "key", "value")
    status = await commit.status()
    assert (status.code, status.block_number, status.successful) == (ValidationCode.MVCC_READ_CONFLICT, 0, False)
    assert status.transaction_id == commit.transaction_id
    assert commit.result == b"put|key|value"


async def test_a_transaction_submitted_by_somebody_else_can_be_asked_for(contract, gateway):
    known = (await contract.submit_async("put", "key", "value")).transaction_id
    assert (await gateway.network("consortium").commit(known).status()).successful


async def test_a_proposal_carries_what_was_asked_for(contract, member, fake):
    await contract.submit("put", "k", transient={"secret": b"s"}, endorsing_organizations=["Org1MSP", "Org2MSP"])
    request = fake.requests["Endorse"][0]
    assert list(request.endorsing_organizations) == ["Org1MSP", "Org2MSP"]
    assert request.channel_id == "consortium"
    proposal = proposal_pb2.Proposal.FromString(request.proposed_transaction.proposal_bytes)
    header = common_pb2.Header.FromString(proposal.header)
    channel_header = common_pb2.ChannelHeader.FromString(header.channel_header)
    signature_header = common_pb2.SignatureHeader.FromString(header.signature_header)
    assert signature_header.creator == member.identity.serialized()
    expected = hashlib.sha256(signature_header.nonce + signature_header.creator).hexdigest()
    assert channel_header.tx_id == request.transaction_id == expected
    payload = proposal_pb2.ChaincodeProposalPayload.FromString(proposal.payload)
    assert dict(payload.TransientMap) == {"secret": b"s"}
    invocation = chaincode_pb2.ChaincodeInvocationSpec.FromString(payload.input)
    assert list(invocation.chaincode_spec.input.args) == [b"put", b"k"]
    assert b"secret" not in fake.requests["Submit"][0].prepared_transaction.payload


async def test_evaluate_names_its_target_organizations(contract, fake):
    await contract.evaluate("get", "k", endorsing_organizations=["Org2MSP"])
    assert list(fake.requests["Evaluate"][0].target_organizations) == ["Org2MSP"]


@pytest.mark.parametrize(("call", "method", "error_class"), STEPS)
async def test_a_failing_step_raises_its_error_with_each_peers_words(
    contract, fake, failure, call, method, error_class
):
    said = [("peer1:7051", "Org1MSP", "chaincode response 409, {}"), ("peer2:7051", "Org2MSP", "no")]
    fake.script[method].append(failure(grpc.StatusCode.ABORTED, "refused", said))
    with pytest.raises(GatewayError) as caught:
        await getattr(contract, call)("put", "key", "value")
    error = caught.value
    assert type(error) is error_class
    assert error.code is grpc.StatusCode.ABORTED
    assert error.message == "refused"
    assert [(d.address, d.msp_id, d.message) for d in error.details] == said
    assert (error.refusal.status, error.refusal.message) == (409, "{}")
    assert error.details[1].refusal is None
    assert len(error.transaction_id) == 64
    assert "Org2MSP peer2:7051: no" in str(error)
    assert isinstance(error.__cause__, grpc.aio.AioRpcError)


async def test_details_that_cannot_be_read_do_not_hide_the_error(contract, fake, failure):
    broken = failure(grpc.StatusCode.ABORTED, "refused", metadata=(("grpc-status-details-bin", b"\xff\xff"),))
    fake.script["Endorse"].append(broken)
    with pytest.raises(EndorseError, match="refused") as caught:
        await contract.submit("put", "key", "value")
    assert caught.value.details == ()


@pytest.mark.parametrize("code", [ValidationCode.MVCC_READ_CONFLICT, ValidationCode.PHANTOM_READ_CONFLICT])
async def test_a_conflict_is_endorsed_anew_under_a_new_id(contract, fake, code):
    fake.outcomes += [code, code]
    assert await contract.submit("put", "key", "value") == b"put|key|value"
    assert fake.calls == ["Endorse", "Submit", "CommitStatus"] * 3
    assert len({request.transaction_id for request in fake.requests["Endorse"]}) == 3


async def test_conflicts_without_end_are_given_up(contract, fake, swift):
    fake.outcomes += [ValidationCode.MVCC_READ_CONFLICT] * 100
    with pytest.raises(CommitError) as caught:
        await contract.submit("put", "key", "value")
    assert caught.value.code is ValidationCode.MVCC_READ_CONFLICT
    assert caught.value.block_number == swift.conflicts
    assert fake.calls.count("Endorse") == swift.conflicts + 1


async def test_a_policy_failure_is_endorsed_anew_once(contract, fake):
    fake.outcomes += [ValidationCode.ENDORSEMENT_POLICY_FAILURE] * 3
    with pytest.raises(CommitError) as caught:
        await contract.submit("put", "key", "value")
    assert caught.value.code is ValidationCode.ENDORSEMENT_POLICY_FAILURE
    assert fake.calls.count("Endorse") == 2


@pytest.mark.parametrize(
    "code",
    sorted(
        set(ValidationCode)
        - {
            ValidationCode.VALID,
            ValidationCode.MVCC_READ_CONFLICT,
            ValidationCode.PHANTOM_READ_CONFLICT,
            ValidationCode.ENDORSEMENT_POLICY_FAILURE,
        }
    ),
)
async def test_any_other_invalid_transaction_is_final(contract, fake, code):
    fake.outcomes.append(code)
    with pytest.raises(CommitError, match=code.name) as caught:
        await contract.submit("put", "key", "value")
    assert caught.value.code is code
    assert fake.calls.count("Endorse") == 1


async def test_endorsers_at_different_heights_are_asked_again(contract, fake, failure):
    said = [("peer2:7051", "Org2MSP", "ProposalResponsePayloads do not match")]
    fake.script["Endorse"].append(failure(grpc.StatusCode.ABORTED, "failed to collect enough", said))
    assert await contract.submit("put", "key", "value") == b"put|key|value"
    assert fake.calls.count("Endorse") == 2


async def test_endorsers_that_stay_at_different_heights_are_given_up(contract, fake, failure, swift):
    said = [("peer2:7051", "Org2MSP", "ProposalResponsePayloads do not match")]
    fake.script["Endorse"] += [failure(grpc.StatusCode.ABORTED, "failed to collect enough", said)] * 100
    with pytest.raises(EndorseError):
        await contract.submit("put", "key", "value")
    assert fake.calls.count("Endorse") == swift.heights + 1


async def test_a_contracts_refusal_is_not_tried_again(contract, fake, failure):
    said = [("peer1:7051", "Org1MSP", "chaincode response 403, no")]
    fake.script["Endorse"].append(failure(grpc.StatusCode.ABORTED, "failed", said))
    with pytest.raises(EndorseError):
        await contract.submit("put", "key", "value")
    assert fake.calls == ["Endorse"]


async def test_the_same_bytes_go_again_to_an_ordering_service_without_a_leader(contract, fake, failure):
    fake.script["Submit"] += [failure(grpc.StatusCode.UNAVAILABLE, "no Raft leader")] * 2
    await contract.submit("put", "key", "value")
    sent = {request.SerializeToString() for request in fake.requests["Submit"]}
    assert fake.calls == ["Endorse", "Submit", "Submit", "Submit", "CommitStatus"]
    assert len(sent) == 1


def heard(*messages):
    said = "received unsuccessful response from orderer: status=SERVICE_UNAVAILABLE, info=failed to submit request: "
    return [(f"orderer{number}:7050", "OrdererMSP", said + message) for number, message in enumerate(messages)]


async def test_an_ordering_service_that_has_the_transaction_already_has_taken_it(contract, fake, failure):
    details = heard("request already processed", "request already exists")

    fake.fail_after_submit = failure(grpc.StatusCode.UNAVAILABLE, "insufficient number", details)
    assert await contract.submit("put", "key", "value", retries=NO_RETRIES) == b"put|key|value"
    assert fake.calls == ["Endorse", "Submit", "CommitStatus"]


@pytest.mark.parametrize("details", [[], heard("request already processed", "no leader")])
async def test_one_orderers_word_for_it_is_not_enough(contract, fake, failure, details):
    fake.script["Submit"].append(failure(grpc.StatusCode.UNAVAILABLE, "insufficient number", details))
    with pytest.raises(SubmitError):
        await contract.submit("put", "key", "value", retries=NO_RETRIES)


@pytest.mark.parametrize("code", [grpc.StatusCode.ABORTED, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNKNOWN])
async def test_other_failures_to_submit_are_the_callers(contract, fake, failure, code):
    fake.script["Submit"].append(failure(code))
    with pytest.raises(SubmitError):
        await contract.submit("put", "key", "value")
    assert fake.calls == ["Endorse", "Submit"]


async def test_a_peer_that_restarts_is_asked_again_how_it_ended_but_nothing_is_submitted_again(contract, fake, failure):
    fake.script["CommitStatus"] += [failure(grpc.StatusCode.UNAVAILABLE)] * 2
    await contract.submit("put", "key", "value")
    assert fake.calls == ["Endorse", "Submit", *["CommitStatus"] * 3]


@pytest.mark.parametrize("code", [grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.ABORTED])
async def test_an_unknown_outcome_is_not_tried_again(contract, fake, failure, code):
    fake.script["CommitStatus"].append(failure(code))
    with pytest.raises(CommitStatusError):
        await contract.submit("put", "key", "value")
    assert fake.calls == ["Endorse", "Submit", "CommitStatus"]


async def test_an_outcome_that_stays_unknown_is_given_up(contract, fake, failure, swift):
    fake.script["CommitStatus"] += [failure(grpc.StatusCode.UNAVAILABLE)] * 100
    with pytest.raises(CommitStatusError):
        await contract.submit("put", "key", "value")
    assert fake.calls.count("CommitStatus") == swift.unavailable + 1
    assert fake.calls.count("Submit") == 1


@pytest.mark.parametrize(("call", "method"), [("evaluate", "Evaluate"), ("submit", "Endorse")])
async def test_a_peer_that_is_away_is_asked_again(contract, fake, failure, call, method):
    fake.script[method] += [failure(grpc.StatusCode.UNAVAILABLE, "connection refused")] * 2
    assert await getattr(contract, call)("put", "key") == b"put|key"
    assert fake.calls.count(method) == 3


async def test_an_endorser_that_could_not_be_reached_is_asked_again(contract, fake, failure):
    said = "rpc error: code = Canceled desc = grpc: the client connection is closing"
    fake.script["Endorse"].append(failure(grpc.StatusCode.ABORTED, "failed", [("peer2:7051", "Org2MSP", said)]))
    assert await contract.submit("put", "key") == b"put|key"
    assert fake.calls.count("Endorse") == 2


async def test_an_endorser_that_refused_beside_one_that_could_not_be_reached_is_not_asked_again(
    contract, fake, failure
):
    said = [
        ("peer2:7051", "Org2MSP", "rpc error: code = Unavailable desc = connection refused"),
        ("peer3:7051", "Org3MSP", "chaincode response 403, no"),
    ]
    fake.script["Endorse"].append(failure(grpc.StatusCode.ABORTED, "failed", said))
    with pytest.raises(EndorseError):
        await contract.submit("put", "key")
    assert fake.calls == ["Endorse"]


async def test_retries_can_be_turned_off(contract, fake):
    fake.outcomes.append(ValidationCode.MVCC_READ_CONFLICT)
    with pytest.raises(CommitError):
        await contract.submit("put", "key", "value", retries=NO_RETRIES)
    assert fake.calls.count("Endorse") == 1


async def test_each_attempts_signed_bytes_can_be_stored_before_they_are_sent(contract, gateway, fake):
    fake.outcomes.append(ValidationCode.MVCC_READ_CONFLICT)
    stored = []

    async def store(transaction):
        stored.append((transaction.transaction_id, transaction.bytes, fake.calls.count("Submit")))

    await contract.submit("put", "key", "value", before_submit=store)
    assert [submitted for _, _, submitted in stored] == [0, 1]
    ids = [request.transaction_id for request in fake.requests["Submit"]]
    assert [known for known, _, _ in stored] == ids
    restored = gateway.signed_transaction(stored[1][1])
    await restored.submit()
    assert fake.requests["Submit"][1].SerializeToString() == fake.requests["Submit"][2].SerializeToString()
    assert fake.blocks[2][0][1] is ValidationCode.DUPLICATE_TXID


async def test_nothing_is_sent_when_storing_fails(contract, fake):
    async def store(_):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        await contract.submit("put", "key", "value", before_submit=store)
    assert fake.calls == ["Endorse"]
