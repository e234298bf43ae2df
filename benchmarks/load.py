"""Load by our client: the same work, in the same shape, as node/load.mjs; `python -m fedfabric.benchmarks.load FILE`.

FILE holds Settings as JSON, one line of JSON is printed. With a step, one half of the work is measured alone:
endorsing, or ordering and committing what is already endorsed. Its requests were made and signed beforehand, and
commits are read from one stream of blocks: of a client's own work only gRPC's is in it.
"""

import asyncio
import json
import os
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import grpc
from fabric_protos.gateway import gateway_pb2, gateway_pb2_grpc
from fabric_protos.peer import events_pb2
from fedfabric.fabric.client import (
    Contract,
    Events,
    Identity,
    Network,
    Proposal,
    Transaction,
    ValidationCode,
    connect,
    open_channel,
    private_key_signer,
)

if TYPE_CHECKING:
    from fedfabric.network import Network as RunningNetwork


@dataclass(frozen=True)
class Settings:
    """A load. Names are those that load.mjs reads; roots, certificate and key are paths of PEM files."""

    endpoint: str
    roots: str
    mspId: str  # noqa: N815
    certificate: str
    key: str
    channel: str
    chaincode: str
    inFlight: int  # noqa: N815
    warmUpSeconds: float = 1.5  # noqa: N815
    seconds: float = 4.0
    valueBytes: int = 256  # noqa: N815
    step: Literal["", "endorse", "commit"] = ""
    prepared: int = 4000
    files: tuple[bytes, bytes, bytes] = field(default=(b"", b"", b""), repr=False)

    @classmethod
    async def of(cls, network: "RunningNetwork", organisation: str, chaincode: str, in_flight: int) -> Self:
        """The load that a user of this organisation puts on its peer."""
        member = network.organisations[organisation]
        user = await network.enrol(organisation, "load")
        return cls(
            endpoint=member.peer_endpoint,
            roots=str(member.peer_tls_ca),
            mspId=member.msp_id,
            certificate=str(user.certificate_path),
            key=str(user.key_path),
            channel=network.channel_name,
            chaincode=chaincode,
            inFlight=in_flight,
        )


async def submitting(
    settings: Settings, contract: Contract, arguments: Callable[[], Sequence[str]]
) -> dict[str, object]:
    """Submit until the time is over; what is done in the warm-up is not counted."""
    begin = time.perf_counter() + settings.warmUpSeconds
    end = begin + settings.seconds
    latencies: list[float] = []
    failures: list[str] = []

    async def worker() -> None:
        while (started := time.perf_counter()) < end:
            try:
                await contract.submit(*arguments())
            except Exception as error:
                failures.append(repr(error))
                continue
            ended = time.perf_counter()
            if begin <= ended < end:
                latencies.append(1000 * (ended - started))

    async def processor() -> float:
        await asyncio.sleep(begin - time.perf_counter())
        before = time.process_time()
        await asyncio.sleep(end - time.perf_counter())
        return (time.process_time() - before) / settings.seconds

    cpu, *_ = await asyncio.gather(processor(), *(worker() for _ in range(settings.inFlight)))
    latencies.sort()
    last = len(latencies) - 1
    return {
        "committed": len(latencies),
        "failed": len(failures),
        "firstFailure": failures[0] if failures else None,
        "seconds": settings.seconds,
        "p50Ms": latencies[int(0.5 * last)] if latencies else None,
        "p95Ms": latencies[int(0.95 * last)] if latencies else None,
        "cpu": cpu,
    }


async def rate(in_flight: int, work: Sequence[Callable[[], Awaitable[object]]]) -> float:
    """Do all of it, and return how much is done per second between the first and the last tenth."""
    waiting = deque(work)
    done: list[float] = []

    async def worker() -> None:
        while waiting:
            await waiting.popleft()()
            done.append(time.perf_counter())

    await asyncio.gather(*(worker() for _ in range(in_flight)))
    first, last = len(done) // 10, 9 * len(done) // 10
    return (last - first) / (done[last] - done[first])


