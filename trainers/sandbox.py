"""The walls around a plan's code: what a trainer child may do to this machine.

Layer 1, for any user on Linux with landlock: the child sees its data read-only, writes below one folder and nowhere
else, and keeps only the system calls that computing needs: no sockets, processes, signals, tracing, io_uring, nor any
change of modes, owners, times and attributes, which landlock does not cover. Layer 2, where bubblewrap and user
namespaces work: the whole trainers' process lives in namespaces of its own, with no network and only its workspace.

The seccomp filter is a list of what is allowed; any other call answers ENOSYS, or EPERM where programs ask on purpose.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import fcntl
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import SandboxError

LANDLOCK, SECCOMP, BUBBLEWRAP = "landlock", "seccomp", "bubblewrap"
INSIDE = "FEDFABRIC_BUBBLEWRAP"
"""Set in the environment of a process that bubblewrap holds."""

_LIBSECCOMP = "libseccomp.so.2"
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_LINUX_CAPABILITY_VERSION_3 = 0x20080522

ALLOWED = """
read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek close close_range dup dup2 dup3 open
openat creat stat fstat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat getdents getdents64
getcwd chdir fchdir mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 ftruncate fallocate fsync fdatasync
sync_file_range fadvise64 flock umask statfs fstatfs sendfile copy_file_range pipe pipe2 poll ppoll select pselect6
epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd eventfd2 timerfd_create
timerfd_settime timerfd_gettime mmap munmap mprotect mremap madvise msync mincore brk mlock munlock mbind
get_mempolicy membarrier rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend rt_sigtimedwait
sigaltstack restart_syscall futex futex_waitv set_robust_list get_robust_list set_tid_address rseq arch_prctl exit
exit_group pause sched_yield sched_getaffinity sched_getparam sched_getscheduler sched_get_priority_max
sched_get_priority_min sched_getattr sched_rr_get_interval getpriority getcpu clock_gettime clock_getres
clock_nanosleep nanosleep gettimeofday time times getrusage getitimer setitimer alarm getpid gettid getppid getpgrp
getpgid getsid getuid geteuid getgid getegid getresuid getresgid getgroups uname sysinfo getrandom getrlimit wait4
waitid
"""
"""System calls that a child keeps whole."""

REFUSED = """
socket socketpair connect bind listen accept accept4 sendto sendmsg sendmmsg recvfrom recvmsg recvmmsg shutdown fork
vfork execve execveat ptrace process_vm_readv process_vm_writev kcmp pidfd_open pidfd_getfd pidfd_send_signal kill
tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo io_uring_setup io_uring_enter io_uring_register chmod fchmod fchmodat
chown lchown fchown fchownat utime utimes utimensat futimesat truncate setxattr lsetxattr fsetxattr removexattr
lremovexattr fremovexattr link linkat symlink symlinkat mknod mknodat mount umount2 pivot_root chroot unshare setns
setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid capset setrlimit setpriority
sched_setaffinity sched_setscheduler sched_setparam ioprio_set personality seccomp bpf perf_event_open userfaultfd
keyctl add_key request_key memfd_create memfd_secret shmget shmat msgget semget inotify_init inotify_init1
fanotify_init fanotify_mark name_to_handle_at open_by_handle_at syslog reboot settimeofday clock_settime adjtimex
clock_adjtime swapon swapoff sethostname setdomainname init_module finit_module delete_module kexec_load iopl ioperm
modify_ldt quotactl acct vhangup process_madvise setsid setpgid
"""
"""System calls that answer EPERM, so that a plan that asks sees why; all others answer ENOSYS."""

_CLONE_THREAD = 0x10000
_FCNTL = (
    fcntl.F_DUPFD,
    fcntl.F_DUPFD_CLOEXEC,
    fcntl.F_GETFD,
    fcntl.F_SETFD,
    fcntl.F_GETFL,
    fcntl.F_SETFL,
    fcntl.F_GETLK,
    fcntl.F_SETLK,
    fcntl.F_SETLKW,
)
"""fcntl without F_SETOWN and F_SETSIG, which send signals to other processes."""
_IOCTL = (0x5401, 0x5413, 0x541B, 0x5450, 0x5451)
"""TCGETS, TIOCGWINSZ, FIONREAD, FIONCLEX, FIOCLEX."""


@dataclass(frozen=True)
class Limits:
    """What a task may use; the unit is in the name."""

    memory_bytes: int = 4 << 30
    seconds: float = 3600.0
    file_bytes: int = 4 << 30
    threads: int = 1


@dataclass(frozen=True)
class Walls:
    """Where a child may go.

    read: files and folders that it reads. write: one folder that it writes. code: folders of programs and libraries.
    """

    read: tuple[Path, ...]
    write: Path


def landlock_version() -> int:
    """Return the kernel's landlock ABI, 0 where there is none."""
    try:
        import landlock  # noqa: PLC0415
    except ImportError:
        return 0
    try:
        return int(landlock.landlock_abi_version())
    except (landlock.LandlockError, OSError):
        return 0


