"""``fedfabric job``: training across organisations, submitted, reviewed, approved, watched."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .exit_codes import ExitCode
from .failures import Failure, bad_input, check_state, explain
from .initial_model import check_form, check_values
from .job_lines import figures, money, round_line, show_job
from .output import Format, Output, chosen, plain, progress, say, show, show_line, show_rows
from .session import Profile, ask, look, warn_of_peer

if TYPE_CHECKING:
    from ..chaincode.records import DatasetUse, Decision, Job, ServerOptimizer
    from ..gateway import Client, JobReport

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


class Policy(StrEnum):
    """The ledger's privacy policies, named here so that --help need not import the ledger."""

    CLEAR = "clear"
    MASKED = "masked"


ENDED_OTHERWISE = {"refused", "cancelled", "aborted"}


@app.command()
def submit(
    identifier: Annotated[str, typer.Argument(metavar="JOB", help="Your name for the job: a-z 0-9 . _ -")],
    plan: Annotated[
        Path, typer.Option("--plan", help="Bundle made by fedfabric plan build.", exists=True, dir_okay=False)
    ],
    data: Data,
    rounds: Annotated[int, typer.Option("--rounds", help="Rounds of training and averaging.", min=1, max=10_000)] = 10,
    budget: Annotated[
        str, typer.Option("--budget", help="Tokens put into escrow, an equal part for each round.")
    ] = "0",
    title: Annotated[str, typer.Option("--title", help="One line for people.")] = "",
    seed: Annotated[int, typer.Option("--seed", help="Of the initial model.", min=0)] = 0,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", help="Initial model (safetensors) instead of the plan's own.", exists=True, dir_okay=False
        ),
    ] = None,
    clip: Annotated[str, typer.Option("--clip", help="Bound on each coordinate of an update.")] = "1.0",
    server: Annotated[
        str,
        typer.Option("--server", help="Server step: sgd, sgdm, adagrad, adam, yogi.", metavar="NAME[:KEY=VALUE,...]"),
    ] = "sgd",
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
    from ..chaincode.records import Plan, SubmitJob

    optimizer = _server_step(server)
    if model:
        check_values(model)

    async def submitted(client: "Client") -> "Job":
        datasets = [await _use(client, text) for text in data]
        with progress("storing the plan") as told:
            bundle = await client.blobs.upload_plan(plan, progress=told)
        if model:
            await check_form(client, model, bundle, seed)
        if model:
            with progress("storing the model") as told:
                initial = await client.blobs.upload_model(model, progress=told)
        else:
            initial = await client.models.initialise(bundle, seed=seed)
        request = SubmitJob(
            id=identifier,
            title=title,
            plan=Plan(
                bundle=bundle,
                model=initial,
                optimizer=optimizer,
                clip=clip,
                rounds=rounds,
                approval_ms=approval_minutes * 60_000,
                update_ms=update_seconds * 1000,
                attest_ms=attest_seconds * 1000,
            ),
            datasets=tuple(datasets),
            budget=budget,
        )
        return await client.jobs.submit(request)

    job = ask(profile, submitted)
    show_job(job, "submitted")
    say(f"next: each owner's steward runs fedfabric job review {identifier} and job approve")


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
    from ..trainers import read_bundle

    found = look(profile, lambda client: client.jobs.review(job))
    files = dict(read_bundle(found.bundle).files)
    if save:
        save.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (save / name).parent.mkdir(parents=True, exist_ok=True)
            (save / name).write_bytes(content)
    terms = found.report.job.terms
    if chosen.format is Format.JSON:
        texts = {name: content.decode("utf-8", "replace") for name, content in files.items()}
        show({"digest": found.digest, "terms": terms, "files": texts})
        return
    show_job(found.report.job, "asked of the owners")
    for name, content in files.items():
        say()
        say(f"--- {save / name if save else name} ({len(content)} bytes)")
        if not save:
            say(content.decode("utf-8", "replace"))
    say()
    policy = terms.plan.privacy
    say(f"the policy is {policy.value}: every aggregating organisation can read each single update")
    say(f"digest {found.digest}")
    say(f"next: fedfabric job approve {job} --digest {found.digest} --privacy {policy.value}   (or refuse)")


