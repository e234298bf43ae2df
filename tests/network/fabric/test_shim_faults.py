"""What the official Python shim (fabric-chaincode-python 2.5.4) gets wrong, and what a server must bear.

The first seven are the faults found in it against Fabric v3.1.1, one test each.
"""

import asyncio
import json
import os
import signal
import time

import psutil
import pytest
from fedfabric.fabric.client import NO_RETRIES, CommitError, EndorseError, GatewayError, ValidationCode

pytestmark = pytest.mark.network


async def refused(awaitable) -> str:
    with pytest.raises(GatewayError) as refusal:
        await awaitable
    return str(refusal.value)


# --- the seven


async def test_1_many_transactions_at_a_time_neither_hang_nor_get_lost(shim_network):
    """Its writes on the stream interleave: at 16 in flight 0.4 transactions a second, lost ones hang for 30 s."""
    state = shim_network.contract("state")

    async def one(number: int) -> None:
        await state.submit("put_at_once", f"flight/{number}", str(number))
        assert await state.evaluate("get", f"flight/{number}") == str(number).encode()

    async with asyncio.timeout(60):
        await asyncio.gather(*(one(number) for number in range(128)))


async def test_2_a_call_to_another_chaincode_returns_its_response_and_the_peer_lives(shim_network):
    """It sends the wrong message, and the peer crashes on it."""
    before = (await shim_network.network.process("peer0.alpha")).pid
    calls = shim_network.contract("calls")
    answer = json.loads(await calls.submit("call", "callee", "put", "fault 2", "value"))
    assert answer["payload"] == "fault 2"
    process = await shim_network.network.process("peer0.alpha")
    assert (process.pid, process.restarts) == (before, 0)


async def test_3_an_error_of_the_peer_is_neither_a_value_nor_a_success(shim_network):
    """A read returns the error's text as the value, and a write that failed commits as valid."""
    calls, state = shim_network.contract("calls"), shim_network.contract("state")
    text = await calls.evaluate("unknown_collection", "x")
    assert b"no-such-collection" in text, "the contract caught a typed error with the peer's words"
    for function in ("unknown_collection_write", "unknown_collection_write_ignored"):
        message = await refused(calls.submit(function, f"fault 3 {function}"))
        assert "no-such-collection" in message
        assert await state.evaluate("get", f"fault 3 {function}") == b""


async def test_4_events_reach_their_listeners(shim_network):
    """It never attaches them."""
    network = shim_network.gateways["alpha"].network(shim_network.network.channel_name)
    async with network.chaincode_events("protocol") as events:
        await shim_network.contract("calls").submit("emit", "fault 4", "happened")
        async with asyncio.timeout(20):
            event = await anext(events)
    assert (event.event_name, event.payload) == ("happened", b"payload of happened")


async def test_5_private_data_is_written_and_read(shim_network):
    """Its private data is a stub that raises."""
    private = shim_network.contract("private")
    await private.submit("put", "shared", "fault 5", transient={"value": b"secret"})
    assert await private.evaluate("get", "shared", "fault 5") == b"secret"


async def test_6_transient_data_reaches_the_contract(shim_network):
    """Its get_transient returns None."""
    context = json.loads(await shim_network.contract("calls").evaluate("context", transient={"k": b"v"}))
    assert context["transient"] == {"k": "v"}


async def test_7_secrets_are_not_logged_and_bookmarks_not_dropped(shim_network):
    """It logs whole proposals with their transient data at INFO, and pagination loses its bookmark."""
    secret = "a-very-secret-value-7"
    private, state = shim_network.contract("private"), shim_network.contract("state")
    await private.submit("put", "shared", "fault 7", transient={"value": secret.encode()})
    await refused(private.submit("put", "no-such-collection", "fault 7", transient={"value": secret.encode()}))
    for organisation in ("alpha", "beta"):
        log = await shim_network.network.log(f"chaincode-protocol.{organisation}", 100_000)
        assert "received TRANSACTION" in log, "even at its most talkative"
        assert secret not in log
    await state.submit("fill", "fault7/", "3")
    rows, bookmark = json.loads(await state.evaluate("page", "fault7/", "fault7/x", "2", ""))
    assert (len(rows), bookmark) == (2, "fault7/00002")


