"""The chaincode protocol, every order of messages: no I/O, no tasks."""

import itertools

import pytest
import shim_protocol as peer
from fabric_protos.common import common_pb2
from fabric_protos.peer import chaincode_pb2, proposal_pb2
from fedfabric.fabric.shim import Handler, Limits, ProtocolError, Response, UsageError
from fedfabric.fabric.shim.handler import (
    TRANSITIONS,
    Answered,
    Capabilities,
    Message,
    MessageType,
    Refused,
    Send,
    Started,
    State,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

KEY = ("ch1", "t1")


def handler_in(state: State, limits: Limits | None = None) -> Handler:
    handler = Handler("kv:1", limits)
    if state is not State.CREATED:
        handler.receive(peer.REGISTERED)
    if state is State.READY:
        handler.receive(peer.ready(1000, 1000))
    return handler


def ready_handler(**limits: int) -> Handler:
    return handler_in(State.READY, Limits(**limits) if limits else None)


def only(events: tuple) -> object:
    assert len(events) == 1, events
    return events[0]


def test_the_first_message_registers_the_package_id():
    message = Handler("kv:1").register()
    assert message.type == Message.REGISTER
    assert chaincode_pb2.ChaincodeID.FromString(message.payload).name == "kv:1"


@pytest.mark.parametrize(("state", "kind"), list(itertools.product(State, MessageType.values())), ids=str)
def test_each_message_is_legal_only_in_the_states_of_the_table(state: State, kind: int):
    handler = handler_in(state)
    message = Message(type=kind, txid="t1", channel_id="ch1")
    if (state, kind) in TRANSITIONS:
        handler.receive(message)
        assert handler.state is TRANSITIONS[state, kind]
    else:
        with pytest.raises(ProtocolError, match=MessageType.Name(kind)):
            handler.receive(message)
        assert handler.state is state, "an illegal message changes nothing"


def test_a_message_type_of_a_later_protocol_ends_the_stream():
    with pytest.raises(ProtocolError, match="99"):
        ready_handler().receive(Message(type=99))


def test_keepalive_is_sent_back_in_every_state():
    for state in State:
        assert only(handler_in(state).receive(peer.KEEPALIVE)) == Send(peer.KEEPALIVE)


def test_ready_tells_what_the_peer_takes_at_once():
    handler = handler_in(State.ESTABLISHED)
    handler.receive(peer.ready(write_batch=7, multiple_keys=9))
    assert handler.capabilities == Capabilities(7, 9)


def test_a_peer_before_3_1_takes_one_at_a_time():
    handler = handler_in(State.ESTABLISHED)
    handler.receive(Message(type=Message.READY))
    assert handler.capabilities == Capabilities(0, 0)


def test_sizes_without_the_offer_do_not_count():
    parameters = chaincode_pb2.ChaincodeAdditionalParams(max_size_write_batch=5, max_size_get_multiple_keys=5)
    handler = handler_in(State.ESTABLISHED)
    handler.receive(Message(type=Message.READY, payload=parameters.SerializeToString()))
    assert handler.capabilities == Capabilities(0, 0)


def test_an_undecodable_ready_changes_nothing():
    handler = handler_in(State.ESTABLISHED)
    with pytest.raises(ProtocolError, match="READY"):
        handler.receive(Message(type=Message.READY, payload=b"\xff\xff"))
    assert handler.state is State.ESTABLISHED


def test_an_invocation_carries_what_the_client_signed():
    proposal = peer.signed_proposal(b"someone", seconds=2, nanos=345_678_901, transient={"k": b"secret"})
    started = only(ready_handler().receive(peer.transaction("t1", b"put", b"secret", proposal=proposal)))
    assert isinstance(started, Started)
    call = started.invocation
    assert (call.key, call.args, call.creator_bytes) == (KEY, (b"put", b"secret"), b"someone")
    assert (call.timestamp_ms, dict(call.transient), call.is_init) == (2345, {"k": b"secret"}, False)
    assert "secret" not in repr(call)


def test_init_is_an_invocation_too():
    started = only(ready_handler().receive(peer.transaction("t1", b"init", init=True)))
    assert isinstance(started, Started)
    assert started.invocation.is_init


def test_an_invocation_without_a_proposal_has_no_creator():
    message = peer.transaction("t1", b"x")
    message.ClearField("proposal")
    started = only(ready_handler().receive(message))
    assert isinstance(started, Started)
    with pytest.raises(UsageError, match="nobody has signed"):
        _ = started.invocation.creator


def test_a_proposal_without_a_creator_is_an_error_to_its_client():
    sent = only(ready_handler().receive(peer.transaction("t1", b"x", proposal=peer.signed_proposal(creator=b""))))
    assert isinstance(sent, Send)
    assert sent.message.type == Message.ERROR
    assert b"no creator" in sent.message.payload


@pytest.mark.parametrize("layer", ["input", "proposal", "header", "channel header", "signature header", "payload"])
def test_an_undecodable_invocation_is_an_error_to_its_client_and_the_stream_lives(layer: str):
    message = peer.transaction("t1", b"put")
    proposal = proposal_pb2.Proposal.FromString(message.proposal.proposal_bytes)
    header = common_pb2.Header.FromString(proposal.header)
    broken = b"\xff\xff\xff"
    if layer == "input":
        message.payload = broken
    elif layer == "header":
        proposal.header = broken
    elif layer == "channel header":
        header.channel_header = broken
    elif layer == "signature header":
        header.signature_header = broken
    elif layer == "payload":
        proposal.payload = broken
    if "header" in layer and layer != "header":
        proposal.header = header.SerializeToString()
    message.proposal.proposal_bytes = broken if layer == "proposal" else proposal.SerializeToString()
    handler = ready_handler()
    sent = only(handler.receive(message))
    assert isinstance(sent, Send)
    assert (sent.message.type, sent.message.txid, sent.message.channel_id) == (Message.ERROR, "t1", "ch1")
    assert isinstance(only(handler.receive(peer.transaction("t1", b"put"))), Started)


def test_a_request_and_its_answer():
    handler = ready_handler()
    handler.receive(peer.transaction())
    message = handler.request(KEY, Message.GET_STATE, b"payload")
    assert (message.type, message.payload, message.txid, message.channel_id) == (
        Message.GET_STATE,
        b"payload",
        "t1",
        "ch1",
    )
    assert handler.receive(peer.answer("t1", b"value")) == (Answered(KEY, b"value"),)


def test_an_error_of_the_peer_is_never_an_answer():
    handler = ready_handler()
    handler.receive(peer.transaction())
    handler.request(KEY, Message.GET_STATE, b"")
    assert handler.receive(peer.error("t1", b"no \xff")) == (Refused(KEY, "no \ufffd"),)


def test_a_second_request_before_the_answer_is_refused_here_since_the_peer_would_drop_it():
    handler = ready_handler()
    handler.receive(peer.transaction())
    handler.request(KEY, Message.GET_STATE, b"")
    with pytest.raises(UsageError, match="no answer yet"):
        handler.request(KEY, Message.GET_STATE, b"")


def test_no_request_before_the_start_or_after_the_end():
    handler = ready_handler()
    with pytest.raises(UsageError, match="ended"):
        handler.request(KEY, Message.GET_STATE, b"")
    handler.receive(peer.transaction())
    handler.finish(KEY, Response())
    with pytest.raises(UsageError, match="ended"):
        handler.request(KEY, Message.GET_STATE, b"")
    with pytest.raises(UsageError, match="ended"):
        handler.finish(KEY, Response())


def test_a_transaction_can_not_finish_with_a_request_under_way():
    handler = ready_handler()
    handler.receive(peer.transaction())
    handler.request(KEY, Message.PUT_STATE, b"")
    with pytest.raises(UsageError, match="no answer yet"):
        handler.finish(KEY, Response())


def test_completed_carries_response_and_event():
    handler = ready_handler()
    handler.receive(peer.transaction())
    sent = only(handler.finish(KEY, Response(201, "fine", b"result"), ("created", b"payload")))
    assert isinstance(sent, Send)
    response = peer.response_of(sent.message)
    assert (response.status, response.message, response.payload) == (201, "fine", b"result")
    event = sent.message.chaincode_event
    assert (event.event_name, event.payload, event.tx_id) == ("created", b"payload", "t1")


def test_without_an_event_none_is_attached():
    handler = ready_handler()
    handler.receive(peer.transaction())
    sent = only(handler.finish(KEY, Response()))
    assert isinstance(sent, Send)
    assert not sent.message.HasField("chaincode_event")


def test_a_message_with_a_lone_surrogate_is_still_sent():
    handler = ready_handler()
    handler.receive(peer.transaction())
    sent = only(handler.finish(KEY, Response(400, "bad \ud800")))
    assert isinstance(sent, Send)
    assert peer.response_of(sent.message).message == "bad ?"
    handler.receive(peer.transaction())
    sent = only(handler.fail(KEY, "bad \ud800"))
    assert isinstance(sent, Send)
    assert sent.message.payload == b"bad ?"


def test_stray_answers_are_counted_and_change_nothing():
    handler = ready_handler()
    assert handler.receive(peer.answer("unknown")) == ()
    handler.receive(peer.transaction())
    assert handler.receive(peer.answer("t1")) == ()
    assert handler.receive(peer.error("t1")) == ()
    assert handler.receive(peer.answer("t1", channel="other")) == ()
    assert handler.stray_answers == 4
    assert not handler.idle


def test_an_answer_to_a_failed_transactions_request_is_stray():
    handler = ready_handler()
    handler.receive(peer.transaction())
    handler.request(KEY, Message.GET_STATE, b"")
    handler.fail(KEY, "stopped")
    assert handler.receive(peer.answer()) == ()
    assert handler.idle


def test_the_same_id_in_two_channels_is_two_transactions():
    handler = ready_handler()
    handler.receive(peer.transaction("t1", channel="ch1"))
    handler.receive(peer.transaction("t1", channel="ch2"))
    handler.request(("ch1", "t1"), Message.GET_STATE, b"")
    handler.request(("ch2", "t1"), Message.GET_STATE, b"")
    assert handler.receive(peer.answer("t1", b"2", channel="ch2")) == (Answered(("ch2", "t1"), b"2"),)
    assert handler.receive(peer.answer("t1", b"1", channel="ch1")) == (Answered(("ch1", "t1"), b"1"),)


def test_channel_and_id_are_not_glued_together():
    handler = ready_handler()
    handler.receive(peer.transaction("bc", channel="a"))
    assert isinstance(only(handler.receive(peer.transaction("c", channel="ab"))), Started)


def test_a_transaction_sent_again_while_it_runs_or_waits_is_refused():
    handler = ready_handler(running=1)
    handler.receive(peer.transaction("t1"))
    handler.receive(peer.transaction("t2"))
    for tx_id in ("t1", "t2"):
        sent = only(handler.receive(peer.transaction(tx_id)))
        assert isinstance(sent, Send)
        assert sent.message.type == Message.ERROR
        assert b"still running" in sent.message.payload
    handler.finish(KEY, Response())
    assert only(handler.finish(("ch1", "t2"), Response())).message.type == Message.COMPLETED
    assert isinstance(only(handler.receive(peer.transaction("t1"))), Started), "afterwards it may come again"


def test_transactions_beyond_the_bound_wait_in_order_and_beyond_that_are_refused():
    handler = ready_handler(running=1, waiting=2)
    assert isinstance(only(handler.receive(peer.transaction("t1"))), Started)
    assert handler.receive(peer.transaction("t2")) == ()
    assert handler.receive(peer.transaction("t3")) == ()
    refused = only(handler.receive(peer.transaction("t4")))
    assert peer.response_of(refused.message).status == 503
    for ending, starting in (("t1", "t2"), ("t2", "t3")):
        _, started = handler.finish(("ch1", ending), Response())
        assert started.invocation.tx_id == starting
    handler.finish(("ch1", "t3"), Response())
    assert handler.idle


def test_a_failure_frees_its_place_too():
    handler = ready_handler(running=1)
    handler.receive(peer.transaction("t1"))
    handler.receive(peer.transaction("t2"))
    _, started = handler.fail(("ch1", "t1"), "stopped")
    assert started.invocation.tx_id == "t2"


def test_too_large_arguments_are_refused_before_they_run():
    handler = ready_handler(argument_bytes=10)
    refused = only(handler.receive(peer.transaction("t1", b"12345", b"678901")))
    assert peer.response_of(refused.message).status == 413
    assert isinstance(only(handler.receive(peer.transaction("t1", b"12345", b"67890"))), Started)


def test_draining_finishes_what_is_here_and_takes_no_more():
    handler = ready_handler(running=1)
    handler.receive(peer.transaction("t1"))
    handler.receive(peer.transaction("t2"))
    handler.drain()
    refused = only(handler.receive(peer.transaction("t3")))
    assert peer.response_of(refused.message).status == 503
    handler.request(KEY, Message.GET_STATE, b"")
    assert handler.receive(peer.answer()) == (Answered(KEY, b""),)
    assert len(handler.finish(KEY, Response())) == 2
    assert not handler.idle
    handler.finish(("ch1", "t2"), Response())
    assert handler.idle


@given(st.lists(st.tuples(st.sampled_from(MessageType.values()), st.binary(max_size=30), st.text(max_size=2))))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_no_sequence_of_messages_breaks_anything_but_by_a_protocol_error(messages):
    handler = Handler("kv:1", Limits(running=2, waiting=2))
    for kind, payload, tx_id in messages:
        before = handler.state
        try:
            handler.receive(Message(type=kind, payload=payload, txid=tx_id, channel_id="c"))
        except ProtocolError:
            assert handler.state is before


class Stream(RuleBasedStateMachine):
    """A peer and contracts that interleave at will: bounds hold, answers find their transaction, none is lost."""

    asking = Bundle("asking")
    RUNNING, WAITING = 2, 3

    def __init__(self) -> None:
        super().__init__()
        self.handler = ready_handler(running=self.RUNNING, waiting=self.WAITING)
        self.running: dict[str, bool] = {}
        self.queued: list[str] = []
        self.replied: dict[str, int] = {}
        self.invoked: dict[str, int] = {}

    def apply(self, events) -> None:
        for event in events:
            match event:
                case Send(message):
                    assert message.type in (Message.COMPLETED, Message.ERROR)
                    self.replied[message.txid] = self.replied.get(message.txid, 0) + 1
                case Started(invocation):
                    if invocation.tx_id in self.queued:
                        assert self.queued.pop(0) == invocation.tx_id, "first come, first served"
                    self.running[invocation.tx_id] = False

    @rule(number=st.integers(0, 9))
    def invoke(self, number: int) -> None:
        tx_id = f"t{number}"
        self.invoked[tx_id] = self.invoked.get(tx_id, 0) + 1
        before = self.replied.get(tx_id, 0)
        events = self.handler.receive(peer.transaction(tx_id))
        if not events:
            self.queued.append(tx_id)
        self.apply(events)
        assert events == () or tx_id in self.running or self.replied[tx_id] == before + 1

    @precondition(lambda self: any(not pending for pending in self.running.values()))
    @rule(target=asking, data=st.data())
    def ask(self, data) -> str:
        tx_id = data.draw(st.sampled_from(sorted(key for key, pending in self.running.items() if not pending)))
        self.handler.request(("ch1", tx_id), Message.GET_STATE, b"")
        self.running[tx_id] = True
        return tx_id

    @rule(tx_id=consumes(asking), good=st.booleans())
    def reply(self, tx_id: str, good: bool) -> None:
        message = peer.answer(tx_id, tx_id.encode()) if good else peer.error(tx_id, tx_id.encode())
        events = self.handler.receive(message)
        if self.running.get(tx_id):
            self.running[tx_id] = False
            expected = Answered(("ch1", tx_id), tx_id.encode()) if good else Refused(("ch1", tx_id), tx_id)
            assert events == (expected,)
        else:
            assert events == ()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), fail=st.booleans())
    def end(self, data, fail: bool) -> None:
        tx_id = data.draw(st.sampled_from(sorted(self.running)))
        key = ("ch1", tx_id)
        if fail:
            del self.running[tx_id]
            self.apply(self.handler.fail(key, "stopped"))
        elif self.running[tx_id]:
            with pytest.raises(UsageError):
                self.handler.finish(key, Response())
        else:
            del self.running[tx_id]
            self.apply(self.handler.finish(key, Response()))

    @invariant()
    def bounded(self) -> None:
        assert len(self.running) <= self.RUNNING
        assert len(self.queued) <= self.WAITING
        assert not self.queued or len(self.running) == self.RUNNING, "nobody waits beside a free place"
        assert self.handler.idle == (not self.running and not self.queued)

    @invariant()
    def one_reply_each(self) -> None:
        for tx_id, times in self.invoked.items():
            under_way = (tx_id in self.running) + (tx_id in self.queued)
            assert self.replied.get(tx_id, 0) + under_way == times


TestStream = Stream.TestCase
TestStream.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
