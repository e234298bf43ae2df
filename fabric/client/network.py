"""A network: one channel, as the peer of a gateway sees it."""

from fabric_protos.common import common_pb2
from fabric_protos.peer import events_pb2

from .block_events import (
    BlockAndPrivateDataEventsRequest,
    BlockEventsRequest,
    FilteredBlockEventsRequest,
    height,
)
from .calls import Calls
from .chaincode_events import ChaincodeEvent, ChaincodeEventsRequest
from .checkpoints import Checkpoint, Position
from .commit import Commit
from .contract import Contract
from .events import Events
from .retries import Retries

__all__ = ["Network"]


class Network:
    """One channel.

    Events begin at the checkpoint's position if it has one, else at `start_block`, else with the next block that is
    committed. With `reconnect` a stream goes on by itself, nothing lost or repeated, when the peer is back.

    Attributes:
        name: the channel's.
    """

    def __init__(self, calls: Calls, retries: Retries, name: str) -> None:
        self._calls = calls
        self._retries = retries
        self.name = name

    def contract(self, chaincode_name: str, contract_name: str | None = None) -> Contract:
        """A contract of a chaincode: the default one, or the one of this name."""
        return Contract(self._calls, self._retries, self.name, chaincode_name, contract_name or "")

    def commit(self, transaction_id: str) -> Commit:
        """The question how a transaction ended that was submitted before, by anybody."""
        return Commit.build(self._calls, self.name, transaction_id)

    async def height(self) -> int:
        """The number of blocks that the peer has.

        Raises:
            GatewayError: the peer refused, or does not answer.
            UnsignedError: the gateway was connected without a signer.
        """
        return await height(self._calls, self.name)

    def chaincode_events(
        self,
        chaincode_name: str,
        *,
        start_block: int | None = None,
        checkpoint: Checkpoint | None = None,
        reconnect: bool = False,
    ) -> Events[ChaincodeEvent]:
        """A chaincode's events."""
        request = self.chaincode_events_request(chaincode_name, start_block=start_block, checkpoint=checkpoint)
        return request.events(reconnect=reconnect)

    def chaincode_events_request(
        self, chaincode_name: str, *, start_block: int | None = None, checkpoint: Checkpoint | None = None
    ) -> ChaincodeEventsRequest:
        """The question for a chaincode's events, to be signed elsewhere."""
        return ChaincodeEventsRequest.build(self._calls, self.name, chaincode_name, _position(start_block, checkpoint))

    def block_events(
        self,
        *,
        start_block: int | None = None,
        checkpoint: Checkpoint | None = None,
        stop_block: int | None = None,
        reconnect: bool = False,
    ) -> Events[common_pb2.Block]:
        """Whole blocks (common.Block), up to and with `stop_block`."""
        request = self.block_events_request(start_block=start_block, checkpoint=checkpoint, stop_block=stop_block)
        return request.events(reconnect=reconnect)

    def block_events_request(
        self,
        *,
        start_block: int | None = None,
        checkpoint: Checkpoint | None = None,
        stop_block: int | None = None,
    ) -> BlockEventsRequest:
        """The question for whole blocks, to be signed elsewhere."""
        return BlockEventsRequest.build(self._calls, self.name, _position(start_block, checkpoint), stop_block)

    def filtered_block_events(
        self,
        *,
        start_block: int | None = None,
        checkpoint: Checkpoint | None = None,
        stop_block: int | None = None,
        reconnect: bool = False,
    ) -> Events[events_pb2.FilteredBlock]:
        """Filtered blocks (peer.FilteredBlock), up to and with `stop_block`."""
        request = self.filtered_block_events_request(
            start_block=start_block, checkpoint=checkpoint, stop_block=stop_block
        )
        return request.events(reconnect=reconnect)

    def filtered_block_events_request(
        self,
        *,
        start_block: int | None = None,
        checkpoint: Checkpoint | None = None,
        stop_block: int | None = None,
    ) -> FilteredBlockEventsRequest:
        """The question for filtered blocks, to be signed elsewhere."""
        return FilteredBlockEventsRequest.build(self._calls, self.name, _position(start_block, checkpoint), stop_block)

    def block_and_private_data_events(
        self,
        *,
        start_block: int | None = None,
        checkpoint: Checkpoint | None = None,
        stop_block: int | None = None,
        reconnect: bool = False,
    ) -> Events[events_pb2.BlockAndPrivateData]:
        """Blocks with the private data that this organisation may see, up to and with `stop_block`."""
        request = self.block_and_private_data_events_request(
            start_block=start_block, checkpoint=checkpoint, stop_block=stop_block
        )
        return request.events(reconnect=reconnect)

    def block_and_private_data_events_request(
        self,
        *,
        start_block: int | None = None,
        checkpoint: Checkpoint | None = None,
        stop_block: int | None = None,
    ) -> BlockAndPrivateDataEventsRequest:
        """The question for blocks with private data, to be signed elsewhere."""
        return BlockAndPrivateDataEventsRequest.build(
            self._calls, self.name, _position(start_block, checkpoint), stop_block
        )


def _position(start_block: int | None, checkpoint: Checkpoint | None) -> Position | None:
    if checkpoint is not None and checkpoint.position is not None:
        return checkpoint.position
    return None if start_block is None else Position(start_block)
