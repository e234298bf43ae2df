"""A chaincode for tests: every message of the protocol, and what the official Python shim gets wrong.

Run as a file, with the environment of a chaincode server.
"""

import asyncio
from typing import Any

from fedfabric.fabric.shim import (
    ChaincodeError,
    Contract,
    PeerError,
    Stub,
    create_composite_key,
    serve,
    split_composite_key,
    transaction,
)


async def listed(rows: Any) -> list[list[str]]:
    return [[row.key, row.value.decode("utf-8", "replace")] async for row in rows]


async def refusal_of(awaitable: Any) -> str:
    """The peer's refusal; anything else is a failure of the test."""
    try:
        result = await awaitable
    except PeerError as error:
        return str(error)
    raise ChaincodeError(f"the peer answered {result!r}", status=500)


class State(Contract):
    name = "state"

    @transaction()
    async def fill(self, stub: Stub, prefix: str, count: int) -> None:
        for number in range(count):
            await stub.put_state(f"{prefix}{number:05}", str(number).encode())

    @transaction()
    async def put_at_once(self, stub: Stub, key: str, value: bytes) -> None:
        stub.batch_writes = False
        await stub.put_state(key, value)

    @transaction()
    async def delete_at_once(self, stub: Stub, key: str) -> None:
        stub.batch_writes = False
        await stub.del_state(key)

    @transaction()
    async def rewrite(self, stub: Stub, key: str) -> None:
        await stub.put_state(key, b"first")
        await stub.del_state(key)
        await stub.put_state(key, b"last")

    @transaction()
    async def put_and_delete(self, stub: Stub, key: str) -> None:
        await stub.put_state(key, b"value")
        await stub.del_state(key)

    @transaction(evaluate_only=True)
    async def get(self, stub: Stub, key: str) -> bytes:
        return await stub.get_state(key)

    @transaction(evaluate_only=True)
    async def get_many(self, stub: Stub, *keys: str) -> list[str]:
        return [value.decode() for value in await stub.get_multiple_states(keys)]

    @transaction()
    async def read_own_write(self, stub: Stub, key: str) -> bytes:
        await stub.put_state(key, b"new")
        await stub.finish_write_batch()
        return await stub.get_state(key)

    @transaction(evaluate_only=True)
    async def range(self, stub: Stub, start: str, end: str) -> list[list[str]]:
        return await listed(stub.get_state_by_range(start, end))

    @transaction(evaluate_only=True)
    async def first_of_range(self, stub: Stub, start: str, end: str) -> list[str]:
        async with stub.get_state_by_range(start, end) as rows:
            async for row in rows:
                return [row.key, row.value.decode()]
        return []

    @transaction(evaluate_only=True)
    async def two_ranges_at_once(self, stub: Stub, first: str, second: str) -> list[int]:
        """Two results read in turns: each keeps its own place."""
        left = stub.get_state_by_range(first, first + "\U0010fffe")
        right = stub.get_state_by_range(second, second + "\U0010fffe")
        counts = [0, 0]
        open_rows = {0: left, 1: right}
        while open_rows:
            for place, rows in list(open_rows.items()):
                try:
                    await anext(rows)
                    counts[place] += 1
                except StopAsyncIteration:
                    del open_rows[place]
        return counts

    @transaction(evaluate_only=True)
    async def page(self, stub: Stub, start: str, end: str, size: int, bookmark: str) -> list[Any]:
        page = await stub.get_state_by_range_with_pagination(start, end, size, bookmark)
        return [[[row.key, row.value.decode()] for row in page.rows], page.bookmark]

    @transaction()
    async def write_after_page(self, stub: Stub, key: str) -> None:
        await stub.get_state_by_range_with_pagination("", "", 1, "")
        await stub.put_state(key, b"value")

    @transaction()
    async def put_composite(self, stub: Stub, object_type: str, *attributes: str) -> None:
        await stub.put_state(create_composite_key(object_type, attributes), "/".join(attributes).encode())

    @transaction(evaluate_only=True)
    async def partial(self, stub: Stub, object_type: str, *attributes: str) -> list[list[str]]:
        rows = stub.get_state_by_partial_composite_key(object_type, attributes)
        return [[*split_composite_key(row.key)[1], row.value.decode()] async for row in rows]

    @transaction(evaluate_only=True)
    async def partial_page(self, stub: Stub, object_type: str, size: int, bookmark: str) -> list[Any]:
        page = await stub.get_state_by_partial_composite_key_with_pagination(object_type, [], size, bookmark)
        return [[row.value.decode() for row in page.rows], page.bookmark]

    @transaction(evaluate_only=True)
    async def query(self, stub: Stub, query: str) -> list[str]:
        """What each kind of JSON query is answered: on LevelDB a refusal."""
        return [
            await refusal_of(listed(stub.get_query_result(query))),
            await refusal_of(stub.get_query_result_with_pagination(query, 5, "")),
        ]

    @transaction(evaluate_only=True)
    async def history(self, stub: Stub, key: str) -> list[dict[str, Any]]:
        return [
            {"tx": row.tx_id, "value": row.value.decode(), "time": row.timestamp_ms, "delete": row.is_delete}
            async for row in stub.get_history_for_key(key)
        ]


