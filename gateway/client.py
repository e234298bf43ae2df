"""`fedfabric.connect(profile)`: the typed client of a gateway, for asyncio and for blocking code.

    async with fedfabric.connect("profile.toml") as client:
        jobs = await client.jobs.list()

    with fedfabric.connect("profile.toml") as client:
        jobs = client.jobs.list().result()

What a person decides is signed here, with the profile's key or with a signer that is given (bytes in, DER signature
out, so that the key may live in a hardware module); the gateway never sees a person's key.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from ..aggregation import AggregationError, TensorFile, manifest_of, tagged_hash
from ..chaincode import records
from ..chaincode.records import (
    AccessRequest,
    Blob,
    Column,
    Consortium,
    ConsortiumApproval,
    ConsortiumChange,
    Dataset,
    DatasetTerms,
    Decision,
    Grant,
    Job,
    Mint,
    MintApproval,
    Output,
    Privacy,
    Record,
    Revocation,
    SubmitJob,
)
from ..fabric import blocks
from ..fabric.identity import Signer
from . import archives
from .client_calls import Call, Portal, Stream
from .client_reports import (
    AccessReport,
    Description,
    Exported,
    JobReport,
    JobReview,
    read_access_report,
    read_description,
    read_job_report,
)
from .client_session import Asked, Session
from .client_transfers import Progress, Source, download, read_all, upload
from .configuration import Profile
from .errors import ApiError, CorruptError, InvalidError, from_refusal
from .limits import Limits
from .v1 import (
    access_pb2,
    access_pb2_grpc,
    audit_pb2,
    audit_pb2_grpc,
    blobs_pb2,
    blobs_pb2_grpc,
    consortium_pb2,
    consortium_pb2_grpc,
    datasets_pb2,
    datasets_pb2_grpc,
    gateway_pb2,
    gateway_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    records_pb2,
    tokens_pb2,
    tokens_pb2_grpc,
)
from .wire import to_message, to_record

__all__ = ["Client", "connect"]

T = TypeVar("T")
AnyRecord = TypeVar("AnyRecord", bound=Record)

_ADDRESS: Final = re.compile(r"[0-9a-f]{64}")
_EXPORT_README: Final = """Evidence of the training job {job}, exported from one organisation's gateway.

blocks/  the channel's blocks from the first one on (protobuf common.Block)
blobs/   the job's plan, models, states and updates, each under the Merkle root of its 1 MiB segments

Nothing here has to be believed: verify it with

    fedfabric audit verify FOLDER {job} --genesis HASH

and a hash of the genesis block that you did not get from here.
"""


class _Part:
    """A group of calls."""

    def __init__(self, client: "Client") -> None:
        self._client = client

    def _call(self, work: Callable[[Session], Awaitable[T]]) -> Call[T]:
        async def run() -> T:
            try:
                return await work(self._client.session())
            except records.Refusal as refusal:
                # The request does not even make a record: said as the contract would say it.
                raise from_refusal(refusal) from refusal

        return Call(run, self._client.portal)

    def _write(  # noqa: PLR0917 - one transaction, named part by part
        self,
        stub: Callable[[Any], Any],
        method: str,
        function: str,
        record: Callable[[], Record],
        result: type[AnyRecord],
        filled: tuple[str, ...] = (),
    ) -> Call[AnyRecord]:
        async def work(session: Session) -> AnyRecord:
            made = record()
            prepare = getattr(stub(session.channel), method)
            return await session.write(prepare, to_message(made), Asked(function, made, filled), result)

        return self._call(work)


def _request(kind: type[AnyRecord], **fields: Any) -> AnyRecord:
    """A request, checked by the rules that the contract will apply, and refused in the same words.

    Raises:
        Refusal: a field is not as the contract wants it.
    """
    plain = {
        name: value.model_dump(mode="json")
        if isinstance(value, Record)
        else [one.model_dump(mode="json") if isinstance(one, Record) else one for one in value]
        if isinstance(value, list | tuple)
        else value
        for name, value in fields.items()
    }
    return records.parse(json.dumps(plain).encode(), kind)


class ConsortiumCalls(_Part):
    """The members' record."""

    def show(self) -> Call[Consortium]:
        """The members as they are."""

        async def work(session: Session) -> Consortium:
            stub: Any = consortium_pb2_grpc.ConsortiumServiceStub(session.channel)  # type: ignore[no-untyped-call]
            return to_record(await session.call(stub.Show, consortium_pb2.ShowConsortiumRequest()), Consortium)

        return self._call(work)

    def approve(self, change: ConsortiumChange) -> Call[ConsortiumApproval]:
        """Approve a change for the own organisation."""
        stub = consortium_pb2_grpc.ConsortiumServiceStub
        return self._write(stub, "Approve", "consortium:approve", lambda: change, ConsortiumApproval)

    def apply(self, change: ConsortiumChange) -> Call[Consortium]:
        """Make a change that enough members have approved the present record."""
        stub = consortium_pb2_grpc.ConsortiumServiceStub
        return self._write(stub, "Apply", "consortium:apply", lambda: change, Consortium)


