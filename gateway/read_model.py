"""The ledger as this gateway lists and searches it: SQLite, built from blocks, rebuilt from block 0 at will.

A block's rows and the checkpoint commit together, so that a crash leaves the state after one whole block. Rows are the
ledger's own records under the parts of their keys; beside them stand the words of the catalogue, the times at which
rounds changed their state, and the envelopes that the own organisation's certificates signed, as evidence for
`consent`: by what they wrote, and those that take something away by what they say, whatever was written.
"""

import json
import re
import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self, TypeVar

from fabric_protos.common import configtx_pb2
from pydantic import ValidationError

from ..chaincode.records import (
    AccessRequest,
    Attestation,
    Consortium,
    Dataset,
    DatasetState,
    Decision,
    Grant,
    Job,
    Missing,
    Record,
    Revocation,
    Round,
    Token,
    Update,
    Use,
    access_grant_key,
    access_request_key,
    access_revocation_key,
    attestation_key,
    consortium_key,
    dataset_key,
    job_key,
    round_key,
    update_key,
)
from .blocks import LedgerBlock, LedgerTransaction

__all__ = ["Applied", "OtherChannelError", "ReadModel", "RoundTimes"]

AnyRecord = TypeVar("AnyRecord", bound=Record)

_SCHEMA_VERSION: Final = 6
_SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE rows (
  key BLOB PRIMARY KEY, kind TEXT NOT NULL, a TEXT NOT NULL, b TEXT NOT NULL, c TEXT NOT NULL,
  value BLOB NOT NULL, block INTEGER NOT NULL, tx TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX rows_by_kind ON rows (kind, a, b, c);
CREATE TABLE signed (key BLOB PRIMARY KEY, envelope BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE taken_away (
  function TEXT NOT NULL, subject TEXT NOT NULL, PRIMARY KEY (function, subject)
) WITHOUT ROWID;
CREATE TABLE round_times (
  job TEXT NOT NULL, round INTEGER NOT NULL, state TEXT NOT NULL, ms INTEGER NOT NULL, block INTEGER NOT NULL,
  PRIMARY KEY (job, round, state)
) WITHOUT ROWID;
CREATE TABLE blobs (
  address TEXT NOT NULL, job TEXT NOT NULL, own INTEGER NOT NULL, PRIMARY KEY (address, job)
) WITHOUT ROWID;
CREATE TABLE open_jobs (key BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE VIRTUAL TABLE catalogue USING fts5 (id UNINDEXED, words);
"""

_SIGNED_KINDS: Final = frozenset({"job-decision", "access-grant", "dataset"})
_TAKES_AWAY: Final[Mapping[str, tuple[str, ...]]] = {
    "access:revoke": ("id",),
    "datasets:retire": ("id",),
    "datasets:update": ("id", "version"),
    "training:refuse": ("job",),
}
"""What ends the own organisation's consent, and the fields of the argument that say to what."""
_OWN_WORDS: Final = frozenset({"update", "attestation"})
"""Rows in which a member names what it has made itself."""
_JOB_KINDS: Final = frozenset({"job", "job-decision", "round", "update", "missing", "attestation"})
_WORD: Final = re.compile(r"\w+")
_ADDRESS: Final = re.compile(rb'"address":"([0-9a-f]{64})"')


class OtherChannelError(Exception):
    """The state folder was filled from another channel than the peer's blocks come from."""


@dataclass(frozen=True)
class Applied:
    """What a block changed."""

    number: int
    jobs: frozenset[str]
    consortium: bool
    configuration: configtx_pb2.Config | None


@dataclass(frozen=True)
class RoundTimes:
    """The ledger's times (ms since 1970) at which a round came into its states; 0: not yet."""

    opened_ms: int = 0
    closed_ms: int = 0
    ended_ms: int = 0


@dataclass
class _Changes:
    jobs: set[str] = field(default_factory=set)
    consortium: bool = False


class ReadModel:
    """The read model in one SQLite file.

    `apply` may run in a thread; everything else is for the event loop's thread, and takes well under a millisecond
    for one record.

    Raises:
        sqlite3.Error: the file can't be used.
    """

    def __init__(self, path: Path, msp_id: str) -> None:
        self._path = path
        self._msp_id = msp_id
        self._writing = threading.Lock()
        self._writer = _connect(path)
        if self._version() != _SCHEMA_VERSION:
            self._rebuild()
        self._reader = _connect(path)
        self._reader.execute("PRAGMA query_only = 1")

    def _version(self) -> int:
        return int(self._writer.execute("PRAGMA user_version").fetchone()[0])

    def _rebuild(self) -> None:
        """An older version's file holds nothing that the blocks don't: begin anew."""
        tables = [
            row[0]
            for row in self._writer.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if not row[0].startswith(("sqlite_", "catalogue_"))
        ]
        with self._writer:
            for table in tables:
                self._writer.execute(f'DROP TABLE "{table}"')
        self._writer.executescript(_SCHEMA + f"PRAGMA user_version = {_SCHEMA_VERSION};")

    def close(self) -> None:
        """Close the file."""
        self._reader.close()
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- from blocks to rows

    def apply(self, block: LedgerBlock) -> Applied | None:
        """Take a block in; None when it was taken in before (delivery is at least once).

        Raises:
            OtherChannelError: the block does not follow the last one.
        """
        with self._writing, self._writer as database:
            expected = _next_block(database)
            if block.number < expected:
                return None
            last = _meta(database, "last_hash")
            if block.number > expected or (last is not None and last != block.previous_hash):
                raise OtherChannelError(
                    f"block {block.number} does not follow block {expected - 1} in {self._path.parent}: that folder "
                    "belongs to another channel, or to one that was made anew; give the gateway a new state folder"
                )
            changes = _Changes()
            for transaction in block.transactions:
                self._apply_transaction(database, block.number, transaction, changes)
            values: dict[str, bytes] = {"last_hash": block.hash, "next_block": str(block.number + 1).encode()}
            if block.number == 0:
                values["genesis_hash"] = block.hash
            if block.transactions:
                values["time_ms"] = str(max(one.timestamp_ms for one in block.transactions)).encode()
            if block.configuration is not None:
                values["configuration"] = block.configuration.SerializeToString()
            database.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())
        return Applied(block.number, frozenset(changes.jobs), changes.consortium, block.configuration)

    def _apply_transaction(
        self, database: sqlite3.Connection, block: int, transaction: LedgerTransaction, changes: _Changes
    ) -> None:
        own = transaction.creator.msp_id == self._msp_id
        if own:
            _note_taken_away(database, transaction)
        for write in transaction.writes:
            try:
                kind, attributes = _split(write.key)
            except ValueError:
                continue  # not a key of our contracts; nothing of ours reads it
            key = write.key.encode("utf-8", "surrogatepass")
            if write.value is None:
                database.execute("DELETE FROM rows WHERE key = ?", (key,))
                continue
            a, b, c = (*attributes, "", "", "")[:3]
            database.execute(
                "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (key, kind, a, b, c, write.value, block, transaction.id),
            )
            if own and kind in _SIGNED_KINDS:
                database.execute("INSERT OR REPLACE INTO signed VALUES (?, ?)", (key, transaction.envelope))
            if kind in _JOB_KINDS:
                changes.jobs.add(a)
                found = _ADDRESS.findall(write.value)
                database.executemany(
                    "INSERT INTO blobs VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET own = max(own, excluded.own)",
                    [(address.decode(), a, own and kind in _OWN_WORDS) for address in found],
                )
            if kind == "consortium":
                changes.consortium = True
            if kind == "job":
                self._note_open(database, key, write.value)
            _note_besides(database, kind, write.value, transaction.timestamp_ms, block)

    def _note_open(self, database: sqlite3.Connection, key: bytes, value: bytes) -> None:
        """Keep at hand in which jobs the own organisation may have something to do: others' may be many."""
        job, me = _parsed(value, Job), self._msp_id
        if (
            job is not None
            and not job.state.ended
            and (job.terms.submitter == me or any(owner.msp == me for owner in job.owners))
        ):
            database.execute("INSERT OR IGNORE INTO open_jobs VALUES (?)", (key,))
        else:
            database.execute("DELETE FROM open_jobs WHERE key = ?", (key,))

    @property
    def position(self) -> int:
        """The number of the next block wanted."""
        return _next_block(self._reader)

    @property
    def genesis_hash(self) -> str:
        """SHA-256 of the genesis block's header, hexadecimal; "" before it was seen."""
        return (_meta(self._reader, "genesis_hash") or b"").hex()

    @property
    def time_ms(self) -> int:
        """The ledger's time (ms since 1970) of the last transaction taken in; 0 before any."""
        return int(_meta(self._reader, "time_ms") or b"0")

    def configuration(self) -> configtx_pb2.Config | None:
        """The channel's latest configuration, None before any block."""
        found = _meta(self._reader, "configuration")
        return None if found is None else configtx_pb2.Config.FromString(found)

    # -- single records

    def get(self, key: str, record: type[AnyRecord]) -> AnyRecord | None:
        """The record under a key."""
        row = self._reader.execute("SELECT value FROM rows WHERE key = ?", (key.encode(),)).fetchone()
        return None if row is None else _parsed(row[0], record)

    def _all(self, record: type[AnyRecord], kind: str, *attributes: str) -> list[AnyRecord]:
        names = "abc"[: len(attributes)]
        where = "".join(f" AND {name} = ?" for name in names)
        rows = self._reader.execute(
            f"SELECT value FROM rows WHERE kind = ?{where} ORDER BY kind, a, b, c, key",  # noqa: S608 - names are a, b, c
            (kind, *attributes),
        )
        return [read for (value,) in rows if (read := _parsed(value, record)) is not None]

    def consortium(self) -> Consortium | None:
        """The members' record."""
        return self.get(consortium_key(), Consortium)

    def dataset(self, dataset: str) -> Dataset | None:
        """A data set's record."""
        return self.get(dataset_key(dataset), Dataset) if "/" in dataset else None

    def request(self, request: str) -> AccessRequest | None:
        """An access request's record."""
        return self.get(access_request_key(request), AccessRequest)

    def grant(self, request: str, owner: str) -> Grant | None:
        """An owner's grant."""
        return self.get(access_grant_key(request, owner), Grant)

    def revocation(self, request: str, owner: str) -> Revocation | None:
        """An owner's revocation."""
        return self.get(access_revocation_key(request, owner), Revocation)

    def uses(self, request: str) -> list[Use]:
        """The recorded uses of a grant."""
        return self._all(Use, "access-use", request)

    def job(self, job: str) -> Job | None:
        """A job's record."""
        return self.get(job_key(job), Job)

    def decisions(self, job: str) -> list[Decision]:
        """All decisions on a job, by MSP id."""
        return self._all(Decision, "job-decision", job)

    def round(self, job: str, number: int) -> Round | None:
        """A round's record."""
        return self.get(round_key(job, number), Round)

    def rounds(self, job: str, first: int = 0) -> list[Round]:
        """A job's rounds from one on, in order."""
        rows = self._reader.execute(
            "SELECT value FROM rows WHERE kind = 'round' AND a = ? AND b >= ? ORDER BY b", (job, f"{max(0, first):06d}")
        )
        return [read for (value,) in rows if (read := _parsed(value, Round)) is not None]

    def update(self, job: str, number: int, msp: str) -> Update | None:
        """One member's update."""
        return self.get(update_key(job, number, msp), Update)

    def updates(self, job: str, number: int) -> list[Update]:
        """A round's updates, by MSP id."""
        return self._all(Update, "update", job, f"{number:06d}")

    def attestation(self, job: str, number: int, attempt: int, msp: str) -> Attestation | None:
        """One member's attestation in an attempt of a round."""
        return self.get(attestation_key(job, number, attempt, msp), Attestation)

    def attestations(self, job: str, number: int, attempt: int) -> list[Attestation]:
        """The attestations of an attempt of a round, by MSP id."""
        return self._all(Attestation, "attestation", job, f"{number:06d}", f"{attempt:04d}")

    def missing(self, job: str, number: int, attempt: int) -> list[Missing]:
        """What members can't get in an attempt of a round, by MSP id."""
        return self._all(Missing, "missing", job, f"{number:06d}", f"{attempt:04d}")

    def tokens(self, owner: str) -> list[Token]:
        """An owner's unspent rows."""
        return self._all(Token, "token", owner)

    def round_times(self, job: str, number: int) -> RoundTimes:
        """When a round changed its state."""
        rows = dict(
            self._reader.execute("SELECT state, ms FROM round_times WHERE job = ? AND round = ?", (job, number))
        )
        return RoundTimes(rows.get("open", 0), rows.get("closed", 0), rows.get("final", 0) or rows.get("aborted", 0))

    def last_block_of(self, job: str) -> int:
        """The number of the last block that wrote a row of a job; -1 when none did."""
        row = self._reader.execute(
            "SELECT max(block) FROM rows WHERE a = ? AND "
            "kind IN ('job','job-decision','round','update','missing','attestation')",
            (job,),
        ).fetchone()
        return -1 if row[0] is None else int(row[0])

    # -- lists

    def datasets(self, query: str, after: str, limit: int, *, retired: bool) -> tuple[list[Dataset], str]:
        """A page of data sets in the order of their ids, and where the next one begins ("" when there is none)."""
        words = _WORD.findall(query)
        found = self._matching(words) if words else None
        everything = (dataset for dataset in self._all(Dataset, "dataset") if found is None or dataset.id in found)
        wanted = (dataset for dataset in everything if retired or dataset.state is DatasetState.ACTIVE)
        return _page(sorted(wanted, key=lambda dataset: dataset.id), after, limit)

    def _matching(self, words: Sequence[str]) -> set[str]:
        # Quoted, so that a caller's words can't be operators of the search language.
        expression = " AND ".join(f'"{word}"*' for word in words[:16])
        rows = self._reader.execute("SELECT id FROM catalogue WHERE words MATCH ?", (expression,))
        return {row[0] for row in rows}

    def requests(self, dataset: str, state: str, after: str, limit: int) -> tuple[list[AccessRequest], str]:
        """A page of access requests in the order of their ids."""
        wanted = [
            request
            for request in self._all(AccessRequest, "access-request")
            if dataset in {"", request.dataset} and state in {"", request.state.value}
        ]
        return _page(wanted, after, limit)

    def jobs(self, state: str, after: str, limit: int) -> tuple[list[Job], str]:
        """A page of jobs in the order of their ids."""
        return _page([job for job in self._all(Job, "job") if state in {"", job.state.value}], after, limit)

    def own_open_jobs(self) -> list[Job]:
        """The jobs that the own organisation submitted or is asked for data by, and in which something can happen."""
        rows = self._reader.execute("SELECT value FROM open_jobs JOIN rows USING (key) ORDER BY key")
        return [read for (value,) in rows if (read := _parsed(value, Job)) is not None]

    def ended_jobs(self) -> list[Job]:
        """The jobs in which nothing can happen any more."""
        return [job for job in self._all(Job, "job") if job.state.ended]

    def signed(self, key: str) -> bytes | None:
        """The envelope by which a certificate of the own organisation wrote a key, as it stands in its block."""
        row = self._reader.execute("SELECT envelope FROM signed WHERE key = ?", (key.encode(),)).fetchone()
        return None if row is None else bytes(row[0])

    def takes_away(self, function: str, *subject: object) -> bool:
        """Whether a certificate of the own organisation has signed one of these, whatever the ledger made of it.

        `access:revoke` of a request, `training:refuse` of a job, `datasets:retire` of a data set, `datasets:update` of
        a data set's version.
        """
        found = self._reader.execute(
            "SELECT 1 FROM taken_away WHERE function = ? AND subject = ?", (function, " ".join(map(str, subject)))
        )
        return found.fetchone() is not None

    def jobs_with_blob(self, address: str) -> list[str]:
        """The jobs whose records name a blob: plan, models, states, updates."""
        rows = self._reader.execute("SELECT job FROM blobs WHERE address = ?", (address,))
        return [row[0] for row in rows]

    def jobs_vouched_for(self, address: str) -> list[str]:
        """The jobs for which the own organisation has said that a blob is theirs.

        It has committed it as its update there, attested it, or submitted the job with it as plan or initial model.
        """
        rows = self._reader.execute("SELECT job, own FROM blobs WHERE address = ?", (address,)).fetchall()
        return [job for job, own in rows if own or self._submitted_with(job, address)]

    def _submitted_with(self, job_id: str, address: str) -> bool:
        job = self.job(job_id)
        if job is None or job.terms.submitter != self._msp_id:
            return False
        return address in {job.terms.plan.bundle.address, job.terms.plan.model.address}


def _split(key: str) -> tuple[str, list[str]]:
    """Kind and attributes of one of Fabric's composite keys."""
    if not (key.startswith("\x00") and key.endswith("\x00") and len(key) > 2):
        raise ValueError("not a composite key")
    kind, *attributes = key[1:-1].split("\x00")
    return kind, attributes


def _note_taken_away(database: sqlite3.Connection, transaction: LedgerTransaction) -> None:
    fields = _TAKES_AWAY.get(transaction.function, ())
    if not fields or len(transaction.arguments) < 2:
        return
    try:
        argument = json.loads(transaction.arguments[1])
        subject = " ".join(str(argument[field]) for field in fields)
        subject.encode()
    except (ValueError, TypeError, KeyError, RecursionError):
        return  # nothing that a client of ours signs
    database.execute("INSERT OR IGNORE INTO taken_away VALUES (?, ?)", (transaction.function, subject))


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level="IMMEDIATE")
    connection.execute("PRAGMA journal_mode = WAL")
    # The checkpoint is in the same file: what a power cut takes away is read from the peer again.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA busy_timeout = 5000")
    return connection


def _meta(database: sqlite3.Connection, name: str) -> bytes | None:
    with closing(database.execute("SELECT value FROM meta WHERE name = ?", (name,))) as cursor:
        row = cursor.fetchone()
    return None if row is None else bytes(row[0])


def _next_block(database: sqlite3.Connection) -> int:
    return int(_meta(database, "next_block") or b"0")


def _parsed(value: bytes, record: type[AnyRecord]) -> AnyRecord | None:
    try:
        return record.model_validate_json(value)
    except ValidationError:
        # A later version's record: this gateway does not act on what it can't read.
        return None


def _note_besides(database: sqlite3.Connection, kind: str, value: bytes, timestamp_ms: int, block: int) -> None:
    if kind == "dataset":
        _index(database, value)
    if kind == "round":
        _note_time(database, value, timestamp_ms, block)


def _index(database: sqlite3.Connection, value: bytes) -> None:
    dataset = _parsed(value, Dataset)
    if dataset is None:
        return
    terms = dataset.terms
    words: Iterable[str] = (
        dataset.id,
        terms.title,
        terms.description,
        *(column.name for column in terms.columns),
        *terms.purposes,
    )
    database.execute("DELETE FROM catalogue WHERE id = ?", (dataset.id,))
    database.execute("INSERT INTO catalogue VALUES (?, ?)", (dataset.id, " ".join(words)))


def _note_time(database: sqlite3.Connection, value: bytes, timestamp_ms: int, block: int) -> None:
    found = _parsed(value, Round)
    if found is not None:
        database.execute(
            "INSERT OR IGNORE INTO round_times VALUES (?, ?, ?, ?, ?)",
            (found.job, found.number, found.state.value, timestamp_ms, block),
        )


AnyListed = TypeVar("AnyListed", Dataset, AccessRequest, Job)


def _page(rows: Sequence[AnyListed], after: str, limit: int) -> tuple[list[AnyListed], str]:
    start = 0
    if after:
        start = next((index for index, row in enumerate(rows) if row.id > after), len(rows))
    page = list(rows[start : start + limit])
    return page, page[-1].id if start + limit < len(rows) and page else ""


def metrics_of(attestations: Iterable[Attestation]) -> Mapping[str, int]:
    """The accepted attestations' metrics, weighted by the samples of their hold-outs (units of 1e-6)."""
    sums: dict[str, int] = {}
    weights: dict[str, int] = {}
    for attestation in attestations:
        if attestation.accept and attestation.samples:
            for name, value in attestation.metrics.items():
                sums[name] = sums.get(name, 0) + value * attestation.samples
                weights[name] = weights.get(name, 0) + attestation.samples
    return {name: round(total / weights[name]) for name, total in sorted(sums.items())}
