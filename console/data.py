"""``fedfabric data``: what stewards register of their data, and what others can learn of it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .exit_codes import ExitCode
from .failures import Failure, bad_input, remedy_for
from .output import Format, Output, plain, progress, say, show, show_rows
from .session import Profile, ask, look

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
        with progress("encrypting and storing") as told:
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
                progress=told,
            )

    show(ask(profile, registered), title="registered")
    say("next: others ask with fedfabric access request; you answer with fedfabric access grant")


@app.command()
def update(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="MSP/name, of your own organisation.")],
    folder: Annotated[
        Path | None, typer.Argument(help="Folder with new data; without it the bytes stay.", exists=True)
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="One line for people.")] = None,
    samples: Annotated[int | None, typer.Option("--samples", help="Rows; needed with new data.", min=1)] = None,
    licence: Annotated[str | None, typer.Option("--licence", help="Licence, as an SPDX name.")] = None,
    jurisdiction: Annotated[str | None, typer.Option("--jurisdiction", help="Country, ISO 3166: CH, US-CA.")] = None,
    purpose: Annotated[
        list[str] | None, typer.Option("--purpose", help="A permitted purpose; those given replace all.")
    ] = None,
    description: Annotated[str | None, typer.Option("--description", help="A paragraph for people.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="A column, NAME:TYPE; those given replace all.", metavar="NAME:TYPE"),
    ] = None,
    price: Annotated[str | None, typer.Option("--price", help="Tokens for one grant.")] = None,
    retention_days: Annotated[int | None, typer.Option("--retention-days", help="0: no bound.", min=0)] = None,
    profile: Profile = None,
    output: Output = Format.TEXT,
) -> None:
    """Give a data set of yours new terms or new data, as its next version. What is not named stays as it is.

    Requests, grants and jobs speak of one version: those for an earlier one stay on the ledger and let nobody train on
    the new one, so that others ask again, and a running job goes on without you. Needs the role steward.

    \b
    Examples:
      fedfabric data update ClevelandMSP/heart --price 20 --description "Follow-up of 2026 added"
      fedfabric data update ClevelandMSP/heart ./patients --samples 320
    """
    if folder and samples is None:
        raise bad_input("new data has its own number of rows", field="--samples", remedy="give --samples")
    given = {
        "title": title,
        "description": description,
        "columns": [dict(zip(("name", "type"), _column(text), strict=True)) for text in column] if column else None,
        "samples": samples,
        "licence": licence,
        "purposes": purpose or None,
        "retention_days": retention_days,
        "jurisdiction": jurisdiction,
        "price": price,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        raise bad_input("nothing is to be changed", remedy="name a folder or terms; see fedfabric data update --help")

    async def updated(client: "Client") -> object:
        from ..chaincode.records import DatasetTerms

        found = await client.datasets.show(identifier)
        # What would be refused is refused before gigabytes are sent.
        terms = DatasetTerms.model_validate_json(json.dumps({**plain(found.terms), **changes}))
        if found.owner != client.profile.msp_id:
            raise Failure(
                ExitCode.DENIED,
                "NOT_OWNER",
                f"{identifier} belongs to {found.owner}",
                field="ID",
                remedy=remedy_for("NOT_OWNER"),
            )
        if folder:
            with progress("encrypting and storing") as told:
                blob = await client.datasets.upload(folder, progress=told)
            terms = terms.model_copy(update={"blob": blob})
        return await client.datasets.update(identifier, found.version, terms)

    show(ask(profile, updated), title="updated")
    say("next: whoever is to use this version asks with fedfabric access request; you answer with access grant")


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
    found = look(profile, lambda client: client.datasets.list(query, retired=retired))
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
    show(look(profile, lambda client: client.datasets.show(identifier)))


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
