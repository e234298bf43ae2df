"""HTTP/2 as far as a gRPC server needs it: frames in, frames out, no sockets."""

import hpack
import pytest
from fedfabric.fabric.shim.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    Connection,
    ConnectionLimits,
    Http2Error,
    Opened,
    Received,
    Reset,
)
from hypothesis import given, settings
from hypothesis import strategies as st

REQUEST = {
    ":method": "POST",
    ":scheme": "https",
    ":path": "/protos.Chaincode/Connect",
    ":authority": "localhost",
    "content-type": "application/grpc",
    "te": "trailers",
}
PATH = REQUEST[":path"]


def frame(kind: int, flags: int = 0, stream: int = 0, body: bytes = b"") -> bytes:
    return len(body).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + body


def message(payload: bytes, compressed: int = 0) -> bytes:
    return bytes((compressed,)) + len(payload).to_bytes(4) + payload


def block(**changes: str) -> bytes:
    headers = {**REQUEST, **{name.replace("_", "-").replace("..", ":"): value for name, value in changes.items()}}
    return hpack.Encoder().encode(list(headers.items()))


def setting(key: int, value: int) -> bytes:
    return key.to_bytes(2) + value.to_bytes(4)


HELLO = PREFACE + frame(SETTINGS)
CALL = frame(HEADERS, END_HEADERS, 1, block())


class Sent:
    """What the server has sent, frame by frame, its headers decoded."""

    def __init__(self, connection: Connection):
        self.connection = connection
        self.decoder = hpack.Decoder()

    def take(self) -> list[tuple[int, int, int, bytes]]:
        data, frames = self.connection.data_to_send(), []
        while data:
            length = int.from_bytes(data[:3])
            frames.append((data[3], data[4], int.from_bytes(data[5:9]), data[9 : 9 + length]))
            data = data[9 + length :]
        return frames

    def headers(self, body: bytes) -> dict[str, str]:
        return dict(self.decoder.decode(body))


def connected(limits: ConnectionLimits | None = None) -> tuple[Connection, Sent]:
    connection = Connection(limits)
    connection.start()
    connection.receive(HELLO)
    sent = Sent(connection)
    sent.take()
    return connection, sent


def called(limits: ConnectionLimits | None = None) -> tuple[Connection, Sent]:
    connection, sent = connected(limits)
    assert connection.receive(CALL) == [Opened(1, PATH)]
    return connection, sent


def broken(connection: Connection, sent: Sent, data: bytes, code: int) -> None:
    with pytest.raises(Http2Error, match=r"HTTP/2: \w+"):
        connection.receive(data)
    kind, _, _, body = sent.take()[-1]
    assert kind == GOAWAY
    assert int.from_bytes(body[4:8]) == code
    with pytest.raises(Http2Error, match="already failed"):
        connection.receive(b"")


def test_the_server_starts_with_its_settings_and_a_wide_window():
    connection = Connection()
    connection.start()
    kinds = [kind for kind, *_ in Sent(connection).take()]
    assert kinds == [SETTINGS, WINDOW_UPDATE]


def test_the_clients_settings_are_acknowledged():
    connection = Connection()
    connection.start()
    sent = Sent(connection)
    sent.take()
    connection.receive(HELLO)
    assert sent.take() == [(SETTINGS, ACK, 0, b"")]


def test_a_call_its_messages_and_its_end():
    connection, sent = called()
    assert connection.receive(frame(DATA, 0, 1, message(b"one") + message(b""))) == [
        Received(1, b"one"),
        Received(1, b""),
    ]
    connection.send(1, b"answer")
    (kind, flags, stream, body), (data, _, _, payload) = sent.take()
    assert (kind, flags, stream) == (HEADERS, END_HEADERS, 1)
    assert sent.headers(body) == {":status": "200", "content-type": "application/grpc"}
    assert (data, payload) == (DATA, message(b"answer"))
    assert connection.receive(frame(DATA, END_STREAM, 1, message(b"last"))) == [Received(1, b"last"), Reset(1, False)]
    connection.finish(1, 0)
    ((kind, flags, _, body),) = sent.take()
    assert (kind, flags) == (HEADERS, END_HEADERS | END_STREAM)
    assert sent.headers(body) == {"grpc-status": "0"}
    assert connection.idle


