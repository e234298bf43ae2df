"""The client against real peers and a real ordering service."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime

import grpc
import pytest
import pytest_asyncio
from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2
from fedfabric.fabric.client import (
    NO_RETRIES,
    CheckpointError,
    CommitError,
    CommitStatusError,
    Deadlines,
    EndorseError,
    FileCheckpointer,
    GatewayError,
    InMemoryCheckpointer,
    Retries,
    SubmitError,
    ValidationCode,
    connect,
    open_channel,
)
from fedfabric.fabric.client.calls import is_busy
from fedfabric.fabric.client.statuses import Statuses
from fedfabric.fabric.identity import Identity, private_key_signer
from fedfabric.network.identities import Authority


class Member:
    """A scientist of an organisation, at the organisation's own peer."""

    def __init__(self, network, organisation, user, channel):
        self.channel_name = network.channel_name
        self.organisation = network.organisations[organisation]
        self.identity, self.sign, self.channel = user.identity(), user.signer(), channel
        self.gateway = self.connect()
        self.network = self.gateway.network(self.channel_name)
        self.kv = self.network.contract("kv")

    def connect(self, **settings):
        return connect(self.channel, self.identity, self.sign, **settings)


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def members(raft_network):
    async with contextlib.AsyncExitStack() as stack:
        found = {}
        for name, organisation in raft_network.organisations.items():
            user = await raft_network.enrol(name, "client")
            channel = open_channel(organisation.peer_endpoint, organisation.peer_tls_ca.read_bytes())
            found[name] = Member(raft_network, name, user, await stack.enter_async_context(channel))
        yield found


@pytest.fixture
def alpha(members):
    return members["alpha"]


@pytest.fixture
def beta(members):
    return members["beta"]


@pytest.fixture
def key():
    return f"client/{uuid.uuid4().hex}"


async def codes(network, transaction_id):
    """The validation codes that a transaction id has in the channel's blocks, in order."""
    height = await network.height()
    async with network.filtered_block_events(start_block=0, stop_block=height - 1) as blocks:
        return [
            ValidationCode(transaction.tx_validation_code)
            async for block in blocks
            for transaction in block.filtered_transactions
            if transaction.txid == transaction_id
        ]


async def first_failure(call):
    """Repeat a call until it fails."""
    while True:
        try:
            await call()
        except grpc.aio.AioRpcError as error:
            return error


async def test_64_transactions_at_once_all_commit(alpha, beta, key):
    results = await asyncio.gather(*(alpha.kv.submit("put", f"{key}/{i}", f"value {i}") for i in range(64)))
    assert results == [f"{key}/{i}".encode() for i in range(64)]
    values = await asyncio.gather(*(alpha.kv.evaluate("get", f"{key}/{i}") for i in range(64)))
    assert values == [f"value {i}".encode() for i in range(64)]


async def test_a_commit_names_the_block_that_holds_the_transaction(alpha, key):
    commit = await alpha.kv.submit_async("put", key, "value")
    status = await commit.status()
    assert status.successful
    async with alpha.network.filtered_block_events(
        start_block=status.block_number, stop_block=status.block_number
    ) as blocks:
        block = await anext(blocks)
    assert commit.transaction_id in {transaction.txid for transaction in block.filtered_transactions}


async def test_what_the_stream_of_blocks_tells_is_what_the_peer_answers_and_what_it_reads(alpha, key):
    gateway = alpha.connect()
    network = gateway.network(alpha.channel_name)
    kv = network.contract("kv")
    shared = Statuses.of(gateway._calls, alpha.channel_name)
    async with asyncio.timeout(60):
        while not shared._live:  # many at once open the stream
            await asyncio.gather(*(kv.submit("put", f"{key}/{i}", "before") for i in range(32)))

    async def increment():
        commit = await kv.submit_async("increment", key)
        told = commit._ended
        status = await commit.status()
        value = int(await kv.evaluate("get", key)) if status.successful else None
        return told, status, value

    outcomes = await asyncio.gather(*(increment() for _ in range(16)))
    for told, status, value in outcomes:
        assert told is not None
        assert told.result().block_number == status.block_number
        assert status == await network.commit(status.transaction_id).status()
        assert value is None or value >= 1
    assert {status.successful for _, status, _ in outcomes} == {True, False}


