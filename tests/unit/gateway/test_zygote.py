"""The trainers' process as the gateway holds it: nothing inherited, ended in time, started again after a death."""

import asyncio
import errno
import os
from pathlib import Path

import psutil
import pytest
from fedfabric.gateway import zygote as zygote_module
from fedfabric.gateway.configuration import TrainerSettings
from fedfabric.gateway.limits import Deadlines
from fedfabric.gateway.zygote import Scratch, TrainerError, TrainerGoneError, Zygote

FAKE = "fedfabric.tests.unit.gateway.fake_zygote"
UNREADY = "fedfabric.tests.unit.gateway.unready_zygote"


@pytest.fixture
async def zygote(tmp_path: Path):
    async with Zygote(TrainerSettings(concurrent=2), Deadlines(zygote_start=20), tmp_path, module=FAKE) as zygote:
        yield zygote


async def test_a_task_gets_its_request_and_an_empty_environment(zygote: Zygote, tmp_path: Path) -> None:
    result = await zygote.run("echo", seconds=5, plan=tmp_path / "plan.zip", round={"job": "j"})
    assert result.fields["plan"] == str(tmp_path / "plan.zip")
    assert result.fields["round"] == {"job": "j"}
    assert result.fields["limits"]["seconds"] == 5
    assert set(result.fields["environment"]) <= {"LC_CTYPE"}


async def test_it_runs_beside_and_not_before_everything_else(zygote: Zygote, tmp_path: Path) -> None:
    result = await zygote.run("workspace", seconds=5)
    assert result.fields == {"workspace": str(tmp_path), "nice": 10}


async def test_no_file_of_the_gateways_is_open_in_it(zygote: Zygote, tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w"):
        result = await zygote.run("descriptors", seconds=5)
    found = [one for one in result.fields["descriptors"] if "/proc/" not in one]
    assert [one.split()[0] for one in found] == ["0", "1", "2", "3"]
    assert not [one for one in found if "secret" in one]


async def test_a_failure_keeps_its_code(zygote: Zygote) -> None:
    with pytest.raises(TrainerError) as caught:
        await zygote.run("fail", seconds=5)
    assert (caught.value.code, caught.value.text) == ("PLAN_FAILED", "as told")
    with pytest.raises(TrainerError, match="no reason"):
        await zygote.run("no reason", seconds=5)


@pytest.mark.parametrize("death", ["die", "nonsense", "no object", "deep", "endless line"])
async def test_a_process_that_dies_or_babbles_is_started_again(zygote: Zygote, death: str) -> None:
    await zygote.start()
    before = zygote.pid
    with pytest.raises(TrainerGoneError):
        await zygote.run(death, seconds=10)
    assert (await zygote.run("workspace", seconds=5)).fields["nice"] == 10
    assert zygote.pid != before
    assert not psutil.pid_exists(before)


async def test_all_that_wait_hear_of_a_death(zygote: Zygote) -> None:
    await zygote.start()
    waiting = asyncio.create_task(zygote.run("silent", seconds=30))
    await asyncio.sleep(0)
    with pytest.raises(TrainerGoneError):
        await zygote.run("die", seconds=30)
    with pytest.raises(TrainerGoneError):
        await waiting


async def test_one_that_does_not_answer_in_time_is_ended(zygote: Zygote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedfabric.gateway.zygote._GRACE_SECONDS", 0.2)
    await zygote.start()
    before = zygote.pid
    with pytest.raises(TrainerError) as caught:
        await zygote.run("hang", seconds=0.1)
    assert caught.value.code == "TIME_LIMIT"
    assert (await zygote.run("workspace", seconds=5)).fields["nice"] == 10
    assert zygote.pid != before


async def test_a_cancelled_task_is_cancelled_there_too(zygote: Zygote) -> None:
    await zygote.start()
    task = asyncio.create_task(zygote.run("silent", seconds=30))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    before = zygote.pid
    await zygote.run("workspace", seconds=5)
    assert zygote.pid == before


async def test_no_more_tasks_than_allowed_run_at_a_time(zygote: Zygote) -> None:
    await zygote.start()
    tasks = [asyncio.create_task(zygote.run("silent", seconds=30)) for _ in range(3)]
    await asyncio.sleep(0.05)
    assert len(zygote._process.waiting) == 2
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_closing_leaves_no_process(tmp_path: Path) -> None:
    async with Zygote(TrainerSettings(), Deadlines(zygote_start=20), tmp_path, module=FAKE) as zygote:
        await zygote.start()
        pid = zygote.pid
    assert not psutil.pid_exists(pid)


async def test_one_that_still_imports_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zygote_module, "_GRACE_SECONDS", 600)
    async with asyncio.timeout(30):
        async with Zygote(TrainerSettings(), Deadlines(), tmp_path, module=UNREADY) as zygote:
            starting = asyncio.create_task(zygote.start())
            while zygote.pid is None:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.001)
            pid = zygote.pid
        with pytest.raises(TrainerGoneError):
            await starting
    assert not psutil.pid_exists(pid)


