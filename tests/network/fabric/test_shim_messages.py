"""Every message of the chaincode protocol against real peers, and the meaning that each has there."""

import asyncio
import hashlib
import json
import time

import pytest
from fabric_protos.gateway import gateway_pb2
from fabric_protos.peer import chaincode_pb2, proposal_pb2
from fedfabric.fabric.client import CommitError, EndorseError, GatewayError, ValidationCode
from fedfabric.fabric.policies import parse_signature_rule

pytestmark = pytest.mark.network

ALPHAS = "_implicit_org_AlphaMSP"


async def asked(contract, function, *args, **details):
    return json.loads(await contract.evaluate(function, *args, **details))


async def until_logged(network, process: str, text: str) -> None:
    while text not in await network.log(process, 10_000):  # noqa: ASYNC110 (another process writes it)
        await asyncio.sleep(0.1)


async def refused(awaitable) -> str:
    with pytest.raises(GatewayError) as refusal:
        await awaitable
    return str(refusal.value)


# --- the protocol as a whole


async def test_one_transaction_for_each_request_of_the_protocol_by_the_peers_own_count(shim_network):
    state, private = shim_network.contract("state"), shim_network.contract("private")
    policies, calls = shim_network.contract("policies"), shim_network.contract("calls")
    policy = parse_signature_rule("OR('AlphaMSP.peer')").SerializeToString()
    before = await shim_network.requests()
    await state.submit("fill", "all/", "150")
    await state.submit("put_at_once", "all", "value")
    await state.submit("delete_at_once", "all")
    await state.evaluate("get", "all")
    await state.evaluate("get_many", "all/00000", "all/00001")
    await state.evaluate("range", "all/", "all0")
    await state.evaluate("first_of_range", "all/", "all0")
    await state.evaluate("query", "{}")
    await state.evaluate("history", "all")
    await private.evaluate("hash", ALPHAS, "all")
    await private.submit("purge_at_once", ALPHAS, "all", endorsing_organizations=["AlphaMSP"])
    await policies.submit("set_at_once", "all/00000", policy)
    await policies.evaluate("get", "all/00000")
    await calls.submit("call", "callee", "put", "all", "value")
    counted = await shim_network.requests() - before
    assert set(counted) == {
        "GET_STATE", "GET_STATE_MULTIPLE", "GET_STATE_BY_RANGE", "GET_QUERY_RESULT", "GET_HISTORY_FOR_KEY",
        "GET_STATE_METADATA", "GET_PRIVATE_DATA_HASH", "QUERY_STATE_NEXT", "QUERY_STATE_CLOSE", "PUT_STATE",
        "DEL_STATE", "PUT_STATE_METADATA", "PURGE_PRIVATE_DATA", "WRITE_BATCH_STATE", "INVOKE_CHAINCODE",
    }  # fmt: skip


async def test_the_peers_keepalives_are_answered_and_the_stream_goes_on(shim_network):
    async with asyncio.timeout(20):
        await until_logged(shim_network.network, "chaincode-protocol.alpha", "received KEEPALIVE")
    assert await shim_network.contract("state").evaluate("get", "absent") == b""


async def test_init_runs_once_before_everything_else(shim_network):
    contract = shim_network.contract("calls", chaincode="initialised")
    assert "has not been initialized" in await refused(contract.evaluate("context"))

    proposal = contract.propose("initialise")
    proposed = gateway_pb2.ProposedTransaction.FromString(proposal.bytes)
    inner = proposal_pb2.Proposal.FromString(proposed.proposal.proposal_bytes)
    payload = proposal_pb2.ChaincodeProposalPayload.FromString(inner.payload)
    invocation = chaincode_pb2.ChaincodeInvocationSpec.FromString(payload.input)
    invocation.chaincode_spec.input.is_init = True
    payload.input = invocation.SerializeToString()
    inner.payload = payload.SerializeToString()
    proposed.proposal.proposal_bytes = inner.SerializeToString()
    proposed.proposal.signature = b""
    user = await shim_network.network.enrol("alpha", "tester", role="scientist")
    signature = user.signer()(proposed.proposal.proposal_bytes)
    proposal = shim_network.gateways["alpha"].signed_proposal(proposed.SerializeToString(), signature)
    assert await proposal.evaluate() == b"True"
    transaction = await proposal.endorse()
    assert transaction.result == b"True"
    commit = await transaction.submit()
    assert (await commit.status()).successful

    assert not (await asked(contract, "context"))["init"]
    state = shim_network.contract("state", chaincode="initialised")
    assert await state.evaluate("get", "initialised") == b"True"


