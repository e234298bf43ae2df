"""What a contract sees of the ledger during one transaction.

Reads see the state before the transaction, never its own writes, as everywhere in Fabric. Writes are collected and
sent in batches at the transaction's end where the peer takes batches (v3.1), else at once; either way a write that the
peer refuses fails the transaction. Requests of one transaction go out strictly one after another: calls from several
tasks wait for each other.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

from fabric_protos.ledger.queryresult import kv_query_result_pb2
from fabric_protos.peer import chaincode_pb2, chaincode_shim_pb2, proposal_response_pb2
from google.protobuf.message import DecodeError

from .errors import PeerError, ProtocolError, UsageError
from .handler import Capabilities, Message
from .invocation import Invocation, Response
from .keys import HIGHEST, SEPARATOR, composite_range, require_utf8, simple_range

if TYPE_CHECKING:
    from ..identity import Identity

__all__ = ["KV", "KeyModification", "Page", "Requests", "Rows", "Stub"]

MAXIMUM_VALUE_BYTES = 64 * 1024 * 1024
"""A value's and a batch's size; a peer's messages end at 100 MiB."""

MAXIMUM_PAGE_ROWS = 100_000
_BATCH_BYTES = 16 * 1024 * 1024
_VALIDATION_PARAMETER = "VALIDATION_PARAMETER"
_WRITES = frozenset(
    {
        Message.PUT_STATE,
        Message.DEL_STATE,
        Message.PURGE_PRIVATE_DATA,
        Message.PUT_STATE_METADATA,
        Message.WRITE_BATCH_STATE,
    }
)

RowT = TypeVar("RowT")