async def endorsing(settings: Settings, channel: grpc.aio.Channel, proposals: Sequence[Proposal]) -> float:
    """Proposals only endorsed, per second."""
    endorse = gateway_pb2_grpc.GatewayStub(channel).Endorse
    requests = [
        gateway_pb2.EndorseRequest(
            transaction_id=proposal.transaction_id,
            channel_id=settings.channel,
            proposed_transaction=gateway_pb2.ProposedTransaction.FromString(proposal.bytes).proposal,
        )
        for proposal in proposals
    ]
    return await rate(settings.inFlight, [partial(endorse, each) for each in requests])


async def committing(
    settings: Settings, channel: grpc.aio.Channel, network: Network, transactions: Sequence[Transaction]
) -> float:
    """Transactions only ordered and committed, per second; that they are is read from the peer's filtered blocks.

    Raises:
        RuntimeError: one of them is not valid.
    """
    submit = gateway_pb2_grpc.GatewayStub(channel).Submit
    ended = {each.transaction_id: asyncio.get_running_loop().create_future() for each in transactions}

    async def read(blocks: Events[events_pb2.FilteredBlock]) -> None:
        waiting = set(ended)
        while waiting:
            for transaction in (await anext(blocks)).filtered_transactions:
                if transaction.txid in waiting:
                    waiting.remove(transaction.txid)
                    ended[transaction.txid].set_result(ValidationCode(transaction.tx_validation_code))

    async def commit(transaction_id: str, request: gateway_pb2.SubmitRequest) -> None:
        try:
            await submit(request)
        except grpc.aio.AioRpcError as error:
            # BFT orderers refuse what another has passed on to them already: its end is in the blocks all the same.
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        if (code := await ended[transaction_id]) is not ValidationCode.VALID:
            raise RuntimeError(f"{transaction_id} is {code.name}")

    requests = [
        gateway_pb2.SubmitRequest(
            transaction_id=each.transaction_id,
            channel_id=settings.channel,
            prepared_transaction=gateway_pb2.PreparedTransaction.FromString(each.bytes).envelope,
        )
        for each in transactions
    ]
    start = await network.height()
    async with network.filtered_block_events(start_block=start) as blocks, asyncio.TaskGroup() as group:
        group.create_task(read(blocks))
        return await rate(
            settings.inFlight,
            [partial(commit, request.transaction_id, request) for request in requests],
        )


async def run(settings: Settings) -> dict[str, object]:
    """Connect, load, and return the figures."""
    roots, certificate, key = settings.files
    value = os.urandom(settings.valueBytes // 2).hex()
    prefix = os.urandom(8).hex()
    numbers = iter(range(10**9))
    async with open_channel(settings.endpoint, roots) as channel:
        gateway = connect(channel, Identity(settings.mspId, certificate), private_key_signer(key))
        network = gateway.network(settings.channel)
        contract = network.contract(settings.chaincode)

        def arguments() -> Sequence[str]:
            return "put", f"{prefix}{next(numbers)}", value

        if not settings.step:
            return await submitting(settings, contract, arguments)
        proposals = [contract.propose(*arguments()) for _ in range(settings.prepared)]
        for proposal in proposals:
            proposal.sign()
        if settings.step == "endorse":
            return {"rate": await endorsing(settings, channel, proposals)}
        transactions = await asyncio.gather(*(proposal.endorse() for proposal in proposals))
        for transaction in transactions:
            transaction.sign()
        return {"rate": await committing(settings, channel, network, transactions)}


def main(path: Path) -> None:
    """Run the load that a file describes."""
    content = json.loads(path.read_text(encoding="utf-8"))
    files = tuple(Path(content[name]).read_bytes() for name in ("roots", "certificate", "key"))
    print(json.dumps(asyncio.run(run(Settings(**content | {"files": files})))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
