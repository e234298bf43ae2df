"""Registered data sets."""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .canonical import Record
from .fields import AmountOrZero, Blob, DatasetId, Id, Line, MspId, Positive, Samples, Text
from .patterns import matching


class DatasetState(StrEnum):
    """Whether a data set may be used in new work."""

    ACTIVE = "active"
    RETIRED = "retired"


class Column(Record):
    """A column of a data set's schema."""

    name: Annotated[
        str, matching("[A-Za-z_][A-Za-z0-9_.-]{0,63}", 64, "a column's name: letters, digits, '_', '.' and '-'")
    ]
    type: Id


class DatasetTerms(Record):
    """What the owner says of a data set."""

    title: Line
    description: Text = ""
    blob: Blob
    """The encrypted bytes in the owner's store; ``digest`` is of the plaintext, salted."""
    columns: Annotated[tuple[Column, ...], Field(max_length=512)] = ()
    """The schema."""
    samples: Samples
    """Rows that an update may at most claim to have trained on."""
    licence: Annotated[Line, Field(min_length=1)]
    purposes: Annotated[tuple[Id, ...], Field(min_length=1, max_length=32)]
    """What the data may be used for; ``training`` is what a job asks."""
    retention_days: Annotated[int, Field(ge=0, le=36_525)] = 0
    """How long a holder may keep it, 0 for no bound."""
    jurisdiction: Annotated[str, matching("[A-Z]{2}(-[A-Z0-9]{1,3})?", 6, "an ISO 3166 code, like CH or US-CA")]
    """ISO 3166 code."""
    price: AmountOrZero = "0"
    """What a request for access puts into escrow for the owner."""

    @model_validator(mode="after")
    def _unique(self) -> Self:
        if len(set(self.purposes)) != len(self.purposes):
            raise ValueError("purposes names one twice")
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError("columns names one twice")
        return self


class RegisterDataset(Record):
    """Request of ``datasets:register``; the owner is the caller's organisation."""

    name: Id
    terms: DatasetTerms


class UpdateDataset(Record):
    """Request of ``datasets:update``: new terms, as version ``version`` + 1."""

    id: DatasetId
    version: Positive
    """The version that the caller saw."""
    terms: DatasetTerms


class RetireDataset(Record):
    """Request of ``datasets:retire``: no new grant, no further round."""

    id: DatasetId


class ShowDataset(Record):
    """Request of ``datasets:show``."""

    id: DatasetId


class Dataset(Record):
    """The state record of a data set."""

    v: Literal[1] = 1
    id: DatasetId
    owner: MspId
    version: Positive
    state: DatasetState
    terms: DatasetTerms
