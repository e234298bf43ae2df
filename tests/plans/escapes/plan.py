"""A hostile plan: tries every way out of its sandbox and reports the errno of each as a metric, 0 where it got out.

A way that is open changes nothing outside the test's own folder: what it plants it takes away, what it would set it
sets to what it is, and mounts go where nothing is. Whoever breaks the sandbox to see the test fail keeps the machine.
"""

# ruff: noqa: PTH101, PTH102, PTH104, PTH108, PTH123, PTH208, PTH211, SIM115

import ctypes
import fcntl
import mmap
import os
import resource
import signal
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

import torch
from fedfabric.trainers import Dataset
from torch.utils.data import TensorDataset

LIBC = ctypes.CDLL(None, use_errno=True)
SYSCALLS = {  # x86_64 and aarch64, those without a wrapper in Python
    "io_uring_setup": (425, 425),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "mount": (165, 40),
    "unshare": (272, 97),
    "setns": (308, 268),
    "pivot_root": (155, 41),
    "memfd_create": (319, 279),
    "personality": (135, 92),
    "kcmp": (312, 272),
    "clone3": (435, 435),
    "execveat": (322, 281),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "inotify_init1": (294, 26),
    "fanotify_init": (300, 262),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "openat2": (437, 437),
    "fsopen": (430, 430),
    "open_tree": (428, 428),
    "fchmodat2": (452, 452),
    "setxattrat": (463, 463),
    "clock_settime": (227, 112),
    "sethostname": (170, 161),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "modify_ldt": (154, 9999),
    "seccomp": (317, 277),
    "unknown_call_1000": (1000, 1000),
}
MACHINE = 0 if os.uname().machine == "x86_64" else 1


def call(name, *arguments):
    ctypes.set_errno(0)
    numbers = [ctypes.c_long(SYSCALLS[name][MACHINE])]
    result = LIBC.syscall(*numbers, *[a if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments])
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def drop_segment(number: int) -> None:
    LIBC.shmctl(number, 0, None)  # IPC_RMID


def drop_queue(number: int) -> None:
    LIBC.msgctl(number, 0, None)


