import asyncio
import contextlib
import time

import grpc
import pytest
from fabric_protos.common import common_pb2
from fabric_protos.peer import proposal_pb2
from fedfabric.fabric.client import CommitStatusError, Deadlines, EndorseError, GatewayError, SubmitError, connect
from fedfabric.fabric.client.slots import Slots


async def test_no_more_calls_are_under_way_than_there_are_slots(channel, member, fake):
    contract = connect(channel, member.identity, member.sign, in_flight=5).network("c").contract("kv")
    await asyncio.gather(*(contract.submit("put", f"key{i}") for i in range(60)))
    assert fake.most_under_way <= 5
    assert len(fake.blocks) == 60


async def test_waits_for_a_commit_hold_slots(channel, member, fake):
    contract = connect(channel, member.identity, member.sign, in_flight=3).network("c").contract("kv")
    fake.hold_blocks.clear()
    submitted = [asyncio.create_task(contract.submit("put", f"key{i}")) for i in range(3)]
    await fake.asked("CommitStatus", 3)
    evaluated = asyncio.create_task(contract.evaluate("get", "key"))
    for _ in range(200):
        await asyncio.sleep(0)
    assert "Evaluate" not in fake.calls
    fake.hold_blocks.set()
    await asyncio.gather(*submitted, evaluated)
    assert fake.calls.count("Evaluate") == 1


async def test_a_burst_does_not_endorse_everything_before_it_submits(channel, member, fake):
    contract = connect(channel, member.identity, member.sign, in_flight=2).network("c").contract("kv")
    await asyncio.gather(*(contract.submit("put", f"key{i}") for i in range(20)))
    assert fake.calls[: fake.calls.index("CommitStatus")].count("Endorse") <= 6


@pytest.mark.parametrize("call", ["submit", "submit_async", "evaluate"])
async def test_a_proposal_is_made_when_its_turn_comes(channel, member, fake, call):
    contract = connect(channel, member.identity, member.sign, in_flight=1).network("c").contract("kv")
    held = asyncio.Event()
    fake.script["Evaluate"].append(held.wait)
    first = asyncio.create_task(contract.evaluate("first"))
    await fake.asked("Evaluate")
    second = asyncio.create_task(getattr(contract, call)("second"))
    await asyncio.sleep(0)  # it waits for its turn
    released = time.time_ns()
    held.set()
    await asyncio.gather(first, second)
    request = fake.requests["Evaluate" if call == "evaluate" else "Endorse"][-1]
    proposal = proposal_pb2.Proposal.FromString(request.proposed_transaction.proposal_bytes)
    header = common_pb2.Header.FromString(proposal.header)
    stamp = common_pb2.ChannelHeader.FromString(header.channel_header).timestamp
    assert stamp.ToNanoseconds() >= released


async def test_a_peer_with_too_many_calls_is_asked_again(contract, fake, failure):
    busy = failure(grpc.StatusCode.UNKNOWN, "too many requests for /gateway.Gateway, exceeding concurrency limit (500)")
    for method in ("Endorse", "Submit", "CommitStatus"):
        fake.script[method].append(busy)
    assert await contract.submit("put", "key") == b"put|key"
    assert fake.calls == [step for step in ("Endorse", "Submit", "CommitStatus") for _ in range(2)]


async def test_a_peer_that_stays_busy_is_asked_until_the_deadline(channel, member, fake, failure):
    gateway = connect(channel, member.identity, member.sign, deadlines=Deadlines(evaluate=0.2))
    fake.script["Evaluate"] += [failure(grpc.StatusCode.UNKNOWN, "too many requests for /gateway.Gateway")] * 100
    with pytest.raises(GatewayError, match="too many requests"):
        await gateway.network("c").contract("kv").evaluate("get")
    assert 2 <= fake.calls.count("Evaluate") < 10


async def test_other_unknown_failures_are_not_taken_for_a_busy_peer(contract, fake, failure):
    fake.script["Evaluate"].append(failure(grpc.StatusCode.UNKNOWN, "evaluate call to endorser returned error"))
    with pytest.raises(GatewayError):
        await contract.evaluate("get")
    assert fake.calls == ["Evaluate"]


@pytest.mark.parametrize(
    ("method", "error_class"),
    [
        ("Evaluate", GatewayError),
        ("Endorse", EndorseError),
        ("Submit", SubmitError),
        ("CommitStatus", CommitStatusError),
    ],
)
async def test_each_call_has_a_deadline(channel, member, fake, method, error_class):
    named = {"Evaluate": "evaluate", "Endorse": "endorse", "Submit": "submit", "CommitStatus": "commit_status"}
    deadlines = Deadlines(**dict.fromkeys(named.values(), 60.0) | {named[method]: 0.05})
    contract = connect(channel, member.identity, member.sign, deadlines=deadlines).network("c").contract("kv")
    never = asyncio.Event()
    fake.script[method].append(never.wait)
    with pytest.raises(GatewayError) as caught:
        await (contract.evaluate("get") if method == "Evaluate" else contract.submit("put"))
    assert type(caught.value) is error_class
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(caught.value.transaction_id) == 64


@pytest.mark.parametrize(
    ("seconds", "code"), [(0.05, grpc.StatusCode.DEADLINE_EXCEEDED), (60.0, grpc.StatusCode.CANCELLED)]
)
async def test_a_peer_that_resets_the_stream_at_the_deadline_has_exceeded_it_and_an_early_one_not(
    channel, member, fake, failure, seconds, code
):
    gateway = connect(channel, member.identity, member.sign, deadlines=Deadlines(evaluate=seconds))
    fake.script["Evaluate"].append(failure(grpc.StatusCode.CANCELLED, "Received RST_STREAM with error code 8"))
    with pytest.raises(GatewayError, match="RST_STREAM") as caught:
        await gateway.network("c").contract("kv").evaluate("get")
    assert caught.value.code is code


async def test_slots_are_given_in_order_to_those_that_continue_first():
    slots = Slots(1)
    await slots.acquire(continues=False)
    order = []

    async def wait(name, *, continues):
        async with slots.take(continues=continues):
            order.append(name)

    waiting = [
        asyncio.create_task(wait("first", continues=False)),
        asyncio.create_task(wait("second", continues=False)),
        asyncio.create_task(wait("continues", continues=True)),
    ]
    await asyncio.sleep(0)
    slots.release()
    await asyncio.gather(*waiting)
    assert order == ["continues", "first", "second"]
    assert slots.free == 1


@pytest.mark.parametrize("given", ["later", "before", "just after"])
async def test_a_cancelled_wait_takes_no_slot(given):
    slots = Slots(1)
    await slots.acquire(continues=False)
    waiting = asyncio.create_task(slots.acquire(continues=False))
    await asyncio.sleep(0)
    if given == "before":
        slots.release()
    waiting.cancel()
    if given == "just after":
        slots.release()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    assert waiting.cancelled()
    assert not any(slots._waiting)
    if given == "later":
        slots.release()
    assert slots.free == 1


async def test_a_failed_call_gives_its_slot_back(channel, member, fake, failure):
    contract = connect(channel, member.identity, member.sign, in_flight=1).network("c").contract("kv")
    fake.script["Evaluate"].append(failure(grpc.StatusCode.INTERNAL))
    with pytest.raises(GatewayError):
        await contract.evaluate("get")
    assert await contract.evaluate("get") == b"get"


def test_a_gateway_needs_a_slot():
    with pytest.raises(ValueError, match="at least one"):
        Slots(0)
