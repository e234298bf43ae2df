"""A gateway with an organisation's real keys that commits its updates and gives their bytes to nobody."""

import asyncio

from fedfabric.gateway.errors import NotFoundError
from fedfabric.gateway.services.blobs import Blobs
from fedfabric.tests.network.gateway.gateway_process import main

honest = Blobs.Fetch


async def withholding(self, request, context):
    model = self._parts.model
    for job in map(model.job, model.jobs_with_blob(request.address)):
        own = model.update(job.id, job.round, self._parts.me)
        if own is not None and own.blob.address == request.address:
            raise NotFoundError(f"no blob with the address {request.address} is here")
    async for answer in honest(self, request, context):
        yield answer


if __name__ == "__main__":
    Blobs.Fetch = withholding
    asyncio.run(main())
