import ast
import asyncio
import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pydantic
import pytest
import typer.main
from fedfabric.chaincode.records import Blob, MintRequest, Plan, SubmitJob
from fedfabric.console import main
from fedfabric.console.application import app
from fedfabric.console.exit_codes import CODES, MEANINGS, ExitCode
from fedfabric.console.failures import REMEDIES, Failure, explain
from fedfabric.console.job import ENDED_OTHERWISE
from fedfabric.gateway.archives import ArchiveError, packed_size
from fedfabric.gateway.configuration import ConfigurationError
from fedfabric.gateway.errors import STATUS, ApiError, OutcomeUnknownError
from fedfabric.gateway.server import GatewayStartError
from fedfabric.network import errors as network_errors
from fedfabric.trainers import errors as trainer_errors
from fedfabric.trainers.errors import PlanError, SandboxError

CONSOLE = Path(__file__).parents[3] / "console"


@pytest.fixture(autouse=True)
def _home(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDFABRIC_HOME", str(tmp_path / "home"))
    for variable in ("FEDFABRIC_PROFILE", "FEDFABRIC_NETWORK", "FEDFABRIC_OUTPUT"):
        monkeypatch.delenv(variable, raising=False)


def run(capsys, *arguments):
    status = main(list(arguments))
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return status, out, err


def test_every_exit_code_is_explained_in_the_table():
    assert set(MEANINGS) == set(ExitCode)
    assert all(meaning and remedy for meaning, remedy in MEANINGS.values())


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["nonsense"], ExitCode.USAGE, "No such command"),
        (["network", "up", "--runtime", "cloud"], ExitCode.USAGE, "native"),
        (["plan", "build", "/no/such/folder"], ExitCode.USAGE, "does not exist"),
        (["network", "status"], ExitCode.NOT_FOUND, "network up"),
        (["network", "down", "--network", "heart"], ExitCode.NOT_FOUND, "heart"),
        (["network", "up", "/no/such/network.yaml"], ExitCode.BAD_INPUT, "/no/such/network.yaml"),
        (["data", "list"], ExitCode.BAD_INPUT, "FEDFABRIC_PROFILE"),
        (["data", "list", "--profile", "/no/such/profile.toml"], ExitCode.BAD_INPUT, "/no/such/profile.toml"),
        (["gateway", "start", "--config", "/no/such/gateway.toml"], ExitCode.BAD_INPUT, "/no/such/gateway.toml"),
        (["job", "approve", "heart"], ExitCode.USAGE, "--digest"),
        (["job", "approve", "heart", "--digest", "5f"], ExitCode.USAGE, "--privacy"),
        (["job", "submit", "heart", "--plan", "/", "--data", "A/b"], ExitCode.USAGE, "is a directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_mistake_ends_with_its_code_and_says_what_and_what_to_do(capsys, arguments, status, told):
    ended, out, err = run(capsys, *arguments)
    assert ended == status
    assert out == ""
    assert err.startswith("error: ")
    assert told in err


def test_a_failure_is_one_json_object_on_standard_error_when_json_is_asked_for(capsys):
    status, out, err = run(capsys, "network", "status", "--output", "json")
    assert status == ExitCode.NOT_FOUND
    assert out == ""
    told = json.loads(err)["error"]
    assert set(told) == {"code", "exit", "what", "where", "field", "remedy"}
    assert (told["code"], told["exit"]) == ("NO_SUCH_NETWORK", 5)


def test_the_output_format_can_come_from_the_environment(capsys, monkeypatch):
    monkeypatch.setenv("FEDFABRIC_OUTPUT", "json")
    _, _, err = run(capsys, "network", "status")
    assert json.loads(err)["error"]["code"] == "NO_SUCH_NETWORK"


def test_a_malformed_network_yaml_is_named_with_its_line(capsys, tmp_path):
    path = tmp_path / "network.yaml"
    path.write_text("name: heart\norganisations:\n  - {name: cleveland, orderers: 1, colour: red}\n")
    status, _, err = run(capsys, "network", "up", str(path))
    assert status == ExitCode.BAD_INPUT
    assert f"{path}:3" in err
    assert "colour" in err


def test_a_plan_without_code_is_refused_by_name(capsys, tmp_path):
    (tmp_path / "plan.json").write_text("{}")
    status, _, err = run(capsys, "plan", "build", str(tmp_path), "--to", str(tmp_path / "plan.zip"))
    assert status == ExitCode.BAD_INPUT
    assert "plan.py is missing" in err
    assert "PLAN_INVALID" in err
    assert not (tmp_path / "plan.zip").exists()


def test_a_fault_of_ours_goes_into_a_report_and_shows_no_traceback(tmp_path):
    failure = explain(ZeroDivisionError("division by zero"))
    assert failure.exit_code == ExitCode.INTERNAL
    (report,) = (tmp_path / "home" / "reports").iterdir()
    assert str(report) in failure.remedy
    assert "ZeroDivisionError" in report.read_text()


def test_work_that_is_cancelled_by_nobody_is_a_fault_and_shows_no_traceback(capsys, monkeypatch):
    def cancelled(_name):
        raise asyncio.CancelledError

    monkeypatch.setattr("fedfabric.console.network.find", cancelled)
    status, _, err = run(capsys, "network", "status")
    assert status == ExitCode.INTERNAL
    assert "CancelledError" in err


def test_a_report_that_cannot_be_written_is_no_second_failure(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEDFABRIC_HOME", str(tmp_path / "file" / "below"))
    assert "could not be written" in explain(ZeroDivisionError()).remedy


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data"), ExitCode.ENVIRONMENT),
        (PermissionError(errno.EACCES, "Permission denied", "/data"), ExitCode.ENVIRONMENT),
        (OSError(errno.EROFS, "Read-only file system", "/data"), ExitCode.ENVIRONMENT),
        (FileExistsError(errno.EEXIST, "the folder is not empty", "/data"), ExitCode.BAD_INPUT),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "/data"), ExitCode.BAD_INPUT),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/data"), ExitCode.ENVIRONMENT),
        (FileNotFoundError(errno.ENOENT, "No such file", "/data"), ExitCode.BAD_INPUT),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), ExitCode.ENVIRONMENT),
        (ModuleNotFoundError("No module named 'testcontainers'", name="testcontainers.core"), ExitCode.ENVIRONMENT),
        (network_errors.ProgramsError("no Go"), ExitCode.ENVIRONMENT),
        (network_errors.PortError("port 7051 is in use"), ExitCode.ENVIRONMENT),
        (network_errors.StateError("stale"), ExitCode.BAD_INPUT),
        (network_errors.ReadinessError("no transaction"), ExitCode.UNAVAILABLE),
        (ConfigurationError("gateway.toml: listen is missing"), ExitCode.BAD_INPUT),
        (PlanError("plan.py is missing"), ExitCode.BAD_INPUT),
        (SandboxError("SANDBOX_UNAVAILABLE", "no landlock"), ExitCode.ENVIRONMENT),
        (ApiError("no such job", code="UNKNOWN_JOB"), ExitCode.NOT_FOUND),
        (ApiError("already", code="CONFLICT", field="id"), ExitCode.REFUSED),
        (ApiError("not a steward", code="ROLE_REQUIRED"), ExitCode.DENIED),
        (ApiError("who?", code="CERTIFICATE_UNKNOWN"), ExitCode.DENIED),
        (OutcomeUnknownError("sent"), ExitCode.UNKNOWN_OUTCOME),
    ],
    ids=str,
)
def test_each_rooms_errors_have_an_exit_code_of_their_own_kind(error, status):
    failure = explain(error)
    assert failure.exit_code == status
    assert failure.what
    assert failure.code.isupper()