async def test_each_peers_refusal_is_told(alpha, members):
    with pytest.raises(EndorseError) as caught:
        await alpha.kv.submit("refuse", "409", "taken", endorsing_organizations=["AlphaMSP", "BetaMSP"])
    told = {
        (detail.msp_id, detail.address, detail.refusal.status, detail.refusal.message)
        for detail in caught.value.details
    }
    assert told == {
        (member.organisation.msp_id, member.organisation.peer_endpoint, 409, "taken") for member in members.values()
    }
    assert caught.value.code is grpc.StatusCode.ABORTED


async def test_an_evaluated_refusal_is_told(alpha):
    with pytest.raises(GatewayError) as caught:
        await alpha.kv.evaluate("refuse", "404", "none of that name")
    assert (caught.value.refusal.status, caught.value.refusal.message) == (404, "none of that name")


async def test_conflicting_transactions_all_get_through(alpha, key):
    patient = Retries(conflicts=50, heights=50)
    await asyncio.gather(*(alpha.kv.submit("increment", key, retries=patient) for _ in range(8)))
    assert await alpha.kv.evaluate("get", key) == b"8"


async def test_without_retries_a_conflict_is_an_error(alpha, key):
    outcomes = await asyncio.gather(
        *(alpha.kv.submit("increment", key, retries=NO_RETRIES) for _ in range(8)), return_exceptions=True
    )
    failed = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    invalid = [error for error in failed if isinstance(error, CommitError)]
    assert invalid
    assert {error.code for error in invalid} == {ValidationCode.MVCC_READ_CONFLICT}
    # The rest computed on different heights and were not sent.
    assert {type(error) for error in failed} <= {CommitError, EndorseError}
    assert int(await alpha.kv.evaluate("get", key)) == 8 - len(failed)


async def test_too_few_endorsements_are_tried_twice_and_change_nothing(alpha, key):
    sent = []

    async def note(transaction):
        sent.append(transaction.transaction_id)

    with pytest.raises(CommitError) as caught:
        await alpha.kv.submit("put", key, "value", endorsing_organizations=["AlphaMSP"], before_submit=note)
    assert caught.value.code is ValidationCode.ENDORSEMENT_POLICY_FAILURE
    assert len(sent) == len(set(sent)) == 2
    assert await alpha.kv.evaluate("get", key) == b""


async def test_bft_orderers_that_hear_late_of_a_transaction_do_not_fail_it(bft_network, key):
    """Under load some orderers get a transaction after its block, and refuse it as already processed."""
    user = await bft_network.enrol("cleveland", "client")
    organisation = bft_network.organisations["cleveland"]
    async with open_channel(organisation.peer_endpoint, organisation.peer_tls_ca.read_bytes()) as channel:
        # Few enough that no proposal waits at a peer for longer than these networks' window of one second.
        gateway = connect(channel, user.identity(), user.signer(), in_flight=48)
        contract = gateway.network(bft_network.channel_name).contract("kv")
        results = await asyncio.gather(*(contract.submit("put", f"{key}/{i}", "v" * 256) for i in range(300)))
    assert results == [f"{key}/{i}".encode() for i in range(300)]


# Replays and forgeries


async def test_a_replayed_envelope_commits_once(alpha, key):
    transaction = await alpha.kv.propose("increment", key).endorse()
    first = await (await transaction.submit()).status()
    again = alpha.gateway.signed_transaction(transaction.bytes)
    await again.submit()
    await alpha.kv.submit("put", f"{key}/later", "so the replay is in a block")
    assert first.code is ValidationCode.VALID
    assert await codes(alpha.network, transaction.transaction_id) == [
        ValidationCode.VALID,
        ValidationCode.DUPLICATE_TXID,
    ]
    assert await alpha.kv.evaluate("get", key) == b"1"


async def test_a_proposal_endorsed_twice_commits_once(alpha, key):
    proposal = alpha.kv.propose("increment", key)
    replayed = alpha.gateway.signed_proposal(proposal.bytes, alpha.sign(proposal.message))
    first, second = await proposal.endorse(), await replayed.endorse()
    assert first.transaction_id == second.transaction_id
    commits = [await first.submit(), await second.submit()]
    await asyncio.gather(*(commit.status() for commit in commits))
    await alpha.kv.submit("put", f"{key}/later", "so both are in a block")
    found = await codes(alpha.network, first.transaction_id)
    assert sorted(found) == [ValidationCode.VALID, ValidationCode.DUPLICATE_TXID]
    assert await alpha.kv.evaluate("get", key) == b"1"


async def test_a_proposal_replayed_after_its_commit_is_refused(alpha, key):
    proposal = alpha.kv.propose("increment", key)
    proposal.sign()
    await (await (await proposal.endorse()).submit()).status()
    with pytest.raises(EndorseError, match="duplicate transaction"):
        await alpha.gateway.signed_proposal(proposal.bytes).endorse()
    assert await alpha.kv.evaluate("get", key) == b"1"


