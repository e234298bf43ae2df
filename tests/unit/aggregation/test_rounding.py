import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from fedfabric.aggregation import EncodingError, Rounding, canonical_json, rounding_stream

SECRET = b"0123456789abcdef"


def test_a_stream_is_aes_ctr_under_a_key_of_its_place():
    info = canonical_json({"job": "j", "round": 3, "attempt": 1, "tensor": "w"})
    key = HKDF(SHA256(), 16, None, b"fedfabric rounding\0" + info).derive(SECRET)
    raw = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(40))
    expected = np.frombuffer(raw, dtype="<u4") / 2**32
    np.testing.assert_array_equal(rounding_stream(SECRET, "j", 3, 1, "w").take(10), expected)


def test_taking_in_pieces_gives_the_same_bits():
    whole = Rounding(SECRET, "j", 1).stream("w").take(1000)
    stream = Rounding(SECRET, "j", 1).stream("w")
    np.testing.assert_array_equal(np.concatenate([stream.take(n) for n in (1, 0, 700, 299)]), whole)


@pytest.mark.parametrize(
    "other",
    [
        (b"another secret of 16+ bytes", "j", 1, 0, "w"),
        (SECRET, "k", 1, 0, "w"),
        (SECRET, "j", 2, 0, "w"),
        (SECRET, "j", 1, 1, "w"),
        (SECRET, "j", 1, 0, "v"),
    ],
    ids=["secret", "job", "round", "attempt", "tensor"],
)
def test_each_part_of_the_place_changes_the_bits(other):
    mine = rounding_stream(SECRET, "j", 1, 0, "w").take(8)
    assert not np.any(mine == rounding_stream(*other).take(8))


def test_the_values_are_uniform_and_below_one():
    values = Rounding(SECRET, "j", 1).stream("w").take(100_000)
    assert values.min() >= 0
    assert values.max() < 1
    assert np.histogram(values, 10, (0, 1))[0].min() > 9500


def test_short_secrets_are_refused():
    with pytest.raises(EncodingError):
        Rounding(b"short", "j", 1)


def test_the_secret_is_not_shown():
    assert "0123456789abcdef" not in repr(Rounding(SECRET, "j", 1))
