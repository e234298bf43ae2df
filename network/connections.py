"""Connections of administrators to a network's peers and orderers, kept open as long as they are used."""

import contextlib
import ssl
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import grpc

from ..fabric.client import Gateway, connect, open_channel
from ..fabric.configuration import Endpoint
from ..fabric.identity import Identity, Signer
from ..fabric.lifecycle import LifecycleError, PeerAdministration
from ..fabric.participation import AdministrationTls, OrdererAdministration, ParticipationError
from ..fabric.proposals import EndorsementsDifferError
from .errors import ReadinessError
from .founding import ADMIN, Layout, credentials
from .processes import Place
from .runtime import LOOPBACK
from .specification import OrganisationSpec

CALL_SECONDS = 30.0


class Connections:
    """Each organisation's administrator, at its own processes."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def channel(self, place: Place) -> grpc.aio.Channel:
        """A connection to a peer's or orderer's service port."""
        if place.name not in self._channels:
            roots = (place.folder(self._layout.home) / "tls" / "ca.crt").read_bytes()
            opened = open_channel(f"{LOOPBACK}:{place.ports['listen']}", roots)
            self._channels[place.name] = await self._stack.enter_async_context(opened)
        return self._channels[place.name]

    def administrator(self, organisation: OrganisationSpec) -> tuple[Identity, Signer]:
        """The organisation's administrator, who signs."""
        admin = credentials(self._layout.home, organisation, ADMIN)
        return admin.identity(), admin.signer()

    async def peer(self, place: Place, seconds: float = CALL_SECONDS) -> PeerAdministration:
        """The administrator at one of the organisation's peers; each call ends within `seconds`."""
        channel = await self.channel(place)
        return PeerAdministration(channel, *self.administrator(place.organisation), deadline_s=seconds)

    async def gateway(self, place: Place) -> Gateway:
        """The administrator as a client of a peer's Gateway service."""
        return connect(await self.channel(place), *self.administrator(place.organisation))

    def orderer(self, place: Place) -> OrdererAdministration:
        """The administrator at the admin port of one of the organisation's orderers."""
        admin = credentials(self._layout.home, place.organisation, ADMIN)
        if admin.tls_certificate_path is None or admin.tls_key_path is None:
            raise FileNotFoundError(f"the administrator of {place.organisation.name} has no TLS certificate")
        tls = AdministrationTls(
            place.folder(self._layout.home) / "tls" / "ca.crt", admin.tls_certificate_path, admin.tls_key_path
        )
        return OrdererAdministration(Endpoint(LOOPBACK, place.ports["admin"]), tls)


@contextlib.asynccontextmanager
async def connected(layout: Layout) -> AsyncIterator[Connections]:
    """Connections for a change of the network.

    Raises:
        ReadinessError: a process refused a step of it, or did not answer.
    """
    try:
        async with Connections(layout) as connections:
            yield connections
    except (LifecycleError, ParticipationError, EndorsementsDifferError) as error:
        raise ReadinessError(f"a step was refused: {error}") from error
    except grpc.aio.AioRpcError as error:
        raise ReadinessError(f"a peer or orderer does not answer: {error.code().name}: {error.details()}") from error
    except (ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise ReadinessError(f"an orderer's admin port does not answer: {error}") from error
