"""Random bits for stochastic rounding: AES-CTR keyed by HKDF of the organisation's secret and the tensor's place.

A local restart gives the same bits, so that an update sent twice is the same update; without the secret the bits
can't be told from random ones, so that rounding reveals nothing about the value below the last bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .digests import canonical_json
from .errors import EncodingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALLEST_SECRET = 16


class RoundingStream:
    """A tensor's stream of uniform values in [0, 1), multiples of 2^-32."""

    def __init__(self, key: bytes) -> None:
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        self._zeros = b""

    def take(self, count: int) -> NDArray[np.float64]:
        """Return the next `count` values as float64."""
        size = 4 * count
        if len(self._zeros) < size:
            self._zeros = bytes(size)
        buffer = bytearray(size)
        self._encryptor.update_into(memoryview(self._zeros)[:size], buffer)
        values = np.frombuffer(buffer, dtype="<u4").astype(np.float64)
        values *= 2.0**-32
        return values


class Rounding:
    """The rounding bits of one organisation's update of one round. The secret stays out of repr.

    Raises:
        EncodingError: the secret is shorter than 16 bytes.
    """

    def __init__(self, secret: bytes, job: str, round_number: int, attempt: int = 0) -> None:
        if len(secret) < SMALLEST_SECRET:
            raise EncodingError(f"a rounding secret has at least {SMALLEST_SECRET} bytes", code="SECRET")
        self._secret = secret
        self._place = (job, round_number, attempt)

    def stream(self, tensor: str) -> RoundingStream:
        """Return the stream of a tensor, from its first element."""
        job, round_number, attempt = self._place
        info = canonical_json({"job": job, "round": round_number, "attempt": attempt, "tensor": tensor})
        key = HKDF(algorithm=SHA256(), length=16, salt=None, info=b"fedfabric rounding\x00" + info).derive(self._secret)
        return RoundingStream(key)


def rounding_stream(secret: bytes, job: str, round_number: int, attempt: int, tensor: str) -> RoundingStream:
    """Return the stream of one tensor of one update."""
    return Rounding(secret, job, round_number, attempt).stream(tensor)
