"""The chaincode's state, replayed block by block: each row with who wrote it, where, and when.

It lies in a temporary SQLite database that moves to disk when it grows, so an auditor's memory does not grow with the
ledger.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

from pydantic import ValidationError

from ..chaincode.records import Record
from ..fabric.blocks import Version

if TYPE_CHECKING:
    from collections.abc import Iterator

AnyRecord = TypeVar("AnyRecord", bound=Record)

_SCHEMA = """
CREATE TABLE rows (
  key BLOB PRIMARY KEY, value BLOB NOT NULL, block INTEGER NOT NULL, place INTEGER NOT NULL,
  tx TEXT NOT NULL, msp TEXT NOT NULL, role TEXT NOT NULL, function TEXT NOT NULL, time_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE transactions (id TEXT PRIMARY KEY) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Writer:
    """The transaction that wrote a row, and whose certificate signed it."""

    version: Version
    transaction_id: str
    msp: str
    role: str
    """`fedfabric.role` of the certificate."""
    function: str
    """`contract:transaction`."""
    time_ms: int
    """Ledger time, milliseconds since 1970."""

    @property
    def place(self) -> str:
        """Block and transaction, for people."""
        return f"block {self.version.block}, transaction {self.version.transaction}"


@dataclass(frozen=True)
class Row:
    """A row's value and its writer."""

    value: bytes
    writer: Writer


class RecordBrokenError(ValueError):
    """A row holds something else than the record that belongs under its key."""


class State:
    """The rows that valid transactions have left. Use as a context manager."""

    def __init__(self) -> None:
        # An empty name is SQLite's temporary database: in memory while small, then in an unnamed file.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def get(self, key: str) -> Row | None:
        """Return a row, None where there is none."""
        found = self._database.execute("SELECT * FROM rows WHERE key = ?", (key.encode(),)).fetchone()
        if found is None:
            return None
        _, value, block, place, tx, msp, role, function, time_ms = found
        return Row(value, Writer(Version(block, place), tx, msp, role, function, time_ms))

    def value(self, key: str) -> bytes:
        """Return a row's value, b"" where there is none."""
        row = self.get(key)
        return row.value if row else b""

    def record(self, key: str, kind: type[AnyRecord]) -> tuple[AnyRecord, Writer] | None:
        """Return a row's record and its writer, None where there is none.

        Raises:
            RecordBrokenError: the row is not such a record.
        """
        row = self.get(key)
        if row is None:
            return None
        return read_record(row.value, kind), row.writer

    def put(self, key: str, value: bytes, writer: Writer) -> None:
        """Write a row."""
        self._database.execute(
            "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                key.encode(),
                value,
                writer.version.block,
                writer.version.transaction,
                writer.transaction_id,
                writer.msp,
                writer.role,
                writer.function,
                writer.time_ms,
            ),
        )

    def first_use(self, transaction_id: str) -> bool:
        """Note a valid transaction's id; return False where it was used before."""
        cursor = self._database.execute("INSERT OR IGNORE INTO transactions VALUES (?)", (transaction_id,))
        return cursor.rowcount == 1

    def delete(self, key: str) -> None:
        """Delete a row."""
        self._database.execute("DELETE FROM rows WHERE key = ?", (key.encode(),))

    def rows(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Yield keys and values under a prefix, in key order."""
        start = prefix.encode()
        cursor = self._database.execute(
            "SELECT key, value FROM rows WHERE key >= ? AND substr(key, 1, ?) = ? ORDER BY key",
            (start, len(start), start),
        )
        for key, value in cursor:
            yield bytes(key).decode(), value


def read_record(value: bytes, kind: type[AnyRecord]) -> AnyRecord:
    """Read a row's record; its bytes must be the canonical ones.

    Raises:
        RecordBrokenError: it is another record, or none.
    """
    try:
        record = kind.model_validate_json(value)
        canonical = record.canonical()
    except (ValidationError, ValueError) as error:
        raise RecordBrokenError(f"not a {kind.__name__} record") from error
    if canonical != value:
        raise RecordBrokenError(f"a {kind.__name__} record in bytes that are not canonical")
    return record