def plant(folder: Path) -> None:
    """Make a file that was not there, and take it away again."""
    planted = folder / f"fedfabric-planted-{os.getpid()}"
    os.close(os.open(planted, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    planted.unlink()


def attempts(secret: Path, data: Path, scratch: Path):
    """Every attempt by name; those of the kernel's interface first, then those on files."""
    own = scratch / "own"
    own.write_text("mine")
    parent = os.getppid()
    open_data = os.open(data, os.O_RDONLY)
    local = f"{scratch}/local"
    yield from {
        "socket_inet": lambda: socket.socket(socket.AF_INET).close(),
        "socket_unix": lambda: socket.socket(socket.AF_UNIX).close(),
        "socket_netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
        "socket_packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
        "socketpair": socket.socketpair,
        "resolve_a_name": lambda: socket.create_connection(("127.0.0.1", 9)),
        "fork": fork,
        "spawn": lambda: subprocess.run(["/bin/true"], check=False),
        "posix_spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "exec": lambda: os.execv("/bin/false-that-is-not-there", ["x"]),
        "kill_parent": lambda: os.kill(parent, 0),
        "kill_all": lambda: os.kill(-1, 0),
        "kill_group": lambda: os.killpg(os.getpgid(0), 0),
        "signal_by_owner": lambda: fcntl.fcntl(open_data, fcntl.F_SETOWN, parent),
        "signal_choice": lambda: fcntl.fcntl(open_data, 10, signal.SIGURG),
        "owner_by_ioctl": lambda: fcntl.ioctl(open_data, 0x8901, parent.to_bytes(4, "little")),
        "file_attributes": lambda: fcntl.ioctl(open_data, 0x40086602, bytes(8)),
        "terminal_input": lambda: fcntl.ioctl(0, 0x5412, b"x"),
        "raise_limit": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 50, 1 << 50)),
        "raise_limit_of_parent": lambda: resource.prlimit(
            parent, resource.RLIMIT_CPU, resource.getrlimit(resource.RLIMIT_CPU)
        ),
        "priority": lambda: os.setpriority(os.PRIO_PROCESS, 0, -5),
        "priority_of_parent": lambda: os.setpriority(os.PRIO_PROCESS, parent, os.getpriority(os.PRIO_PROCESS, parent)),
        "affinity": lambda: os.sched_setaffinity(parent, range(os.cpu_count())),
        "scheduler": lambda: os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)),
        "become_another_user": lambda: os.setuid(1),
        "become_another_group": lambda: os.setgid(1),
        "new_session": os.setsid,
        "change_root": lambda: os.chroot("/"),
        **{name: lambda name=name: call(name, *ARGUMENTS.get(name, (0, 0, 0, 0, 0))) for name in SYSCALLS},
        "shmget": lambda: drop_segment(call("shmget", 0, 4096, 0o1600)),
        "msgget": lambda: drop_queue(call("msgget", 0, 0o1600)),
        "read_secret": secret.read_bytes,
        "list_secrets": lambda: os.listdir(secret.parent),
        "write_secret": lambda: secret.open("r+b").close(),
        "append_secret": lambda: secret.open("ab").close(),
        "truncate_secret": lambda: os.truncate(secret, 0),
        "empty_secret_by_opening": lambda: os.open(secret, os.O_RDONLY | os.O_TRUNC),
        "delete_secret": lambda: os.unlink(secret),
        "rename_secret": lambda: os.rename(secret, scratch / "stolen"),
        "hardlink_secret": lambda: os.link(secret, scratch / "hard"),
        "chmod_secret": lambda: os.chmod(secret, 0o777),
        "chown_secret": lambda: os.chown(secret, 1, 1),
        "touch_secret": lambda: os.utime(secret),
        "xattr_secret": lambda: os.setxattr(secret, "user.x", b"1"),
        "chdir_and_read": lambda: (os.chdir(secret.parent), open(secret.name).close()),
        "write_beside": lambda: (secret.parent / "planted").write_text("x"),
        "write_data": lambda: data.open("r+b").close(),
        "empty_data_by_opening": lambda: os.open(data, os.O_RDONLY | os.O_TRUNC),
        "truncate_data": lambda: os.truncate(data, 0),
        "delete_data": lambda: os.unlink(data),
        "rename_data": lambda: os.rename(data, scratch / "data"),
        "plant_data": lambda: (data.parent / "planted").write_text("x"),
        "chmod_data": lambda: os.chmod(data, 0o777),
        "fchmod_data": lambda: os.fchmod(open_data, 0o777),
        "write_data_mapped": lambda: mmap.mmap(os.open(data, os.O_RDWR), 0),
        "chmod_own": lambda: os.chmod(own, 0o777),
        "chown_own": lambda: os.chown(own, 1, 1),
        "touch_own": lambda: os.utime(own),
        "xattr_own": lambda: os.setxattr(own, "user.x", b"1"),
        "symlink": lambda: os.symlink("/etc/passwd", scratch / "link"),
        "hardlink": lambda: os.link(own, scratch / "second"),
        "fifo": lambda: os.mkfifo(scratch / "fifo"),
        "device": lambda: os.mknod(scratch / "null", 0o20666, os.makedev(1, 3)),
        "unix_socket_file": lambda: socket.socket(socket.AF_UNIX).bind(local),
        "read_passwords": lambda: Path("/etc/shadow").read_bytes(),
        "read_users": lambda: Path("/etc/passwd").read_bytes(),
        "list_root": lambda: os.listdir("/root"),
        "list_home": lambda: os.listdir("/home"),
        "list_etc": lambda: os.listdir("/etc"),
        "list_tmp": lambda: os.listdir("/var/tmp"),
        "list_processes": lambda: os.listdir("/proc"),
        "own_environment": lambda: Path("/proc/self/environ").read_bytes(),
        "own_memory": lambda: Path("/proc/self/mem").open("r+b").close(),
        "environment_of_parent": lambda: Path(f"/proc/{parent}/environ").read_bytes(),
        "arguments_of_parent": lambda: Path(f"/proc/{parent}/cmdline").read_bytes(),
        "memory_of_parent": lambda: Path(f"/proc/{parent}/mem").open("rb").close(),
        "files_of_parent": lambda: os.listdir(f"/proc/{parent}/fd"),
        "environment_of_init": lambda: Path("/proc/1/environ").read_bytes(),
        "root_of_init": lambda: os.listdir("/proc/1/root"),
        "kernel_memory": lambda: Path("/dev/mem").open("rb").close(),
        "kernel_log": lambda: Path("/dev/kmsg").open("rb").close(),
        "block_device": lambda: Path("/dev/vda").open("rb").close(),
        "terminal": lambda: Path("/dev/tty").open("wb").close(),
        "shared_memory": lambda: plant(Path("/dev/shm")),
        "write_tmp": lambda: plant(Path("/var/tmp")),
        "sysctl": lambda: Path("/proc/sys/kernel/hostname").open("r+b").close(),
        "cgroups": lambda: os.listdir("/sys/fs/cgroup"),
        "own_libraries": lambda: plant(Path(torch.__file__).parent),
    }.items()


