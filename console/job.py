"""``fedfabric job``: training across organisations, submitted, reviewed, approved, watched."""

from pathlib import Path
from typing import Annotated

import typer

from .output import Format, Output, show
from .session import Profile, ask

app = typer.Typer(
    no_args_is_help=True, help="Training jobs across organisations: nothing runs that each owner has not approved."
)
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job.")]
Data = Annotated[
    list[str],
    typer.Option(
        "--data",
        metavar="MSP/NAME[@GRANT]",
        help="A data set to train on, and the granted request that lets you; without @GRANT yours is looked up. "
        "May be repeated, one for each organisation.",
    ),
]
ENDED_OTHERWISE = {"refused", "cancelled", "aborted"}


@app.command()
def submit(
    identifier: Annotated[str, typer.Argument(metavar="JOB", help="Your name for the job: a-z 0-9 . _ -")],
    plan: Annotated[Path, typer.Option("--plan", help="Bundle made by fedfabric plan build.", exists=True)],
    data: Data,
    rounds: Annotated[int, typer.Option("--rounds", help="Rounds of training and averaging.", min=1, max=10_000)] = 10,
    budget: Annotated[
        str, typer.Option("--budget", help="Tokens put into escrow, an equal part for each round.")
    ] = "0",
    title: Annotated[str, typer.Option("--title", help="One line for people.")] = "",
    seed: Annotated[int, typer.Option("--seed", help="Of the initial model.", min=0)] = 0,
    model: Annotated[
        Path | None, typer.Option("--model", help="Initial model (safetensors) instead of the plan's own.", exists=True)
    ] = None,
    clip: Annotated[str, typer.Option("--clip", help="Bound on each coordinate of an update.")] = "1.0",
    server: Annotated[
        str, typer.Option("--server", help="Server step: sgd, adam, yogi, ...", metavar="NAME[:KEY=VALUE,...]")
    ] = "sgd:rate=1.0",
    approval_minutes: Annotated[int, typer.Option("--approval-minutes", help="Time for the owners.", min=1)] = 1440,
    update_seconds: Annotated[int, typer.Option("--update-seconds", help="Time to train in a round.", min=1)] = 600,
    attest_seconds: Annotated[int, typer.Option("--attest-seconds", help="Time to check its result.", min=1)] = 120,
    profile: Profile = None,
    output: Output = Format.TEXT,
) -> None:
    """Submit a training job: a plan by digest, the data sets, how many rounds, and the budget, which goes into escrow.

    It starts when every owner has approved. Single updates are readable by every aggregator (the policy clear), which
    owners approve with the rest. Needs the role scientist.

    \b
    Example:
      fedfabric job submit heart-1 --plan heart.plan.zip --rounds 10 --budget 300 \\
        --data ClevelandMSP/heart --data HungaryMSP/heart --data SwitzerlandMSP/heart
    """


@app.command()
def review(
    job: JobId,
    save: Annotated[Path | None, typer.Option("--save", help="Write the plan's files there.", file_okay=False)] = None,
    profile: Profile = None,
    output: Output = Format.TEXT,
) -> None:
    """Show what you would approve: terms, data, and the plan's code, checked against the digest on the ledger.

    \b
    Example:
      fedfabric job review heart-1 --save review && less review/plan.py
    """


@app.command()
def approve(
    job: JobId,
    digest: Annotated[str, typer.Option("--digest", help="The job's digest that job review showed you.")],
    profile: Profile = None,
    output: Output = Format.TEXT,
) -> None:
    """Approve a job on your data set, by the digest that you reviewed. Needs the role steward.

    \b
    Example:
      fedfabric job approve heart-1 --digest 5f3c...
    """
    show(ask(profile, lambda client: client.jobs.approve(job, digest=digest)), title="approved")


@app.command()
def refuse(
    job: JobId,
    digest: Annotated[str, typer.Option("--digest", help="The job's digest that job review showed you.")],
    reason: Annotated[str, typer.Option("--reason", help="A line for the record.")] = "",
    profile: Profile = None,
    output: Output = Format.TEXT,
) -> None:
    """Refuse a job: it ends, and its budget goes back. Needs the role steward.

    \b
    Example:
      fedfabric job refuse heart-1 --digest 5f3c... --reason "the plan reads a column it does not need"
    """
    show(ask(profile, lambda client: client.jobs.refuse(job, digest=digest, reason=reason)), title="refused")


@app.command()
def add(
    job: JobId,
    data: Data,
    profile: Profile = None,
    output: Output = Format.TEXT,
) -> None:
    """Ask one more owner into a job of yours; once they approve, they are in from the next round opened.

    \b
    Example:
      fedfabric job add heart-1 --data VaLongBeachMSP/heart
    """


@app.command()
def watch(
    job: JobId,
    profile: Profile = None,
    output: Output = Format.TEXT,
) -> None:
    """Follow a job until it ends, a line for each round; the exit status says whether it finished.

    With --output json each line is one JSON object.

    \b
    Example:
      fedfabric job watch heart-1 && fedfabric model fetch heart-1
    """


@app.command()
def cancel(
    job: JobId,
    profile: Profile = None,
    output: Output = Format.TEXT,
) -> None:
    """Cancel a job of yours: at once before it starts, with the present round after that. Unspent budget goes back.

    \b
    Example:
      fedfabric job cancel heart-1
    """
    show(ask(profile, lambda client: client.jobs.cancel(job)), title="cancelled")


@app.command("list")
def list_(
    state: Annotated[
        str, typer.Option("--state", help="submitted, running, finished, refused, cancelled or aborted.")
    ] = "",
    profile: Profile = None,
    output: Output = Format.TEXT,
) -> None:
    """List the jobs of all organisations.

    \b
    Example:
      fedfabric job list --state submitted
    """


@app.command("show")
def show_(
    job: JobId,
    profile: Profile = None,
    output: Output = Format.TEXT,
) -> None:
    """Show a job: terms, decisions, and each round with who said what, figures, payments.

    \b
    Example:
      fedfabric job show heart-1 --output json
    """
