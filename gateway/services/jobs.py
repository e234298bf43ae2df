"""The service Jobs: submitting, deciding, watching."""

from collections.abc import AsyncIterator
from typing import Any

from ...aggregation import tagged_hash
from ...chaincode import records
from ...chaincode.records import Job, refusals
from ..errors import CorruptError, ExhaustedError
from ..parts import Parts
from ..read_model import metrics_of
from ..v1 import jobs_pb2, jobs_pb2_grpc, records_pb2, transactions_pb2
from ..wire import to_message, to_record
from .blobs import holders
from .paging import fitting, limit_of, page
from .preparing import prepare

NAMES = ("fedfabric.gateway.v1.Jobs",)


def report(parts: Parts, job: Job, first_round: int = 0) -> jobs_pb2.JobReport:
    """A job as the read model has it, with this gateway's own times, and its rounds from one on.

    Of the rounds the latest: `page_rows` at most, and as many as one message takes.
    """
    answer = jobs_pb2.JobReport(
        job=to_message(job, records_pb2.Job),
        decisions=[to_message(row, records_pb2.Decision) for row in parts.model.decisions(job.id)],
        block_number=parts.model.position - 1,
    )
    found = parts.model.rounds(job.id, max(first_round, job.round - parts.limits.page_rows + 1))
    rounds = fitting((_round_report(parts, one) for one in reversed(found)), parts.limits, answer.ByteSize())
    answer.rounds.extend(reversed(rounds))
    return answer


def _round_report(parts: Parts, record: records.Round) -> jobs_pb2.RoundReport:
    attestations = parts.model.attestations(record.job, record.number, record.attempt)
    times = parts.model.round_times(record.job, record.number)
    own = parts.journal.times(record.job, record.number)
    return jobs_pb2.RoundReport(
        round=to_message(record, records_pb2.Round),
        updates=[to_message(row, records_pb2.Update) for row in parts.model.updates(record.job, record.number)],
        attestations=[to_message(row, records_pb2.Attestation) for row in attestations],
        metrics=metrics_of(attestations),
        timing=jobs_pb2.RoundTiming(
            training_us=own.get("training", 0),
            ledger_us=own.get("ledger", 0),
            transfer_us=own.get("transfer", 0),
            aggregation_us=own.get("aggregation", 0),
            evaluation_us=own.get("evaluation", 0),
        ),
        opened_ms=times.opened_ms,
        closed_ms=times.closed_ms,
        ended_ms=times.ended_ms,
        own_failure=next(iter(parts.journal.failures(record.job, record.number, record.attempt).values()), ""),
    )


class Jobs(jobs_pb2_grpc.JobsServicer):
    """Submit, approve, refuse, add, cancel, show, list, review, watch."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def Submit(self, request: records_pb2.SubmitJob, _: Any) -> transactions_pb2.PreparedProposal:  # noqa: N802
        """Prepare a job; its budget is paid from rows picked here unless the caller names some."""
        record = to_record(request, records.SubmitJob)
        for field, blob in (("plan.bundle", record.plan.bundle), ("plan.model", record.plan.model)):
            if not await self._parts.store.has(blob.address):
                raise refusals.InvalidField(field, "these bytes are not in this gateway's store; upload them first")
        budget = int(record.budget)
        if budget and not record.inputs:
            payer = record.payer or self._parts.me
            inputs, _total = self._parts.purse.pick(self._parts.model.tokens(payer), payer, budget)
            record = record.model_copy(update={"inputs": inputs, "payer": payer})
        return prepare(self._parts, "training:submit", record)

    async def Approve(self, request: records_pb2.DecideJob, _: Any) -> transactions_pb2.PreparedProposal:  # noqa: N802
        """Prepare an approval."""
        return prepare(self._parts, "training:approve", to_record(request, records.DecideJob))

    async def Refuse(self, request: records_pb2.DecideJob, _: Any) -> transactions_pb2.PreparedProposal:  # noqa: N802
        """Prepare a refusal."""
        return prepare(self._parts, "training:refuse", to_record(request, records.DecideJob))

    async def Add(self, request: records_pb2.AddOwner, _: Any) -> transactions_pb2.PreparedProposal:  # noqa: N802
        """Prepare the question to one more owner."""
        return prepare(self._parts, "training:add", to_record(request, records.AddOwner))

    async def Cancel(self, request: records_pb2.JobRef, _: Any) -> transactions_pb2.PreparedProposal:  # noqa: N802
        """Prepare a cancellation."""
        return prepare(self._parts, "training:cancel", to_record(request, records.JobRef))

    def _job(self, job: str) -> Job:
        found = self._parts.model.job(job)
        if found is None:
            raise refusals.UnknownJob("id", f"no job {records.printable(job)} is on the ledger")
        return found

    async def Show(self, request: jobs_pb2.ShowJobRequest, _: Any) -> jobs_pb2.JobReport:  # noqa: N802
        """A job with its rounds."""
        return report(self._parts, self._job(request.id), request.first_round)

    async def List(self, request: jobs_pb2.ListJobsRequest, _: Any) -> jobs_pb2.ListJobsResponse:  # noqa: N802
        """A page of jobs."""
        limit = limit_of(request.limit, self._parts.limits)
        found, after = self._parts.model.jobs(request.state, request.after, limit)
        rows, after = page(found, after, records_pb2.Job, self._parts.limits)
        return jobs_pb2.ListJobsResponse(jobs=rows, next=after)

    async def Review(self, request: jobs_pb2.ShowJobRequest, _: Any) -> jobs_pb2.JobReview:  # noqa: N802
        """A job with its plan fetched and checked."""
        job = self._job(request.id)
        bundle = job.terms.plan.bundle
        if job.terms.digest != job.digest:
            raise CorruptError(f"the terms of {job.id} on the ledger do not have the job's digest")
        await self._parts.exchange.ensure(bundle, holders(job, self._parts.me))
        async with await self._parts.store.open(bundle.address, self._parts.secrets.storage_key) as reader:
            content = await reader.read(self._parts.limits.plan_bytes)
        if tagged_hash("plan", content) != bundle.digest:
            raise CorruptError(f"the plan of {job.id} is not the one whose digest the job names")
        return jobs_pb2.JobReview(report=report(self._parts, job), digest=job.digest)

    async def Watch(self, request: jobs_pb2.ShowJobRequest, _: Any) -> AsyncIterator[jobs_pb2.JobReport]:  # noqa: N802
        """A job now and at each of its changes, until it has ended."""
        self._job(request.id)
        if self._parts.watchers >= self._parts.limits.watchers:
            raise ExhaustedError(f"{self._parts.limits.watchers} streams are open; close one, or use Show")
        self._parts.watchers += 1
        try:
            told, first = -1, request.first_round
            async for _block in self._parts.follower.changes():
                last = self._parts.model.last_block_of(request.id)
                if last == told:
                    continue
                told = last
                job = self._job(request.id)
                yield report(self._parts, job, first)
                # A round that was open may have changed since, and nothing before it.
                first = max(first, job.round)
                if job.state.ended:
                    return
        finally:
            self._parts.watchers -= 1


def add(server: Any, parts: Parts) -> None:
    """Add the service to a server."""
    jobs_pb2_grpc.add_JobsServicer_to_server(Jobs(parts), server)  # type: ignore[no-untyped-call]
