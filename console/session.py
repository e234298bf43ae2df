"""One command's connection to its organisation's gateway."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from .output import warn
from .running import run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..gateway import Client, Description

Result = TypeVar("Result")

Profile = Annotated[
    Path | None,
    typer.Option(
        "--profile",
        "-p",
        envvar="FEDFABRIC_PROFILE",
        help="Profile of who you are: a TOML file naming your gateway, certificate and key. "
        "fedfabric network up and add-user print where they wrote it.",
        show_default=False,
    ),
]


def ask(profile: Path | None, question: "Callable[[Client], Awaitable[Result]]") -> Result:
    """Connect as the profile says, ask the gateway, disconnect; Ctrl-C ends it in order."""

    async def connected() -> Result:
        from ..gateway import connect

        async with connect(profile) as client:
            return await question(client)

    return run(connected())


def look(profile: Path | None, question: "Callable[[Client], Awaitable[Result]]") -> Result:
    """Ask for what the gateway shows of the ledger, and warn when that may be out of date, its peer being away."""

    async def looked(client: "Client") -> Result:
        answer = await question(client)
        warn_of_peer(await client.describe())
        return answer

    return ask(profile, looked)


def warn_of_peer(gateway: "Description") -> None:
    """Say so if the gateway's peer is away, and how old what it shows may be."""
    if gateway.peer_lost_ms:
        warn(
            "PEER_AWAY",
            f"the gateway's peer {gateway.peer} has been away for {ago(gateway.peer_lost_ms)}: "
            f"this is the ledger as of block {gateway.block_number}",
            remedy="fedfabric network status tells what is wrong; fedfabric network up starts what is missing",
        )


def ago(ms: int) -> str:
    """How long ago a time (ms since 1970) was, in words."""
    seconds = max(0, round(time.time() - ms / 1000))
    for unit, name in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"
