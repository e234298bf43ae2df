"""The runtime `docker`: containers of a local Docker engine, by testcontainers.

Containers find each other by the process's name on a network of their own; each publishes its ports on the loopback
address under the same numbers, so that addresses mean the same inside and outside. The engine restarts what crashes.
Everything carries labels, by which a later command finds it again, and a reaper ends with this process what was not
said to be kept.
"""

import asyncio
import contextlib
import datetime
import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, cast

import docker
import testcontainers.core.config
from docker.errors import APIError, DockerException, NotFound
from docker.models.containers import Container
from testcontainers.core.container import DockerContainer

from .errors import EngineError, PortError, ProcessError
from .images import SITE_FOLDER, Images, ensure_images
from .native import READY_SECONDS, require_free_ports
from .programs import Programs, ensure
from .runtime import LOOPBACK, ProcessSpec, ProcessState, Progress
from .together import settled, together

PACKAGE = Path(__file__).resolve().parent.parent
BUILDER = "/opt/fedfabric/ccaas"
HOME = "/var/fedfabric"
HOME_LABEL = "fedfabric.home"
PROCESS_LABEL = "fedfabric.process"
SPEC_LABEL = "fedfabric.specification"
KEEP = b"keep\n"
STOP_SECONDS = 2
POLL_SECONDS = 0.02
PROBE_SECONDS = 0.1
ENGINE_SECONDS = 120
LOG_LINES = 20

# The network may outlive this process, which testcontainers' own reaper would not allow; ours knows `keep`.
testcontainers.core.config.testcontainers_config.ryuk_disabled = True


