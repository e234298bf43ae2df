"""`fedfabric.connect(profile)`: the typed client of a gateway, for asyncio and for blocking code.

    async with fedfabric.connect("profile.toml") as client:
        jobs = await client.jobs.list()

    with fedfabric.connect("profile.toml") as client:
        jobs = client.jobs.list().result()

What a person decides is signed here, with the profile's key or with a signer that is given (bytes in, DER signature
out, so that the key may live in a hardware module); the gateway never sees a person's key.
"""

import asyncio
from pathlib import Path
from typing import Any, Self

from ..fabric.identity import Signer
from .client_audit import AuditCalls
from .client_blobs import BlobCalls, ModelCalls
from .client_calls import Call, Portal
from .client_jobs import JobCalls
from .client_ledger import AccessCalls, ConsortiumCalls, DatasetCalls, TokenCalls
from .client_reports import Description, read_description
from .client_session import Session
from .configuration import Profile
from .limits import Limits
from .v1 import gateway_pb2, gateway_pb2_grpc

__all__ = ["Client", "connect"]


class Client:
    """A gateway's client. `async with` or `with` it; or `await aclose()`, `close()`.

    Attributes:
        profile: whose client it is.
        consortium, datasets, access, tokens, jobs, blobs, models, audit: the calls, by subject.
    """

    def __init__(self, profile: Profile, *, timeout: float, limits: Limits, signer: Signer | None) -> None:
        self.profile = profile
        self.portal = Portal()
        self._timeout = timeout
        self._limits = limits
        self._signer = signer
        self._sessions: dict[asyncio.AbstractEventLoop, Session] = {}
        self.consortium = ConsortiumCalls(self)
        self.datasets = DatasetCalls(self)
        self.access = AccessCalls(self)
        self.tokens = TokenCalls(self)
        self.jobs = JobCalls(self)
        self.blobs = BlobCalls(self)
        self.models = ModelCalls(self)
        self.audit = AuditCalls(self)

    def session(self) -> Session:
        """The connection of the event loop that runs now."""
        loop = asyncio.get_running_loop()
        if loop not in self._sessions:
            self._sessions[loop] = Session(
                self.profile, timeout=self._timeout, limits=self._limits, signer=self._signer
            )
        return self._sessions[loop]

    def describe(self) -> Call[Description]:
        """The gateway, and whom it takes the caller for."""

        async def work() -> Description:
            session = self.session()
            stub: Any = gateway_pb2_grpc.GatewayStub(session.channel)  # type: ignore[no-untyped-call]
            return read_description(await session.call(stub.Describe, gateway_pb2.DescribeRequest()))

        return Call(work, self.portal)

    async def aclose(self) -> None:
        """End the connection of this event loop, and whatever blocking calls have started."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """End what blocking calls have started."""
        if self.portal.started:
            self.portal.run(self._close_session)
            self.portal.close()

    async def _close_session(self) -> None:
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(
    profile: Profile | Path | str | None = None,
    *,
    timeout: float = 120.0,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    signer: Signer | None = None,
) -> Client:
    """A client of the gateway that a profile names; it connects with the first call.

    Args:
        profile: a profile's TOML file, or its content; without one, the file that FEDFABRIC_PROFILE names.
        timeout: the longest that one call may take, in seconds; streams take as long as they last.
        limits: bounds on what is taken from the gateway.
        signer: signs instead of the profile's key, which then serves the connection alone.

    Raises:
        ConfigurationError: there is no profile, or it can't be used.
    """
    found = profile if isinstance(profile, Profile) else Profile.find(profile)
    return Client(found, timeout=timeout, limits=limits, signer=signer)