# --- state


async def test_values_are_put_read_and_deleted_at_once_and_in_batches(shim_network):
    state = shim_network.contract("state")
    await state.submit("put_at_once", "values/a", b"\x00\xff")
    assert await state.evaluate("get", "values/a") == b"\x00\xff"
    await state.submit("delete_at_once", "values/a")
    assert await state.evaluate("get", "values/a") == b""


async def test_writes_of_a_batch_keep_their_order(shim_network):
    state = shim_network.contract("state")
    await state.submit("rewrite", "order/a")
    await state.submit("put_and_delete", "order/b")
    assert await asked(state, "get_many", "order/a", "order/b") == ["last", ""]


async def test_a_batch_larger_than_the_peers_bound_goes_in_several(shim_network):
    state = shim_network.contract("state")
    before = await shim_network.requests()
    await state.submit("fill", "large/", "1001")
    counted = await shim_network.requests() - before
    assert counted["WRITE_BATCH_STATE"] == 2
    assert counted["PUT_STATE"] == 0
    keys = [f"large/{number:05}" for number in range(1001)]
    before = await shim_network.requests()
    assert await asked(state, "get_many", *keys) == [str(number) for number in range(1001)]
    assert await shim_network.requests() - before == {"GET_STATE_MULTIPLE": 2}


async def test_many_keys_come_in_the_order_asked_with_the_absent_ones_empty(shim_network):
    state = shim_network.contract("state")
    await state.submit("fill", "many/", "3")
    keys = ("many/00002", "many/absent", "many/00000", "many/00002")
    assert await asked(state, "get_many", *keys) == ["2", "", "0", "2"]


async def test_a_transaction_does_not_see_its_own_writes(shim_network):
    assert await shim_network.contract("state").submit("read_own_write", "own") == b""
    assert await shim_network.contract("state").submit("read_own_write", "own") == b"new"


async def test_a_range_spans_the_peers_batches_and_ends_before_its_end(shim_network):
    state = shim_network.contract("state")
    await state.submit("fill", "range/", "250")
    rows = await asked(state, "range", "range/", "range/00249")
    assert rows == [[f"range/{number:05}", str(number)] for number in range(249)]
    assert await asked(state, "first_of_range", "range/00100", "") == ["range/00100", "100"]
    assert await asked(state, "range", "range/x", "range/y") == []


async def test_two_ranges_read_in_turns_keep_their_places(shim_network):
    state = shim_network.contract("state")
    await state.submit("fill", "left/", "130")
    await state.submit("fill", "right/", "220")
    assert await asked(state, "two_ranges_at_once", "left/", "right/") == [130, 220]


async def test_pages_follow_their_bookmarks_to_the_end(shim_network):
    state = shim_network.contract("state")
    await state.submit("fill", "page/", "7")
    seen, bookmark, sizes = [], "", []
    while True:
        rows, bookmark = await asked(state, "page", "page/", "page/x", "3", bookmark)
        seen += [key for key, _ in rows]
        sizes.append(len(rows))
        if not bookmark:
            break
    assert sizes == [3, 3, 1]
    assert seen == [f"page/{number:05}" for number in range(7)]


async def test_a_made_up_bookmark_does_not_read_outside_the_range(shim_network):
    state = shim_network.contract("state")
    assert "outside the range" in await refused(state.evaluate("page", "page/", "page/x", "3", "a"))


async def test_a_transaction_that_read_pages_can_not_write(shim_network):
    state = shim_network.contract("state")
    assert "paginated" in await refused(state.submit("write_after_page", "never"))
    assert await state.evaluate("get", "never") == b""


async def test_partial_keys_find_their_rows_and_no_others(shim_network):
    state = shim_network.contract("state")
    for attributes in (("a", "1"), ("a", "2"), ("ab", "3")):
        await state.submit("put_composite", "thing", *attributes)
    assert await asked(state, "partial", "thing", "a") == [["a", "1", "a/1"], ["a", "2", "a/2"]]
    assert len(await asked(state, "partial", "thing")) == 3
    assert await asked(state, "partial", "thin") == []
    first, bookmark = await asked(state, "partial_page", "thing", "2", "")
    second, last = await asked(state, "partial_page", "thing", "2", bookmark)
    assert (first, second, last) == (["a/1", "a/2"], ["ab/3"], "")


async def test_a_range_over_simple_keys_has_no_composite_ones(shim_network):
    state = shim_network.contract("state")
    await state.submit("put_composite", "hidden", "x")
    rows = await asked(state, "range", "", "")
    assert rows
    assert not [key for key, _ in rows if key.startswith("\x00")]


