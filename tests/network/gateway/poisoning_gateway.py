"""A gateway with an organisation's real keys that commits an update whose bytes are no tensors."""

import asyncio

from fedfabric.chaincode.records import Blob
from fedfabric.gateway.workshop import Workshop
from fedfabric.tests.network.gateway.gateway_process import main

honest = Workshop._encode


async def poisoning(self, job, current, member, folder, result):
    update = await honest(self, job, current, member, folder, result)
    header = (1 << 62).to_bytes(8, "little")  # a safetensors header that lies about its size
    stored = await self._store.put([header + b"{}"], self._secrets.storage_key)
    return update.model_copy(update={"blob": Blob(address=stored.address, digest="0" * 64, size=stored.size)})


if __name__ == "__main__":
    Workshop._encode = poisoning
    asyncio.run(main())
