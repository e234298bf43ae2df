import asyncio
import dataclasses
import importlib.util
import io
import json
import os
import signal

import pytest
from fedfabric.console import main
from fedfabric.console.demo import curve, summary
from fedfabric.console.demo.display import Display, Round, as_line
from fedfabric.console.demo.figures import Figures
from fedfabric.console.exit_codes import ExitCode
from rich.console import Console

TITLES = ("Cleveland", "Hungary", "Switzerland", "VA Long Beach")


def a_round(number, *, final=True):
    hospitals = TITLES[:3] if number < 2 else TITLES
    scores = {"loss": 0.5, "auc": 0.81, "balanced_accuracy": 0.72}
    return Round(
        number=number,
        hospitals=hospitals,
        own={title: dict(scores) for title in hospitals},
        pooled=dict(scores, auc=0.84),
        training_s=0.2,
        moving_s=0.05,
        ledger_s=0.4,
        digest="ab" * 32,
        attested=len(hospitals),
        final=final,
    )


def a_summary(**changes):
    figures = {"auc": Figures.of([0.86, 0.87]), "balanced_accuracy": Figures.of([0.77, 0.75])}
    values = {
        "version": "0.1.0",
        "fabric": "v3.1.1",
        "runtime": "native",
        "machine": "a machine",
        "job": "heart",
        "state": "finished",
        "plan_digest": "1" * 64,
        "model_digest": "2" * 64,
        "genesis_hash": "3" * 64,
        "samples": {"Cleveland": 304},
        "payments": {"Cleveland": "400"},
        "rounds": (a_round(1), a_round(2)),
        "joined": 2,
        "comparison": dict.fromkeys(("federated", "pooled", *TITLES, "majority"), figures),
        "audit_verdict": "verified",
        "audit_checks": 17,
        "returned": "48",
        "audit_command": "fedfabric audit verify audit heart",
        "seconds": {"network": 5.0, "whole": 40.0},
    }
    return summary.Summary(**{**values, **changes})


def printed(*, terminal):
    file = io.StringIO()
    return Console(file=file, force_terminal=terminal, width=160, _environ={"TERM": "xterm"}), file


def test_without_a_terminal_there_are_plain_lines_only():
    console, file = printed(terminal=False)
    with Display(console, TITLES) as display:
        with display.step("A Fabric network"):
            display.note("a note")
        display.round(a_round(1, final=False))
        display.round(dataclasses.replace(a_round(1), pooled={}))
        display.round(a_round(1))
        display.round(a_round(1))
    lines = file.getvalue().splitlines()
    assert "\x1b" not in file.getvalue()
    assert lines[0] == "a note"
    assert lines[1].startswith("A Fabric network")
    assert lines[1].endswith(" s")
    assert [line for line in lines if line.startswith("round ")] == [as_line(a_round(1))]


def test_on_a_terminal_the_table_grows_and_stays_at_the_end():
    console, file = printed(terminal=True)
    with Display(console, TITLES) as display:
        display.round(a_round(1))
        display.round(a_round(2))
    last = file.getvalue()[file.getvalue().rindex("round") :]
    assert "4/4" in last
    assert "3/3" in last


def test_a_step_that_fails_is_not_reported_as_done():
    console, file = printed(terminal=False)
    with pytest.raises(RuntimeError), Display(console, TITLES) as display, display.step("A Fabric network"):
        raise RuntimeError
    assert "A Fabric network" not in file.getvalue()


def test_the_line_of_a_round_names_every_hospital_time_digest_and_attestation():
    line = as_line(a_round(2))
    for part in (*TITLES, ".50 .84 .72", "training 0.20 s", "ledger 0.40 s", "moving 0.05 s", "abababababab", "4 of 4"):
        assert part in line


def test_the_summary_is_the_same_record_twice(tmp_path):
    markdown, document = summary.write(tmp_path, a_summary())
    data = json.loads(document.read_text())
    assert data["rounds"][1]["own"]["VA Long Beach"]["auc"] == 0.81
    assert data["comparison"]["federated"]["auc"] == {"mean": 0.865, "spread": pytest.approx(0.00707, abs=1e-5)} | {
        "values": [0.86, 0.87]
    }
    text = markdown.read_text()
    assert "| Federated, four hospitals | 0.865 ± 0.007 | 0.760 ± 0.014 |" in text
    assert "joined in round 2" in text
    assert "CC BY 4.0" in text
    assert all(line.startswith("|") for line in text.splitlines() if "abababababab" in line)
    assert "{" not in text