class DatasetCalls(_Part):
    """Registered data sets."""

    def upload(self, source: Path | str, *, progress: Progress | None = None) -> Call[Blob]:
        """Pack a file or folder and store it, encrypted, in the organisation's own blob store.

        Raises:
            ArchiveError: there is something that is no plain file, or nothing.
        """
        path = Path(source)

        async def work(session: Session) -> Blob:
            stub: Any = datasets_pb2_grpc.DatasetsStub(session.channel)  # type: ignore[no-untyped-call]
            size = await asyncio.to_thread(archives.packed_size, path)
            return await upload(stub.Upload, lambda: archives.pack(path), size, progress=progress)

        return self._call(work)

    def register(
        self,
        name: str,
        source: Path | str,
        *,
        title: str,
        samples: int,
        licence: str,
        jurisdiction: str,
        purposes: Sequence[str] = ("training",),
        description: str = "",
        columns: Sequence[Column] = (),
        retention_days: int = 0,
        price: str = "0",
        progress: Progress | None = None,
    ) -> Call[Dataset]:
        """Store a file or folder in the organisation's own blob store and register it as MSP/name.

        Args:
            name: of the data set within the organisation.
            source: a file, or a folder as plans will find it.
            title: one line for people.
            samples: rows; an update may claim no more.
            licence: as an SPDX name where there is one.
            jurisdiction: ISO 3166 code.
            purposes: what it may be used for.
            description: a paragraph for people.
            columns: the schema.
            retention_days: how long a holder may keep it, 0 for no bound.
            price: tokens for a grant, as digits.
            progress: told the bytes sent and all of them.
        """

        async def work(_: Session) -> Dataset:
            # What would be refused is refused before gigabytes are sent.
            unsent = Blob(address="0" * 64, digest="0" * 64, size=1)

            def request(blob: Blob) -> Callable[[], records.RegisterDataset]:
                return lambda: _request(
                    records.RegisterDataset,
                    name=name,
                    terms={
                        "title": title,
                        "description": description,
                        "blob": blob.model_dump(mode="json"),
                        "columns": [column.model_dump(mode="json") for column in columns],
                        "samples": samples,
                        "licence": licence,
                        "purposes": list(purposes),
                        "retention_days": retention_days,
                        "jurisdiction": jurisdiction,
                        "price": price,
                    },
                )

            request(unsent)()
            blob = await self.upload(source, progress=progress)
            stub = datasets_pb2_grpc.DatasetsStub
            return await self._write(stub, "Register", "datasets:register", request(blob), Dataset)

        return self._call(work)

    def update(self, dataset: str, version: int, terms: DatasetTerms) -> Call[Dataset]:
        """Give a data set new terms as version + 1; its bytes may be new ones that were uploaded."""
        return self._write(
            datasets_pb2_grpc.DatasetsStub,
            "Update",
            "datasets:update",
            lambda: _request(records.UpdateDataset, id=dataset, version=version, terms=terms),
            Dataset,
        )

    def retire(self, dataset: str) -> Call[Dataset]:
        """No new grant, no further round."""
        return self._write(
            datasets_pb2_grpc.DatasetsStub,
            "Retire",
            "datasets:retire",
            lambda: _request(records.RetireDataset, id=dataset),
            Dataset,
        )

    def show(self, dataset: str) -> Call[Dataset]:
        """One data set, by MSP/name."""

        async def work(session: Session) -> Dataset:
            stub: Any = datasets_pb2_grpc.DatasetsStub(session.channel)  # type: ignore[no-untyped-call]
            request = datasets_pb2.ShowDatasetRequest(id=dataset)
            return to_record(await session.call(stub.Show, request), Dataset)

        return self._call(work)

    def list(self, query: str = "", *, retired: bool = False) -> Call[list[Dataset]]:
        """All data sets with these words in id, title, description, columns or purposes."""

        async def work(session: Session) -> list[Dataset]:
            stub: Any = datasets_pb2_grpc.DatasetsStub(session.channel)  # type: ignore[no-untyped-call]
            found: list[Dataset] = []
            after = ""
            while True:
                request = datasets_pb2.ListDatasetsRequest(query=query, retired=retired, after=after)
                page = await session.call(stub.List, request)
                found += [to_record(one, Dataset) for one in page.datasets]
                if not (after := page.next):
                    return found

        return self._call(work)


