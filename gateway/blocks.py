"""Blocks as the gateway reads them: its own chaincode's valid transactions, what they wrote, and who signed them.

The validity flags are the own peer's. A block whose data does not match its header is refused, so that a broken stream
or disk is not taken for the ledger.
"""

from dataclasses import dataclass

from fabric_protos.common import common_pb2, configtx_pb2

from ..fabric import blocks
from ..fabric.blocks import BlockError
from ..fabric.identity import Identity, verify

__all__ = ["BlockError", "LedgerBlock", "LedgerTransaction", "Write", "read_block", "read_envelope"]


@dataclass(frozen=True)
class Write:
    """One key that a transaction wrote; without a value it deleted it."""

    key: str
    value: bytes | None


@dataclass(frozen=True)
class LedgerTransaction:
    """A transaction of the gateway's chaincode."""

    id: str
    creator: Identity
    timestamp_ms: int
    """The ledger's time: the proposal's timestamp, since 1970."""
    arguments: tuple[bytes, ...]
    writes: tuple[Write, ...]
    payload: bytes
    """What the creator signed, as it stands in the block."""
    signature: bytes

    @property
    def function(self) -> str:
        """`contract:transaction`."""
        return self.arguments[0].decode("utf-8", "replace") if self.arguments else ""

    def written(self, key: str) -> bytes | None:
        """What this transaction wrote under a key."""
        return next((write.value for write in self.writes if write.key == key), None)

    def check_signature(self) -> None:
        """Check that the creator's certificate signed the transaction as it stands in the block.

        Raises:
            WrongSignatureError, InvalidIdentityError: it did not.
        """
        verify(self.creator.certificate, self.payload, self.signature)

    @property
    def envelope(self) -> bytes:
        """The transaction as bytes (common.Envelope), for `read_envelope`."""
        return bytes(common_pb2.Envelope(payload=self.payload, signature=self.signature).SerializeToString())


@dataclass(frozen=True)
class LedgerBlock:
    """A block's header and the gateway's chaincode's valid transactions in it, in order."""

    number: int
    hash: bytes
    """SHA-256 of the header's ASN.1."""
    previous_hash: bytes
    transactions: tuple[LedgerTransaction, ...]
    configuration: configtx_pb2.Config | None
    """The channel's configuration from this block on, when it is a configuration block."""


def read_block(block: common_pb2.Block, chaincode: str) -> LedgerBlock:
    """What a gateway wants of a block.

    Raises:
        BlockError: data and header differ, or a transaction that is flagged valid can't be read.
    """
    decoded = blocks.decode_block(block)
    if decoded.computed_data_hash != decoded.data_hash:
        raise BlockError(f"block {decoded.number}: its data is not what its header says", decoded.number)
    found = []
    for transaction in decoded.transactions:
        if not transaction.is_valid:
            continue
        if transaction.flaw:
            raise BlockError(f"block {decoded.number}: a valid transaction: {transaction.flaw}", decoded.number)
        read = _of_chaincode(transaction, chaincode)
        if read is not None:
            found.append(read)
    configuration = decoded.config
    # The genesis block carries no flags; every later configuration counts only when the peer found it valid.
    if configuration is not None and decoded.number and not decoded.transactions[0].is_valid:
        configuration = None
    return LedgerBlock(decoded.number, decoded.header_hash, decoded.previous_hash, tuple(found), configuration)


def read_envelope(envelope: bytes, chaincode: str) -> LedgerTransaction | None:
    """The transaction that `LedgerTransaction.envelope` gave; None when it is none of the chaincode's.

    Raises:
        BlockError: it can't be read.
    """
    alone = common_pb2.Block(
        header=common_pb2.BlockHeader(data_hash=bytes(32)), data=common_pb2.BlockData(data=[envelope])
    )
    (transaction,) = blocks.decode_block(alone).transactions
    if transaction.flaw:
        raise BlockError(f"a stored transaction: {transaction.flaw}")
    return _of_chaincode(transaction, chaincode)


def _of_chaincode(transaction: blocks.Transaction, chaincode: str) -> LedgerTransaction | None:
    action = transaction.action
    if action is None or transaction.creator is None:
        return None
    access = action.access(chaincode)
    called = action.chaincode == chaincode
    if not called and access is None:
        return None
    return LedgerTransaction(
        id=transaction.transaction_id,
        creator=transaction.creator,
        timestamp_ms=transaction.timestamp_ms,
        arguments=action.arguments if called else (),  # else another chaincode's, which called ours
        writes=tuple(
            Write(write.key, None if write.is_delete else write.value) for write in (access.writes if access else ())
        ),
        payload=transaction.payload,
        signature=transaction.signature,
    )
