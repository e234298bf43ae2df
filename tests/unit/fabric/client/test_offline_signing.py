"""One table: whatever is signed can be signed elsewhere, from bytes."""

import hashlib

import grpc
import pytest
from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2
from fabric_protos.peer import proposal_response_pb2, transaction_pb2
from fedfabric.fabric.client import (
    ForeignTransactionError,
    GatewayError,
    MalformedError,
    UnsignedError,
    connect,
)
from fedfabric.fabric.identity import verify


async def proposal(network):
    return network.contract("kv").propose("put", "key", "value")


async def transaction(network):
    return await (await proposal(network)).endorse()


async def commit(network):
    return await (await transaction(network)).submit()


async def chaincode_events(network):
    return network.chaincode_events_request("kv", start_block=0)


async def block_events(network):
    return network.block_events_request(start_block=0, stop_block=0)


async def filtered_block_events(network):
    return network.filtered_block_events_request(start_block=0, stop_block=0)


async def private_block_events(network):
    return network.block_and_private_data_events_request(start_block=0, stop_block=0)


async def first(request):
    async with request.events() as events:
        return await anext(events)


STEPS = [
    pytest.param(proposal, "signed_proposal", lambda it: it.endorse(), id="proposal"),
    pytest.param(proposal, "signed_proposal", lambda it: it.evaluate(), id="evaluated proposal"),
    pytest.param(transaction, "signed_transaction", lambda it: it.submit(), id="transaction"),
    pytest.param(commit, "signed_commit", lambda it: it.status(), id="commit"),
    pytest.param(chaincode_events, "signed_chaincode_events_request", first, id="chaincode events"),
    pytest.param(block_events, "signed_block_events_request", first, id="block events"),
    pytest.param(filtered_block_events, "signed_filtered_block_events_request", first, id="filtered block events"),
    pytest.param(
        private_block_events, "signed_block_and_private_data_events_request", first, id="blocks with private data"
    ),
]


@pytest.fixture
async def signing(gateway, fake):
    await fake.announce(0)
    return gateway.network("consortium")


@pytest.fixture
def offline(channel, member):
    return connect(channel, member.identity)


@pytest.mark.parametrize(("make", "back", "use"), STEPS)
async def test_a_step_signed_elsewhere_works(signing, offline, member, make, back, use):
    step = await make(signing)
    data, signature = step.bytes, member.sign(step.message)
    used = getattr(offline, back)(data, signature)
    assert await use(used) is not None
    assert getattr(offline, back)(used.bytes).bytes == used.bytes, "the signature stays with the bytes"


@pytest.mark.parametrize(("make", "back", "use"), STEPS)
async def test_an_unsigned_step_is_not_sent(signing, offline, fake, make, back, use):
    step = getattr(offline, back)((await make(signing)).bytes)
    before = list(fake.calls)
    with pytest.raises(UnsignedError):
        await use(step)
    assert fake.calls == before


@pytest.mark.parametrize(("make", "back", "use"), STEPS)
async def test_another_keys_signature_is_refused_by_the_peer(signing, offline, stranger, make, back, use):
    step = await make(signing)
    with pytest.raises(GatewayError) as caught:
        await use(getattr(offline, back)(step.bytes, stranger.sign(step.message)))
    assert caught.value.code is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(("make", "back", "use"), STEPS)
async def test_a_digest_is_sha256_of_the_message(signing, make, back, use):
    step = await make(signing)
    assert step.digest == hashlib.sha256(step.message).digest()


