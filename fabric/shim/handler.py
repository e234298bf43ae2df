"""Fabric's chaincode protocol without I/O: a message from the peer in, messages and events out.

The peer opens a stream, the chaincode registers on it, and from then on transactions run side by side in it, each
strictly one request at a time: a peer drops a second request of the same transaction without a reply (Fabric v3.1,
core/chaincode/handler.go, registerTxid). This module keeps those rules; conversation.py moves the messages.

An illegal message raises ProtocolError and changes nothing. An ERROR from the peer is an event of its own, so that it
can't be taken for a value.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final, TypeAlias

from fabric_protos.peer import chaincode_event_pb2, chaincode_pb2, chaincode_shim_pb2, proposal_response_pb2
from google.protobuf.message import DecodeError

from .errors import ProtocolError, UsageError
from .invocation import Invocation, Response, TransactionKey, decode_invocation

__all__ = [
    "TRANSITIONS",
    "Answered",
    "Capabilities",
    "Event",
    "Handler",
    "Limits",
    "Message",
    "MessageType",
    "Refused",
    "Send",
    "Started",
    "State",
    "message_name",
]

Message: TypeAlias = chaincode_shim_pb2.ChaincodeMessage
MessageType: Final = chaincode_shim_pb2.ChaincodeMessage.Type
"""The numbers of the protocol's messages, by name."""

_BUSY: Final = 503
_TOO_LARGE: Final = 413


class State(Enum):
    """How far the registration on a stream has come."""

    CREATED = "created"
    ESTABLISHED = "established"
    READY = "ready"


TRANSITIONS: Final[Mapping[tuple[State, int], State]] = MappingProxyType(
    {
        (State.CREATED, Message.REGISTERED): State.ESTABLISHED,
        (State.ESTABLISHED, Message.READY): State.READY,
        (State.READY, Message.RESPONSE): State.READY,
        (State.READY, Message.ERROR): State.READY,
        (State.READY, Message.INIT): State.READY,
        (State.READY, Message.TRANSACTION): State.READY,
    }
    | {(state, Message.KEEPALIVE): state for state in State}
)
"""Every message that a peer may send, by the state in which it may; any other ends the stream."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one stream may take up."""

    running: int = 256
    """Transactions that run at a time."""
    waiting: int = 4096
    """Transactions that wait for one of them to end; the next is answered 503."""
    argument_bytes: int = 16 * 1024 * 1024
    """The arguments of one transaction together; more is answered 413."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the peer said in READY: how many writes and keys it takes in one message, 0 for one at a time."""

    write_batch: int = 0
    multiple_keys: int = 0


@dataclass(frozen=True, slots=True)
class Send:
    """A message for the peer."""

    message: Message


@dataclass(frozen=True, slots=True)
class Started:
    """A transaction may run now; it ends with `Handler.finish` or `Handler.fail`."""

    invocation: Invocation


@dataclass(frozen=True, slots=True)
class Answered:
    """The peer's answer to a transaction's request."""

    key: TransactionKey
    payload: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """The peer answered a transaction's request with ERROR."""

    key: TransactionKey
    text: str


Event: TypeAlias = Send | Started | Answered | Refused