def test_a_call_ended_by_the_server_is_reset_so_that_the_client_stops_sending():
    connection, sent = called()
    connection.finish(1, 9, "no: 100 % wrong — really\n")
    first, trailers, reset = sent.take()
    assert first[0] == HEADERS
    headers = sent.headers(first[3]) | sent.headers(trailers[3])
    assert headers["grpc-status"] == "9"
    assert headers["grpc-message"] == "no: 100 %25 wrong %E2%80%94 really%0A"
    assert reset == (RST_STREAM, 0, 1, (0).to_bytes(4))
    assert connection.receive(frame(DATA, 0, 1, message(b"late"))) == []
    connection.send(1, b"nobody listens")
    connection.finish(1, 0)
    assert sent.take() == []


@pytest.mark.parametrize("length", [126, 127, 128, 254, 255, 1000, 5000])
def test_a_long_text_survives_its_header(length):
    connection, sent = called()
    connection.finish(1, 2, "x" * length)
    trailers = next(body for kind, flags, _, body in sent.take() if kind == HEADERS and flags & END_STREAM)
    assert sent.headers(trailers)["grpc-message"] == "x" * min(length, 1000)


def test_what_comes_late_for_an_ended_call_is_dropped():
    connection, sent = called()
    connection.finish(1, 0)
    sent.take()
    late = frame(DATA, 0, 1, message(b"x")) + frame(WINDOW_UPDATE, 0, 1, (5).to_bytes(4))
    late += frame(HEADERS, END_HEADERS | END_STREAM, 1, hpack.Encoder().encode([("x", "y")]))
    assert connection.receive(late) == []
    assert sent.take() == []
    assert connection.receive(frame(HEADERS, END_HEADERS, 3, block())) == [Opened(3, PATH)]


@given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=8), st.lists(st.integers(1, 60), min_size=1), st.booleans()
)
@settings(deadline=None)
def test_however_the_bytes_arrive_the_messages_are_the_same(payloads, sizes, split_frames):
    data = b"".join(map(message, payloads))
    pieces = [data[at : at + 100] for at in range(0, len(data), 100)] if split_frames else [data]
    stream = HELLO + CALL + b"".join(frame(DATA, 0, 1, piece) for piece in pieces)
    connection = Connection()
    connection.start()
    events, position, turn = [], 0, 0
    while position < len(stream):
        size = sizes[turn % len(sizes)]
        events += connection.receive(stream[position : position + size])
        position += size
        turn += 1
    assert events == [Opened(1, PATH), *(Received(1, payload) for payload in payloads)]


@given(st.binary(max_size=400))
@settings(deadline=None, max_examples=300)
def test_no_bytes_break_anything_but_by_an_error(data):
    connection, _ = called(ConnectionLimits(strays=20))
    try:
        connection.receive(data)
        connection.send(1, b"x")
        connection.finish(1, 0)
    except Http2Error:
        assert connection.data_to_send()


FRAMES = st.builds(
    frame,
    st.integers(0, 10),
    st.integers(0, 255),
    st.sampled_from([0, 1, 2, 3, 5, 2**31 - 1]),
    st.one_of(st.binary(max_size=30), st.just(block()), st.just(bytes(4)), st.just(bytes(8)), st.just(message(b"x"))),
)


@given(st.lists(FRAMES, max_size=12))
@settings(deadline=None, max_examples=300)
def test_no_frames_break_anything_but_by_an_error(frames):
    connection, _ = called(ConnectionLimits(strays=20))
    try:
        for each in frames:
            connection.receive(each)
            connection.send(1, b"x")
    except Http2Error:
        assert connection.data_to_send()


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n\r\nXX"])
def test_what_is_not_http2_ends_at_once(data):
    connection = Connection()
    connection.start()
    broken(connection, Sent(connection), data, 1)


def test_the_first_frame_is_settings():
    connection = Connection()
    connection.start()
    broken(connection, Sent(connection), PREFACE + frame(PING, 0, 0, bytes(8)), 1)


