"""A member's own part of a round: train on its data, sum the cohort's updates, evaluate what came out.

Each step ends with its result stored; what was stored is never computed again, so that a gateway that was killed says
after its restart what it said before.
"""

import asyncio
import contextlib
import io
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from ..aggregation import (
    AggregationError,
    RingEncoding,
    Rounding,
    TensorFile,
    Tensors,
    Update,
    aggregate,
    decimal,
    encode_update,
    largest_update_bytes,
    server_optimizer,
)
from ..aggregation import tagged_hash as aggregation_hash
from ..chaincode.records import Blob, CohortMember, CommitUpdate, Job, Outcome, Round
from ..chaincode.records import Update as UpdateRow
from .archives import ArchiveError, unpack
from .blobs import BlobBrokenError, BlobReader, BlobStore
from .consent import Consent
from .errors import CorruptError
from .journal import StoredAttestation
from .parts import Parts
from .zygote import TrainerError

__all__ = ["MemberFailedError", "Workshop", "accepts", "integer_metrics", "largest_update"]

log = structlog.get_logger(__name__)

_METRIC: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_MOST_METRICS: Final = 24
_LARGEST_METRIC: Final = 2**53 - 1
_MILLION: Final = 1_000_000


class MemberFailedError(Exception):
    """This member's part can't be done, and trying again would not help; `code` is stable."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class _Computed:
    """Digests of an aggregate: its own, its model's and its optimiser state's; and whose updates are in it."""

    digest: str
    model: str
    state: str | None
    summed: tuple[str, ...]


class Workshop:
    """Does a member's steps with the blob store, the trainers' process and the journal."""

    def __init__(self, parts: Parts) -> None:
        self._me = parts.me
        self._store = parts.store
        self._secrets = parts.secrets
        self._exchange = parts.exchange
        self._zygote = parts.zygote
        self._scratch = parts.scratch
        self._journal = parts.journal
        self._limits = parts.limits
        self._deadlines = parts.deadlines

    # -- training

    async def fetch_for_training(self, job: Job, current: Round) -> None:
        """Have the plan and the round's global model here.

        Raises:
            NotFoundError: nobody gave them.
        """
        holders = [job.terms.submitter, *(member.msp for member in current.cohort)]
        took = await self._exchange.ensure(job.terms.plan.bundle, self._others(holders))
        took += await self._exchange.ensure(current.model, self._others(holders))
        self._journal.add_time(job.id, current.number, "transfer", took)

    def _others(self, holders: Sequence[str]) -> list[str]:
        return [msp for msp in dict.fromkeys(holders) if msp != self._me]

    async def train(self, job: Job, current: Round, consent: Consent, now_ms: Callable[[], int]) -> CommitUpdate:
        """Train in a confined child, encode and store the update; once for a round and attempt.

        Raises:
            MemberFailedError: plan, data or model is at fault.
            TrainerGoneError: the trainers' process ended; try again.
        """
        stored = self._journal.update(job.id, current.number, current.attempt)
        if stored is not None:
            return stored
        member = _member(current, self._me)
        began = time.monotonic()
        async with self._folder() as folder:
            await self._lay_out(folder, job, current.model, consent)
            seconds = min(self._deadlines.training, (current.update_until_ms - now_ms()) / 1000)
            result = await self._run("train", folder, job, current, seconds)
            update = await self._encode(job, current, member, folder, result)
        self._journal.add_time(job.id, current.number, "training", time.monotonic() - began)
        took = self._journal.times(job.id, current.number)["training"]
        timed = update.model_copy(update={"metrics": {**update.metrics, "time.training": took}})
        return self._journal.store_update(timed)

    async def _encode(
        self, job: Job, current: Round, member: CohortMember, folder: Path, result: Mapping[str, Any]
    ) -> CommitUpdate:
        samples = result.get("samples")
        if not isinstance(samples, int) or not 1 <= samples <= member.samples:
            raise MemberFailedError(
                "SAMPLES_EXCEEDED", f"the plan trained on {samples} samples, registered are {member.samples}"
            )
        encoding = _encoding(job, current)
        # Attempts count from 1 on the ledger and from 0 in the encoding.
        rounding = Rounding(self._secrets.rounding_secret, job.id, current.number, current.attempt - 1)
        out = folder / "update.safetensors"
        delta = _inside(folder / "out", result.get("delta"))

        def encode() -> tuple[str, int, int]:
            with TensorFile(folder / "model.safetensors") as model, TensorFile(delta) as source:
                encoded = encode_update(source, model.specs, samples, encoding, rounding, out=out)
                _close(encoded.tensors)
                return encoded.digest, encoded.saturated, encoded.elements

        try:
            digest, saturated, elements = await asyncio.to_thread(encode)
        except (AggregationError, OSError) as error:
            raise MemberFailedError("UPDATE_INVALID", f"the trained update can't be encoded: {error}") from error
        blob = await self._store.put_file(out, self._secrets.storage_key, maximum=self._limits.blob_bytes)
        metrics = integer_metrics(result.get("metrics"))
        metrics["saturated"] = saturated * _MILLION // max(1, elements)
        return CommitUpdate(
            job=job.id,
            round=current.number,
            attempt=current.attempt,
            blob=Blob(address=blob.address, digest=digest, size=blob.size),
            samples=samples,
            metrics=metrics,
        )

    # -- aggregation

    def lacks(self, blob: Blob) -> bool:
        """Whether a blob that a step asked for is not here."""
        return self._exchange.lacks(blob)

    async def aggregate(self, job: Job, current: Round, rows: Sequence[UpdateRow]) -> Outcome:
        """Fetch the counted updates, sum them, step the model, and store model, state and outcome; once.

        Raises:
            NotFoundError: an update or the model was not to be had.
            MemberFailedError: no update is valid, or the job's optimiser can't be built.
        """
        stored = self._journal.outcome(job.id, current.number, current.attempt)
        if stored is not None:
            return stored
        # A round that is open still counts its whole cohort, or would not be summed yet.
        members = current.counted or [member.msp for member in current.cohort]
        counted = [row for row in rows if row.msp in members]
        if len(counted) != len(members):
            raise MemberFailedError("UPDATES_MISSING", "the ledger counts updates that it does not hold")
        try:
            outcome, seconds = await self._fetch_and_sum(job, current, counted)
        except BlobBrokenError as error:
            # What the disk has damaged is fetched once more; if it damages that too, somebody has to look at it.
            log.warning("round.blob_broken", job=job.id, round=current.number, reason=str(error))
            await self._exchange.drop_broken([*_shared(current), *(row.blob for row in counted)])
            outcome, seconds = await self._fetch_and_sum(job, current, counted)
        self._journal.add_time(job.id, current.number, "aggregation", seconds)
        self._journal.store_outcome(job.id, current.number, current.attempt, outcome)
        return outcome

    async def _fetch_and_sum(self, job: Job, current: Round, counted: Sequence[UpdateRow]) -> tuple[Outcome, float]:
        """The outcome, and the seconds that summing took."""
        cohort = self._others([member.msp for member in current.cohort])
        began = time.monotonic()
        holders = [*cohort, *self._others([job.terms.submitter])]
        fetched = [await self._exchange.ensure(blob, holders) for blob in _shared(current)]
        maximum = await largest_update(self._store, self._secrets.storage_key, current.model)
        counted = [row for row in counted if _plausible(row, maximum)]
        fetches = [self._exchange.ensure(row.blob, self._others([row.msp, *cohort])) for row in counted]
        # All of them are waited for: what one can't get does not end the fetching of the others.
        ended = await asyncio.gather(*fetches, return_exceptions=True)
        for one in ended:
            if isinstance(one, BaseException):
                raise one
            fetched.append(one)
        if any(fetched):
            self._journal.add_time(job.id, current.number, "transfer", time.monotonic() - began)
        began = time.monotonic()
        async with self._folder() as folder:
            outcome = await self._sum(job, current, counted, folder)
        return outcome, time.monotonic() - began

    async def _sum(self, job: Job, current: Round, counted: Sequence[UpdateRow], folder: Path) -> Outcome:
        optimizer_record = job.terms.plan.optimizer
        async with contextlib.AsyncExitStack() as stack:

            async def opened(blob: Blob) -> BlobReader:
                return await stack.enter_async_context(await self._store.open(blob.address, self._secrets.storage_key))

            model = await opened(current.model)
            state = await opened(current.optimizer_state) if current.optimizer_state else None
            updates = [(row, await opened(row.blob)) for row in counted]

            def compute() -> _Computed:
                optimizer = server_optimizer({"name": optimizer_record.name, **optimizer_record.parameters})
                readable = [
                    Update(row.msp, tensors, row.samples)
                    for row, reader in updates
                    if (tensors := _tensors(row, reader)) is not None
                ]
                got = aggregate(
                    TensorFile(_buffered(model)),
                    readable,
                    _encoding(job, current),
                    optimizer,
                    None if state is None else TensorFile(_buffered(state)),
                    out=folder / "out",
                )
                for refused in got.refused:
                    log.warning("round.update_refused", job=job.id, round=current.number, reason=str(refused))
                stateful = bool(got.state.specs)
                _close(got.model)
                _close(got.state)
                state_digest = got.state_digest if stateful else None
                return _Computed(got.digest, got.model_digest, state_digest, tuple(sorted(got.counted)))

            try:
                computed = await asyncio.to_thread(compute)
            except AggregationError as error:
                raise MemberFailedError("AGGREGATION_FAILED", str(error)) from error
        new_model = await self._keep(folder / "out" / "model.safetensors", computed.model)
        new_state = None
        if computed.state is not None:
            new_state = await self._keep(folder / "out" / "state.safetensors", computed.state)
        return Outcome(digest=computed.digest, model=new_model, state=new_state, summed=computed.summed)

    async def _keep(self, path: Path, digest: str) -> Blob:
        stored = await self._store.put_file(path, self._secrets.storage_key, maximum=self._limits.blob_bytes)
        return Blob(address=stored.address, digest=digest, size=stored.size)

    async def have_model(self, current: Round, outcome: Outcome) -> None:
        """Have an outcome's model here again, whose bytes the disk has lost since: from others that got the same.

        Raises:
            NotFoundError: nobody gave it.
        """
        await self._exchange.ensure(outcome.model, self._others([member.msp for member in current.cohort]))

    # -- evaluation

    async def evaluate(  # noqa: PLR0917 - a round's facts
        self,
        job: Job,
        current: Round,
        outcome: Outcome,
        consent: Consent,
        before: Mapping[str, int] | None,
        now_ms: Callable[[], int],
    ) -> StoredAttestation:
        """Evaluate the new global model on the own hold-out and store the verdict; once.

        Args:
            before: the metrics of the global model that the round started from, when this member has evaluated it.

        Raises:
            TrainerGoneError: the trainers' process ended; try again.
        """
        stored = self._journal.verdict(job.id, current.number, current.attempt)
        if stored is not None:
            return stored
        began = time.monotonic()
        try:
            async with self._folder() as folder:
                await self._lay_out(folder, job, outcome.model, consent)
                until_ms = current.attest_until_ms or now_ms() + job.terms.plan.attest_ms
                seconds = min(self._deadlines.training, (until_ms - now_ms()) / 1000)
                result = await self._run("evaluate", folder, job, current, seconds)
            metrics = integer_metrics(result.get("metrics"))
            samples = result.get("samples")
            verdict = StoredAttestation(
                accepts(metrics, before), samples if isinstance(samples, int) and samples >= 0 else 0, metrics
            )
        except MemberFailedError as error:
            # The model can't be run, or gives no finite figures: that is a verdict too.
            log.warning("round.evaluation_failed", job=job.id, round=current.number, reason=str(error))
            verdict = StoredAttestation(accept=False, samples=0, metrics={})
        self._journal.add_time(job.id, current.number, "evaluation", time.monotonic() - began)
        times = self._journal.times(job.id, current.number)
        named = {f"time.{what}": times[what] for what in ("transfer", "aggregation", "evaluation") if what in times}
        verdict = StoredAttestation(verdict.accept, verdict.samples, {**verdict.metrics, **named})
        self._journal.store_verdict(job.id, current.number, current.attempt, verdict)
        return verdict

    # -- what tasks see

    def _folder(self) -> contextlib.AbstractAsyncContextManager[Path]:
        if self._scratch is None:
            raise MemberFailedError("TRAINING_OFF", "this gateway runs no trainers")
        return self._scratch.folder()

    async def _lay_out(self, folder: Path, job: Job, model: Blob, consent: Consent) -> None:
        bundle = job.terms.plan.bundle
        try:
            async with await self._store.open(bundle.address, self._secrets.storage_key) as reader:
                content = await reader.read(self._limits.plan_bytes)
            if aggregation_hash("plan", content) != bundle.digest:
                raise MemberFailedError("PLAN_DIFFERS", "the plan's bytes are not those that were approved")
            await asyncio.to_thread((folder / "plan.zip").write_bytes, content)
            async with await self._store.open(model.address, self._secrets.storage_key) as reader:
                await reader.copy_to(folder / "model.safetensors")
        except BlobBrokenError as error:
            # Others have these: the next try fetches them.
            await self._exchange.drop_broken([bundle, model])
            raise CorruptError(str(error)) from error
        try:
            await self._decrypt(consent, folder / "data")
        except (BlobBrokenError, ArchiveError) as error:
            raise MemberFailedError("DATA_INVALID", str(error)) from error

    async def _decrypt(self, consent: Consent, folder: Path) -> None:
        blob = consent.dataset.terms.blob
        wrapped = self._journal.data_key(blob.address)
        if wrapped is None:
            raise MemberFailedError("DATA_KEY_MISSING", f"the key of {consent.dataset.id} is not at this gateway")
        key = self._secrets.unwrap(wrapped, blob.address.encode())
        async with await self._store.open(blob.address, key) as reader:
            await asyncio.to_thread(unpack, _buffered(reader), folder)

    async def _run(self, task: str, folder: Path, job: Job, current: Round, seconds: float) -> Mapping[str, Any]:
        if self._zygote is None:
            raise MemberFailedError("TRAINING_OFF", "this gateway runs no trainers")
        if seconds <= 0:
            raise MemberFailedError("TOO_LATE", "the deadline has passed")
        try:
            result = await self._zygote.run(
                task,
                seconds=seconds,
                plan=folder / "plan.zip",
                data=folder / "data",
                model=folder / "model.safetensors",
                out=folder / "out",
                round={
                    "job": job.id,
                    "number": current.number,
                    "attempt": current.attempt - 1,
                    "member": self._me,
                },
                foreign=job.terms.submitter != self._me,
            )
        except TrainerError as error:
            if error.code in _PASSING:
                raise
            raise MemberFailedError(error.code, error.text) from error
        return result.fields


_PASSING: Final = frozenset({"TRAINER_GONE", "TRAINER_TIMEOUT", "KILLED", "CANCELLED", "SANDBOX_FAILED", "NO_SCRATCH"})
"""Ends of a task that say nothing about plan or data: it is tried again."""


def accepts(metrics: Mapping[str, int], before: Mapping[str, int] | None) -> bool:
    """Whether a new global model passes on the own hold-out (metrics in units of 1e-6).

    Every figure is finite already. A loss may rise while a job goes on, since others' data pull the model elsewhere;
    one that more than doubles, by more than 1, is taken for a poisoned or broken aggregate.
    """
    loss = metrics.get("loss")
    previous = None if before is None else before.get("loss")
    if loss is None or previous is None:
        return True
    return loss <= max(2 * previous, previous + _MILLION)


def integer_metrics(metrics: object) -> dict[str, int]:
    """A trainer's metrics as the ledger keeps them: few, with plain names, in units of 1e-6.

    Raises:
        MemberFailedError: they are no such figures.
    """
    if not isinstance(metrics, Mapping) or len(metrics) > _MOST_METRICS:
        raise MemberFailedError("METRICS_INVALID", f"metrics are at most {_MOST_METRICS} figures by name")
    found = {}
    for name, value in metrics.items():
        if not isinstance(name, str) or not _METRIC.fullmatch(name) or name.startswith("time."):
            raise MemberFailedError("METRICS_INVALID", "a metric's name is lower-case letters, digits, '.', '_', '-'")
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise MemberFailedError("METRICS_INVALID", f"the metric {name} is not a finite number")
        found[name] = max(-_LARGEST_METRIC, min(_LARGEST_METRIC, round(value * _MILLION)))
    return found


def _member(current: Round, msp: str) -> CohortMember:
    member = current.member(msp)
    if member is None:
        raise MemberFailedError("NOT_IN_COHORT", f"{msp} is not in the cohort of round {current.number}")
    return member


def _encoding(job: Job, current: Round) -> RingEncoding:
    return RingEncoding(decimal(job.terms.plan.clip, "clip"), current.total_samples, len(current.cohort))


async def largest_update(store: BlobStore, key: bytes, model: Blob) -> int:
    """The most bytes that an update for a model has; the model is in the store.

    Raises:
        MemberFailedError: nothing can be added to this model.
    """
    async with await store.open(model.address, key) as reader:

        def largest() -> int:
            return largest_update_bytes(TensorFile(_buffered(reader)).specs)

        try:
            return await asyncio.to_thread(largest)
        except AggregationError as error:
            raise MemberFailedError("AGGREGATION_FAILED", str(error)) from error


def _shared(current: Round) -> list[Blob]:
    """What a round's updates are added to."""
    return [current.model, *([current.optimizer_state] if current.optimizer_state else [])]


def _plausible(row: UpdateRow, maximum: int) -> bool:
    """Whether an update may be one by its row alone; one that may not is left out unread, by every member alike."""
    if row.blob.size <= maximum:
        return True
    log.warning("round.update_too_large", job=row.job, round=row.round, member=row.msp, bytes=row.blob.size)
    return False


def _tensors(row: UpdateRow, reader: BlobReader) -> Tensors | None:
    """An update's tensors; None when its bytes are no tensors at all, which every member finds alike."""
    try:
        return TensorFile(_buffered(reader))
    except AggregationError as error:
        log.warning("round.update_unreadable", job=row.job, round=row.round, member=row.msp, reason=str(error))
        return None


def _buffered(reader: BlobReader) -> Any:
    return io.BufferedReader(reader.file(), buffer_size=1 << 16)


def _close(tensors: Tensors) -> None:
    if isinstance(tensors, TensorFile):
        tensors.close()


def _inside(folder: Path, named: object) -> Path:
    """A path that a trainer named, if it is a plain file in its own folder."""
    path = folder / Path(str(named)).name
    if path.is_symlink() or not path.is_file():
        raise MemberFailedError("UPDATE_MISSING", "the trainer left no update")
    return path
