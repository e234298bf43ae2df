"""One stream of blocks tells many waiting transactions how they ended; where it can't, the peer is asked for each."""

import asyncio
import contextlib

import grpc
import pytest
from fabric_protos.common import common_pb2
from fedfabric.fabric.client import CommitStatusError, Deadlines, ValidationCode, connect, statuses
from fedfabric.fabric.client.commit import Commit
from fedfabric.fabric.client.statuses import Statuses

MANY = 8
pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def shared(gateway):
    return Statuses.of(gateway._calls, "consortium")


@pytest.fixture
def patient(monkeypatch):
    """What is not told and not asked for otherwise runs into the test's own time-out."""
    monkeypatch.setattr(statuses, "_PATIENCE", 600.0)


async def until(condition):
    while not condition():  # noqa: ASYNC110 (what is waited for has no event)
        await asyncio.sleep(0.001)


async def begin(shared, fake):
    """Open the stream as many questions at once do."""
    await fake.commit([("genesis", ValidationCode.VALID, None)])
    with contextlib.ExitStack() as asking:
        for _ in range(MANY):
            asking.enter_context(shared.asking())
    await until(lambda: shared._live)


async def unseen(contract, fake):
    """A transaction that was watched and is committed, and which the stream does not name."""
    fake.untold.add(len(fake.blocks))
    return await contract.submit_async("put", "key")


async def test_many_at_once_have_one_stream_opened_which_tells_the_rest(contract, shared, fake, patient):
    fake.hold_blocks.clear()
    first = [asyncio.create_task(contract.submit("put", f"key{number}")) for number in range(MANY)]
    await fake.asked("CommitStatus", MANY)
    await until(lambda: shared._live)
    fake.hold_blocks.set()
    await asyncio.gather(*first)
    fake.outcomes += [ValidationCode.VALID, ValidationCode.MVCC_READ_CONFLICT] * 20
    commits = await asyncio.gather(*(contract.submit_async("put", f"more{number}") for number in range(40)))
    for status in await asyncio.gather(*(commit.status() for commit in commits)):
        assert (status.block_number, status.code) == fake.find(status.transaction_id)
    assert fake.calls.count("CommitStatus") == MANY
    assert fake.calls.count("DeliverFiltered") == 1


async def test_few_at_once_are_asked_for(contract, fake):
    await asyncio.gather(*(contract.submit("put", f"key{number}") for number in range(MANY - 1)))
    assert fake.calls.count("CommitStatus") == MANY - 1
    assert "DeliverFiltered" not in fake.calls


async def test_a_duplicate_is_asked_for_since_it_ended_as_the_first_did(contract, shared, fake, patient):
    await begin(shared, fake)
    transaction = await contract.propose("put", "key").endorse()
    number = len(fake.blocks)
    fake.untold.add(number)
    await fake.commit([(transaction.transaction_id, ValidationCode.MVCC_READ_CONFLICT, None)])
    status = await (await transaction.submit()).status()
    assert (status.code, status.block_number) == (ValidationCode.MVCC_READ_CONFLICT, number)


async def test_a_submission_that_was_repeated_is_told_by_its_first_block(contract, shared, fake, failure, patient):
    async def lose():
        fake.fail_after_submit = failure(grpc.StatusCode.UNAVAILABLE)

    async def keep():
        fake.fail_after_submit = None

    await begin(shared, fake)
    fake.script["Submit"] += [lose, keep]
    status = await (await contract.submit_async("put", "key")).status()
    assert (status.code, status.block_number) == (ValidationCode.VALID, 1)
    assert "CommitStatus" not in fake.calls


async def test_both_transactions_of_a_proposal_endorsed_twice_are_told(contract, shared, fake, patient):
    await begin(shared, fake)
    proposal = contract.propose("put", "key")
    first, second = await proposal.endorse(), await proposal.endorse()
    commits = [await first.submit(), await second.submit()]
    assert [(await commit.status()).block_number for commit in commits] == [1, 1]
    assert "CommitStatus" not in fake.calls


