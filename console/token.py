"""``fedfabric token``: what data and work are paid with."""

from typing import TYPE_CHECKING, Annotated

import typer

from .exit_codes import ExitCode
from .failures import Failure, remedy_for
from .output import Format, Output, chosen, say, show, warn
from .session import Profile, ask, look

if TYPE_CHECKING:
    from ..chaincode.records import Balance
    from ..gateway import Client

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
      fedfabric token mint budget-1 --amount 1000 --for ClevelandMSP --profile cleveland/operator.toml
      fedfabric token mint budget-1 --amount 1000 --for ClevelandMSP --profile hungary/operator.toml
    """

    async def minted(client: "Client") -> dict[str, object]:
        from ..gateway import ApiError

        try:
            approval = await client.tokens.approve_mint(identifier, owner, amount)
        except ApiError as error:
            if error.code != "CONFLICT":
                raise
            raise Failure(
                ExitCode.REFUSED,
                error.code,
                f"your organisation has approved another amount or account under the id {identifier}",
                field="ID",
                remedy="approvals are never changed: agree on a new id, or give the amount and account approved before",
            ) from error
        facts = {"mint": identifier, "for": owner, "amount": amount, "approved_by": approval.msp}
        try:
            mint = await client.tokens.mint(identifier, owner, amount)
        except ApiError as error:
            if error.code != "QUORUM_MISSING":
                raise
            return {**facts, "minted": False}
        return {**facts, "minted": True, "approvers": mint.approvers}

    result = ask(profile, minted)
    show(result)
    if not result["minted"]:
        say("next: operators of other members give the same command: same id, amount and account; a majority mints")


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
    """Show what an account owns: what was minted or paid to it and is not spent.

    \b
    Examples:
      fedfabric token balance
      fedfabric token balance job:heart-1 --output json
    """

    async def asked(client: "Client") -> "Balance":
        found = await client.tokens.balance(owner)
        if not found.tokens:
            await _warn_of_unknown(client, found.owner)
        return found

    found = look(profile, asked)
    if chosen.format is Format.JSON:
        show(found)
    else:
        show({"account": found.owner, "total": found.total, "rows": len(found.tokens)})
        if not found.tokens:
            say("the account has no tokens: none was minted or paid to it, or all are spent")


async def _warn_of_unknown(client: "Client", account: str) -> None:
    """Say so when an empty account is one that nobody on this ledger can have."""
    from ..gateway import ApiError

    kind, _, name = account.partition(":")
    if name:
        find = {"job": client.jobs.show, "request": client.access.show}.get(kind)
        try:
            if find is not None:
                await find(name)
        except ApiError as error:
            if error.status.name != "NOT_FOUND":
                raise
            warn("ACCOUNT_UNKNOWN", error.text, remedy=remedy_for(error.code))
        return
    msp = account.partition("/")[0]
    members = [member.msp for member in (await client.consortium.show()).members]
    if msp not in members:
        warn("ACCOUNT_UNKNOWN", f"{msp} is no member of the consortium", remedy=f"name one of {', '.join(members)}")