# --- requests of one transaction


async def test_gathered_requests_of_one_transaction_all_get_their_answers(shim_network):
    """A peer drops a second request of a transaction without a reply: sent at once, they would hang for 30 s."""
    state, calls = shim_network.contract("state"), shim_network.contract("calls")
    await state.submit("fill", "gather/", "20")
    keys = [f"gather/{number:05}" for number in range(20)]
    async with asyncio.timeout(10):
        assert json.loads(await calls.evaluate("gather", *keys)) == [str(number) for number in range(20)]


async def test_an_abandoned_request_does_not_answer_the_next(shim_network):
    state, calls = shim_network.contract("state"), shim_network.contract("calls")
    await state.submit("put_at_once", "abandoned", "present")
    for _ in range(20):
        assert await calls.evaluate("give_up_and_go_on", "abandoned") == b"present"


async def test_a_task_left_behind_writes_nothing(shim_network):
    calls, state = shim_network.contract("calls"), shim_network.contract("state")
    assert await calls.submit("leave_a_task_behind", "left behind") == b"done"
    assert await state.evaluate("get", "left behind") == b""
    assert await calls.evaluate("context"), "and the stream lives"


# --- errors


@pytest.mark.parametrize("kind", ["exception", "exit", "cancel", "recursion", "surrogate"])
async def test_whatever_a_contract_does_its_client_gets_an_answer_and_the_next_one_is_served(shim_network, kind):
    calls = shim_network.contract("calls")
    before = await shim_network.network.process("chaincode-protocol.alpha")
    async with asyncio.timeout(10):
        message = await refused(calls.submit("fail", kind))
    assert "chaincode response" in message
    assert "secret" not in message
    assert await shim_network.contract("state").evaluate("get", "failed") == b""
    after = await shim_network.network.process("chaincode-protocol.alpha")
    assert (after.pid, after.restarts) == (before.pid, before.restarts)


@pytest.mark.parametrize(
    ("function", "arguments", "status"),
    [
        ("no-such", [], 404),
        ("state:fill", ["only one"], 400),
        ("state:fill", ["a", "not a number"], 400),
        ("state:get", [b"\xff"], 400),
        ("state:get", ["a", "b"], 400),
        ("state:get", [""], 500),
        ("state:put_at_once", ["key", ""], 500),
        ("state:put_at_once", ["large", b"x" * (16 * 1024 * 1024)], 413),
    ],
)
async def test_bad_calls_are_refusals_with_a_status(shim_network, function, arguments, status):
    with pytest.raises(EndorseError) as error:
        await shim_network.contract().submit(function, *arguments)
    assert error.value.refusal is not None
    assert error.value.refusal.status == status


async def test_a_large_value_comes_back_whole(shim_network):
    value = os.urandom(4 * 1024 * 1024)
    await shim_network.contract("state").submit("put_at_once", "four megabytes", value)
    assert await shim_network.contract("state").evaluate("get", "four megabytes") == value


async def test_outdated_reads_are_conflicts_and_nothing_else(shim_network):
    counter = shim_network.contract(chaincode="callee")
    results = await asyncio.gather(
        *(counter.submit("increment", "counter", retries=NO_RETRIES) for _ in range(20)), return_exceptions=True
    )
    conflicts = [result for result in results if isinstance(result, BaseException)]
    assert all(isinstance(conflict, CommitError | EndorseError) for conflict in conflicts)
    assert all(
        conflict.code is ValidationCode.MVCC_READ_CONFLICT
        for conflict in conflicts
        if isinstance(conflict, CommitError)
    )
    assert int(await counter.evaluate("get", "counter")) == 20 - len(conflicts)


# --- the server's life


