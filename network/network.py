"""A Fabric network as a value: `async with Network(spec, home=folder) as network`."""

import asyncio
import datetime
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, get_args

from pydantic import ValidationError

from . import deployment, founding, onboarding
from .connections import Connections, connected
from .errors import OnboardingError, ProcessError, SpecificationError, StateError
from .founding import ADMIN, GENESIS, Layout
from .identities import ROLE_ATTRIBUTE, Credentials
from .native import NativeRuntime
from .observation import NetworkStatus, observe
from .processes import SERVER_PORTS, Place, server_name
from .runtime import LOOPBACK, ProcessState, Progress, Runtime
from .specification import USER_NAME, ChaincodeSpec, NetworkSpec, OrganisationSpec, Role
from .state import FILE, NetworkState, allocate_ports, operation
from .together import settled, together

Clock = Callable[[], datetime.datetime]


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _checked(spec: NetworkSpec, **changes: object) -> NetworkSpec:
    """The network with changes, checked as a whole."""
    try:
        return NetworkSpec.model_validate({**dict(spec), **changes})
    except ValidationError as error:
        problems = "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        raise SpecificationError(problems) from error


def make_runtime(name: str, home: Path) -> Runtime:
    """The runtime of a name.

    Raises:
        SpecificationError: there is none of that name.
    """
    if name == "native":
        return NativeRuntime(home)
    if name == "docker":
        try:
            from .docker import DockerRuntime  # noqa: PLC0415 (an extra)
        except ImportError as error:
            raise SpecificationError(
                f"the runtime docker needs the package {error.name}: pip install 'fedfabric[docker]', or use native"
            ) from error
        return DockerRuntime(home)
    raise SpecificationError(f"there is no runtime {name}: name native or docker")


@dataclass(frozen=True)
class Organisation:
    """A member as its users need it: where its peer is and whom to trust there."""

    name: str
    msp_id: str
    peer_endpoint: str
    """`127.0.0.1:port` of its first peer's Gateway service, "" if it runs no peer."""
    peer_tls_ca: Path
    """The TLS authority's certificate (PEM)."""
    ca: Path
    """The signing authority's certificate (PEM)."""
    peers: tuple[str, ...]
    """`127.0.0.1:port` of every peer."""
    orderers: tuple[str, ...]
    """`127.0.0.1:port` of every orderer."""
    gateway_endpoint: str
    """`127.0.0.1:port` set aside for the organisation's fedfabric gateway."""