def test_the_summary_of_a_run_without_newcomer_says_nothing_of_one():
    assert "onboarded" not in summary.as_markdown(a_summary(joined=None))


def test_the_picture_is_a_png_that_needs_no_display(tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    made = a_summary()
    curve.draw(tmp_path / "curve.png", made.rounds, made.comparison, made.joined)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def played(monkeypatch):
    async def play(self):
        self.display.note("on the way")
        self.folder.mkdir(parents=True)
        return a_summary()

    monkeypatch.setattr("fedfabric.console.demo.story.Story.play", play)


def test_the_demos_last_lines_say_what_came_out_and_what_to_try_next(played, capsys, tmp_path):
    assert main(["demo", "training", "--folder", str(tmp_path)]) == 0
    out, _ = capsys.readouterr()
    assert out.startswith("on the way\n")
    assert "audit: verified, 17 checks, offline" in out
    assert "whole run: 40.0 s; nothing is left running" in out
    assert out.index("try next:") < out.index("fedfabric audit verify audit heart") < out.index("docs/tutorial.md")
    (folder,) = tmp_path.iterdir()
    assert f"results: {folder}" in out


def test_the_demos_json_is_its_summary_alone_and_the_way_goes_to_standard_error(played, capsys, tmp_path):
    assert main(["demo", "training", "--folder", str(tmp_path), "--output", "json"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["folder"].startswith(str(tmp_path))
    assert told["comparison"]["pooled"]["auc"]["mean"] == 0.865
    assert told["seconds"]["whole"] == 40.0
    assert err == "on the way\n"


@pytest.mark.parametrize("missing", ["torch", "matplotlib"])
def test_the_demo_says_what_is_not_installed_before_it_starts_anything(monkeypatch, capsys, tmp_path, missing):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == missing else found(name, *rest)
    )
    assert main(["demo", "training", "--folder", str(tmp_path)]) == ExitCode.ENVIRONMENT
    _, err = capsys.readouterr()
    assert missing in err
    assert "make setup" in err
    assert list(tmp_path.iterdir()) == []


def test_the_demo_says_where_it_looked_for_the_patients(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("FEDFABRIC_HEART_DISEASE", str(tmp_path / "nowhere.csv"))
    assert main(["demo", "training", "--folder", str(tmp_path / "results")]) == ExitCode.ENVIRONMENT
    _, err = capsys.readouterr()
    assert str(tmp_path / "nowhere.csv") in err
    assert not (tmp_path / "results").exists()


def test_plain_lines_begin_with_what_their_figures_are():
    console, file = printed(terminal=False)
    with Display(console, TITLES) as display:
        display.round(a_round(1))
        display.round(a_round(2))
    lines = file.getvalue().splitlines()
    assert "loss / AUC / balanced accuracy" in lines[0]
    assert file.getvalue().count("balanced accuracy") == 1


@pytest.mark.parametrize(("width", "height"), [(100, 12), (80, 24), (160, 10)])
def test_the_live_table_fits_the_terminal_and_its_last_line_is_the_newest_round(width, height):
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=width, height=height, _environ={"TERM": "xterm"})
    display = Display(console, TITLES)
    for number in range(1, 41):
        display.round(a_round(number))
    lines = console.render_lines(display._picture(), console.options.update(height=None))
    assert len(lines) < height
    newest = "".join(segment.text for segment in lines[-1])
    assert newest.split()[0] == "40"
    assert "…" not in newest


def test_the_closing_lines_give_balanced_accuracy_and_the_majority_baseline(tmp_path):
    text = "\n".join(summary.closing(tmp_path, a_summary()))
    assert "balanced accuracy on everybody's hold-out, five splits: federated 0.760" in text
    assert text.count("always the majority class 0.") == 2


def test_ctrl_c_in_the_demo_says_that_everything_is_taken_down(monkeypatch, capsys, tmp_path):
    async def play(self):
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()

    monkeypatch.setattr("fedfabric.console.demo.story.Story.play", play)
    assert main(["demo", "training", "--folder", str(tmp_path)]) == ExitCode.INTERRUPTED
    assert "stopped; everything is taken down" in capsys.readouterr().err
