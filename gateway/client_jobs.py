"""The client's calls about training jobs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, Final

from ..aggregation import tagged_hash
from ..chaincode import records
from ..chaincode.records import Decision, Job, Privacy, SubmitJob
from .client_calls import Call, Stream
from .client_part import Part, make_request
from .client_reports import JobReport, JobReview, RoundReport, read_job_report
from .client_session import Session
from .errors import ApiError, CorruptError
from .v1 import jobs_pb2, jobs_pb2_grpc
from .wire import to_record

__all__ = ["JobCalls"]


class JobCalls(Part):
    """Training jobs."""

    def submit(self, request: SubmitJob) -> Call[Job]:
        """Submit a job whose plan and initial model were uploaded; its budget goes into escrow."""
        stub = jobs_pb2_grpc.JobsStub
        return self.write(stub, "Submit", "training:submit", lambda: request, Job, ("inputs", "payer"))

    def approve(self, job: str, *, digest: str, privacy: Privacy, reason: str = "") -> Call[Decision]:
        """Approve a job by the digest that was reviewed."""
        return self.write(
            jobs_pb2_grpc.JobsStub, "Approve", "training:approve", _decide(job, digest, privacy, reason), Decision
        )

    def refuse(self, job: str, *, digest: str, privacy: Privacy, reason: str = "") -> Call[Decision]:
        """Refuse a job by the digest that was reviewed."""
        return self.write(
            jobs_pb2_grpc.JobsStub, "Refuse", "training:refuse", _decide(job, digest, privacy, reason), Decision
        )

    def add(self, job: str, dataset: str, *, version: int, grant: str | None = None) -> Call[Job]:
        """Ask one more owner, who takes part from the next round opened after its approval."""
        return self.write(
            jobs_pb2_grpc.JobsStub,
            "Add",
            "training:add",
            lambda: make_request(
                records.AddOwner, job=job, dataset={"dataset": dataset, "version": version, "grant": grant}
            ),
            Job,
        )

    def cancel(self, job: str) -> Call[Job]:
        """End an own job: at once before anybody has delivered, else with its present round."""
        return self.write(
            jobs_pb2_grpc.JobsStub,
            "Cancel",
            "training:cancel",
            lambda: make_request(records.JobRef, job=job),
            Job,
        )

    def show(self, job: str) -> Call[JobReport]:
        """A job with its decisions and rounds: the latest, 500 at most, and as many as one message takes."""

        async def work(session: Session) -> JobReport:
            stub: Any = jobs_pb2_grpc.JobsStub(session.channel)  # type: ignore[no-untyped-call]
            return read_job_report(await session.call(stub.Show, jobs_pb2.ShowJobRequest(id=job)))

        return self.call(work)

    def list(self, *, state: str = "") -> Call[list[Job]]:
        """All jobs, those in one state if so wished."""

        async def work(session: Session) -> list[Job]:
            stub: Any = jobs_pb2_grpc.JobsStub(session.channel)  # type: ignore[no-untyped-call]
            found: list[Job] = []
            after = ""
            while True:
                page = await session.call(stub.List, jobs_pb2.ListJobsRequest(state=state, after=after))
                found += [to_record(one, Job) for one in page.jobs]
                if not (after := page.next):
                    return found

        return self.call(work)

    def review(self, job: str) -> Call[JobReview]:
        """What an approval would be of: terms and plan, both checked here against the digest on the ledger.

        Raises:
            CorruptError: terms or plan do not have the digests that the ledger names.
        """

        async def work(session: Session) -> JobReview:
            stub: Any = jobs_pb2_grpc.JobsStub(session.channel)  # type: ignore[no-untyped-call]
            answer = await session.call(stub.Review, jobs_pb2.ShowJobRequest(id=job))
            report = read_job_report(answer.report)
            terms = report.job.terms
            if terms.digest != report.job.digest:
                raise CorruptError(f"the terms of {job} do not have the digest that the ledger names")
            bundle = await self.client.blobs.read(terms.plan.bundle)
            if tagged_hash("plan", bundle) != terms.plan.bundle.digest:
                raise CorruptError(f"the plan of {job} does not have the digest that its terms name")
            return JobReview(report, terms.digest, bundle)

        return self.call(work)

    def watch(self, job: str) -> Stream[JobReport]:
        """The job now and at each of its changes, until it has ended.

        It goes on by itself when the gateway was away, for as long as one call may take.

        Raises:
            ApiError: there is no such job, or the gateway stays away.
        """

        async def work() -> AsyncIterator[JobReport]:
            session = self.client.session()
            clock = asyncio.get_running_loop().time
            rounds: dict[int, RoundReport] = {}
            told, heard = -1, clock()
            while True:
                try:
                    async for report in _reports(session, job, max(rounds, default=0)):
                        heard = clock()
                        # What follows the first report has the rounds that may have changed, and no others.
                        rounds |= {one.round.number: one for one in report.rounds}
                        if report.block_number > told:
                            told = report.block_number
                            yield replace(report, rounds=tuple(rounds[number] for number in sorted(rounds)))
                except ApiError as error:
                    if error.code not in _PASSING or clock() - heard > session.timeout:
                        raise
                else:
                    return
                await asyncio.sleep(_PAUSE)

        return Stream(work, self.client.portal)


_PASSING: Final = frozenset({"GATEWAY_UNAVAILABLE", "GATEWAY_STOPPING"})
_PAUSE: Final = 0.2


async def _reports(session: Session, job: str, first_round: int) -> AsyncIterator[JobReport]:
    stub: Any = jobs_pb2_grpc.JobsStub(session.channel)  # type: ignore[no-untyped-call]
    async for message in session.stream(stub.Watch, jobs_pb2.ShowJobRequest(id=job, first_round=first_round)):
        yield read_job_report(message)


def _decide(job: str, digest: str, privacy: Privacy, reason: str) -> Callable[[], records.DecideJob]:
    return lambda: make_request(records.DecideJob, job=job, digest=digest, privacy=privacy, reason=reason)