@app.command()
def approve(
    job: JobId,
    digest: Annotated[str, typer.Option("--digest", help="The job's digest that job review showed you.")],
    privacy: Annotated[
        Policy,
        typer.Option("--privacy", help="The policy that you consent to. clear: every aggregator can read the updates."),
    ],
    profile: Profile = None,
    output: Output = Format.TEXT,
) -> None:
    """Approve a job on your data set, by the digest and the policy that you reviewed. Needs the role steward.

    \b
    Example:
      fedfabric job approve heart-1 --digest 5f3c... --privacy clear
    """
    from ..chaincode.records import Privacy

    policy = Privacy(privacy.value)
    show(ask(profile, lambda client: client.jobs.approve(job, digest=digest, privacy=policy)), title="approved")


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

    async def refused(client: "Client") -> "Decision":
        policy = (await client.jobs.show(job)).job.terms.plan.privacy
        return await client.jobs.refuse(job, digest=digest, privacy=policy, reason=reason)

    show(ask(profile, refused), title="refused")


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

    async def added(client: "Client") -> "Job":
        for text in data:
            use = await _use(client, text)
            changed = await client.jobs.add(job, use.dataset, version=use.version, grant=use.grant)
        return changed

    show_job(ask(profile, added), "asked")
    say(f"next: their steward runs fedfabric job review {job} and job approve")


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
    told: set[tuple[int, str]] = set()

    async def watched(client: "Client") -> "JobReport":
        warn_of_peer(await client.describe())
        async for report in client.jobs.watch(job):
            if chosen.format is Format.JSON:
                show_line(report)
                continue
            for one in report.rounds:
                seen = (one.round.number, one.round.state.value + one.own_failure)
                if seen not in told:
                    told.add(seen)
                    say(round_line(one))
        return report

    report = ask(profile, watched)
    ended = report.job.state.value
    say(f"{job} {ended}: {report.job.rounds_final} rounds, {money(report.job)}. {report.job.reason}".rstrip())
    if ended in ENDED_OTHERWISE:
        raise Failure(
            ExitCode.JOB_ENDED_OTHERWISE,
            f"JOB_{ended.upper()}",
            f"{job} was {ended}" + (f": {report.job.reason}" if report.job.reason else ""),
            remedy=f"see fedfabric job show {job}",
        )


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
    from ..chaincode.records import JobState

    check_state(state, JobState)
    found = look(profile, lambda client: client.jobs.list(state=state))
    show_rows(
        found,
        ("id", "state", "rounds", "submitter", "owners", "paid", "title"),
        empty="no job" + (f" is {state}" if state else ""),
        row=lambda job: {
            **plain(job),
            "submitter": job.terms.submitter,
            "title": job.terms.title,
            "rounds": f"{job.rounds_final}/{job.terms.plan.rounds}",
            "owners": [owner.msp for owner in job.owners],
        },
    )


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
    report = look(profile, lambda client: client.jobs.show(job))
    if chosen.format is Format.JSON:
        show(report)
        return
    show_job(report.job, "")
    for decision in report.decisions:
        say(f"{decision.msp} {decision.verdict.value} {decision.dataset} version {decision.version} {decision.reason}")
    for one in report.rounds:
        say(round_line(one))
        for row in one.attestations:
            verdict = "accepts" if row.accept else "rejects"
            say(f"    {row.msp} {verdict} {row.outcome.digest[:16]}  {figures(row.metrics)}")
        if one.round.payments:
            say("    paid " + ", ".join(f"{payment.msp} {payment.amount}" for payment in one.round.payments))


async def _use(client: "Client", text: str) -> "DatasetUse":
    """A data set to train on, with the grant that lets us: named, or looked up among those given to us."""
    from ..chaincode.records import DatasetUse

    dataset, _, grant = text.partition("@")
    found = await client.datasets.show(dataset)
    own = client.profile.msp_id
    if not grant and found.owner != own:
        granted = [one for one in await client.access.list(dataset=dataset, state="granted") if one.requester == own]
        if not granted:
            raise Failure(
                ExitCode.DENIED,
                "GRANT_MISSING",
                f"{own} has no grant for {dataset}",
                remedy=f"fedfabric access request {dataset} --id ...; its owner then grants it",
            )
        grant = granted[-1].id
    return DatasetUse(dataset=dataset, version=found.version, grant=grant or None)


def _server_step(text: str) -> "ServerOptimizer":
    """``adam:learning_rate=0.1`` as the record of the server's step, checked by what will run it."""
    from pydantic import ValidationError

    from ..aggregation import EncodingError, server_optimizer
    from ..chaincode.records import ServerOptimizer

    name, _, rest = text.partition(":")
    pairs = [part.partition("=") for part in rest.split(",") if part]
    try:
        server_optimizer({"name": name, **{key: value for key, _, value in pairs}})
    except EncodingError as error:
        raise bad_input(str(error), field="--server", remedy="write NAME or NAME:KEY=VALUE,...") from error
    try:
        return ServerOptimizer(name=name, parameters={key: value for key, _, value in pairs})
    except ValidationError as error:
        raise bad_input(
            explain(error).what,
            field="--server",
            remedy="write numbers as decimals, 0.001 rather than 1e-3",
        ) from error
