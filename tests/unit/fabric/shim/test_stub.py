"""What a contract can do with the ledger, against the peer in memory."""

import asyncio
import hashlib

import pytest
from fedfabric.fabric.identity import Identity
from fedfabric.fabric.shim import (
    KV,
    Capabilities,
    Invocation,
    MemoryPeer,
    PeerError,
    ProtocolError,
    Response,
    Stub,
    UsageError,
    create_composite_key,
)
from fedfabric.fabric.shim.handler import Message
from fedfabric.fabric.shim.memory_peer import PeerSide, Simulation

BOTH_PEERS = pytest.mark.parametrize(
    "capabilities", [Capabilities(), Capabilities(3, 4)], ids=["one at a time", "in batches"]
)


class Script:
    """A chaincode that does what the test says."""

    def __init__(self, act=None):
        self.act = act

    async def invoke(self, stub: Stub) -> Response:
        result = await self.act(stub)
        return result if isinstance(result, Response) else Response(payload=result or b"")


class World:
    """One chaincode `cc` on a peer in memory; each `run` is a committed transaction."""

    def __init__(self, capabilities: Capabilities | None = None):
        self.script = Script()
        self.other = Script()
        self.peer = MemoryPeer({"cc": self.script, "other": self.other}, msp_id="Org1MSP", capabilities=capabilities)

    async def run(self, act, **details):
        kept = []

        async def keep(stub):
            kept.append(await act(stub))
            return kept[0] if isinstance(kept[0], Response) else b""

        self.script.act = keep
        simulation = await self.peer.simulate("cc", "run", **details)
        assert self.peer.commit(simulation) == "VALID"
        if simulation.response.status >= 400:
            raise PeerError(simulation.response.message)
        return kept[0]


@pytest.fixture(params=[Capabilities(), Capabilities(3, 4)], ids=["one at a time", "in batches"])
def world(request):
    return World(request.param)


async def put(stub, **values):
    for key, value in values.items():
        await stub.put_state(key, value)


async def test_values_are_written_read_and_deleted(world):
    await world.run(lambda stub: put(stub, a=b"1", b=b"2"))
    assert await world.run(lambda stub: stub.get_state("a")) == b"1"
    assert await world.run(lambda stub: stub.get_state("none")) == b""
    await world.run(lambda stub: stub.del_state("a"))
    assert world.peer.state("cc") == {"b": b"2"}


async def test_a_read_does_not_see_the_transactions_own_writes(world):
    async def act(stub):
        await stub.put_state("a", b"new")
        return await stub.get_state("a")

    assert await world.run(act) == b""


async def test_writes_keep_their_order(world):
    async def act(stub):
        for number in range(10):
            await stub.put_state("same", str(number).encode())
        await stub.put_state("gone", b"x")
        await stub.del_state("gone")

    await world.run(act)
    assert world.peer.state("cc") == {"same": b"9"}


async def test_batches_hold_no_more_than_the_peer_takes():
    world = World(Capabilities(write_batch=3))

    async def act(stub):
        for number in range(7):
            await stub.put_state(f"k{number}", b"v")

    await world.run(act)
    assert world.peer.requests == [Message.WRITE_BATCH_STATE] * 3
    assert len(world.peer.state("cc")) == 7


async def test_batches_are_cut_by_size_too(monkeypatch):
    monkeypatch.setattr("fedfabric.fabric.shim.stub._BATCH_BYTES", 100)
    world = World(Capabilities(write_batch=1000))
    await world.run(lambda stub: put(stub, a=b"x" * 60, b=b"x" * 30, c=b"x" * 300, d=b"x"))
    assert world.peer.requests == [Message.WRITE_BATCH_STATE] * 3


async def test_without_batches_each_write_is_a_request():
    world = World(Capabilities())

    async def act(stub):
        await stub.put_state("a", b"1")
        await stub.del_state("b")
        await stub.purge_private_data("c", "d")
        await stub.set_state_validation_parameter("a", b"policy")

    await world.run(act)
    assert world.peer.requests == [
        Message.PUT_STATE,
        Message.DEL_STATE,
        Message.PURGE_PRIVATE_DATA,
        Message.PUT_STATE_METADATA,
    ]


