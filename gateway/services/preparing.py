"""Proposals in a caller's name, which the caller signs."""

from ...chaincode.records import MAX_REQUEST_BYTES, Record, refusals
from ...fabric.client import connect
from ..admission import caller
from ..parts import Parts
from ..v1 import transactions_pb2

__all__ = ["prepare"]


def prepare(parts: Parts, function: str, request: Record) -> transactions_pb2.PreparedProposal:
    """An unsigned proposal of the caller's: `contract:transaction` with one argument.

    Raises:
        TooLarge: the argument is longer than a contract reads.
    """
    argument = request.canonical()
    if len(argument) > MAX_REQUEST_BYTES:
        raise refusals.TooLarge("", f"{len(argument)} bytes, at most {MAX_REQUEST_BYTES} are read")
    contract, _, transaction = function.partition(":")
    configuration = parts.configuration
    network = connect(parts.peer, caller().identity).network(configuration.channel)
    proposal = network.contract(configuration.chaincode, contract).propose(transaction, argument)
    return transactions_pb2.PreparedProposal(
        transaction_id=proposal.transaction_id,
        proposal=proposal.message,
        proposed_transaction=proposal.bytes,
    )
