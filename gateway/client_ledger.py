"""The client's calls about members, data sets, access and tokens."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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
    Grant,
    Mint,
    MintApproval,
    Output,
    Revocation,
)
from . import archives
from .client_calls import Call
from .client_part import Part, make_request
from .client_reports import AccessReport, read_access_report
from .client_session import Asked, Session
from .client_transfers import Progress, upload
from .v1 import (
    access_pb2,
    access_pb2_grpc,
    consortium_pb2,
    consortium_pb2_grpc,
    datasets_pb2,
    datasets_pb2_grpc,
    records_pb2,
    tokens_pb2,
    tokens_pb2_grpc,
)
from .wire import to_message, to_record

__all__ = ["AccessCalls", "ConsortiumCalls", "DatasetCalls", "TokenCalls"]


class ConsortiumCalls(Part):
    """The members' record."""

    def show(self) -> Call[Consortium]:
        """The members as they are."""

        async def work(session: Session) -> Consortium:
            stub: Any = consortium_pb2_grpc.ConsortiumServiceStub(session.channel)  # type: ignore[no-untyped-call]
            return to_record(await session.call(stub.Show, consortium_pb2.ShowConsortiumRequest()), Consortium)

        return self.call(work)

    def approve(self, change: ConsortiumChange) -> Call[ConsortiumApproval]:
        """Approve a change for the own organisation."""
        stub = consortium_pb2_grpc.ConsortiumServiceStub
        return self.write(stub, "Approve", "consortium:approve", lambda: change, ConsortiumApproval)

    def apply(self, change: ConsortiumChange) -> Call[Consortium]:
        """Make a change that enough members have approved the present record."""
        stub = consortium_pb2_grpc.ConsortiumServiceStub
        return self.write(stub, "Apply", "consortium:apply", lambda: change, Consortium)


class DatasetCalls(Part):
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

        return self.call(work)

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
                return lambda: make_request(
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
            return await self.write(stub, "Register", "datasets:register", request(blob), Dataset)

        return self.call(work)

    def update(self, dataset: str, version: int, terms: DatasetTerms) -> Call[Dataset]:
        """Give a data set new terms as version + 1; its bytes may be new ones that were uploaded."""
        return self.write(
            datasets_pb2_grpc.DatasetsStub,
            "Update",
            "datasets:update",
            lambda: make_request(records.UpdateDataset, id=dataset, version=version, terms=terms),
            Dataset,
        )

    def retire(self, dataset: str) -> Call[Dataset]:
        """No new grant, no further round."""
        return self.write(
            datasets_pb2_grpc.DatasetsStub,
            "Retire",
            "datasets:retire",
            lambda: make_request(records.RetireDataset, id=dataset),
            Dataset,
        )

    def show(self, dataset: str) -> Call[Dataset]:
        """One data set, by MSP/name."""

        async def work(session: Session) -> Dataset:
            stub: Any = datasets_pb2_grpc.DatasetsStub(session.channel)  # type: ignore[no-untyped-call]
            request = datasets_pb2.ShowDatasetRequest(id=dataset)
            return to_record(await session.call(stub.Show, request), Dataset)

        return self.call(work)

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

        return self.call(work)


class AccessCalls(Part):
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
        return self.write(
            access_pb2_grpc.AccessStub,
            "Request",
            "access:request",
            lambda: make_request(
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
        return self.write(
            access_pb2_grpc.AccessStub,
            "Grant",
            "access:grant",
            lambda: make_request(records.GrantAccess, id=request, expires_ms=expires_ms),
            Grant,
        )

    def revoke(self, request: str, *, reason: str = "") -> Call[Revocation]:
        """Revoke a grant: no release and no further round under it."""
        return self.write(
            access_pb2_grpc.AccessStub,
            "Revoke",
            "access:revoke",
            lambda: make_request(records.RevokeAccess, id=request, reason=reason),
            Revocation,
        )

    def withdraw(self, request: str) -> Call[AccessRequest]:
        """Take an own request back before it is granted."""
        return self.write(
            access_pb2_grpc.AccessStub,
            "Withdraw",
            "access:withdraw",
            lambda: make_request(records.WithdrawAccess, id=request),
            AccessRequest,
        )

    def show(self, request: str) -> Call[AccessReport]:
        """A request, its grant, its revocation and its uses."""

        async def work(session: Session) -> AccessReport:
            stub: Any = access_pb2_grpc.AccessStub(session.channel)  # type: ignore[no-untyped-call]
            return read_access_report(await session.call(stub.Show, access_pb2.ShowAccessRequest(id=request)))

        return self.call(work)

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

        return self.call(work)


class TokenCalls(Part):
    """Tokens."""

    def approve_mint(self, mint: str, owner: str, amount: str) -> Call[MintApproval]:
        """Approve a mint for the own organisation. Amounts are digits."""
        return self.write(
            tokens_pb2_grpc.TokensStub, "ApproveMint", "tokens:approve", _mint(mint, owner, amount), MintApproval
        )

    def mint(self, mint: str, owner: str, amount: str) -> Call[Mint]:
        """Carry out a mint that a quorum of members has approved in the same words."""
        return self.write(tokens_pb2_grpc.TokensStub, "Mint", "tokens:mint", _mint(mint, owner, amount), Mint)

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

        return self.call(work)

    def balance(self, owner: str = "") -> Call[records.Balance]:
        """An account's total and its largest unspent rows; the organisation's own when none is named."""

        async def work(session: Session) -> records.Balance:
            stub: Any = tokens_pb2_grpc.TokensStub(session.channel)  # type: ignore[no-untyped-call]
            request = tokens_pb2.ShowBalanceRequest(owner=owner)
            return to_record(await session.call(stub.ShowBalance, request), records.Balance)

        return self.call(work)


def _mint(mint: str, owner: str, amount: str) -> Callable[[], records.MintRequest]:
    return lambda: make_request(records.MintRequest, id=mint, owner=owner, amount=amount)