@pytest.mark.parametrize("end", ["silence", "status", "failure"])
async def test_what_waits_when_the_stream_ends_is_asked_for(contract, shared, fake, failure, patient, end):
    await begin(shared, fake)
    status = asyncio.create_task((await unseen(contract, fake)).status())
    ends = {"silence": None, "status": common_pb2.SERVICE_UNAVAILABLE, "failure": failure(grpc.StatusCode.INTERNAL)}
    await fake.end_all_streams(ends[end])
    assert (await status).successful
    assert fake.calls.count("CommitStatus") == 1
    assert shared._reader is None


async def test_a_refused_stream_is_not_asked_for_again_at_once(contract, shared, fake, failure):
    fake.script["DeliverFiltered"] += [failure(grpc.StatusCode.PERMISSION_DENIED)] * 100
    for _ in range(3):
        await asyncio.gather(*(contract.submit("put", f"key{number}") for number in range(5 * MANY)))
    assert fake.calls.count("CommitStatus") == 15 * MANY
    assert fake.calls.count("DeliverFiltered") == 1


async def test_a_transaction_that_the_stream_does_not_name_is_asked_for(contract, shared, fake, monkeypatch):
    monkeypatch.setattr(statuses, "_PATIENCE", 0.05)
    await begin(shared, fake)
    commit = await unseen(contract, fake)
    assert (await commit.status()).successful
    assert fake.calls.count("CommitStatus") == 1


@pytest.mark.parametrize("patience", [0.01, 600.0])
async def test_the_deadline_holds_for_what_nobody_tells(channel, member, fake, monkeypatch, patience):
    monkeypatch.setattr(statuses, "_PATIENCE", patience)
    gateway = connect(channel, member.identity, member.sign, deadlines=Deadlines(commit_status=0.1))
    shared = Statuses.of(gateway._calls, "consortium")
    await begin(shared, fake)
    commit = Commit.build(gateway._calls, "consortium", "f" * 64, ended=shared.watch("f" * 64))
    with pytest.raises(CommitStatusError) as caught:
        await commit.status()
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert caught.value.transaction_id == "f" * 64


async def test_time_spent_waiting_for_the_stream_is_time_of_the_deadline(channel, member, fake, monkeypatch):
    monkeypatch.setattr(statuses, "_PATIENCE", 0.5)
    gateway = connect(channel, member.identity, member.sign, deadlines=Deadlines(commit_status=10.0))
    await begin(Statuses.of(gateway._calls, "consortium"), fake)
    commit = await unseen(gateway.network("consortium").contract("kv"), fake)
    assert (await commit.status()).successful
    assert fake.remaining["CommitStatus"][0] < 9.75


async def test_a_gateway_that_can_not_sign_opens_no_stream(channel, member):
    shared = Statuses.of(connect(channel, member.identity)._calls, "consortium")
    with contextlib.ExitStack() as asking:
        for _ in range(MANY):
            asking.enter_context(shared.asking())
        assert shared._reader is None


async def test_a_commit_that_nobody_keeps_is_forgotten(contract, shared, fake):
    await begin(shared, fake)
    commit = await unseen(contract, fake)
    assert len(shared._watched) == 1
    del commit
    assert len(shared._watched) == 0


def test_nothing_is_kept_of_a_channel_that_nobody_uses(gateway):
    for number in range(100):
        gateway.network(f"channel{number}").commit("f" * 64)
    assert len(gateway._calls.statuses) == 0


async def test_a_stream_of_a_channel_without_blocks_is_closed(contract, shared, fake, monkeypatch):
    monkeypatch.setattr(statuses, "_IDLE", 0.05)
    await begin(shared, fake)
    await until(lambda: shared._reader is None)
    await contract.submit("put", "key")
    assert fake.calls.count("CommitStatus") == 1


async def test_a_stream_that_nobody_uses_is_closed_and_opened_again(contract, shared, fake, monkeypatch, patient):
    await begin(shared, fake)
    monkeypatch.setattr(statuses, "_IDLE", 0.0)
    await fake.commit([("of another client", ValidationCode.VALID, None)])
    await until(lambda: shared._reader is None)
    monkeypatch.setattr(statuses, "_IDLE", 600.0)
    await begin(shared, fake)
    await contract.submit("put", "key")
    assert fake.calls.count("DeliverFiltered") == 2
    assert "CommitStatus" not in fake.calls
