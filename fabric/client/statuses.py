"""How transactions end, told to all that wait at once by one stream of the peer's filtered blocks.

A peer answers CommitStatus out of the same block, released by the same lock once its state is written, so that what
the stream tells is what the question would be answered. Where the stream can't tell, the question is asked.
"""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from typing import Final, TypeAlias
from weakref import WeakValueDictionary

import grpc
from fabric_protos.gateway import gateway_pb2
from fabric_protos.peer import events_pb2

from .block_events import FilteredBlockEventsRequest
from .calls import Calls
from .errors import GatewayError
from .validation_codes import ValidationCode

__all__ = ["Ended", "Statuses"]

Ended: TypeAlias = asyncio.Future[gateway_pb2.CommitStatusResponse | None]
"""How one transaction ended; None: the peer is to be asked."""

# A stream costs the peer about what two questions cost, and sends what other clients commit besides.
_MANY: Final = 8
# All in seconds. A transaction that the stream does not name for so long is asked for.
_PATIENCE: Final = 5.0
_IDLE: Final = 10.0
_AFTER_FAILURE: Final = 10.0


class Statuses:
    """The ends of one channel's transactions, for one gateway.

    The stream is opened when many are asked for at once and closed when nobody has made use of it for a while. It
    begins with the newest block, which comes at once: a transaction that is watched after that can't be missed.
    """

    def __init__(self, calls: Calls, channel_name: str) -> None:
        self._calls = calls
        self._channel_name = channel_name
        self._watched: WeakValueDictionary[str, Ended] = WeakValueDictionary()
        self._asking = 0
        self._reader: asyncio.Task[None] | None = None
        self._live = False
        self._used = 0.0
        self._not_before = 0.0

    @classmethod
    def of(cls, calls: Calls, channel_name: str) -> "Statuses":
        """Those that all transactions of a gateway on a channel share."""
        shared = calls.statuses.get(channel_name)
        if shared is None:
            shared = calls.statuses[channel_name] = cls(calls, channel_name)
        return shared

    def watch(self, transaction_id: str) -> Ended | None:
        """Watch a transaction that has not been submitted yet; None while there is no stream."""
        if not self._live:
            return None
        loop = asyncio.get_running_loop()
        self._used = loop.time()
        ended = self._watched.get(transaction_id)
        if ended is None:
            ended = self._watched[transaction_id] = loop.create_future()
        return ended

    async def told(self, ended: Ended) -> gateway_pb2.CommitStatusResponse | None:
        """Wait for what the stream tells, within the deadline for commit statuses; None: ask the peer."""
        deadline = self._calls.deadlines.commit_status
        await asyncio.wait((ended,), timeout=_PATIENCE if deadline is None else min(_PATIENCE, deadline))
        return ended.result() if ended.done() else None

    @contextmanager
    def asking(self) -> Iterator[None]:
        """While the peer is asked for one transaction."""
        self._asking += 1
        try:
            if self._asking >= _MANY and self._reader is None and self._calls.can_sign:
                loop = asyncio.get_running_loop()
                if loop.time() >= self._not_before:
                    self._reader = loop.create_task(self._read())
            yield
        finally:
            self._asking -= 1

    async def _read(self) -> None:
        clock = asyncio.get_running_loop().time
        request = FilteredBlockEventsRequest.from_newest(self._calls, self._channel_name)
        try:
            async with aclosing(request.stream()) as stream, asyncio.timeout(_IDLE) as idle:
                async for block, _ in stream:
                    if not self._live:
                        self._live, self._used = True, clock()
                    self._tell(block)
                    idle.reschedule((clock() if self._watched else self._used) + _IDLE)
        except TimeoutError:
            pass  # nobody uses it, or the channel is quiet: opened again when many are asked for
        except (GatewayError, grpc.aio.UsageError):
            # Refused, broken off, or the channel is closed: each transaction is asked for, and those questions fail
            # with errors of their own if that does not work either.
            self._not_before = clock() + _AFTER_FAILURE
        finally:
            self._live = False
            self._reader = None
            while self._watched:
                _, ended = self._watched.popitem()
                ended.set_result(None)

    def _tell(self, block: events_pb2.FilteredBlock) -> None:
        for transaction in block.filtered_transactions:
            ended = self._watched.pop(transaction.txid, None)
            if ended is not None:
                code = transaction.tx_validation_code
                # A duplicate's end is that of the first, which the peer knows.
                duplicate = code == ValidationCode.DUPLICATE_TXID
                reply = gateway_pb2.CommitStatusResponse(result=code, block_number=block.number)
                ended.set_result(None if duplicate else reply)
