"""How long each call to the peer may take."""

from dataclasses import dataclass

__all__ = ["Deadlines"]


@dataclass(frozen=True)
class Deadlines:
    """The longest that a call to the peer may take, in seconds; None lets it take for ever.

    A deadline starts when the call leaves: waiting for one of the gateway's slots is not in it (bound that with
    `asyncio.timeout` around the whole).
    """

    evaluate: float | None = 15.0
    endorse: float | None = 30.0
    submit: float | None = 15.0
    commit_status: float | None = 60.0
    events: float | None = None
