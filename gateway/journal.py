"""What the gateway must not lose: its transactions before they are sent, its updates before their digests are, keys.

Unlike the read model, none of this can be rebuilt from the ledger. Every write is on the disk before the call returns.
"""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from ..chaincode.records import CommitUpdate, Outcome, Record

__all__ = ["Act", "Journal", "StoredAttestation"]

_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE acts (
  name TEXT PRIMARY KEY, tx TEXT NOT NULL, bytes BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE updates (
  job TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, content BLOB NOT NULL,
  PRIMARY KEY (job, round, attempt)
) WITHOUT ROWID;
CREATE TABLE outcomes (
  job TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, content BLOB NOT NULL, verdict BLOB,
  PRIMARY KEY (job, round, attempt)
) WITHOUT ROWID;
CREATE TABLE failures (
  job TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, step TEXT NOT NULL, text TEXT NOT NULL,
  PRIMARY KEY (job, round, attempt, step)
) WITHOUT ROWID;
CREATE TABLE timings (
  job TEXT NOT NULL, round INTEGER NOT NULL, what TEXT NOT NULL, us INTEGER NOT NULL,
  PRIMARY KEY (job, round, what)
) WITHOUT ROWID;
CREATE TABLE data_keys (address TEXT PRIMARY KEY, wrapped BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE uploads (
  id TEXT PRIMARY KEY, account TEXT NOT NULL, kind TEXT NOT NULL, size INTEGER NOT NULL, wrapped BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE made (address TEXT NOT NULL, job TEXT NOT NULL, PRIMARY KEY (address, job)) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Act:
    """A transaction of the gateway's own that may have been sent."""

    name: str
    """What it does, unique: `update JOB ROUND ATTEMPT` and the like."""
    transaction_id: str
    bytes: bytes
    """The signed transaction, to be sent again as it is."""


@dataclass(frozen=True)
class StoredAttestation:
    """What an own evaluation said of an outcome."""

    accept: bool
    samples: int
    metrics: Mapping[str, int]


@dataclass(frozen=True)
class StoredUpload:
    """An upload that was begun."""

    id: str
    account: str
    kind: str
    size: int
    wrapped_key: bytes


class Journal:
    """The journal in one SQLite file, for the event loop's thread.

    Raises:
        sqlite3.Error: the file can't be used, or is of a later version.
    """

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level="IMMEDIATE")
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        version = int(self._database.execute("PRAGMA user_version").fetchone()[0])
        if version > _SCHEMA_VERSION:
            self._database.close()
            raise sqlite3.DatabaseError(f"{path} was written by a later version of fedfabric")
        if version < _SCHEMA_VERSION:
            # In one transaction: a start that is killed leaves an empty file, and not half a schema.
            try:
                self._database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")
            except sqlite3.Error:
                self._database.close()
                raise

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- own transactions

    def act(self, name: str) -> Act | None:
        """The transaction last stored for something, if it has not been settled."""
        row = self._database.execute("SELECT name, tx, bytes FROM acts WHERE name = ?", (name,)).fetchone()
        return None if row is None else Act(*row)

    def store_act(self, act: Act) -> None:
        """Store a transaction before it is sent."""
        with self._database:
            self._database.execute(
                "INSERT OR REPLACE INTO acts VALUES (?, ?, ?)", (act.name, act.transaction_id, act.bytes)
            )

    def settle_act(self, name: str) -> None:
        """Forget a transaction: how it ended is known."""
        with self._database:
            self._database.execute("DELETE FROM acts WHERE name = ?", (name,))

    # -- updates and outcomes

    def update(self, job: str, number: int, attempt: int) -> CommitUpdate | None:
        """The own update of a round, if it was stored."""
        content = self._content("updates", job, number, attempt)
        return None if content is None else CommitUpdate.model_validate_json(content)

    def store_update(self, update: CommitUpdate) -> CommitUpdate:
        """Store the own update of a round, once: the first that was stored is the one that counts.

        Returns:
            the update that is stored.
        """
        self.note_made(update.blob.address, update.job)
        self._store_once("updates", update.job, update.round, update.attempt, update)
        stored = self.update(update.job, update.round, update.attempt)
        return update if stored is None else stored

    def outcome(self, job: str, number: int, attempt: int) -> Outcome | None:
        """What the own aggregation of a round gave, if it was stored."""
        content = self._content("outcomes", job, number, attempt)
        return None if content is None else Outcome.model_validate_json(content)

    def store_outcome(self, job: str, number: int, attempt: int, outcome: Outcome) -> None:
        """Store what the own aggregation of a round gave."""
        for blob in (outcome.model, outcome.state):
            if blob is not None:
                self.note_made(blob.address, job)
        self._store_once("outcomes", job, number, attempt, outcome)

    def note_made(self, address: str, job: str) -> None:
        """Store for which job a blob came into being here; "" for one that own people brought."""
        with self._database:
            self._database.execute("INSERT OR IGNORE INTO made VALUES (?, ?)", (address, job))

    def made_for(self, address: str) -> list[str]:
        """The jobs for which a blob came into being here; empty when it came from others."""
        return [row[0] for row in self._database.execute("SELECT job FROM made WHERE address = ?", (address,))]

    def verdict(self, job: str, number: int, attempt: int) -> StoredAttestation | None:
        """What the own evaluation of a round's outcome said, if it was stored."""
        row = self._database.execute(
            "SELECT verdict FROM outcomes WHERE job = ? AND round = ? AND attempt = ?", (job, number, attempt)
        ).fetchone()
        if row is None or row[0] is None:
            return None
        content = json.loads(row[0])
        return StoredAttestation(content["accept"], content["samples"], content["metrics"])

    def store_verdict(self, job: str, number: int, attempt: int, verdict: StoredAttestation) -> None:
        """Store what the own evaluation said."""
        content = {"accept": verdict.accept, "samples": verdict.samples, "metrics": dict(verdict.metrics)}
        with self._database:
            self._database.execute(
                "UPDATE outcomes SET verdict = ? WHERE job = ? AND round = ? AND attempt = ?",
                (json.dumps(content), job, number, attempt),
            )

    def _content(self, table: str, job: str, number: int, attempt: int) -> bytes | None:
        row = self._database.execute(
            f"SELECT content FROM {table} WHERE job = ? AND round = ? AND attempt = ?",  # noqa: S608 - our own names
            (job, number, attempt),
        ).fetchone()
        return None if row is None else bytes(row[0])

    def _store_once(self, table: str, job: str, number: int, attempt: int, record: Record) -> None:
        with self._database:
            self._database.execute(
                f"INSERT OR IGNORE INTO {table} (job, round, attempt, content) VALUES (?, ?, ?, ?)",  # noqa: S608
                (job, number, attempt, record.canonical()),
            )

    # -- what went wrong, and what took how long

    def failure(self, job: str, number: int, attempt: int, step: str) -> str | None:
        """Why a step of an attempt of a round is not tried again."""
        row = self._database.execute(
            "SELECT text FROM failures WHERE job = ? AND round = ? AND attempt = ? AND step = ?",
            (job, number, attempt, step),
        ).fetchone()
        return None if row is None else str(row[0])

    def failures(self, job: str, number: int, attempt: int) -> Mapping[str, str]:
        """By step, why it is not tried again in an attempt of a round."""
        return dict(
            self._database.execute(
                "SELECT step, text FROM failures WHERE job = ? AND round = ? AND attempt = ?", (job, number, attempt)
            )
        )

    def store_failure(self, job: str, number: int, attempt: int, step: str, text: str) -> None:
        """Give a step of an attempt of a round up."""
        with self._database:
            self._database.execute(
                "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?)", (job, number, attempt, step, text)
            )

    def add_time(self, job: str, number: int, what: str, seconds: float) -> None:
        """Add to the time that a part of a round took."""
        with self._database:
            self._database.execute(
                "INSERT INTO timings VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET us = us + excluded.us",
                (job, number, what, round(seconds * 1e6)),
            )

    def times(self, job: str, number: int) -> Mapping[str, int]:
        """Microseconds by part of a round."""
        return dict(self._database.execute("SELECT what, us FROM timings WHERE job = ? AND round = ?", (job, number)))

    # -- data keys and uploads

    def store_data_key(self, address: str, wrapped: bytes) -> None:
        """Store a data set's own key, wrapped."""
        with self._database:
            self._database.execute("INSERT OR IGNORE INTO data_keys VALUES (?, ?)", (address, wrapped))

    def data_key(self, address: str) -> bytes | None:
        """A data set's own key, wrapped."""
        row = self._database.execute("SELECT wrapped FROM data_keys WHERE address = ?", (address,)).fetchone()
        return None if row is None else bytes(row[0])

    def store_upload(self, upload: StoredUpload) -> None:
        """Store that an upload was begun."""
        with self._database:
            self._database.execute(
                "INSERT INTO uploads VALUES (?, ?, ?, ?, ?)",
                (upload.id, upload.account, upload.kind, upload.size, upload.wrapped_key),
            )

    def upload(self, upload_id: str) -> StoredUpload | None:
        """An upload that was begun."""
        row = self._database.execute(
            "SELECT id, account, kind, size, wrapped FROM uploads WHERE id = ?", (upload_id,)
        ).fetchone()
        return None if row is None else StoredUpload(*row)

    def uploads(self) -> list[StoredUpload]:
        """Every upload that was begun and not finished, oldest ids in no order."""
        return [
            StoredUpload(*row) for row in self._database.execute("SELECT id, account, kind, size, wrapped FROM uploads")
        ]

    def forget_upload(self, upload_id: str) -> None:
        """An upload was finished or given up."""
        with self._database:
            self._database.execute("DELETE FROM uploads WHERE id = ?", (upload_id,))
