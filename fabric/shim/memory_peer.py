"""A peer in memory, for tests of contracts: it answers every request of the protocol from a world state of its own.

    peer = MemoryPeer({"assets": ContractChaincode(Assets())})
    await peer.submit("assets", "create", "a1", b"…", creator=alice)
    assert peer.state("assets")["a1"] == b"…"

It keeps a real peer's rules where a contract can run into them: reads see the state before the transaction, an empty
value deletes, a paginated read forbids writes, a JSON query is refused as on LevelDB, a chaincode can't call itself, a
transaction whose reads are outdated at its commit is an MVCC_READ_CONFLICT. It checks no signatures and no endorsement
or collection policies.
"""

import asyncio
import hashlib
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from fabric_protos.ledger.queryresult import kv_query_result_pb2
from fabric_protos.peer import chaincode_pb2, chaincode_shim_pb2, proposal_response_pb2

from .contract import Chaincode, run_chaincode
from .errors import ChaincodeError, PeerError
from .handler import Capabilities, Message, MessageType
from .invocation import Invocation, Response
from .stub import Stub

if TYPE_CHECKING:
    from ..identity import Identity

__all__ = ["MemoryPeer", "Simulation", "TransactionRefusedError"]

BATCH_ROWS: Final = 100
"""Rows that a peer sends at a time, and that a query without pages gets in one answer."""

Outcome = Literal["VALID", "MVCC_READ_CONFLICT", "PHANTOM_READ_CONFLICT"]
Place = tuple[str, str, str]
"""Chaincode, collection ("" for the public state) and key."""


class TransactionRefusedError(ChaincodeError):
    """`submit` or `evaluate` got a response whose status is 400 or more."""


@dataclass(slots=True)
class Simulation:
    """One transaction run and not yet committed: its response, and what it read and would write."""

    invocation: Invocation
    response: Response = field(default_factory=Response)
    event: tuple[str, bytes] | None = None
    reads: dict[Place, int] = field(default_factory=dict)
    """The versions read; 0 for a key that was absent."""
    scans: list[tuple[str, str, str, str, tuple[tuple[str, int], ...]]] = field(default_factory=list)
    """Chaincode, collection, start, end, and the keys with versions that a range gave."""
    writes: dict[Place, bytes] = field(default_factory=dict)
    """New values; b"" deletes."""
    policies: dict[Place, bytes] = field(default_factory=dict)
    purges: set[Place] = field(default_factory=set)
    paginated: bool = False


@dataclass(frozen=True, slots=True)
class _Version:
    number: int
    value: bytes


