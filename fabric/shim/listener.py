"""A gRPC listener for streams of messages: http2.py's rules on asyncio's sockets, with or without TLS."""

import asyncio
import contextlib
import logging
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Self, cast

from .errors import SettingsError
from .http2 import Connection, ConnectionLimits, Event, Http2Error, Opened, Received, Reset

__all__ = ["Call", "CallFailedError", "Listener"]

_logger = logging.getLogger(__name__)

HANDSHAKE_SECONDS: Final = 10.0
KEEPALIVE_SECONDS: Final = 60.0
KEEPALIVE_TIMEOUT_SECONDS: Final = 20.0
MAXIMUM_CONNECTIONS: Final = 64
MAXIMUM_UNREAD: Final = 4096
"""Messages that wait for their reader before the connection is no longer read."""
MAXIMUM_UNSENT: Final = 64
"""Messages of a call that wait for the client's window before its writer waits."""
FLUSH_BYTES: Final = 128 * 1024
"""What is sent at once; less waits for the end of this turn of the event loop."""
CLOSING_SECONDS: Final = 1.0
"""How long a client may take to read what is left when the server stops."""

_CONNECTION: Final = 0
_OK: Final = 0
_CANCELLED: Final = 1
_UNIMPLEMENTED: Final = 12
_INTERNAL: Final = 13
_UNAVAILABLE: Final = 14


class CallFailedError(Exception):
    """Raised by a method to end its call with a gRPC status.

    Args:
        status: gRPC's code.
        text: what the client reads.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Call:
    """One call: an asynchronous iterator of the client's messages, and `write` for ours."""

    def __init__(self, protocol: "_Protocol", stream: int) -> None:
        self._protocol = protocol
        self._stream = stream
        self._unread: deque[bytes] = deque()
        self._ended = False
        self._wake: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def peer(self) -> str:
        """The client's address."""
        return self._protocol.peer

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._unread:
            if self._ended:
                raise StopAsyncIteration
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        if len(self._unread) == MAXIMUM_UNREAD // 2:
            self._protocol.resume_reading(self._stream)
        return self._unread.popleft()

    async def write(self, payload: bytes) -> None:
        """Send a message; waits while the client takes none."""
        await self._protocol.send(self._stream, payload)

    def received(self, payload: bytes) -> None:
        """A message for the reader."""
        self._unread.append(payload)
        if len(self._unread) == MAXIMUM_UNREAD:
            self._protocol.pause_reading(self._stream)
        self._awake()

    def end(self) -> None:
        """No message will follow."""
        self._ended = True
        self._awake()

    def _awake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


Method = Callable[[Call], Awaitable[None]]


class Listener:
    """Serves gRPC methods, each a coroutine that gets a `Call` and ends it by returning.

    Args:
        methods: by path, `/package.Service/Method`.
        limits: of each connection.
    """

    def __init__(self, methods: dict[str, Method], limits: ConnectionLimits | None = None) -> None:
        self.methods = methods
        self.limits = limits or ConnectionLimits()
        self.protocols: set[_Protocol] = set()
        self.stopping = False
        self._server: asyncio.Server | None = None
        self.port = 0
        self.all_gone = asyncio.Event()

    async def start(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        """Listen.

        Raises:
            SettingsError: the address can't be listened on.
        """
        loop = asyncio.get_running_loop()
        timeout = HANDSHAKE_SECONDS if context else None
        try:
            self._server = await loop.create_server(
                lambda: _Protocol(self), host, port, ssl=context, ssl_handshake_timeout=timeout
            )
        except OSError as error:
            raise SettingsError(f"can't listen on {host}:{port}: {error.strerror or error}") from error
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self, grace_seconds: float) -> None:
        """Take no more calls, wait for those under way, and cancel what is left after the grace period."""
        self.stopping = True
        if self._server is not None:
            self._server.close()
        tasks = [task for protocol in self.protocols for task in protocol.tasks()]
        for protocol in list(self.protocols):
            protocol.close_when_idle()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._hang_up()

    async def _hang_up(self) -> None:
        for hang_up in (_Protocol.close, _Protocol.abort):
            for protocol in list(self.protocols):
                hang_up(protocol)
            if self.protocols:
                self.all_gone.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CLOSING_SECONDS):
                        await self.all_gone.wait()


