"""Blocks, decoded: headers and their hashes, orderers' signatures, transactions down to what they read and wrote.

A block is what orderers signed; what stands in a transaction is whatever a client with write access sent. So a block
that breaks the format raises, while a transaction that breaks it is kept with its flaw: Fabric orders such
transactions too, and marks them invalid.

Source: Fabric's `protoutil/blockutils.go` (hashes, signatures) and fabric-protos `common/common.proto`,
`peer/transaction.proto`, `ledger/rwset/kvrwset/kv_rwset.proto`.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from fabric_protos.common import common_pb2, configtx_pb2
from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fabric_protos.peer import (
    chaincode_event_pb2,
    chaincode_pb2,
    proposal_pb2,
    proposal_response_pb2,
    transaction_pb2,
)
from google.protobuf.message import DecodeError, Message

from .identity import Identity, InvalidIdentityError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_M = TypeVar("_M", bound=Message)

VALID: Final = 0
"""The validation code of a transaction whose writes hold."""
NOT_VALIDATED: Final = 254
"""The code where the block carries no flag, as blocks straight from an orderer do."""

_FILE_NAME: Final = re.compile(r"(\d{8,20})\.block")
_HASH_BYTES: Final = 32


class BlockError(ValueError):
    """A block that breaks the format. The text names block, transaction and field.

    Attributes:
        block: the block's number, None where it could not be read.
    """

    def __init__(self, text: str, block: int | None = None) -> None:
        super().__init__(text)
        self.block = block


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that is decoded; what exceeds it is refused before anything is built from it.

    How deep messages lie in each other is bounded by protobuf itself: what nests more than 100 deep is not readable.
    """

    block_bytes: int = 100 * 1024 * 1024
    """Fabric's own bound on a message."""
    transactions: int = 20_000
    """Of one block."""
    parts: int = 2_000_000
    """Arguments, endorsements, namespaces, collections, reads, writes and queries of one block."""
    endorsements: int = 1024
    """Of one transaction."""
    entries: int = 200_000
    """Reads, writes and queries of one transaction, over all namespaces."""
    orderer_signatures: int = 1024
    """Of one block."""


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Version:
    """Where a value was written: block and place of the transaction in it."""

    block: int
    transaction: int


@dataclass(frozen=True, slots=True)
class Read:
    """A key that was read, and the version found; None where there was no value."""

    key: str
    version: Version | None


@dataclass(frozen=True, slots=True)
class Write:
    """A key that was written; `value` is b"" where it was deleted."""

    key: str
    value: bytes
    is_delete: bool


@dataclass(frozen=True, slots=True)
class HashedWrite:
    """A private value that was written, as everybody sees it: SHA-256 of key and of value."""

    key_hash: bytes
    value_hash: bytes
    is_delete: bool
    is_purge: bool


@dataclass(frozen=True, slots=True)
class CollectionWrites:
    """What a transaction wrote into a private data collection."""

    collection: str
    writes: tuple[HashedWrite, ...]


@dataclass(frozen=True, slots=True)
class NamespaceAccess:
    """What a transaction read and wrote in one chaincode's namespace."""

    namespace: str
    reads: tuple[Read, ...]
    writes: tuple[Write, ...]
    range_queries: int
    policy_writes: tuple[str, ...]
    """Keys whose endorsement policy was written."""
    collections: tuple[CollectionWrites, ...]


