"""A contract: submitting transactions to a chaincode and evaluating them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

from .calls import Calls
from .commit import Commit
from .errors import CommitError, CommitStatusError, EndorseError, GatewayError, SubmitError
from .proposal import Proposal, endorse, evaluate
from .retries import Retries
from .transaction import Transaction

__all__ = ["BeforeSubmit", "Contract"]

BeforeSubmit: TypeAlias = Callable[[Transaction], Awaitable[None]]
"""Called with the signed transaction before it is sent, so that its id and bytes can be stored first."""

_NOTHING: Final[Mapping[str, bytes]] = MappingProxyType({})


class Contract:
    """One contract of a chaincode on a channel.

    Attributes:
        channel_name, chaincode_name: where it is.
        contract_name: its name within the chaincode, "" for the default contract.
    """

    def __init__(
        self, calls: Calls, retries: Retries, channel_name: str, chaincode_name: str, contract_name: str = ""
    ) -> None:
        self._calls = calls
        self._retries = retries
        self.channel_name = channel_name
        self.chaincode_name = chaincode_name
        self.contract_name = contract_name

    async def submit(
        self,
        transaction: str,
        *arguments: str | bytes,
        transient: Mapping[str, bytes] = _NOTHING,
        endorsing_organizations: Sequence[str] = (),
        before_submit: BeforeSubmit | None = None,
        retries: Retries | None = None,
    ) -> bytes:
        """Have a transaction endorsed, ordered and committed, and return its result.

        Failures that have changed nothing are tried again as `retries` says (the gateway's by default).

        Raises:
            EndorseError: the endorsements could not be had, or the contract refused (`refusal`).
            SubmitError: the ordering service did not take it, or its answer was lost.
            CommitStatusError: it was submitted, but how it ended could not be learnt.
            CommitError: it is in a block, and invalid.
            UnsignedError: the gateway was connected without a signer.
        """
        retries = self._retries if retries is None else retries

        async def take_through() -> bytes:
            commit = await self.submit_async(
                transaction,
                *arguments,
                transient=transient,
                endorsing_organizations=endorsing_organizations,
                before_submit=before_submit,
                retries=retries,
            )
            status = await retries.run(commit.status, CommitStatusError)
            if not status.successful:
                raise CommitError(status.code, status.transaction_id, status.block_number)
            return commit.result

        return await retries.run(take_through, CommitError)

    async def submit_async(
        self,
        transaction: str,
        *arguments: str | bytes,
        transient: Mapping[str, bytes] = _NOTHING,
        endorsing_organizations: Sequence[str] = (),
        before_submit: BeforeSubmit | None = None,
        retries: Retries | None = None,
    ) -> Commit:
        """Have a transaction endorsed and ordered; its result is the commit's, to be trusted once `status` says so.

        Raises:
            EndorseError, SubmitError, UnsignedError: as `submit`.
        """
        retries = self._retries if retries is None else retries

        def propose() -> Proposal:
            return self.propose(
                transaction, *arguments, transient=transient, endorsing_organizations=endorsing_organizations
            )

        endorsed = await retries.run(lambda: endorse(self._calls, propose), EndorseError)
        endorsed.sign()
        if before_submit is not None:
            await before_submit(endorsed)
        return await retries.run(endorsed.submit, SubmitError)

    async def evaluate(
        self,
        transaction: str,
        *arguments: str | bytes,
        transient: Mapping[str, bytes] = _NOTHING,
        endorsing_organizations: Sequence[str] = (),
    ) -> bytes:
        """Run a transaction on one peer and return its result; nothing is written.

        Raises:
            GatewayError: the peer could not, or the contract refused (`refusal`).
            UnsignedError: the gateway was connected without a signer.
        """

        def propose() -> Proposal:
            return self.propose(
                transaction, *arguments, transient=transient, endorsing_organizations=endorsing_organizations
            )

        return await self._retries.run(lambda: evaluate(self._calls, propose), GatewayError)

    def propose(
        self,
        transaction: str,
        *arguments: str | bytes,
        transient: Mapping[str, bytes] = _NOTHING,
        endorsing_organizations: Sequence[str] = (),
    ) -> Proposal:
        """A proposal, to be taken through its steps one by one, or to be signed elsewhere."""
        name = f"{self.contract_name}:{transaction}" if self.contract_name else transaction
        encoded = (name.encode(), *(part.encode() if isinstance(part, str) else part for part in arguments))
        return Proposal.build(
            self._calls,
            self.channel_name,
            self.chaincode_name,
            encoded,
            transient=transient,
            endorsing_organizations=endorsing_organizations,
        )
