"""The ``fedfabric`` command: its groups, and the one place where failures become a message and an exit status."""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from typing import Annotated, TextIO

import typer
from rich.text import Text

from .. import __version__
from . import access, audit, data, gateway, job, model, network, plan, token
from .demo import command as demo
from .exit_codes import ExitCode
from .failures import Failure, explain
from .output import Format, Lines, chosen, printable

USAGE_ERROR = typer.BadParameter.__mro__[1]  # typer keeps the class itself in a private module

app = typer.Typer(
    name="fedfabric",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(network.app, name="network")
app.add_typer(gateway.app, name="gateway")
app.add_typer(data.app, name="data")
app.add_typer(access.app, name="access")
app.add_typer(token.app, name="token")
app.add_typer(plan.app, name="plan")
app.add_typer(job.app, name="job")
app.add_typer(model.app, name="model")
app.add_typer(audit.app, name="audit")
app.add_typer(demo.app, name="demo")


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"fedfabric {__version__}\n")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Train models together with organisations that you need not trust, under a ledger that you run together.

    \b
    See it whole on this machine, in under a minute:
      fedfabric demo training

    \b
    Or step by step:
      fedfabric network up network.yaml       a Hyperledger Fabric network
      fedfabric gateway start --config FILE   one for each organisation
      fedfabric data register ...             a steward describes a data set; the bytes stay
      fedfabric access grant ...              who may use it
      fedfabric job submit ... ; job approve  training, approved by every owner
      fedfabric job watch JOB                 round by round
      fedfabric audit verify FOLDER ...       check all of it, offline, trusting nobody
    """


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status (console/exit_codes.py); prints no traceback."""
    chosen.format = Format.TEXT
    sys.stdout, sys.stderr = sys.stdout or _nowhere(), sys.stderr or _nowhere()  # a caller may have closed them
    try:
        status = _to_the_end(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped\n")
        return ExitCode.INTERRUPTED
    except typer.Abort:
        sys.stderr.write("\nstopped\n")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has gone. Nor may Python try, and complain, when it flushes at its end.
        sys.stdout = _nowhere()
        return ExitCode.OUTPUT_CLOSED
    except (Exception, asyncio.CancelledError) as error:
        if isinstance(error, USAGE_ERROR) and type(error).__name__ == "NoArgsIsHelpError":
            sys.stdout.write(str(error).rstrip() + "\n")
            return ExitCode.SUCCESS
        failure = _of_usage(error) if isinstance(error, USAGE_ERROR) else explain(error)
        try:
            _report(failure)
        except BrokenPipeError:
            sys.stderr = _nowhere()
        return failure.exit_code
    return status if isinstance(status, int) else ExitCode.SUCCESS


def _to_the_end(arguments: Sequence[str] | None) -> object:
    """The command's own result, with all that it printed handed over.

    Raises:
        BrokenPipeError: its output is not read to the end.
    """
    try:
        status = app(args=arguments, prog_name="fedfabric", standalone_mode=False)
        sys.stdout.flush()
    except SystemExit as ended:  # by which typer answers a broken pipe
        if isinstance(ended.__context__, BrokenPipeError):
            raise ended.__context__ from None
        raise
    return status


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123


def _of_usage(error: BaseException) -> Failure:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "fedfabric"
    what = error.format_message()  # type: ignore[attr-defined]
    return Failure(ExitCode.USAGE, "USAGE", what, where=command, remedy=f"see {command} --help")


def _report(failure: Failure) -> None:
    if chosen.format is Format.JSON:
        sys.stderr.write(json.dumps(failure.as_dict(), ensure_ascii=False) + "\n")
        return
    console = Lines(file=sys.stderr, highlight=False)
    where = " · ".join(part for part in (failure.where, failure.field) if part)
    console.print(Text.assemble(("error: ", "bold red"), printable(failure.what), f" [{failure.code}]"), soft_wrap=True)
    if where:
        console.print(Text(f"  where: {printable(where)}"), soft_wrap=True)
    if failure.remedy:
        console.print(Text(f"  to do: {failure.remedy}"), soft_wrap=True)