class AccessCalls(_Part):
    """Requests for access, and the owners' answers."""

    def request(
        self, request: str, *, dataset: str, version: int, purpose: str = "training", note: str = "", payer: str = ""
    ) -> Call[AccessRequest]:
        """Ask for access for the whole organisation; the price goes into escrow.

        Args:
            request: the request's id, chosen here.
            dataset: MSP/name.
            version: the one that was seen.
            purpose: one of the data set's.
            note: a line for the owner.
            payer: the account that pays; the organisation's when "".
        """
        return self._write(
            access_pb2_grpc.AccessStub,
            "Request",
            "access:request",
            lambda: _request(
                records.RequestAccess,
                id=request,
                dataset=dataset,
                version=version,
                purpose=purpose,
                note=note,
                payer=payer or None,
            ),
            AccessRequest,
            ("inputs", "payer"),
        )

    def grant(self, request: str, *, expires_ms: int = 0) -> Call[Grant]:
        """Grant a request for an own data set, until a time of the ledger (ms since 1970), or for good with 0."""
        return self._write(
            access_pb2_grpc.AccessStub,
            "Grant",
            "access:grant",
            lambda: _request(records.GrantAccess, id=request, expires_ms=expires_ms),
            Grant,
        )

    def revoke(self, request: str, *, reason: str = "") -> Call[Revocation]:
        """Revoke a grant: no release and no further round under it."""
        return self._write(
            access_pb2_grpc.AccessStub,
            "Revoke",
            "access:revoke",
            lambda: _request(records.RevokeAccess, id=request, reason=reason),
            Revocation,
        )

    def withdraw(self, request: str) -> Call[AccessRequest]:
        """Take an own request back before it is granted."""
        return self._write(
            access_pb2_grpc.AccessStub,
            "Withdraw",
            "access:withdraw",
            lambda: _request(records.WithdrawAccess, id=request),
            AccessRequest,
        )

    def show(self, request: str) -> Call[AccessReport]:
        """A request, its grant, its revocation and its uses."""

        async def work(session: Session) -> AccessReport:
            stub: Any = access_pb2_grpc.AccessStub(session.channel)  # type: ignore[no-untyped-call]
            return read_access_report(await session.call(stub.Show, access_pb2.ShowAccessRequest(id=request)))

        return self._call(work)

    def list(self, *, dataset: str = "", state: str = "") -> Call[list[AccessRequest]]:
        """All requests, of one data set or in one state if so wished."""

        async def work(session: Session) -> list[AccessRequest]:
            stub: Any = access_pb2_grpc.AccessStub(session.channel)  # type: ignore[no-untyped-call]
            found: list[AccessRequest] = []
            after = ""
            while True:
                request = access_pb2.ListAccessRequest(dataset=dataset, state=state, after=after)
                page = await session.call(stub.List, request)
                found += [to_record(one, AccessRequest) for one in page.requests]
                if not (after := page.next):
                    return found

        return self._call(work)


