"""One command's connection to its organisation's gateway."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from .running import run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..gateway import Client

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
