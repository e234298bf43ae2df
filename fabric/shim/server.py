"""A chaincode as a service: the peer connects to it, over mutual TLS, and its transactions run here.

if __name__ == "__main__":
    serve(Assets())
"""

import asyncio
import logging
import os
import signal
import ssl
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

from .contract import Chaincode, Contract, ContractChaincode
from .conversation import Conversation
from .errors import ProtocolError, SettingsError
from .handler import Handler
from .listener import Call, CallFailedError, Listener
from .settings import ServerSettings, TransportSecurity

__all__ = ["ChaincodeServer", "serve"]

_logger = logging.getLogger(__name__)

_CONNECT: Final = "/protos.Chaincode/Connect"
_FAILED_PRECONDITION: Final = 9


class ChaincodeServer:
    """Serves one chaincode: `async with ChaincodeServer(…) as server: await server.serve()`.

    Raises (from `start`):
        SettingsError: the address can't be listened on, or key and certificates can't be read.
    """

    def __init__(self, chaincode: Chaincode, settings: ServerSettings) -> None:
        self._chaincode = chaincode
        self._settings = settings
        self._conversations: set[Conversation] = set()
        self._listener = Listener({_CONNECT: self._connect})
        self._stopped = asyncio.Event()

    @property
    def port(self) -> int:
        """The port that the server listens on, once started."""
        return self._listener.port

    async def start(self) -> None:
        """Listen."""
        host, _, port = self._settings.address.rpartition(":")
        tls = self._settings.tls
        if tls is None:
            _logger.warning("TLS is off: whoever reaches %s can pose as the peer", self._settings.address)
        await self._listener.start(host.strip("[]"), int(port), None if tls is None else _context(tls))

    async def serve(self) -> None:
        """Wait until the server has been stopped."""
        await self._stopped.wait()

    async def stop(self) -> None:
        """Take no more transactions, let those that run finish within the grace period, then close every stream."""
        if self._listener.stopping:
            return
        for conversation in self._conversations:
            conversation.drain()
        await self._listener.stop(self._settings.grace_seconds)
        self._stopped.set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def _connect(self, call: Call) -> None:
        conversation = Conversation(
            Handler(self._settings.chaincode_id, self._settings.limits),
            self._chaincode,
            call.write,
            msp_id=self._settings.msp_id,
            transaction_seconds=self._settings.transaction_seconds,
        )
        self._conversations.add(conversation)
        _logger.info("a peer connected: %s", call.peer)
        try:
            await conversation.run(call)
        except ProtocolError as error:
            _logger.warning("the stream of %s ends: %s", call.peer, error)
            raise CallFailedError(_FAILED_PRECONDITION, str(error)) from error
        finally:
            self._conversations.discard(conversation)
            _logger.info("a peer left: %s", call.peer)


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


def _context(tls: TransportSecurity) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    context.num_tickets = 0  # each connection shows its certificate anew
    for path in (tls.key, tls.certificate, tls.client_ca):
        try:
            path.read_bytes()
        except OSError as error:
            raise SettingsError(f"{path} can't be read: {error.strerror}") from error
    try:  # with a password, since the terminal would be asked for that of an encrypted key
        context.load_cert_chain(tls.certificate, tls.key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise SettingsError(f"{tls.certificate} and {tls.key} are no certificate with its key in PEM") from error
    try:
        context.load_verify_locations(tls.client_ca)
    except ssl.SSLError as error:
        raise SettingsError(f"{tls.client_ca} is no certificate in PEM") from error
    context.verify_mode = ssl.CERT_REQUIRED
    return context