def test_a_ping_comes_back_with_its_bytes():
    connection, sent = connected()
    connection.receive(frame(PING, 0, 0, b"12345678"))
    assert sent.take() == [(PING, ACK, 0, b"12345678")]
    connection.receive(frame(PING, ACK, 0, b"12345678"))
    assert sent.take() == []


def test_padding_and_priority_are_taken_off():
    connection, _ = connected()
    body = b"\x03" + bytes(5) + block() + bytes(3)
    assert connection.receive(frame(HEADERS, END_HEADERS | PADDED | WITH_PRIORITY, 1, body)) == [Opened(1, PATH)]
    assert connection.receive(frame(DATA, PADDED, 1, b"\x02" + message(b"x") + bytes(2))) == [Received(1, b"x")]
    assert connection.receive(frame(PRIORITY, 0, 1, bytes(5))) == []
    assert connection.receive(frame(DATA, PADDED, 1, b"\x03" + bytes(3))) == [], "nothing but padding"


def test_a_header_block_may_come_in_pieces():
    connection, _ = connected()
    whole = block()
    assert connection.receive(frame(HEADERS, 0, 1, whole[:5])) == []
    assert connection.receive(frame(CONTINUATION, 0, 1, whole[5:9])) == []
    assert connection.receive(frame(CONTINUATION, END_HEADERS, 1, whole[9:])) == [Opened(1, PATH)]


def test_a_second_call_may_use_the_first_ones_header_table():
    connection, _ = connected()
    encoder = hpack.Encoder()
    for stream in (1, 3):
        encoded = encoder.encode(list(REQUEST.items()))
        assert connection.receive(frame(HEADERS, END_HEADERS, stream, encoded)) == [Opened(stream, PATH)]


def test_unknown_frames_are_ignored():
    connection, sent = called()
    assert connection.receive(frame(0x77, 0xFF, 1, b"whatever")) == []
    assert sent.take() == []


def test_a_goaway_lets_calls_go_on():
    connection, _ = called()
    assert connection.receive(frame(GOAWAY, 0, 0, bytes(8))) == []
    assert connection.receive(frame(DATA, 0, 1, message(b"x"))) == [Received(1, b"x")]


def test_a_cancelled_call_is_told_and_forgotten():
    connection, sent = called()
    assert connection.receive(frame(RST_STREAM, 0, 1, (8).to_bytes(4))) == [Reset(1, True)]
    assert connection.receive(frame(RST_STREAM, 0, 1, (8).to_bytes(4))) == []
    assert connection.idle
    connection.send(1, b"x")
    assert sent.take() == []


@pytest.mark.parametrize(
    "changes", [{"..method": "GET"}, {"..path": "no-slash"}, {"content-type": "text/html"}, {"content_type": ""}]
)
def test_what_is_no_grpc_call_is_answered_400_and_not_told(changes):
    connection, sent = connected()
    assert connection.receive(frame(HEADERS, END_HEADERS, 1, block(**changes))) == []
    ((kind, flags, _, body),) = sent.take()
    assert (kind, flags & END_STREAM) == (HEADERS, END_STREAM)
    assert sent.headers(body) == {":status": "400"}
    assert connection.idle


def test_a_priority_alone_is_no_call():
    connection, sent = connected()
    assert connection.receive(frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, bytes(5))) == []
    ((_, _, _, body),) = sent.take()
    assert sent.headers(body) == {":status": "400"}


def test_no_more_calls_than_allowed_and_none_when_closing():
    connection, sent = connected(ConnectionLimits(streams=2))
    for stream in (1, 3):
        connection.receive(frame(HEADERS, END_HEADERS, stream, block()))
    assert connection.receive(frame(HEADERS, END_HEADERS, 5, block())) == []
    assert sent.take() == [(RST_STREAM, 0, 5, (7).to_bytes(4))]
    connection.finish(1, 0)
    connection.finish(3, 0)
    sent.take()
    connection.close()
    assert sent.take() == [(GOAWAY, 0, 0, (5).to_bytes(4) + (0).to_bytes(4))]
    assert connection.receive(frame(HEADERS, END_HEADERS, 7, block())) == []
    assert sent.take() == [(RST_STREAM, 0, 7, (7).to_bytes(4))]