class MemoryPeer:
    """Runs chaincodes against a world state in memory.

    Args:
        chaincodes: by the names under which transactions and other chaincodes call them.
        msp_id: the organisation that the peer belongs to, as the stubs see it.
        capabilities: the sizes of write batches and multi-key reads; those of Fabric v3.1 when left out.
    """

    def __init__(
        self,
        chaincodes: Mapping[str, Chaincode],
        *,
        msp_id: str = "",
        channel_id: str = "memory",
        capabilities: Capabilities | None = None,
    ) -> None:
        self.chaincodes = dict(chaincodes)
        self.msp_id = msp_id
        self.channel_id = channel_id
        self.capabilities = capabilities or Capabilities(write_batch=1000, multiple_keys=1000)
        self.events: list[tuple[str, str, bytes]] = []
        """Chaincode event of each committed transaction that set one: transaction id, name, payload."""
        self.requests: list[int] = []
        """The type of every request answered, in order."""
        self._versions: dict[Place, _Version] = {}
        self._policies: dict[Place, bytes] = {}
        self._history: dict[Place, list[tuple[str, bytes, int]]] = {}
        self._height = 0
        self._transactions = 0

    def state(self, chaincode: str, collection: str = "") -> dict[str, bytes]:
        """The committed state of a chaincode, in key order."""
        return {key: version.value for key, version in self._rows(chaincode, collection, "", "")}

    async def submit(
        self,
        chaincode: str,
        function: str,
        *args: str | bytes,
        creator: "Identity | None" = None,
        timestamp_ms: int = 0,
        transient: Mapping[str, bytes] | None = None,
    ) -> bytes:
        """Run a transaction and commit it; its result.

        Raises:
            TransactionRefusedError: its response is a refusal; nothing is committed.
        """
        simulation = await self.simulate(
            chaincode, function, *args, creator=creator, timestamp_ms=timestamp_ms, transient=transient
        )
        self.commit(simulation)
        return _payload(simulation.response)

    async def evaluate(
        self,
        chaincode: str,
        function: str,
        *args: str | bytes,
        creator: "Identity | None" = None,
        timestamp_ms: int = 0,
        transient: Mapping[str, bytes] | None = None,
    ) -> bytes:
        """Run a transaction and drop what it would write; its result.

        Raises:
            TransactionRefusedError: its response is a refusal.
        """
        simulation = await self.simulate(
            chaincode, function, *args, creator=creator, timestamp_ms=timestamp_ms, transient=transient
        )
        return _payload(simulation.response)

    async def simulate(
        self,
        chaincode: str,
        function: str,
        *args: str | bytes,
        creator: "Identity | None" = None,
        timestamp_ms: int = 0,
        transient: Mapping[str, bytes] | None = None,
    ) -> Simulation:
        """Run a transaction, as a peer endorses it, without committing."""
        self._transactions += 1
        invocation = Invocation(
            channel_id=self.channel_id,
            tx_id=hashlib.sha256(f"{self.channel_id}/{self._transactions}".encode()).hexdigest(),
            args=tuple(arg.encode() if isinstance(arg, str) else arg for arg in (function, *args)),
            creator_bytes=creator.serialized() if creator else b"",
            timestamp_ms=timestamp_ms,
            transient=dict(transient or {}),
        )
        simulation = Simulation(invocation)
        simulation.response, simulation.event = await self.run(chaincode, invocation, simulation, ())
        return simulation

    async def run(
        self, chaincode: str, invocation: Invocation, simulation: Simulation, callers: tuple[str, ...]
    ) -> tuple[Response, tuple[str, bytes] | None]:
        """Run one chaincode within a simulation."""
        requests = PeerSide(self, chaincode, simulation, callers)
        stub = Stub(invocation, requests, self.capabilities, self.msp_id)
        response = await run_chaincode(self.chaincodes[chaincode], stub)
        return response, stub.event if response.status < 400 else None

    def commit(self, simulation: Simulation) -> Outcome:
        """Put a simulated transaction into a block of its own. A refused one leaves no trace and is VALID here."""
        if simulation.response.status >= 400:
            return "VALID"
        for place, version in simulation.reads.items():
            if self._number(place) != version:
                return "MVCC_READ_CONFLICT"
        for chaincode, collection, start, end, seen in simulation.scans:
            rows = self._rows(chaincode, collection, start, end)
            if tuple((key, version.number) for key, version in rows) != seen:
                return "PHANTOM_READ_CONFLICT"
        self._height += 1
        for place, value in simulation.writes.items():
            self._history.setdefault(place, []).append(
                (simulation.invocation.tx_id, value, simulation.invocation.timestamp_ms)
            )
            if value:
                self._versions[place] = _Version(self._height, value)
            else:
                self._versions.pop(place, None)
                self._policies.pop(place, None)
        for place in simulation.purges:
            self._history.pop(place, None)
        self._policies.update({place: policy for place, policy in simulation.policies.items() if policy})
        if simulation.event is not None:
            self.events.append((simulation.invocation.tx_id, *simulation.event))
        return "VALID"

    def _number(self, place: Place) -> int:
        version = self._versions.get(place)
        return version.number if version else 0

    def value(self, place: Place) -> bytes:
        """A committed value, b"" when there is none."""
        version = self._versions.get(place)
        return version.value if version else b""

    def version(self, place: Place) -> int:
        """A committed value's version, 0 when there is none."""
        return self._number(place)

    def policy(self, place: Place) -> bytes:
        """A key's own endorsement policy, b"" when there is none."""
        return self._policies.get(place, b"")

    def history(self, place: Place) -> list[tuple[str, bytes, int]]:
        """Transaction id, value and time of each write, the newest first."""
        return self._history.get(place, [])[::-1]

    def _rows(self, chaincode: str, collection: str, start: str, end: str) -> list[tuple[str, _Version]]:
        keys = sorted(place[2] for place in self._versions if place[:2] == (chaincode, collection))
        last = bisect_left(keys, end) if end else len(keys)
        return [(key, self._versions[chaincode, collection, key]) for key in keys[bisect_left(keys, start) : last]]

    def rows(self, chaincode: str, collection: str, start: str, end: str) -> list[tuple[str, bytes, int]]:
        """Key, value and version of each row of a range."""
        return [(key, row.value, row.number) for key, row in self._rows(chaincode, collection, start, end)]