def seccomp_works() -> bool:
    """Return whether libseccomp can be loaded."""
    try:
        _seccomp()
    except (ImportError, RuntimeError, OSError):
        return False
    return True


def _seccomp() -> Any:
    """Import pyseccomp; it looks its library up by starting ldconfig or a compiler, which a bare process lacks."""
    ctypes.CDLL(_LIBSECCOMP)
    lookup = ctypes.util.find_library
    ctypes.util.find_library = lambda name: _LIBSECCOMP if name == "seccomp" else lookup(name)
    try:
        import pyseccomp  # noqa: PLC0415
    finally:
        ctypes.util.find_library = lookup
    return pyseccomp


def bubblewrap_program() -> str | None:
    """Return bubblewrap's path if it can make all its namespaces here, else None."""
    program = shutil.which("bwrap", path="/usr/local/bin:/usr/bin:/bin")
    if program is None:
        return None
    probe = [program, "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--proc", "/proc", "/bin/true"]
    try:
        result = subprocess.run(probe, env={}, capture_output=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return program if result.returncode == 0 else None


def layers() -> tuple[str, ...]:
    """Return the layers that hold in this process: of landlock, seccomp, bubblewrap."""
    found = [LANDLOCK] if landlock_version() else []
    if seccomp_works():
        found.append(SECCOMP)
    if os.environ.get(INSIDE) == "1":
        found.append(BUBBLEWRAP)
    return tuple(found)


def foreign_plans_allowed(found: tuple[str, ...]) -> bool:
    """Return whether another organisation's code may run: layer 1 (landlock and seccomp) or layer 2 (bubblewrap)."""
    return {LANDLOCK, SECCOMP} <= set(found) or BUBBLEWRAP in found


def code_folders() -> tuple[Path, ...]:
    """Return the folders that Python and its libraries load from; they hold code and no secrets."""
    package = Path(__file__).resolve().parent.parent
    folders = [Path(sys.prefix), Path(sys.base_prefix), package / "aggregation", package / "trainers"]
    folders += [Path("/usr/lib"), Path("/usr/lib64"), Path("/lib"), Path("/lib64"), Path("/usr/share/zoneinfo")]
    return tuple(dict.fromkeys(folder for folder in folders if folder.is_dir()))


def bubblewrap_arguments(program: str, workspace: Path, inner: list[str]) -> list[str]:
    """Return the command line that runs `inner` in namespaces of its own, which see `workspace` and libraries only.

    To be started with an empty environment: bubblewrap's --clearenv leaves its own environment readable.
    """
    arguments = [program, "--unshare-all", "--die-with-parent", "--new-session", "--hostname", "trainer"]
    # first, since libraries or the workspace may lie below these
    arguments += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]  # noqa: S108  the sandbox's own
    for folder in ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache", "/sys/devices/system/cpu"):
        path = Path(folder)
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), folder]
        elif path.exists():
            arguments += ["--ro-bind", folder, folder]
    package = Path(__file__).resolve().parent.parent
    # of the package only what trainers import: an editable install's root is a whole checkout
    imported = (str(package / name) for name in ("__init__.py", "aggregation", "trainers"))
    for folder in dict.fromkeys((sys.base_prefix, sys.prefix, *imported)):
        arguments += ["--ro-bind", folder, folder]
    arguments += ["--bind", str(workspace), str(workspace), "--chdir", "/", "--setenv", INSIDE, "1", "--"]
    return arguments + inner


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc().prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl {option}: {os.strerror(code)}")


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; leave at once if that has happened already."""
    _prctl(_PR_SET_PDEATHSIG, 9)
    if os.getppid() != parent:
        os._exit(1)


def limit_resources(limits: Limits) -> None:
    """Set the limits that the kernel keeps; memory that is resident and wall time are watched by the parent."""
    cpu = int(limits.seconds * max(1, limits.threads)) + 5
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, cpu)
    _limit(resource.RLIMIT_FSIZE, limits.file_bytes)
    _limit(resource.RLIMIT_NOFILE, 256)
    _limit(resource.RLIMIT_MEMLOCK, 0)
    # private writable memory: a hard stop far sooner than the parent's next look. What is mapped already (the
    # interpreter and torch, copy on write) does not count against the task.
    _limit(resource.RLIMIT_DATA, _data_bytes() + limits.memory_bytes)


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))


def _data_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    return pages * resource.getpagesize()


class _CapHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapData(ctypes.Structure):
    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


def drop_capabilities() -> None:
    """Give up every capability, so that root is a user like others: it can't raise limits or override modes."""
    if os.geteuid() == 0:
        for capability in range(64):
            try:
                _prctl(_PR_CAPBSET_DROP, capability)
            except OSError as error:
                if error.errno == errno.EINVAL:  # past the kernel's last capability
                    break
                if error.errno != errno.EPERM:
                    raise
    header = _CapHeader(_LINUX_CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)()
    if _libc().capset(ctypes.byref(header), ctypes.byref(data)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"capset: {os.strerror(code)}")


