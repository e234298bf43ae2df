"""The calls to a peer, each within its deadline, all within the gateway's slots, failures as errors of their step."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar
from weakref import WeakValueDictionary

import grpc
from fabric_protos.gateway import gateway_pb2, gateway_pb2_grpc
from fabric_protos.peer import events_pb2_grpc

from ..identity import Identity, Signer
from .deadlines import Deadlines
from .errors import CommitStatusError, EndorseError, GatewayError, SubmitError, UnsignedError
from .slots import Slots

if TYPE_CHECKING:
    from .statuses import Statuses

__all__ = ["Calls", "busy_as_unavailable", "is_busy"]

_Reply = TypeVar("_Reply")
_Request: TypeAlias = Any  # protobuf

# The peer refuses a call above its limit before it looks at it, so that asking again is safe for every call.
_BUSY: Final = "too many requests for /"
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0

# A peer knows the call's deadline and resets the stream when it comes, which may reach us just before our own timer.
_RESET_AT_DEADLINE: Final = 0.05


class Calls:
    """One identity's calls to one peer, over a channel that stays the caller's."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        identity: Identity,
        signer: Signer | None,
        *,
        deadlines: Deadlines,
        slots: Slots,
        tls_certificate_hash: bytes = b"",
    ) -> None:
        self.identity = identity
        self.deadlines = deadlines
        self.slots = slots
        self.tls_certificate_hash = tls_certificate_hash
        self.gateway = gateway_pb2_grpc.GatewayStub(channel)
        self.deliver = events_pb2_grpc.DeliverStub(channel)
        # By channel name, see Statuses.of. Names come in foreign bytes too: those in use are kept, no others.
        self.statuses: WeakValueDictionary[str, Statuses] = WeakValueDictionary()
        self._signer = signer

    @property
    def can_sign(self) -> bool:
        """Whether the gateway was connected with a signer."""
        return self._signer is not None

    def sign(self, message: bytes) -> bytes:
        """The identity's signature.

        Raises:
            UnsignedError: the gateway was connected without a signer.
        """
        if self._signer is None:
            raise UnsignedError("nothing was signed, and the gateway was connected without a signer")
        return self._signer(message)

    async def evaluate(self, make: Callable[[], gateway_pb2.EvaluateRequest]) -> gateway_pb2.EvaluateResponse:
        """Run a proposal on one peer, for its result only.

        `make` is called when there is a slot, since peers refuse a proposal that is older than their time window.
        """
        return await self._call(self.gateway.Evaluate, make, self.deadlines.evaluate, GatewayError)

    async def endorse(self, make: Callable[[], gateway_pb2.EndorseRequest]) -> gateway_pb2.EndorseResponse:
        """Have a proposal endorsed as its policy asks; for `make` see `evaluate`."""
        return await self._call(self.gateway.Endorse, make, self.deadlines.endorse, EndorseError)

    async def submit(self, request: gateway_pb2.SubmitRequest) -> None:
        """Send a signed transaction to the ordering service."""
        await self._call(self.gateway.Submit, lambda: request, self.deadlines.submit, SubmitError, continues=True)

    async def commit_status(
        self, request: gateway_pb2.SignedCommitStatusRequest, transaction_id: str, waited: float
    ) -> gateway_pb2.CommitStatusResponse:
        """Wait until a transaction is in a block; `waited` seconds of the deadline are gone already."""
        deadline = self.deadlines.commit_status
        return await self._call(
            self.gateway.CommitStatus,
            lambda: request,
            None if deadline is None else deadline - waited,
            CommitStatusError,
            continues=True,
            transaction_id=transaction_id,
        )

    async def _call(
        self,
        method: Callable[..., Awaitable[_Reply]],
        make: Callable[[], _Request],
        deadline: float | None,
        error_class: type[GatewayError],
        *,
        continues: bool = False,
        transaction_id: str = "",
    ) -> _Reply:
        clock = asyncio.get_running_loop().time
        ends: float | None = None
        pause = _FIRST_PAUSE
        while True:
            await self.slots.acquire(continues=continues)
            try:
                request = make()
                if ends is None and deadline is not None:
                    ends = clock() + deadline
                return await method(request, timeout=None if ends is None else max(0.0, ends - clock()))
            except grpc.aio.AioRpcError as error:
                if not is_busy(error) or (ends is not None and clock() + pause >= ends):
                    over = ends is not None and clock() >= ends - _RESET_AT_DEADLINE
                    raise error_class.from_rpc(
                        transaction_id or request.transaction_id, error, deadline_over=over
                    ) from error
            finally:
                self.slots.release()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def busy_as_unavailable(error: grpc.aio.AioRpcError) -> GatewayError:
    """The error of a stream that broke off; a peer that has too many calls under way is one that may be asked again."""
    if is_busy(error):
        return GatewayError("", grpc.StatusCode.UNAVAILABLE, error.details() or "")
    return GatewayError.from_rpc("", error)


def is_busy(error: grpc.aio.AioRpcError) -> bool:
    """Whether the peer refused the call unseen, having too many under way."""
    return error.code() is grpc.StatusCode.UNKNOWN and (error.details() or "").startswith(_BUSY)