async def test_batching_can_be_turned_off_and_keeps_the_order():
    world = World(Capabilities(write_batch=3))

    async def act(stub):
        await stub.put_state("a", b"1")
        stub.batch_writes = False
        await stub.put_state("a", b"2")

    await world.run(act)
    assert world.peer.requests == [Message.WRITE_BATCH_STATE, Message.PUT_STATE]
    assert world.peer.state("cc") == {"a": b"2"}


async def test_many_keys_are_read_in_order_in_as_few_requests_as_the_peer_allows():
    world = World(Capabilities(multiple_keys=4))
    await world.run(lambda stub: put(stub, a=b"1", c=b"3"))
    world.peer.requests.clear()
    keys = ["c", "b", "a", "c", "x"]
    assert await world.run(lambda stub: stub.get_multiple_states(keys)) == [b"3", b"", b"1", b"3", b""]
    assert world.peer.requests == [Message.GET_STATE_MULTIPLE] * 2


async def test_many_keys_one_at_a_time_where_the_peer_can_not():
    world = World(Capabilities())
    await world.run(lambda stub: put(stub, a=b"1"))
    world.peer.requests.clear()
    assert await world.run(lambda stub: stub.get_multiple_states(["a", "b"])) == [b"1", b""]
    assert world.peer.requests == [Message.GET_STATE] * 2


async def test_no_keys_no_request(world):
    assert await world.run(lambda stub: stub.get_multiple_states([])) == []
    assert world.peer.requests == []


async def listed(rows):
    return [(row.key, row.value) async for row in rows]


async def test_a_range_has_its_start_and_not_its_end(world):
    await world.run(lambda stub: put(stub, a=b"1", b=b"2", c=b"3"))
    assert await world.run(lambda stub: listed(stub.get_state_by_range("a", "c"))) == [("a", b"1"), ("b", b"2")]
    assert len(await world.run(lambda stub: listed(stub.get_state_by_range("", "")))) == 3


async def test_a_long_range_comes_in_pieces(world):
    async def fill(stub):
        for number in range(250):
            await stub.put_state(f"k{number:03}", str(number).encode())

    await world.run(fill)
    world.peer.requests.clear()
    rows = await world.run(lambda stub: listed(stub.get_state_by_range("", "")))
    assert [key for key, _ in rows] == [f"k{number:03}" for number in range(250)]
    assert world.peer.requests == [Message.GET_STATE_BY_RANGE, Message.QUERY_STATE_NEXT, Message.QUERY_STATE_NEXT]


async def test_rows_given_up_are_closed_once(world):
    async def fill(stub):
        for number in range(101):
            await stub.put_state(f"k{number:03}", b"v")

    await world.run(fill)
    world.peer.requests.clear()

    async def act(stub):
        async with stub.get_state_by_range("", "") as rows:
            async for row in rows:
                assert row == KV("k000", b"v")
                break
        await rows.aclose()
        return [row async for row in rows]

    assert await world.run(act) == []
    assert world.peer.requests == [Message.GET_STATE_BY_RANGE, Message.QUERY_STATE_CLOSE]


async def test_rows_never_asked_for_cost_no_request(world):
    async def act(stub):
        await stub.get_state_by_range("", "").aclose()

    await world.run(act)
    assert world.peer.requests == []


async def test_pages_follow_their_bookmarks(world):
    await world.run(lambda stub: put(stub, a=b"1", b=b"2", c=b"3", d=b"4", e=b"5"))

    async def act(stub):
        found, bookmark = [], ""
        while True:
            page = await stub.get_state_by_range_with_pagination("a", "e", 3, bookmark)
            found.append([row.key for row in page.rows])
            bookmark = page.bookmark
            if not bookmark:
                return found

    assert await world.run(act) == [["a", "b", "c"], ["d"]]


async def test_pages_of_a_partial_key(world):
    async def fill(stub):
        for number in range(3):
            await stub.put_state(create_composite_key("t", ["x", str(number)]), b"v")
        await stub.put_state(create_composite_key("t", ["y", "0"]), b"v")

    await world.run(fill)

    async def act(stub):
        first = await stub.get_state_by_partial_composite_key_with_pagination("t", ["x"], 2, "")
        second = await stub.get_state_by_partial_composite_key_with_pagination("t", ["x"], 2, first.bookmark)
        return len(first.rows), len(second.rows), second.bookmark

    assert await world.run(act) == (2, 1, "")


