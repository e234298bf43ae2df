"""One stream between a peer and a chaincode, alive: messages in, contracts run, messages out through a single writer.

The rules are handler.py's. Here are the tasks: one for each transaction that runs, and one that writes. gRPC allows a
single write at a time on a stream.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Protocol

from google.protobuf.message import DecodeError

from .contract import Chaincode, run_chaincode
from .errors import PeerError, ProtocolError
from .handler import Answered, Event, Handler, Message, Refused, Send, Started, message_name
from .invocation import Invocation, TransactionKey
from .stub import Stub

__all__ = ["Conversation"]

_logger = logging.getLogger(__name__)

MAXIMUM_UNSENT: Final = 8192
"""Messages that wait to be written before the peer's next one is read."""


class Incoming(Protocol):
    """The peer's messages, as bytes."""

    def __aiter__(self) -> "Incoming": ...

    async def __anext__(self) -> bytes: ...


class Conversation:
    """Runs a chaincode for one peer, until the peer leaves, or `drain` was called and everything is answered.

    Args:
        handler: the protocol's state, fresh.
        chaincode: what to run.
        write: takes one message for the peer, as bytes; awaited one call at a time.
        msp_id: the peer's organisation, for the stubs.
        transaction_seconds: a transaction that runs longer is cancelled and fails.
    """

    def __init__(
        self,
        handler: Handler,
        chaincode: Chaincode,
        write: Callable[[bytes], Awaitable[None]],
        *,
        msp_id: str = "",
        transaction_seconds: float = 60.0,
    ) -> None:
        self._handler = handler
        self._chaincode = chaincode
        self._write = write
        self._msp_id = msp_id
        self._transaction_seconds = transaction_seconds
        self._outgoing: asyncio.Queue[Message | None] = asyncio.Queue()
        self._room = asyncio.Event()
        self._answers: dict[TransactionKey, asyncio.Future[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False

    async def run(self, incoming: Incoming) -> None:
        """Serve the stream to its end. Nothing of it is left running afterwards.

        Raises:
            ProtocolError: the peer sent what it must not; it has been told by an ERROR message.
        """
        self._send(self._handler.register())
        reader = asyncio.create_task(self._read(incoming))
        writer = asyncio.create_task(self._write_all())
        try:
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
            if reader.done() and not reader.cancelled() and isinstance(reader.exception(), ProtocolError):
                await asyncio.wait((writer,))  # the ERROR message that says why
            for task in (reader, writer):
                if task.done():
                    task.result()
        finally:
            remaining = [reader, writer, *self._tasks]
            for task in remaining:
                task.cancel()
            await asyncio.gather(*remaining, return_exceptions=True)

    def drain(self) -> None:
        """Finish what runs, take no more, then end."""
        self._draining = True
        self._handler.drain()
        self._end_if_drained()

    async def _read(self, incoming: Incoming) -> None:
        async for payload in incoming:
            while self._outgoing.qsize() >= MAXIMUM_UNSENT:
                self._room.clear()
                await self._room.wait()
            try:
                message = Message.FromString(payload)
            except DecodeError as error:
                self._end_with("the peer's message can't be decoded")
                raise ProtocolError("the peer's message can't be decoded") from error
            if _logger.isEnabledFor(logging.DEBUG):
                _logger.debug("received %s of transaction %s", message_name(message.type), message.txid or "none")
            try:
                self._apply(self._handler.receive(message))
            except ProtocolError as error:
                self._end_with(str(error), message.txid)
                raise

    async def _write_all(self) -> None:
        while (message := await self._outgoing.get()) is not None:
            await self._write(message.SerializeToString())
            self._room.set()

    def _send(self, message: Message) -> None:
        self._outgoing.put_nowait(message)

    def _end_with(self, text: str, tx_id: str = "") -> None:
        self._send(Message(type=Message.ERROR, payload=text.encode(), txid=tx_id))
        self._outgoing.put_nowait(None)

    def _end_if_drained(self) -> None:
        if self._draining and self._handler.idle:
            self._outgoing.put_nowait(None)

    def _apply(self, events: Iterable[Event]) -> None:
        for event in events:
            match event:
                case Send(message):
                    self._send(message)
                case Started(invocation):
                    task = asyncio.create_task(self._transact(invocation))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                case Answered(key, payload):
                    answer = self._answers.pop(key)
                    if not answer.done():
                        answer.set_result(payload)
                case Refused(key, text):
                    answer = self._answers.pop(key)
                    if not answer.done():
                        answer.set_exception(PeerError(text))

    async def _transact(self, invocation: Invocation) -> None:
        stub = Stub(invocation, _Requests(self, invocation.key), self._handler.capabilities, self._msp_id)
        events: tuple[Event, ...]
        try:
            async with asyncio.timeout(self._transaction_seconds):
                response = await run_chaincode(self._chaincode, stub)
            events = self._handler.finish(invocation.key, response, stub.event if response.status < 400 else None)
        except TimeoutError:
            _logger.warning("transaction %s was stopped after %s s", invocation.tx_id, self._transaction_seconds)
            text = f"the transaction was stopped after {self._transaction_seconds:g} s"
            events = self._handler.fail(invocation.key, text)
            self._answers.pop(invocation.key, None)
        self._apply(events)
        self._end_if_drained()

    def request(self, key: TransactionKey, message_type: int, payload: bytes) -> "asyncio.Future[bytes]":
        """Send a transaction's request; the future is the peer's answer."""
        message = self._handler.request(key, message_type, payload)
        answer = asyncio.get_running_loop().create_future()
        self._answers[key] = answer
        self._send(message)
        return answer

    def outstanding(self, key: TransactionKey) -> "asyncio.Future[bytes] | None":
        """The answer that a transaction's last request still lacks, its first waiter being gone."""
        if not self._handler.is_pending(key):
            return None
        answer = self._answers[key]
        if answer.done():  # cancelled with the task that waited for it
            answer = self._answers[key] = asyncio.get_running_loop().create_future()
        return answer


class _Requests:
    """A transaction's way to the peer."""

    __slots__ = ("_conversation", "_key")

    def __init__(self, conversation: Conversation, key: TransactionKey) -> None:
        self._conversation = conversation
        self._key = key

    def send(self, message_type: int, payload: bytes) -> "asyncio.Future[bytes]":
        return self._conversation.request(self._key, message_type, payload)

    def settled(self) -> "asyncio.Future[bytes] | None":
        return self._conversation.outstanding(self._key)
