"""``fedfabric demo``: the whole path in one command."""

from pathlib import Path
from typing import Annotated

import typer

from ..network import RuntimeName
from ..output import Format, Output

app = typer.Typer(no_args_is_help=True, help="The whole path in one command, on this machine.")


@app.command()
def training(
    runtime: Annotated[
        RuntimeName, typer.Option("--runtime", help="native: processes of this machine; docker: containers.")
    ] = RuntimeName.NATIVE,
    folder: Annotated[
        Path, typer.Option("--folder", help="Results go into a new folder below it.", file_okay=False)
    ] = Path("fedfabric-demo"),
    rounds: Annotated[int, typer.Option("--rounds", help="Rounds of training.", min=4, max=200)] = 10,
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
