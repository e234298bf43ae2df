"""One organisation's gateway as a running server: `serve` until cancelled, or `running` for a while."""

import asyncio
import fcntl
import hashlib
import os
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ..fabric.client import Gateway, connect, open_channel
from ..fabric.identity import Identity, InvalidIdentityError, private_key_signer
from .admission import Admission
from .blobs import BlobStore, BlobStoreError
from .collector import Collector
from .configuration import ConfigurationError, GatewayConfiguration, split_address
from .driver import Driver
from .exchange import Exchange, PeerCredentials
from .follower import Follower
from .journal import Journal
from .keys import GatewaySecrets, SecretError
from .ledger import Ledger
from .limits import Deadlines, Limits
from .metrics import Metrics
from .parts import Parts
from .purse import Purse
from .read_model import OtherChannelError, ReadModel
from .server_credentials import following_credentials
from .services import NAMES, add_services
from .workshop import Workshop
from .zygote import Scratch, TrainerError, Zygote

__all__ = ["GatewayStartError", "RunningGateway", "running", "serve"]

log = structlog.get_logger(__name__)

_RECONNECT_SECONDS: Final = 0.5
# A peer that is there answers within this; a user who waits longer is told for what.
_UNSAID_SECONDS: Final = 1.0


class GatewayStartError(Exception):
    """The gateway can't start or go on; the text says what to do."""


@dataclass(frozen=True)
class RunningGateway:
    """A gateway that serves."""

    port: int
    """The port that it listens on."""
    parts: Parts
    done: "asyncio.Task[None]"
    """Ends, with an error, when the gateway can't go on."""


async def serve(
    configuration: GatewayConfiguration | Path | str,
    *,
    ready: Callable[[RunningGateway], None] | None = None,
    waiting: Callable[[float], None] | None = None,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    deadlines: Deadlines = Deadlines(),  # noqa: B008
) -> None:
    """Run a gateway until cancelled.

    Args:
        configuration: a gateway.toml, or its content.
        ready: called once it serves.
        waiting: called when the peer does not answer at once, with the seconds for which it is asked again.
        limits: bounds on foreign input.
        deadlines: how long it waits.

    Raises:
        ConfigurationError: the file or what it names can't be used.
        GatewayStartError: the port is in use, the state folder is another gateway's, or belongs to another channel.
    """
    if not isinstance(configuration, GatewayConfiguration):
        configuration = GatewayConfiguration.load(configuration)
    async with running(configuration, waiting=waiting, limits=limits, deadlines=deadlines) as gateway:
        if ready is not None:
            ready(gateway)
        await gateway.done


@asynccontextmanager
async def running(
    configuration: GatewayConfiguration,
    *,
    waiting: Callable[[float], None] | None = None,
    limits: Limits = Limits(),  # noqa: B008
    deadlines: Deadlines = Deadlines(),  # noqa: B008
) -> AsyncIterator[RunningGateway]:
    """A gateway that serves within the block; see `serve`."""
    async with AsyncExitStack() as stack:
        parts, workshop = await _assemble(stack, configuration, limits, deadlines)
        metrics = Metrics()
        stack.callback(metrics.close)
        failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await _follow(stack, parts, metrics, failure, waiting)
        server, port, status = _server(parts, metrics)
        await server.start()
        stack.push_async_callback(server.stop, deadlines.stop)
        # Before that: streams that last as long as a job does would hold the stop up.
        stack.push_async_callback(parts.follower.close)
        if configuration.metrics:
            _guard_port(configuration.metrics, lambda: metrics.serve(configuration.metrics))
        driver = Driver(
            parts.me,
            follower=parts.follower,
            journal=parts.journal,
            ledger=Ledger(
                parts.fabric,
                configuration.channel,
                configuration.chaincode,
                journal=parts.journal,
                shown=parts.follower.until,
                deadlines=deadlines,
            ),
            workshop=workshop,
            chaincode=configuration.chaincode,
            trains=configuration.trainer.enabled,
            stagger_ms=round(deadlines.stagger * 1000),
        )
        await _background(stack, driver.run(), failure, "driver")
        await _background(stack, Collector(parts).run(), failure, "collector")
        if parts.zygote is not None:
            await _background(stack, _warm(parts.zygote), None, "zygote")
        for name in ("", *NAMES):
            await status.set(name, health_pb2.HealthCheckResponse.SERVING)
        done = asyncio.ensure_future(_until(failure))
        stack.push_async_callback(_cancelled, done)
        log.info("gateway.serves", msp=parts.me, port=port, block=parts.model.position - 1)
        yield RunningGateway(port, parts, done)
        await status.enter_graceful_shutdown()


