"""``fedfabric gateway``: one organisation's server."""

import asyncio
import ctypes
import datetime
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .exit_codes import ExitCode
from .failures import Failure
from .output import Format, Output, chosen, plain, say, show, show_line, warn
from .running import run
from .session import Profile, ago, ask, warn_of_peer

if TYPE_CHECKING:
    from ..gateway import Client, Description, RunningGateway

app = typer.Typer(
    no_args_is_help=True, help="The gateway: one server per organisation, between its people, its data and the ledger."
)
PR_SET_PDEATHSIG = 1
NOT_YET = {"GATEWAY_UNAVAILABLE", "GATEWAY_TIMEOUT"}
PAUSE_SECONDS = 0.05
WARN_DAYS = 30


@app.command()
def start(
    config: Annotated[
        Path,
        typer.Option(
            "--config", "-c", envvar="FEDFABRIC_GATEWAY_CONFIG", help="gateway.toml, as fedfabric network up writes it."
        ),
    ],
    parent: Annotated[
        int, typer.Option("--parent", metavar="PID", help="Stop when this process, which starts the gateway, ends.")
    ] = 0,
    output: Output = Format.TEXT,
) -> None:
    """Run your organisation's gateway until Ctrl-C or SIGTERM, which end it in order with exit status 0.

    It serves the API to your people (mutual TLS), keeps your encrypted blobs, follows the ledger and takes part in
    the jobs that your stewards approved, each in a sandboxed process. Killed at any point, it goes on where the ledger
    says. Its log goes to standard error. While its peer does not answer it waits, and says so.

    With --output json each line is one JSON object: {"state": "waiting", ...} if it waits, {"state": "serving", ...}.

    \b
    Example:
      fedfabric gateway start --config ~/.local/share/fedfabric/heart/gateways/cleveland/gateway.toml
    """
    if parent:
        end_with(parent)
    from ..gateway import GatewayConfiguration, serve

    write_log()
    configuration = GatewayConfiguration.load(config)

    def waiting(seconds: float) -> None:
        peer, remedy = configuration.peer.endpoint, "fedfabric network status; fedfabric network up starts the peer"
        if chosen.format is Format.JSON:
            show_line({"state": "waiting", "peer": peer, "seconds": seconds, "remedy": remedy})
        else:
            say(f"the peer at {peer} does not answer yet: waiting for it, for {seconds:g} s at most")
            say(f"  to do: {remedy}")

    def ready(gateway: "RunningGateway") -> None:
        facts = {"msp_id": configuration.msp_id, "port": gateway.port, "channel": configuration.channel}
        if chosen.format is Format.JSON:
            show_line({"state": "serving", **facts})
        else:
            say(f"{configuration.msp_id} serves {configuration.channel} at port {gateway.port}; Ctrl-C ends it")

    try:
        run(serve(configuration, ready=ready, waiting=waiting))
    except KeyboardInterrupt:
        say("stopped")


@app.command()
def status(
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", help="Wait so long for it to serve.", min=0)
    ] = 0.0,
    profile: Profile = None,
    output: Output = Format.TEXT,
) -> None:
    """Show your organisation's gateway, how far it has read the ledger, and whom it takes you for.

    Warnings on standard error tell when its peer is away and when a certificate is about to run out.

    \b
    Examples:
      fedfabric gateway status
      fedfabric gateway status --wait 60 --profile cleveland/steward.toml
    """
    found = ask(profile, lambda client: serving(client, wait))
    warn_of_peer(found)
    warn_of_end("the gateway's certificate", found.certificates_end_ms, "renew it, then start the gateway again")
    warn_of_end("your certificate", found.caller_certificate_ends_ms, "have your operator renew it")
    show(found if chosen.format is Format.JSON else in_words(found))


def in_words(found: "Description") -> dict[str, object]:
    """A gateway's description for people: times as dates and ages."""
    facts = plain(found)
    facts["peer"] += f", away for {ago(found.peer_lost_ms)}" if found.peer_lost_ms else ", connected"
    if found.block_time_ms:
        facts["block_number"] = f"{found.block_number}, its last transaction {ago(found.block_time_ms)} ago"
    for name in ("certificates_end", "caller_certificate_ends"):
        facts[name] = _date(getattr(found, f"{name}_ms"))
    return {name: fact for name, fact in facts.items() if not name.endswith("_ms")}


def warn_of_end(whose: str, end_ms: int, remedy: str) -> None:
    """Warn of a certificate that runs out within 30 days (ms since 1970; 0: an older gateway does not say)."""
    if end_ms and end_ms - time.time() * 1000 < WARN_DAYS * 86_400_000:
        warn("CERTIFICATE_ENDS", f"{whose} runs out on {_date(end_ms)}", remedy=remedy)


def _date(ms: int) -> str:
    return f"{datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC):%Y-%m-%d %H:%M} UTC"


async def serving(client: "Client", seconds: float) -> "Description":
    """What a gateway says of itself, asked again for so many seconds while it can't be reached.

    Raises:
        ApiError: it can't be reached in time, or refuses the caller.
    """
    from ..gateway import ApiError

    deadline = time.monotonic() + seconds
    while True:
        try:
            return await client.describe()
        except ApiError as error:
            if error.code not in NOT_YET or time.monotonic() >= deadline:
                raise
        await asyncio.sleep(PAUSE_SECONDS)


def end_with(parent: int) -> None:
    """Have the system send this process SIGTERM when its parent ends, however that ends (Linux, prctl(2)).

    Raises:
        Failure: the parent has ended already, or is another process.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise Failure(
            ExitCode.UNAVAILABLE,
            "PARENT_ENDED",
            "the process that started this one has ended",
            remedy="give --parent the process that starts the gateway, or leave it out",
        )


def write_log() -> None:
    """Let structlog write to standard error: coloured lines on a terminal, JSON elsewhere."""
    import structlog

    renderer = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