class PeerSide:
    """The peer's side of one transaction: what it answers to each request of the protocol."""

    def __init__(self, peer: MemoryPeer, chaincode: str, simulation: Simulation, callers: tuple[str, ...]) -> None:
        self._peer = peer
        self._chaincode = chaincode
        self._simulation = simulation
        self._callers = callers
        self._iterators: dict[str, list[bytes]] = {}
        self._answering: dict[int, Callable[[bytes], bytes]] = {
            Message.GET_STATE: self._get_state,
            Message.GET_STATE_MULTIPLE: self._get_state_multiple,
            Message.GET_PRIVATE_DATA_HASH: self._get_private_data_hash,
            Message.GET_STATE_METADATA: self._get_state_metadata,
            Message.PUT_STATE: self._put_state,
            Message.DEL_STATE: self._del_state,
            Message.PURGE_PRIVATE_DATA: self._purge_private_data,
            Message.PUT_STATE_METADATA: self._put_state_metadata,
            Message.WRITE_BATCH_STATE: self._write_batch,
            Message.GET_STATE_BY_RANGE: self._get_state_by_range,
            Message.GET_QUERY_RESULT: self._get_query_result,
            Message.GET_HISTORY_FOR_KEY: self._get_history_for_key,
            Message.QUERY_STATE_NEXT: self._query_state_next,
            Message.QUERY_STATE_CLOSE: self._query_state_close,
        }

    def send(self, message_type: int, payload: bytes) -> "asyncio.Future[bytes]":
        """Answer a request; the future holds the answer, or PeerError."""
        self._peer.requests.append(message_type)
        if message_type == Message.INVOKE_CHAINCODE:
            return asyncio.ensure_future(self._invoke_chaincode(payload))
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        try:
            answer.set_result(self._answering[message_type](payload))
        except PeerError as error:
            answer.set_exception(PeerError(f"{MessageType.Name(message_type)} failed: {error}"))
        return answer

    def settled(self) -> None:
        """Nothing is ever outstanding: answers are there at once."""
        return

    def _place(self, message: Any) -> Place:
        return self._chaincode, message.collection, message.key

    def _read(self, place: Place) -> bytes:
        self._simulation.reads.setdefault(place, self._peer.version(place))
        return self._peer.value(place)

    def _get_state(self, payload: bytes) -> bytes:
        return self._read(self._place(chaincode_shim_pb2.GetState.FromString(payload)))

    def _get_state_multiple(self, payload: bytes) -> bytes:
        request = chaincode_shim_pb2.GetStateMultiple.FromString(payload)
        if len(request.keys) > self._peer.capabilities.multiple_keys:
            raise PeerError("too many keys")
        values = [self._read((self._chaincode, request.collection, key)) for key in request.keys]
        return _bytes(chaincode_shim_pb2.GetStateMultipleResult(values=values))

    def _get_private_data_hash(self, payload: bytes) -> bytes:
        value = self._get_state(payload)
        return hashlib.sha256(value).digest() if value else b""

    def _get_state_metadata(self, payload: bytes) -> bytes:
        place = self._place(chaincode_shim_pb2.GetStateMetadata.FromString(payload))
        self._simulation.reads.setdefault(place, self._peer.version(place))
        result = chaincode_shim_pb2.StateMetadataResult()
        if policy := self._peer.policy(place):
            result.entries.add(metakey="VALIDATION_PARAMETER", value=policy)
        return _bytes(result)

    def _write(self, place: Place, value: bytes) -> bytes:
        if not place[2]:
            raise PeerError("the key is empty")
        if self._simulation.paginated:
            raise PeerError("writes are not allowed in a transaction that has made a paginated query")
        self._simulation.writes.pop(place, None)
        self._simulation.writes[place] = value
        return b""

    def _put_state(self, payload: bytes) -> bytes:
        request = chaincode_shim_pb2.PutState.FromString(payload)
        return self._write(self._place(request), request.value)

    def _del_state(self, payload: bytes) -> bytes:
        return self._write(self._place(chaincode_shim_pb2.DelState.FromString(payload)), b"")

    def _purge_private_data(self, payload: bytes) -> bytes:
        place = self._place(chaincode_shim_pb2.PurgePrivateState.FromString(payload))
        if not place[1]:
            raise PeerError("only applicable for private data")
        self._simulation.purges.add(place)
        return self._write(place, b"")

    def _put_state_metadata(self, payload: bytes) -> bytes:
        request = chaincode_shim_pb2.PutStateMetadata.FromString(payload)
        self._simulation.policies[self._place(request)] = request.metadata.value
        return b""

    def _write_batch(self, payload: bytes) -> bytes:
        batch = chaincode_shim_pb2.WriteBatchState.FromString(payload)
        if len(batch.rec) > self._peer.capabilities.write_batch:
            raise PeerError("too many writes")
        kinds = chaincode_shim_pb2.WriteRecord
        for record in batch.rec:
            if record.type == kinds.PURGE_PRIVATE_DATA:
                self._simulation.purges.add(self._place(record))
            if record.type == kinds.PUT_STATE_METADATA:
                self._simulation.policies[self._place(record)] = record.metadata.value
            else:
                self._write(self._place(record), record.value)
        return b""

    def _get_state_by_range(self, payload: bytes) -> bytes:
        request = chaincode_shim_pb2.GetStateByRange.FromString(payload)
        start, end, collection = request.startKey, request.endKey, request.collection
        page = chaincode_shim_pb2.QueryMetadata.FromString(request.metadata)
        if page.pageSize:
            self._simulation.paginated = True
            if self._simulation.writes:
                raise PeerError("a paginated query is not allowed in a transaction that has written")
            rows = self._peer.rows(self._chaincode, collection, page.bookmark or start, end)
            shown = rows[: page.pageSize]
            bookmark = rows[page.pageSize][0] if len(rows) > page.pageSize else ""
            metadata = chaincode_shim_pb2.QueryResponseMetadata(fetched_records_count=len(shown), bookmark=bookmark)
            return _bytes(
                chaincode_shim_pb2.QueryResponse(results=_kvs(self._chaincode, shown), metadata=_bytes(metadata))
            )
        rows = self._peer.rows(self._chaincode, collection, start, end)
        seen = tuple((key, version) for key, _, version in rows)
        self._simulation.scans.append((self._chaincode, collection, start, end, seen))
        return self._rows([row.resultBytes for row in _kvs(self._chaincode, rows)])

    def _get_query_result(self, payload: bytes) -> bytes:
        del payload
        raise PeerError("ExecuteQuery not supported for leveldb")

    def _get_history_for_key(self, payload: bytes) -> bytes:
        key = chaincode_shim_pb2.GetHistoryForKey.FromString(payload).key
        rows = []
        for tx_id, value, timestamp_ms in self._peer.history((self._chaincode, "", key)):
            row = kv_query_result_pb2.KeyModification(tx_id=tx_id, value=value, is_delete=not value)
            row.timestamp.FromMilliseconds(timestamp_ms)
            rows.append(_bytes(row))
        return self._rows(rows)

    def _rows(self, rows: list[bytes], identifier: str = "") -> bytes:
        identifier = identifier or f"iterator{len(self._peer.requests)}"
        shown, self._iterators[identifier] = rows[:BATCH_ROWS], rows[BATCH_ROWS:]
        answer = chaincode_shim_pb2.QueryResponse(id=identifier, has_more=len(rows) > BATCH_ROWS)
        for row in shown:
            answer.results.add(resultBytes=row)
        return _bytes(answer)

    def _query_state_next(self, payload: bytes) -> bytes:
        identifier = chaincode_shim_pb2.QueryStateNext.FromString(payload).id
        if identifier not in self._iterators:
            raise PeerError("query iterator not found")
        return self._rows(self._iterators[identifier], identifier)

    def _query_state_close(self, payload: bytes) -> bytes:
        identifier = chaincode_shim_pb2.QueryStateClose.FromString(payload).id
        self._iterators.pop(identifier, None)
        return _bytes(chaincode_shim_pb2.QueryResponse(id=identifier))

    async def _invoke_chaincode(self, payload: bytes) -> bytes:
        specification = chaincode_pb2.ChaincodeSpec.FromString(payload)
        name, _, channel = specification.chaincode_id.name.partition("/")
        if name not in self._peer.chaincodes or channel not in ("", self._peer.channel_id):
            raise PeerError(f"INVOKE_CHAINCODE failed: chaincode {name} not found")
        callers = (*self._callers, self._chaincode)
        if name in callers:
            raise PeerError(f"INVOKE_CHAINCODE failed: txid: {self._simulation.invocation.tx_id} exists")
        calling = self._simulation.invocation
        called = Invocation(
            channel_id=calling.channel_id,
            tx_id=calling.tx_id,
            args=tuple(specification.input.args),
            creator_bytes=calling.creator_bytes,
            timestamp_ms=calling.timestamp_ms,
            transient=calling.transient,
        )
        response, _ = await self._peer.run(name, called, self._simulation, callers)
        inner = proposal_response_pb2.Response(
            status=response.status, message=response.message, payload=response.payload
        )
        return _bytes(Message(type=Message.COMPLETED, payload=_bytes(inner), txid=calling.tx_id))


def _payload(response: Response) -> bytes:
    if response.status >= 400:
        raise TransactionRefusedError(response.message, status=response.status, payload=response.payload)
    return response.payload


def _kvs(chaincode: str, rows: list[tuple[str, bytes, int]]) -> list[chaincode_shim_pb2.QueryResultBytes]:
    return [
        chaincode_shim_pb2.QueryResultBytes(
            resultBytes=_bytes(kv_query_result_pb2.KV(namespace=chaincode, key=key, value=value))
        )
        for key, value, _ in rows
    ]


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString())