ARGUMENTS = {
    "io_uring_setup": (4, 0),
    "mount": (b"none", b"/nowhere-at-all", b"tmpfs", 0, 0),
    "pivot_root": (b"/nowhere-at-all", b"/nowhere-at-all"),
    "unshare": (0x10000000,),
    "memfd_create": (b"x", 0),
    "personality": (0xFFFFFFFF,),
    "add_key": (b"user", b"x", b"y", 1, -1),
    "ptrace": (0, 0, 0, 0),
    "userfaultfd": (1,),
    "fsopen": (b"tmpfs", 0),
    "open_tree": (-100, b"/", 1),
    "inotify_init1": (0,),
    "sethostname": (os.uname().nodename.encode(), len(os.uname().nodename.encode())),
    "seccomp": (2, 0, 0),
    "pidfd_open": (os.getppid(), 0),
    "fchmodat2": (-100, b"/nowhere-at-all", 0o755, 0),
}


def fork() -> None:
    if os.fork() == 0:
        os._exit(0)
    os.wait()


def controls(data: Path, scratch: Path):
    """What a plan must still be able to do."""
    yield from {
        "read_data": data.read_bytes,
        "list_data": lambda: os.listdir(data.parent),
        "write_scratch": lambda: (scratch / "file").write_bytes(b"x" * 1000),
        "rename_scratch": lambda: os.rename(scratch / "file", scratch / "renamed"),
        "delete_scratch": lambda: os.unlink(scratch / "renamed"),
        "make_folder": lambda: os.mkdir(scratch / "folder"),
        "temporary_file": lambda: tempfile.TemporaryFile().write(b"x"),
        "thread": thread,
        "random": lambda: os.urandom(16),
        "import_more": lambda: __import__("decimal"),
        "map_memory": lambda: mmap.mmap(-1, 1 << 20).write(b"x"),
        "train": train,
        "two_threads_of_torch": two_threads,
        "save_and_load": lambda: (
            torch.save({"a": torch.ones(3)}, scratch / "saved"),
            torch.load(scratch / "saved", weights_only=True),
        ),
    }.items()


def thread() -> None:
    done = []
    worker = threading.Thread(target=done.append, args=(1,))
    worker.start()
    worker.join()
    assert done


def train() -> None:
    torch.set_grad_enabled(True)  # metrics run without
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    inputs, labels = torch.randn(64, 1, 8, 8), torch.arange(64) % 2
    losses = []
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < losses[0]


def two_threads() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    left, right = torch.ones(500, 500), torch.eye(500)
    assert torch.equal(left @ right, left)
    torch.set_num_threads(before)


def outcome(attempt) -> float:
    try:
        attempt()
    except OSError as error:
        return float(error.errno or -1)
    except ValueError:
        return -4.0
    except RuntimeError as error:
        return -2.0 if "thread" in str(error) else -3.0
    return 0.0


def run_all(secret: Path, data: Path, scratch: Path) -> dict[str, float]:
    found = {f"control.{name}": outcome(attempt) for name, attempt in controls(data, scratch)}
    return found | {name: outcome(attempt) for name, attempt in attempts(secret, data, scratch)}


# What runs plans calls these four.

FOLDER: list[Path] = []


def model_fn(params):
    return torch.nn.Linear(1, 1)


def client_optimizer_fn(parameters, params):
    return torch.optim.SGD(parameters, lr=0.1)


def load(folder, params):
    FOLDER[:] = [folder]
    one = TensorDataset(torch.ones(1, 1), torch.ones(1, 1))
    return Dataset(one, one)


def metrics(model, holdout, params):
    found = run_all(Path(params["secret"]), FOLDER[0] / "data.csv", Path(tempfile.gettempdir()))
    names = sorted(found)
    return {name: found[name] for name in names[60 * params["part"] : 60 * (params["part"] + 1)]}