def codes_in_the_source():
    """Each literal code that the console gives to a failure, with its exit code where that is a literal too."""
    for path in CONSOLE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Failure" and len(node.args) > 1:
                exit_code, code = node.args[:2]
                if isinstance(code, ast.Constant):
                    yield code.value, getattr(exit_code, "attr", None)


def test_every_code_of_the_commands_own_is_in_the_table_with_its_exit_code():
    found = dict(codes_in_the_source())
    assert "NO_SUCH_NETWORK" in found
    for code, exit_code in found.items():
        assert code in CODES or code in STATUS, code
        if code in CODES and exit_code is not None:
            assert CODES[code][0].name == exit_code, code


def test_codes_that_are_put_together_are_in_the_table():
    for kind in vars(network_errors).values():
        if isinstance(kind, type) and issubclass(kind, network_errors.NetworkError):
            failure = explain(kind("x"))
            if kind is not network_errors.NetworkError:
                assert CODES[failure.code][0] == failure.exit_code
    assert {f"JOB_{state.upper()}" for state in ENDED_OTHERWISE} <= set(CODES)


def test_every_error_of_the_network_room_is_known():
    kinds = [
        kind
        for kind in vars(network_errors).values()
        if isinstance(kind, type) and issubclass(kind, network_errors.NetworkError)
    ]
    assert all(explain(kind("x")).code.startswith("NETWORK_") for kind in kinds)


