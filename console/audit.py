"""``fedfabric audit``: taking the evidence away, and checking it without trusting anybody."""

import re
import shutil
from pathlib import Path
from typing import Annotated

import typer

from .exit_codes import ExitCode
from .failures import Failure, bad_input
from .output import Format, Output, chosen, progress, say, show, working
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

    Any one organisation's gateway that had a part in the job will do: what it could forge, verify finds.

    \b
    Example:
      fedfabric audit export heart-1 --to evidence
      fedfabric audit verify evidence heart-1 --genesis HASH
    """
    folder = to or Path(f"{job}.audit")
    new = not folder.exists()
    try:
        with progress("exporting") as told:
            exported = ask(profile, lambda client: client.audit.export(job, folder, progress=told))
    except BaseException:
        if new:
            shutil.rmtree(folder, ignore_errors=True)  # a part of the evidence proves nothing
        raise
    show(exported)
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
    with working("deriving the job again"):
        report = verify_job(folder, None, genesis or genesis_hash(genesis_block or Path()), job)
    made_for = exported_for(folder)
    if not report.job_state and len(report.findings) == 1:  # the chain holds, and has no such job
        known = jobs_in(folder)
        raise Failure(
            ExitCode.NOT_FOUND,
            "UNKNOWN_JOB",
            f"no job {job} is on this ledger" + (f"; the folder was exported for {made_for}" if made_for else ""),
            where=str(folder),
            remedy=f"name one of {', '.join(known)}" if known else "this ledger has no job yet",
        )
    if chosen.format is Format.JSON:
        show(report.to_dict())
    else:
        for line in report.lines():
            say(line)
        if not report.verified and made_for not in {"", job}:
            say(f"the folder was exported for the job {made_for}: it need not hold what {job} needs")
    if not report.verified:
        raise typer.Exit(ExitCode.AUDIT_FAILED)


def exported_for(folder: Path) -> str:
    """The job that an export's README names, "" if it can't be told; a hint, which proves nothing."""
    try:
        with (folder / "README.txt").open(encoding="utf-8") as file:
            found = re.match(r"Evidence of the training job ([a-z0-9._-]{1,64}), ", file.readline(200))
    except (OSError, UnicodeDecodeError):
        return ""
    return found[1] if found else ""


def jobs_in(folder: Path) -> list[str]:
    """The ids of the jobs in a folder of blocks, in order of their names."""
    from ..chaincode.records import job_key
    from ..fabric.blocks import read_blocks

    start, _, end = job_key("*").partition("*")
    blocks = folder / "blocks"
    keys = {
        write.key
        for block in read_blocks(blocks if blocks.is_dir() else folder)
        for transaction in block.transactions
        if transaction.action and transaction.is_valid
        for access in transaction.action.accesses
        for write in access.writes
    }
    return sorted(key.removeprefix(start).removesuffix(end) for key in keys if key.startswith(start))
