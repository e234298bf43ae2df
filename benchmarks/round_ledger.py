"""What a job leaves on the ledger, round by round: how many bytes, and on what of it a round waited.

Blocks are taken down as they arrive from one peer. A transaction was begun at the time in its header, which is the
clock of the gateway that proposed it and here this machine's own; it is committed when its block arrives. A round's way
is the chain of what waited for what, found backwards from its end: finalising, the last attestation, closing, the last
update, and the use of that member's data, where a grant asks for its record. The parts of the way add up to the round.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from fabric_protos.common import common_pb2
from fedfabric.fabric.blocks import decode_block
from fedfabric.fabric.client import connect, open_channel
from fedfabric.network.network import Network

__all__ = ["LEDGER", "WAY", "Arrived", "RoundOnLedger", "Step", "WatchError", "rounds", "watched"]

WAY = (
    "use: begun after the round opened",
    "use: committed",
    "training, with reading and encoding",
    "update: committed",
    "close: begun",
    "close: committed",
    "fetching, summing, evaluating",
    "attest: committed",
    "finalise: begun",
    "finalise: committed",
)
"""The parts of a round's way."""
LEDGER = tuple(part for part in WAY if ":" in part)
"""Those in which nobody trains, moves or computes models."""


class WatchError(Exception):
    """The blocks are not those of a job that ran to its end."""


@dataclass(frozen=True)
class Arrived:
    """A block, and when it arrived (seconds since 1970)."""

    at: float
    block: common_pb2.Block


@dataclass(frozen=True)
class Step:
    """A transaction: `contract:transaction`, whose, begun and committed when (seconds since 1970), its bytes."""

    name: str
    msp: str
    begun: float
    committed: float
    size: int
    valid: bool


@dataclass(frozen=True)
class RoundOnLedger:
    """A round, from the commit of what opened it to the commit of what ended it (seconds since 1970).

    Attributes:
        steps: all transactions in between, the one that ended it included.
        block_bytes: of whole blocks, with headers, orderers' signatures and peers' flags.
    """

    opened: float
    ended: float
    steps: tuple[Step, ...]
    block_bytes: int

    @property
    def seconds(self) -> float:
        """From end to end."""
        return self.ended - self.opened

    @property
    def bytes(self) -> int:
        """Of its transactions."""
        return sum(step.size for step in self.steps)

    @property
    def on_ledger(self) -> float:
        """Seconds of its way in which nobody trains, moves or computes models."""
        way = self.way()
        return sum(way[part] for part in LEDGER)

    def way(self) -> Mapping[str, float]:
        """Seconds of each part of WAY."""
        final, attest = self._last("training:finalise"), self._last("training:attest")
        close, update = self._last("training:close"), self._last("training:update")
        uses = [step for step in self.steps if step.name == "access:use" and step.valid and step.msp == update.msp]
        use_begun, use_committed = (uses[-1].begun, uses[-1].committed) if uses else (self.opened, self.opened)
        times = (
            self.opened,
            use_begun,
            use_committed,
            update.begun,
            update.committed,
            close.begun,
            close.committed,
            attest.begun,
            attest.committed,
            final.begun,
            self.ended,
        )
        return {part: times[index + 1] - times[index] for index, part in enumerate(WAY)}

    def _last(self, name: str) -> Step:
        found = [step for step in self.steps if step.name == name and step.valid]
        if not found:
            raise WatchError(f"a round without {name}")
        return max(found, key=lambda step: (step.committed, step.begun))


@asynccontextmanager
async def watched(network: Network, organisation: str) -> AsyncIterator[list[Arrived]]:
    """The blocks that an organisation's peer commits meanwhile."""
    arrived: list[Arrived] = []
    described, person = network.organisations[organisation], network.administrator(organisation)
    async with open_channel(described.peer_endpoint, described.peer_tls_ca.read_bytes()) as channel:
        gateway = connect(channel, person.identity(), person.signer())
        async with gateway.network(network.channel_name).block_events() as blocks:

            async def take_down() -> None:
                async for block in blocks:
                    arrived.append(Arrived(time.time(), block))  # noqa: PERF401 - cancelled, a comprehension has nothing

            task = asyncio.create_task(take_down())
            try:
                yield arrived
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


def rounds(arrived: Sequence[Arrived], job: str, count: int) -> list[RoundOnLedger]:
    """A job's rounds, of blocks that nothing but this job has filled from its start to its end.

    Raises:
        WatchError: they are not as many as the job has.
    """
    found: list[RoundOnLedger] = []
    opened = 0.0
    steps: list[Step] = []
    block_bytes = 0
    for one in arrived:
        block_bytes += one.block.ByteSize()
        for step, request in _steps(one):
            steps.append(step)
            of_job = step.valid and request.get("job") == job
            if of_job and step.name == "training:start":
                opened, steps, block_bytes = one.at, [], 0
            elif of_job and step.name == "training:finalise" and opened and request.get("round") == len(found) + 1:
                found.append(RoundOnLedger(opened, one.at, tuple(steps), block_bytes))
                opened, steps, block_bytes = one.at, [], 0
    if len(found) != count:
        raise WatchError(f"{len(found)} rounds of {job} in {len(arrived)} blocks, it has {count}")
    return found


def _steps(one: Arrived) -> Iterator[tuple[Step, Mapping[str, object]]]:
    for envelope, transaction in zip(one.block.data.data, decode_block(one.block).transactions, strict=True):
        action, creator = transaction.action, transaction.creator
        if action is None or creator is None:
            continue
        name, request = action.arguments[0].decode(), json.loads(action.arguments[1])
        begun = transaction.timestamp_ms / 1000
        yield Step(name, creator.msp_id, begun, one.at, len(envelope), transaction.is_valid), request
