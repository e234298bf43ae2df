"""The demo from beginning to end: what is started, in which order, and that all of it is ended."""

import asyncio
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..exit_codes import ExitCode
from ..failures import Failure
from ..gateway import serving
from ..running import to_its_end
from .children import GatewayProcess
from .curve import draw
from .display import Display, Round
from .figures import Figures, Scores
from .hospitals import CLEVELAND, FOUNDERS, HOSPITALS, HUNGARY, VA_LONG_BEACH, Hospital, find_data, hand_out
from .people import BUDGET, CLIP, JOB, ROLES, Staff, approve, invite, mint, share, submit
from .referee import Referee
from .summary import Summary, write

if TYPE_CHECKING:
    from ...audit import Report, RoundFigures
    from ...chaincode.records import Attestation, Update
    from ...gateway import Client, RoundReport
    from ...network import Network

Result = TypeVar("Result")

PLAN = Path(__file__).resolve().parents[2] / "examples" / "heart_disease"
TITLES = {hospital.msp_id: hospital.title for hospital in HOSPITALS}
NEEDED = ("torch", "landlock", "pyseccomp", "matplotlib")
SERVING_SECONDS = 90.0
ONBOARDING_AFTER = 1
"""The fourth hospital's onboarding begins after this round; it takes several, and so ends about half way."""
NETWORK = {
    "name": "hospitals",
    "organisations": [
        *({"name": one.name, "msp_id": one.msp_id, "orderers": 1} for one in FOUNDERS),
        {"name": "ordering", "peers": 0, "orderers": 1},
    ],
}