async def test_json_queries_are_refused_on_leveldb_as_typed_errors(shim_network):
    answers = await asked(shim_network.contract("state"), "query", '{"selector": {}}')
    assert all("GET_QUERY_RESULT failed" in answer for answer in answers)
    answer = await shim_network.contract("private").evaluate("query", ALPHAS, '{"selector": {}}')
    assert b"GET_QUERY_RESULT failed" in answer


async def test_history_has_every_write_with_its_transaction_and_time(shim_network):
    state = shim_network.contract("state")
    started = time.time_ns() // 1_000_000
    first = await (await state.submit_async("put_at_once", "history", "1")).status()
    second = await (await state.submit_async("delete_at_once", "history")).status()
    rows = await asked(state, "history", "history")
    assert [(row["tx"], row["value"], row["delete"]) for row in rows] == [
        (second.transaction_id, "", True),
        (first.transaction_id, "1", False),
    ]
    assert all(started <= row["time"] <= started + 60_000 for row in rows)


# --- private data


@pytest.mark.parametrize("put", ["put", "put_at_once"])
async def test_private_data_lives_in_its_collection_only(shim_network, put):
    private = shim_network.contract("private")
    value = f"secret {put}".encode()
    await private.submit(put, "shared", f"only/{put}", transient={"value": value})
    assert await private.evaluate("get", "shared", f"only/{put}") == value
    assert await shim_network.contract("state").evaluate("get", f"only/{put}") == b""
    assert (await private.evaluate("hash", "shared", f"only/{put}")).decode() == hashlib.sha256(value).hexdigest()
    beta = shim_network.contract("private", at="beta")
    assert (await beta.evaluate("hash", "shared", f"only/{put}")).decode() == hashlib.sha256(value).hexdigest()
    assert await private.evaluate("hash", "shared", "absent") == b""


async def test_another_organisations_client_is_refused_private_data(shim_network):
    private = shim_network.contract("private")
    await private.submit("put", "alphas", "foreign", transient={"value": b"x"}, endorsing_organizations=["AlphaMSP"])
    text = await refused(shim_network.contract("private", at="beta").evaluate("get", "alphas", "foreign"))
    assert "does not have read access permission" in text


async def test_private_data_of_an_implicit_collection_is_deleted_and_purged(shim_network):
    private = shim_network.contract("private")
    alpha = {"endorsing_organizations": ["AlphaMSP"]}
    for key in ("deleted", "purged"):
        await private.submit("put", ALPHAS, f"gone/{key}", transient={"value": key.encode()}, **alpha)
    assert await asked(private, "get_many", ALPHAS, "gone/purged", "gone/none", "gone/deleted") == [
        "purged",
        "",
        "deleted",
    ]
    await private.submit("delete", ALPHAS, "gone/deleted", **alpha)
    await private.submit("purge", ALPHAS, "gone/purged", **alpha)
    assert await asked(private, "get_many", ALPHAS, "gone/purged", "gone/deleted") == ["", ""]
    assert await private.evaluate("hash", ALPHAS, "gone/purged") == b""


async def test_ranges_and_partial_keys_of_private_data(shim_network):
    private = shim_network.contract("private")
    alpha = {"endorsing_organizations": ["AlphaMSP"]}
    for key in ("a", "b", "c"):
        await private.submit("put", ALPHAS, f"ranged/{key}", transient={"value": key.encode()}, **alpha)
        await private.submit("put_composite", ALPHAS, "ranged", key, **alpha)
    assert await asked(private, "range", ALPHAS, "ranged/a", "ranged/c") == [["ranged/a", "a"], ["ranged/b", "b"]]
    assert await asked(private, "partial", ALPHAS, "ranged") == ["a", "b", "c"]


# --- endorsement policies of single keys


async def endorsed_by_alpha_alone(contract, function, *args):
    await contract.submit(function, *args, endorsing_organizations=["AlphaMSP"])


@pytest.mark.parametrize("set_policy", ["set", "set_at_once"])
async def test_a_keys_own_policy_replaces_the_chaincodes(shim_network, set_policy):
    policies = shim_network.contract("policies")
    key = f"policy/{set_policy}"
    await policies.submit("put", key, "1")
    with pytest.raises(CommitError) as invalid:
        await endorsed_by_alpha_alone(policies, "put", key, "2")
    assert invalid.value.code is ValidationCode.ENDORSEMENT_POLICY_FAILURE
    assert await policies.evaluate("get", key) == b""
    policy = parse_signature_rule("OR('AlphaMSP.peer')").SerializeToString()
    await policies.submit(set_policy, key, policy)
    assert await policies.evaluate("get", key) == policy
    await endorsed_by_alpha_alone(policies, "put", key, "2")
    assert await shim_network.contract("state").evaluate("get", key) == b"2"