@pytest.mark.parametrize("bookmark", ["Z", "b\x00", "zz"])
async def test_a_bookmark_outside_the_range_is_refused(world, bookmark):
    with pytest.raises(PeerError, match="outside the range"):
        await world.run(lambda stub: stub.get_state_by_range_with_pagination("a", "b", 1, bookmark))


@pytest.mark.parametrize("size", [0, -1, 100_001])
async def test_a_page_has_a_sensible_size(world, size):
    with pytest.raises(PeerError, match="rows"):
        await world.run(lambda stub: stub.get_state_by_range_with_pagination("", "", size, ""))


async def test_pages_of_all_composite_keys(world):
    async def fill(stub):
        await stub.put_state(create_composite_key("a", ["1"]), b"1")
        await stub.put_state(create_composite_key("b", []), b"2")
        await stub.put_state("simple", b"3")

    await world.run(fill)

    async def act(stub):
        first = await stub.get_all_states_composite_key_with_pagination(1, "")
        second = await stub.get_all_states_composite_key_with_pagination(1, first.bookmark)
        return [[row.value for row in page.rows] for page in (first, second)], second.bookmark

    assert await world.run(act) == ([[b"1"], [b"2"]], "")


async def test_partial_keys_find_their_rows_and_no_simple_ones(world):
    async def fill(stub):
        await stub.put_state(create_composite_key("t", ["x", "1"]), b"1")
        await stub.put_state(create_composite_key("t", ["xx", "2"]), b"2")
        await stub.put_state("t", b"simple")

    await world.run(fill)
    found = await world.run(lambda stub: listed(stub.get_state_by_partial_composite_key("t", ["x"])))
    assert found == [(create_composite_key("t", ["x", "1"]), b"1")]
    assert await world.run(lambda stub: listed(stub.get_state_by_range("", ""))) == [("t", b"simple")]


async def test_a_json_query_is_a_typed_error_on_leveldb(world):
    async def act(stub):
        with pytest.raises(PeerError, match="leveldb"):
            await listed(stub.get_query_result('{"selector":{}}'))
        with pytest.raises(PeerError, match="leveldb"):
            await stub.get_query_result_with_pagination('{"selector":{}}', 5, "")
        with pytest.raises(PeerError, match="leveldb"):
            await listed(stub.get_private_data_query_result("c", '{"selector":{}}'))
        return b"still alive"

    assert await world.run(act) == b"still alive"


async def test_history_tells_every_write_the_newest_first(world):
    await world.run(lambda stub: put(stub, a=b"1"), timestamp_ms=1001)
    await world.run(lambda stub: stub.del_state("a"), timestamp_ms=2002)

    async def act(stub):
        return [(row.value, row.timestamp_ms, row.is_delete) async for row in stub.get_history_for_key("a")]

    assert await world.run(act) == [(b"", 2002, True), (b"1", 1001, False)]


async def test_private_data(world):
    async def write(stub):
        await stub.put_private_data("c", "a", b"1")
        await stub.put_private_data("c", create_composite_key("t", ["x"]), b"2")

    await world.run(write)
    assert world.peer.state("cc") == {}
    assert await world.run(lambda stub: stub.get_private_data("c", "a")) == b"1"
    assert await world.run(lambda stub: stub.get_private_data("d", "a")) == b""
    assert await world.run(lambda stub: stub.get_private_data_hash("c", "a")) == hashlib.sha256(b"1").digest()
    assert await world.run(lambda stub: stub.get_private_data_hash("c", "none")) == b""
    assert await world.run(lambda stub: stub.get_multiple_private_data("c", ["b", "a"])) == [b"", b"1"]
    assert await world.run(lambda stub: listed(stub.get_private_data_by_range("c", "", ""))) == [("a", b"1")]
    partial = await world.run(lambda stub: listed(stub.get_private_data_by_partial_composite_key("c", "t", [])))
    assert [value for _, value in partial] == [b"2"]
    await world.run(lambda stub: stub.del_private_data("c", "a"))
    assert await world.run(lambda stub: stub.get_private_data("c", "a")) == b""
    await world.run(lambda stub: stub.purge_private_data("c", create_composite_key("t", ["x"])))
    assert world.peer.state("cc", "c") == {}