@dataclass(frozen=True, slots=True)
class KV:
    """A row of the ledger."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class KeyModification:
    """What a transaction made of a key; milliseconds since 1970, as that transaction's proposal had them."""

    tx_id: str
    value: bytes
    timestamp_ms: int
    is_delete: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a result, and where the next page starts; "" after the last one."""

    rows: tuple[KV, ...]
    bookmark: str


class Requests(Protocol):
    """How a stub reaches its peer: one request at a time, its answer or PeerError."""

    def send(self, message_type: int, payload: bytes) -> "asyncio.Future[bytes]":
        """Send a request; the future is its answer."""

    def settled(self) -> "asyncio.Future[bytes] | None":
        """The answer to a request whose caller was cancelled, when that is still outstanding."""


class Stub:
    """The ledger as one transaction sees it. Methods are named after the official shims'.

    Every method that asks the peer raises PeerError when the peer answers ERROR, and UsageError when it is called with
    what no peer could take, or after the transaction's end.

    Args:
        invocation: what the transaction was called with.
        requests: the way to the peer.
        capabilities: how many writes and keys the peer takes in one message.
        msp_id: the organisation of the peer that this server works for, "" when unknown.
    """

    def __init__(
        self, invocation: Invocation, requests: Requests, capabilities: Capabilities | None = None, msp_id: str = ""
    ) -> None:
        self.invocation = invocation
        self.msp_id = msp_id
        self.batch_writes = True
        """Set to False to send each write at once, so that the peer's refusal is raised where the write stands."""
        self.read_only = False
        """Set to True to refuse writes."""
        self._requests = requests
        self._capabilities = capabilities or Capabilities()
        self._lock = asyncio.Lock()
        self._writes: list[chaincode_shim_pb2.WriteRecord] = []
        self._event: tuple[str, bytes] | None = None
        self._refused_write: PeerError | None = None
        self._writing = False  # was the last request a write?
        self._ended = False

    @property
    def tx_id(self) -> str:
        """The transaction's id."""
        return self.invocation.tx_id

    @property
    def channel_id(self) -> str:
        """The channel that the transaction runs in."""
        return self.invocation.channel_id

    @property
    def args(self) -> tuple[bytes, ...]:
        """What the client called, the function's name first."""
        return self.invocation.args

    @property
    def transient(self) -> Mapping[str, bytes]:
        """What the client sent along that does not go onto the ledger."""
        return self.invocation.transient

    @property
    def creator(self) -> "Identity":
        """Who signed the proposal."""
        return self.invocation.creator

    @property
    def timestamp_ms(self) -> int:
        """Milliseconds since 1970, as the client put them into the proposal: the same at every peer."""
        return self.invocation.timestamp_ms

    @property
    def event(self) -> tuple[str, bytes] | None:
        """Name and payload of the event set last."""
        return self._event

    # --- state

    async def get_state(self, key: str) -> bytes:
        """The key's value, b"" when there is none."""
        return await self._get("", key)

    async def get_multiple_states(self, keys: Sequence[str]) -> list[bytes]:
        """The keys' values in their order, b"" where there is none; one request for many keys where the peer can."""
        return await self._get_multiple("", keys)

    async def put_state(self, key: str, value: bytes) -> None:
        """Write a value; an empty one is refused, since Fabric takes it for a deletion."""
        await self._put("", key, value)

    async def del_state(self, key: str) -> None:
        """Delete a key, which needs not exist."""
        await self._write(chaincode_shim_pb2.WriteRecord.DEL_STATE, "", key)

    def get_state_by_range(self, start: str, end: str) -> "Rows[KV]":
        """Rows in key order, `start` included, `end` not; "" is open. Composite keys are never among them."""
        return self._range("", *simple_range(start, end))

    async def get_state_by_range_with_pagination(self, start: str, end: str, page_size: int, bookmark: str) -> Page:
        """At most `page_size` rows of a range from `bookmark` on. A transaction that reads pages must not write."""
        return await self._range_page(*simple_range(start, end), page_size, bookmark)

    def get_state_by_partial_composite_key(self, object_type: str, attributes: Sequence[str]) -> "Rows[KV]":
        """Rows whose composite key starts with these parts, in key order."""
        return self._range("", *composite_range(object_type, attributes))

    async def get_state_by_partial_composite_key_with_pagination(
        self, object_type: str, attributes: Sequence[str], page_size: int, bookmark: str
    ) -> Page:
        """At most `page_size` of the rows whose composite key starts with these parts, from `bookmark` on."""
        return await self._range_page(*composite_range(object_type, attributes), page_size, bookmark)

    async def get_all_states_composite_key_with_pagination(self, page_size: int, bookmark: str) -> Page:
        """At most `page_size` of all rows with a composite key, from `bookmark` on."""
        return await self._range_page(SEPARATOR, SEPARATOR + HIGHEST, page_size, bookmark)

    def get_query_result(self, query: str) -> "Rows[KV]":
        """Rows that a JSON query selects. LevelDB peers refuse it (PeerError); with CouchDB it is untested."""
        return self._query("", query)

    async def get_query_result_with_pagination(self, query: str, page_size: int, bookmark: str) -> Page:
        """At most `page_size` of the rows that a JSON query selects, from `bookmark` on. Needs CouchDB."""
        request = chaincode_shim_pb2.GetQueryResult(query=query, metadata=_page_metadata(page_size, bookmark))
        return _page(await self._ask(Message.GET_QUERY_RESULT, request))

    def get_history_for_key(self, key: str) -> "Rows[KeyModification]":
        """What became of a key, the newest first."""
        _require_key(key)
        request = chaincode_shim_pb2.GetHistoryForKey(key=key)
        return Rows(self, Message.GET_HISTORY_FOR_KEY, request.SerializeToString(), _key_modification)

    # --- private data

    async def get_private_data(self, collection: str, key: str) -> bytes:
        """The key's value in a collection, b"" when there is none."""
        return await self._get(_require_collection(collection), key)

    async def get_multiple_private_data(self, collection: str, keys: Sequence[str]) -> list[bytes]:
        """The keys' values in a collection, in their order, b"" where there is none."""
        return await self._get_multiple(_require_collection(collection), keys)

    async def get_private_data_hash(self, collection: str, key: str) -> bytes:
        """The SHA-256 of a value in a collection, which every organisation of the channel can read; b"" for none."""
        request = chaincode_shim_pb2.GetState(key=_require_key(key), collection=_require_collection(collection))
        return await self._ask(Message.GET_PRIVATE_DATA_HASH, request)

    async def put_private_data(self, collection: str, key: str, value: bytes) -> None:
        """Write a value into a collection."""
        await self._put(_require_collection(collection), key, value)

    async def del_private_data(self, collection: str, key: str) -> None:
        """Delete a key of a collection; its earlier values stay on the peers' disks."""
        await self._write(chaincode_shim_pb2.WriteRecord.DEL_STATE, _require_collection(collection), key)

    async def purge_private_data(self, collection: str, key: str) -> None:
        """Delete a key of a collection and its earlier values from the members' private stores."""
        await self._write(chaincode_shim_pb2.WriteRecord.PURGE_PRIVATE_DATA, _require_collection(collection), key)

    def get_private_data_by_range(self, collection: str, start: str, end: str) -> "Rows[KV]":
        """Rows of a collection in key order, `start` included, `end` not."""
        return self._range(_require_collection(collection), *simple_range(start, end))

    def get_private_data_by_partial_composite_key(
        self, collection: str, object_type: str, attributes: Sequence[str]
    ) -> "Rows[KV]":
        """Rows of a collection whose composite key starts with these parts."""
        return self._range(_require_collection(collection), *composite_range(object_type, attributes))

    def get_private_data_query_result(self, collection: str, query: str) -> "Rows[KV]":
        """Rows of a collection that a JSON query selects. Needs CouchDB."""
        return self._query(_require_collection(collection), query)

    # --- endorsement policies of single keys

    async def get_state_validation_parameter(self, key: str) -> bytes:
        """A key's own endorsement policy (a serialized common.SignaturePolicyEnvelope), b"" when it has none."""
        return await self._get_validation_parameter("", key)

    async def set_state_validation_parameter(self, key: str, policy: bytes) -> None:
        """Give a key an endorsement policy of its own: any serialized common.SignaturePolicyEnvelope."""
        await self._set_validation_parameter("", key, policy)

    async def get_private_data_validation_parameter(self, collection: str, key: str) -> bytes:
        """The endorsement policy of a collection's key, b"" when it has none."""
        return await self._get_validation_parameter(_require_collection(collection), key)

    async def set_private_data_validation_parameter(self, collection: str, key: str, policy: bytes) -> None:
        """Give a collection's key an endorsement policy of its own."""
        await self._set_validation_parameter(_require_collection(collection), key, policy)

    # --- other chaincodes, events

    async def invoke_chaincode(self, name: str, args: Sequence[bytes], channel: str = "") -> Response:
        """Call another chaincode in this transaction; in another channel it can only read.

        What the callee wrote in this channel stays part of the transaction even if its response is a refusal: raise
        when `status` is 400 or more, unless that is meant. A chaincode can't call itself, its event is lost.

        Raises:
            PeerError: there is no such chaincode, or it gave no response.
        """
        if not name:
            raise UsageError("the name of the chaincode to call is empty")
        await self.finish_write_batch()  # the callee may read what was written before, in the order of the code
        specification = chaincode_pb2.ChaincodeSpec(
            chaincode_id=chaincode_pb2.ChaincodeID(name=f"{name}/{channel}" if channel else name),
            input=chaincode_pb2.ChaincodeInput(args=list(args)),
        )
        answer = await self._ask(Message.INVOKE_CHAINCODE, specification)
        try:
            message = Message.FromString(answer)
            if message.type != Message.COMPLETED:
                raise PeerError(message.payload.decode("utf-8", "replace"))
            response = proposal_response_pb2.Response.FromString(message.payload)
        except DecodeError as error:
            raise ProtocolError("the called chaincode's response can't be decoded") from error
        return Response(response.status, response.message, response.payload)

    def set_event(self, name: str, payload: bytes) -> None:
        """The transaction's event. There is one: the last one set replaces the others."""
        if not name:
            raise UsageError("an event's name can't be empty")
        require_utf8(name, "an event's name")
        self._event = (name, _require_bytes(payload, "an event's payload"))

    # --- writes

    async def finish_write_batch(self) -> None:
        """Send the writes collected so far, in their order; the peer's refusal is raised here.

        The transaction's end does the same by itself.
        """
        while self._writes:
            batch = self._cut_batch()
            await self._ask(Message.WRITE_BATCH_STATE, chaincode_shim_pb2.WriteBatchState(rec=batch))

    async def end(self) -> None:
        """Send what is still to be written, wait for the last answer and refuse every later call.

        Raises:
            PeerError: the peer refused one of the transaction's writes, now or earlier.
        """
        while not self._ended:
            await self.finish_write_batch()
            async with self._lock:
                if not self._writes:  # a task that the contract left behind may have written meanwhile
                    self._ended = True
                    await self._settle()
        if self._refused_write is not None:
            raise self._refused_write

    async def abandon(self) -> None:
        """Drop what is still to be written, wait for the last answer and refuse every later call."""
        async with self._lock:
            self._ended = True
            self._writes.clear()
            await self._settle()

    def _cut_batch(self) -> list[chaincode_shim_pb2.WriteRecord]:
        size = count = 0
        for record in self._writes[: self._capabilities.write_batch]:
            size += len(record.value) + len(record.key)
            if count and size > _BATCH_BYTES:
                break
            count += 1
        batch, self._writes = self._writes[:count], self._writes[count:]
        return batch

    async def _put(self, collection: str, key: str, value: bytes) -> None:
        if not _require_bytes(value, "a value"):
            raise UsageError("an empty value would delete its key: call the deletion by its name")
        await self._write(chaincode_shim_pb2.WriteRecord.PUT_STATE, collection, key, value)

    async def _set_validation_parameter(self, collection: str, key: str, policy: bytes) -> None:
        metadata = chaincode_shim_pb2.StateMetadata(
            metakey=_VALIDATION_PARAMETER, value=_require_bytes(policy, "a policy")
        )
        record_type = chaincode_shim_pb2.WriteRecord.PUT_STATE_METADATA
        await self._write(record_type, collection, key, metadata=metadata)

    async def _write(
        self,
        record_type: int,
        collection: str,
        key: str,
        value: bytes = b"",
        metadata: chaincode_shim_pb2.StateMetadata | None = None,
    ) -> None:
        _require_key(key)
        if self._ended:
            raise UsageError("the transaction has ended")
        if self.read_only:
            raise UsageError("this transaction is for reading only")
        if self.batch_writes and self._capabilities.write_batch:
            self._writes.append(
                chaincode_shim_pb2.WriteRecord(
                    type=record_type, collection=collection, key=key, value=value, metadata=metadata
                )
            )
            return
        await self.finish_write_batch()
        if record_type == chaincode_shim_pb2.WriteRecord.PUT_STATE:
            put = chaincode_shim_pb2.PutState(collection=collection, key=key, value=value)
            await self._ask(Message.PUT_STATE, put)
        elif record_type == chaincode_shim_pb2.WriteRecord.DEL_STATE:
            await self._ask(Message.DEL_STATE, chaincode_shim_pb2.DelState(collection=collection, key=key))
        elif record_type == chaincode_shim_pb2.WriteRecord.PURGE_PRIVATE_DATA:
            purge = chaincode_shim_pb2.PurgePrivateState(collection=collection, key=key)
            await self._ask(Message.PURGE_PRIVATE_DATA, purge)
        else:
            put_metadata = chaincode_shim_pb2.PutStateMetadata(collection=collection, key=key, metadata=metadata)
            await self._ask(Message.PUT_STATE_METADATA, put_metadata)

    # --- reads

    async def _get(self, collection: str, key: str) -> bytes:
        request = chaincode_shim_pb2.GetState(key=_require_key(key), collection=collection)
        return await self._ask(Message.GET_STATE, request)

    async def _get_multiple(self, collection: str, keys: Sequence[str]) -> list[bytes]:
        if isinstance(keys, str):
            raise UsageError("the keys are a list of strings, not one string")
        for key in keys:
            _require_key(key)
        size = self._capabilities.multiple_keys
        if not size:
            return [await self._get(collection, key) for key in keys]
        values: list[bytes] = []
        for first in range(0, len(keys), size):
            some = keys[first : first + size]
            request = chaincode_shim_pb2.GetStateMultiple(keys=some, collection=collection)
            payload = await self._ask(Message.GET_STATE_MULTIPLE, request)
            answer = _decode(chaincode_shim_pb2.GetStateMultipleResult, payload)
            if len(answer.values) != len(some):
                raise ProtocolError(f"the peer answered {len(answer.values)} values to {len(some)} keys")
            values.extend(answer.values)
        return values

    async def _get_validation_parameter(self, collection: str, key: str) -> bytes:
        request = chaincode_shim_pb2.GetStateMetadata(key=_require_key(key), collection=collection)
        answer = await self._ask(Message.GET_STATE_METADATA, request)
        for entry in _decode(chaincode_shim_pb2.StateMetadataResult, answer).entries:
            if entry.metakey == _VALIDATION_PARAMETER:
                return bytes(entry.value)
        return b""

    def _range(self, collection: str, start: str, end: str) -> "Rows[KV]":
        request = chaincode_shim_pb2.GetStateByRange(startKey=start, endKey=end, collection=collection)
        return Rows(self, Message.GET_STATE_BY_RANGE, request.SerializeToString(), _kv)

    async def _range_page(self, start: str, end: str, page_size: int, bookmark: str) -> Page:
        metadata = _page_metadata(page_size, bookmark)
        if bookmark and not (start <= bookmark and (not end or bookmark <= end)):
            # The peer starts at the bookmark whatever the range: one made up by a client would read outside it.
            raise UsageError("the bookmark lies outside the range")
        request = chaincode_shim_pb2.GetStateByRange(startKey=start, endKey=end, metadata=metadata)
        return _page(await self._ask(Message.GET_STATE_BY_RANGE, request))

    def _query(self, collection: str, query: str) -> "Rows[KV]":
        require_utf8(query, "a query")
        request = chaincode_shim_pb2.GetQueryResult(query=query, collection=collection)
        return Rows(self, Message.GET_QUERY_RESULT, request.SerializeToString(), _kv)

    # --- requests, one at a time

    async def _ask(self, message_type: int, request: "_Serializable") -> bytes:
        return await self.ask(message_type, request.SerializeToString())

    async def ask(self, message_type: int, payload: bytes) -> bytes:
        """Send one request of the protocol and wait for its answer: for messages that no method above covers."""
        async with self._lock:
            if self._ended:
                raise UsageError("the transaction has ended")
            await self._settle()
            self._writing = message_type in _WRITES
            try:
                return await self._requests.send(message_type, payload)
            except PeerError as error:
                self._note_refusal(error)
                raise

    async def _settle(self) -> None:
        # A caller that was cancelled while it waited left a request behind. The peer drops a second one before the
        # first is answered, and a late answer would be taken for the next request's.
        outstanding = self._requests.settled()
        if outstanding is not None:
            try:
                await outstanding
            except PeerError as error:
                self._note_refusal(error)

    def _note_refusal(self, error: PeerError) -> None:
        # A contract may catch the refusal of a read and go on. Of a write it may not: what it meant to write is not
        # what would be endorsed.
        if self._writing and self._refused_write is None:
            self._refused_write = error


