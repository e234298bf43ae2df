"""The service Transactions: endorsing and ordering what callers have signed."""

import asyncio
from contextlib import suppress
from typing import Any, Final

import grpc
from fabric_protos.common import common_pb2
from google.protobuf.message import DecodeError

from ...fabric.client import CommitError, MalformedError, connect
from ...fabric.identity import Identity, InvalidIdentityError
from ..admission import caller
from ..errors import DeniedError, ExhaustedError, InvalidError, OutcomeUnknownError
from ..parts import Parts
from ..v1 import transactions_pb2, transactions_pb2_grpc

NAMES = ("fedfabric.gateway.v1.Transactions",)

_RECONNECT_SECONDS: Final = 2.0


class Transactions(transactions_pb2_grpc.TransactionsServicer):
    """Endorse and submit, of the caller's own transactions and no one else's."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        # Each caller's connection counts its own calls alone, and the peer refuses what all have in flight beyond its
        # limit. Two numbers, so that what is endorsed does not wait behind what begins.
        self._endorsing = asyncio.Semaphore(parts.limits.endorsements)
        self._submitting = asyncio.Semaphore(parts.limits.submissions)
        # Commits are waited for by the gateway's own calls, most of which are to be left to what it does itself.
        self._awaiting = asyncio.Semaphore(parts.limits.awaited)

    async def Endorse(  # noqa: N802 - the method's name in the API
        self, request: transactions_pb2.EndorseRequest, _: Any
    ) -> transactions_pb2.EndorseResponse:
        """Have the caller's proposal endorsed."""
        configuration = self._parts.configuration
        gateway = connect(self._parts.peer, caller().identity)
        proposal = gateway.signed_proposal(request.proposed_transaction, _signature(request.signature))
        if (proposal.channel_name, proposal.chaincode_name) != (configuration.channel, configuration.chaincode):
            raise InvalidError(
                f"the proposal is not for {configuration.chaincode} on {configuration.channel}",
                code="MALFORMED_TRANSACTION",
            )
        _require_caller(proposal.creator)
        await _connected(self._parts.peer)
        async with asyncio.timeout(self._parts.deadlines.ledger), self._endorsing:
            transaction = await proposal.endorse()
        return transactions_pb2.EndorseResponse(
            transaction_id=transaction.transaction_id,
            payload=transaction.message,
            prepared_transaction=transaction.bytes,
            result=transaction.result,
        )

    async def Submit(  # noqa: N802
        self, request: transactions_pb2.SubmitRequest, _: Any
    ) -> transactions_pb2.SubmitResponse:
        """Have the caller's transaction ordered, and wait until it is committed and shown here."""
        configuration = self._parts.configuration
        gateway = connect(self._parts.peer, caller().identity)
        transaction = gateway.signed_transaction(request.prepared_transaction, _signature(request.signature))
        if transaction.channel_name != configuration.channel:
            raise InvalidError(f"the transaction is not for {configuration.channel}", code="MALFORMED_TRANSACTION")
        _require_caller(_creator(transaction.message))
        sent = False
        try:
            async with asyncio.timeout(self._parts.deadlines.ledger):
                async with self._submitting:
                    sent = True
                    await transaction.submit()
                own = self._parts.fabric.network(configuration.channel)
                async with self._awaiting:
                    status = await own.commit(transaction.transaction_id).status()
                if not status.successful:
                    raise CommitError(status.code, status.transaction_id, status.block_number)
                await self._parts.follower.until(status.block_number)
        except TimeoutError as error:
            if not sent:
                raise ExhaustedError("too many transactions wait here for the orderers; try again later") from error
            # It may have been sent, or have committed: never to be taken for one that has changed nothing.
            raise OutcomeUnknownError(
                f"the transaction was sent, and its commit not seen within {self._parts.deadlines.ledger:g} s; send "
                "the same bytes again, or look",
                transaction_id=transaction.transaction_id,
            ) from error
        return transactions_pb2.SubmitResponse(
            transaction_id=transaction.transaction_id,
            block_number=status.block_number,
            result=transaction.result,
        )


async def _connected(peer: grpc.aio.Channel) -> None:
    """Leave a lost connection a moment to come back: nothing has been asked of the peer yet."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_RECONNECT_SECONDS):
            await peer.channel_ready()


def _signature(signature: bytes) -> bytes:
    if not 8 <= len(signature) <= 256:
        raise InvalidError("a signature is DER of 8 to 256 bytes", field="signature", code="MALFORMED_TRANSACTION")
    return signature


def _require_caller(creator: Identity) -> None:
    who = caller().identity
    try:
        same = creator.msp_id == who.msp_id and creator.x509 == who.x509
    except InvalidIdentityError as error:
        raise InvalidError(str(error), code="MALFORMED_TRANSACTION") from error
    if not same:
        raise DeniedError("this transaction is in another's name", code="NOT_THE_CREATOR")


def _creator(message: bytes) -> Identity:
    try:
        header = common_pb2.Payload.FromString(message).header
        return Identity.parse(common_pb2.SignatureHeader.FromString(header.signature_header).creator)
    except (DecodeError, InvalidIdentityError) as error:
        raise MalformedError("the transaction's creator can't be read") from error


def add(server: Any, parts: Parts) -> None:
    """Add the service to a server."""
    transactions_pb2_grpc.add_TransactionsServicer_to_server(Transactions(parts), server)  # type: ignore[no-untyped-call]
