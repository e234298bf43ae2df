"""A chaincode for tests: keys and values, and one transaction for each thing that a contract can do with a peer.

Run as a file, by `python tests/network/chaincodes/kv.py`, with the environment of a chaincode server.
"""

import asyncio
from typing import Any

from fedfabric.fabric.shim import ChaincodeError, Contract, PeerError, Stub, serve, transaction

Row = list[str]


async def listed(rows: Any) -> list[Row]:
    return [[row.key, row.value.decode()] async for row in rows]


class KV(Contract):
    name = "kv"

    # state

    @transaction()
    async def put(self, stub: Stub, key: str, value: bytes) -> str:
        await stub.put_state(key, value)
        return key

    @transaction()
    async def put_many(self, stub: Stub, prefix: str, count: int) -> None:
        for number in range(count):
            await stub.put_state(f"{prefix}{number:05}", str(number).encode())

    @transaction()
    async def delete(self, stub: Stub, key: str) -> None:
        await stub.del_state(key)

    @transaction(evaluate_only=True)
    async def get(self, stub: Stub, key: str) -> bytes:
        return await stub.get_state(key)

    @transaction()
    async def increment(self, stub: Stub, key: str) -> int:
        count = int(await stub.get_state(key) or b"0") + 1
        await stub.put_state(key, str(count).encode())
        return count

    @transaction()
    async def nothing(self, stub: Stub) -> None:
        pass

    @transaction(evaluate_only=True)
    async def who(self, stub: Stub) -> dict[str, object]:
        return {
            "msp": stub.creator.msp_id,
            "name": stub.creator.enrolment_id,
            "peer_msp": stub.msp_id,
            "time": stub.timestamp_ms,
            "tx": stub.tx_id,
            "channel": stub.channel_id,
            "transient": {key: value.decode() for key, value in stub.transient.items()},
        }

    @transaction()
    async def emit(self, stub: Stub, first: str, last: str) -> None:
        stub.set_event(first, b"first")
        stub.set_event(last, b"last")
        await stub.put_state(f"event/{stub.tx_id}", b"1")

    # refusals

    @transaction()
    async def refuse(self, stub: Stub, status: int, text: str) -> None:
        await stub.put_state("refused", b"1")
        raise ChaincodeError(text, status=status)

    @transaction()
    async def fail(self, stub: Stub, text: str) -> None:
        await stub.put_state("failed", b"1")
        raise RuntimeError(text)

    # time

    @transaction(evaluate_only=True)
    async def slow(self, stub: Stub, milliseconds: int) -> str:
        await asyncio.sleep(milliseconds / 1000)
        return "slept"

    @transaction()
    async def slow_put(self, stub: Stub, key: str, milliseconds: int) -> str:
        await stub.get_state(key)
        await asyncio.sleep(milliseconds / 1000)
        await stub.put_state(key, b"slowly")
        return key

    # chaincode to chaincode

    @transaction()
    async def call(self, stub: Stub, chaincode: str, function: str, key: str, value: bytes) -> bytes:
        try:
            response = await stub.invoke_chaincode(chaincode, [function.encode(), key.encode(), value])
        except PeerError as error:
            raise ChaincodeError(f"peer: {error}", status=502) from error
        if response.status >= 400:
            raise ChaincodeError(response.message, status=response.status)
        return response.payload


if __name__ == "__main__":
    serve(KV())