async def test_a_start_that_is_cancelled_leaves_no_process(tmp_path: Path) -> None:
    before = {child.pid for child in psutil.Process().children()}
    for steps in range(12):
        async with Zygote(TrainerSettings(), Deadlines(zygote_start=20), tmp_path, module=FAKE) as zygote:
            task = asyncio.create_task(zygote.start())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert {child.pid for child in psutil.Process().children()} <= before


@pytest.mark.parametrize("step", ["asyncio.open_connection", "os.posix_spawn", "os.pidfd_open"])
async def test_a_start_that_fails_leaves_no_process_and_no_open_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    files = psutil.Process().num_fds()
    children = {child.pid for child in psutil.Process().children()}
    async with Zygote(TrainerSettings(), Deadlines(zygote_start=20), tmp_path, module=FAKE) as zygote:
        monkeypatch.setattr(step, refuse)
        with pytest.raises(TrainerGoneError, match="could not be started: Too many open files"):
            await zygote.start()
        await asyncio.sleep(0)  # an aborted connection is closed by the loop
        assert psutil.Process().num_fds() == files
        assert {child.pid for child in psutil.Process().children()} <= children
        monkeypatch.undo()
        await zygote.start()


async def test_one_that_can_not_start_is_said_so(tmp_path: Path) -> None:
    async with Zygote(TrainerSettings(), Deadlines(zygote_start=20), tmp_path, module="fedfabric.no_such") as zygote:
        with pytest.raises(TrainerGoneError):
            await zygote.start()


async def test_a_folder_of_a_task_is_private_and_gone_with_it(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, "owner")
    async with scratch.folder() as folder:
        assert folder.parent.stat().st_mode & 0o777 == 0o700
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "data" / "patients.csv").write_text("secret")
        (folder / "data").chmod(0o500)
    assert list(scratch.workspace.iterdir()) == []
    scratch.close()
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240


def test_a_scratch_below_a_plain_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainerError, match="name a folder on a tmpfs"):
        Scratch(tmp_path / "file", "owner")


def test_a_link_in_place_of_the_scratch_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("kept")
    (tmp_path / "fedfabric-owner").symlink_to(tmp_path / "precious")
    with pytest.raises(TrainerError):
        Scratch(tmp_path, "owner")
    assert (tmp_path / "precious" / "file").read_text() == "kept"


def test_what_a_dead_gateway_left_is_swept_by_the_next_one_and_a_living_ones_is_not(tmp_path: Path) -> None:
    living = Scratch(tmp_path, "living")
    (living.workspace / "task").mkdir()
    dead = tmp_path / "fedfabric-dead"
    (dead / "task" / "data").mkdir(parents=True)
    (dead / "task" / "data" / "patients.csv").write_text("secret")
    os.utime(dead, (1, 1))
    beginning = tmp_path / "fedfabric-beginning"
    beginning.mkdir()
    (tmp_path / "others").mkdir()
    starting = Scratch(tmp_path, "starting")
    assert not dead.exists()
    assert (living.workspace / "task").exists()
    assert (tmp_path / "others").exists()
    starting.close()
    living.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fedfabric-beginning", "others"]
