"""A consortium of three hospitals with a gateway process each, on a network that is up."""

import asyncio
import csv
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

from fedfabric.chaincode.records import (
    ConsortiumChange,
    DatasetUse,
    DecideJob,
    Job,
    Member,
    MintRequest,
    Output,
    Plan,
    Privacy,
    ServerOptimizer,
    SubmitJob,
)
from fedfabric.fabric.client import Contract, EndorseError, connect, open_channel
from fedfabric.gateway import ApiError, Client, GatewayConfiguration, JobReport, Profile
from fedfabric.gateway import connect as connect_gateway
from fedfabric.network.network import Network
from fedfabric.trainers import build_bundle

ORGANISATIONS = ("cleveland", "hungary", "switzerland")
LINEAR = Path(__file__).parents[2] / "plans" / "linear"
PROCESS = Path(__file__).with_name("gateway_process.py")
ENDED = {"finished", "refused", "cancelled", "aborted"}


class GatewayProcess:
    """A gateway that runs, its log in a file."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    @classmethod
    async def start(cls, program: Path, config: Path, deadlines: Mapping[str, float]) -> "GatewayProcess":
        log = config.with_name("log.jsonl")
        with log.open("a") as file:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(program),
                str(config),
                json.dumps(deadlines),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=file,
                start_new_session=True,
            )
        started = cls(process, log)
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        if not line:
            raise AssertionError(f"the gateway did not start:\n{log.read_text()[-3000:]}")
        return started

    async def kill(self) -> None:
        """As a power cut would."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        await self.process.wait()
        self.process._transport.close()  # the pipe of its standard output

    async def stop(self) -> int:
        if self.process.returncode is None:
            self.process.terminate()
        code = await asyncio.wait_for(self.process.wait(), 30)
        self.process._transport.close()
        return code

    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


