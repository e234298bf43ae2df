"""Every bound that the gateway puts on what comes from outside, and every deadline that it keeps, with their units."""

from dataclasses import dataclass

__all__ = ["Deadlines", "Limits"]


@dataclass(frozen=True)
class Limits:
    """Bounds on foreign input. Beyond one of them a call ends with RESOURCE_EXHAUSTED and nothing has changed."""

    message_bytes: int = 4 << 20
    """One gRPC message, either way: a segment of a blob and room for its frame."""
    blob_bytes: int = 16 << 30
    """The largest blob that is taken in or fetched."""
    plan_bytes: int = 16 << 20
    """The largest plan bundle."""
    open_uploads: int = 16
    """Uploads that are not finished, of all callers together."""
    watchers: int = 256
    """Streams of job events that are open at a time."""
    page_rows: int = 500
    """Rows in one answer of a list."""
    concurrent_calls: int = 1024
    """Calls of the own organisation at a time."""
    foreign_calls: int = 32
    """Calls of one other organisation at a time."""
    health_calls: int = 16
    """Health calls of one organisation at a time, the own one's too; they are not counted with the others."""
    peer_calls: int = 200
    """Calls of the gateway's own at its peer at a time, waits for commits among them. A peer takes 500 in all."""
    endorsements: int = 125
    """Callers' proposals at the peer at a time; more wait here."""
    submissions: int = 125
    """Callers' transactions on their way to the orderers at a time; more wait here, apart from the proposals."""
    awaited: int = 100
    """Callers' commits that are waited for at a time, out of the gateway's own calls; more wait here."""
    fetches: int = 4
    """Blobs fetched from other gateways at a time."""


@dataclass(frozen=True)
class Deadlines:
    """How long the gateway waits, in seconds. Nothing waits without one."""

    ledger: float = 60.0
    """One act on the ledger, from its proposal to its commit, with retries."""
    evaluate: float = 15.0
    """One question to the ledger."""
    fetch: float = 600.0
    """One blob from another gateway, all tries together."""
    fetch_idle: float = 20.0
    """Between two segments of a fetch."""
    fetch_turn: float = 60.0
    """One try at one holder, however slowly it sends. What came in whole stays, and the next try goes on behind it."""
    caller: float = 60.0
    """For a caller to send what it asks, or to read a message of the answer; and until one that is gone is missed."""
    connect: float = 10.0
    """For a connection to another gateway or to the peer."""
    training: float = 3600.0
    """The longest that a trainer may run when the round's own deadline is later."""
    initialise: float = 120.0
    """For a plan's own model to be made."""
    stagger: float = 0.75
    """Between the gateways that may do the same on the ledger: how long each leaves it to those before it."""
    zygote_start: float = 120.0
    """For the zygote to import torch and say that it is ready."""
    stop: float = 10.0
    """For open calls to end when the gateway stops."""