@dataclass(frozen=True, slots=True)
class Endorsement:
    """One peer's signature over the result and its own identity."""

    endorser: Identity
    endorser_bytes: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class ChaincodeEvent:
    """The event that a transaction set."""

    chaincode: str
    transaction_id: str
    name: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Action:
    """What an endorser transaction did: what was called, what it answered, what it read and wrote, who endorsed it."""

    chaincode: str
    arguments: tuple[bytes, ...]
    status: int
    message: str
    payload: bytes
    """The chaincode's answer."""
    accesses: tuple[NamespaceAccess, ...]
    event: ChaincodeEvent | None
    endorsements: tuple[Endorsement, ...]
    result: bytes
    """What endorsers signed, before their own identity."""
    proposal_hash: bytes
    """What the result says it answers."""
    expected_proposal_hash: bytes
    """The hash of this transaction's own headers and input."""

    def access(self, namespace: str) -> NamespaceAccess | None:
        """Return what was read and written in a namespace, None if nothing."""
        return next((one for one in self.accesses if one.namespace == namespace), None)


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction of a block. Only `number`, `validation_code` and `flaw` hold where it could not be read."""

    number: int
    """Its place in the block, from 0."""
    validation_code: int
    """As the peer that gave the block marked it (`peer.TxValidationCode`); nobody signs it."""
    flaw: str
    """Why it could not be read; "" where it could."""
    kind: int = -1
    """`common.HeaderType`."""
    transaction_id: str = ""
    channel_name: str = ""
    timestamp_ms: int = 0
    """The creator's clock, milliseconds since 1970."""
    creator: Identity | None = None
    creator_bytes: bytes = b""
    nonce: bytes = b""
    payload: bytes = b""
    """What the creator signed."""
    signature: bytes = b""
    action: Action | None = None
    """Of an endorser transaction."""
    config: configtx_pb2.Config | None = None
    """Of a configuration transaction."""
    last_update: common_pb2.Envelope | None = None
    """Of a configuration transaction: the update, with its signatures, that made the configuration."""

    @property
    def is_valid(self) -> bool:
        """Whether the peer that gave the block holds its writes."""
        return self.validation_code == VALID

    @property
    def validation_name(self) -> str:
        """The validation code's name in Fabric."""
        return validation_name(self.validation_code)


@dataclass(frozen=True, slots=True)
class OrdererSignature:
    """One orderer's signature over a block: by its certificate (Raft) or by its number in the consenter set (BFT)."""

    signer: bytes
    """The serialised identity, b"" where a number is given."""
    consenter: int | None
    header: bytes
    """The signature's own header, which is signed too."""
    signature: bytes


@dataclass(frozen=True, slots=True)
class Block:
    """A block: its header, its transactions in their order, and what orderers signed."""

    number: int
    previous_hash: bytes
    data_hash: bytes
    """As the header says."""
    computed_data_hash: bytes
    """SHA-256 over the transactions' bytes, one after the other."""
    transactions: tuple[Transaction, ...]
    orderer_signatures: tuple[OrdererSignature, ...]
    signed_metadata: bytes
    """What orderers sign beside the header (`common.OrdererBlockMetadata`)."""
    last_config: int | None
    """The latest configuration block, as orderers signed it."""
    commit_hash: bytes
    """The giving peer's running hash over what it committed; unsigned."""

    @property
    def header_bytes(self) -> bytes:
        """The header in the form that is hashed and signed (ASN.1 DER)."""
        return header_bytes(self.number, self.previous_hash, self.data_hash)

    @property
    def header_hash(self) -> bytes:
        """The block's hash, which the next block's `previous_hash` repeats."""
        return hashlib.sha256(self.header_bytes).digest()

    @property
    def config(self) -> configtx_pb2.Config | None:
        """The configuration, if this is a configuration block."""
        return self.transactions[0].config if len(self.transactions) == 1 else None

    def signed_by_orderer(self, signature: OrdererSignature) -> bytes:
        """Return the bytes that an orderer's signature is over."""
        return self.signed_metadata + signature.header + self.header_bytes


def validation_name(code: int) -> str:
    """Return Fabric's name of a validation code, or the number where it has none."""
    try:
        return str(transaction_pb2.TxValidationCode.Name(code))
    except ValueError:
        return str(code)