class TokenCalls(_Part):
    """Tokens."""

    def approve_mint(self, mint: str, owner: str, amount: str) -> Call[MintApproval]:
        """Approve a mint for the own organisation. Amounts are digits."""
        return self._write(
            tokens_pb2_grpc.TokensStub, "ApproveMint", "tokens:approve", _mint(mint, owner, amount), MintApproval
        )

    def mint(self, mint: str, owner: str, amount: str) -> Call[Mint]:
        """Carry out a mint that a quorum of members has approved in the same words."""
        return self._write(tokens_pb2_grpc.TokensStub, "Mint", "tokens:mint", _mint(mint, owner, amount), Mint)

    def transfer(self, owner: str, outputs: Sequence[Output]) -> Call[records.Transfer]:
        """Pay from an own account; what is left of the rows picked goes back to it."""

        async def work(session: Session) -> records.Transfer:
            # No rows are named: the gateway picks them, and what it picked is checked before it is signed.
            record = records.TransferRequest.model_construct(owner=owner, inputs=(), outputs=tuple(outputs))
            request = records_pb2.TransferRequest(
                owner=owner, outputs=[to_message(output, records_pb2.Output) for output in outputs]
            )
            stub: Any = tokens_pb2_grpc.TokensStub(session.channel)  # type: ignore[no-untyped-call]
            asked = Asked("tokens:transfer", record, ("inputs", "outputs"))
            return await session.write(stub.Transfer, request, asked, records.Transfer)

        return self._call(work)

    def balance(self, owner: str = "") -> Call[records.Balance]:
        """An account's unspent rows; the organisation's own when none is named."""

        async def work(session: Session) -> records.Balance:
            stub: Any = tokens_pb2_grpc.TokensStub(session.channel)  # type: ignore[no-untyped-call]
            request = tokens_pb2.ShowBalanceRequest(owner=owner)
            return to_record(await session.call(stub.ShowBalance, request), records.Balance)

        return self._call(work)


def _mint(mint: str, owner: str, amount: str) -> Callable[[], records.MintRequest]:
    return lambda: _request(records.MintRequest, id=mint, owner=owner, amount=amount)


class JobCalls(_Part):
    """Training jobs."""

    def submit(self, request: SubmitJob) -> Call[Job]:
        """Submit a job whose plan and initial model were uploaded; its budget goes into escrow."""
        stub = jobs_pb2_grpc.JobsStub
        return self._write(stub, "Submit", "training:submit", lambda: request, Job, ("inputs", "payer"))

    def approve(self, job: str, *, digest: str, privacy: Privacy = Privacy.CLEAR, reason: str = "") -> Call[Decision]:
        """Approve a job by the digest that was reviewed."""
        return self._write(
            jobs_pb2_grpc.JobsStub, "Approve", "training:approve", _decide(job, digest, privacy, reason), Decision
        )

    def refuse(self, job: str, *, digest: str, privacy: Privacy = Privacy.CLEAR, reason: str = "") -> Call[Decision]:
        """Refuse a job by the digest that was reviewed."""
        return self._write(
            jobs_pb2_grpc.JobsStub, "Refuse", "training:refuse", _decide(job, digest, privacy, reason), Decision
        )

    def add(self, job: str, dataset: str, *, version: int, grant: str | None = None) -> Call[Job]:
        """Ask one more owner, who takes part from the next round opened after its approval."""
        return self._write(
            jobs_pb2_grpc.JobsStub,
            "Add",
            "training:add",
            lambda: _request(
                records.AddOwner, job=job, dataset={"dataset": dataset, "version": version, "grant": grant}
            ),
            Job,
        )

    def cancel(self, job: str) -> Call[Job]:
        """End an own job: at once before anybody has delivered, else with its present round."""
        return self._write(
            jobs_pb2_grpc.JobsStub,
            "Cancel",
            "training:cancel",
            lambda: _request(records.JobRef, job=job),
            Job,
        )

    def show(self, job: str) -> Call[JobReport]:
        """A job with its decisions and rounds."""

        async def work(session: Session) -> JobReport:
            stub: Any = jobs_pb2_grpc.JobsStub(session.channel)  # type: ignore[no-untyped-call]
            return read_job_report(await session.call(stub.Show, jobs_pb2.ShowJobRequest(id=job)))

        return self._call(work)

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

        return self._call(work)

    def review(self, job: str) -> Call[JobReview]:
        """What an approval would be of: terms and plan, both checked here against the digest on the ledger.

        Raises:
            CorruptError: terms or plan do not have the digests that the ledger names.
        """

        async def work(session: Session) -> JobReview:
            jobs: Any = jobs_pb2_grpc.JobsStub(session.channel)  # type: ignore[no-untyped-call]
            answer = await session.call(jobs.Review, jobs_pb2.ShowJobRequest(id=job))
            report = read_job_report(answer.report)
            terms = report.job.terms
            if terms.digest != report.job.digest:
                raise CorruptError(f"the terms of {job} do not have the digest that the ledger names")
            bundle = await self._client.blobs.read(terms.plan.bundle)
            if tagged_hash("plan", bundle) != terms.plan.bundle.digest:
                raise CorruptError(f"the plan of {job} does not have the digest that its terms name")
            return JobReview(report, terms.digest, bundle)

        return self._call(work)

    def watch(self, job: str) -> Stream[JobReport]:
        """The job now and at each of its changes, until it has ended."""

        async def work() -> AsyncIterator[JobReport]:
            session = self._client.session()
            stub: Any = jobs_pb2_grpc.JobsStub(session.channel)  # type: ignore[no-untyped-call]
            async for message in session.stream(stub.Watch, jobs_pb2.ShowJobRequest(id=job)):
                yield read_job_report(message)

        return Stream(work, self._client.portal)


