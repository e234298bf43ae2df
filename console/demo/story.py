"""The demo from beginning to end: what is started, in which order, and that all of it is ended."""

import asyncio
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ... import __version__
from ..failures import environment
from .children import GatewayProcess
from .display import Display, Round
from .hospitals import CLEVELAND, FOUNDERS, HOSPITALS, VA_LONG_BEACH, Hospital, find_data, hand_out
from .referee import Referee
from .summary import Summary

if TYPE_CHECKING:
    from ...network import Network

Result = TypeVar("Result")

PLAN = Path(__file__).resolve().parents[2] / "examples" / "heart_disease"
JOB = "heart"
DATASET = "heart"
PEOPLE = {"ada": "operator", "basil": "steward", "chen": "scientist", "dora": "auditor"}
BUDGET = 1200
CLIP = "1.0"
NETWORK = {
    "name": "hospitals",
    "organisations": [
        *({"name": one.name, "msp_id": one.msp_id, "orderers": 1} for one in FOUNDERS),
        {"name": "ordering", "peers": 0, "orderers": 1},
    ],
}


@dataclass
class Clock:
    """Seconds of each step, and of the whole."""

    started: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, display: Display, name: str, text: str) -> Iterator[None]:
        """A step of the display whose seconds are kept under a name."""
        began = time.monotonic()
        with display.step(text):
            yield
        self.seconds[name] = time.monotonic() - began


async def in_order(cleaning: Coroutine[Any, Any, Result]) -> Result:
    """Await something that must come to its end even if the one who waits is cancelled meanwhile."""
    task = asyncio.ensure_future(cleaning)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
    if cancelled is not None:
        raise cancelled
    return task.result()


@dataclass
class Staff:
    """A hospital's people, each connected to their own gateway with their own certificate."""

    hospital: Hospital
    operator: "Client"
    steward: "Client"
    scientist: "Client"
    auditor: "Client"


class Stage:
    """What runs during the demo, and the stack that ends all of it in the reverse order."""

    def __init__(self, stack: AsyncExitStack, work: Path, logs: Path, network: "Network") -> None:
        self._stack, self._work, self._logs, self.network = stack, work, logs, network
        self.gateways: list[GatewayProcess] = []
        self.watchers: list[asyncio.Task[None]] = []

    async def employ(self, hospital: Hospital) -> Staff:
        """Start a hospital's gateway and connect its people; returns when the gateway serves them."""
        handover = await hand_over(self.network, hospital.name)
        gateway = await GatewayProcess.start(hospital.title, handover.gateway, self._logs / f"{hospital.name}.log")
        self._stack.push_async_callback(in_order, gateway.stop)
        watcher = asyncio.create_task(gateway.watch())
        self._stack.callback(watcher.cancel)
        self.watchers.append(watcher)
        people = {}
        for name, role in PEOPLE.items():
            client = connect(handover.profiles[name])
            people[role] = await self._stack.enter_async_context(client)
        await people["operator"].ready(timeout=READY_SECONDS)
        return Staff(hospital, **people)