class DockerRuntime:
    """Runs a network's processes in containers of the local engine."""

    name = "docker"
    listen = "0.0.0.0"  # noqa: S104 - within the container; its ports are published on loopback only

    def __init__(self, home: Path) -> None:
        self._home = home
        # One folder has many paths, and whoever opens it by another one must find the same containers.
        self._label = hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:12]
        self._engine_client: docker.DockerClient | None = None
        self._programs: Programs | None = None
        self._images: Images | None = None
        self._reaper: subprocess.Popen[bytes] | None = None

    async def prepare(self, progress: Progress) -> None:
        """Find Fabric's programs and the images, or make them."""
        if self._images is None:
            self._programs = await asyncio.to_thread(ensure, progress)
            self._images = await asyncio.to_thread(ensure_images, self._engine, self._programs, progress)

    @property
    def _engine(self) -> docker.DockerClient:
        if self._engine_client is None:
            try:
                self._engine_client = docker.from_env(timeout=ENGINE_SECONDS)
                self._engine_client.ping()
            except DockerException as error:
                raise EngineError(
                    f"no Docker engine answers ({error}): start one, point DOCKER_HOST at it, or use --runtime native"
                ) from error
        return self._engine_client

    @property
    def builder(self) -> str:
        """The external builder's folder inside each peer's container."""
        return BUILDER

    @property
    def configuration(self) -> Path:
        """Fabric's own core.yaml and orderer.yaml in the cache."""
        return self._prepared[0].config

    @property
    def _prepared(self) -> tuple[Programs, Images]:
        if self._programs is None or self._images is None:
            raise ProcessError("the runtime was not prepared before its use")
        return self._programs, self._images

    def host(self, process: str) -> str:
        """Containers find each other by the process's name."""
        return process

    def inside(self, folder: Path) -> str:
        """The network's folder appears at `HOME` in every container, one process's part of it at a time."""
        return f"{HOME}/{folder.relative_to(self._home)}"

    async def open(self) -> bool:
        """Find the network's containers; where there are none, what starts from here ends with this process."""
        if any(state.running for state in (await self.states()).values()):
            return False
        await self._remove_everything()
        await asyncio.to_thread(self._create_network)
        await asyncio.to_thread(self._hire_reaper)
        return True

    async def keep(self) -> None:
        """Let the containers outlive this process."""
        await asyncio.to_thread(self._dismiss_reaper)

    async def start(self, processes: Sequence[ProcessSpec]) -> None:
        """Start these at once, and wait until all of them listen."""
        existing = {container.labels[PROCESS_LABEL]: container for container in await asyncio.to_thread(self._list)}
        due = []
        for process in processes:
            container = existing.get(process.name)
            if container is not None:
                if container.status == "running" and container.labels[SPEC_LABEL] == _digest(process):
                    continue
                await asyncio.to_thread(_remove, container)
            due.append(process)
        require_free_ports(due)
        await together(self._start(process) for process in due)

    async def _start(self, process: ProcessSpec) -> None:
        container = self._container(process)
        try:
            # Nobody can cancel a thread: were it left behind, its container would be there after all was taken down.
            await settled(asyncio.to_thread(container.start))
        except APIError as error:
            text = str(error.explanation)
            if "address already in use" in text or "port is already allocated" in text:
                raise PortError(
                    f"a port of {process.name} is in use ({text}): end the process that holds it"
                ) from error
            raise ProcessError(f"the engine could not start {process.name}: {text}") from error
        await self._until_ready(process.name, process.ports)

    def _container(self, process: ProcessSpec) -> DockerContainer:
        programs, images = self._prepared
        command, environment = list(process.command), dict(process.environment)
        container = DockerContainer({"peer": images.peer, "orderer": images.orderer}.get(command[0], images.python))
        container.with_volume_mapping(str(process.folder), self.inside(process.folder), "rw")
        if process.kind == "chaincode":
            if command[0] == "python":
                command = command[1:]
            container.with_volume_mapping(str(PACKAGE), f"{SITE_FOLDER}/{__name__.split('.')[0]}", "ro")
            for argument in command:
                if argument.startswith("/") and Path(argument).is_file():
                    folder = str(Path(argument).parent)
                    container.with_volume_mapping(folder, folder, "ro")
        else:
            container.with_volume_mapping(str(programs.builder.resolve()), BUILDER, "ro")
        container.with_command(command)
        container.with_envs(**environment)
        container.with_name(self._name(process.name))
        # testcontainers' own method would publish on every address of the host.
        published = cast("dict[str, tuple[str, int]]", container.ports)
        published.update({str(port): (LOOPBACK, port) for port in process.ports})
        container.with_kwargs(
            labels={HOME_LABEL: self._label, PROCESS_LABEL: process.name, SPEC_LABEL: _digest(process)},
            restart_policy={"Name": "on-failure"},
            user=f"{os.getuid()}:{os.getgid()}",
            working_dir=self.inside(process.folder),
            network=self._network,
            networking_config={
                self._network: self._engine.api.create_endpoint_config(aliases=[process.name]),
            },
        )
        return container

    async def _until_ready(self, name: str, ports: Sequence[int]) -> None:
        deadline = asyncio.get_running_loop().time() + READY_SECONDS
        waiting = set(ports)
        while waiting:
            for port in sorted(waiting):
                if await asyncio.to_thread(_listens, port):
                    waiting.discard(port)
            container = await asyncio.to_thread(self._find, name)
            ended = container is None or container.status in {"exited", "dead"} or container.attrs["RestartCount"]
            if ended or (waiting and asyncio.get_running_loop().time() > deadline):
                log = await self.log(name, LOG_LINES) if container else ""
                what = "ended at once" if ended else f"does not listen on {min(waiting)}"
                if container is not None and ended:
                    await asyncio.to_thread(container.stop, timeout=0)
                raise ProcessError(f"{name} {what}. Its last lines:\n{log}")
            await asyncio.sleep(POLL_SECONDS)

    async def stop(self, name: str) -> None:
        """Stop one, and start it no more."""
        container = await self._require(name)
        await asyncio.to_thread(container.stop, timeout=STOP_SECONDS)

    async def remove(self, name: str) -> None:
        """Stop one and forget it."""
        await asyncio.to_thread(_remove, await self._require(name))

    async def restart(self, name: str) -> None:
        """Stop one and start it again; returns when it listens."""
        container = await self._require(name)
        await asyncio.to_thread(container.restart, timeout=STOP_SECONDS)
        published = container.attrs["HostConfig"]["PortBindings"] or {}
        await self._until_ready(name, [int(binding[0]["HostPort"]) for binding in published.values()])

    async def states(self) -> Mapping[str, ProcessState]:
        """All processes by name, running or not."""
        return {container.labels[PROCESS_LABEL]: _state(container) for container in await asyncio.to_thread(self._list)}

    async def log(self, name: str, lines: int) -> str:
        """The last lines that a process wrote to its standard output and error."""
        container = await self._require(name)
        output: bytes = await asyncio.to_thread(container.logs, tail=lines)
        return output.decode(errors="replace")

    async def abandon(self) -> None:
        """Remove everything if this process began it and did not say `keep`."""
        if self._reaper is not None:
            await self.close()

    async def close(self) -> None:
        """Remove the network's containers, their volumes and their network."""
        await self._remove_everything()
        await asyncio.to_thread(self._dismiss_reaper)

    async def _require(self, name: str) -> Container:
        container = await asyncio.to_thread(self._find, name)
        if container is None:
            known = ", ".join(sorted(await self.states()))
            raise ProcessError(f"there is no process {name}; the network runs {known or 'none'}")
        return container

    @property
    def _network(self) -> str:
        return f"fedfabric-{self._label}"

    def _name(self, process: str) -> str:
        return f"fedfabric-{self._label}-{process}"

    def _find(self, process: str) -> Container | None:
        try:
            return self._engine.containers.get(self._name(process))
        except NotFound:
            return None

    def _list(self) -> list[Container]:
        # A container may go while its details are asked for.
        return list(
            self._engine.containers.list(
                all=True, filters={"label": f"{HOME_LABEL}={self._label}"}, ignore_removed=True
            )
        )

    def _create_network(self) -> None:
        self._engine.networks.create(self._network, labels={HOME_LABEL: self._label}, check_duplicate=True)

    async def _remove_everything(self) -> None:
        containers = await asyncio.to_thread(self._list)
        await asyncio.gather(*(asyncio.to_thread(_remove, container) for container in containers))
        await asyncio.to_thread(self._remove_network)

    def _remove_network(self) -> None:
        for network in self._engine.networks.list(filters={"label": f"{HOME_LABEL}={self._label}"}):
            with contextlib.suppress(NotFound):
                network.remove()

    def _hire_reaper(self) -> None:
        self._reaper = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self._home)], stdin=subprocess.PIPE, start_new_session=True
        )

    def _dismiss_reaper(self) -> None:
        if self._reaper is not None and self._reaper.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._reaper.stdin.write(KEEP)
                self._reaper.stdin.flush()
            self._reaper.stdin.close()
            self._reaper.wait()
            self._reaper = None