def _decide(job: str, digest: str, privacy: Privacy, reason: str) -> Callable[[], records.DecideJob]:
    return lambda: _request(records.DecideJob, job=job, digest=digest, privacy=privacy, reason=reason)


class BlobCalls(_Part):
    """Plans, models and updates in the gateway's blob store."""

    def upload_plan(self, plan: Path | str | bytes, *, progress: Progress | None = None) -> Call[Blob]:
        """Store a plan's bundle."""
        return self._upload(plan, "plan", progress)

    def upload_model(self, model: Path | str | bytes, *, progress: Progress | None = None) -> Call[Blob]:
        """Store a model (safetensors)."""
        return self._upload(model, "model", progress)

    def _upload(self, source: Path | str | bytes, kind: str, progress: Progress | None) -> Call[Blob]:
        async def work(session: Session) -> Blob:
            stub: Any = blobs_pb2_grpc.BlobsStub(session.channel)  # type: ignore[no-untyped-call]
            if isinstance(source, bytes):
                return await upload(stub.Upload, lambda: iter([source]), len(source), kind=kind, progress=progress)
            path = Path(source)
            size = (await asyncio.to_thread(path.stat)).st_size
            return await upload(stub.Upload, lambda: _pieces(path), size, kind=kind, progress=progress)

        return self._call(work)

    def fetch(self, blob: Blob, target: Path | str, *, progress: Progress | None = None) -> Call[Path]:
        """Fetch a blob of a job of the own organisation into a file; each segment is checked."""
        path = Path(target)

        async def work(session: Session) -> Path:
            stub: Any = blobs_pb2_grpc.BlobsStub(session.channel)  # type: ignore[no-untyped-call]
            await download(
                Source(stub.Fetch, blobs_pb2.FetchRequest(address=blob.address), blob, session.limits.blob_bytes),
                path,
                progress,
            )
            return path

        return self._call(work)

    def read(self, blob: Blob) -> Call[bytes]:
        """A small blob's bytes, such as a plan's.

        Raises:
            InvalidError: it is larger than a plan may be.
        """

        async def work(session: Session) -> bytes:
            if blob.size > session.limits.plan_bytes:
                raise InvalidError(f"the blob has {blob.size} bytes; fetch it into a file", code="TOO_LONG")
            stub: Any = blobs_pb2_grpc.BlobsStub(session.channel)  # type: ignore[no-untyped-call]
            return await read_all(
                Source(stub.Fetch, blobs_pb2.FetchRequest(address=blob.address), blob, session.limits.plan_bytes)
            )

        return self._call(work)