async def test_another_members_signature_under_a_proposal_is_refused(alpha, beta, key):
    proposal = alpha.kv.propose("put", key, "value")
    with pytest.raises(EndorseError) as caught:
        await alpha.gateway.signed_proposal(proposal.bytes, beta.sign(proposal.message)).endorse()
    assert "access denied" in caught.value.details[0].message


async def test_another_members_signature_under_a_transaction_is_refused(alpha, beta, key):
    transaction = await alpha.kv.propose("put", key, "value").endorse()
    forged = alpha.gateway.signed_transaction(transaction.bytes, beta.sign(transaction.message))
    with pytest.raises(SubmitError) as caught:
        await forged.submit()
    assert caught.value.code is grpc.StatusCode.ABORTED
    assert await alpha.kv.evaluate("get", key) == b""


async def test_a_proposal_changed_after_signing_is_refused(alpha, key):
    proposal = alpha.kv.propose("put", key, "value")
    proposal.sign()
    message = gateway_pb2.ProposedTransaction.FromString(proposal.bytes)
    message.proposal.proposal_bytes = message.proposal.proposal_bytes.replace(b"value", b"VALUE")
    with pytest.raises(EndorseError):
        await alpha.gateway.signed_proposal(message.SerializeToString()).endorse()


@pytest.mark.parametrize("claimed", ["AlphaMSP", "GammaMSP"])
async def test_a_certificate_of_another_authority_is_refused(alpha, key, claimed, raft_network):
    issued = Authority.create("ca.gamma", "gamma", datetime.now(UTC)).issue("mallory", datetime.now(UTC), kind="client")
    mallory = connect(alpha.channel, Identity(claimed, issued.certificate), private_key_signer(issued.key))
    network = mallory.network(alpha.channel_name)
    for refused in (network.contract("kv").submit("put", key, "1"), network.contract("kv").evaluate("get", key)):
        with pytest.raises(GatewayError):
            await refused
    with pytest.raises(CommitStatusError) as caught:
        await network.commit("0" * 64).status()
    assert caught.value.code is grpc.StatusCode.PERMISSION_DENIED
    for events in (network.chaincode_events("kv"), network.block_events()):
        async with events:
            with pytest.raises(GatewayError) as caught:
                await anext(events)
            assert caught.value.code is grpc.StatusCode.PERMISSION_DENIED


async def test_an_unknown_channel_and_an_unknown_chaincode_are_errors(alpha):
    with pytest.raises(EndorseError):
        await alpha.gateway.network("nowhere").contract("kv").submit("put", "key", "value")
    with pytest.raises(GatewayError):
        await alpha.network.contract("nothing").evaluate("get", "key")
    async with alpha.gateway.network("nowhere").block_events(start_block=0) as blocks:
        with pytest.raises(GatewayError) as caught:
            await anext(blocks)
    assert caught.value.code is grpc.StatusCode.NOT_FOUND


# Signing elsewhere


async def test_every_step_can_be_signed_elsewhere(alpha, key):
    offline = connect(alpha.channel, alpha.identity)
    network = offline.network(alpha.channel_name)
    height = await alpha.network.height()
    proposal = network.contract("kv").propose("emit", "first", key)
    endorsed = await offline.signed_proposal(proposal.bytes, alpha.sign(proposal.message)).endorse()
    endorsed.check(proposal.message)
    commit = await offline.signed_transaction(endorsed.bytes, alpha.sign(endorsed.message)).submit()
    status = await offline.signed_commit(commit.bytes, alpha.sign(commit.message)).status()
    assert status.successful
    request = network.chaincode_events_request("kv", start_block=height)
    async with offline.signed_chaincode_events_request(request.bytes, alpha.sign(request.message)).events() as events:
        event = await anext(events)
        while event.transaction_id != commit.transaction_id:
            event = await anext(events)
    assert (event.event_name, event.payload, event.block_number) == (key, b"last", status.block_number)
    for kind in ("block_events", "filtered_block_events", "block_and_private_data_events"):
        request = getattr(network, f"{kind}_request")(start_block=0, stop_block=0)
        signed = getattr(offline, f"signed_{kind}_request")(request.bytes, alpha.sign(request.message))
        async with signed.events() as blocks:
            assert len([block async for block in blocks]) == 1


# Deadlines and flow control


