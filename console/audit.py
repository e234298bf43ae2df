"""``fedfabric audit``: taking the evidence away, and checking it without trusting anybody."""

from pathlib import Path
from typing import Annotated

import typer

from .output import Format, Output, say, show
from .session import Profile, ask

app = typer.Typer(no_args_is_help=True, help="Audits: export a job's evidence, then verify it offline.")


@app.command()
def export(
    job: Annotated[str, typer.Argument(help="The job.")],
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Folder to write [default: JOB.audit].", file_okay=False, show_default=False),
    ] = None,
    profile: Profile = None,
    output: Output = Format.TEXT,
) -> None:
    """Write a job's evidence into a folder: the channel's blocks and the job's blobs. Needs the role auditor.

    Any one organisation's gateway will do: what it could forge, verify finds.

    \b
    Example:
      fedfabric audit export heart-1 --to evidence
      fedfabric audit verify evidence heart-1 --genesis HASH
    """
    folder = to or Path(f"{job}.audit")
    show(ask(profile, lambda client: client.audit.export(job, folder)))
    say(f"next: fedfabric audit verify {folder} {job} --genesis HASH, with a hash that you did not get from there")
