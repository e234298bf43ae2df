"""Lists, which are evaluated page by page and never submitted."""

from typing import Annotated

from pydantic import Field, StringConstraints

from .access import AccessRequest
from .canonical import Record
from .datasets import Dataset
from .training import Job


class ListRequest(Record):
    """Request of ``datasets:list``, ``access:list`` and ``training:list``."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    bookmark: Annotated[str, StringConstraints(max_length=1000)] = ""
    """That of the page before; "" for the first."""


class DatasetPage(Record):
    """Answer of ``datasets:list``; bookmark "" says that no page follows."""

    datasets: tuple[Dataset, ...]
    bookmark: str


class AccessPage(Record):
    """Answer of ``access:list``."""

    requests: tuple[AccessRequest, ...]
    bookmark: str


class JobPage(Record):
    """Answer of ``training:list``."""

    jobs: tuple[Job, ...]
    bookmark: str