async def test_a_call_ends_at_its_deadline(alpha):
    hasty = alpha.connect(deadlines=Deadlines(evaluate=0.2, endorse=0.2, commit_status=0.2))
    network = hasty.network(alpha.channel_name)
    started = time.monotonic()
    for call, error in (
        (network.contract("kv").evaluate("slow", "5000"), GatewayError),
        (network.contract("kv").submit("slow_put", "key", "5000"), EndorseError),
        (network.commit("0" * 64).status(), CommitStatusError),
    ):
        with pytest.raises(error) as caught:
            await call
        assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - started < 4


async def test_the_peers_limit_is_waited_for_and_stayed_below(alpha, key):
    crowd = alpha.connect(in_flight=1000).network(alpha.channel_name)
    waits = [asyncio.create_task(crowd.commit(f"{number:064}").status()) for number in range(600)]
    try:
        proposal = alpha.kv.propose("get", key)
        proposal.sign()
        request = gateway_pb2.EvaluateRequest(
            transaction_id=proposal.transaction_id,
            channel_id=alpha.channel_name,
            proposed_transaction=gateway_pb2.ProposedTransaction.FromString(proposal.bytes).proposal,
        )
        async with asyncio.timeout(20):
            assert is_busy(await first_failure(lambda: crowd._calls.gateway.Evaluate(request)))
        evaluated = asyncio.create_task(alpha.kv.evaluate("get", key))
        done, _ = await asyncio.wait({evaluated}, timeout=0.5)
        assert not done
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
    assert await evaluated == b""
    polite = alpha.connect().network(alpha.channel_name)
    waits = [asyncio.create_task(polite.commit(f"{number:064}").status()) for number in range(600)]
    try:
        assert await alpha.kv.evaluate("get", key) == b""
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


# Events


async def test_a_transactions_event_comes_with_its_block(alpha, key):
    async with alpha.network.chaincode_events("kv", start_block=await alpha.network.height()) as events:
        commit = await alpha.kv.submit_async("emit", "first", key)
        status = await commit.status()
        event = await anext(events)
    assert (event.block_number, event.transaction_id) == (status.block_number, commit.transaction_id)
    assert (event.chaincode_name, event.event_name, event.payload) == ("kv", key, b"last")


async def test_an_invalid_transactions_event_does_not_come(alpha, key):
    async with alpha.network.chaincode_events("kv", start_block=await alpha.network.height()) as events:
        with pytest.raises(CommitError):
            await alpha.kv.submit("emit", "first", f"{key}/invalid", endorsing_organizations=["AlphaMSP"])
        await alpha.kv.submit("emit", "first", f"{key}/valid")
        assert (await anext(events)).event_name == f"{key}/valid"


@pytest.mark.parametrize("kind", ["block_events", "filtered_block_events", "block_and_private_data_events"])
async def test_blocks_come_in_every_form(alpha, kind):
    height = await alpha.network.height()
    async with getattr(alpha.network, kind)(start_block=0, stop_block=height - 1) as blocks:
        found = [block async for block in blocks]
    numbers = {
        "block_events": lambda block: block.header.number,
        "filtered_block_events": lambda block: block.number,
        "block_and_private_data_events": lambda block: block.block.header.number,
    }
    assert [numbers[kind](block) for block in found] == list(range(height))


async def test_a_blocks_transaction_is_the_one_submitted(alpha, key):
    transaction = await alpha.kv.propose("put", key, "value").endorse()
    status = await (await transaction.submit()).status()
    async with alpha.network.block_events(start_block=status.block_number, stop_block=status.block_number) as blocks:
        block = await anext(blocks)
    payloads = [common_pb2.Envelope.FromString(data).payload for data in block.data.data]
    assert transaction.message in payloads


async def test_private_data_comes_with_its_block(shim_network, key):
    gateway = shim_network.gateways["alpha"]
    network = gateway.network(shim_network.network.channel_name)
    commit = await shim_network.contract("private").submit_async(
        "put", "alphas", key, transient={"value": b"secret"}, endorsing_organizations=["AlphaMSP"]
    )
    status = await commit.status()
    assert status.successful
    numbers = {"start_block": status.block_number, "stop_block": status.block_number}
    async with network.block_and_private_data_events(**numbers) as blocks:
        block = await anext(blocks)
    assert b"secret" in block.SerializeToString()
    async with network.block_events(**numbers) as blocks:
        assert b"secret" not in (await anext(blocks)).SerializeToString()
    other = shim_network.gateways["beta"].network(shim_network.network.channel_name)
    async with other.block_and_private_data_events(**numbers) as blocks:
        assert b"secret" not in (await anext(blocks)).SerializeToString()


