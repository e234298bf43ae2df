"""The server's side of gRPC over HTTP/2 (RFC 9113) without I/O: bytes in, events out, bytes to send.

As much of HTTP/2 as a gRPC server needs whose calls are long streams of small messages: a peer's connection to a
chaincode. grpcio spends 40 to 60 µs on each message in asyncio; here many messages share one read and one write.
Header blocks are decoded by the package hpack.

What the client does wrong raises Http2Error. `data_to_send` then ends with the GOAWAY frame that says so, and the
connection is to be closed.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from urllib.parse import quote

import hpack

from .errors import ProtocolError

__all__ = ["Connection", "ConnectionLimits", "Event", "Http2Error", "Opened", "Received", "Reset"]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEADER: Final = 9
MESSAGE_HEADER: Final = 5

# Frame types (RFC 9113, section 6) and flags.
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
ACK = END_STREAM = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

# Error codes (section 7).
NO_ERROR: Final = 0x0
PROTOCOL_ERROR: Final = 0x1
FLOW_CONTROL_ERROR: Final = 0x3
STREAM_CLOSED: Final = 0x5
FRAME_SIZE_ERROR: Final = 0x6
REFUSED_STREAM: Final = 0x7
COMPRESSION_ERROR: Final = 0x9
ENHANCE_YOUR_CALM: Final = 0xB

# Settings (section 6.5.2).
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6

DEFAULT_WINDOW: Final = 65_535
DEFAULT_FRAME: Final = 16_384
LARGEST_WINDOW: Final = 2**31 - 1
LARGEST_FRAME: Final = 2**24 - 1

# gRPC's status codes that the transport itself gives.
_UNIMPLEMENTED: Final = 12
_RESOURCE_EXHAUSTED: Final = 8

# ":status: 200" is entry 8 of HPACK's static table, "content-type" entry 31 (RFC 7541, appendix A); both literals are
# not indexed, so that no state is kept.
_RESPONSE_HEADERS: Final = b"\x88\x0f\x10\x10application/grpc"


class Http2Error(ProtocolError):
    """The client broke HTTP/2 or gRPC; the connection ends."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one connection may take up."""

    streams: int = 16
    message_bytes: int = 100 * 1024 * 1024
    header_bytes: int = 16 * 1024
    window: int = 4 * 1024 * 1024
    """How many bytes of a stream, or of all together, may be on their way."""
    strays: int = 1000
    """Resets, pings, settings and empty frames that may come between two messages, or between two `ping`s of ours."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A client calls a method."""

    stream: int
    path: str


@dataclass(frozen=True, slots=True)
class Received:
    """A message has come."""

    stream: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Reset:
    """No more messages will come on a stream: the client has closed its side, or cancelled the call."""

    stream: int
    cancelled: bool


Event: TypeAlias = Opened | Received | Reset
_FrameHandler: TypeAlias = Callable[[int, int, bytes], list[Event]]


@dataclass(slots=True)
class _Stream:
    window: int
    """Bytes that the client lets us send."""
    outgoing: deque[bytes] = field(default_factory=deque)
    trailers: bytes = b""
    partial: bytearray = field(default_factory=bytearray)
    received: int = 0
    """Bytes received since the client's window was last opened."""
    answered: bool = False
    closed_by_client: bool = False