async def test_policies_of_single_keys(world):
    async def write(stub):
        await stub.put_state("a", b"1")
        await stub.set_state_validation_parameter("a", b"policy")
        await stub.put_private_data("c", "a", b"1")
        await stub.set_private_data_validation_parameter("c", "a", b"private policy")

    await world.run(write)
    assert await world.run(lambda stub: stub.get_state_validation_parameter("a")) == b"policy"
    assert await world.run(lambda stub: stub.get_state_validation_parameter("b")) == b""
    assert await world.run(lambda stub: stub.get_private_data_validation_parameter("c", "a")) == b"private policy"


async def test_another_chaincode_is_called_with_its_own_state(world):
    async def other(stub):
        await stub.put_state("mine", stub.args[1])
        stub.set_event("lost", b"")
        return Response(299, "fine", b"result")

    world.other.act = other

    async def act(stub):
        stub.set_event("kept", b"")
        return (await stub.invoke_chaincode("other", [b"f", b"x"])).payload

    assert await world.run(act) == b"result"
    assert world.peer.state("other") == {"mine": b"x"}
    assert [name for _, name, _ in world.peer.events] == ["kept"]


async def test_a_callees_refusal_is_a_response_and_its_absence_an_error(world):
    async def other(stub):
        return Response(422, "no")

    world.other.act = other

    async def act(stub):
        with pytest.raises(PeerError, match="not found"):
            await stub.invoke_chaincode("unknown", [b"f"])
        with pytest.raises(PeerError, match="exists"):
            await stub.invoke_chaincode("cc", [b"f"])
        with pytest.raises(UsageError):
            await stub.invoke_chaincode("", [b"f"])
        response = await stub.invoke_chaincode("other", [b"f"])
        return response.status, response.message

    assert await world.run(act) == (422, "no")


async def test_the_last_event_wins_and_its_name_is_checked(world):
    async def act(stub):
        stub.set_event("first", b"1")
        stub.set_event("last", b"2")
        with pytest.raises(UsageError):
            stub.set_event("", b"")
        with pytest.raises(UsageError):
            stub.set_event("x", "text")
        with pytest.raises(UsageError):
            stub.set_event("\ud800", b"")

    await world.run(act)
    assert [event[1:] for event in world.peer.events] == [("last", b"2")]


async def test_who_when_where_and_what(world):
    creator = Identity("Org2MSP", b"certificate")

    async def act(stub):
        assert (stub.creator.msp_id, stub.creator.certificate) == ("Org2MSP", b"certificate")
        assert (stub.timestamp_ms, stub.msp_id, stub.channel_id) == (1234, "Org1MSP", "memory")
        assert (stub.args, stub.transient["k"], len(stub.tx_id)) == ((b"run",), b"secret", 64)

    await world.run(act, creator=creator, timestamp_ms=1234, transient={"k": b"secret"})


@pytest.mark.parametrize(
    "act",
    [
        lambda stub: stub.get_state(""),
        lambda stub: stub.put_state("", b"v"),
        lambda stub: stub.put_state("k", b""),
        lambda stub: stub.put_state("k", "text"),
        lambda stub: stub.put_state("\ud800", b"v"),
        lambda stub: stub.put_state("k", b"x" * (64 * 1024 * 1024 + 1)),
        lambda stub: stub.del_state(""),
        lambda stub: stub.get_multiple_states(["a", ""]),
        lambda stub: stub.get_multiple_states("ab"),
        lambda stub: stub.get_private_data("", "k"),
        lambda stub: stub.put_private_data("", "k", b"v"),
        lambda stub: stub.del_private_data("", "k"),
        lambda stub: stub.purge_private_data("", "k"),
        lambda stub: stub.get_private_data_hash("", "k"),
        lambda stub: stub.get_private_data_hash("c", ""),
        lambda stub: listed(stub.get_private_data_by_range("", "", "")),
        lambda stub: listed(stub.get_state_by_range("\x00", "")),
        lambda stub: listed(stub.get_query_result("\ud800")),
        lambda stub: stub.set_state_validation_parameter("k", "text"),
    ],
)
async def test_what_no_peer_could_take_is_refused_without_asking_it(world, act):
    async def guarded(stub):
        with pytest.raises(UsageError):
            await act(stub)

    await world.run(guarded)
    assert world.peer.requests == []