CONSUMER = """
import asyncio, json, sys
from pathlib import Path
from fedfabric.fabric.client import FileCheckpointer, Identity, connect, open_channel, private_key_signer

async def main(settings):
    certificate, key, roots = (Path(settings[name]).read_bytes() for name in ("certificate", "key", "roots"))
    async with open_channel(settings["endpoint"], roots) as channel:
        gateway = connect(channel, Identity(settings["msp_id"], certificate), private_key_signer(key))
        checkpointer = FileCheckpointer(settings["checkpoint"])
        events = gateway.network(settings["channel"]).chaincode_events(
            "kv", start_block=settings["start"], checkpoint=checkpointer
        )
        async with events:
            async for event in events:
                print(event.event_name, flush=True)
                checkpointer.checkpoint_chaincode_event(event)

asyncio.run(main(json.loads(sys.argv[1])))
"""


async def test_a_killed_consumer_goes_on_at_its_checkpoint(alpha, raft_network, key, tmp_path):
    user = await raft_network.enrol("alpha", "client")
    settings = {
        "certificate": str(user.certificate_path),
        "key": str(user.key_path),
        "roots": str(alpha.organisation.peer_tls_ca),
        "endpoint": alpha.organisation.peer_endpoint,
        "msp_id": alpha.organisation.msp_id,
        "channel": alpha.channel_name,
        "checkpoint": str(tmp_path / "checkpoint.json"),
        "start": await alpha.network.height(),
    }
    names = [f"{key}/{number:02}" for number in range(40)]
    await asyncio.gather(*(alpha.kv.submit("emit", "first", name) for name in names))
    seen = []
    for take in (7, 1, 12, len(names)):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CONSUMER, json.dumps(settings), stdout=subprocess.PIPE
        )
        try:
            async with asyncio.timeout(60):
                for _ in range(take):
                    seen.append((await process.stdout.readline()).decode().strip())
                    if set(seen) == set(names):
                        break
        finally:
            process.send_signal(signal.SIGKILL)
            rest = await process.stdout.read()
            await process.wait()
        seen += rest.decode().split()
    assert set(seen) == set(names)
    # Each kill may repeat the one event that was printed and not yet noted.
    assert len(seen) <= len(names) + 3
    order = list(dict.fromkeys(seen))
    async with alpha.network.chaincode_events("kv", start_block=settings["start"]) as events:
        assert order == [(await anext(events)).event_name for _ in names]
    assert FileCheckpointer(settings["checkpoint"]).position is not None


async def test_a_checkpoint_of_another_network_is_an_error(alpha):
    checkpointer = InMemoryCheckpointer()
    checkpointer.checkpoint_transaction(1, "0" * 64)
    async with alpha.network.chaincode_events("kv", checkpoint=checkpointer) as events:
        with pytest.raises(CheckpointError):
            await anext(events)


async def test_a_stream_goes_on_after_its_peer_was_killed(raft_network, alpha, beta, key):
    start = await beta.network.height()
    checkpointer = InMemoryCheckpointer()
    async with (
        beta.network.chaincode_events("kv", start_block=start, checkpoint=checkpointer, reconnect=True) as events,
        beta.network.block_events(start_block=start, reconnect=True) as blocks,
    ):
        await alpha.kv.submit("emit", "first", f"{key}/before")
        assert (await anext(events)).event_name == f"{key}/before"
        first = (await anext(blocks)).header.number
        assert first == start
        os.kill((await raft_network.process("peer0.beta")).pid, signal.SIGKILL)
        # Beta's endorsement is needed, so this waits until its peer is back.
        async with asyncio.timeout(60):
            while True:
                try:
                    await alpha.kv.submit("emit", "first", f"{key}/after")
                    break
                except GatewayError:
                    await asyncio.sleep(0.1)
            event = await anext(events)
            while event.event_name != f"{key}/after":
                event = await anext(events)
            numbers = [first]
            while numbers[-1] < event.block_number:
                numbers.append((await anext(blocks)).header.number)
        assert numbers == list(range(start, event.block_number + 1))


async def test_a_proposal_is_stamped_when_it_leaves(alpha, key):
    """The peers' window is one second here; the last of a burst leaves later than that after it was asked for."""
    narrow = alpha.connect(in_flight=4).network(alpha.channel_name).contract("kv")
    slow = [narrow.evaluate("slow", "600") for _ in range(12)]
    results = await asyncio.gather(*slow, narrow.submit("put", key, "value"))
    assert results[-1] == key.encode()
