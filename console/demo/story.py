"""The demo from beginning to end: what is started, in which order, and that all of it is ended."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .children import GatewayProcess
from .display import Display, Round
from .hospitals import FOUNDERS, Hospital, find_data, hand_out
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


async def to_its_end(cleaning: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Do something that must come to its end even if the one who waits for it is cancelled meanwhile."""
    task = asyncio.ensure_future(cleaning())
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


@dataclass(frozen=True)
class Staff:
    """A hospital's people, each connected to their own gateway with their own certificate."""

    hospital: Hospital
    operator: "Client"
    steward: "Client"
    scientist: "Client"
    auditor: "Client"


class Stage:
    """The network and the gateways, and the stack that ends all of it in reverse order."""

    def __init__(self, stack: AsyncExitStack, network: "Network", logs: Path, group: asyncio.TaskGroup) -> None:
        self._stack, self.network, self._logs, self._group = stack, network, logs, group

    async def employ(self, hospital: Hospital) -> Staff:
        """Start a hospital's gateway and connect its people; returns when the gateway serves them."""
        from ...gateway import connect
        from ..handover import hand_over, write_profile

        handover = await hand_over(self.network, hospital.name)
        gateway = await GatewayProcess.start(hospital.title, handover.gateway, self._logs / f"{hospital.name}.log")
        self._stack.push_async_callback(to_its_end, gateway.stop)
        watch = self._group.create_task(gateway.watch())
        self._stack.callback(watch.cancel)
        people = {}
        for name, role in PEOPLE.items():
            profile = await write_profile(self.network, hospital.name, name, role)
            people[role] = await self._stack.enter_async_context(connect(profile))
        await people["operator"].ready()
        return Staff(hospital, **people)


@dataclass
class Story:
    """One run. ``play`` goes from nothing to the summary; what it has started is gone when it returns or raises."""

    display: Display
    runtime: str
    folder: Path
    rounds: int
    clock: Clock = field(default_factory=Clock)
    seen: dict[int, Round] = field(default_factory=dict)

    async def play(self) -> Summary:
        """Run the demo.

        Raises:
            Failure, NetworkError, ApiError: what went wrong; logs lie in ``folder/logs``.
        """
        self.folder.mkdir(parents=True)
        work = Path(tempfile.mkdtemp(prefix="fedfabric-demo-"))
        async with AsyncExitStack() as stack:
            stack.push_async_callback(to_its_end, lambda: asyncio.to_thread(shutil.rmtree, work))
            patients = hand_out(find_data(), work / "patients")
            folders = {hospital.title: folder for hospital, folder in patients.items()}
            referee = await Referee.start(PLAN, folders, self.rounds)
            stack.push_async_callback(to_its_end, referee.stop)
            baselines = asyncio.create_task(referee.ask(ask="baselines"))
            stack.callback(baselines.cancel)
            await self._on_network(work, patients, referee)
            report = await self._audit()
            return await self._sum_up(referee, baselines, report)

    async def _on_network(self, work: Path, patients: Mapping[Hospital, Path], referee: Referee) -> None:
        """Everything that needs the network, which is gone when this returns."""
        from ...network import Network, NetworkSpec
        from ..membership import found

        async with AsyncExitStack() as running, asyncio.TaskGroup() as group:
            network = Network(NetworkSpec.model_validate(NETWORK), home=work / "network", runtime=self.runtime)
            with self.clock.measure(self.display, "network", TEXTS["network"]):
                running.push_async_callback(to_its_end, lambda: network.down(wipe=True))
                await network.up(keep=False)
                await found(network)