async def _until(failure: "asyncio.Future[None]") -> None:
    await failure


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError, GatewayStartError):
        await task


async def _assemble(
    stack: AsyncExitStack, configuration: GatewayConfiguration, limits: Limits, deadlines: Deadlines
) -> tuple[Parts, Workshop]:
    state = configuration.state
    _claim(stack, state)
    try:
        secrets = GatewaySecrets.load(state)
        journal = stack.enter_context(Journal(state / "journal.sqlite"))
        model = stack.enter_context(ReadModel(state / "ledger.sqlite", configuration.msp_id))
        store = BlobStore(configuration.blobs_url, state / "incoming", limits.blob_bytes)
    except (SecretError, BlobStoreError, sqlite3.Error, OSError) as error:
        raise GatewayStartError(f"the state folder {state} can't be used: {error}") from error
    certificate, key = _read(configuration.certificate, "certificate"), _read(configuration.key, "key")
    channel, fabric = _fabric(configuration, certificate, key, limits.peer_calls)
    stack.push_async_callback(channel.close, None)
    follower = Follower(model, configuration.chaincode)
    exchange = Exchange(
        store,
        secrets.storage_key,
        model,
        lambda: follower.trust,
        PeerCredentials(certificate, key),
        limits=limits,
        deadlines=deadlines,
    )
    stack.push_async_callback(exchange.close)
    zygote, scratch = None, None
    if configuration.trainer.enabled:
        owner = hashlib.sha256(os.fsencode(state.absolute())).hexdigest()[:16]
        try:
            scratch = Scratch(configuration.trainer.scratch, owner)
        except TrainerError as error:
            raise GatewayStartError(f"trainer.scratch: {error.text}, or set trainer.enabled = false") from error
        stack.callback(scratch.close)
        zygote = Zygote(configuration.trainer, deadlines, scratch.workspace)
        stack.push_async_callback(zygote.close)
    parts = Parts(
        configuration=configuration,
        limits=limits,
        deadlines=deadlines,
        follower=follower,
        journal=journal,
        store=store,
        secrets=secrets,
        exchange=exchange,
        peer=channel,
        fabric=fabric,
        purse=Purse(),
        zygote=zygote,
        scratch=scratch,
    )
    return parts, Workshop(parts)


