"""How tests of networks speak to them, and wait for them."""

import asyncio
import contextlib
import time

from fedfabric.fabric.client import connect, open_channel


@contextlib.asynccontextmanager
async def contract(network, organisation, chaincode="kv"):
    """A chaincode as a scientist of the organisation reaches it."""
    described = network.organisations[organisation]
    user = await network.enrol(organisation, "scientist")
    async with open_channel(described.peer_endpoint, described.peer_tls_ca.read_bytes()) as channel:
        gateway = connect(channel, user.identity(), user.signer())
        yield gateway.network(network.channel_name).contract(chaincode)


async def put(network, organisation, key, value="1", chaincode="kv"):
    async with contract(network, organisation, chaincode) as kv:
        await kv.submit("put", key, value)


async def get(network, organisation, key, chaincode="kv"):
    async with contract(network, organisation, chaincode) as kv:
        return await kv.evaluate("get", key)


async def until(condition, seconds=20):
    """Poll an async condition, and return its first true value."""
    deadline = time.monotonic() + seconds
    while True:
        value = await condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.02)


async def eventually(action, errors, seconds=30):
    """Repeat an async action until it raises none of these errors."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await action()
        except errors:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