async def test_any_signature_policy_is_taken_not_only_conjunctions(shim_network):
    policies = shim_network.contract("policies")
    await policies.submit("put", "policy/any", "1")
    policy = parse_signature_rule("OutOf(1, 'AlphaMSP.peer', 'BetaMSP.peer')").SerializeToString()
    await policies.submit("set", "policy/any", policy)
    await endorsed_by_alpha_alone(policies, "put", "policy/any", "2")


async def test_a_private_keys_own_policy(shim_network):
    private, policies = shim_network.contract("private"), shim_network.contract("policies")
    await private.submit("put", "shared", "policy", transient={"value": b"1"})
    assert await policies.evaluate("get_private", "shared", "policy") == b""
    policy = parse_signature_rule("OR('AlphaMSP.peer')").SerializeToString()
    await policies.submit("set_private", "shared", "policy", policy)
    assert await policies.evaluate("get_private", "shared", "policy") == policy
    details = {"transient": {"value": b"2"}, "endorsing_organizations": ["AlphaMSP"]}
    await private.submit("put", "shared", "policy", **details)
    assert await private.evaluate("get", "shared", "policy") == b"2"
    with pytest.raises(CommitError) as invalid:
        await private.submit("put", "shared", "policy without", **details)
    assert invalid.value.code is ValidationCode.ENDORSEMENT_POLICY_FAILURE


# --- other chaincodes, events, context


async def test_another_chaincode_writes_its_own_state_in_the_same_transaction(shim_network):
    calls = shim_network.contract("calls")
    answer = json.loads(await calls.submit("call", "callee", "put", "called", "by protocol"))
    assert answer == {"status": 200, "message": "", "payload": "called"}
    assert await shim_network.contract(chaincode="callee").evaluate("get", "called") == b"by protocol"


async def test_a_callees_refusal_is_a_response_to_the_caller(shim_network):
    answer = await asked(shim_network.contract("calls"), "call", "callee", "refuse", "418", "short and stout")
    assert answer == {"status": 418, "message": "short and stout", "payload": ""}


async def test_calls_that_can_not_be_are_typed_errors_and_the_peer_lives(shim_network):
    calls = shim_network.contract("calls")
    assert b"exists" in await calls.evaluate("call_refused", "protocol", "get", "x")
    assert b"not found" in await calls.evaluate("call_refused", "no-such-chaincode", "get", "x")
    assert b"INVOKE_CHAINCODE failed" in await calls.evaluate("call_refused", "callee/no-such-channel", "get", "x")


async def test_the_last_event_of_the_caller_is_the_transactions(shim_network):
    calls = shim_network.contract("calls")
    network = shim_network.gateways["alpha"].network(shim_network.network.channel_name)
    async with network.chaincode_events("protocol") as events:
        await calls.submit("emit", "event/1", "first", "second")
        await calls.submit("emit_and_call", "callee", "emit", "theirs", "also theirs")
        async with asyncio.timeout(20):
            seen = [await anext(events) for _ in range(2)]
    assert [(event.event_name, event.payload) for event in seen] == [("second", b"payload of second"), ("mine", b"")]


async def test_creator_time_transient_and_peer_are_what_the_client_signed(shim_network):
    calls = shim_network.contract("calls")
    before = time.time_ns() // 1_000_000
    context = await asked(calls, "context", transient={"a": b"1", "b": b"two"})
    after = time.time_ns() // 1_000_000
    user = await shim_network.network.enrol("alpha", "tester", role="scientist")
    assert context["msp"] == "AlphaMSP"
    assert context["certificate"].encode() == user.identity().certificate
    assert context["attributes"]["fedfabric.role"] == "scientist"
    assert context["peer"] == "AlphaMSP"
    assert before <= context["time"] <= after
    assert context["channel"] == shim_network.network.channel_name
    assert context["transient"] == {"a": "1", "b": "two"}
    assert context["init"] is False


async def test_refusals_have_status_and_message(shim_network):
    with pytest.raises(EndorseError) as error:
        await shim_network.contract("calls").submit("fail", "status")
    assert error.value.refusal is not None
    assert error.value.refusal.status == 499
    assert error.value.refusal.message == "a long story: " + "x" * 1000