def test_a_call_that_sends_nothing_may_end_with_its_headers():
    connection, _ = connected()
    assert connection.receive(frame(HEADERS, END_HEADERS | END_STREAM, 1, block())) == [
        Opened(1, PATH),
        Reset(1, False),
    ]


def test_trailers_of_the_client_end_its_side():
    connection, _ = called()
    trailers = hpack.Encoder().encode([("x", "y")])
    assert connection.receive(frame(HEADERS, END_HEADERS | END_STREAM, 1, trailers)) == [Reset(1, False)]


# --- flow control


def test_we_send_no_more_than_the_client_lets_us():
    connection = Connection()
    connection.start()
    sent = Sent(connection)
    connection.receive(PREFACE + frame(SETTINGS, 0, 0, setting(INITIAL_WINDOW_SIZE, 10)) + CALL)
    sent.take()
    connection.send(1, b"x" * 20)  # 25 bytes with its header
    connection.send(1, b"y")
    frames = sent.take()
    assert [len(body) for kind, _, _, body in frames if kind == DATA] == [10]
    assert connection.waiting(1) == 2
    connection.finish(1, 0)
    assert sent.take() == []
    connection.receive(frame(WINDOW_UPDATE, 0, 1, (15).to_bytes(4)))
    assert [(kind, len(body)) for kind, _, _, body in sent.take()] == [(DATA, 15)]
    connection.receive(frame(SETTINGS, 0, 0, setting(INITIAL_WINDOW_SIZE, 16)))
    frames = sent.take()
    assert [kind for kind, *_ in frames] == [SETTINGS, DATA, HEADERS, RST_STREAM]
    assert frames[1][3] == message(b"y")


def test_the_connections_window_counts_for_all_calls():
    connection, sent = called()
    connection.receive(frame(HEADERS, END_HEADERS, 3, block()))
    connection.receive(frame(SETTINGS, 0, 0, setting(INITIAL_WINDOW_SIZE, 10**6)))
    sent.take()
    connection.send(1, b"x" * 60_000)
    connection.send(3, b"x" * 60_000)
    assert sum(len(body) for kind, _, _, body in sent.take() if kind == DATA) == 65_535
    connection.receive(frame(WINDOW_UPDATE, 0, 0, (10**6).to_bytes(4)))
    assert sum(len(body) for kind, _, _, body in sent.take() if kind == DATA) == 2 * 60_005 - 65_535


def test_frames_are_as_large_as_the_client_takes():
    connection, sent = called()
    connection.receive(frame(SETTINGS, 0, 0, setting(MAX_FRAME_SIZE, 20_000)))
    sent.take()
    connection.send(1, b"x" * 30_000)
    assert [len(body) for kind, _, _, body in sent.take() if kind == DATA] == [20_000, 10_005]


def test_a_window_may_be_as_large_as_can_be():
    connection, _ = called()
    connection.receive(frame(WINDOW_UPDATE, 0, 1, (2**31 - 1 - 65_535).to_bytes(4)))
    connection.receive(frame(WINDOW_UPDATE, 0, 0, (2**31 - 1 - 65_535).to_bytes(4)))


def test_the_clients_windows_are_opened_again_as_it_sends():
    connection, sent = called(ConnectionLimits(window=100_000))
    for _ in range(4):
        connection.receive(frame(DATA, 0, 1, message(b"x" * 15_000)))
    updates = {stream: int.from_bytes(body) for kind, _, stream, body in sent.take() if kind == WINDOW_UPDATE}
    assert updates == {0: 4 * 15_005, 1: 4 * 15_005}


def test_a_client_that_sends_beyond_its_window_is_cut_off():
    connection, sent = called(ConnectionLimits(window=70_000, message_bytes=10**6))
    connection._streams[1].received = 69_993  # as if the updates had not been sent yet
    assert connection.receive(frame(DATA, 0, 1, message(b"xx"))) == [Received(1, b"xx")]
    connection._streams[1].received = 69_994
    broken(connection, sent, frame(DATA, 0, 1, message(b"xx")), 3)


def test_a_client_that_sends_beyond_the_connections_window_is_cut_off():
    connection, sent = called(ConnectionLimits(window=70_000, message_bytes=10**6))
    connection._received = 69_993
    assert connection.receive(frame(DATA, 0, 1, message(b"xx"))) == [Received(1, b"xx")]
    connection._received = 69_994
    broken(connection, sent, frame(DATA, 0, 1, message(b"xx")), 3)