async def side_by_side(works: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Do several things at once; the first that fails cancels the others."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
    return [task.result() for task in tasks]


class Stage:
    """The network and the gateways that run on it; ``stack`` ends them in reverse order."""

    def __init__(self, stack: AsyncExitStack, group: asyncio.TaskGroup, network: "Network", logs: Path) -> None:
        self._stack, self._group, self.network, self._logs = stack, group, network, logs
        self._gateways: list[GatewayProcess] = []
        stack.push_async_callback(to_its_end, self._stop_gateways)

    async def _stop_gateways(self) -> None:
        await asyncio.gather(*(gateway.stop() for gateway in self._gateways))

    async def employ(self, hospital: Hospital) -> Staff:
        """Start a hospital's gateway and connect its people; returns when the gateway serves them."""
        from ...gateway import connect
        from ..handover import hand_over, write_profile

        handover = await hand_over(self.network, hospital.name)
        gateway = await GatewayProcess.start(hospital.title, handover.gateway, self._logs / f"{hospital.name}.log")
        self._gateways.append(gateway)
        watch = self._group.create_task(gateway.watch())
        self._stack.callback(watch.cancel)
        people = {}
        for role, name in ROLES.items():
            profile = await write_profile(self.network, hospital.name, name, role)
            people[role] = await self._stack.enter_async_context(connect(profile))
        await serving(people["operator"], SERVING_SECONDS)
        return Staff(hospital, **people)


@dataclass
class Story:
    """One run. ``play`` goes from nothing to the summary; what it has started is gone when it returns or raises."""

    display: Display
    runtime: str
    folder: Path
    """Where the results go; made anew."""
    rounds: int
    started: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)
    seen: dict[int, Round] = field(default_factory=dict)
    genesis: str = ""
    plan_digest: str = ""

    async def play(self) -> Summary:
        """Run the demo.

        Raises:
            Failure, NetworkError, ApiError, ModuleNotFoundError: what went wrong; logs lie in ``folder/logs``.
        """
        for needed in NEEDED:
            if importlib.util.find_spec(needed) is None:
                raise ModuleNotFoundError(f"No module named {needed!r}", name=needed)
        data = find_data()
        (self.folder / "logs").mkdir(parents=True)
        work = Path(tempfile.mkdtemp(prefix="fedfabric-demo-"))
        async with AsyncExitStack() as stack:
            stack.push_async_callback(to_its_end, lambda: asyncio.to_thread(shutil.rmtree, work))
            patients = hand_out(data, work / "patients")
            folders = {hospital.title: folder for hospital, folder in patients.items()}
            log = self.folder / "logs" / "referee.log"
            referee = await Referee.start(PLAN, folders, self.rounds, scratch=work, log=log)
            stack.push_async_callback(to_its_end, referee.stop)
            baselines = asyncio.create_task(referee.ask(ask="baselines"))
            stack.callback(baselines.cancel)
            await self._on_network(work, patients, referee)
            with self._step("audit", "Audit, offline: from the genesis block to the final model"):
                report = await asyncio.to_thread(self._verify)
            with self._step("compare", "Each hospital alone, all data in one place, four more seeds"):
                others = await referee.ask(
                    ask="repeat", late=VA_LONG_BEACH.title, joined=self.joined or self.rounds + 1, clip=CLIP
                )
                comparison = self._compare(await baselines, others)
            return await asyncio.to_thread(self._sum_up, report, comparison)

    @contextmanager
    def _step(self, name: str, text: str) -> Iterator[None]:
        """A step of the display, whose seconds are kept under its name."""
        began = time.monotonic()
        with self.display.step(text):
            yield
        self.seconds[name] = round(time.monotonic() - began, 3)

    async def _on_network(self, work: Path, patients: Mapping[Hospital, Path], referee: Referee) -> None:
        """Everything that needs the network, which is gone when this returns."""
        from ...network import Network, NetworkSpec
        from ...trainers import build_bundle
        from ..genesis import genesis_hash
        from ..membership import found

        network = Network(NetworkSpec.model_validate(NETWORK), home=work / "network", runtime=self.runtime)
        async with asyncio.TaskGroup() as group, AsyncExitStack() as running:
            running.push_async_callback(to_its_end, lambda: network.down(wipe=True))
            with self._step("network", "Fabric network: three hospitals, four BFT orderers; consortium founded"):
                await network.up(keep=False)
                await found(network)
            self.genesis = genesis_hash(network.genesis_block_path)
            stage = Stage(running, group, network, self.folder / "logs")
            with self._step("gateways", "Gateways of the three hospitals"):
                staff = dict(zip(FOUNDERS, await side_by_side(map(stage.employ, FOUNDERS)), strict=True))
            cleveland = staff[CLEVELAND]
            with self._step("data", f"Patients registered, access granted, {BUDGET} tokens minted by a quorum"):
                sharing = [share(one, patients[hospital], cleveland) for hospital, one in staff.items()]
                await side_by_side([*sharing, mint(list(staff.values()), CLEVELAND.msp_id)])
            with self._step("job", "Job submitted; its code reviewed and approved by each owner"):
                bundle = build_bundle(PLAN)
                self.plan_digest = bundle.digest
                await submit(cleveland, staff.values(), bundle.to_bytes(), self.rounds)
                await side_by_side(map(approve, staff.values()))
            await self._train(stage, staff, patients, referee)
            with self._step("export", "Evidence exported by an auditor of Hungary"):
                await staff[HUNGARY].auditor.audit.export(JOB, self.folder / "audit")
                await cleveland.scientist.models.fetch(JOB, self.folder / "model.safetensors")
            ending = time.monotonic()
        self.seconds["down"] = round(time.monotonic() - ending, 3)
        self.display.note(f"{'Everything taken down':<76} {self.seconds['down']:5.1f} s")

    async def _train(
        self, stage: Stage, staff: dict[Hospital, Staff], patients: Mapping[Hospital, Path], referee: Referee
    ) -> None:
        """Follow the job until it ends; meanwhile take in the fourth hospital."""
        began = time.monotonic()
        client = staff[CLEVELAND].scientist
        async with asyncio.TaskGroup() as group:
            onboarding: asyncio.Task[None] | None = None
            async for report in client.jobs.watch(JOB):
                for one in report.rounds:
                    known = self.seen.get(one.round.number)
                    if known is not None and known.final:
                        continue
                    self._see(one)
                    if self.seen[one.round.number].final:
                        group.create_task(self._score(one.round.number, client, referee))
                if onboarding is None and report.job.rounds_final >= ONBOARDING_AFTER:
                    onboarding = group.create_task(self._take_in(stage, staff, patients))
        if report.job.state.value != "finished":
            raise Failure(
                ExitCode.JOB_ENDED_OTHERWISE,
                f"JOB_{report.job.state.value.upper()}",
                f"the job was {report.job.state.value}: {report.job.reason}",
                where=str(self.folder / "logs"),
                remedy="see the gateways' logs there",
            )
        self.seconds["rounds"] = round(time.monotonic() - began, 3)

    async def _take_in(self, stage: Stage, staff: dict[Hospital, Staff], patients: Mapping[Hospital, Path]) -> None:
        """Onboard VA Long Beach on the running channel and have it join the job's next round."""
        from ...gateway import ApiError
        from ...network import OrganisationSpec
        from ..membership import admit

        with self._step(
            "onboarding, during the rounds", "VA Long Beach joins: channel, consortium, gateway, data, approval"
        ):
            spec = OrganisationSpec(name=VA_LONG_BEACH.name, msp_id=VA_LONG_BEACH.msp_id)
            await stage.network.add_organisation(spec)
            async with asyncio.TaskGroup() as group:
                group.create_task(admit(stage.network, VA_LONG_BEACH.name))
                employing = group.create_task(stage.employ(VA_LONG_BEACH))
            newcomer = employing.result()
            staff[VA_LONG_BEACH] = newcomer
            await share(newcomer, patients[VA_LONG_BEACH], staff[CLEVELAND])
            try:
                await invite(newcomer, staff[CLEVELAND])
            except ApiError as error:
                if error.code != "WRONG_STATE":
                    raise
                self.display.note("VA Long Beach came too late: the job's last round had begun (try more --rounds)")

    def _see(self, one: "RoundReport") -> None:
        """Take a round's report into what is shown."""
        record = one.round
        number = record.number
        before = self.seen.get(number)
        digest = record.outcome.digest if record.outcome else next((row.outcome.digest for row in one.attestations), "")
        agreeing = [row for row in one.attestations if row.outcome.digest == digest and row.accept]
        state = Round(
            number=number,
            hospitals=tuple(TITLES[member.msp] for member in record.cohort),
            own={TITLES[row.msp]: scores_of(row.metrics) for row in one.attestations},
            pooled=before.pooled if before else {},
            digest=digest,
            attested=len(agreeing),
            final=record.state.value == "final",
        )
        self.seen[number] = with_seconds(state, one)
        self.display.round(self.seen[number])

    async def _score(self, number: int, client: "Client", referee: Referee) -> None:
        """Score a final round's model on everybody's hold-out."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            await client.models.fetch(JOB, path, round_number=number)
            scores = await referee.ask(ask="score", model=str(path))
        self.seen[number] = replace(self.seen[number], pooled=scores)
        self.display.round(self.seen[number])

    @property
    def joined(self) -> int | None:
        """The first round of the hospital that was onboarded half way."""
        return next((one.number for one in self.finals if VA_LONG_BEACH.title in one.hospitals), None)

    @property
    def finals(self) -> list[Round]:
        """The final rounds in order."""
        return [state for _, state in sorted(self.seen.items()) if state.final]

    def _verify(self) -> "Report":
        from ...audit import verify_job

        report = verify_job(self.folder / "audit", None, self.genesis, JOB)
        if not report.verified:
            raise Failure(
                ExitCode.AUDIT_FAILED,
                "AUDIT_FAILED",
                report.verdict,
                where=str(self.folder / "audit"),
                remedy=f"see {audit_command(self.folder, self.genesis)}",
            )
        return report

    def _compare(self, baselines: Mapping[str, list[Scores]], others: list[Scores]) -> dict[str, dict[str, Figures]]:
        """Everybody's figures over the five seeds; the federated one's first is this run's."""
        runs = {"federated": [self.finals[-1].pooled, *others], **baselines}
        return {
            name: {metric: Figures.of(scores[metric] for scores in run) for metric in run[0]}
            for name, run in runs.items()
        }

    def _sum_up(self, report: "Report", comparison: Mapping[str, Mapping[str, Figures]]) -> Summary:
        """Draw the curve and write the summary. What stands on the ledger is taken from the audit, not from memory."""
        from ... import __version__
        from ...network.programs import FABRIC_VERSION

        paid: dict[str, int] = {}
        samples = {}
        for one in report.rounds:
            for member in one.members:
                samples[TITLES[member.msp]] = member.registered_samples
                paid[TITLES[member.msp]] = paid.get(TITLES[member.msp], 0) + int(member.paid)
        rounds = tuple(as_audited(self.seen[one.number], one) for one in report.rounds if one.state == "final")
        draw(self.folder / "curve.png", rounds, comparison, self.joined)
        self.seconds["whole"] = round(time.monotonic() - self.started, 3)
        summary = Summary(
            version=__version__,
            fabric=FABRIC_VERSION,
            runtime=self.runtime,
            machine=f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            job=JOB,
            state=report.job_state,
            plan_digest=self.plan_digest,
            model_digest=report.model or "",
            genesis_hash=self.genesis,
            samples=samples,
            payments={title: str(amount) for title, amount in paid.items()},
            returned=str(int(report.budget) - int(report.paid)),
            rounds=rounds,
            joined=self.joined,
            comparison=comparison,
            audit_verdict=report.verdict,
            audit_checks=sum(check.made for check in report.checks),
            audit_command=audit_command(self.folder, self.genesis),
            seconds=self.seconds,
        )
        write(self.folder, summary)
        return summary