def test_every_code_of_the_gateways_api_has_an_exit_code():
    assert all(explain(ApiError("x", code=code)).exit_code != ExitCode.INTERNAL for code in STATUS)


def test_a_record_that_does_not_validate_names_its_field():
    class Record(pydantic.BaseModel):
        samples: int

    with pytest.raises(pydantic.ValidationError) as caught:
        Record.model_validate({"samples": "many"})
    failure = explain(caught.value)
    assert (failure.exit_code, failure.field, failure.where) == (ExitCode.BAD_INPUT, "samples", "Record")


def test_a_failure_explains_itself():
    failure = Failure(ExitCode.REFUSED, "CONFLICT", "taken")
    assert explain(failure) is failure


@pytest.fixture
def network(monkeypatch):
    """A network of two organisations, as far as commands look at it before they change anything."""

    async def log(process, _lines):
        raise network_errors.ProcessError(f"no process {process} has run here; there are logs of: peer0.cleveland")

    found = SimpleNamespace(
        organisations={"cleveland": None, "hungary": None}, spec=SimpleNamespace(name="heart"), log=log
    )
    monkeypatch.setattr("fedfabric.console.network.find", lambda _name: found)


def test_a_user_of_an_organisation_that_is_not_there_is_not_found(capsys, network):
    status, _, err = run(capsys, "network", "add-user", "nowhere", "ada", "--role", "steward")
    assert status == ExitCode.NOT_FOUND
    assert "name one of cleveland, hungary" in err


def test_logs_of_a_process_that_is_not_there_are_not_found(capsys, network):
    status, _, err = run(capsys, "network", "logs", "nosuch")
    assert status == ExitCode.NOT_FOUND
    assert "peer0.cleveland" in err
    assert "to do:" in err


@pytest.mark.parametrize("kind", ["empty", "link", "fifo"])
def test_a_folder_that_is_no_data_set_is_bad_input(tmp_path, kind):
    folder = tmp_path / "data"
    folder.mkdir()
    if kind == "link":
        (folder / "a").symlink_to("/etc/hostname")
    elif kind == "fifo":
        os.mkfifo(folder / "a")
    with pytest.raises(ArchiveError) as caught:
        packed_size(folder)
    failure = explain(caught.value)
    assert failure.exit_code == ExitCode.BAD_INPUT
    assert "plain files" in failure.remedy


@pytest.mark.parametrize(("arguments", "told"), [([], "gateway"), (["network"], "add-org"), (["demo"], "training")])
def test_a_group_alone_shows_its_help_and_is_no_error(capsys, arguments, told):
    status, out, err = run(capsys, *arguments)
    assert status == ExitCode.SUCCESS
    assert out.startswith("Usage: fedfabric")
    assert told in out
    assert err == ""


@pytest.mark.parametrize(("group", "wrong", "right"), [("job", "finishd", "finished"), ("access", "open", "withdrawn")])
def test_a_state_that_nothing_can_be_in_is_refused_and_the_states_are_named(capsys, group, wrong, right):
    status, _, err = run(capsys, group, "list", "--state", wrong)
    assert status == ExitCode.BAD_INPUT
    assert right in err
    assert "--state" in err


BLOB = Blob(address="1" * 64, digest="2" * 64, size=10)
TIMES = {"approval_ms": 1000, "update_ms": 1000, "attest_ms": 1000}


def a_plan(**changes):
    return Plan(**{"bundle": BLOB, "model": BLOB, "clip": "1", "rounds": 2, **TIMES, **changes})


