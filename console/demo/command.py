"""``fedfabric demo``: the whole path in one command."""

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ..exit_codes import ExitCode
from ..network import RuntimeName
from ..output import Format, Output, say, show
from ..running import run

app = typer.Typer(no_args_is_help=True, help="The whole path in one command, on this machine.")


@app.command()
def training(
    runtime: Annotated[
        RuntimeName, typer.Option("--runtime", help="native: processes of this machine; docker: containers.")
    ] = RuntimeName.NATIVE,
    folder: Annotated[
        Path, typer.Option("--folder", help="Results go into a new folder below it.", file_okay=False)
    ] = Path("fedfabric-demo"),
    rounds: Annotated[int, typer.Option("--rounds", help="Rounds of training.", min=10, max=200)] = 12,
    output: Output = Format.TEXT,
) -> None:
    """Train a heart-disease classifier across real hospitals' data on a real Fabric network, and audit it.

    Three hospitals and an ordering organisation found a network; each hospital holds its own patients; a fourth is
    onboarded on the running channel and joins the running job. The curve, a summary and the audit's evidence are
    written into a folder whose path is printed; everything else is taken down and removed, also by Ctrl-C.

    \b
    Examples:
      fedfabric demo training
      fedfabric demo training --runtime docker --output json
    """
    from rich.console import Console

    from .display import Display
    from .hospitals import HOSPITALS
    from .story import Story
    from .summary import closing

    target = folder / time.strftime("%Y%m%d-%H%M%S")
    console = Console(file=sys.stderr if output is Format.JSON else sys.stdout, highlight=False)
    try:
        with Display(console, [hospital.title for hospital in HOSPITALS]) as display:
            summary = run(Story(display, runtime.value, target.absolute(), rounds).play())
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; everything is taken down\n")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    if output is Format.JSON:
        show({"folder": target.absolute(), **asdict(summary)})
        return
    for line in closing(target, summary):
        say(line)


@app.command()
def patients(
    folder: Annotated[Path, typer.Argument(help="Folder to write; one folder per hospital is made in it.")],
    output: Output = Format.TEXT,
) -> None:
    """Write the demo's real patients, each hospital's into a folder of its own, to follow the tutorial with.

    \b
    Example:
      fedfabric demo patients patients
    """
    from .hospitals import ATTRIBUTION, find_data, hand_out

    handed = hand_out(find_data(), folder)
    show({hospital.name: path for hospital, path in handed.items()})
    say(f"data: {ATTRIBUTION}")
