"""What a gateway is made of, as its services share it."""

from dataclasses import dataclass, field

import grpc

from ..fabric.client import Gateway
from .blobs import BlobStore
from .configuration import GatewayConfiguration
from .exchange import Exchange
from .follower import Follower
from .journal import Journal
from .keys import GatewaySecrets
from .limits import Deadlines, Limits
from .purse import Purse
from .read_model import ReadModel
from .zygote import Scratch, Zygote

__all__ = ["Parts"]


@dataclass
class Parts:
    """The parts of one running gateway."""

    configuration: GatewayConfiguration
    limits: Limits
    deadlines: Deadlines
    follower: Follower
    journal: Journal
    store: BlobStore
    secrets: GatewaySecrets
    exchange: Exchange
    peer: grpc.aio.Channel
    """To the organisation's own peer."""
    fabric: Gateway
    """The gateway's own identity at that peer."""
    purse: Purse
    zygote: Zygote | None
    """None: this gateway runs no trainers."""
    scratch: Scratch | None
    watchers: int = field(default=0)
    """Streams of job events that are open."""
    uploads: set[str] = field(default_factory=set)
    """Uploads that somebody is sending to right now."""

    @property
    def model(self) -> ReadModel:
        """The ledger as this gateway lists it."""
        return self.follower.model

    @property
    def me(self) -> str:
        """The MSP id of the organisation."""
        return self.configuration.msp_id
