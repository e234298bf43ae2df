"""A gateway: one identity's way to a peer, over a channel that stays the caller's."""

import grpc

from ..identity import Identity, Signer
from .block_events import BlockAndPrivateDataEventsRequest, BlockEventsRequest, FilteredBlockEventsRequest
from .calls import Calls
from .chaincode_events import ChaincodeEventsRequest
from .commit import Commit
from .deadlines import Deadlines
from .network import Network
from .proposal import Proposal
from .retries import Retries
from .slots import Slots
from .transaction import Transaction

__all__ = ["Gateway", "connect"]


class Gateway:
    """One identity's way to a peer. There is nothing to close: the channel is the caller's.

    What was signed elsewhere comes back here: each `signed_…` method takes the `bytes` of an object and the signature
    of its `message`, and raises MalformedError when the bytes are not such an object's. Without a signature they bring
    the object back as it was stored.
    """

    def __init__(self, calls: Calls, retries: Retries) -> None:
        self._calls = calls
        self._retries = retries

    @property
    def identity(self) -> Identity:
        """Whose gateway it is."""
        return self._calls.identity

    def network(self, name: str) -> Network:
        """A channel of this name."""
        return Network(self._calls, self._retries, name)

    def signed_proposal(self, data: bytes, signature: bytes = b"") -> Proposal:
        """The proposal of `Proposal.bytes`."""
        return Proposal.parse(self._calls, data, signature)

    def signed_transaction(self, data: bytes, signature: bytes = b"") -> Transaction:
        """The transaction of `Transaction.bytes`."""
        return Transaction.parse(self._calls, data, signature)

    def signed_commit(self, data: bytes, signature: bytes = b"") -> Commit:
        """The commit of `Commit.bytes`."""
        return Commit.parse(self._calls, data, signature)

    def signed_chaincode_events_request(self, data: bytes, signature: bytes = b"") -> ChaincodeEventsRequest:
        """The request of `ChaincodeEventsRequest.bytes`."""
        return ChaincodeEventsRequest.parse(self._calls, data, signature)

    def signed_block_events_request(self, data: bytes, signature: bytes = b"") -> BlockEventsRequest:
        """The request of `BlockEventsRequest.bytes`."""
        return BlockEventsRequest.parse(self._calls, data, signature)

    def signed_filtered_block_events_request(self, data: bytes, signature: bytes = b"") -> FilteredBlockEventsRequest:
        """The request of `FilteredBlockEventsRequest.bytes`."""
        return FilteredBlockEventsRequest.parse(self._calls, data, signature)

    def signed_block_and_private_data_events_request(
        self, data: bytes, signature: bytes = b""
    ) -> BlockAndPrivateDataEventsRequest:
        """The request of `BlockAndPrivateDataEventsRequest.bytes`."""
        return BlockAndPrivateDataEventsRequest.parse(self._calls, data, signature)


def connect(
    channel: grpc.aio.Channel,
    identity: Identity,
    signer: Signer | None = None,
    *,
    deadlines: Deadlines = Deadlines(),  # noqa: B008 (frozen)
    retries: Retries = Retries(),  # noqa: B008 (frozen)
    in_flight: int = 450,
    tls_certificate_hash: bytes = b"",
) -> Gateway:
    """A gateway over a channel to a peer (`open_channel` makes one); the channel is shared, never closed here.

    Without a signer everything is to be signed elsewhere. `in_flight` is the most calls under way at the peer at once,
    which must stay below the peer's own limit (500 by default) with those of its other clients. A peer that asks for
    client certificates wants `tls_certificate_hash`, SHA-256 of the client's TLS certificate in DER, for block events.
    """
    calls = Calls(
        channel,
        identity,
        signer,
        deadlines=deadlines,
        slots=Slots(in_flight),
        tls_certificate_hash=tls_certificate_hash,
    )
    return Gateway(calls, retries)
