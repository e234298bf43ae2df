"""A fake of the peer's side of a transaction: state with versions, simulation, blocks and MVCC validation.

It models what our contracts lean on: reads see the state before the transaction and never its own writes; a block's
transactions are validated in order, and one whose reads are stale is void as a whole; an error response is not
endorsed and writes nothing; evaluate-only transactions can't write; a transaction that writes may not read ranges.
"""

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from types import MappingProxyType

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fedfabric.fabric.identity import ATTRIBUTES_OID, Identity
from fedfabric.fabric.shim import KV, Page, Response, UsageError, create_composite_key

VALID = "VALID"
MVCC_READ_CONFLICT = "MVCC_READ_CONFLICT"

_KEY = ec.generate_private_key(ec.SECP256R1())


@cache
def identity(msp: str, role: str | None = None, name: str = "someone") -> Identity:
    """A certificate as an organisation's CA makes it, self-signed: contracts don't check signatures, peers do."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(_KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2025, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=36500))
    )
    if role is not None:
        attributes = b'{"attrs":{"fedfabric.role":"' + role.encode() + b'"}}'
        builder = builder.add_extension(x509.UnrecognizedExtension(ATTRIBUTES_OID, attributes), critical=False)
    return Identity(msp, builder.sign(_KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


@dataclass
class Endorsed:
    """A simulated transaction: its response, and what it read and would write."""

    tx_id: str
    response: Response
    reads: Mapping[str, int | None]
    writes: Mapping[str, bytes | None]
    event: tuple[str, bytes] | None
    timestamp_ms: int = 0


class FakeStub:
    """The part of the shim's Stub that our contracts use, over a FakeLedger."""

    def __init__(self, ledger: "FakeLedger", tx_id: str, creator: Identity, timestamp_ms: int, args: Sequence[bytes]):
        self.tx_id = tx_id
        self.channel_id = "consortium"
        self.creator = creator
        self.timestamp_ms = timestamp_ms
        self.args = tuple(args)
        self.transient: Mapping[str, bytes] = MappingProxyType({})
        self.msp_id = creator.msp_id
        self.read_only = False
        self.reads: dict[str, int | None] = {}
        self.writes: dict[str, bytes | None] = {}
        self.ranged = False
        self.event: tuple[str, bytes] | None = None
        self._ledger = ledger

    async def get_state(self, key: str) -> bytes:
        value, version = self._ledger.state.get(key, (b"", None))
        self.reads[key] = version
        return value

    async def get_multiple_states(self, keys: Sequence[str]) -> list[bytes]:
        return [await self.get_state(key) for key in keys]

    async def put_state(self, key: str, value: bytes) -> None:
        if not value:
            raise UsageError("an empty value is a deletion")
        self._write(key, value)

    async def del_state(self, key: str) -> None:
        self._write(key, None)

    def _write(self, key: str, value: bytes | None) -> None:
        if self.read_only:
            raise UsageError("an evaluate-only transaction can't write")
        self.writes[key] = value

    async def get_state_by_partial_composite_key(self, kind: str, attributes: Sequence[str]) -> AsyncIterator[KV]:
        for row in self._range(kind, attributes):
            yield row

    async def get_state_by_partial_composite_key_with_pagination(
        self, kind: str, attributes: Sequence[str], page_size: int, bookmark: str
    ) -> Page:
        rows = [row for row in self._range(kind, attributes) if row.key >= bookmark]
        return Page(tuple(rows[:page_size]), rows[page_size].key if len(rows) > page_size else "")

    def _range(self, kind: str, attributes: Sequence[str]) -> list[KV]:
        self.ranged = True
        prefix = create_composite_key(kind, attributes)
        return [KV(key, value) for key, (value, _) in sorted(self._ledger.state.items()) if key.startswith(prefix)]

    def set_event(self, name: str, payload: bytes) -> None:
        self.event = (name, payload)


@dataclass
class FakeLedger:
    """The state of a channel and the blocks that made it."""

    state: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    transactions: int = 0
    version: int = 0
    chain: list[list[tuple[Endorsed, str]]] = field(default_factory=list)

    async def simulate(self, chaincode: object, creator: Identity, timestamp_ms: int, *args: bytes) -> Endorsed:
        """What an endorsing peer does: run the chaincode against the committed state and keep what it touched."""
        self.transactions += 1
        tx_id = hashlib.sha256(f"transaction {self.transactions}".encode()).hexdigest()
        stub = FakeStub(self, tx_id, creator, timestamp_ms, args)
        response = await chaincode.invoke(stub)
        if response.status >= 400:
            return Endorsed(tx_id, response, stub.reads, {}, None)
        assert not (stub.ranged and stub.writes), "a transaction that writes reads by key only"
        return Endorsed(tx_id, response, stub.reads, stub.writes, stub.event, timestamp_ms)

    def commit(self, *endorsed: Endorsed) -> list[str]:
        """Order these transactions as one block; the validation code of each."""
        codes = []
        for one in endorsed:
            assert one.response.status < 400, "only endorsed transactions can be ordered"
            code = VALID if all(self._current(key) == version for key, version in one.reads.items()) else ""
            if code == VALID:
                self.version += 1
                for key, value in one.writes.items():
                    if value is None:
                        self.state.pop(key, None)
                    else:
                        self.state[key] = (value, self.version)
            codes.append(code or MVCC_READ_CONFLICT)
        self.chain.append(list(zip(endorsed, codes, strict=True)))
        return codes

    def _current(self, key: str) -> int | None:
        return self.state.get(key, (b"", None))[1]