def restrict_files(walls: Walls) -> None:
    """Confine this thread and what it starts to the walls, by landlock."""
    import landlock  # noqa: PLC0415
    from landlock import FSAccess  # noqa: PLC0415

    version = landlock_version()
    read = FSAccess.READ_FILE | FSAccess.READ_DIR
    write = read | FSAccess.WRITE_FILE | FSAccess.MAKE_REG | FSAccess.MAKE_DIR
    write |= FSAccess.REMOVE_FILE | FSAccess.REMOVE_DIR
    if version >= 2:
        write |= FSAccess.REFER
    if version >= 3:
        write |= FSAccess.TRUNCATE
    ctypes.set_errno(0)  # the library takes any errno that is left over for a failure of its own call
    rules = landlock.Ruleset()
    for folder in code_folders():
        rules.allow(folder, rules=read | FSAccess.EXECUTE)
    for path in walls.read:
        rules.allow(path, rules=read if path.is_dir() else FSAccess.READ_FILE)
    rules.allow(walls.write, rules=write)
    for name in ("/etc/ld.so.cache", "/proc/cpuinfo", "/proc/meminfo", "/dev/urandom", "/dev/null", "/dev/zero"):
        if Path(name).exists():
            access = FSAccess.READ_FILE | (FSAccess.WRITE_FILE if name == "/dev/null" else FSAccess(0))
            rules.allow(name, rules=access)
    if Path("/sys/devices/system/cpu").is_dir():
        rules.allow("/sys/devices/system/cpu", rules=read)
    rules.apply()


def restrict_system_calls() -> None:
    """Keep only the system calls that computing needs, by seccomp."""
    sc = _seccomp()
    refuse, unknown = sc.ERRNO(errno.EPERM), sc.ERRNO(errno.ENOSYS)
    rules = sc.SyscallFilter(unknown)

    def add(action: int, name: str, *arguments: object) -> None:
        if _known(sc, name):
            rules.add_rule(action, name, *arguments)

    for name in ALLOWED.split():
        if name not in {"open", "openat", "prlimit64"}:
            add(sc.ALLOW, name)
    for name in REFUSED.split():
        add(refuse, name)
    add(sc.ALLOW, "clone", sc.Arg(0, sc.MASKED_EQ, _CLONE_THREAD, _CLONE_THREAD))
    add(refuse, "clone", sc.Arg(0, sc.MASKED_EQ, _CLONE_THREAD, 0))
    # opening for reading with O_TRUNC empties a file without the right to write, before landlock's third version
    for name, position in (("open", 1), ("openat", 2)):
        add(sc.ALLOW, name, sc.Arg(position, sc.MASKED_EQ, os.O_TRUNC, 0))
        add(sc.ALLOW, name, sc.Arg(position, sc.MASKED_EQ, os.O_ACCMODE, os.O_WRONLY))
        add(sc.ALLOW, name, sc.Arg(position, sc.MASKED_EQ, os.O_ACCMODE, os.O_RDWR))
    add(sc.ALLOW, "prlimit64", sc.Arg(2, sc.EQ, 0))  # reading limits, not setting them
    for command in _FCNTL:
        add(sc.ALLOW, "fcntl", sc.Arg(1, sc.MASKED_EQ, 0xFFFFFFFF, command))
    for command in _IOCTL:
        add(sc.ALLOW, "ioctl", sc.Arg(1, sc.MASKED_EQ, 0xFFFFFFFF, command))
    for option in (15, 16):  # PR_SET_NAME, PR_GET_NAME
        add(sc.ALLOW, "prctl", sc.Arg(0, sc.MASKED_EQ, 0xFFFFFFFF, option))
    rules.load()


def _known(sc: Any, name: str) -> bool:
    try:
        return int(sc.resolve_syscall(sc.system_arch(), name)) >= 0
    except (OSError, ValueError):
        return False


def confine(walls: Walls, limits: Limits, found: tuple[str, ...]) -> None:
    """Confine this process for good, with every layer that holds here. Called in a child, before a plan's first byte.

    Raises:
        SandboxError: a layer that should hold could not be set up; nothing of the plan may run.
    """
    try:
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        limit_resources(limits)
        drop_capabilities()
        if LANDLOCK in found:
            restrict_files(walls)
        if SECCOMP in found:
            restrict_system_calls()
    except (OSError, RuntimeError) as error:
        raise SandboxError("SANDBOX_FAILED", f"could not confine the trainer: {error}") from error
