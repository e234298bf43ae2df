"""``fedfabric plan``: training plans, the code that owners review and their gateways run."""

from pathlib import Path
from typing import Annotated

import typer

from .output import Format, Output, say, show

app = typer.Typer(
    no_args_is_help=True, help="Training plans: the code that a job runs, bundled so that it has one digest."
)


@app.command()
def build(
    folder: Annotated[Path, typer.Argument(help="Folder with plan.py and plan.json.", exists=True, file_okay=False)],
    to: Annotated[
        Path | None,
        typer.Option("--to", help="File to write [default: FOLDER.plan.zip].", dir_okay=False, show_default=False),
    ] = None,
    output: Output = Format.TEXT,
) -> None:
    """Bundle a training plan and print its digest.

    The same files give the same bytes and so the same digest on every machine: names are sorted, times fixed. The
    digest is what owners approve; a plan with one more comma is another plan.

    \b
    Example:
      fedfabric plan build examples/heart_disease --to heart.plan.zip
    """
    from ..trainers.plans import build_bundle, plan_digest

    bundle = build_bundle(folder)
    content = bundle.to_bytes()
    target = to or Path(f"{folder.resolve().name}.plan.zip")
    target.write_bytes(content)
    show({"plan": target, "digest": plan_digest(content), "bytes": len(content), "files": list(bundle.files)})
    say(f"next: fedfabric job submit JOB --plan {target} --data MSP/NAME ...")
