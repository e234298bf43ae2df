"""Runs the command as a user does, in folders of the test's own, and finds what it leaves behind."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
FEDFABRIC = Path(sys.executable).parent / "fedfabric"


class Machine:
    """A corner of this machine: home, data and temporary files below one folder that its processes know."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FEDFABRIC")},
            "PATH": f"{FEDFABRIC.parent}:{os.environ['PATH']}",
            "TMPDIR": str(self.temporary),
            "FEDFABRIC_HOME": str(folder / "home"),
        }

    def start(self, *arguments, **options):
        """Start a program without a terminal, its output on one pipe."""
        return subprocess.Popen(
            [str(argument) for argument in arguments],
            env=self.environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **options,
        )

    def processes(self):
        """Command lines by pid of what works in the folder, names it in an argument, or has it as TMPDIR."""
        found = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                words = [process.cwd(), *process.cmdline(), process.environ().get("TMPDIR", "")]
                if any(str(self.folder) in word for word in words):
                    found[process.pid] = " ".join(process.cmdline())[:200]
        return found

    def containers(self):
        """Names of the Docker containers, running or not, into which something of the folder is mounted."""
        if shutil.which("docker") is None:
            return set()
        form = "{{.Names}}\t{{.Mounts}}"
        told = subprocess.run(
            ["docker", "ps", "--all", "--no-trunc", "--format", form], capture_output=True, text=True, check=False
        )
        rows = [line.partition("\t") for line in told.stdout.splitlines()]
        return {name for name, _, mounts in rows if str(self.folder) in mounts}

    def left_behind(self, seconds=5.0):
        """What is there after a moment that ended processes may take to vanish."""
        deadline = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < deadline:
            psutil.wait_procs([psutil.Process(pid) for pid in left if psutil.pid_exists(pid)], timeout=0.1)
        return left | dict.fromkeys(self.containers())

    def end_all(self):
        """End everything of this folder."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def machine(tmp_path):
    corner = Machine(tmp_path)
    yield corner
    corner.end_all()