def _pieces(path: Path) -> Any:
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece


class ModelCalls(_Part):
    """Models of jobs."""

    def initialise(self, plan: Blob, *, seed: int = 0) -> Call[Blob]:
        """Have the gateway make a plan's own model, in a confined trainer: a job's initial one."""

        async def work(session: Session) -> Blob:
            stub: Any = blobs_pb2_grpc.ModelsStub(session.channel)  # type: ignore[no-untyped-call]
            request = blobs_pb2.InitialiseModelRequest(plan=plan.address, seed=seed)
            return to_record(await session.call(stub.Initialise, request), Blob)

        return self._call(work)

    def fetch(
        self, job: str, target: Path | str, *, round_number: int = 0, progress: Progress | None = None
    ) -> Call[Blob]:
        """Fetch a job's global model into a file, and check it against the digest on the ledger.

        Args:
            job: its id.
            target: the file.
            round_number: of a final round; 0 is the latest model.
            progress: told the bytes received and all of them.

        Raises:
            CorruptError: the file's tensors do not have the digest that the ledger names.
        """
        path = Path(target)

        async def work(session: Session) -> Blob:
            blob = _model_of(await self._client.jobs.show(job), round_number)
            stub: Any = blobs_pb2_grpc.ModelsStub(session.channel)  # type: ignore[no-untyped-call]
            request = blobs_pb2.FetchModelRequest(job=job, round=round_number)
            await download(Source(stub.Fetch, request, blob, session.limits.blob_bytes), path, progress)
            await asyncio.to_thread(_check_model, path, blob)
            return blob

        return self._call(work)


def _model_of(report: JobReport, number: int) -> Blob:
    if not number:
        return report.job.model
    for one in report.rounds:
        if one.round.number == number and one.round.outcome is not None:
            return one.round.outcome.model
    raise ApiError(f"round {number} of {report.job.id} is not final", code="MODEL_UNKNOWN", field="round")


def _check_model(path: Path, blob: Blob) -> None:
    try:
        with TensorFile(path) as tensors:
            digest = manifest_of(tensors).digest
    except AggregationError as error:
        path.unlink()
        raise CorruptError(f"the model is not what the ledger names: {error}") from error
    if digest != blob.digest:
        path.unlink()
        raise CorruptError("the model's tensors do not have the digest that the ledger names")


class AuditCalls(_Part):
    """Evidence to take away."""

    def export(self, job: str, folder: Path | str, *, progress: Progress | None = None) -> Call[Exported]:
        """Write the channel's blocks and a job's blobs into a new or empty folder, for an audit without a network.

        Raises:
            FileExistsError: something is in the folder.
        """
        target = Path(folder)

        async def work(session: Session) -> Exported:
            await asyncio.to_thread(_prepare_folder, target, job)
            stub: Any = audit_pb2_grpc.AuditStub(session.channel)  # type: ignore[no-untyped-call]
            writer = _ExportWriter(target, progress)
            try:
                async for message in session.stream(stub.Export, audit_pb2.ExportRequest(job=job)):
                    await asyncio.to_thread(writer.take, message)
                return writer.finish()
            finally:
                writer.close()

        return self._call(work)