class Connection:
    """One connection. `start` first, then `receive` whatever comes; send `data_to_send` after each call."""

    def __init__(self, limits: ConnectionLimits | None = None) -> None:
        self._limits = limits or ConnectionLimits()
        self._incoming = bytearray()
        self._out = bytearray()
        self._preface_seen = False
        self._settings_seen = False
        self._streams: dict[int, _Stream] = {}
        self._last_stream = 0
        self._headers: tuple[int, int, bytearray] | None = None  # stream, flags, block: until END_HEADERS
        self._decoder = hpack.Decoder(max_header_list_size=self._limits.header_bytes)
        self._window = DEFAULT_WINDOW
        self._first_window = DEFAULT_WINDOW
        self._frame_size = DEFAULT_FRAME
        self._received = 0
        self._strays = 0
        self._closing = False
        self._failed = False
        self._handlers: dict[int, _FrameHandler] = {
            DATA: self._data,
            HEADERS: self._on_headers,
            PRIORITY: self._priority,
            RST_STREAM: self._rst_stream,
            SETTINGS: self._settings,
            PING: self._ping,
            GOAWAY: self._goaway,
            WINDOW_UPDATE: self._window_update,
            CONTINUATION: self._continuation,
        }

    @property
    def idle(self) -> bool:
        """No call is open."""
        return not self._streams

    def start(self) -> None:
        """Send our settings, and open the window of the whole connection."""
        settings = (
            (MAX_CONCURRENT_STREAMS, self._limits.streams),
            (INITIAL_WINDOW_SIZE, self._limits.window),
            (MAX_HEADER_LIST_SIZE, self._limits.header_bytes),
        )
        body = b"".join(key.to_bytes(2) + value.to_bytes(4) for key, value in settings)
        self._frame(SETTINGS, 0, 0, body)
        self._frame(WINDOW_UPDATE, 0, 0, (self._limits.window - DEFAULT_WINDOW).to_bytes(4))

    @property
    def unsent_bytes(self) -> int:
        """How much `data_to_send` would give."""
        return len(self._out)

    def data_to_send(self) -> bytes:
        """Take what is to be sent."""
        out, self._out = self._out, bytearray()
        return bytes(out)

    def receive(self, data: bytes) -> list[Event]:
        """What follows from bytes of the client.

        Raises:
            Http2Error: they break the protocol.
        """
        if self._failed:
            raise Http2Error("HTTP/2: the connection has already failed")
        self._incoming += data
        try:
            return self._frames()
        except _ViolationError as violation:
            self._failed = True
            self._frame(GOAWAY, 0, 0, self._last_stream.to_bytes(4) + violation.code.to_bytes(4))
            raise Http2Error(f"HTTP/2: {violation}") from None

    def _frames(self) -> list[Event]:
        incoming = self._incoming
        events: list[Event] = []
        position = 0
        if not self._preface_seen:
            if not PREFACE.startswith(bytes(incoming[: len(PREFACE)])):
                raise _ViolationError(PROTOCOL_ERROR, "no HTTP/2 preface")
            if len(incoming) < len(PREFACE):
                return events
            self._preface_seen = True
            position = len(PREFACE)
        while len(incoming) - position >= FRAME_HEADER:
            length = int.from_bytes(incoming[position : position + 3])
            if length > DEFAULT_FRAME:
                raise _ViolationError(FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            end = position + FRAME_HEADER + length
            if len(incoming) < end:
                break
            kind, flags = incoming[position + 3], incoming[position + 4]
            stream = int.from_bytes(incoming[position + 5 : position + 9]) & LARGEST_WINDOW
            events += self._dispatch(kind, flags, stream, bytes(incoming[position + FRAME_HEADER : end]))
            position = end
        del incoming[:position]
        return events

    def send(self, stream: int, payload: bytes) -> None:
        """Send a message; it waits while the client's window is full. Nothing when the call is over."""
        state = self._streams.get(stream)
        if state is None or state.trailers:
            return
        self._answer(stream, state)
        state.outgoing.append(b"\x00" + len(payload).to_bytes(4) + payload)
        self._pump(stream, state)

    def finish(self, stream: int, status: int, text: str = "") -> None:
        """End a call with gRPC's status, after what is still to be sent."""
        state = self._streams.get(stream)
        if state is None or state.trailers:
            return
        self._answer(stream, state)
        state.trailers = _literal("grpc-status", str(status)) + (
            _literal("grpc-message", _escaped(text)) if text else b""
        )
        self._pump(stream, state)

    def waiting(self, stream: int) -> int:
        """Messages of a call that wait for the client's window."""
        state = self._streams.get(stream)
        return len(state.outgoing) if state else 0

    def ping(self) -> None:
        """Ask whether the client still lives; any byte from it is the answer."""
        self._strays = 0
        self._frame(PING, 0, 0, bytes(8))

    def close(self) -> None:
        """Say that no further call will be taken."""
        self._closing = True
        self._frame(GOAWAY, 0, 0, self._last_stream.to_bytes(4) + NO_ERROR.to_bytes(4))

    # --- sending

    def _frame(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        self._out += len(body).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + body

    def _answer(self, stream: int, state: _Stream) -> None:
        if not state.answered:
            state.answered = True
            self._frame(HEADERS, END_HEADERS, stream, _RESPONSE_HEADERS)

    def _pump(self, stream: int, state: _Stream) -> None:
        while state.outgoing:
            room = min(self._window, state.window, self._frame_size)
            if room <= 0:
                return
            message = state.outgoing[0]
            if len(message) <= room:
                state.outgoing.popleft()
            else:
                state.outgoing[0] = message[room:]
                message = message[:room]
            self._window -= len(message)
            state.window -= len(message)
            self._frame(DATA, 0, stream, message)
        if state.trailers:
            self._frame(HEADERS, END_HEADERS | END_STREAM, stream, state.trailers)
            if not state.closed_by_client:
                self._frame(RST_STREAM, 0, stream, NO_ERROR.to_bytes(4))
            del self._streams[stream]

    # --- receiving

    def _dispatch(self, kind: int, flags: int, stream: int, body: bytes) -> list[Event]:
        if not self._settings_seen and kind != SETTINGS:
            raise _ViolationError(PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if self._headers is not None and kind != CONTINUATION:
            raise _ViolationError(PROTOCOL_ERROR, "a header block is interrupted")
        handler = self._handlers.get(kind)
        if handler is None:
            if kind == PUSH_PROMISE:
                raise _ViolationError(PROTOCOL_ERROR, "a client can't push")
            self._stray()
            return []  # types yet unknown are to be ignored (section 4.1)
        return handler(flags, stream, body)

    def _stray(self) -> None:
        self._strays += 1
        if self._strays > self._limits.strays:
            raise _ViolationError(ENHANCE_YOUR_CALM, "too many frames that carry nothing")

    def _data(self, flags: int, stream: int, body: bytes) -> list[Event]:
        if stream == 0 or stream > self._last_stream:
            raise _ViolationError(PROTOCOL_ERROR, "DATA on a stream that is not open")
        self._credit(len(body))
        state = self._streams.get(stream)
        if not body and not flags & END_STREAM:
            self._stray()
        if state is None:
            return []  # the call ended while this was on its way
        if state.closed_by_client:
            raise _ViolationError(STREAM_CLOSED, "DATA after the end of its stream")
        state.received += len(body)
        if state.received > self._limits.window:
            raise _ViolationError(FLOW_CONTROL_ERROR, "more DATA than the window allows")
        if state.received * 2 > self._limits.window and not flags & END_STREAM:
            self._frame(WINDOW_UPDATE, 0, stream, state.received.to_bytes(4))
            state.received = 0
        events = self._messages(stream, state, _unpadded(body) if flags & PADDED else body)
        if flags & END_STREAM and not state.closed_by_client:
            state.closed_by_client = True
            events.append(Reset(stream, cancelled=False))
        return events

    def _credit(self, size: int) -> None:
        self._received += size
        if self._received > self._limits.window:
            raise _ViolationError(FLOW_CONTROL_ERROR, "more DATA than the connection's window allows")
        if self._received * 2 > self._limits.window:
            self._frame(WINDOW_UPDATE, 0, 0, self._received.to_bytes(4))
            self._received = 0

    def _messages(self, stream: int, state: _Stream, body: bytes) -> list[Event]:
        if state.partial:
            state.partial += body
            body = b""
            if len(state.partial) >= MESSAGE_HEADER:
                refusal = self._refusal(state.partial)
                if refusal is not None:
                    return [self._refuse(stream, state, *refusal)]
                if len(state.partial) - MESSAGE_HEADER >= int.from_bytes(state.partial[1:5]):
                    body = bytes(state.partial)
                    state.partial.clear()
        events: list[Event] = []
        position = 0
        while len(body) - position >= MESSAGE_HEADER:
            refusal = self._refusal(body[position : position + MESSAGE_HEADER])
            if refusal is not None:
                return [*events, self._refuse(stream, state, *refusal)]
            end = position + MESSAGE_HEADER + int.from_bytes(body[position + 1 : position + 5])
            if len(body) < end:
                break
            events.append(Received(stream, body[position + MESSAGE_HEADER : end]))
            self._strays = 0
            position = end
        state.partial += body[position:]
        return events

    def _refusal(self, start: bytes | bytearray) -> tuple[int, str] | None:
        size = int.from_bytes(start[1:5])
        if start[0]:
            return _UNIMPLEMENTED, "compressed messages are not supported"
        if size > self._limits.message_bytes:
            return _RESOURCE_EXHAUSTED, f"a message of {size} bytes; {self._limits.message_bytes} are the most"
        return None

    def _refuse(self, stream: int, state: _Stream, status: int, text: str) -> Reset:
        state.partial.clear()
        state.outgoing.clear()
        self.finish(stream, status, text)
        # The call is over on our side; what the client still sends on it is dropped.
        self._streams.pop(stream, None)
        return Reset(stream, cancelled=True)

    def _on_headers(self, flags: int, stream: int, body: bytes) -> list[Event]:
        if flags & PADDED:
            body = _unpadded(body)
        if flags & WITH_PRIORITY:
            if len(body) < 5:
                raise _ViolationError(FRAME_SIZE_ERROR, "HEADERS too short for their priority")
            body = body[5:]
        if stream % 2 == 0:
            raise _ViolationError(PROTOCOL_ERROR, "HEADERS on a stream that a client can't open")
        return self._block(stream, flags, bytearray(body))

    def _continuation(self, flags: int, stream: int, body: bytes) -> list[Event]:
        if self._headers is None or self._headers[0] != stream:
            raise _ViolationError(PROTOCOL_ERROR, "CONTINUATION of no header block")
        _, first_flags, block = self._headers
        self._headers = None
        if not body:
            self._stray()
        block += body
        return self._block(stream, first_flags | flags & END_HEADERS, block)

    def _block(self, stream: int, flags: int, block: bytearray) -> list[Event]:
        if len(block) > self._limits.header_bytes:
            raise _ViolationError(ENHANCE_YOUR_CALM, "a header block larger than allowed")
        if not flags & END_HEADERS:
            self._headers = (stream, flags, block)
            return []
        try:
            headers = dict(self._decoder.decode(bytes(block), raw=True))
        except (hpack.HPACKError, ValueError) as error:
            raise _ViolationError(COMPRESSION_ERROR, f"a header block that can't be decoded ({error})") from None
        state = self._streams.get(stream)
        if state is not None:  # trailers, of which gRPC clients send none but may
            if state.closed_by_client or not flags & END_STREAM:
                raise _ViolationError(PROTOCOL_ERROR, "a second header block on a stream")
            state.closed_by_client = True
            return [Reset(stream, cancelled=False)]
        if stream <= self._last_stream:
            self._stray()
            return []  # of a call that has ended
        self._last_stream = stream
        if self._closing or len(self._streams) >= self._limits.streams:
            self._stray()
            self._frame(RST_STREAM, 0, stream, REFUSED_STREAM.to_bytes(4))
            return []
        return self._open(stream, headers, ended=bool(flags & END_STREAM))

    def _open(self, stream: int, headers: dict[bytes, bytes], *, ended: bool) -> list[Event]:
        path = headers.get(b":path", b"").decode("ascii", "replace")
        is_grpc = headers.get(b"content-type", b"").startswith(b"application/grpc")
        if headers.get(b":method") != b"POST" or not path.startswith("/") or not is_grpc:
            self._stray()
            # ":status: 400" is entry 12 of the static table.
            self._frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x8c")
            return []
        self._streams[stream] = _Stream(self._first_window, closed_by_client=ended)
        opened: list[Event] = [Opened(stream, path)]
        return [*opened, Reset(stream, cancelled=False)] if ended else opened

    def _priority(self, flags: int, stream: int, body: bytes) -> list[Event]:
        del flags
        if stream == 0 or len(body) != 5:
            raise _ViolationError(PROTOCOL_ERROR, "a wrong PRIORITY")
        self._stray()
        return []

    def _rst_stream(self, flags: int, stream: int, body: bytes) -> list[Event]:
        del flags
        if len(body) != 4:
            raise _ViolationError(FRAME_SIZE_ERROR, "a wrong RST_STREAM")
        if stream == 0 or stream > self._last_stream:
            raise _ViolationError(PROTOCOL_ERROR, "RST_STREAM of a stream that is not open")
        self._stray()
        if self._streams.pop(stream, None) is None:
            return []
        return [Reset(stream, cancelled=True)]

    def _settings(self, flags: int, stream: int, body: bytes) -> list[Event]:
        if stream or len(body) % 6 or (flags & ACK and body):
            raise _ViolationError(FRAME_SIZE_ERROR, "wrong SETTINGS")
        self._settings_seen = True
        self._stray()
        if flags & ACK:
            return []
        for position in range(0, len(body), 6):
            key, value = (
                int.from_bytes(body[position : position + 2]),
                int.from_bytes(body[position + 2 : position + 6]),
            )
            if key == INITIAL_WINDOW_SIZE:
                if value > LARGEST_WINDOW:
                    raise _ViolationError(FLOW_CONTROL_ERROR, "a window larger than can be")
                for state in self._streams.values():
                    state.window += value - self._first_window
                self._first_window = value
            elif key == MAX_FRAME_SIZE:
                if not DEFAULT_FRAME <= value <= LARGEST_FRAME:
                    raise _ViolationError(PROTOCOL_ERROR, "a frame size that can't be")
                self._frame_size = value
        self._frame(SETTINGS, ACK, 0, b"")
        self._pump_all()
        return []

    def _ping(self, flags: int, stream: int, body: bytes) -> list[Event]:
        if stream or len(body) != 8:
            raise _ViolationError(FRAME_SIZE_ERROR, "a wrong PING")
        self._stray()
        if not flags & ACK:
            self._frame(PING, ACK, 0, body)
        return []

    def _goaway(self, flags: int, stream: int, body: bytes) -> list[Event]:
        del flags
        if stream or len(body) < 8:
            raise _ViolationError(FRAME_SIZE_ERROR, "a wrong GOAWAY")
        self._stray()
        return []  # the calls under way go on; the client closes the connection after them

    def _window_update(self, flags: int, stream: int, body: bytes) -> list[Event]:
        del flags
        if len(body) != 4:
            raise _ViolationError(FRAME_SIZE_ERROR, "a wrong WINDOW_UPDATE")
        increment = int.from_bytes(body) & LARGEST_WINDOW
        if not increment:
            raise _ViolationError(PROTOCOL_ERROR, "a WINDOW_UPDATE of nothing")
        if stream == 0:
            self._window += increment
            if self._window > LARGEST_WINDOW:
                raise _ViolationError(FLOW_CONTROL_ERROR, "a window larger than can be")
            self._pump_all()
            return []
        if stream > self._last_stream:
            raise _ViolationError(PROTOCOL_ERROR, "WINDOW_UPDATE of a stream that is not open")
        state = self._streams.get(stream)
        if state is not None:
            state.window += increment
            if state.window > LARGEST_WINDOW:
                raise _ViolationError(FLOW_CONTROL_ERROR, "a window larger than can be")
            self._pump(stream, state)
        return []

    def _pump_all(self) -> None:
        for stream, state in list(self._streams.items()):
            if state.outgoing or state.trailers:
                self._pump(stream, state)


class _ViolationError(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def _unpadded(body: bytes) -> bytes:
    if not body or body[0] >= len(body):
        raise _ViolationError(PROTOCOL_ERROR, "padding longer than its frame")
    return body[1 : len(body) - body[0]]


def _literal(name: str, value: str) -> bytes:
    # A literal header field without indexing, neither string Huffman-coded (RFC 7541, section 6.2.2).
    encoded = value.encode("ascii")
    return b"\x00" + _integer(len(name)) + name.encode("ascii") + _integer(len(encoded)) + encoded


def _integer(value: int) -> bytes:
    # An integer with a prefix of seven bits (RFC 7541, section 5.1).
    if value < 0x7F:
        return bytes((value,))
    value -= 0x7F
    encoded = bytearray((0x7F,))
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _escaped(text: str) -> str:
    # gRPC's status messages are percent-encoded ASCII; they travel in one header.
    return quote(text[:1000].encode(errors="replace"), safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")
