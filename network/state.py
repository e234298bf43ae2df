"""What a network remembers on disk: ``state.json`` in its folder, replaced whole by every change."""

import contextlib
import errno
import fcntl
import json
import os
import random
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import StateError
from .runtime import LOOPBACK
from .specification import NetworkSpec, OrganisationSpec
from .supervisor import listening_ports

FORMAT = 1
FILE = "state.json"
_LOCK = "operation.lock"
_STAGING = "state.new"
_LOWEST_PORT = 10_000
_DISK = {
    errno.ENOSPC: "its disk is full; free some space",
    errno.EDQUOT: "its user's quota is used up; free some space",
    errno.EROFS: "it is on a read-only file system; name another one",
    errno.EIO: "its disk fails; name another one",
}


class NetworkState(BaseModel):
    """One network's memory. `spec` is the network as it is now, `founding` as network.yaml described it at first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    runtime: str
    founding: NetworkSpec
    spec: NetworkSpec
    ports: dict[str, int] = {}
    """`PROCESS:PURPOSE` to port."""
    joining: OrganisationSpec | None = None
    """An organisation that is being added: not yet a member, and to be taken out where that was interrupted."""
    founded: bool = False
    """Whether all certificates and the genesis block are on disk."""

    @classmethod
    def load(cls, home: Path) -> "NetworkState | None":
        """Read the folder's state; None where no network has been founded in it.

        Raises:
            StateError: the folder holds something else, or another version's state.
        """
        path = home / FILE
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            _require_empty(home)
            return None
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}: name another folder") from error
        try:
            values = json.loads(data)
            if not isinstance(values, dict) or values.get("format") != FORMAT:
                found = values.get("format") if isinstance(values, dict) else None
                raise StateError(
                    f"{path} has format {found}, this fedfabric reads format {FORMAT}: use the fedfabric that wrote "
                    "it, or name another folder"
                )
            return cls.model_validate_json(data)
        except (ValueError, ValidationError) as error:
            raise StateError(f"{path} is damaged: restore it, or name another folder") from error

    def save(self, home: Path) -> None:
        """Replace the file; at any instant it is the old one or the new one, whole."""
        staging = home / _STAGING
        try:
            with staging.open("w") as file:
                file.write(self.model_dump_json(indent=1))
                file.flush()
                os.fsync(file.fileno())
            staging.replace(home / FILE)
        except BaseException:
            staging.unlink(missing_ok=True)
            raise

    def require_same(self, spec: NetworkSpec, runtime: str, home: Path) -> None:
        """Check that the folder's network is the one that is asked for.

        Raises:
            StateError: names what differs.
        """
        if runtime != self.runtime:
            raise StateError(
                f"the network in {home} runs under the runtime {self.runtime}, not {runtime}: name that one, or start "
                "anew with 'network down --wipe'"
            )
        before, now = self.founding.model_dump(mode="json"), spec.model_dump(mode="json")
        differing = [key for key in now if before[key] != now[key]]
        if differing:
            raise StateError(
                f"the network in {home} was founded with other {', '.join(differing)} than asked for: restore its "
                "description (organisations join by 'network add-org'), name another folder, or start anew with "
                "'network down --wipe'"
            )


def allocate_ports(names: Iterable[str], taken: Iterable[int] = ()) -> Mapping[str, int]:
    """Free ports for these names, below the range from which the system takes those of outgoing connections.

    A port of that range could be lent to some connection while the process that owns it is being restarted.
    """
    names = list(names)
    lowest_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    upper = lowest_outgoing if lowest_outgoing > _LOWEST_PORT + 1000 else 65_536
    refused = listening_ports().union(taken)
    candidates = [port for port in range(_LOWEST_PORT, upper) if port not in refused]
    chosen: dict[str, int] = {}
    chance = random.SystemRandom()
    while candidates and len(chosen) < len(names):
        port = candidates.pop(chance.randrange(len(candidates)))
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((LOOPBACK, port))
            chosen[names[len(chosen)]] = port
    if len(chosen) < len(names):
        raise StateError(f"this machine has no {len(names)} free ports between {_LOWEST_PORT} and {upper}")
    return chosen


def _require_empty(home: Path) -> None:
    """Check that a folder without a state holds nothing of somebody else's."""
    foreign = sorted({entry.name for entry in home.iterdir()} - {_LOCK, _STAGING}) if home.is_dir() else []
    if foreign:
        raise StateError(
            f"{home} is not a network's folder (it has {', '.join(foreign[:3])}, and no {FILE}): name an empty one, or "
            "remove it"
        )


@contextlib.contextmanager
def operation(home: Path) -> Iterator[None]:
    """Hold the folder for one command that changes the network; the system releases it when the command dies.

    Where no network has been founded at the end, the folder is as it was before.

    Raises:
        StateError: the folder is somebody else's, cannot be written, or another command is changing the network.
    """
    path = home / _LOCK
    try:
        if not (home / FILE).exists():
            _require_empty(home)
        made = not home.exists()
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = path.open("a")
    except OSError as error:
        raise StateError(f"the folder {home} cannot be written ({error.strerror}): name another one") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = _is(path, lock.fileno())
        except BlockingIOError:
            held = False
        if not held:  # by another command; or it has ended meanwhile, and removed the lock that this one waited for
            raise StateError(f"another command is changing the network in {home}: wait for it to end")
        try:
            yield
        except OSError as error:
            if error.errno not in _DISK:
                raise
            raise StateError(f"the folder {home} cannot be written: {_DISK[error.errno]}") from error
        finally:
            if _is(path, lock.fileno()) and not (home / FILE).exists():
                with contextlib.suppress(OSError):
                    path.unlink()
                    if made:
                        home.rmdir()


def _is(path: Path, descriptor: int) -> bool:
    """Whether an open file is the one that stands at a path now."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    return False
