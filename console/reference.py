"""Writes docs/reference/cli.md and docs/reference/exit-codes.md from the program itself, so that they can't differ."""

import inspect
from collections.abc import Iterator
from typing import Any

import typer.main

from .exit_codes import CODES, MEANINGS, WARNINGS


def pages() -> dict[str, str]:
    """The generated pages: path below docs/ → Markdown."""
    return {"reference/cli.md": command_reference(), "reference/exit-codes.md": exit_code_reference()}


def command_reference() -> str:
    """Every command with its help, arguments and options."""
    from .application import app

    root = typer.main.get_command(app)
    lines = [
        "# The fedfabric command",
        "",
        "Generated from the program's help; `make check` compares the two. See also [exit-codes.md](exit-codes.md).",
        "",
    ]
    for path, command in _walk("fedfabric", root):
        lines += _describe(path, command)
    return "\n".join(lines).rstrip() + "\n"


def exit_code_reference() -> str:
    """The table of exit statuses."""
    lines = [
        "# Exit statuses",
        "",
        "Generated from console/exit_codes.py. With `--output json` a failure is one JSON object on standard error:",
        '`{"error": {"code", "exit", "what", "where", "field", "remedy"}}`.',
        "",
        "| status | name | meaning | what to do |",
        "|---|---|---|---|",
    ]
    lines += [f"| {int(code)} | {code.name} | {meaning} | {remedy} |" for code, (meaning, remedy) in MEANINGS.items()]
    lines += [
        "",
        "## The command's own codes",
        "",
        "Those of gateways and contracts are in [errors.md](errors.md).",
        "",
        "| code | status | meaning |",
        "|---|---|---|",
    ]
    lines += [f"| {code} | {int(status)} | {meaning} |" for code, (status, meaning) in CODES.items()]
    lines += [
        "",
        "## Warnings",
        "",
        "A warning goes to standard error beside a result, which stays as it is; with `--output json` it is one JSON",
        'object on a line of its own: `{"warning": {"code", "what", "remedy"}}`.',
        "",
        "| code | meaning |",
        "|---|---|",
    ]
    lines += [f"| {code} | {meaning} |" for code, meaning in WARNINGS.items()]
    return "\n".join(lines) + "\n"


def _walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield from _walk(f"{path} {name}", child)


def _describe(path: str, command: Any) -> list[str]:
    lines = [f"{'#' * (1 + len(path.split()))} {path}", ""]
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b"):
            lines += ["```", *paragraph.removeprefix("\b").strip("\n").splitlines(), "```", ""]
        else:
            lines += [" ".join(paragraph.split()), ""]
    rows = [_parameter(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)]
    if rows := [row for row in rows if row]:
        lines += ["| argument or option | meaning |", "|---|---|", *rows, ""]
    return lines


def _parameter(parameter: Any) -> str:
    if parameter.name in {"help", "install_completion", "show_completion"}:
        return ""
    if parameter.param_type_name == "argument":
        name = f"`{parameter.metavar or parameter.name.upper()}`"
    else:
        name = ", ".join(f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts))
    notes = []
    if parameter.required:
        notes.append("required")
    if parameter.multiple:
        notes.append("may be repeated")
    if parameter.envvar:
        notes.append(f"or {parameter.envvar}")
    default = parameter.default
    if default not in (None, False, (), "") and not callable(default):
        notes.append(f"default {getattr(default, 'value', default)}")
    text = (parameter.help or "").replace("|", "\\|")
    return f"| {name} | {text}{' (' + '; '.join(notes) + ')' if notes else ''} |"
