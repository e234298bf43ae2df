"""``fedfabric access``: asking for data, granting and revoking."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from .failures import check_state
from .output import Format, Output, say, show, show_rows
from .session import Profile, ask, look

if TYPE_CHECKING:
    from ..gateway import Client

app = typer.Typer(
    no_args_is_help=True,
    help="Access to data sets: requested, granted and revoked on the ledger, and every use recorded there.",
)
COLUMNS = ("id", "dataset", "version", "requester", "purpose", "price", "state", "note")
DAY_MS = 24 * 3600 * 1000


@app.command()
def request(
    dataset: Annotated[str, typer.Argument(help="The data set, MSP/name.")],
    identifier: Annotated[str, typer.Option("--id", metavar="ID", help="Your name for the request: a-z 0-9 . _ -")],
    purpose: Annotated[str, typer.Option("--purpose", help="One of the data set's permitted purposes.")] = "training",
    note: Annotated[str, typer.Option("--note", help="A line for the owner.")] = "",
    profile: Profile = None,
    output: Output = Format.TEXT,
) -> None:
    """Ask an owner for access to a data set, for your whole organisation.

    Its price, if it has one, goes into escrow: to the owner with the grant, back to you when you withdraw. Needs the
    role scientist.

    \b
    Example:
      fedfabric access request HungaryMSP/heart --id heart-hungary --note "job heart-1"
    """

    async def requested(client: "Client") -> object:
        found = await client.datasets.show(dataset)
        return await client.access.request(
            identifier, dataset=dataset, version=found.version, purpose=purpose, note=note
        )

    show(ask(profile, requested), title="requested")
    say(f"next: the owner's steward runs fedfabric access grant {identifier}")


@app.command()
def grant(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="The request.")],
    days: Annotated[int, typer.Option("--days", help="Days until the grant ends; 0: never.", min=0)] = 0,
    profile: Profile = None,
    output: Output = Format.TEXT,
) -> None:
    """Grant a request for a data set of yours; its price becomes yours. Needs the role steward.

    A grant alone runs nothing: each job still needs your approval, by the digest of its code.

    \b
    Example:
      fedfabric access list --state requested
      fedfabric access grant heart-hungary --days 90
    """
    expires = int(time.time() * 1000) + days * DAY_MS if days else 0
    show(ask(profile, lambda client: client.access.grant(identifier, expires_ms=expires)), title="granted")


@app.command()
def revoke(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="The request that was granted.")],
    reason: Annotated[str, typer.Option("--reason", help="A line for the record.")] = "",
    profile: Profile = None,
    output: Output = Format.TEXT,
) -> None:
    """Revoke a grant of yours: no byte is released and no round starts under it any more. Needs the role steward.

    A round that has begun still counts your update; you are not in the next one.

    \b
    Example:
      fedfabric access revoke heart-hungary --reason "ethics board, 12 May"
    """
    show(ask(profile, lambda client: client.access.revoke(identifier, reason=reason)), title="revoked")


@app.command()
def withdraw(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="Your request, not granted yet.")],
    profile: Profile = None,
    output: Output = Format.TEXT,
) -> None:
    """Take a request back before it is granted; its price comes back out of escrow. Needs the role scientist.

    \b
    Example:
      fedfabric access withdraw heart-hungary
    """
    show(ask(profile, lambda client: client.access.withdraw(identifier)), title="withdrawn")


@app.command("list")
def list_(
    dataset: Annotated[str, typer.Option("--dataset", help="Only requests for this data set.")] = "",
    state: Annotated[str, typer.Option("--state", help="requested, granted, revoked or withdrawn.")] = "",
    profile: Profile = None,
    output: Output = Format.TEXT,
) -> None:
    """List requests and where they stand.

    \b
    Examples:
      fedfabric access list --state requested
      fedfabric access list --dataset HungaryMSP/heart --output json
    """
    from ..chaincode.records import AccessState

    check_state(state, AccessState)
    found = look(profile, lambda client: client.access.list(dataset=dataset, state=state))
    show_rows(found, COLUMNS, empty="no such request")