def _claim(stack: AsyncExitStack, state: Path) -> None:
    """Two gateways on one state folder would commit twice: the second is refused."""
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = stack.enter_context((state / "lock").open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise GatewayStartError(
            f"a gateway runs on the state folder {state}; stop it, or name another folder"
        ) from None
    except OSError as error:
        raise GatewayStartError(f"the state folder {state} can't be used: {error.strerror}") from error


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{what}: {path} can't be read: {error.strerror}") from error


def _fabric(
    configuration: GatewayConfiguration, certificate: bytes, key: bytes, in_flight: int
) -> tuple[grpc.aio.Channel, Gateway]:
    identity = Identity(configuration.msp_id, certificate)
    try:
        role = identity.attributes().get("fedfabric.role", "")
        signer = private_key_signer(key)
    except InvalidIdentityError as error:
        raise ConfigurationError(f"certificate or key: {error}") from error
    if role != "gateway":
        raise ConfigurationError(
            f"certificate: {configuration.certificate} has the role {role or 'none'}, a gateway's has the role gateway"
        )
    peer = configuration.peer
    channel = open_channel(peer.endpoint, _read(peer.tls_ca, "peer.tls_ca"), server_name=peer.override_hostname or None)
    return channel, connect(channel, identity, signer, in_flight=in_flight)


# -- following the ledger


async def _follow(
    stack: AsyncExitStack,
    parts: Parts,
    metrics: Metrics,
    failure: "asyncio.Future[None]",
    waiting: Callable[[float], None] | None,
) -> None:
    """Start to take blocks in, and return when the read model has what the peer has now."""
    network = parts.fabric.network(parts.configuration.channel)
    peer, seconds = parts.configuration.peer.endpoint, parts.deadlines.ledger

    def tell() -> None:
        log.warning("gateway.waits", peer=peer, seconds=seconds)
        if waiting is not None:
            waiting(seconds)

    telling = asyncio.get_running_loop().call_later(_UNSAID_SECONDS, tell)
    try:
        async with asyncio.timeout(seconds):
            height = await _height(network)
    except TimeoutError:
        raise GatewayStartError(
            f"the peer at {peer} has not answered for {parts.configuration.channel} within {seconds:g} s; "
            "is the network up?"
        ) from None
    finally:
        telling.cancel()
    await _background(stack, _watch_peer(parts.peer, parts.follower), failure, "watch on the peer")

    async def follow() -> None:
        blocks = network.block_events(start_block=parts.model.position, reconnect=True)
        async with blocks:
            async for block in blocks:
                await parts.follower.take(block)
                metrics.block.set(block.header.number)

    await _background(stack, follow(), failure, "follower")
    if parts.model.position > height:
        raise GatewayStartError(
            f"{parts.configuration.state} has block {parts.model.position - 1}, the channel ends with block "
            f"{height - 1}: the folder belongs to another channel, or the network was made anew; use a new folder"
        )
    caught_up = asyncio.ensure_future(parts.follower.until(height - 1))
    try:
        await asyncio.wait({caught_up, failure}, return_when=asyncio.FIRST_COMPLETED)
        if failure.done():
            await failure
    finally:
        caught_up.cancel()


async def _watch_peer(channel: grpc.aio.Channel, follower: Follower) -> None:
    """Keep the follower told whether the peer is connected."""
    while True:
        state = channel.get_state(try_to_connect=True)
        follower.peer_is(state is grpc.ChannelConnectivity.READY, time.time_ns() // 1_000_000)
        await channel.wait_for_state_change(state)


async def _height(network: Any) -> int:
    from ..fabric.client import GatewayError  # noqa: PLC0415

    while True:
        try:
            return int(await network.height())
        except GatewayError as error:
            if error.code not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                raise GatewayStartError(f"the peer refuses this gateway's certificate: {error.message}") from error
            await asyncio.sleep(_RECONNECT_SECONDS)


async def _background(stack: AsyncExitStack, work: Any, failure: "asyncio.Future[None] | None", name: str) -> None:
    """Run something beside; its end by an error is the gateway's, where there is a future to say so."""
    task: asyncio.Task[None] = asyncio.create_task(work, name=name)

    def ended(task: "asyncio.Task[None]") -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            log.error("gateway.part_failed", part=name, error=str(error), kind=type(error).__name__)
        if failure is not None and not failure.done():
            text = str(error) if isinstance(error, OtherChannelError) else f"the {name} has ended: {error}"
            failure.set_exception(GatewayStartError(text))

    task.add_done_callback(ended)

    async def stop() -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})

    stack.push_async_callback(stop)


async def _warm(zygote: Zygote) -> None:
    try:
        await zygote.start()
    except TrainerError as error:
        log.warning("zygote.failed", reason=str(error))


# -- the gRPC server


def _server(parts: Parts, metrics: Metrics) -> tuple[Any, int, Any]:
    limits, configuration = parts.limits, parts.configuration
    server = grpc.aio.server(
        interceptors=[
            Admission(parts.me, lambda: parts.follower.trust, metrics, limits=limits, deadlines=parts.deadlines)
        ],
        options=[
            ("grpc.max_receive_message_length", limits.message_bytes),
            ("grpc.max_send_message_length", limits.message_bytes),
            ("grpc.so_reuseport", 0),
            ("grpc.max_concurrent_streams", limits.concurrent_calls),  # of one connection, before anybody is counted
            ("grpc.keepalive_time_ms", round(parts.deadlines.caller * 1000)),
        ],
        # No `maximum_concurrent_rpcs`: what one caller took of that number, all others would lack. Admission counts.
    )
    add_services(server, parts)
    status: Any = health.aio.HealthServicer()  # type: ignore[attr-defined]
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    reflection.enable_server_reflection((*NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    credentials = following_credentials(
        _read(configuration.tls_key, "tls_key"),
        _read(configuration.tls_certificate, "tls_certificate"),
        lambda: parts.follower.trust.client_roots,
    )
    port = _guard_port(configuration.listen, lambda: server.add_secure_port(configuration.listen, credentials))
    return server, port, status


def _guard_port(address: str, bind: Callable[[], int]) -> int:
    host, port = split_address(address)
    try:
        if port:
            # gRPC says only that it failed; asked first, the system says why.
            family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host.strip("[]"), port))
        return bind()
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise GatewayStartError(f"can't listen at {address}: {reason}") from error