async def test_concurrency_is_bounded_and_everybody_is_served(shim_network):
    """More at a time than the server runs (256): the rest waits, nobody is lost."""
    callee = shim_network.contract(chaincode="callee")
    async with asyncio.timeout(60):
        results = await asyncio.gather(*(callee.evaluate("slow", "300") for _ in range(400)))
    assert results == [b"slept"] * 400


async def received(network, process: str) -> int:
    """How many transactions a server has been given, by its log."""
    return (await network.log(process, 1_000_000)).count("received TRANSACTION")


async def until_received(network, process: str, count: int) -> None:
    async with asyncio.timeout(10):
        while await received(network, process) < count:  # noqa: ASYNC110 (another process writes it)
            await asyncio.sleep(0.02)


async def wait_until_gone(pid: int) -> None:
    async with asyncio.timeout(30):
        while psutil.pid_exists(pid):  # noqa: ASYNC110 (another process's end)
            await asyncio.sleep(0.02)


async def until_refused(calls) -> str:
    async with asyncio.timeout(10):
        while True:
            try:
                await calls.evaluate("context", endorsing_organizations=["AlphaMSP"])
            except GatewayError as error:
                return str(error)


async def test_sigterm_lets_running_transactions_finish_and_the_peer_comes_back(shim_network):
    network, calls = shim_network.network, shim_network.contract("calls")
    server = await network.process("chaincode-protocol.alpha")
    state = shim_network.contract("state")
    await state.submit("put_at_once", "before the end", "1")
    before = await received(network, "chaincode-protocol.alpha")
    running = [
        asyncio.create_task(calls.evaluate("sleep", "1500", f"sleep/{number}", endorsing_organizations=["AlphaMSP"]))
        for number in range(8)
    ]
    await until_received(network, "chaincode-protocol.alpha", before + 8)
    os.kill(server.pid, signal.SIGTERM)
    late = await asyncio.gather(calls.evaluate("context", endorsing_organizations=["AlphaMSP"]), return_exceptions=True)
    assert await asyncio.gather(*running) == [b"slept"] * 8
    assert isinstance(late[0], GatewayError | bytes)
    await wait_until_gone(server.pid)
    async with asyncio.timeout(30):
        while True:  # the supervisor starts the server anew, the peer connects at the next transaction
            try:
                assert await state.evaluate("get", "before the end", endorsing_organizations=["AlphaMSP"]) == b"1"
                break
            except GatewayError:
                await asyncio.sleep(0.1)
    after = await network.process("chaincode-protocol.alpha")
    assert after.pid != server.pid


async def test_a_killed_server_fails_its_transactions_at_once_and_is_found_again(shim_network):
    network, calls = shim_network.network, shim_network.contract("calls")
    server = await network.process("chaincode-protocol.alpha")
    before = await received(network, "chaincode-protocol.alpha")
    running = asyncio.create_task(calls.evaluate("sleep", "20000", "never", endorsing_organizations=["AlphaMSP"]))
    await until_received(network, "chaincode-protocol.alpha", before + 1)
    started = time.monotonic()
    os.kill(server.pid, signal.SIGKILL)
    assert "stream terminated" in await refused(running)
    assert time.monotonic() - started < 5
    async with asyncio.timeout(30):
        while True:
            try:
                await calls.evaluate("context", endorsing_organizations=["AlphaMSP"])
                break
            except GatewayError:
                await asyncio.sleep(0.1)


async def test_a_restarted_peer_finds_its_chaincode_server_running(shim_network):
    network, state = shim_network.network, shim_network.contract("state")
    server = await network.process("chaincode-protocol.beta")
    await state.submit("put_at_once", "peer restart", "1")
    await network.restart("peer0.beta")
    async with asyncio.timeout(60):
        while True:
            try:
                await state.submit("put_at_once", "peer restart", "2")
                break
            except (GatewayError, CommitError):
                await asyncio.sleep(0.2)
    assert (await network.process("chaincode-protocol.beta")).pid == server.pid
