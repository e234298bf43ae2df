"""A consortium on a network that stands, and jobs timed on it: submitted, approved, waited for, fetched."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from fedfabric.aggregation import TensorFile, to_arrays
from fedfabric.chaincode.records import DatasetUse, Plan, ServerOptimizer, SubmitJob
from fedfabric.gateway import JobReport
from fedfabric.tests.network.gateway.house import House
from fedfabric.trainers import PlanBundle

__all__ = ["MILLION", "PARTS", "JobError", "Run", "Standing"]

SECONDS = 900
MILLION = 1_000_000
PARTS = ("training", "transfer", "aggregation", "evaluation")


class JobError(Exception):
    """A job did not finish, or did other work than it should have done."""


@dataclass(frozen=True)
class Run:
    """A job that ran.

    Attributes:
        whole: seconds from its submission to the fetched model.
        rounds: seconds of each round, by the ledger's time.
        parts: seconds of each round's slowest training, transfer, aggregation and evaluation, as members report them.
        report: the job as its submitter's gateway shows it.
        model: the final model's arrays.
    """

    whole: float
    rounds: tuple[float, ...]
    parts: Mapping[str, tuple[float, ...]]
    report: JobReport
    model: dict[str, np.ndarray]


class Standing(House):
    """The consortium; its first organisation submits."""

    async def run(
        self, job: str, bundle: PlanBundle, datasets: Sequence[DatasetUse], *, rounds: int, clip: str, seed: int
    ) -> Run:
        """Submit, approve, wait for and fetch a job, plan and initial model uploaded.

        Raises:
            JobError: it did not finish.
        """
        submitter = self.organisations[0]
        scientist = await self.client(submitter, "scientist")
        began = time.perf_counter()
        plan = await scientist.blobs.upload_plan(bundle.to_bytes())
        model = await scientist.models.initialise(plan, seed=seed)
        terms = Plan(
            bundle=plan,
            model=model,
            rounds=rounds,
            clip=clip,
            approval_ms=600_000,
            update_ms=600_000,
            attest_ms=600_000,
            optimizer=ServerOptimizer(name="sgd", parameters={"learning_rate": "1.0"}),
        )
        submitted = await scientist.jobs.submit(SubmitJob(id=job, plan=terms, datasets=tuple(datasets), budget="0"))
        await asyncio.gather(*(self.approve(submitted, organisation) for organisation in self.organisations))
        report = await self.ended(submitter, job, SECONDS)
        if report.job.state.value != "finished":
            raise JobError(f"{job} ended as {report.job.state.value}: {report.job.reason}")
        fetched = self.folder / f"{job}.safetensors"
        await scientist.models.fetch(job, fetched)
        whole = time.perf_counter() - began
        with TensorFile(fetched) as tensors:
            arrays = to_arrays(tensors)
        return Run(whole, *_rounds(report), report, arrays)


def _rounds(report: JobReport) -> tuple[tuple[float, ...], Mapping[str, tuple[float, ...]]]:
    seconds = tuple((one.ended_ms - one.opened_ms) / 1000 for one in report.rounds)
    parts: dict[str, list[float]] = {part: [] for part in PARTS}
    for one in report.rounds:
        rows = [*one.updates, *one.attestations]
        for part, found in parts.items():
            found.append(max((row.metrics.get(f"time.{part}", 0) for row in rows), default=0) / MILLION)
    return seconds, {part: tuple(found) for part, found in parts.items()}