# --- bounds


def test_a_message_larger_than_allowed_ends_its_call_only():
    connection, sent = called(ConnectionLimits(message_bytes=100))
    assert connection.receive(frame(DATA, 0, 1, message(b"x" * 100))) == [Received(1, b"x" * 100)]
    header = (0).to_bytes(1) + (101).to_bytes(4)
    assert connection.receive(frame(DATA, 0, 1, header[:3])) == []
    assert connection.receive(frame(DATA, 0, 1, header[3:])) == [Reset(1, True)]
    trailers = next(body for kind, flags, _, body in sent.take() if kind == HEADERS and flags & END_STREAM)
    assert sent.headers(trailers)["grpc-status"] == "8"
    assert connection.receive(frame(HEADERS, END_HEADERS, 3, block())) == [Opened(3, PATH)]


def test_a_message_is_refused_by_its_header_before_it_is_buffered():
    connection, _ = called()
    assert connection.receive(frame(DATA, 0, 1, b"\x00\xff\xff\xff\xff")) == [Reset(1, True)]


def test_a_refused_call_ends_at_once_whatever_still_waits_to_be_sent():
    connection, sent = called(ConnectionLimits(message_bytes=100))
    connection.send(1, b"x" * 100_000)
    assert connection.waiting(1) == 1
    sent.take()
    assert connection.receive(frame(DATA, 0, 1, b"\x00" + (101).to_bytes(4))) == [Reset(1, True)]
    assert [(kind, flags & END_STREAM) for kind, flags, *_ in sent.take()] == [(HEADERS, END_STREAM), (RST_STREAM, 0)]


def test_compressed_messages_are_refused():
    connection, sent = called()
    events = connection.receive(frame(DATA, 0, 1, message(b"fine") + message(b"zip", compressed=1) + message(b"more")))
    assert events == [Received(1, b"fine"), Reset(1, True)]
    trailers = next(body for kind, flags, _, body in sent.take() if kind == HEADERS and flags & END_STREAM)
    assert sent.headers(trailers)["grpc-status"] == "12"


STRAYS = {
    "ping": frame(PING, 0, 0, bytes(8)),
    "settings": frame(SETTINGS),
    "reset": frame(RST_STREAM, 0, 1, bytes(4)),
    "priority": frame(PRIORITY, 0, 1, bytes(5)),
    "empty data": frame(DATA, 0, 1),
    "unknown": frame(0x77),
}


@pytest.mark.parametrize("kind", STRAYS)
def test_frames_that_carry_nothing_are_bounded(kind):
    connection, sent = called(ConnectionLimits(strays=10))
    connection.ping()
    for _ in range(10):
        connection.receive(STRAYS[kind])
    broken(connection, sent, STRAYS[kind], 11)


def test_messages_and_our_own_pings_forgive_them():
    connection, _ = called(ConnectionLimits(strays=3))
    for turn in range(10):
        connection.receive(STRAYS["ping"] * 2)
        if turn % 2:
            connection.ping()
        else:
            connection.receive(frame(DATA, 0, 1, message(b"x")))


def test_calls_opened_and_reset_in_a_row_are_bounded():
    connection, sent = connected(ConnectionLimits(strays=10))
    connection.ping()
    flood = b"".join(
        frame(HEADERS, END_HEADERS, stream, block()) + frame(RST_STREAM, 0, stream, bytes(4))
        for stream in range(1, 100, 2)
    )
    broken(connection, sent, flood, 11)


def test_headers_of_ended_calls_are_bounded():
    connection, sent = called(ConnectionLimits(strays=10))
    connection.finish(1, 0)
    connection.ping()
    late = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"")
    connection.receive(late * 10)
    broken(connection, sent, late, 11)


def test_empty_continuations_are_bounded():
    connection, sent = connected(ConnectionLimits(strays=10))
    connection.ping()
    connection.receive(frame(HEADERS, 0, 1, b""))
    for _ in range(10):
        connection.receive(frame(CONTINUATION, 0, 1, b""))
    broken(connection, sent, frame(CONTINUATION, 0, 1, b""), 11)