async def test_a_read_only_transaction_writes_nothing(world):
    async def act(stub):
        stub.read_only = True
        for write in (stub.put_state("a", b"1"), stub.del_state("a"), stub.purge_private_data("c", "a")):
            with pytest.raises(UsageError, match="reading only"):
                await write

    await world.run(act)
    assert world.peer.requests == []


async def test_a_refused_write_fails_the_transaction_even_when_the_contract_looks_away(world):
    await world.run(lambda stub: put(stub, a=b"1", b=b"2"))

    async def act(stub):
        await stub.get_state_by_range_with_pagination("a", "z", 1, "")  # forbids every write from here on
        try:
            await stub.put_state("c", b"3")
            await stub.finish_write_batch()
        except PeerError:
            return b"all is well"

    with pytest.raises(PeerError, match="paginated"):
        await world.run(act)
    assert "c" not in world.peer.state("cc")


async def test_nothing_works_after_the_end(world):
    kept = []

    async def act(stub):
        kept.append(stub)

    await world.run(act)
    (stub,) = kept
    for late in (stub.get_state("a"), stub.put_state("a", b"1"), stub.invoke_chaincode("other", [])):
        with pytest.raises(UsageError, match="ended"):
            await late


def stub_answered(payload: bytes) -> Stub:
    """A stub whose peer answers everything with these bytes."""

    class Lying(PeerSide):
        def send(self, message_type, _):
            answer = asyncio.get_running_loop().create_future()
            answer.set_result(payload)
            return answer

    invocation = Invocation("c", "t", ())
    return Stub(invocation, Lying(MemoryPeer({}), "cc", Simulation(invocation), ()), Capabilities(0, 5))


async def test_a_wrong_number_of_values_is_the_peers_fault():
    with pytest.raises(ProtocolError, match="0 values to 2 keys"):
        await stub_answered(b"").get_multiple_states(["a", "b"])


@pytest.mark.parametrize(
    "act",
    [
        lambda stub: stub.get_multiple_states(["a"]),
        lambda stub: listed(stub.get_state_by_range("", "")),
        lambda stub: listed(stub.get_history_for_key("a")),
        lambda stub: stub.get_state_by_range_with_pagination("", "", 1, ""),
        lambda stub: stub.get_state_validation_parameter("a"),
        lambda stub: stub.invoke_chaincode("other", []),
    ],
)
async def test_an_answer_that_can_not_be_decoded_is_a_protocol_error(act):
    with pytest.raises(ProtocolError, match="can't be decoded"):
        await act(stub_answered(b"\xff\xff"))


async def test_a_callee_without_a_response_is_an_error():
    inner = Message(type=Message.ERROR, payload=b"the callee's stream is gone").SerializeToString()
    with pytest.raises(PeerError, match="the callee's stream is gone"):
        await stub_answered(inner).invoke_chaincode("other", [])
    inner = Message(type=Message.COMPLETED, payload=b"\xff\xff").SerializeToString()
    with pytest.raises(ProtocolError):
        await stub_answered(inner).invoke_chaincode("other", [])


async def test_a_range_that_has_changed_is_a_phantom(world):
    async def count(stub):
        rows = await listed(stub.get_state_by_range("", ""))
        await stub.put_state("count", str(len(rows)).encode())
        return b""

    world.script.act = count
    simulation = await world.peer.simulate("cc", "count")
    await world.run(lambda stub: put(stub, new=b"1"))
    assert world.peer.commit(simulation) == "PHANTOM_READ_CONFLICT"


async def test_a_refused_transaction_leaves_no_trace(world):
    async def act(stub):
        await stub.put_state("a", b"1")
        return Response(400, "no")

    world.script.act = act
    assert world.peer.commit(await world.peer.simulate("cc", "refused")) == "VALID"
    assert world.peer.state("cc") == {}


@BOTH_PEERS
async def test_outdated_reads_are_conflicts(capabilities):
    world = World(capabilities)
    await world.run(lambda stub: put(stub, a=b"1"))

    async def increment(stub):
        await stub.put_state("a", str(int(await stub.get_state("a")) + 1).encode())

    world.script.act = increment
    first, second = [await world.peer.simulate("cc", "increment") for _ in range(2)]
    assert world.peer.commit(first) == "VALID"
    assert world.peer.commit(second) == "MVCC_READ_CONFLICT"
    assert world.peer.state("cc") == {"a": b"2"}
