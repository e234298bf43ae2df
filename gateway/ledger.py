"""The gateway's own acts on the ledger: stored before they are sent, sent again as they are, known to the end.

An act has a name that says what it does. While a transaction of that name may still commit, no second one is made: the
same bytes are sent again, which commit at most once. Only when it is known that a transaction has failed, a new one is
endorsed.
"""

import asyncio
import time

import structlog

from ..chaincode.records import Record
from ..fabric.client import (
    ClientError,
    CommitError,
    CommitStatusError,
    Contract,
    Gateway,
    SubmitError,
    Transaction,
    ValidationCode,
)
from .journal import Act, Journal
from .limits import Deadlines

__all__ = ["Ledger"]

log = structlog.get_logger(__name__)


class Ledger:
    """Acts of this gateway's certificate on one chaincode of one channel."""

    def __init__(self, gateway: Gateway, channel: str, chaincode: str, journal: Journal, deadlines: Deadlines) -> None:
        self._gateway = gateway
        self._network = gateway.network(channel)
        self._chaincode = chaincode
        self._journal = journal
        self._deadlines = deadlines
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
            if not await self._settled(name):
                await self._submit(name, function, request)
        return time.monotonic() - began

    async def _settled(self, name: str) -> bool:
        """Bring a transaction that was sent before to its end; True when it was committed."""
        act = self._journal.act(name)
        if act is None:
            return False
        transaction = self._gateway.signed_transaction(act.bytes)
        status = await (await transaction.submit()).status()
        log.info("ledger.resumed", act=name, transaction=act.transaction_id, code=status.code.name)
        self._journal.settle_act(name)
        return status.code is ValidationCode.VALID

    async def _submit(self, name: str, function: str, request: Record) -> None:
        contract, _, transaction_name = function.partition(":")
        if contract not in self._contracts:
            self._contracts[contract] = self._network.contract(self._chaincode, contract)

        async def store(transaction: Transaction) -> None:
            self._journal.store_act(Act(name, transaction.transaction_id, transaction.bytes))

        try:
            await self._contracts[contract].submit(transaction_name, request.canonical(), before_submit=store)
        except (SubmitError, CommitStatusError):
            raise  # it may commit yet: the act stays stored
        except (ClientError, CommitError):
            self._journal.settle_act(name)
            raise
        self._journal.settle_act(name)
