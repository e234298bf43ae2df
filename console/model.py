"""``fedfabric model``: models that jobs made."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .output import Format, Output, progress, say, show
from .session import Profile, ask

if TYPE_CHECKING:
    from ..chaincode.records import Blob
    from ..gateway import Client, JobReport

app = typer.Typer(no_args_is_help=True, help="Models that jobs made, as safetensors files, checked against the ledger.")


@app.command()
def fetch(
    job: Annotated[str, typer.Argument(help="The job.")],
    round_: Annotated[int, typer.Option("--round", help="Of this final round; 0: the latest.", min=0)] = 0,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="File to write [default: JOB.safetensors].", dir_okay=False, show_default=False),
    ] = None,
    profile: Profile = None,
    output: Output = Format.TEXT,
) -> None:
    """Fetch a job's global model and check it, segment by segment, against the digest on the ledger.

    \b
    Examples:
      fedfabric model fetch heart-1
      fedfabric model fetch heart-1 --round 3 --to round3.safetensors
    """
    target = to or Path(f"{job}.safetensors")

    async def fetched(client: "Client") -> "tuple[Blob, int]":
        with progress("fetching") as told:
            blob = await client.models.fetch(job, target, round_number=round_, progress=told)
        return blob, round_ or _round_of(await client.jobs.show(job), blob)

    blob, number = ask(profile, fetched)
    show({"model": target, "job": job, "round": number, "blob": blob})
    if not number:
        say("no round is final yet: this is the job's initial model")


def _round_of(report: "JobReport", blob: "Blob") -> int:
    """The round that made a model, 0 for the job's initial one; more may have become final since it was fetched."""
    made = (one.round for one in report.rounds if one.round.outcome and one.round.outcome.model == blob)
    return max((record.number for record in made), default=0)