class House:
    """The consortium: its gateways, its people's clients, and what tests do with them."""

    def __init__(self, network: Network, chaincode: str, folder: Path, organisations: Iterable[str]) -> None:
        self.network = network
        self.chaincode = chaincode
        self.folder = folder
        self.organisations = tuple(organisations)
        self.gateways: dict[str, GatewayProcess] = {}
        self.deadlines: dict[str, float] = {"stagger": 0.4}
        self.trainer: dict[str, Any] = {"concurrent": 3}
        self._clients: dict[tuple[str, str], Client] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients.values():
            await client.aclose()
        await asyncio.gather(*(gateway.stop() for gateway in self.gateways.values()))
        await self._stack.aclose()

    def msp(self, organisation: str) -> str:
        return self.network.organisations[organisation].msp_id

    # -- gateways

    async def configuration(self, organisation: str, **changes: Any) -> GatewayConfiguration:
        described = self.network.organisations[organisation]
        me = await self.network.enrol(organisation, "gateway", role="gateway", hosts=("127.0.0.1", "localhost"))
        table = {
            "msp_id": described.msp_id,
            "listen": described.gateway_endpoint,
            "endpoint": described.gateway_endpoint,
            "channel": self.network.channel_name,
            "chaincode": self.chaincode,
            "certificate": str(me.certificate_path),
            "key": str(me.key_path),
            "tls_certificate": str(me.tls_certificate_path),
            "tls_key": str(me.tls_key_path),
            "state": str(self.folder / organisation / "state"),
            "peer": {"endpoint": described.peer_endpoint, "tls_ca": str(described.peer_tls_ca)},
            "trainer": self.trainer,
            **changes,
        }
        return GatewayConfiguration.parse(table, folder=self.folder, name="gateway.toml")

    async def start(self, *organisations: str, program: Path = PROCESS, **changes: Any) -> None:
        async def one(organisation: str) -> None:
            configuration = await self.configuration(organisation, **changes)
            path = self.folder / organisation / "gateway.toml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(to_toml(configuration.model_dump(mode="json")))
            self.gateways[organisation] = await GatewayProcess.start(program, path, self.deadlines)

        await asyncio.gather(*(one(organisation) for organisation in organisations or self.organisations))

    async def kill(self, organisation: str) -> None:
        await self.gateways.pop(organisation).kill()

    async def stop(self, organisation: str) -> int:
        return await self.gateways.pop(organisation).stop()

    @asynccontextmanager
    async def replaced(self, program: Path, *organisations: str) -> AsyncIterator[None]:
        """Other programs with these organisations' keys in place of their gateways."""
        for organisation in organisations:
            await self.stop(organisation)
        await self.start(*organisations, program=program)
        try:
            yield
        finally:
            for organisation in organisations:
                await self.stop(organisation)
            await self.start(*organisations)

    @asynccontextmanager
    async def absent(self, *organisations: str) -> AsyncIterator[None]:
        """Without these organisations' gateways."""
        for organisation in organisations:
            await self.stop(organisation)
        try:
            yield
        finally:
            away = [one for one in organisations if one not in self.gateways]
            if away:
                await self.start(*away)

    # -- people

    async def profile(self, organisation: str, role: str) -> Profile:
        described = self.network.organisations[organisation]
        person = await self.network.enrol(organisation, role, role=role)
        return Profile(
            gateway=described.gateway_endpoint,
            msp_id=described.msp_id,
            certificate=person.certificate_path,
            key=person.key_path,
            trust_roots=described.peer_tls_ca,
            channel=self.network.channel_name,
            chaincode=self.chaincode,
        )

    async def client(self, organisation: str, role: str) -> Client:
        if (organisation, role) not in self._clients:
            self._clients[organisation, role] = connect_gateway(await self.profile(organisation, role))
        return self._clients[organisation, role]

    @asynccontextmanager
    async def contract(self, organisation: str, name: str, user: str = "") -> AsyncIterator[Contract]:
        """A contract as a certificate of the organisation calls it at its own peer, without any gateway."""
        described = self.network.organisations[organisation]
        person = (
            await self.network.enrol(organisation, user, role=user)
            if user
            else self.network.administrator(organisation)
        )
        async with open_channel(described.peer_endpoint, described.peer_tls_ca.read_bytes()) as channel:
            gateway = connect(channel, person.identity(), person.signer())
            yield gateway.network(self.network.channel_name).contract(self.chaincode, name)

    async def found(self) -> None:
        """Found the consortium of the network's peer organisations, with their gateways' endpoints."""
        described = self.network.organisations
        members = sorted(
            (
                Member(msp=described[name].msp_id, gateway=described[name].gateway_endpoint)
                for name in self.organisations
            ),
            key=lambda member: member.msp,
        )
        change = ConsortiumChange(sequence=1, members=tuple(members), window_ms=1000)

        async def approve(name: str) -> None:
            async with self.contract(name, "consortium") as contract:
                await contract.submit("approve", change.canonical())

        await asyncio.gather(*(approve(name) for name in self.organisations))
        async with self.contract(self.organisations[0], "consortium") as contract:
            await once_seen(lambda: contract.submit("apply", change.canonical()))

    # -- jobs

    def write_examples(self, folder: Path, seed: int, rows: int = 80) -> Path:
        source = random.Random(seed)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "examples.csv").open("w", newline="") as lines:
            writer = csv.writer(lines)
            writer.writerow(["x0", "x1", "x2", "x3", "y"])
            for _ in range(rows):
                x = [source.gauss(0, 1) for _ in range(4)]
                writer.writerow([*(f"{value:.6f}" for value in x), int(x[0] - x[1] + source.gauss(0, 0.3) > 0)])
        return folder

    async def register(self, organisation: str, name: str, rows: int = 80) -> str:
        """A data set of the organisation's own; its id."""
        seed = sorted(self.network.organisations).index(organisation)
        folder = self.write_examples(self.folder / "data" / organisation / name, seed, rows)
        steward = await self.client(organisation, "steward")
        dataset = await steward.datasets.register(
            name,
            folder,
            title=f"Examples of {organisation}",
            samples=rows * 3 // 4,
            licence="CC0-1.0",
            jurisdiction="CH",
        )
        return dataset.id

    async def grant(self, requester: str, owner: str, dataset: str, request: str) -> None:
        scientist, steward = await self.client(requester, "scientist"), await self.client(owner, "steward")
        version = (await scientist.datasets.show(dataset)).version
        await scientist.access.request(request, dataset=dataset, version=version)
        await self.at_block(owner, (await scientist.describe()).block_number)
        await steward.access.grant(request)

    async def at_block(self, organisation: str, block: int) -> None:
        """Wait until an organisation's gateway shows a block."""
        auditor = await self.client(organisation, "auditor")
        async with asyncio.timeout(30):
            while (await auditor.describe()).block_number < block:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)

    async def data_of(self, name: str, submitter: str, *others: str) -> tuple[DatasetUse, ...]:
        """Data sets and grants of a job: the submitter's own and the others'."""
        uses = [DatasetUse(dataset=await self.register(submitter, name), version=1)]
        for other in others:
            dataset = await self.register(other, name)
            await self.at_block(submitter, (await (await self.client(other, "steward")).describe()).block_number)
            await self.grant(submitter, other, dataset, f"{name}-{other}")
            uses.append(DatasetUse(dataset=dataset, version=1, grant=f"{name}-{other}"))
        return tuple(uses)

    async def submit(
        self, job: str, datasets: tuple[DatasetUse, ...], submitter: str = ORGANISATIONS[0], **changes: Any
    ) -> Job:
        scientist = await self.client(submitter, "scientist")
        plan = await scientist.blobs.upload_plan(build_bundle(LINEAR).to_bytes())
        model = await scientist.models.initialise(plan, seed=7)
        terms = {
            "rounds": 2,
            "clip": "1.0",
            "approval_ms": 600_000,
            "update_ms": 60_000,
            "attest_ms": 60_000,
            "optimizer": ServerOptimizer(name="sgd", parameters={"learning_rate": "1.0"}),
            **changes,
        }
        budget = terms.pop("budget", "0")
        return await scientist.jobs.submit(
            SubmitJob(id=job, plan=Plan(bundle=plan, model=model, **terms), datasets=datasets, budget=budget)
        )

    async def approve(self, job: Job, *organisations: str) -> None:
        for organisation in organisations or self.organisations:
            steward = await self.client(organisation, "steward")
            await self.show(organisation, job.id)
            review = await steward.jobs.review(job.id)
            decide = partial(steward.jobs.approve, job.id, digest=review.digest, privacy=Privacy.CLEAR)
            await once_seen(decide)

    async def approve_directly(self, job: Job, *organisations: str) -> None:
        """As stewards whose own gateway is away would, at their peers."""
        for organisation in organisations:
            async with self.contract(organisation, "training", user="steward") as contract:
                decision = DecideJob(job=job.id, digest=job.digest, privacy=Privacy.CLEAR).canonical()
                await once_seen(partial(contract.submit, "approve", decision))

    async def show(self, organisation: str, job: str) -> JobReport:
        """A job at an organisation's gateway, once it is there."""
        auditor = await self.client(organisation, "auditor")
        async with asyncio.timeout(30):
            while job not in {one.id for one in await auditor.jobs.list()}:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
        return await auditor.jobs.show(job)

    async def watch_until(self, organisation: str, job: str, condition: Any, seconds: float = 120) -> JobReport:
        """The first report of a job of which the condition holds."""
        auditor = await self.client(organisation, "auditor")
        async with asyncio.timeout(seconds):
            async for report in auditor.jobs.watch(job):
                if condition(report):
                    return report
        raise AssertionError(f"{job} ended as {report.job.state} ({report.job.reason})")

    async def ended(self, organisation: str, job: str, seconds: float = 120) -> JobReport:
        return await self.watch_until(organisation, job, lambda report: report.job.state.value in ENDED, seconds)

    async def mint(self, mint: str, owner: str, amount: int) -> None:
        request = _mint(mint, owner, amount)
        for name in self.organisations[:2]:
            async with self.contract(name, "tokens") as contract:
                await contract.submit("approve", request)
        async with self.contract(self.organisations[0], "tokens") as contract:
            await once_seen(lambda: contract.submit("mint", request))


async def once_seen(work: Callable[[], Awaitable[Any]], seconds: float = 20) -> Any:
    """Do what needs others' approvals or their job, as soon as the peers that endorse have them."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await work()
            except (EndorseError, ApiError) as error:
                if not any(code in str(error) for code in ("QUORUM_MISSING", "UNKNOWN_JOB")):
                    raise
            await asyncio.sleep(0.05)


def _mint(mint: str, owner: str, amount: int) -> bytes:
    return MintRequest(id=mint, owner=owner, amount=str(amount)).canonical()


def output(owner: str, amount: int) -> Output:
    return Output(owner=owner, amount=str(amount))


def to_toml(table: Mapping[str, Any]) -> str:
    plain = [f"{name} = {json.dumps(value)}" for name, value in table.items() if not isinstance(value, dict)]
    tables = [
        line
        for name, value in table.items()
        if isinstance(value, dict)
        for line in ("", f"[{name}]", *(f"{key} = {json.dumps(item)}" for key, item in value.items()))
    ]
    return "\n".join([*plain, *tables]) + "\n"