def audit_command(folder: Path, genesis: str) -> str:
    """How to verify the evidence again."""
    return f"{program()} audit verify {folder / 'audit'} {JOB} --genesis {genesis}"


def program() -> str:
    """How this program is called here: by its name where a shell finds it, else by its path."""
    if shutil.which("fedfabric"):
        return "fedfabric"
    path = Path(sys.executable).with_name("fedfabric")
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def scores_of(metrics: Mapping[str, int]) -> Scores:
    """Figures of the ledger (units of 1e-6) without the seconds that stand beside them."""
    return {name: value / 1e6 for name, value in metrics.items() if not name.startswith("time.")}


def with_seconds(state: Round, report: "RoundReport") -> Round:
    """A round with its slowest member's seconds: training and checking, moving and summing; the rest is the ledger."""
    training: dict[str, float] = {}
    moving: dict[str, float] = {}
    rows: list[Update | Attestation] = [*report.updates, *report.attestations]
    for row in rows:
        for name, value in row.metrics.items():
            if name in {"time.training", "time.evaluation"}:
                training[row.msp] = training.get(row.msp, 0.0) + value / 1e6
            elif name in {"time.transfer", "time.aggregation"}:
                moving[row.msp] = moving.get(row.msp, 0.0) + value / 1e6
    whole = (report.ended_ms - report.opened_ms) / 1000 if report.ended_ms else 0.0
    slowest, furthest = max(training.values(), default=0.0), max(moving.values(), default=0.0)
    return replace(state, training_s=slowest, moving_s=furthest, ledger_s=max(0.0, whole - slowest - furthest))


def as_audited(state: Round, audited: "RoundFigures") -> Round:
    """A round whose claims are the ones that the audit read from the ledger."""
    return replace(
        state,
        own={TITLES[member.msp]: scores_of(member.evaluation) for member in audited.members if member.attested},
        digest=audited.outcome or "",
        attested=sum(1 for member in audited.members if member.attested == audited.outcome and member.accepted),
    )