class Private(Contract):
    name = "private"

    @transaction()
    async def put(self, stub: Stub, collection: str, key: str) -> str:
        await stub.put_private_data(collection, key, stub.transient["value"])
        return f"{len(stub.transient)} transient"

    @transaction()
    async def put_at_once(self, stub: Stub, collection: str, key: str) -> None:
        stub.batch_writes = False
        await stub.put_private_data(collection, key, stub.transient["value"])

    @transaction()
    async def delete(self, stub: Stub, collection: str, key: str) -> None:
        await stub.del_private_data(collection, key)

    @transaction()
    async def purge(self, stub: Stub, collection: str, key: str) -> None:
        await stub.purge_private_data(collection, key)

    @transaction()
    async def purge_at_once(self, stub: Stub, collection: str, key: str) -> None:
        stub.batch_writes = False
        await stub.purge_private_data(collection, key)

    @transaction(evaluate_only=True)
    async def get(self, stub: Stub, collection: str, key: str) -> bytes:
        return await stub.get_private_data(collection, key)

    @transaction(evaluate_only=True)
    async def get_many(self, stub: Stub, collection: str, *keys: str) -> list[str]:
        return [value.decode() for value in await stub.get_multiple_private_data(collection, keys)]

    @transaction(evaluate_only=True)
    async def hash(self, stub: Stub, collection: str, key: str) -> str:
        return (await stub.get_private_data_hash(collection, key)).hex()

    @transaction(evaluate_only=True)
    async def range(self, stub: Stub, collection: str, start: str, end: str) -> list[list[str]]:
        return await listed(stub.get_private_data_by_range(collection, start, end))

    @transaction()
    async def put_composite(self, stub: Stub, collection: str, object_type: str, attribute: str) -> None:
        await stub.put_private_data(collection, create_composite_key(object_type, [attribute]), attribute.encode())

    @transaction(evaluate_only=True)
    async def partial(self, stub: Stub, collection: str, object_type: str) -> list[str]:
        rows = stub.get_private_data_by_partial_composite_key(collection, object_type, [])
        return [row.value.decode() async for row in rows]

    @transaction(evaluate_only=True)
    async def query(self, stub: Stub, collection: str, query: str) -> str:
        return await refusal_of(listed(stub.get_private_data_query_result(collection, query)))


class Policies(Contract):
    name = "policies"

    @transaction()
    async def put(self, stub: Stub, key: str, value: bytes) -> None:
        await stub.put_state(key, value)

    @transaction()
    async def set(self, stub: Stub, key: str, policy: bytes) -> None:
        await stub.set_state_validation_parameter(key, policy)

    @transaction()
    async def set_at_once(self, stub: Stub, key: str, policy: bytes) -> None:
        stub.batch_writes = False
        await stub.set_state_validation_parameter(key, policy)

    @transaction(evaluate_only=True)
    async def get(self, stub: Stub, key: str) -> bytes:
        return await stub.get_state_validation_parameter(key)

    @transaction()
    async def set_private(self, stub: Stub, collection: str, key: str, policy: bytes) -> None:
        await stub.set_private_data_validation_parameter(collection, key, policy)

    @transaction(evaluate_only=True)
    async def get_private(self, stub: Stub, collection: str, key: str) -> bytes:
        return await stub.get_private_data_validation_parameter(collection, key)