def _remove(container: Container) -> None:
    with contextlib.suppress(NotFound):
        container.remove(force=True, v=True)


def _state(container: Container) -> ProcessState:
    state = container.attrs["State"]
    last_exit = None
    if not state["FinishedAt"].startswith("0001"):
        finished = datetime.datetime.fromisoformat(state["FinishedAt"][:19]).replace(tzinfo=datetime.UTC)
        last_exit = f"exit code {state['ExitCode']} at {finished.isoformat()}"
    return ProcessState(
        name=container.labels[PROCESS_LABEL],
        running=bool(state["Running"]) and not state["Restarting"],
        pid=state["Pid"] or None,
        restarts=container.attrs["RestartCount"],
        last_exit=last_exit,
    )


def _digest(process: ProcessSpec) -> str:
    """What must be equal for a running container to be left alone; a digest, since the environment holds secrets."""
    description = json.dumps([process.command, sorted(process.environment.items()), str(process.folder), process.ports])
    return hashlib.sha256(description.encode()).hexdigest()


def _listens(port: int) -> bool:
    """Whether a server, and not only the engine's proxy, accepts at a published port.

    The proxy accepts at once and hangs up when nobody listens behind it; a server waits for the client's first bytes.
    """
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), PROBE_SECONDS) as connection:
        connection.settimeout(PROBE_SECONDS)
        try:
            return bool(connection.recv(1))
        except TimeoutError:
            return True
    return False


def reap(home: Path, orders: IO[bytes]) -> None:
    """Wait for the end of `orders`; unless it said `KEEP`, remove the network's containers."""
    if orders.readline() != KEEP:
        runtime = DockerRuntime(home)
        asyncio.run(runtime.close())


if __name__ == "__main__":
    reap(Path(sys.argv[1]), sys.stdin.buffer)