def header_bytes(number: int, previous_hash: bytes, data_hash: bytes) -> bytes:
    """Return a block header as ASN.1 DER: SEQUENCE of INTEGER number, OCTET STRING previous hash, data hash."""
    encoded = number.to_bytes(number.bit_length() // 8 + 1, "big")
    content = _der(0x02, encoded) + _der(0x04, previous_hash) + _der(0x04, data_hash)
    return _der(0x30, content)


def decode_block(block: bytes | common_pb2.Block, limits: Limits = DEFAULT_LIMITS) -> Block:
    """Decode a block.

    Raises:
        BlockError: it breaks the format or exceeds a limit.
    """
    size = len(block) if isinstance(block, bytes) else block.ByteSize()
    if size > limits.block_bytes:
        raise BlockError(f"block of {size} bytes: at most {limits.block_bytes} are read")
    if isinstance(block, bytes):
        block = _parse(common_pb2.Block, block, "block")
    number = block.header.number
    where = f"block {number}"
    if not block.HasField("header") or len(block.header.data_hash) != _HASH_BYTES:
        raise BlockError(f"{where}: the header has no data hash of {_HASH_BYTES} bytes", number)
    if number and len(block.header.previous_hash) != _HASH_BYTES:
        raise BlockError(f"{where}: the previous hash has {len(block.header.previous_hash)} bytes", number)
    data = block.data.data
    if not 1 <= len(data) <= limits.transactions:
        raise BlockError(f"{where}: {len(data)} transactions, 1 to {limits.transactions} are read", number)
    flags = _metadata(block, common_pb2.TRANSACTIONS_FILTER)
    if flags and len(flags) != len(data):
        raise BlockError(f"{where}: {len(flags)} validation flags for {len(data)} transactions", number)

    digest = hashlib.sha256()
    for envelope in data:
        digest.update(envelope)
    codes = flags or bytes([NOT_VALIDATED]) * len(data)
    allowance = _Allowance(limits)
    transactions: dict[int, Transaction] = {}
    # Those that hold come first: anybody may have rubbish ordered, which must not use up what is read of a block.
    for place in sorted(range(len(data)), key=lambda place: codes[place] != VALID):
        transactions[place] = _transaction(place, codes[place], _well_formed(block, place), allowance)
    signatures = _parse(common_pb2.Metadata, _metadata(block, common_pb2.SIGNATURES), f"{where}: signatures", number)
    return Block(
        number=number,
        previous_hash=block.header.previous_hash,
        data_hash=block.header.data_hash,
        computed_data_hash=digest.digest(),
        transactions=tuple(transactions[place] for place in range(len(data))),
        orderer_signatures=_orderer_signatures(signatures, where, number, limits),
        signed_metadata=signatures.value,
        last_config=_last_config(block, signatures, where),
        commit_hash=_parse(
            common_pb2.Metadata, _metadata(block, common_pb2.COMMIT_HASH), f"{where}: commit hash", number
        ).value,
    )


def block_file_name(number: int) -> str:
    """Return the name under which a block is kept in a folder of blocks: eight digits or more, and `.block`."""
    return f"{number:08d}.block"


def count_blocks(folder: Path) -> int:
    """Return how many block files a folder holds, numbered from 0 without a gap.

    Raises:
        BlockError: there are none, or one is missing in between or at the beginning.
    """
    count, last = 0, -1
    with os.scandir(folder) as entries:
        for entry in entries:
            named = _FILE_NAME.fullmatch(entry.name)
            if named and entry.name == block_file_name(int(named[1])):
                count += 1
                last = max(last, int(named[1]))
    if not count:
        raise BlockError(f"{folder}: no files NNNNNNNN.block")
    if count <= last:
        missing = next(number for number in range(count + 1) if not (folder / block_file_name(number)).exists())
        raise BlockError(f"{folder}: {block_file_name(missing)} is missing", missing)
    return count


def read_blocks(folder: Path, limits: Limits = DEFAULT_LIMITS) -> Iterator[Block]:
    """Yield the blocks of a folder in their order, one in memory at a time.

    Raises:
        BlockError: a file is missing, no plain file, too long, not a block, or another block than its name says.
    """
    for number in range(count_blocks(folder)):
        path = folder / block_file_name(number)
        if not path.is_file():
            raise BlockError(f"{path.name} is not a plain file", number)
        with path.open("rb") as file:
            data = file.read(limits.block_bytes + 1)
        try:
            block = decode_block(data, limits)
        except BlockError as error:
            raise BlockError(f"{path.name}: {error}", number) from error
        if block.number != number:
            raise BlockError(f"{path.name} holds block {block.number}", number)
        yield block


def _well_formed(block: common_pb2.Block, place: int) -> common_pb2.Envelope:
    """Return one transaction's envelope, which must be such as orderers take.

    The data hash runs over the envelopes' bytes without their lengths; only because each is in its one form, with
    payload and signature, can the bytes not be cut into other transactions (`VerifyTransactionsAreWellFormed`).
    """
    number = block.header.number
    where = f"block {number}, transaction {place}"
    data = block.data.data[place]
    envelope = _parse(common_pb2.Envelope, data, f"{where}: envelope", number)
    if not envelope.payload:
        raise BlockError(f"{where}: no payload", number)
    if envelope.SerializeToString() != data:
        raise BlockError(f"{where}: the envelope's bytes are not in their one form", number)
    if not envelope.signature and not (len(block.data.data) == 1 and _is_configuration(envelope)):
        raise BlockError(f"{where}: no signature", number)
    return envelope


def _is_configuration(envelope: common_pb2.Envelope) -> bool:
    try:
        payload = common_pb2.Payload.FromString(envelope.payload)
        return bool(common_pb2.ChannelHeader.FromString(payload.header.channel_header).type == common_pb2.CONFIG)
    except DecodeError:
        return False


class _FlawError(ValueError):
    """A transaction that can't be read."""


class _Allowance:
    """What may still be built of one block's transactions."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.parts = limits.parts

    def take(self, parts: int, what: str) -> None:
        """Count what is about to be built."""
        self.parts -= parts
        if self.parts < 0:
            raise _FlawError(f"{what}: more than {self.limits.parts} parts in one block")


def _transaction(place: int, code: int, envelope: common_pb2.Envelope, allowance: _Allowance) -> Transaction:
    before = allowance.parts
    try:
        return _readable_transaction(place, code, envelope, allowance)
    except _FlawError as error:
        allowance.parts = before  # nothing of it is kept
        return Transaction(place, code, str(error))


def _readable_transaction(place: int, code: int, envelope: common_pb2.Envelope, allowance: _Allowance) -> Transaction:
    payload = _part(common_pb2.Payload, envelope.payload, "payload")
    header = _part(common_pb2.ChannelHeader, payload.header.channel_header, "channel header")
    signature_header = _part(common_pb2.SignatureHeader, payload.header.signature_header, "signature header")
    creator = _identity(signature_header.creator, "creator") if signature_header.creator else None
    action = config = last_update = None
    if header.type == common_pb2.ENDORSER_TRANSACTION:
        named = _part(proposal_pb2.ChaincodeHeaderExtension, header.extension, "chaincode header").chaincode_id.name
        action = _action(named, payload, allowance)
    elif header.type == common_pb2.CONFIG:
        content = _part(configtx_pb2.ConfigEnvelope, payload.data, "configuration")
        config = content.config
        last_update = content.last_update if content.HasField("last_update") else None
    return Transaction(
        number=place,
        validation_code=code,
        flaw="",
        kind=header.type,
        transaction_id=header.tx_id,
        channel_name=header.channel_id,
        timestamp_ms=header.timestamp.seconds * 1000 + header.timestamp.nanos // 1_000_000,
        creator=creator,
        creator_bytes=signature_header.creator,
        nonce=signature_header.nonce,
        payload=envelope.payload,
        signature=envelope.signature,
        action=action,
        config=config,
        last_update=last_update,
    )


def _action(chaincode: str, payload: common_pb2.Payload, allowance: _Allowance) -> Action:
    """Read what was called: the header's ``chaincode``, which peers run, and not the name that stands in the call."""
    limits = allowance.limits
    transaction = _part(transaction_pb2.Transaction, payload.data, "transaction")
    if len(transaction.actions) != 1:
        raise _FlawError(f"transaction: {len(transaction.actions)} actions, Fabric has one")
    if transaction.actions[0].header != payload.header.signature_header:
        raise _FlawError("action: its signature header is not the transaction's")
    content = _part(transaction_pb2.ChaincodeActionPayload, transaction.actions[0].payload, "action")
    result = content.action.proposal_response_payload
    response = _part(proposal_response_pb2.ProposalResponsePayload, result, "result")
    done = _part(proposal_pb2.ChaincodeAction, response.extension, "chaincode action")
    invoked = _part(proposal_pb2.ChaincodeProposalPayload, content.chaincode_proposal_payload, "proposal payload")
    call = _part(chaincode_pb2.ChaincodeInvocationSpec, invoked.input, "invocation").chaincode_spec
    if len(content.action.endorsements) > limits.endorsements:
        raise _FlawError(f"{len(content.action.endorsements)} endorsements, at most {limits.endorsements} are read")
    allowance.take(len(call.input.args) + len(content.action.endorsements), "invocation")
    return Action(
        chaincode=chaincode,
        arguments=tuple(call.input.args),
        status=done.response.status,
        message=done.response.message,
        payload=done.response.payload,
        accesses=_accesses(done.results, allowance),
        event=_event(done.events),
        endorsements=tuple(
            Endorsement(_identity(one.endorser, "endorser"), one.endorser, one.signature)
            for one in content.action.endorsements
        ),
        result=result,
        proposal_hash=response.proposal_hash,
        expected_proposal_hash=hashlib.sha256(
            payload.header.channel_header + payload.header.signature_header + content.chaincode_proposal_payload
        ).digest(),
    )


def _accesses(results: bytes, allowance: _Allowance) -> tuple[NamespaceAccess, ...]:
    limits = allowance.limits
    entries = 0
    accesses: list[NamespaceAccess] = []
    seen: set[str] = set()
    for namespace in _part(rwset_pb2.TxReadWriteSet, results, "read/write set").ns_rwset:
        what = f"read/write set of {namespace.namespace}"
        if namespace.namespace in seen:  # peers mark it ILLEGAL_WRITESET; whoever reads one of the two misses the other
            raise _FlawError(f"{what}: it is there twice")
        seen.add(namespace.namespace)
        access = _part(kv_rwset_pb2.KVRWSet, namespace.rwset, what)
        found = len(access.reads) + len(access.writes) + len(access.range_queries_info)
        found += len(access.metadata_writes) + len(namespace.collection_hashed_rwset)
        entries = _counted(entries + found, what, limits)
        allowance.take(1 + found, what)
        collections = []
        for collection in namespace.collection_hashed_rwset:
            hashed = _part(kv_rwset_pb2.HashedRWSet, collection.hashed_rwset, f"{what}, {collection.collection_name}")
            entries = _counted(entries + len(hashed.hashed_writes), what, limits)
            allowance.take(len(hashed.hashed_writes), what)
            writes = tuple(
                HashedWrite(one.key_hash, one.value_hash, one.is_delete, one.is_purge) for one in hashed.hashed_writes
            )
            collections.append(CollectionWrites(collection.collection_name, writes))
        accesses.append(
            NamespaceAccess(
                namespace=namespace.namespace,
                reads=tuple(_read(one) for one in access.reads),
                writes=tuple(Write(one.key, one.value, one.is_delete) for one in access.writes),
                range_queries=len(access.range_queries_info),
                policy_writes=tuple(one.key for one in access.metadata_writes),
                collections=tuple(collections),
            )
        )
    return tuple(accesses)


def _counted(entries: int, what: str, limits: Limits) -> int:
    if entries > limits.entries:
        raise _FlawError(f"{what}: more than {limits.entries} reads and writes in one transaction")
    return entries


def _read(read: kv_rwset_pb2.KVRead) -> Read:
    found = read.HasField("version")
    return Read(read.key, Version(read.version.block_num, read.version.tx_num) if found else None)


def _event(data: bytes) -> ChaincodeEvent | None:
    if not data:
        return None
    event = _part(chaincode_event_pb2.ChaincodeEvent, data, "chaincode event")
    return ChaincodeEvent(event.chaincode_id, event.tx_id, event.event_name, event.payload)


def _orderer_signatures(
    metadata: common_pb2.Metadata, where: str, number: int, limits: Limits
) -> tuple[OrdererSignature, ...]:
    signatures: Sequence[common_pb2.MetadataSignature] = metadata.signatures
    if len(signatures) > limits.orderer_signatures:
        raise BlockError(
            f"{where}: {len(signatures)} orderer signatures, at most {limits.orderer_signatures} are read", number
        )
    decoded = []
    for one in signatures:
        if not one.signature_header and one.identifier_header:
            header = _parse(common_pb2.IdentifierHeader, one.identifier_header, f"{where}: identifier header", number)
            decoded.append(OrdererSignature(b"", header.identifier, one.identifier_header, one.signature))
        else:
            signed = _parse(common_pb2.SignatureHeader, one.signature_header, f"{where}: signature header", number)
            decoded.append(OrdererSignature(signed.creator, None, one.signature_header, one.signature))
    return tuple(decoded)


def _last_config(block: common_pb2.Block, signatures: common_pb2.Metadata, where: str) -> int | None:
    if not signatures.value:
        return None
    number = block.header.number
    metadata = _parse(common_pb2.OrdererBlockMetadata, signatures.value, f"{where}: orderer metadata", number)
    return metadata.last_config.index if metadata.HasField("last_config") else None


def _metadata(block: common_pb2.Block, index: int) -> bytes:
    return block.metadata.metadata[index] if index < len(block.metadata.metadata) else b""


def _identity(data: bytes, what: str) -> Identity:
    try:
        return Identity.parse(data)
    except InvalidIdentityError as error:
        raise _FlawError(f"{what}: {error}") from error


def _part(kind: type[_M], data: bytes, what: str) -> _M:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise _FlawError(f"{what}: not readable") from error


def _parse(kind: type[_M], data: bytes, what: str, number: int | None = None) -> _M:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise BlockError(f"{what}: not readable", number) from error


def _der(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(size))) + size + content