class Network:
    """A network in its folder `home`; nothing happens before `up` or `async with`.

    `async with` brings it up for the block alone: it is taken down at the end, and if this process dies before.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        *,
        home: Path,
        runtime: str = "native",
        progress: Progress = lambda _line: None,
        clock: Clock = _now,
    ) -> None:
        self._spec = spec
        self.home = home.absolute()
        self._runtime_name = runtime
        self._runtime = make_runtime(runtime, self.home)
        self._progress = progress
        self._clock = clock
        self._state: NetworkState | None = None

    @classmethod
    def open(cls, home: Path, *, clock: Clock = _now) -> "Network":
        """The network that was founded in a folder.

        Raises:
            StateError: there is none.
        """
        state = NetworkState.load(home.absolute())
        if state is None:
            raise StateError(f"there is no network in {home}: bring one up with 'network up'")
        network = cls(state.founding, home=home, runtime=state.runtime, clock=clock)
        network._state = state
        return network

    async def __aenter__(self) -> Self:
        await self.up(keep=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.down()

    @property
    def state(self) -> NetworkState:
        """What the network remembers.

        Raises:
            StateError: it has not been brought up yet.
        """
        if self._state is None:
            raise StateError(f"the network in {self.home} has not been brought up: call 'up' first")
        return self._state

    @property
    def spec(self) -> NetworkSpec:
        """The network as it is now, organisations that joined included."""
        return self._state.spec if self._state else self._spec

    @property
    def runtime(self) -> Runtime:
        """Where its processes run."""
        return self._runtime

    @property
    def layout(self) -> Layout:
        """Where everything of it lies and listens."""
        return Layout(self.home, self.state, self._runtime)

    @property
    def channel_name(self) -> str:
        """The channel."""
        return self.spec.channel

    @property
    def chaincode_name(self) -> str:
        """The first chaincode, which is the network's main one."""
        return self.spec.chaincodes[0].name

    @property
    def genesis_block_path(self) -> Path:
        """The channel's genesis block."""
        return self.home / GENESIS

    @property
    def organisations(self) -> Mapping[str, Organisation]:
        """All members by name."""
        return {organisation.name: self._organisation(organisation) for organisation in self.spec.organisations}

    async def up(self, progress: Progress | None = None, *, keep: bool = True) -> None:
        """Bring the network up, or complete and adopt what is there; returns after a committed transaction.

        With `keep` it outlives this process; if bringing it up fails or is interrupted, what this call started ends.

        Raises:
            NetworkError: says what went wrong and what to do.
        """
        say = progress or self._progress
        with operation(self.home):
            try:
                await self._up(say)
                if keep:
                    await self._runtime.keep()
            except BaseException:
                await self._undo()
                raise

    async def _up(self, say: Progress) -> None:
        await self._runtime.prepare(say)
        state = NetworkState.load(self.home)
        if state is None or not state.founded:  # an interrupted founding binds nobody
            state = NetworkState(runtime=self._runtime_name, founding=self._spec, spec=self._spec)
        else:
            state.require_same(self._spec, self._runtime_name, self.home)
        if not state.founded:
            names = [
                name for one in state.spec.organisations for name in founding.port_names(one, state.spec.chaincodes)
            ]
            state = state.model_copy(update={"ports": allocate_ports(names)})
            state.save(self.home)
            say(f"founding {state.spec.name}: certificates and genesis block")
            layout = Layout(self.home, state, self._runtime)
            _, fresh = await settled(asyncio.to_thread(founding.found, layout, self._clock()), self._runtime.open())
            state = state.model_copy(update={"founded": True})
            state.save(self.home)
        else:
            fresh = await self._runtime.open()
            for organisation in state.spec.organisations:  # folder and cache may have moved
                founding.found_configuration(Layout(self.home, state, self._runtime), organisation)
        self._state = state
        layout = self.layout
        for organisation in state.spec.organisations:  # a deployment may have been interrupted
            founding.found_servers(layout, organisation, self._clock())
            founding.found_trust(layout, organisation)
        say("starting processes" if fresh else "adopting what runs, and starting what does not")
        processes = [process for one in state.spec.organisations for process in layout.processes(one)]
        await self._runtime.start(processes)
        async with connected(layout) as connections:
            say(f"joining the channel {state.spec.channel}")
            await deployment.join_all(layout, connections)
            if state.joining is not None:
                say(f"taking {state.joining.name} out of the channel, whose joining was interrupted")
                await onboarding.withdraw(layout, connections, state.joining)
                await self._forget(state.joining, state.model_copy(update={"joining": None}))
            say("agreeing on chaincode " + ", ".join(one.name for one in state.spec.chaincodes))
            await together(deployment.define(layout, connections, one) for one in state.spec.chaincodes)
            say("committing the first transaction")
            await self._prove_all(layout, connections, state.spec.chaincodes)
        for organisation in state.spec.organisations:
            for user in organisation.users:
                await self.enrol(organisation.name, user.name, role=user.role)

    async def _prove_all(self, layout: Layout, connections: Connections, chaincodes: Sequence[ChaincodeSpec]) -> None:
        members = [one for one in layout.state.spec.organisations if one.peers]
        expected = frozenset(one.msp_id for one in members)
        await together(
            deployment.prove(layout, connections, one, expected=expected, chaincodes=chaincodes) for one in members
        )

    async def _require_running(self, *, all_of_it: bool) -> None:
        states = await self._runtime.states()
        stopped = [state.name for state in states.values() if not state.running]
        if not states or (all_of_it and stopped):
            raise ProcessError(
                f"the network in {self.home} is not up ({', '.join(stopped) or 'nothing runs'}): 'network up' first"
            )

    def _with_ports(self, state: NetworkState, names: Iterable[str]) -> NetworkState:
        missing = [name for name in names if name not in state.ports]
        return state.model_copy(update={"ports": {**state.ports, **allocate_ports(missing, state.ports.values())}})

    async def _forget(self, newcomer: OrganisationSpec, before: NetworkState) -> None:
        """Remove what an organisation that did not join has left: its processes and files."""
        organisations = tuple(one for one in before.spec.organisations if one.name != newcomer.name)
        described = {"spec": before.spec.model_copy(update={"organisations": (*organisations, newcomer)})}
        layout = Layout(self.home, self.state.model_copy(update=described), self._runtime)
        states = await self._runtime.states()
        for process in layout.processes(newcomer):
            if process.name in states:
                await self._runtime.remove(process.name)
            shutil.rmtree(process.folder, ignore_errors=True)
        shutil.rmtree(founding.organisation_folder(self.home, newcomer.name), ignore_errors=True)
        self._state = before
        before.save(self.home)

    async def _withdraw(self, servers: Sequence[str], before: NetworkState) -> None:
        """Take down the servers of a chaincode that was not agreed on."""
        states = await self._runtime.states()
        for name in servers:
            if name in states:
                await self._runtime.remove(name)
        self._state = before
        before.save(self.home)

    async def _undo(self) -> None:
        """End what this process alone began; a network that others rely on stays."""
        await asyncio.shield(asyncio.ensure_future(self._runtime.abandon()))

    async def down(self, *, wipe: bool = False) -> None:
        """Stop what `up` started, and nothing else; with `wipe` also remove the network's folder.

        Raises:
            StateError: the folder to be removed holds something else than a network.
        """
        if not self.home.is_dir():
            return
        if wipe and not (self.home / FILE).exists():
            NetworkState.load(self.home)  # raises when it is somebody else's
        with operation(self.home):
            await self._runtime.close()
            if wipe:
                await asyncio.to_thread(shutil.rmtree, self.home)
                self._state = None

    async def enrol(
        self, organisation: str, name: str, role: Role | str = "scientist", *, hosts: Iterable[str] = ()
    ) -> Credentials:
        """Give a person or program a certificate of its organisation with a role, or return what it has.

        With `hosts` it also gets a TLS server's certificate for these names and addresses.

        Raises:
            SpecificationError: there is no such organisation or role, the name is not one, or has another role.
        """
        described = self.spec.organisation(organisation)
        if role not in get_args(Role):
            raise SpecificationError(f"there is no role {role}: name one of {', '.join(get_args(Role))}")
        if not USER_NAME.fullmatch(name) or name == ADMIN:
            raise SpecificationError(
                f"{name!r} is no user's name: take letters, digits and . _ -, a letter or digit first, and not {ADMIN}"
            )
        present = founding.credentials(self.home, described, name)
        hosts = tuple(hosts)
        if present.certificate_path.exists():
            held = present.identity().attributes().get(ROLE_ATTRIBUTE)
            if held != role:
                raise SpecificationError(f"{name} of {organisation} has the role {held}: enrol another name as {role}")
            if present.tls_certificate_path is not None or not hosts:
                return present
        return await asyncio.to_thread(
            founding.enrol, self.home, described, name, self._clock(), kind="client", role=role, hosts=hosts
        )

    async def add_organisation(self, newcomer: OrganisationSpec, progress: Progress | None = None) -> None:
        """Take an organisation into the running channel, and return after a transaction that it endorsed.

        Raises:
            OnboardingError: it could not join; the channel is as it was before.
            SpecificationError: it has orderers, no peers, or a name that is taken.
        """
        say = progress or self._progress
        if newcomer.orderers or not newcomer.peers:
            raise SpecificationError(
                f"organisation {newcomer.name} can join with peers and without orderers: set 'peers: 1' and no orderers"
            )
        with operation(self.home):
            await self._runtime.prepare(say)
            await self._require_running(all_of_it=False)
            before = self.state
            if before.joining is not None:
                raise ProcessError(f"the joining of {before.joining.name} was interrupted: 'network up' first")
            grown = _checked(before.spec, organisations=(*before.spec.organisations, newcomer))
            begun = self._with_ports(before, founding.port_names(newcomer, grown.chaincodes))
            # Should this process die now, the next `up` takes the newcomer out again.
            begun.model_copy(update={"joining": newcomer}).save(self.home)
            self._state = begun.model_copy(update={"spec": grown})
            try:
                founding.found_organisation(self.layout, newcomer, self._clock())
                founding.found_trust(self.layout, newcomer)
                await onboarding.onboard(self.layout, newcomer, say)
                self._state.save(self.home)
            except BaseException as error:
                stuck = isinstance(error, OnboardingError) and not error.undone
                after = before.model_copy(update={"joining": newcomer if stuck else None})
                await asyncio.shield(asyncio.ensure_future(self._forget(newcomer, after)))
                raise

    async def deploy(self, chaincode: ChaincodeSpec, progress: Progress | None = None) -> None:
        """Bring one more chaincode onto the running network; one that is there as described is left alone.

        Raises:
            SpecificationError: another chaincode of that name is there.
        """
        say = progress or self._progress
        with operation(self.home):
            if chaincode in self.spec.chaincodes:
                return
            await self._runtime.prepare(say)
            await self._require_running(all_of_it=True)
            before = self.state
            grown = _checked(before.spec, chaincodes=(*before.spec.chaincodes, chaincode))
            members = [one for one in grown.organisations if one.peers]
            servers = [server_name(chaincode.name, one.name) for one in members]
            names = [f"{name}:{purpose}" for name in servers for purpose in SERVER_PORTS]
            # Peers keep a server's address with the package that they install, so its port stays with its name.
            begun = self._with_ports(before, names)
            self._state = begun.model_copy(update={"spec": grown})
            self._state.save(self.home)
            layout = self.layout
            agreed = False
            try:
                say(f"starting {', '.join(servers)}")
                for one in members:
                    founding.found_servers(layout, one, self._clock())
                await self._runtime.start([each for one in members for each in layout.processes(one)])
                async with connected(layout) as connections:
                    places = [place for one in members for place in layout.peers(one)]
                    await together(deployment.install(layout, connections, place) for place in places)
                    await deployment.define(layout, connections, chaincode)
                    agreed = True
                    await self._prove_all(layout, connections, (chaincode,))
            except BaseException:
                if not agreed:
                    await asyncio.shield(asyncio.ensure_future(self._withdraw(servers, begun)))
                raise

    def administrator(self, organisation: str) -> Credentials:
        """The organisation's administrator, who signs changes of the channel."""
        return founding.credentials(self.home, self.spec.organisation(organisation), ADMIN)

    async def status(self) -> NetworkStatus:
        """How every process fares, with block heights, clocks and what is wrong."""
        return await observe(self.layout)

    async def process(self, name: str) -> ProcessState:
        """How one process fares.

        Raises:
            ProcessError: there is no such process.
        """
        states = await self._runtime.states()
        if name not in states:
            raise ProcessError(f"there is no process {name}; the network runs {', '.join(sorted(states)) or 'none'}")
        return states[name]

    async def restart(self, name: str) -> None:
        """Stop a process and start it again; returns when it listens."""
        await self._runtime.restart(name)

    async def stop(self, name: str) -> None:
        """Stop a process and leave it stopped; `restart` or `up` starts it again."""
        await self._runtime.stop(name)

    async def log(self, name: str, lines: int = 100) -> str:
        """The last lines that a process wrote."""
        return await self._runtime.log(name, lines)

    def _organisation(self, organisation: OrganisationSpec) -> Organisation:
        layout = self.layout
        folder = founding.organisation_folder(self.home, organisation.name)

        def reached(place: Place) -> str:
            return f"{LOOPBACK}:{place.ports['listen']}"

        peers = tuple(map(reached, layout.peers(organisation)))
        gateway = self.state.ports.get(f"gateway.{organisation.name}:listen")
        return Organisation(
            name=organisation.name,
            msp_id=organisation.msp_id,
            peer_endpoint=peers[0] if peers else "",
            peer_tls_ca=folder / "tlsca" / founding.CERTIFICATE,
            ca=folder / "ca" / founding.CERTIFICATE,
            peers=peers,
            orderers=tuple(map(reached, layout.orderers(organisation))),
            gateway_endpoint=f"{LOOPBACK}:{gateway}" if gateway else "",
        )
