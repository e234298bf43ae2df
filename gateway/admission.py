"""The server's one gate: who calls, whether they may, how many at a time, and how an error is said.

A method behind it finds its caller with `caller()`, and raises errors of ours; it never sees a certificate and never
aborts a call itself.
"""

import asyncio
import contextvars
import datetime
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, aclosing, contextmanager
from functools import partial
from typing import Any, Final

import grpc
import structlog

from ..chaincode.records import Refusal
from ..fabric.client import ClientError
from .authorisation import authorise
from .blobs import (
    BlobBrokenError,
    BlobMissingError,
    BlobStoreError,
    BlobTooLargeError,
    StoreFullError,
    WrongAddressError,
)
from .errors import (
    ApiError,
    CorruptError,
    DeniedError,
    ExhaustedError,
    InvalidError,
    NotFoundError,
    from_client,
    from_refusal,
    to_status,
)
from .limits import Deadlines, Limits
from .metrics import Metrics
from .trust import Caller, Trust, UntrustedError

__all__ = ["Admission", "as_api_error", "caller"]

log = structlog.get_logger(__name__)

_CALLER: contextvars.ContextVar[Caller] = contextvars.ContextVar("caller")
_DETAILS_KEY: Final = "grpc-status-details-bin"
_HEALTH: Final = "/grpc.health."


def caller() -> Caller:
    """Who makes the call that is being served."""
    return _CALLER.get()


_OURS: Final[tuple[tuple[type[Exception], Callable[[str], ApiError]], ...]] = (
    (BlobMissingError, NotFoundError),
    (StoreFullError, partial(ExhaustedError, code="STORE_FULL")),
    (BlobTooLargeError, partial(ExhaustedError, code="TOO_LONG")),
    (WrongAddressError, CorruptError),
    (BlobBrokenError, CorruptError),
    (BlobStoreError, partial(ApiError, code="STORE_FAILED")),
)


def as_api_error(error: Exception) -> ApiError | None:
    """An error of this package or of the Fabric client as the API says it; None: it is a fault."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, Refusal):
        return from_refusal(error)
    if isinstance(error, ClientError):
        return from_client(error)
    if isinstance(error, TimeoutError):
        return ApiError("the peer did not answer in time", code="PEER_UNAVAILABLE")
    return next((make(str(error)) for kind, make in _OURS if isinstance(error, kind)), None)


class Admission(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Identifies, authorises and counts each call, and turns errors into rich statuses.

    Calls are counted by organisation: one that keeps its calls open, or asks and does not read, comes to its own bound
    and takes nothing from the others.
    """

    def __init__(
        self, me: str, trust: Callable[[], Trust], metrics: Metrics, *, limits: Limits, deadlines: Deadlines
    ) -> None:
        self._me = me
        self._trust = trust
        self._metrics = metrics
        self._limits = limits
        self._deadlines = deadlines
        self._open: Counter[tuple[str, bool]] = Counter()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Put the gate around a method."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        # Each as a method of streams, which on the wire is the same: so the call is counted from its beginning, whether
        # or not its request comes, to its end, whether or not its answer is read.
        return grpc.stream_stream_rpc_method_handler(
            self._served(handler_call_details.method, handler),
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _served(self, method: str, handler: Any) -> Callable[..., Awaitable[None]]:
        behaviour = getattr(handler, _BEHAVIOURS[handler.request_streaming, handler.response_streaming])

        async def served(requests: AsyncIterator[Any], context: Any) -> None:
            with self._metrics.call(method), ExitStack() as stack:
                try:
                    who = self._identify(context)
                    stack.enter_context(self._counted(method, who))
                    authorise(method, who, self._me)
                    _CALLER.set(who)
                    request = requests if handler.request_streaming else await self._only(requests)
                    answers = behaviour(request, context)
                    if not handler.response_streaming:
                        await self._write(context, await answers)
                    elif inspect.isawaitable(answers):
                        await answers  # writes by itself
                    else:
                        async with aclosing(answers):
                            async for answer in answers:
                                await self._write(context, answer)
                except Exception as error:
                    # Still counted: the status waits behind what the caller does not read.
                    await self._say(method, error, context)
                    raise

        return served

    async def _only(self, requests: AsyncIterator[Any]) -> Any:
        try:
            async with asyncio.timeout(self._deadlines.caller):
                request = await anext(aiter(requests), None)
        except TimeoutError:
            raise self._late("sent its request") from None
        if request is None:
            raise InvalidError("a call has a request")
        return request

    async def _write(self, context: Any, answer: Any) -> None:
        try:
            async with asyncio.timeout(self._deadlines.caller):
                await context.write(answer)
        except TimeoutError:
            raise self._late("read what was sent") from None

    def _late(self, what: str) -> ApiError:
        return ApiError(f"the caller has not {what} for {self._deadlines.caller:g} s", code="GATEWAY_TIMEOUT")

    def _identify(self, context: Any) -> Caller:
        certificates = context.auth_context().get("x509_pem_cert", ())
        if len(certificates) != 1:
            raise DeniedError("a client certificate is needed", code="CERTIFICATE_UNKNOWN")
        try:
            return self._trust().identify(certificates[0], datetime.datetime.now(datetime.UTC))
        except UntrustedError as error:
            raise DeniedError(str(error), code="CERTIFICATE_UNKNOWN") from error

    @contextmanager
    def _counted(self, method: str, who: Caller) -> Iterator[None]:
        """Take one of the calls that an organisation may have open.

        Raises:
            ExhaustedError: all are open.
        """
        health, limits = method.startswith(_HEALTH), self._limits
        own = limits.concurrent_calls if who.msp_id == self._me else limits.foreign_calls
        most, key = limits.health_calls if health else own, (who.msp_id, health)
        if self._open[key] >= most:
            raise ExhaustedError(f"{most} calls of {who.msp_id} are open here; end one, or try again later")
        self._open[key] += 1
        try:
            yield
        finally:
            self._open[key] -= 1

    async def _say(self, method: str, error: Exception, context: Any) -> None:
        """End the call with the error's status: `abort` raises."""
        if isinstance(error, grpc.aio.AbortError):
            return
        known = as_api_error(error)
        if known is None:
            log.exception("call.fault", method=method)
            known = ApiError("a fault in the gateway; its log has more", code="INTERNAL")
        else:
            log.info("call.refused", method=method, code=known.code, field=known.field)
        status = to_status(known)
        await context.abort(known.status, known.text, ((_DETAILS_KEY, status.SerializeToString()),))


_BEHAVIOURS: Final = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}