def _prepare_folder(folder: Path, job: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(17, "the folder is not empty", str(folder))
    (folder / "blocks").mkdir()
    (folder / "blobs").mkdir()
    (folder / "README.txt").write_text(_EXPORT_README.format(job=job), encoding="utf-8")


class _ExportWriter:
    """Writes an export's messages into its folder."""

    def __init__(self, folder: Path, progress: Progress | None) -> None:
        self._folder = folder
        self._progress = progress
        self._blocks = 0
        self._blobs = 0
        self._genesis = ""
        self._file: Any = None
        self._left = 0
        self._bytes = 0

    def take(self, message: audit_pb2.ExportResponse) -> None:
        """One message."""
        match message.WhichOneof("part"):
            case "block":
                self._block(message.block)
            case "blob":
                self._begin(message.blob)
            case "piece":
                self._piece(message.piece)

    def _block(self, content: bytes) -> None:
        try:
            block = blocks.decode_block(content)
        except blocks.BlockError as error:
            raise CorruptError(str(error)) from error
        if block.number != self._blocks:
            raise CorruptError(f"block {block.number} came where block {self._blocks} was due")
        if not self._blocks:
            self._genesis = block.header_hash.hex()
        (self._folder / "blocks" / blocks.block_file_name(block.number)).write_bytes(content)
        self._blocks += 1
        self._tell(len(content))

    def _begin(self, blob: audit_pb2.ExportedBlob) -> None:
        self._finish_blob()
        if not _ADDRESS.fullmatch(blob.address):
            raise CorruptError("a blob came under something that is no address")
        self._file = (self._folder / "blobs" / blob.address).open("xb")
        self._left = blob.size
        self._blobs += 1

    def _piece(self, piece: bytes) -> None:
        if self._file is None or len(piece) > self._left:
            raise CorruptError("more of a blob came than was announced")
        self._file.write(piece)
        self._left -= len(piece)
        self._tell(len(piece))

    def _finish_blob(self) -> None:
        if self._left:
            raise CorruptError("a blob ended before its last byte")
        self.close()

    def _tell(self, count: int) -> None:
        self._bytes += count
        if self._progress is not None:
            self._progress(self._bytes, 0)

    def finish(self) -> Exported:
        """What was written, once all of it was."""
        self._finish_blob()
        return Exported(self._folder, self._blocks, self._blobs, self._genesis)

    def close(self) -> None:
        """Close the open file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class Client:
    """A gateway's client. `async with` or `with` it; or `await aclose()`, `close()`.

    Attributes:
        profile: whose client it is.
        consortium, datasets, access, tokens, jobs, blobs, models, audit: the calls, by subject.
    """

    def __init__(self, profile: Profile, *, timeout: float, limits: Limits, signer: Signer | None) -> None:
        self.profile = profile
        self.portal = Portal()
        self._timeout = timeout
        self._limits = limits
        self._signer = signer
        self._sessions: dict[asyncio.AbstractEventLoop, Session] = {}
        self.consortium = ConsortiumCalls(self)
        self.datasets = DatasetCalls(self)
        self.access = AccessCalls(self)
        self.tokens = TokenCalls(self)
        self.jobs = JobCalls(self)
        self.blobs = BlobCalls(self)
        self.models = ModelCalls(self)
        self.audit = AuditCalls(self)

    def session(self) -> Session:
        """The connection of the event loop that runs now."""
        loop = asyncio.get_running_loop()
        if loop not in self._sessions:
            self._sessions[loop] = Session(
                self.profile, timeout=self._timeout, limits=self._limits, signer=self._signer
            )
        return self._sessions[loop]

    def describe(self) -> Call[Description]:
        """The gateway, and whom it takes the caller for."""

        async def work() -> Description:
            session = self.session()
            stub: Any = gateway_pb2_grpc.GatewayStub(session.channel)  # type: ignore[no-untyped-call]
            return read_description(await session.call(stub.Describe, gateway_pb2.DescribeRequest()))

        return Call(work, self.portal)

    async def aclose(self) -> None:
        """End the connection of this event loop, and whatever blocking calls have started."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """End what blocking calls have started."""
        if self.portal.started:
            self.portal.run(self._close_session)
            self.portal.close()

    async def _close_session(self) -> None:
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(
    profile: Profile | Path | str | None = None,
    *,
    timeout: float = 120.0,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    signer: Signer | None = None,
) -> Client:
    """A client of the gateway that a profile names; it connects with the first call.

    Args:
        profile: a profile's TOML file, or its content; without one, the file that FEDFABRIC_PROFILE names.
        timeout: the longest that one call may take, in seconds; streams take as long as they last.
        limits: bounds on what is taken from the gateway.
        signer: signs instead of the profile's key, which then serves the connection alone.

    Raises:
        ConfigurationError: there is no profile, or it can't be used.
    """
    found = profile if isinstance(profile, Profile) else Profile.find(profile)
    return Client(found, timeout=timeout, limits=limits, signer=signer)
