"""Blobs that nobody will ask for again: the updates of rounds that were aborted before anything of them counted.

What an audit needs stays: an audit computes a round again only when its updates were counted, and models and plans are
named by the job's own record.
"""

import asyncio

import structlog

from ..chaincode.records import JobState, RoundState
from .parts import Parts
from .read_model import Applied

__all__ = ["Collector"]

log = structlog.get_logger(__name__)

_ENDED = frozenset({JobState.ABORTED, JobState.CANCELLED})


class Collector:
    """Removes such blobs from the own store, job by job, as the jobs end; and at a start, what was missed."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._waiting: asyncio.Queue[str] = asyncio.Queue()
        for job in parts.model.ended_jobs():
            self._waiting.put_nowait(job.id)
        parts.follower.listen(self._on_block)

    def _on_block(self, applied: Applied) -> None:
        for job in applied.jobs:
            self._waiting.put_nowait(job)

    async def run(self) -> None:
        """Collect until cancelled."""
        while True:
            await self._collect(await self._waiting.get())

    async def _collect(self, job_id: str) -> None:
        model = self._parts.model
        job = model.job(job_id)
        if job is None or job.state not in _ENDED:
            return
        for current in model.rounds(job.id):
            if current.state is not RoundState.ABORTED or current.counted:
                continue
            for row in model.updates(job.id, current.number):
                # Addressed by content: another job may hold the same bytes.
                if model.jobs_with_blob(row.blob.address) == [job.id] and await self._parts.store.has(row.blob.address):
                    await self._parts.store.delete(row.blob.address)
                    log.info("blob.collected", job=job.id, round=current.number, member=row.msp)
