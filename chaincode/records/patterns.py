"""Strings of a fixed form: each pattern is declared with the words that a person reads when a value does not fit."""

from pydantic import StringConstraints

_WORDS: dict[str, str] = {}


def matching(pattern: str, max_length: int, words: str) -> StringConstraints:
    """Strings that ``pattern`` matches as a whole; ``words`` completes "must be …"."""
    whole = f"^{pattern}$"
    _WORDS[whole] = words
    return StringConstraints(pattern=whole, max_length=max_length)


def explain(pattern: str) -> str:
    """What a string of this pattern must be, for people."""
    return f"must be {_WORDS[pattern]}" if pattern in _WORDS else f"must match {pattern}"
