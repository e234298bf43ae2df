"""How a network fares: its processes, their ports and block heights, and the clocks."""

import asyncio
import contextlib
import email.utils
import time
from dataclasses import dataclass
from pathlib import Path

import grpc

from ..fabric.lifecycle import LifecycleError
from ..fabric.participation import ParticipationError
from .connections import Connections
from .founding import Layout
from .processes import Place
from .runtime import LOOPBACK, ProcessKind, ProcessState
from .together import together

ANSWER_SECONDS = 3.0
_MAXIMUM_HEAD_BYTES = 16 * 1024


@dataclass(frozen=True)
class ProcessStatus:
    """One process, as seen from this machine."""

    name: str
    organisation: str
    kind: ProcessKind
    running: bool
    pid: int | None
    ports: dict[str, int]
    restarts: int
    last_exit: str | None
    height: int | None = None
    """Blocks of the channel (peers and orderers), None where it does not answer."""
    skew_ms: int | None = None
    """How far its clock is ahead of this machine's at least (behind: negative), None where it cannot be asked."""


@dataclass(frozen=True)
class NetworkStatus:
    """The whole network; `warnings` say what is wrong and what to do."""

    name: str
    channel: str
    runtime: str
    folder: Path
    up: bool
    """Whether every process runs."""
    height: int | None
    """The highest block count that a process told."""
    processes: tuple[ProcessStatus, ...]
    warnings: tuple[str, ...]


async def observe(layout: Layout) -> NetworkStatus:
    """Ask every process; what does not answer within three seconds counts as silent."""
    spec = layout.state.spec
    states = await layout.runtime.states()
    async with Connections(layout) as connections:
        found = await together(
            _process(layout, connections, place, process.kind, states.get(process.name))
            for organisation in spec.organisations
            for process in layout.processes(organisation)
            for place in [layout.place(process.name, organisation)]
        )
    heights = [one.height for one in found if one.height is not None]
    height = max(heights, default=None)
    return NetworkStatus(
        name=spec.name,
        channel=spec.channel,
        runtime=layout.runtime.name,
        folder=layout.home,
        up=all(one.running for one in found),
        height=height,
        processes=tuple(found),
        warnings=tuple(_warnings(found, spec.window_ms)),
    )


def _warnings(found: list[ProcessStatus], window_ms: int) -> list[str]:
    warnings = []
    for one in found:
        if not one.running:
            warnings.append(f"{one.name} does not run{f' ({one.last_exit})' if one.last_exit else ''}: 'network up'")
        elif one.kind != "chaincode" and one.height is None:
            warnings.append(f"{one.name} runs and does not answer: 'network logs {one.name}'")
        if one.restarts:
            warnings.append(f"{one.name} was started again {one.restarts} times, last after {one.last_exit}")
        if one.skew_ms is not None and abs(one.skew_ms) > window_ms / 2:
            warnings.append(
                f"the clock of {one.name} is {one.skew_ms} ms off, and transactions bear {window_ms} ms: set it by NTP"
            )
    return warnings


async def _process(
    layout: Layout, connections: Connections, place: Place, kind: ProcessKind, state: ProcessState | None
) -> ProcessStatus:
    running = state is not None and state.running
    height, skew = None, None
    if running and kind != "chaincode":
        height, skew = await asyncio.gather(
            _height(layout, connections, place, kind), clock_skew_ms(place.ports["operations"])
        )
    return ProcessStatus(
        name=place.name,
        organisation=place.organisation.name,
        kind=kind,
        running=running,
        pid=state.pid if state else None,
        ports=dict(place.ports),
        restarts=state.restarts if state else 0,
        last_exit=state.last_exit if state else None,
        height=height,
        skew_ms=skew,
    )


async def _height(layout: Layout, connections: Connections, place: Place, kind: ProcessKind) -> int | None:
    channel = layout.state.spec.channel
    with contextlib.suppress(grpc.aio.AioRpcError, LifecycleError, ParticipationError, OSError):
        async with asyncio.timeout(ANSWER_SECONDS):
            if kind == "peer":
                return await (await connections.peer(place)).height(channel)
            return (await connections.orderer(place).channel(channel)).height
    return None


async def clock_skew_ms(port: int) -> int | None:
    """How far the clock of an HTTP server on a loopback port is off this machine's at least, in milliseconds.

    Its Date header counts whole seconds, so that an offset below a second may show as 0.
    """
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        async with asyncio.timeout(ANSWER_SECONDS):
            before = time.time()
            reader, writer = await asyncio.open_connection(LOOPBACK, port, limit=_MAXIMUM_HEAD_BYTES)
            try:
                writer.write(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            after = time.time()
            return skew_ms(head, before, after)
    return None


def skew_ms(head: bytes, before: float, after: float) -> int | None:
    """The least offset that explains a Date header received between two times of ours (seconds since 1970)."""
    for line in head.split(b"\r\n")[1:]:
        name, _colon, value = line.partition(b":")
        if name.strip().lower() == b"date":
            told = email.utils.parsedate_to_datetime(value.strip().decode("ascii")).timestamp()
            earliest, latest = told - after, told + 1 - before
            return round(1000 * (earliest if earliest > 0 else latest if latest < 0 else 0))
    return None
