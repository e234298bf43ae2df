"""A gateway with an organisation's real keys that attests what it did not compute."""

import asyncio
import hashlib

from fedfabric.gateway.workshop import Workshop
from fedfabric.tests.network.gateway.gateway_process import main

honest = Workshop._sum


async def lying(self, job, current, counted, folder):
    outcome = await honest(self, job, current, counted, folder)
    lie = hashlib.sha256(f"{self._me} {outcome.digest}".encode()).hexdigest()
    return outcome.model_copy(update={"digest": lie})


if __name__ == "__main__":
    Workshop._sum = lying
    asyncio.run(main())
