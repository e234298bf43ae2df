import dataclasses
import json
from pathlib import Path

import pytest
from fedfabric.chaincode.records import Balance
from fedfabric.console.output import Format, chosen, plain, show, show_rows


@pytest.fixture(params=list(Format))
def output_format(request):
    before, chosen.format = chosen.format, request.param
    yield request.param
    chosen.format = before


@dataclasses.dataclass
class Place:
    path: Path
    raw: bytes
    parts: tuple[int, ...]


def test_records_of_every_kind_become_plain_values():
    record = Balance(owner="ClevelandMSP", total="7", tokens=())
    assert plain([record, Place(Path("/a"), b"\x01", (1, 2)), {1: None}]) == [
        {"owner": "ClevelandMSP", "total": "7", "tokens": []},
        {"path": "/a", "raw": "01", "parts": [1, 2]},
        {"1": None},
    ]


def test_one_record_is_one_document_or_aligned_lines(capsys, output_format):
    show({"owner": "ClevelandMSP", "total": "7", "paid": True}, title="balance")
    out = capsys.readouterr().out
    if output_format is Format.JSON:
        assert json.loads(out) == {"owner": "ClevelandMSP", "total": "7", "paid": True}
    else:
        assert out.splitlines() == ["balance", "owner  ClevelandMSP", "total  7", "paid   yes"]


def test_rows_are_an_array_or_a_table_and_none_is_said_in_words(capsys, output_format):
    show_rows([], ["id"], empty="no job")
    show_rows([{"id": "heart-1", "state": "running", "hidden": 1}], ["id", "state"], empty="no job")
    out = capsys.readouterr().out
    if output_format is Format.JSON:
        assert out.startswith("[]\n")
        assert json.loads(out[3:]) == [{"id": "heart-1", "state": "running", "hidden": 1}]
    else:
        assert out.splitlines()[0] == "no job"
        assert [line.split() for line in out.splitlines()[1:]] == [["id", "state"], ["heart-1", "running"]]


def test_text_of_others_is_printed_as_it_is_and_not_as_markup(capsys):
    show({"title": "[red]alarm[/red] :smile:"})
    assert capsys.readouterr().out == "title  [red]alarm[/red] :smile:\n"