class Calls(Contract):
    """Everything but state: who called, events, other chaincodes, time, errors."""

    name = "calls"

    @transaction(evaluate_only=True)
    async def context(self, stub: Stub) -> dict[str, Any]:
        return {
            "msp": stub.creator.msp_id,
            "certificate": stub.creator.certificate.decode(),
            "attributes": dict(stub.creator.attributes()),
            "peer": stub.msp_id,
            "time": stub.timestamp_ms,
            "tx": stub.tx_id,
            "channel": stub.channel_id,
            "transient": {key: value.decode() for key, value in stub.transient.items()},
            "init": stub.invocation.is_init,
        }

    @transaction()
    async def initialise(self, stub: Stub) -> str:
        await stub.put_state("initialised", str(stub.invocation.is_init).encode())
        return str(stub.invocation.is_init)

    @transaction()
    async def emit(self, stub: Stub, key: str, *names: str) -> None:
        for name in names:
            stub.set_event(name, f"payload of {name}".encode())
        await stub.put_state(key, b"1")

    @transaction()
    async def call(self, stub: Stub, chaincode: str, *args: bytes) -> dict[str, Any]:
        response = await stub.invoke_chaincode(chaincode, args)
        return {"status": response.status, "message": response.message, "payload": response.payload.decode()}

    @transaction()
    async def emit_and_call(self, stub: Stub, chaincode: str, *args: bytes) -> None:
        stub.set_event("mine", b"")
        await stub.invoke_chaincode(chaincode, args)

    @transaction(evaluate_only=True)
    async def call_refused(self, stub: Stub, chaincode: str, *args: bytes) -> str:
        return await refusal_of(stub.invoke_chaincode(chaincode, args))

    @transaction(evaluate_only=True)
    async def unknown_collection(self, stub: Stub, key: str) -> str:
        """A refused read is an exception, never the peer's text as a value."""
        return await refusal_of(stub.get_private_data("no-such-collection", key))

    @transaction()
    async def unknown_collection_write(self, stub: Stub, key: str) -> str:
        await stub.put_state(key, b"1")
        await stub.put_private_data("no-such-collection", key, b"1")
        return "as if all were well"

    @transaction()
    async def unknown_collection_write_ignored(self, stub: Stub, key: str) -> str:
        stub.batch_writes = False
        await stub.put_state(key, b"1")
        await refusal_of(stub.put_private_data("no-such-collection", key, b"1"))
        return "as if all were well"

    @transaction()
    async def gather(self, stub: Stub, *keys: str) -> list[str]:
        values = await asyncio.gather(*(stub.get_state(key) for key in keys))
        return [value.decode() for value in values]

    @transaction()
    async def give_up_and_go_on(self, stub: Stub, key: str) -> str:
        """A read cancelled on its way does not mix its answer up with the next one's."""
        reading = asyncio.create_task(stub.get_state("absent"))
        await asyncio.sleep(0)  # the request is on its way
        reading.cancel()
        await asyncio.wait((reading,))
        return (await stub.get_state(key)).decode()

    @transaction()
    async def sleep(self, stub: Stub, milliseconds: int, key: str) -> str:
        await asyncio.sleep(milliseconds / 1000)
        await stub.put_state(key, b"slept")
        return "slept"

    @transaction()
    async def leave_a_task_behind(self, stub: Stub, key: str) -> str:
        async def late() -> None:
            await asyncio.sleep(0.05)
            await stub.put_state(key, b"too late")

        self.left = asyncio.create_task(late())
        return "done"

    @transaction()
    async def fail(self, stub: Stub, kind: str) -> None:
        await stub.put_state("failed", b"1")
        match kind:
            case "exception":
                raise RuntimeError("secret")
            case "exit":
                raise SystemExit(1)
            case "cancel":
                raise asyncio.CancelledError
            case "recursion":
                await self.fail(stub, kind)
            case "surrogate":
                raise ChaincodeError("\ud800")
            case "status":
                raise ChaincodeError("a long story: " + "x" * 1000, status=499)


if __name__ == "__main__":
    serve(State(), Private(), Policies(), Calls())
