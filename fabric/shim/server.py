"""A chaincode as a service: the peer connects to it, over mutual TLS, and its transactions run here.

if __name__ == "__main__":
    serve(Assets())
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

import grpc
import grpc.aio

from .contract import Chaincode, Contract, ContractChaincode
from .conversation import Conversation, Incoming
from .errors import ProtocolError, SettingsError
from .handler import Handler
from .settings import MAXIMUM_MESSAGE_BYTES, MAXIMUM_STREAMS, ServerSettings, TransportSecurity

__all__ = ["ChaincodeServer", "serve"]

_logger = logging.getLogger(__name__)

_SERVICE: Final = "protos.Chaincode"
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAXIMUM_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAXIMUM_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),  # a port in use is an error, not a second server on it
    ("grpc.max_concurrent_streams", MAXIMUM_STREAMS),
    # A peer pings an idle stream every minute; by default a server would take that for abuse and hang up.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)


class ChaincodeServer:
    """Serves one chaincode: `async with ChaincodeServer(…) as server: await server.serve()`.

    Raises (from `start`):
        SettingsError: the address can't be listened on, or key and certificates can't be read.
    """

    def __init__(self, chaincode: Chaincode, settings: ServerSettings) -> None:
        self._chaincode = chaincode
        self._settings = settings
        self._conversations: set[Conversation] = set()
        self._server: grpc.aio.Server | None = None
        self._stopped = asyncio.Event()
        self._stopping = False
        self._port = 0

    @property
    def port(self) -> int:
        """The port that the server listens on, once started."""
        return self._port

    async def start(self) -> None:
        """Listen."""
        server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=MAXIMUM_STREAMS)
        handler = grpc.stream_stream_rpc_method_handler(self._connect)  # no decoder: the bytes are checked here
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {"Connect": handler}),))
        address = self._settings.address
        try:
            if self._settings.tls is None:
                _logger.warning("TLS is off: whoever reaches %s can pose as the peer", address)
                self._port = server.add_insecure_port(address)
            else:
                self._port = server.add_secure_port(address, _credentials(self._settings.tls))
        except RuntimeError as error:
            raise SettingsError(
                f"can't listen on {address}: another process may hold the port, or key and certificate do not match"
            ) from error
        await server.start()
        self._server = server

    async def serve(self) -> None:
        """Wait until the server has been stopped."""
        await self._stopped.wait()

    async def stop(self) -> None:
        """Take no more transactions, let those that run finish within the grace period, then close every stream."""
        if self._stopping or self._server is None:
            return
        self._stopping = True
        for conversation in self._conversations:
            conversation.drain()
        await self._server.stop(self._settings.grace_seconds)
        self._stopped.set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def _connect(self, incoming: Incoming, context: "grpc.aio.ServicerContext[bytes, bytes]") -> None:
        if self._stopping:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the chaincode server is shutting down")
        handler = Handler(self._settings.chaincode_id, self._settings.limits)
        conversation = Conversation(
            handler,
            self._chaincode,
            context.write,
            msp_id=self._settings.msp_id,
            transaction_seconds=self._settings.transaction_seconds,
        )
        self._conversations.add(conversation)
        _logger.info("a peer connected: %s", context.peer())
        try:
            await conversation.run(incoming)
        except ProtocolError as error:
            _logger.warning("the stream of %s ends: %s", context.peer(), error)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        finally:
            self._conversations.discard(conversation)
            _logger.info("a peer left: %s", context.peer())


def serve(*contracts: Contract, environment: Mapping[str, str] | None = None) -> None:
    """Serve these contracts until SIGTERM or SIGINT, then finish what runs.

    Settings come from the environment (`ServerSettings.from_environment`), with CORE_CHAINCODE_LOGGING_LEVEL for the
    log on standard error (`warning` when it is missing). What keeps the server from starting is written there too, and
    ends the process with status 2.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    environment = os.environ if environment is None else environment
    try:
        logging.getLogger(__package__).setLevel(_logging_level(environment))
        settings = ServerSettings.from_environment(environment)
        asyncio.run(_serve(ContractChaincode(*contracts), settings))
    except SettingsError as error:
        sys.stderr.write(f"the chaincode server can't start: {error}\n")
        raise SystemExit(2) from None


async def _serve(chaincode: Chaincode, settings: ServerSettings) -> None:
    async with ChaincodeServer(chaincode, settings) as server:
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked.set)
        await asked.wait()
        await server.stop()


def _logging_level(environment: Mapping[str, str]) -> int:
    text = environment.get("CORE_CHAINCODE_LOGGING_LEVEL", "") or "warning"
    level = logging.getLevelNamesMapping().get(text.upper())
    if level is None:
        raise SettingsError(f"CORE_CHAINCODE_LOGGING_LEVEL is debug, info, warning or error, not {text[:40]!r}")
    return level


def _credentials(tls: TransportSecurity) -> grpc.ServerCredentials:
    try:
        key, certificate, client_ca = (path.read_bytes() for path in (tls.key, tls.certificate, tls.client_ca))
    except OSError as error:
        raise SettingsError(f"{error.filename} can't be read: {error.strerror}") from error
    return grpc.ssl_server_credentials([(key, certificate)], root_certificates=client_ca, require_client_auth=True)
