"""Clock offsets from an HTTP header that counts whole seconds."""

import pytest
from fedfabric.network.observation import skew_ms

NOON = 1_769_860_800.0
HEAD = b"HTTP/1.0 200 OK\r\nDate: Sat, 31 Jan 2026 12:00:00 GMT\r\n\r\n"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (NOON, NOON + 0.01, 0),
        (NOON + 0.98, NOON + 0.99, 0),
        (NOON + 3.0, NOON + 3.01, -2000),
        (NOON - 5.01, NOON - 5.0, 5000),
    ],
)
def test_the_least_offset_that_explains_the_header(before, after, expected):
    assert skew_ms(HEAD, before, after) == expected


def test_an_answer_without_a_date_tells_nothing():
    assert skew_ms(b"HTTP/1.0 200 OK\r\n\r\n", NOON, NOON) is None
    with pytest.raises(ValueError, match="Invalid date"):
        skew_ms(b"HTTP/1.0 200 OK\r\nDate: yesterday\r\n\r\n", NOON, NOON)
