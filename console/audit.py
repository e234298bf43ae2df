"""``fedfabric audit``: taking the evidence away, and checking it without trusting anybody."""

from pathlib import Path
from typing import Annotated

import typer

from .exit_codes import ExitCode
from .failures import bad_input
from .output import Format, Output, chosen, say, show
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


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="The evidence: blocks/ and blobs/, as audit export writes them.")],
    job: Annotated[str, typer.Argument(help="The job.")],
    genesis: Annotated[
        str,
        typer.Option(
            "--genesis", metavar="HASH", help="Hash of the genesis block's header, 64 digits.", show_default=False
        ),
    ] = "",
    genesis_block: Annotated[
        Path | None,
        typer.Option("--genesis-block", help="The genesis block itself, from somebody you trust.", show_default=False),
    ] = None,
    output: Output = Format.TEXT,
) -> None:
    """Verify a job from its evidence alone: no network, no gateway, no trust in whom the evidence came from.

    Every grant, approval, signature, quorum, digest, aggregate and payment is derived again. The exit status is 0 only
    if all of it holds; else the report names the link that breaks. What is taken as given stands at its end.

    \b
    Examples:
      fedfabric audit verify evidence heart-1 --genesis 3b6f...
      fedfabric audit verify evidence heart-1 --genesis-block genesis.block --output json
    """
    from ..audit import verify_job
    from .genesis import genesis_hash

    if bool(genesis) == bool(genesis_block):
        raise bad_input(
            "the audit starts from the genesis block",
            field="--genesis",
            remedy="give its hash with --genesis, or the block with --genesis-block; not from the evidence itself",
        )
    report = verify_job(folder, None, genesis or genesis_hash(genesis_block or Path()), job)
    if chosen.format is Format.JSON:
        show(report.to_dict())
    else:
        for line in report.lines():
            say(line)
    if not report.verified:
        raise typer.Exit(ExitCode.AUDIT_FAILED)
