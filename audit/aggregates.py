"""A job's blobs, and its models computed again from them, round by round, as every honest member did."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ..aggregation import (
    Aggregate,
    AggregationError,
    RingEncoding,
    TensorFile,
    TensorFileError,
    aggregate,
    decimal,
    largest_update_bytes,
    server_optimizer,
)
from ..aggregation import Update as EncodedUpdate
from ..chaincode.records import RoundState
from .blobs import BlobDiffersError, BlobFolder, BlobMissingError, BlobUnusableError, address_of
from .report import Check, Findings

if TYPE_CHECKING:
    from ..aggregation import Tensors
    from ..chaincode.records import Blob, Job, Outcome, Update
    from .training import JobLinks, RoundLinks


_Pair: TypeAlias = "tuple[Tensors | None, Tensors | None]"
"""A model and an optimiser's state; None for what can't be had, and for the state of an optimiser that has none."""


class _UpdateLostError(Exception):
    """An update that the auditor can't read, so that its round can't be computed again."""


class AggregateAuditor:
    """Computes the final rounds of a job again. Disk for two models and states, memory for segments."""

    def __init__(self, blobs: BlobFolder, links: JobLinks, findings: Findings) -> None:
        self._blobs = blobs
        self._links = links
        self._findings = findings
        self.recomputed: set[int] = set()
        """Numbers of the rounds whose outcome came out as attested."""

    def run(self) -> None:
        """Check every blob that the job's links name, and every final round's outcome."""
        if self._links.job is None:
            self._findings.not_done(Check.BLOBS, Check.AGGREGATE)
            return
        job = self._job
        self._check_plan(job)
        final = [links for _, links in sorted(self._links.rounds.items()) if links.record.state is RoundState.FINAL]
        last: _Pair = self._open(job.terms.plan.model, f"initial model of job {job.id}"), None
        try:
            with tempfile.TemporaryDirectory(prefix="fedfabric-audit-") as folder:
                for turn, links in enumerate(final):
                    place = Path(folder) / str(turn % 2)
                    shutil.rmtree(place, ignore_errors=True)
                    place.mkdir()
                    before, last = last, self._after(links, last, place)
                    _close(*before)
        finally:
            _close(*last)

    def _after(self, links: RoundLinks, before: _Pair, place: Path) -> _Pair:
        """Return a final round's model and optimiser state, open; computed, or else as attested."""
        with ExitStack() as updates:
            result = self._round(links, before, place, updates)
        if result is None:
            return self._from_blobs(links.record.outcome, links.record.number)
        return result.model, result.state

    @property
    def _job(self) -> Job:
        if self._links.job is None:
            raise RuntimeError("there is no job to compute again")
        return self._links.job

    def _check_plan(self, job: Job) -> None:
        link = f"plan of job {job.id}"
        self._findings.made(Check.BLOBS)
        try:
            self._blobs.plan(job.terms.plan.bundle)
        except (BlobMissingError, BlobDiffersError) as error:
            self._findings.broken(Check.BLOBS, link, f"blob {job.terms.plan.bundle.address}: {error}")

    def _open(self, blob: Blob, link: str) -> TensorFile | None:
        """Open a model or state, for the caller to close; None, with a finding, where other bytes or none are there."""
        self._findings.made(Check.BLOBS)
        try:
            opened = self._blobs.tensors(blob)
        except (BlobMissingError, BlobDiffersError, BlobUnusableError) as error:
            self._findings.broken(Check.BLOBS, link, f"blob {blob.address}: {error}")
            return None
        if fault := opened.fault(blob):
            self._findings.broken(Check.BLOBS, link, f"blob {blob.address}: {fault}")
        return opened.tensors

    def _open_update(self, row: Update, files: ExitStack) -> EncodedUpdate | None:
        """Open an update; None, with a finding, where it is missing or changed.

        Bytes that its member committed and that are no update are left out, as every honest member leaves them out.
        """
        link = f"update of {row.msp} in round {row.round} of job {row.job}"
        self._findings.made(Check.BLOBS)
        try:
            opened = self._blobs.tensors(row.blob)
        except (BlobMissingError, BlobDiffersError) as error:
            self._findings.broken(Check.BLOBS, link, f"blob {row.blob.address}: {error}")
            raise _UpdateLostError from error
        except BlobUnusableError as error:
            self._findings.remark(link, f"{error}; it was left out of the aggregate")
            return None
        files.enter_context(opened.tensors)
        if fault := opened.fault(row.blob):
            self._findings.remark(link, fault)
        return EncodedUpdate(row.msp, opened.tensors, row.samples)

    def _from_blobs(self, outcome: Outcome | None, number: int) -> _Pair:
        """Go on from the attested model, where the round that gave it could not be computed again."""
        if outcome is None:
            return None, None
        model = self._open(outcome.model, f"model of round {number}")
        state = self._open(outcome.state, f"optimiser state of round {number}") if outcome.state else None
        return model, state

    def _round(
        self,
        links: RoundLinks,
        before: _Pair,
        place: Path,
        files: ExitStack,
    ) -> Aggregate | None:
        """Compute a round again from the model and optimiser state before it; None where it can't be, or differs."""
        job, record = self._job, links.record
        model, state = before
        link = f"aggregate of round {record.number} of job {job.id}"
        updates = []
        lost = False
        largest = _largest_update(model)
        for msp in record.counted:
            row = links.updates.get(msp)
            if row is None:
                lost = True  # found as a broken link of the updates
                continue
            if largest is not None and row.blob.size > largest:
                about = f"update of {msp} in round {record.number} of job {job.id}"
                told = f"{row.blob.size} bytes, an update of this model has at most {largest}"
                self._findings.remark(about, f"{told}; it was left out of the aggregate")
                continue
            try:
                updates.append(self._open_update(row, files))
            except _UpdateLostError:
                lost = True
        if model is None or record.outcome is None or lost:
            self._findings.not_done(Check.AGGREGATE)
            return None
        self._findings.made(Check.AGGREGATE)
        optimizer = job.terms.plan.optimizer
        try:
            result = aggregate(
                model,
                [update for update in updates if update is not None],
                RingEncoding(decimal(job.terms.plan.clip, "clip"), record.total_samples, len(record.cohort)),
                server_optimizer({"name": optimizer.name, **optimizer.parameters}),
                state,
                out=place,
            )
        except (AggregationError, TensorFileError) as error:
            self._findings.broken(Check.AGGREGATE, link, f"it can't be computed: {error}")
            return None
        found = (result.digest, result.model_digest, tuple(sorted(result.counted)))
        attested = (record.outcome.digest, record.outcome.model.digest, record.outcome.summed)
        if found != attested:
            self._findings.broken(
                Check.AGGREGATE,
                link,
                f"the updates of {', '.join(found[2])} give {found[0]}, "
                f"a quorum attested {attested[0]} of {', '.join(attested[2])}",
            )
            _close(result.model, result.state)
            return None
        for refused in result.refused:
            self._findings.remark(link, f"{refused}; it was left out of the aggregate")
        self._check_outcome_blobs(record.outcome, result, place, link)
        self.recomputed.add(record.number)
        return result

    def _check_outcome_blobs(self, outcome: Outcome, result: Aggregate, place: Path, link: str) -> None:
        """Check the blobs of the new model and state, where they are there; they have been computed again anyhow."""
        expected = [(outcome.model, result.model_digest, "model.safetensors")]
        if outcome.state is not None:
            expected.append((outcome.state, result.state_digest, "state.safetensors"))
        for blob, digest, name in expected:
            self._findings.made(Check.BLOBS)
            if blob.digest != digest or blob.address != address_of(place / name):
                self._findings.broken(
                    Check.AGGREGATE, link, f"the attested {name} is at {blob.address}, which is not what it computes to"
                )
            if not self._blobs.has(blob):
                continue
            _close(self._open(blob, f"{name} of {link}"))


def _close(*tensors: Tensors | None) -> None:
    for one in tensors:
        if isinstance(one, TensorFile):
            one.close()


def _largest_update(model: Tensors | None) -> int | None:
    """The most bytes that an update has, None where there is no model that could be updated."""
    if model is None:
        return None
    try:
        return largest_update_bytes(model.specs)
    except AggregationError:
        return None  # computing the round says why
