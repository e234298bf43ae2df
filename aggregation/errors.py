"""What aggregation refuses.

AggregationError (ValueError)
├── CanonicalError        a value has no canonical bytes
├── TensorFileError       a safetensors file is malformed, too large or not what was announced
├── EncodingError         a delta or a parameter can't be encoded (NaN, infinity, weight out of range)
├── UpdateRefusedError         a member's encoded update breaks the round's rules; names the member
└── ArithmeticUnfitError       this process computes floats in a way that would change digests
"""

from __future__ import annotations


class AggregationError(ValueError):
    """The base of everything that aggregation refuses; `code` is stable, the text is for people."""

    code = "AGGREGATION"

    def __init__(self, text: str, *, code: str = "") -> None:
        super().__init__(text)
        if code:
            self.code = code


class CanonicalError(AggregationError):
    """A value that has no canonical bytes (a float, an integer above 2^53 - 1, a non-string key)."""

    code = "NOT_CANONICAL"


class TensorFileError(AggregationError):
    """A safetensors file that lies, is cut short or exceeds the limits."""

    code = "TENSOR_FILE"


class EncodingError(AggregationError):
    """A delta, weight or parameter that the ring encoding does not take."""

    code = "ENCODING"


class UpdateRefusedError(AggregationError):
    """An encoded update that breaks the round's rules. Every honest member refuses the same ones.

    `member` names whose it is.
    """

    code = "UPDATE_REFUSED"

    def __init__(self, member: str, text: str) -> None:
        super().__init__(f"update of {member}: {text}")
        self.member = member


class ArithmeticUnfitError(AggregationError):
    """The processor's float mode (flush to zero, rounding) would give other digests than everybody else's."""

    code = "ARITHMETIC_UNFIT"
