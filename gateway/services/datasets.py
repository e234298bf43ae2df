"""The service Datasets: data sets of the ledger, and the own organisation's bytes."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

from ...chaincode import records
from ...chaincode.records import refusals
from ..parts import Parts
from ..v1 import datasets_pb2, datasets_pb2_grpc, records_pb2, transactions_pb2
from ..wire import to_message, to_record
from .paging import limit_of, page
from .preparing import prepare
from .uploads import Received, receive

NAMES = ("fedfabric.gateway.v1.Datasets",)


class Datasets(datasets_pb2_grpc.DatasetsServicer):
    """Upload, register, update, retire, show, list."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def Upload(  # noqa: N802
        self, requests: AsyncIterator[datasets_pb2.UploadRequest], _: Any
    ) -> AsyncIterator[datasets_pb2.UploadResponse]:
        """Store a data set's bytes under a data key of their own."""
        maximum = self._parts.limits.blob_bytes
        async for answer in receive(self._parts, requests, kinds=frozenset({""}), own_key=True, maximum=maximum):
            yield self._stored(answer) if isinstance(answer, Received) else answer

    def _stored(self, received: Received) -> datasets_pb2.UploadResponse:
        address = received.blob.address
        # The key before the answer: what is registered can be opened.
        self._parts.journal.store_data_key(address, self._parts.secrets.wrap(received.key, address.encode()))
        # The data key is random and destroyed at erasure, which makes it the salt: a digest that nobody can guess at.
        digest = hashlib.sha256(b"dataset\x00" + received.key + bytes.fromhex(address)).hexdigest()
        blob = records_pb2.Blob(address=address, digest=digest, size=received.blob.size)
        return datasets_pb2.UploadResponse(stored=blob)

    async def Register(  # noqa: N802
        self, request: records_pb2.RegisterDataset, _: Any
    ) -> transactions_pb2.PreparedProposal:
        """Prepare a registration."""
        record = to_record(request, records.RegisterDataset)
        self._require_bytes(record.terms)
        return prepare(self._parts, "datasets:register", record)

    async def Update(self, request: records_pb2.UpdateDataset, _: Any) -> transactions_pb2.PreparedProposal:  # noqa: N802
        """Prepare new terms."""
        record = to_record(request, records.UpdateDataset)
        self._require_bytes(record.terms)
        return prepare(self._parts, "datasets:update", record)

    def _require_bytes(self, terms: records.DatasetTerms) -> None:
        if self._parts.journal.data_key(terms.blob.address) is None:
            raise refusals.InvalidField("terms.blob", "these bytes are not in this gateway's store; upload them first")

    async def Retire(self, request: records_pb2.RetireDataset, _: Any) -> transactions_pb2.PreparedProposal:  # noqa: N802
        """Prepare the end of a data set's uses."""
        return prepare(self._parts, "datasets:retire", to_record(request, records.RetireDataset))

    async def Show(self, request: datasets_pb2.ShowDatasetRequest, _: Any) -> records_pb2.Dataset:  # noqa: N802
        """One data set."""
        found = self._parts.model.dataset(request.id)
        if found is None:
            raise refusals.UnknownDataset("id", f"no data set {records.printable(request.id)} is registered")
        return to_message(found, records_pb2.Dataset)

    async def List(  # noqa: N802
        self, request: datasets_pb2.ListDatasetsRequest, _: Any
    ) -> datasets_pb2.ListDatasetsResponse:
        """A page of data sets."""
        limit = limit_of(request.limit, self._parts.limits)
        found, after = self._parts.model.datasets(request.query, request.after, limit, retired=request.retired)
        rows, after = page(found, after, records_pb2.Dataset, self._parts.limits)
        return datasets_pb2.ListDatasetsResponse(datasets=rows, next=after)


def add(server: Any, parts: Parts) -> None:
    """Add the service to a server."""
    datasets_pb2_grpc.add_DatasetsServicer_to_server(Datasets(parts), server)  # type: ignore[no-untyped-call]
