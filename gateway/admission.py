"""The server's one gate: who calls, whether they may, and how an error is said; around every method.

A method behind it finds its caller with `caller()`, and raises errors of ours; it never sees a certificate and never
aborts a call itself.
"""

import contextvars
import datetime
from collections.abc import AsyncIterator, Awaitable, Callable
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
    NotFoundError,
    from_client,
    from_refusal,
    to_status,
)
from .metrics import Metrics
from .trust import Caller, Trust, UntrustedError

__all__ = ["Admission", "as_api_error", "caller"]

log = structlog.get_logger(__name__)

_CALLER: contextvars.ContextVar[Caller] = contextvars.ContextVar("caller")
_DETAILS_KEY: Final = "grpc-status-details-bin"


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
    """Identifies and authorises each call, and turns errors into rich statuses."""

    def __init__(self, me: str, trust: Callable[[], Trust], metrics: Metrics) -> None:
        self._me = me
        self._trust = trust
        self._metrics = metrics

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Put the gate around a method."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        method = handler_call_details.method
        make, attribute = _KINDS[handler.request_streaming, handler.response_streaming]
        behaviour = getattr(handler, attribute)
        wrapped = self._stream(method, behaviour) if handler.response_streaming else self._unary(method, behaviour)
        return make(wrapped, handler.request_deserializer, handler.response_serializer)

    def _unary(self, method: str, behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def served(request: Any, context: Any) -> Any:
            with self._metrics.call(method):
                try:
                    self._admit(method, context)
                    return await behaviour(request, context)
                except Exception as error:
                    await self._say(method, error, context)
                    raise

        return served

    def _stream(self, method: str, behaviour: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
        async def served(request: Any, context: Any) -> AsyncIterator[Any]:
            with self._metrics.call(method):
                try:
                    self._admit(method, context)
                    async for answer in behaviour(request, context):
                        yield answer
                except Exception as error:
                    await self._say(method, error, context)
                    raise

        return served

    def _admit(self, method: str, context: Any) -> None:
        certificates = context.auth_context().get("x509_pem_cert", ())
        if len(certificates) != 1:
            raise DeniedError("a client certificate is needed", code="CERTIFICATE_UNKNOWN")
        try:
            who = self._trust().identify(certificates[0], datetime.datetime.now(datetime.UTC))
        except UntrustedError as error:
            raise DeniedError(str(error), code="CERTIFICATE_UNKNOWN") from error
        authorise(method, who, self._me)
        _CALLER.set(who)

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


_KINDS: Final = {
    (False, False): (grpc.unary_unary_rpc_method_handler, "unary_unary"),
    (False, True): (grpc.unary_stream_rpc_method_handler, "unary_stream"),
    (True, False): (grpc.stream_unary_rpc_method_handler, "stream_unary"),
    (True, True): (grpc.stream_stream_rpc_method_handler, "stream_stream"),
}