@pytest.mark.parametrize(
    ("make", "option", "told"),
    [
        (lambda: a_plan(clip="-1"), "--clip", "'-1': must be a non-negative decimal number"),
        (lambda: a_plan(clip="nan"), "--clip", "'nan': must be a non-negative decimal number"),
        (lambda: a_plan(clip="0"), "--clip", "'0': must be at least 1e-12"),
        (lambda: a_plan(rounds=0), "--rounds", "0: must be at least 1"),
        (lambda: SubmitJob(id="Heart 1", plan=a_plan(), datasets=()), "JOB", "a-z, 0-9"),
        (lambda: SubmitJob(id="h", plan=a_plan(), datasets=(), title="x" * 201), "--title", "at most 200 characters"),
        (lambda: SubmitJob(id="h", plan=a_plan(), datasets=()), "datasets", "at least 1 must be given"),
        (lambda: MintRequest(id="m", owner="ClevelandMSP", amount="-1"), "--amount", "must be a positive integer"),
    ],
    ids=str,
)
def test_a_value_that_does_not_fit_is_worded_for_people_and_names_its_option(make, option, told):
    with pytest.raises(pydantic.ValidationError) as caught:
        make()
    failure = explain(caught.value)
    assert failure.field == option
    assert told in failure.what
    assert "String should" not in failure.what


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ApiError("x", code="GATEWAY_UNAVAILABLE"), "fedfabric gateway start --config"),
        (ApiError("x", code="PEER_UNAVAILABLE"), "fedfabric network status"),
        (ApiError("x", code="CALLER_ROLE_REQUIRED"), "--profile of a user with that role"),
        (ApiError("x", code="FUNDS_MISSING"), "fedfabric token balance"),
        (ConfigurationError("no profile: name one"), "profiles/ORGANISATION/USER.toml"),
        (network_errors.PortError("x"), "network up"),
        (network_errors.NetworkError("x"), "network status"),
        (GatewayStartError("x"), "gateway.toml"),
    ],
    ids=str,
)
def test_frequent_failures_say_which_command_mends_them(error, told):
    assert told in explain(error).remedy


TRAINER_CODES = set(re.findall(r"\b[A-Z]+_?[A-Z]+\b", trainer_errors.__doc__))


@pytest.mark.parametrize("code", sorted({*STATUS, *TRAINER_CODES}))
def test_every_code_that_comes_from_elsewhere_has_a_remedy_of_its_own(code):
    assert code in REMEDIES
    assert "docs/reference" not in REMEDIES[code]
    assert explain(ApiError("x", code=code)).remedy == REMEDIES[code]


def test_a_code_of_a_newer_gateway_is_met_with_an_update():
    assert "update fedfabric" in explain(ApiError("x", code="NOT_YET_INVENTED")).remedy


def test_every_failure_that_the_console_makes_says_what_to_do():
    for path in CONSOLE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"Failure", "bad_input", "environment"}:
                assert any(keyword.arg == "remedy" for keyword in node.keywords), f"{path}:{node.lineno}"


def test_remedies_are_for_codes_that_exist_and_name_commands_that_exist():
    assert set(REMEDIES) <= {"PROFILE", "CONFIGURATION", "NETWORK", *CODES, *STATUS, *TRAINER_CODES}
    groups = typer.main.get_command(app).commands
    for remedy in REMEDIES.values():
        for group, command in re.findall(r"fedfabric ([a-z]+) ([a-z-]+)", remedy):
            assert command in groups[group].commands, remedy


def test_the_table_of_exit_codes_promises_no_equal_job_twice():
    assert "job submit" in MEANINGS[ExitCode.UNKNOWN_OUTCOME][1]
    assert "equal content is success" not in MEANINGS[ExitCode.UNKNOWN_OUTCOME][1]


EVIDENCE = Path(__file__).parents[2] / "data" / "ledger-v1"


def shell(script):
    command = f"exec {sys.executable} -m fedfabric.console"
    return subprocess.run(
        ["bash", "-c", f'fedfabric() ( {command} "$@"; ); {script}; echo "status ${{PIPESTATUS[*]}}"'],
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.parametrize("output", ["text", "json"])
def test_output_that_is_read_in_part_ends_the_command_quietly_as_of_other_tools(output):
    told = json.loads((EVIDENCE / "ledger.json").read_text())
    verify = f"fedfabric audit verify {EVIDENCE / 'evidence'} {told['job']} --genesis {told['genesis_hash']}"
    ended = shell(f"{verify} --output {output} | true")
    assert ended.stderr == ""
    assert ended.stdout == f"status {ExitCode.OUTPUT_CLOSED} 0\n"


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_what_is_still_unwritten_at_the_end_ends_it_as_quietly(option):
    ended = shell(f"fedfabric {option} | true")
    assert (ended.stderr, ended.stdout) == ("", f"status {ExitCode.OUTPUT_CLOSED} 0\n")


def test_a_failure_that_nobody_reads_keeps_its_status():
    assert shell("fedfabric nonsense 2>&1 | true").stdout == f"status {ExitCode.USAGE} 0\n"


def test_closed_standard_streams_are_no_fault():
    assert shell("fedfabric --version >&-").stdout == "status 0\n"
    assert shell("fedfabric nonsense 2>&-").stdout == f"status {ExitCode.USAGE}\n"