class _Protocol(asyncio.Protocol):
    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._connection = Connection(listener.limits)
        self._calls: dict[int, Call] = {}
        self._transport: asyncio.Transport | None = None
        self._flushing = False
        self._writable = True
        self._room = asyncio.Event()
        self._keepalive: asyncio.TimerHandle | None = None
        self._alive = True
        self._pauses: set[int] = set()
        """Streams with too much unread, and the connection's own number, 0, while the client does not read."""
        self.peer = "an unknown address"

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # what create_server makes
        address = transport.get_extra_info("peername")
        if address:
            self.peer = f"{address[0]}:{address[1]}"
        secure = transport.get_extra_info("ssl_object")
        refused = secure is not None and secure.selected_alpn_protocol() != "h2"
        if refused or self._listener.stopping or len(self._listener.protocols) >= MAXIMUM_CONNECTIONS:
            self._transport.abort()
            return
        self._listener.protocols.add(self)
        self._connection.start()
        self._flush()
        self._later(KEEPALIVE_SECONDS, self._ask)

    def data_received(self, data: bytes) -> None:
        self._alive = True
        try:
            for event in self._connection.receive(data):
                self._apply(event)
        except Http2Error as error:
            _logger.warning("the connection of %s ends: %s", self.peer, error)
            self._flush()
            self.close()
            return
        self._room.set()  # the client's windows may have opened
        self._flush()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._listener.protocols.discard(self)
        if self._keepalive is not None:
            self._keepalive.cancel()
        self._writable = True
        self._room.set()
        self._transport = None
        if not self._listener.protocols:
            self._listener.all_gone.set()
        for call in self._calls.values():
            self._cancel(call)

    def pause_writing(self) -> None:
        # A client that does not read is not read either, so that what we would answer does not pile up.
        self._writable = False
        self.pause_reading(_CONNECTION)

    def resume_writing(self) -> None:
        self._writable = True
        self._room.set()
        self.resume_reading(_CONNECTION)

    # --- the calls' side

    def tasks(self) -> list["asyncio.Task[None]"]:
        """The tasks of the calls under way."""
        return [call.task for call in self._calls.values() if call.task is not None]

    async def send(self, stream: int, payload: bytes) -> None:
        """Send a message of a call."""
        while not self._writable or self._connection.waiting(stream) >= MAXIMUM_UNSENT:
            self._room.clear()
            await self._room.wait()
        self._connection.send(stream, payload)
        if self._connection.unsent_bytes > FLUSH_BYTES:
            self._flush()
        else:
            self._flush_soon()

    def pause_reading(self, stream: int) -> None:
        """Let the client's bytes wait where they are, as long as there is a reason to."""
        self._pauses.add(stream)
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self, stream: int) -> None:
        """Read on, unless there is another reason not to."""
        self._pauses.discard(stream)
        if not self._pauses and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close_when_idle(self) -> None:
        """Take no more calls; close after the last one."""
        self._connection.close()
        self._flush()
        if self._connection.idle:
            self.close()

    def close(self) -> None:
        """Send what is still to be sent, and close."""
        if self._transport is not None:
            self._flush()
            self._transport.close()

    def abort(self) -> None:
        """Close, whatever is still to be sent."""
        if self._transport is not None:
            self._transport.abort()

    def _apply(self, event: Event) -> None:
        match event:
            case Received(stream, payload):
                if (call := self._calls.get(stream)) is not None:
                    call.received(payload)
            case Opened(stream, path):
                method = self._listener.methods.get(path)
                if method is None:
                    self._connection.finish(stream, _UNIMPLEMENTED, f"there is no method {path}")
                    return
                call = self._calls[stream] = Call(self, stream)
                call.task = asyncio.get_running_loop().create_task(self._run(method, call, stream))
                # Not in `_run`, which a call that is cancelled at once never enters.
                call.task.add_done_callback(lambda _: self._forget(stream))
            case Reset(stream, cancelled):
                if (call := self._calls.get(stream)) is not None:
                    if cancelled:
                        self._cancel(call)
                    else:
                        call.end()

    def _cancel(self, call: Call) -> None:
        call.end()
        if call.task is not None:
            call.task.cancel()

    async def _run(self, method: Method, call: Call, stream: int) -> None:
        status, text = _OK, ""
        try:
            await method(call)
        except asyncio.CancelledError:
            status, text = _CANCELLED, "the call was cancelled"
        except CallFailedError as error:
            status, text = error.status, error.text
        except Exception:
            _logger.exception("a call of %s failed", self.peer)
            status, text = _INTERNAL, "internal error"
        finally:
            self._connection.finish(stream, status, text)
            self._flush()

    def _forget(self, stream: int) -> None:
        del self._calls[stream]
        self.resume_reading(stream)  # what it left unread holds nobody up

    def _flush_soon(self) -> None:
        # One write for all messages of this turn of the event loop.
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        data = self._connection.data_to_send()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _later(self, seconds: float, step: Callable[[], None]) -> None:
        self._keepalive = asyncio.get_running_loop().call_later(seconds, step)

    def _ask(self) -> None:
        self._alive = False
        self._connection.ping()
        self._flush()
        self._later(KEEPALIVE_TIMEOUT_SECONDS, self._look)

    def _look(self) -> None:
        if self._alive:
            self._later(KEEPALIVE_SECONDS, self._ask)
        elif self._transport is not None:
            _logger.warning("%s does not answer", self.peer)
            self._transport.abort()
