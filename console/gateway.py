"""``fedfabric gateway``: one organisation's server."""

from pathlib import Path
from typing import Annotated

import typer

from .output import Format, Output

app = typer.Typer(
    no_args_is_help=True, help="The gateway: one server per organisation, between its people, its data and the ledger."
)
PR_SET_PDEATHSIG = 1


@app.command()
def start(
    config: Annotated[
        Path,
        typer.Option(
            "--config", "-c", envvar="FEDFABRIC_GATEWAY_CONFIG", help="gateway.toml, as fedfabric network up writes it."
        ),
    ],
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="Stop when the process that started this one ends.")
    ] = False,
    output: Output = Format.TEXT,
) -> None:
    """Run your organisation's gateway until Ctrl-C or SIGTERM.

    It serves the API to your people (mutual TLS), keeps your encrypted blobs, follows the ledger and takes part in
    the jobs that your stewards approved, each in a sandboxed process. Killed at any point, it goes on where the ledger
    says.

    \b
    Example:
      fedfabric gateway start --config ~/.local/share/fedfabric/heart/gateways/cleveland/gateway.toml
    """
