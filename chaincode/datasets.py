"""The contract ``datasets``: what data exists, under which terms. Only its owner changes a data set's record."""

from .call import Call
from .dispatch import LedgerContract, evaluated, submitted
from .machine import NEW
from .records import (
    Dataset,
    DatasetChanged,
    DatasetPage,
    DatasetState,
    ListRequest,
    RegisterDataset,
    RetireDataset,
    Role,
    ShowDataset,
    UpdateDataset,
    dataset_key,
    refusals,
)
from .states import DATASET


class DatasetsContract(LedgerContract):
    """Registration, new versions and retirement of data sets."""

    name = "datasets"

    @submitted(Role.STEWARD)
    async def register(self, call: Call, request: RegisterDataset) -> Dataset:
        """Register a data set of the caller's organisation as version 1."""
        dataset = f"{call.msp}/{request.name}"
        present = await call.read(dataset_key(dataset), Dataset)
        if present is not None:
            if present.version == 1 and present.terms == request.terms and present.state == DatasetState.ACTIVE:
                return present
            raise refusals.Conflict("name", f"{dataset} is registered already; update it as a new version")
        state = DatasetState(DATASET.next(NEW, "register"))
        record = Dataset(id=dataset, owner=call.msp, version=1, state=state, terms=request.terms)
        await call.write(dataset_key(dataset), record)
        call.emit(DatasetChanged(type="dataset.registered", dataset=dataset, version=1))
        return record

    @submitted(Role.STEWARD)
    async def update(self, call: Call, request: UpdateDataset) -> Dataset:
        """Give a data set new terms as its next version. What names the version before ends with it."""
        present = await _owned(call, request.id)
        if present.version == request.version + 1 and present.terms == request.terms:
            return present
        if present.version != request.version:
            raise refusals.VersionDiffers("version", f"{request.id} has version {present.version}")
        state = DatasetState(DATASET.next(present.state, "update"))
        record = present.model_copy(update={"version": present.version + 1, "state": state, "terms": request.terms})
        await call.write(dataset_key(request.id), record)
        call.emit(DatasetChanged(type="dataset.updated", dataset=request.id, version=record.version))
        return record

    @submitted(Role.STEWARD)
    async def retire(self, call: Call, request: RetireDataset) -> Dataset:
        """End new uses of a data set: no new grant, and no further round with it."""
        present = await _owned(call, request.id)
        if present.state == DatasetState.RETIRED:
            return present
        record = present.model_copy(update={"state": DatasetState(DATASET.next(present.state, "retire"))})
        await call.write(dataset_key(request.id), record)
        call.emit(DatasetChanged(type="dataset.retired", dataset=request.id, version=record.version))
        return record

    @evaluated()
    async def show(self, call: Call, request: ShowDataset) -> Dataset:
        """One data set's record."""
        return await require_dataset(call, request.id, "id")

    @evaluated()
    async def list(self, call: Call, request: ListRequest) -> DatasetPage:
        """Data sets in the order of owner and name."""
        rows, bookmark = await call.page("dataset", [], Dataset, request.limit, request.bookmark)
        return DatasetPage(datasets=rows, bookmark=bookmark)


async def require_dataset(call: Call, dataset: str, field: str) -> Dataset:
    """The data set's record.

    Raises:
        UnknownDataset: there is none.
    """
    record = await call.read(dataset_key(dataset), Dataset)
    if record is None:
        raise refusals.UnknownDataset(field, f"no data set {dataset} is registered")
    return record


async def _owned(call: Call, dataset: str) -> Dataset:
    record = await require_dataset(call, dataset, "id")
    if record.owner != call.msp:
        raise refusals.NotOwner("id", f"{dataset} belongs to {record.owner}")
    return record
