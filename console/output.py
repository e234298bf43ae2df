"""How commands print on standard output: text for people, or one JSON document for programs."""

import contextlib
import dataclasses
import errno
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pydantic
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text


class Format(StrEnum):
    """What a command's standard output is."""

    TEXT = "text"
    JSON = "json"


WIDTH_OF_FILES = 240


class Lines(Console):
    """A console that says when nobody reads any more, where rich ends the process by itself."""

    def on_broken_pipe(self) -> None:
        """Raise what rich caught."""
        raise BrokenPipeError(errno.EPIPE, "nobody reads the output any more")


@dataclasses.dataclass
class _Chosen:
    format: Format = Format.TEXT


chosen = _Chosen()  # one command per process; failures that come before a command runs need it too


def _choose(value: Format) -> Format:
    chosen.format = value
    return value


Output = Annotated[
    Format,
    typer.Option(
        "--output",
        "-o",
        envvar="FEDFABRIC_OUTPUT",
        callback=_choose,
        is_eager=True,
        help="text for people, json for programs (one document; failures go to standard error as JSON too).",
    ),
]


def plain(value: Any) -> Any:  # noqa: PLR0911  one return for each kind
    """Any record of ours as JSON knows it: models, data classes, paths, bytes (hex), mappings and sequences."""
    if isinstance(value, pydantic.BaseModel):
        return plain(value.model_dump(mode="json"))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value


def say(line: str = "") -> None:
    """A line of prose for people, left out of JSON output."""
    if chosen.format is Format.TEXT:
        _console().print(Text(printable(line)), soft_wrap=True)


def printable(text: str) -> str:
    """Text without what moves a cursor or reorders letters: much of it was written by other organisations."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)


def note(line: str) -> None:
    """Progress for people, on standard error so that it never mixes with a result."""
    if chosen.format is Format.TEXT:
        Lines(file=sys.stderr, highlight=False).print(Text(printable(line), style="dim"), soft_wrap=True)


def warn(code: str, what: str, *, remedy: str) -> None:
    """Something to know beside the result, on standard error in either format; codes are in ``exit_codes``."""
    if chosen.format is Format.JSON:
        told = {"warning": {"code": code, "what": what, "remedy": remedy}}
        sys.stderr.write(json.dumps(told, ensure_ascii=False) + "\n")
        return
    console = Lines(file=sys.stderr, highlight=False)
    console.print(Text.assemble(("warning: ", "bold yellow"), printable(f"{what} [{code}]")), soft_wrap=True)
    console.print(Text(f"  to do: {printable(remedy)}"), soft_wrap=True)


@contextlib.contextmanager
def progress(doing: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for work on bytes that may take long, told how many are done of how many (0: not known).

    It is drawn on a terminal alone, on standard error, and gone afterwards.
    """
    if chosen.format is Format.JSON or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task(doing, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


def working(doing: str) -> contextlib.AbstractContextManager[object]:
    """A sign of life for work whose length is not known, on a terminal alone."""
    if chosen.format is Format.JSON or not sys.stderr.isatty():
        return contextlib.nullcontext()
    return Console(file=sys.stderr).status(doing)


def show_line(value: Any) -> None:
    """One record of a stream as one line of JSON (only with ``--output json``)."""
    sys.stdout.write(json.dumps(plain(value), ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def show(value: Any, *, title: str = "") -> None:
    """One record: as JSON, or as aligned ``name: value`` lines."""
    value = plain(value)
    if chosen.format is Format.JSON:
        _json(value)
        return
    if title:
        say(title)
    _lines(value, "")


def _lines(value: Mapping[str, Any], indent: str) -> None:
    """Aligned ``name: value`` lines; a record within a record is indented below its name."""
    width = max((len(name) for name in value), default=0)
    for name, item in value.items():
        label = name.replace("_", " ")
        if isinstance(item, dict) and item:
            say(f"{indent}{label}")
            _lines(item, indent + "  ")
        else:
            say(f"{indent}{label:<{width}}  {_cell(item)}".rstrip())


def show_rows(
    records: Sequence[Any],
    columns: Sequence[str],
    *,
    empty: str,
    row: Callable[[Any], Mapping[str, Any]] = plain,
) -> None:
    """Records: a JSON array with every field, or a table of ``columns``.

    Args:
        records: as the ledger or a room has them.
        columns: names in what ``row`` gives.
        empty: what no record means, in words.
        row: a record's cells by column; its own fields by default.
    """
    if chosen.format is Format.JSON:
        _json(plain(records))
        return
    rows = [row(record) for record in records]
    if not rows:
        say(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for cells in rows:
        table.add_row(*(Text(printable(_cell(cells.get(column, "")))) for column in columns))
    _console().print(table)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and all(isinstance(item, str | int) for item in value):
        return ", ".join(map(str, value))
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else str(value)


def _json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
    sys.stdout.flush()


def _console() -> Console:
    # A table in a file or a pipe has no edge to be folded at.
    width = None if sys.stdout.isatty() else WIDTH_OF_FILES
    return Lines(file=sys.stdout, highlight=False, width=width)
