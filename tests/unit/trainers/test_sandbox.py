"""A hostile plan (tests/plans/escapes) tries every way out; unconfined, the same program finds ways open."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fedfabric.aggregation import MemoryTensors, write_tensors
from fedfabric.trainers import sandbox

PLAN = Path(__file__).parents[2] / "plans" / "escapes"
REFUSALS = {errno.EPERM, errno.EACCES, errno.ENOSYS}
HIDDEN = REFUSALS | {errno.ENOENT, errno.EROFS, errno.ESRCH, errno.ENXIO, errno.ENOTDIR}
"""With bubblewrap most files are not there at all."""
ONES = np.ones((1, 1), dtype=np.float32)
DEVICES = ("block_device", "kernel_memory", "kernel_log")
"""Not every machine has them."""


def surroundings(folder: Path) -> tuple[Path, Path]:
    (folder / "data").mkdir()
    (folder / "data" / "data.csv").write_text("a,b\n1,2\n")
    (folder / "keys").mkdir()
    (folder / "keys" / "secret.key").write_text("private")
    return folder / "keys" / "secret.key", folder / "data" / "data.csv"


def intact(secret: Path, data: Path) -> None:
    assert secret.read_text() == "private"
    assert data.read_text() == "a,b\n1,2\n"
    assert sorted(path.name for path in secret.parent.iterdir()) == ["secret.key"]
    assert sorted(path.name for path in data.parent.iterdir()) == ["data.csv"]
    assert secret.stat().st_mode & 0o777 == data.stat().st_mode & 0o777 == 0o644


@pytest.fixture(scope="module", params=["layer 1", "layers 1 and 2"])
def escapes(request, workspace, plan_file, tmp_path_factory):
    """The errno of every attempt under a layer, by name."""
    process = request.getfixturevalue("layer_1" if request.param == "layer 1" else "trainers")
    if request.param != "layer 1" and sandbox.BUBBLEWRAP not in process.hello["layers"]:
        pytest.skip("bubblewrap or user namespaces are not to be had here")
    room = workspace / request.param.replace(" ", "-")
    room.mkdir()
    (room / "out").mkdir()
    secret, data = surroundings(room)
    write_tensors(room / "model", MemoryTensors({"weight": ONES, "bias": ONES[0]}))
    found = {}
    for part in range(4):
        answer = process.run(
            "evaluate",
            plan=plan_file(room / "escapes.zip", PLAN),
            data=room / "data",
            model=room / "model",
            out=room / "out",
            params={"part": part, "secret": str(secret)},
        )
        assert answer["ok"], (answer, (room / "out" / "trainer.log").read_text())
        found |= answer["result"]["metrics"]
    return request.param, found, secret, data


# listed by name, so that each is a test of its own; a name more or less in the plan fails the last test
CONTROLS = """
read_data list_data write_scratch rename_scratch delete_scratch make_folder temporary_file thread random import_more
map_memory train two_threads_of_torch save_and_load
"""
ATTEMPTS = """
socket_inet socket_unix socket_netlink socket_packet socketpair resolve_a_name fork spawn posix_spawn exec
kill_parent kill_all kill_group signal_by_owner signal_choice owner_by_ioctl file_attributes terminal_input
raise_limit raise_limit_of_parent priority priority_of_parent affinity scheduler become_another_user
become_another_group new_session change_root io_uring_setup ptrace process_vm_readv bpf perf_event_open userfaultfd
keyctl add_key mount unshare setns pivot_root memfd_create personality kcmp clone3 execveat pidfd_open pidfd_getfd
process_madvise inotify_init1 fanotify_init shmget msgget name_to_handle_at open_by_handle_at openat2 fsopen
open_tree fchmodat2 setxattrat clock_settime sethostname finit_module kexec_load modify_ldt seccomp
unknown_call_1000 read_secret list_secrets write_secret append_secret truncate_secret empty_secret_by_opening
delete_secret rename_secret hardlink_secret chmod_secret chown_secret touch_secret xattr_secret chdir_and_read
write_beside write_data empty_data_by_opening truncate_data delete_data rename_data plant_data chmod_data
fchmod_data write_data_mapped chmod_own chown_own touch_own xattr_own symlink hardlink fifo device unix_socket_file
read_passwords read_users list_root list_home list_etc list_tmp list_processes own_environment own_memory
environment_of_parent arguments_of_parent memory_of_parent files_of_parent environment_of_init root_of_init
kernel_memory kernel_log block_device terminal shared_memory write_tmp sysctl cgroups own_libraries
"""


@pytest.mark.parametrize("name", CONTROLS.split())
def test_a_plan_can_still_work(escapes, name):
    _, found, *_ = escapes
    assert found[f"control.{name}"] == 0


@pytest.mark.parametrize("name", ATTEMPTS.split())
def test_no_way_leads_out(escapes, name):
    layer, found, *_ = escapes
    allowed = HIDDEN if layer != "layer 1" or name in DEVICES else REFUSALS
    assert found[name] in allowed, errno.errorcode.get(int(found[name]), found[name])


def test_keys_and_data_are_as_they_were(escapes):
    *_, secret, data = escapes
    intact(secret, data)


def test_every_attempt_of_the_plan_is_looked_at(escapes):
    _, found, *_ = escapes
    assert set(found) == {f"control.{name}" for name in CONTROLS.split()} | set(ATTEMPTS.split())


OPEN_TO_ANYBODY = """
socket_inet socket_unix socketpair fork spawn posix_spawn kill_group signal_by_owner signal_choice
memfd_create pidfd_open inotify_init1 shmget read_secret list_secrets write_secret chmod_own touch_own symlink
hardlink fifo read_users list_etc list_tmp list_processes own_environment chmod_data fchmod_data write_data_mapped
"""


@pytest.fixture(scope="module")
def unconfined(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unconfined")
    secret, data = surroundings(folder)
    (folder / "scratch").mkdir()
    harmless = [*CONTROLS.split(), *OPEN_TO_ANYBODY.split()]
    program = (
        f"import sys; sys.path.insert(0, {str(PLAN)!r}); import plan, json\nfrom pathlib import Path\n"
        f"secret, data, scratch = Path({str(secret)!r}), Path({str(data)!r}), Path({str(folder / 'scratch')!r})\n"
        "import tempfile; tempfile.tempdir = str(scratch)\n"
        f"ways = [*plan.controls(data, scratch), *plan.attempts(secret, data, scratch)]\n"
        f"print(json.dumps({{name: plan.outcome(way) for name, way in ways if name in {harmless!r}}}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, start_new_session=True, cwd=folder
    )
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", OPEN_TO_ANYBODY.split())
def test_the_same_way_is_open_without_the_sandbox(unconfined, name):
    assert unconfined[name] == 0, os.strerror(int(unconfined[name]))


def test_foreign_plans_are_refused_where_no_layer_holds():
    assert not sandbox.foreign_plans_allowed(())
    assert not sandbox.foreign_plans_allowed((sandbox.LANDLOCK,))
    assert not sandbox.foreign_plans_allowed((sandbox.SECCOMP,))
    assert sandbox.foreign_plans_allowed((sandbox.LANDLOCK, sandbox.SECCOMP))
    assert sandbox.foreign_plans_allowed((sandbox.BUBBLEWRAP,))


def test_bubblewrap_shows_of_the_package_what_trainers_import_alone(tmp_path):
    program = sandbox.bubblewrap_program()
    if program is None:
        pytest.skip("bubblewrap or user namespaces are not to be had here")
    package = Path(sandbox.__file__).resolve().parents[1]
    allowed = {"__init__.py", "aggregation", "trainers"}
    if Path(sys.prefix).is_relative_to(package):
        allowed.add(Path(sys.prefix).relative_to(package).parts[0])
    script = "import os, sys, fedfabric.trainers.plans; print(*os.listdir(sys.argv[1]), sep='\\n')"
    inner = [sys.executable, "-s", "-P", "-c", script, str(package)]
    command = sandbox.bubblewrap_arguments(program, tmp_path, inner)
    seen = subprocess.run(command, env={}, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    assert set(seen) - {"__pycache__"} == allowed


def test_a_child_of_root_gives_up_every_capability():
    program = (
        "from fedfabric.trainers import sandbox; sandbox.drop_capabilities()\n"
        "print(*[line.split()[1] for line in open('/proc/self/status') if line.startswith(('CapPrm', 'CapEff'))])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert found == ["0" * 16] * 2


def test_limits_can_not_be_raised_again():
    program = (
        "import resource\nfrom fedfabric.trainers import sandbox\n"
        "sandbox.limit_resources(sandbox.Limits(file_bytes=1000)); sandbox.drop_capabilities()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "not allowed to raise maximum limit" in result.stderr
