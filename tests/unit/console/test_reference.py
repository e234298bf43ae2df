import inspect
import re
from pathlib import Path

import pytest
import typer.main
from fedfabric.console.application import app
from fedfabric.console.reference import pages

DOCS = Path(__file__).parents[3] / "docs"


def commands(command, path=()):
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


EVERY = list(commands(typer.main.get_command(app)))
LEAVES = [(path, command) for path, command in EVERY if not getattr(command, "commands", None)]


def test_the_commands_are_those_that_the_issue_names():
    wanted = """network up, network status, network down, network add-org, network add-user, network export,
        network logs, gateway start, data register, data list, data show, access request, access grant, access revoke,
        access withdraw,
        access list, token mint, token balance, plan build, job submit, job review, job approve, job refuse, job add,
        job watch, job cancel, job list, job show, model fetch, audit verify, audit export, demo training"""
    missing = {" ".join(name.split()) for name in wanted.split(",")} - {" ".join(path) for path, _ in LEAVES}
    assert not missing


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=[" ".join(path) for path, _ in LEAVES])
def test_every_command_teaches_by_an_example_and_offers_json(path, command):
    assert "Example" in command.help
    assert f"fedfabric {' '.join(path)}" in command.help
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--output" in options
    assert all(parameter.help for parameter in command.params if parameter.name != "help")


@pytest.mark.parametrize(("path", "command"), EVERY, ids=[" ".join(path) or "fedfabric" for path, _ in EVERY])
def test_examples_fit_a_terminal_of_100_columns(path, command):
    blocks = [block for block in inspect.cleandoc(command.help or "").split("\n\n") if block.startswith("\b")]
    assert max((len(line) for block in blocks for line in block.splitlines()), default=0) <= 100


def test_the_generated_pages_are_up_to_date():
    for name, content in pages().items():
        assert (DOCS / name).read_text() == content, f"docs/{name}: run make proto"


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md", "examples/heart_disease/README.md"])
def test_the_pages_name_commands_and_options_that_exist(page):
    known = dict(EVERY)
    for line in (DOCS.parent / page).read_text().replace("\\\n", " ").splitlines():
        for written in re.findall(r"fedfabric ((?:[a-z-]+ ?)+)([^|)`#&]*)", line):
            words = tuple(written[0].split())
            named = next((words[:size] for size in (2, 1) if words[:size] in known), None)
            assert named or words == (), f"{page}: fedfabric {' '.join(words)}"
            if named and len(named) == 2:
                options = {option for parameter in known[named].params for option in parameter.opts}
                assert set(re.findall(r"(?<= )--[a-z-]+", written[1])) <= options | {"--help"}, line