class Rows(AsyncIterator[RowT], Generic[RowT]):
    """Rows of a range, a query or a history, fetched as they are asked for: `async for row in rows`.

    The peer frees what it holds for them at the transaction's end, or at `aclose()`, which leaving
    `async with rows:` calls.
    """

    def __init__(self, stub: Stub, message_type: int, payload: bytes, decode: Callable[[bytes], RowT]) -> None:
        self._stub = stub
        self._first: tuple[int, bytes] | None = (message_type, payload)
        self._decode = decode
        self._buffer: list[RowT] = []
        self._id = ""
        self._more = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RowT:
        while not self._buffer:
            if not self._more:
                raise StopAsyncIteration
            await self._fetch()
        return self._buffer.pop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Give up the rows not read yet."""
        self._buffer.clear()
        self._first = None
        if self._more and self._id:
            self._more = False
            close = chaincode_shim_pb2.QueryStateClose(id=self._id)
            await self._stub.ask(Message.QUERY_STATE_CLOSE, close.SerializeToString())
        self._more = False

    async def _fetch(self) -> None:
        if self._first is not None:
            (message_type, payload), self._first = self._first, None
        else:
            message_type = Message.QUERY_STATE_NEXT
            payload = chaincode_shim_pb2.QueryStateNext(id=self._id).SerializeToString()
        self._more = False  # until the peer says that there is more: an error ends the rows
        answer = _decode(chaincode_shim_pb2.QueryResponse, await self._stub.ask(message_type, payload))
        self._buffer = [self._decode(row.resultBytes) for row in reversed(answer.results)]
        self._id = answer.id
        self._more = answer.has_more


class _Serializable(Protocol):
    def SerializeToString(self) -> bytes: ...  # noqa: N802  protobuf's name


MessageT = TypeVar("MessageT")


def _decode(message_class: type[MessageT], payload: bytes) -> MessageT:
    try:
        return message_class.FromString(payload)  # type: ignore[attr-defined, no-any-return]
    except DecodeError as error:
        raise ProtocolError(f"the peer's {message_class.__name__} can't be decoded") from error


def _kv(payload: bytes) -> KV:
    row = _decode(kv_query_result_pb2.KV, payload)
    return KV(row.key, row.value)


def _key_modification(payload: bytes) -> KeyModification:
    row = _decode(kv_query_result_pb2.KeyModification, payload)
    milliseconds = row.timestamp.seconds * 1000 + row.timestamp.nanos // 1_000_000
    return KeyModification(row.tx_id, row.value, milliseconds, row.is_delete)


def _page(payload: bytes) -> Page:
    answer = _decode(chaincode_shim_pb2.QueryResponse, payload)
    metadata = _decode(chaincode_shim_pb2.QueryResponseMetadata, answer.metadata)
    return Page(tuple(_kv(row.resultBytes) for row in answer.results), metadata.bookmark)


def _page_metadata(page_size: int, bookmark: str) -> bytes:
    if not 1 <= page_size <= MAXIMUM_PAGE_ROWS:
        raise UsageError(f"a page has 1 to {MAXIMUM_PAGE_ROWS} rows, not {page_size}")
    require_utf8(bookmark, "a bookmark")
    return bytes(chaincode_shim_pb2.QueryMetadata(pageSize=page_size, bookmark=bookmark).SerializeToString())


def _require_key(key: str) -> str:
    if not key:
        raise UsageError("a key can't be empty")
    require_utf8(key, "a key")
    return key


def _require_collection(collection: str) -> str:
    if not collection:
        raise UsageError("a collection's name can't be empty")
    require_utf8(collection, "a collection's name")
    return collection


def _require_bytes(value: bytes, what: str) -> bytes:
    if not isinstance(value, bytes):
        raise UsageError(f"{what} is bytes, not {type(value).__name__}")
    if len(value) > MAXIMUM_VALUE_BYTES:
        raise UsageError(f"{what} has {len(value)} bytes, {MAXIMUM_VALUE_BYTES} are the most")
    return value
