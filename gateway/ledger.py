"""The gateway's own acts on the ledger: stored before they are sent, sent again as they are, known to the end.

An act has a name that says what it does. While a transaction of that name may still commit, no second one is made: the
same bytes are sent again, which commit at most once. Only when it is known that a transaction has failed, a new one is
endorsed. An act ends when the gateway's own read model shows its block, so that nobody decides on what was before it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import grpc
import structlog

from ..chaincode.records import Record
from ..fabric.client import (
    Commit,
    CommitError,
    CommitStatusError,
    Contract,
    Gateway,
    Retries,
    SubmitError,
    Transaction,
)
from .journal import Act, Journal
from .limits import Deadlines

__all__ = ["Ledger"]

log = structlog.get_logger(__name__)


class Ledger:
    """Acts of this gateway's certificate on one chaincode of one channel.

    Args:
        gateway: the certificate's way to the peer.
        channel: of the chaincode.
        chaincode: whose transactions are submitted.
        journal: where transactions are stored.
        shown: returns when a block is in the read model.
        deadlines: `ledger` bounds an act.
        retries: what is endorsed anew.
    """

    def __init__(
        self,
        gateway: Gateway,
        channel: str,
        chaincode: str,
        *,
        journal: Journal,
        shown: Callable[[int], Awaitable[None]],
        deadlines: Deadlines,
        retries: Retries = Retries(),  # noqa: B008 - frozen
    ) -> None:
        self._gateway = gateway
        self._network = gateway.network(channel)
        self._chaincode = chaincode
        self._journal = journal
        self._shown = shown
        self._deadlines = deadlines
        self._retries = retries
        self._contracts: dict[str, Contract] = {}

    async def act(self, name: str, function: str, request: Record) -> float:
        """Have a transaction committed that does what its name says.

        Args:
            name: what it does; equal names mean the same deed.
            function: `contract:transaction`.
            request: its argument.

        Returns:
            the seconds that it took.

        Raises:
            ClientError: it failed, or how it ended is not known yet (SubmitError, CommitStatusError): act again.
            TimeoutError: it took longer than the ledger's deadline: act again.
        """
        began = time.monotonic()
        async with asyncio.timeout(self._deadlines.ledger):
            block = await self._settled(name)
            if block is None:
                block = await self._submit(name, function, request)
            await self._shown(block)
        return time.monotonic() - began

    async def _settled(self, name: str) -> int | None:
        """Bring a transaction that was sent before to its end; its block when it was committed."""
        act = self._journal.act(name)
        if act is None:
            return None
        log.info("ledger.resumed", act=name, transaction=act.transaction_id)
        try:
            return await self._ended(name, await self._sent(name, self._gateway.signed_transaction(act.bytes).submit()))
        except (CommitError, SubmitError) as error:
            if self._journal.act(name) is not None:
                raise  # it may commit still
            log.info("ledger.failed_before", act=name, transaction=act.transaction_id, code=error.code.name)
            return None

    async def _submit(self, name: str, function: str, request: Record) -> int:
        contract, _, transaction_name = function.partition(":")
        if contract not in self._contracts:
            self._contracts[contract] = self._network.contract(self._chaincode, contract)

        async def store(transaction: Transaction) -> None:
            self._journal.store_act(Act(name, transaction.transaction_id, transaction.bytes))

        async def take_through() -> int:
            sending = self._contracts[contract].submit_async(
                transaction_name, request.canonical(), before_submit=store, retries=self._retries
            )
            return await self._ended(name, await self._sent(name, sending))

        # Endorsed anew is only what is known to have failed; `_ended` has settled that act by then.
        return await self._retries.run(take_through, CommitError)

    async def _sent(self, name: str, sending: Awaitable[Commit]) -> Commit:
        """Send a transaction; an orderer's no settles its act, as when its certificate was renewed in between."""
        try:
            return await sending
        except SubmitError as error:
            if error.code is grpc.StatusCode.ABORTED:
                self._journal.settle_act(name)
            raise

    async def _ended(self, name: str, commit: Commit) -> int:
        """Wait for a transaction's end, which settles its act either way; its block when it was committed."""
        status = await self._retries.run(commit.status, CommitStatusError)
        self._journal.settle_act(name)
        if not status.successful:
            raise CommitError(status.code, status.transaction_id, status.block_number)
        return status.block_number