def test_a_header_block_is_bounded_in_pieces_and_unpacked():
    connection, sent = connected(ConnectionLimits(header_bytes=1000))
    connection.receive(frame(HEADERS, 0, 1, bytes(600)))
    broken(connection, sent, frame(CONTINUATION, 0, 1, bytes(600)), 11)
    connection, sent = connected(ConnectionLimits(header_bytes=1000))
    bomb = hpack.Encoder().encode([("name", "x" * 100)] * 40)  # all but the first are an index
    assert len(bomb) < 300
    broken(connection, sent, frame(HEADERS, END_HEADERS, 1, bomb), 9)


WRONG = {
    "a frame larger than announced": (frame(DATA, 0, 1, bytes(16_385)), 6),
    "data on stream 0": (frame(DATA, 0, 0, b"x"), 1),
    "data on a stream not opened": (frame(DATA, 0, 3, b"x"), 1),
    "padding longer than the frame": (frame(DATA, PADDED, 1, b"\x05ab"), 1),
    "padding of an empty frame": (frame(DATA, PADDED, 1, b""), 1),
    "headers on an even stream": (frame(HEADERS, END_HEADERS, 2, block()), 1),
    "headers twice": (frame(HEADERS, END_HEADERS, 1, block()), 1),
    "headers too short": (frame(HEADERS, END_HEADERS | WITH_PRIORITY, 3, b"abc"), 6),
    "headers that do not decode": (frame(HEADERS, END_HEADERS, 3, b"\xff\xff\xff\xff"), 9),
    "a header block interrupted": (frame(HEADERS, 0, 3, b"") + frame(PING, 0, 0, bytes(8)), 1),
    "a header block continued elsewhere": (frame(HEADERS, 0, 3, b"") + frame(CONTINUATION, 0, 5, b""), 1),
    "a continuation of nothing": (frame(CONTINUATION, END_HEADERS, 1, b""), 1),
    "a push": (frame(PUSH_PROMISE, 0, 1, bytes(4)), 1),
    "priority of stream 0": (frame(PRIORITY, 0, 0, bytes(5)), 1),
    "a short priority": (frame(PRIORITY, 0, 1, bytes(4)), 1),
    "a short reset": (frame(RST_STREAM, 0, 1, bytes(3)), 6),
    "a reset of stream 0": (frame(RST_STREAM, 0, 0, bytes(4)), 1),
    "a reset of a stream not opened": (frame(RST_STREAM, 0, 9, bytes(4)), 1),
    "settings on a stream": (frame(SETTINGS, 0, 1), 6),
    "settings cut short": (frame(SETTINGS, 0, 0, bytes(5)), 6),
    "an acknowledgement with settings": (frame(SETTINGS, ACK, 0, bytes(6)), 6),
    "a window too large": (frame(SETTINGS, 0, 0, setting(INITIAL_WINDOW_SIZE, 2**31)), 3),
    "a frame size too small": (frame(SETTINGS, 0, 0, setting(MAX_FRAME_SIZE, 16_383)), 1),
    "a ping on a stream": (frame(PING, 0, 1, bytes(8)), 6),
    "a short ping": (frame(PING, 0, 0, bytes(7)), 6),
    "a short goaway": (frame(GOAWAY, 0, 0, bytes(7)), 6),
    "a short window update": (frame(WINDOW_UPDATE, 0, 0, bytes(3)), 6),
    "a window update of nothing": (frame(WINDOW_UPDATE, 0, 0, bytes(4)), 1),
    "a window update of a stream not opened": (frame(WINDOW_UPDATE, 0, 9, (1).to_bytes(4)), 1),
    "a connection's window beyond the largest": (frame(WINDOW_UPDATE, 0, 0, (2**31 - 1).to_bytes(4)), 3),
    "a stream's window beyond the largest": (frame(WINDOW_UPDATE, 0, 1, (2**31 - 1).to_bytes(4)), 3),
    "data after the end": (frame(DATA, END_STREAM, 1) + frame(DATA, 0, 1, b"x"), 5),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_breaks_http2_ends_the_connection_with_the_code_that_says_so(name):
    data, code = WRONG[name]
    connection, sent = called()
    broken(connection, sent, data, code)