@pytest.mark.parametrize(("make", "back", "use"), STEPS)
async def test_bytes_that_are_something_else_are_refused(signing, offline, make, back, use):
    data = (await make(signing)).bytes
    for broken in (b"\xff" * 40, data[: len(data) // 2]):
        with pytest.raises(MalformedError):
            getattr(offline, back)(broken, b"signature")


@pytest.mark.parametrize("make", [chaincode_events, block_events])
async def test_a_stream_that_signs_anew_needs_a_signer(offline, make):
    request = await make(offline.network("consortium"))
    with pytest.raises(UnsignedError):
        request.events(reconnect=True)


async def test_a_proposal_can_be_read_before_it_is_signed(signing, offline, member):
    proposed = offline.signed_proposal((await proposal(signing)).bytes)
    assert (proposed.channel_name, proposed.chaincode_name) == ("consortium", "kv")
    assert proposed.arguments == (b"put", b"key", b"value")
    assert proposed.creator == member.identity


async def test_a_proposal_with_another_id_is_refused(signing, offline):
    proposed = gateway_pb2.ProposedTransaction.FromString((await proposal(signing)).bytes)
    proposed.transaction_id = "0" * 64
    with pytest.raises(MalformedError, match="transaction id"):
        offline.signed_proposal(proposed.SerializeToString())


def other_header(payload):
    payload.header.channel_header += b"\x08\x03"  # the type once more: still parses, other bytes
    return payload


def other_arguments_endorsed_as_such(payload):
    def change(action):
        changed = action.chaincode_proposal_payload.replace(b"value", b"VALUE")
        response = proposal_response_pb2.ProposalResponsePayload.FromString(action.action.proposal_response_payload)
        response.proposal_hash = hashlib.sha256(
            payload.header.channel_header + payload.header.signature_header + changed
        ).digest()
        action.chaincode_proposal_payload = changed
        action.action.proposal_response_payload = response.SerializeToString()

    return _with_action(payload, change)


def another_proposal_endorsed(payload):
    def change(action):
        response = proposal_response_pb2.ProposalResponsePayload.FromString(action.action.proposal_response_payload)
        response.proposal_hash = b"\x00" * 32
        action.action.proposal_response_payload = response.SerializeToString()

    return _with_action(payload, change)


def _with_action(payload, change):
    envelope = transaction_pb2.Transaction.FromString(payload.data)
    action = transaction_pb2.ChaincodeActionPayload.FromString(envelope.actions[0].payload)
    change(action)
    envelope.actions[0].payload = action.SerializeToString()
    payload.data = envelope.SerializeToString()
    return payload


@pytest.mark.parametrize("tamper", [other_header, other_arguments_endorsed_as_such, another_proposal_endorsed])
async def test_a_transaction_that_was_not_proposed_is_not_signed(contract, fake, tamper):
    fake.tamper = tamper
    with pytest.raises(ForeignTransactionError):
        await contract.submit("put", "key", "value")
    assert fake.calls == ["Endorse"]


@pytest.mark.parametrize("tamper", [other_header, other_arguments_endorsed_as_such, another_proposal_endorsed])
async def test_who_signs_elsewhere_can_check_what_was_prepared(signing, offline, fake, tamper):
    proposed = await proposal(signing)
    prepared = await proposed.endorse()
    offline.signed_transaction(prepared.bytes).check(proposed.message)
    message = gateway_pb2.PreparedTransaction.FromString(prepared.bytes)
    message.envelope.payload = tamper(common_pb2.Payload.FromString(message.envelope.payload)).SerializeToString()
    with pytest.raises(ForeignTransactionError):
        offline.signed_transaction(message.SerializeToString()).check(proposed.message)


@pytest.mark.parametrize("actions", [0, 2])
async def test_a_transaction_has_one_action(contract, fake, actions):
    def tamper(payload):
        envelope = transaction_pb2.Transaction.FromString(payload.data)
        only = envelope.actions[0]
        payload.data = transaction_pb2.Transaction(actions=[only] * actions).SerializeToString()
        return payload

    fake.tamper = tamper
    with pytest.raises(MalformedError, match="one action"):
        await contract.submit("put", "key", "value")


async def test_a_signature_that_is_there_is_not_made_again(signing, member, fake):
    prepared = await transaction(signing)
    prepared.sign()
    stored = prepared.bytes
    await prepared.submit()
    assert prepared.bytes == stored
    sent = fake.requests["Submit"][0].prepared_transaction
    verify(member.identity.certificate, sent.payload, sent.signature)
