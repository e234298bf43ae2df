"""``fedfabric token``: what data and work are paid with."""

from typing import Annotated

import typer

from .output import Format, Output
from .session import Profile

app = typer.Typer(
    no_args_is_help=True, help="Tokens, in which data and work are paid: minted by a quorum, never created otherwise."
)


@app.command()
def mint(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="Name of the mint; one name mints once.")],
    amount: Annotated[str, typer.Option("--amount", help="How many tokens: digits, at most 30.")],
    owner: Annotated[
        str, typer.Option("--for", help="Account that gets them: an MSP id, or MSP/user.", metavar="ACCOUNT")
    ],
    profile: Profile = None,
    output: Output = Format.TEXT,
) -> None:
    """Approve a mint, and carry it out as soon as a majority of the members has approved the same.

    Every operator gives the same command with their own profile; the one that completes the quorum mints. Repeating it
    changes nothing. Needs the role operator.

    \b
    Example, by the operators of two of three hospitals:
      fedfabric token mint budget-2026 --amount 1000 --for ClevelandMSP --profile cleveland/operator.toml
      fedfabric token mint budget-2026 --amount 1000 --for ClevelandMSP --profile hungary/operator.toml
    """


@app.command()
def balance(
    owner: Annotated[
        str,
        typer.Argument(
            metavar="ACCOUNT", help="MSP id, MSP/user, or a job's escrow job:ID; without it your organisation."
        ),
    ] = "",
    profile: Profile = None,
    output: Output = Format.TEXT,
) -> None:
    """Show what an account owns.

    \b
    Examples:
      fedfabric token balance
      fedfabric token balance job:heart-1 --output json
    """
