"""Follows the channel: takes its blocks into the read model, keeps whom to trust, tells who waits for a change."""

import asyncio
from collections.abc import AsyncIterator, Callable

import structlog
from fabric_protos.common import common_pb2

from .blocks import read_block
from .errors import UnreadyError
from .read_model import Applied, ReadModel
from .trust import Trust

__all__ = ["Follower"]

log = structlog.get_logger(__name__)


class Follower:
    """Takes the channel's blocks into the read model and tells who waits for it."""

    def __init__(self, model: ReadModel, chaincode: str) -> None:
        self.model = model
        self._chaincode = chaincode
        self._changed = asyncio.Condition()
        self.trust = Trust()
        configuration = model.configuration()
        if configuration is not None:
            self.trust = Trust.from_configuration(configuration)
        self._listeners: list[Callable[[Applied], None]] = []
        self._closed = False
        self.peer_lost_ms = 0
        """Since when the peer has been away (ms since 1970); 0 while it is connected."""

    def listen(self, listener: Callable[[Applied], None]) -> None:
        """Call somebody after each block, in the event loop's thread."""
        self._listeners.append(listener)

    def peer_is(self, connected: bool, now_ms: int) -> None:
        """Note whether the peer is there: while it is not, the read model stands still."""
        if connected == (not self.peer_lost_ms):
            return
        self.peer_lost_ms = 0 if connected else now_ms
        if connected:
            log.info("peer.back")
        else:
            log.warning("peer.lost", block=self.model.position - 1)

    async def take(self, block: common_pb2.Block) -> None:
        """Take one block in.

        Raises:
            OtherChannelError, BlockError: it is not this channel's next block.
        """
        read = read_block(block, self._chaincode)
        applied = await asyncio.to_thread(self.model.apply, read)
        if applied is None:
            return
        if applied.configuration is not None:
            self.trust = Trust.from_configuration(applied.configuration)
            log.info("channel.configuration", block=applied.number, organisations=sorted(self.trust.members))
        for listener in self._listeners:
            listener(applied)
        async with self._changed:
            self._changed.notify_all()

    async def until(self, block_number: int) -> None:
        """Wait until a block is in the read model."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.model.position > block_number)

    async def changes(self) -> AsyncIterator[int]:
        """The number of the latest block, now and after every change; changes in between are seen as one.

        Raises:
            UnreadyError: the gateway stops.
        """
        seen = 0
        while True:
            # Not `wait_for` a predicate over `seen`: the consumer may be slow, and then several blocks are one change.
            async with self._changed:
                while self.model.position <= seen and not self._closed:
                    await self._changed.wait()
                if self._closed:
                    raise UnreadyError("the gateway stops", code="GATEWAY_STOPPING")
                seen = self.model.position
            yield seen - 1

    async def close(self) -> None:
        """End `changes` for all who read it: the gateway stops."""
        self._closed = True
        async with self._changed:
            self._changed.notify_all()