class Handler:
    """The chaincode's end of one stream.

    Args:
        chaincode_id: the package id (`label:hash`) under which the peers installed the chaincode.
        limits: how many transactions may run and wait, and how large one may be.
    """

    def __init__(self, chaincode_id: str, limits: Limits | None = None) -> None:
        self.state = State.CREATED
        self.capabilities = Capabilities()
        self.stray_answers = 0
        self._chaincode_id = chaincode_id
        self._limits = limits or Limits()
        self._running: dict[TransactionKey, bool] = {}  # is a request of it under way?
        self._waiting: deque[Invocation] = deque()
        self._waiting_keys: set[TransactionKey] = set()
        self._draining = False

    @property
    def idle(self) -> bool:
        """No transaction runs or waits."""
        return not self._running and not self._waiting

    def register(self) -> Message:
        """The first message on a stream, the chaincode's."""
        chaincode = chaincode_pb2.ChaincodeID(name=self._chaincode_id)
        return Message(type=Message.REGISTER, payload=chaincode.SerializeToString())

    def drain(self) -> None:
        """Take no more transactions: those that come now are answered 503, those that are here run to their end."""
        self._draining = True

    def receive(self, message: Message) -> tuple[Event, ...]:
        """What follows from a message of the peer.

        Raises:
            ProtocolError: the message is not allowed in this state, or READY can't be decoded. The stream must end.
        """
        following = TRANSITIONS.get((self.state, message.type))
        if following is None:
            raise ProtocolError(f"the peer sent {message_name(message.type)} while the stream was {self.state.value}")
        if message.type == Message.READY:
            self.capabilities = _capabilities(message.payload)
        self.state = following
        if message.type in (Message.TRANSACTION, Message.INIT):
            return self._invoke(message)
        if message.type in (Message.RESPONSE, Message.ERROR):
            return self._answer(message)
        if message.type == Message.KEEPALIVE:
            return (Send(message),)
        return ()

    def request(self, key: TransactionKey, message_type: int, payload: bytes) -> Message:
        """A running transaction's request to the peer.

        Raises:
            UsageError: the transaction does not run here, or its last request has no answer yet.
        """
        pending = self._running.get(key)
        if pending is None:
            raise UsageError("the transaction has ended")
        if pending:
            raise UsageError("the transaction's last request has no answer yet")
        self._running[key] = True
        return Message(type=message_type, payload=payload, txid=key[1], channel_id=key[0])

    def is_pending(self, key: TransactionKey) -> bool:
        """Whether a request of the transaction has no answer yet."""
        return self._running.get(key, False)

    def finish(
        self, key: TransactionKey, response: Response, event: tuple[str, bytes] | None = None
    ) -> tuple[Event, ...]:
        """A running transaction has come to its response; `event` is a chaincode event's name and payload.

        Raises:
            UsageError: the transaction does not run here, or its last request has no answer yet.
        """
        message = _completed(key, response)
        if event is not None:
            message.chaincode_event.CopyFrom(
                chaincode_event_pb2.ChaincodeEvent(event_name=event[0], payload=event[1], tx_id=key[1])
            )
        return self._end(key, message)

    def fail(self, key: TransactionKey, text: str) -> tuple[Event, ...]:
        """A running transaction has no response: the peer gets ERROR, its client the text.

        Raises:
            UsageError: the transaction does not run here.
        """
        if key in self._running:
            self._running[key] = False  # whatever the peer still answers belongs to nobody
        return self._end(key, _error(key, text))

    def _invoke(self, message: Message) -> tuple[Event, ...]:
        key = (message.channel_id, message.txid)
        if key in self._running or key in self._waiting_keys:
            # A client may send a proposal again after the peer gave the first up; two at a time would mix answers.
            return (Send(_error(key, "a transaction with this id is still running")),)
        try:
            invocation = decode_invocation(message)
        except ProtocolError as error:
            return (Send(_error(key, str(error))),)
        refusal = self._refusal(invocation)
        if refusal is not None:
            return (Send(_completed(key, refusal)),)
        if len(self._running) < self._limits.running:
            self._running[key] = False
            return (Started(invocation),)
        self._waiting.append(invocation)
        self._waiting_keys.add(key)
        return ()

    def _refusal(self, invocation: Invocation) -> Response | None:
        size = sum(map(len, invocation.args))
        if size > self._limits.argument_bytes:
            text = f"the arguments have {size} bytes, {self._limits.argument_bytes} are the most"
            return Response(_TOO_LARGE, text)
        if self._draining:
            return Response(_BUSY, "the chaincode server is shutting down")
        if len(self._running) >= self._limits.running and len(self._waiting) >= self._limits.waiting:
            text = f"{len(self._running)} transactions run and {len(self._waiting)} wait: the chaincode takes no more"
            return Response(_BUSY, text)
        return None

    def _answer(self, message: Message) -> tuple[Event, ...]:
        key = (message.channel_id, message.txid)
        if not self._running.get(key, False):
            # The peer gave the transaction up, or answers one that has ended: there is nobody to tell.
            self.stray_answers += 1
            return ()
        self._running[key] = False
        if message.type == Message.ERROR:
            return (Refused(key, message.payload.decode("utf-8", "replace")),)
        return (Answered(key, message.payload),)

    def _end(self, key: TransactionKey, message: Message) -> tuple[Event, ...]:
        pending = self._running.get(key)
        if pending is None:
            raise UsageError("the transaction has ended")
        if pending:
            raise UsageError("the transaction's last request has no answer yet")
        del self._running[key]
        if not self._waiting:
            return (Send(message),)
        following = self._waiting.popleft()
        self._waiting_keys.discard(following.key)
        self._running[following.key] = False
        return Send(message), Started(following)


def _capabilities(payload: bytes) -> Capabilities:
    try:
        offered = chaincode_pb2.ChaincodeAdditionalParams.FromString(payload)
    except DecodeError as error:
        raise ProtocolError("the peer's READY can't be decoded") from error
    return Capabilities(
        write_batch=offered.max_size_write_batch if offered.use_write_batch else 0,
        multiple_keys=offered.max_size_get_multiple_keys if offered.use_get_multiple_keys else 0,
    )


def _completed(key: TransactionKey, response: Response) -> Message:
    text = response.message.encode(errors="replace").decode()  # a lone surrogate would keep the answer from being sent
    answer = proposal_response_pb2.Response(status=response.status, message=text, payload=response.payload)
    return Message(type=Message.COMPLETED, payload=answer.SerializeToString(), txid=key[1], channel_id=key[0])


def _error(key: TransactionKey, text: str) -> Message:
    return Message(type=Message.ERROR, payload=text.encode(errors="replace"), txid=key[1], channel_id=key[0])


def message_name(message_type: int) -> str:
    """The protocol's name of a message's type."""
    return MessageType.Name(message_type) if message_type in MessageType.values() else f"message {message_type}"
