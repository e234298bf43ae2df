"""``fedfabric data``: what stewards register of their data, and what others can learn of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .failures import bad_input
from .output import Format, Output, plain, say, show, show_rows
from .session import Profile, ask

if TYPE_CHECKING:
    from ..gateway import Client

app = typer.Typer(
    no_args_is_help=True,
    help="Data sets: registered on the ledger by digest, terms and price; the bytes stay with their owner.",
)
COLUMNS = ("id", "version", "state", "title", "samples", "price", "purposes", "licence")


@app.command()
def register(
    name: Annotated[str, typer.Argument(help="Name of the data set; its id becomes MSP/NAME.")],
    folder: Annotated[Path, typer.Argument(help="Folder with the data, as plans will find it.", exists=True)],
    title: Annotated[str, typer.Option("--title", help="One line for people.")],
    samples: Annotated[int, typer.Option("--samples", help="Rows; an update may claim no more.", min=1)],
    licence: Annotated[str, typer.Option("--licence", help="Licence, as an SPDX name where there is one.")],
    jurisdiction: Annotated[str, typer.Option("--jurisdiction", help="Country, ISO 3166: CH, US-CA.")],
    purpose: Annotated[
        list[str] | None, typer.Option("--purpose", help="A permitted purpose.", show_default="training")
    ] = None,
    description: Annotated[str, typer.Option("--description", help="A paragraph for people.")] = "",
    column: Annotated[
        list[str] | None, typer.Option("--column", help="A column of the schema, NAME:TYPE.", metavar="NAME:TYPE")
    ] = None,
    price: Annotated[str, typer.Option("--price", help="Tokens for one grant.")] = "0",
    retention_days: Annotated[int, typer.Option("--retention-days", help="0: no bound.", min=0)] = 0,
    profile: Profile = None,
    output: Output = Format.TEXT,
) -> None:
    """Encrypt a data set into your organisation's own blob store and register it on the ledger.

    The ledger gets a salted digest, the schema, the terms and the price; the bytes do not leave your gateway. Needs the
    role steward.

    \b
    Example:
      fedfabric data register heart ./patients --title "Heart disease, 303 patients" --samples 303 \\
        --licence CC-BY-4.0 --jurisdiction US --column age:number --column num:integer
    """
    from ..chaincode.records import Column

    columns = tuple(Column(name=name, type=kind) for name, kind in map(_column, column or ()))

    async def registered(client: "Client") -> object:
        return await client.datasets.register(
            name,
            folder,
            title=title,
            description=description,
            columns=columns,
            samples=samples,
            licence=licence,
            purposes=tuple(purpose or ("training",)),
            retention_days=retention_days,
            jurisdiction=jurisdiction,
            price=price,
        )

    show(ask(profile, registered), title="registered")
    say("next: others ask with fedfabric access request; you answer with fedfabric access grant")


@app.command("list")
def list_(
    query: Annotated[str, typer.Argument(help="Words to find in ids, titles, descriptions, columns, purposes.")] = "",
    retired: Annotated[bool, typer.Option("--retired", help="Retired ones too.")] = False,
    profile: Profile = None,
    output: Output = Format.TEXT,
) -> None:
    """List the data sets of all organisations.

    \b
    Examples:
      fedfabric data list
      fedfabric data list cholesterol --output json
    """
    found = ask(profile, lambda client: client.datasets.list(query, retired=retired))
    show_rows(
        found,
        COLUMNS,
        empty="no data set is registered" + (f" that speaks of {query}" if query else ""),
        row=lambda dataset: {**plain(dataset), **plain(dataset.terms)},
    )


@app.command("show")
def show_(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="MSP/name.")],
    profile: Profile = None,
    output: Output = Format.TEXT,
) -> None:
    """Show one data set: schema, terms, price, digest.

    \b
    Example:
      fedfabric data show ClevelandMSP/heart
    """
    show(ask(profile, lambda client: client.datasets.show(identifier)))


@app.command()
def retire(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="MSP/name, of your own organisation.")],
    profile: Profile = None,
    output: Output = Format.TEXT,
) -> None:
    """Retire a data set: no new grant, no further round. Its record stays. Needs the role steward.

    \b
    Example:
      fedfabric data retire ClevelandMSP/heart
    """
    show(ask(profile, lambda client: client.datasets.retire(identifier)), title="retired")


def _column(text: str) -> tuple[str, str]:
    name, colon, kind = text.partition(":")
    if not colon or not name or not kind:
        raise bad_input(f"{text!r} is no column", field="--column", remedy="write NAME:TYPE, as in age:number")
    return name, kind
