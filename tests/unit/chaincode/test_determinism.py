"""Endorsers of every organisation write the same bytes: no clock, no chance, no order of a set reaches the state."""

import ast
import asyncio
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import fedfabric.chaincode
import pytest
from fedfabric.chaincode.__main__ import main
from fedfabric.tests.unit.chaincode.world import A, B, C, World

SOURCES = sorted(Path(fedfabric.chaincode.__file__).parent.rglob("*.py"))


async def story() -> str:
    """A job with a liar and an unaccepting member; the digest of all that was written, in order."""
    world = World()
    await world.found()
    await world.job(budget=1000)
    for msp in (C, A, B):
        await world.update(msp)
    await world.close()
    await world.attest(C, text="a lie")
    await world.attest(B)
    await world.attest(A)
    await world.finalise(A, B)
    await world.submit(A, "scientist", "training:cancel", {"job": "j1"})
    told = hashlib.sha256()
    for block in world.ledger.chain:
        for one, code in block:
            told.update(repr((one.tx_id, code, list(one.reads), list(one.writes.items()), one.event)).encode())
    return told.hexdigest()


def test_the_order_of_sets_does_not_matter():
    told = {
        subprocess.run(
            [sys.executable, __file__],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(told) == 1
    assert len(told.pop().strip()) == 64


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_no_source_of_chance_is_imported_and_the_clock_in_one_place_only(source):
    imported = {
        name.name.split(".")[0] if isinstance(node, ast.Import) else (node.module or "").split(".")[0]
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert not imported & {"random", "secrets", "uuid", "datetime", "locale", "socket", "threading", "decimal"}
    assert "time" not in imported or source.stem == "dispatch"
    assert not imported & {"os", "subprocess"} or source.stem == "__main__"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_there_is_no_floating_point_arithmetic(source):
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), node.lineno
        assert not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)), node.lineno
        assert not (isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"float", "round", "hash", "id"})


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"FEDFABRIC_FOUNDERS": "A,,B B"}, "FEDFABRIC_FOUNDERS"),
        ({"FEDFABRIC_WINDOW_MS": "soon"}, "FEDFABRIC_WINDOW_MS"),
        ({}, "CHAINCODE_"),
    ],
)
def test_a_server_that_cannot_start_names_the_variable(monkeypatch, capsys, environment, named):
    for name in list(os.environ):
        if name.startswith(("FEDFABRIC_", "CHAINCODE_")):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main() == 2
    assert named in capsys.readouterr().err


if __name__ == "__main__":
    print(asyncio.run(story()))
