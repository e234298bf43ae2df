"""Founding: certificates of all members, the folders that processes read, and the genesis block.

Folder of a network (`home`): ``organisations/NAME/{ca,tlsca}`` authorities, ``organisations/NAME/users/USER``
certificates and keys, ``processes/PROCESS`` what one process reads and writes, ``genesis.block``, ``logs``,
``state.json``.
"""

import contextlib
import datetime
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from ..fabric import configuration
from ..fabric.configuration import Endpoint, Membership, genesis_block
from ..fabric.packages import ChaincodePackage, ccaas_package
from .errors import StateError
from .identities import ROLE_ATTRIBUTE, Authorities, Credentials, Issued, Kind, write_private
from .processes import (
    ORDERER_PORTS,
    PEER_PORTS,
    SERVER_PORTS,
    Place,
    orderer_name,
    orderer_process,
    package_label,
    peer_name,
    peer_process,
    server_name,
    server_process,
    write_chaincode_addresses,
    write_configuration,
    write_members,
    write_orderer,
    write_peer,
    write_tls,
)
from .runtime import LOOPBACK, ProcessSpec, Runtime
from .specification import ChaincodeSpec, OrganisationSpec
from .state import NetworkState

GENESIS = "genesis.block"
ADMIN = "admin"
CERTIFICATE = "certificate.pem"
KEY = "key.pem"


def organisation_folder(home: Path, organisation: str) -> Path:
    """Where an organisation's authorities and users lie."""
    return home / "organisations" / organisation


def port_names(organisation: OrganisationSpec, chaincodes: Iterable[ChaincodeSpec]) -> Iterator[str]:
    """The ports that an organisation's processes need, as `PROCESS:PURPOSE`."""
    for number in range(organisation.orderers):
        yield from (f"{orderer_name(organisation.name, number)}:{purpose}" for purpose in ORDERER_PORTS)
    for number in range(organisation.peers):
        yield from (f"{peer_name(organisation.name, number)}:{purpose}" for purpose in PEER_PORTS)
    if organisation.peers:
        for chaincode in chaincodes:
            yield from (f"{server_name(chaincode.name, organisation.name)}:{purpose}" for purpose in SERVER_PORTS)
        yield f"gateway.{organisation.name}:listen"


class Layout:
    """Where everything of one network lies and listens: its folder, its state and its runtime, put together."""

    def __init__(self, home: Path, state: NetworkState, runtime: Runtime) -> None:
        self.home = home
        self.state = state
        self.runtime = runtime

    def place(self, name: str, organisation: OrganisationSpec) -> Place:
        """A process's name, organisation and ports."""
        prefix = f"{name}:"
        ports = {key.removeprefix(prefix): port for key, port in self.state.ports.items() if key.startswith(prefix)}
        return Place(name, organisation, ports)

    def orderers(self, organisation: OrganisationSpec) -> list[Place]:
        """An organisation's orderers."""
        return [
            self.place(orderer_name(organisation.name, number), organisation) for number in range(organisation.orderers)
        ]

    def peers(self, organisation: OrganisationSpec) -> list[Place]:
        """An organisation's peers."""
        return [self.place(peer_name(organisation.name, number), organisation) for number in range(organisation.peers)]

    def server(self, organisation: OrganisationSpec, chaincode: ChaincodeSpec) -> Place:
        """An organisation's server of a chaincode."""
        return self.place(server_name(chaincode.name, organisation.name), organisation)

    def address(self, place: Place, purpose: str = "listen") -> Endpoint:
        """Where the network's other processes reach a process."""
        return Endpoint(self.runtime.host(place.name), place.ports[purpose])

    def processes(self, organisation: OrganisationSpec) -> list[ProcessSpec]:
        """Everything that an organisation runs."""
        spec, home, runtime = self.state.spec, self.home, self.runtime
        found = [orderer_process(home, runtime, place) for place in self.orderers(organisation)]
        found += [peer_process(home, runtime, place, spec) for place in self.peers(organisation)]
        settings = {
            "FEDFABRIC_FOUNDERS": ",".join(one.msp_id for one in self.state.founding.organisations if one.peers),
            "FEDFABRIC_WINDOW_MS": str(spec.window_ms),
        }
        if organisation.peers:
            found += [
                server_process(
                    home,
                    runtime,
                    self.server(organisation, chaincode),
                    chaincode,
                    package_id=package(chaincode).package_id,
                    settings=settings,
                )
                for chaincode in spec.chaincodes
            ]
        return found

    def channel_organisation(self, organisation: OrganisationSpec) -> configuration.Organisation:
        """The organisation as the channel's configuration describes it."""
        authorities = Authorities.load(organisation_folder(self.home, organisation.name))
        return configuration.Organisation(
            Membership(organisation.msp_id, (authorities.signing.certificate,), (authorities.tls.certificate,)),
            tuple(self.address(place) for place in self.peers(organisation)[:1]),
            tuple(self.address(place) for place in self.orderers(organisation)),
        )

    def channel(self) -> configuration.Channel:
        """The channel as its genesis block will describe it."""
        spec = self.state.spec
        places = [place for organisation in spec.organisations for place in self.orderers(organisation)]
        consenters = tuple(
            configuration.Consenter(
                number,
                self.address(place),
                place.organisation.msp_id,
                (place.folder(self.home) / "msp" / "signcerts" / CERTIFICATE).read_bytes(),
                *[(place.folder(self.home) / "tls" / "server.crt").read_bytes()] * 2,
            )
            for number, place in enumerate(places, start=1)
        )
        return configuration.Channel(
            name=spec.channel,
            applications=tuple(self.channel_organisation(one) for one in spec.organisations if one.peers),
            orderers=tuple(self.channel_organisation(one) for one in spec.organisations if one.orderers),
            consensus=configuration.Bft(consenters)
            if spec.ordering.type == "bft"
            else configuration.Raft(consenters, tick_ms=spec.ordering.tick_ms),
            batch=configuration.Batch(
                spec.ordering.batch_timeout_ms,
                spec.ordering.max_messages,
                spec.ordering.absolute_max_bytes,
                spec.ordering.preferred_max_bytes,
            ),
        )


def package(chaincode: ChaincodeSpec) -> ChaincodePackage:
    """The package of a chaincode, the same for every organisation."""
    return ccaas_package(package_label(chaincode))


def found_organisation(layout: Layout, organisation: OrganisationSpec, now: datetime.datetime) -> None:
    """Create an organisation's authorities and administrator, and write all that its processes read."""
    home = layout.home
    folder = organisation_folder(home, organisation.name)
    authorities = Authorities.create(organisation.name, now)
    authorities.save(folder)
    enrol(home, organisation, ADMIN, now, kind="admin", role="operator", hosts=())
    for place in layout.orderers(organisation):
        member = authorities.signing.issue(place.name, now, kind="orderer")
        server = authorities.tls.issue(place.name, now, hosts=_hosts(layout, place))
        write_orderer(place.folder(home), authorities, member, server)
    for place in layout.peers(organisation):
        member = authorities.signing.issue(place.name, now, kind="peer")
        server = authorities.tls.issue(place.name, now, hosts=_hosts(layout, place))
        write_peer(place.folder(home), authorities, member, server)
    found_configuration(layout, organisation)
    found_servers(layout, organisation, now)


def found_configuration(layout: Layout, organisation: OrganisationSpec) -> None:
    """Write what Fabric's processes are configured by: the runtime's files, and where its external builder lies now."""
    for place in layout.orderers(organisation):
        write_configuration(place.folder(layout.home), layout.runtime, peer=False)
    for place in layout.peers(organisation):
        write_configuration(place.folder(layout.home), layout.runtime, peer=True)


def found_servers(layout: Layout, organisation: OrganisationSpec, now: datetime.datetime) -> None:
    """Write what an organisation's chaincode servers read, and their addresses for its peers.

    Certificates that are there stay, so that it can be done again whenever a chaincode is added.
    """
    if not organisation.peers:
        return
    home = layout.home
    authorities = Authorities.load(organisation_folder(home, organisation.name))
    addresses = {
        package_label(chaincode): str(layout.address(layout.server(organisation, chaincode)))
        for chaincode in layout.state.spec.chaincodes
    }
    for place in layout.peers(organisation):
        client = authorities.tls.issue(f"{place.name}-chaincode-client", now)
        write_chaincode_addresses(place.folder(home), authorities, client, addresses)
    for chaincode in layout.state.spec.chaincodes:
        place = layout.server(organisation, chaincode)
        folder = place.folder(home) / "tls"
        if not folder.exists():
            write_tls(folder, authorities, authorities.tls.issue(place.name, now, hosts=_hosts(layout, place)))


def found_trust(layout: Layout, organisation: OrganisationSpec) -> None:
    """Write whose TLS authorities an organisation's peers trust from their start: every member's, as of now.

    A peer dials the anchor peers while it joins a channel, a moment before it takes their authorities from the
    channel's configuration (Fabric's `core/peer/peer.go`, the order of createChannel's callbacks).
    """
    members = [one for one in layout.state.spec.organisations if one.peers]
    authorities = [(organisation_folder(layout.home, one.name) / "tlsca" / CERTIFICATE).read_bytes() for one in members]
    for place in layout.peers(organisation):
        write_members(place.folder(layout.home), authorities)


def found(layout: Layout, now: datetime.datetime) -> None:
    """Write everything that the network starts from; what an interrupted founding left is made anew."""
    home = layout.home
    for leftover in ("organisations", "processes", GENESIS):
        path = home / leftover
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for organisation in layout.state.spec.organisations:
        found_organisation(layout, organisation, now)
    block = genesis_block(layout.channel())
    write_private(home / GENESIS, block.SerializeToString(), 0o644)


def enrol(
    home: Path,
    organisation: OrganisationSpec,
    name: str,
    now: datetime.datetime,
    *,
    kind: Kind,
    role: str,
    hosts: Collection[str],
) -> Credentials:
    """Issue a member's certificate (and with `hosts` a TLS server's certificate), and write both with their keys."""
    authorities = Authorities.load(organisation_folder(home, organisation.name))
    folder = organisation_folder(home, organisation.name) / "users" / name
    folder.parent.mkdir(exist_ok=True, mode=0o700)
    attributes = {ROLE_ATTRIBUTE: role}
    _place(folder, authorities.signing.issue(name, now, kind=kind, attributes=attributes))
    if hosts or kind == "admin":
        _place(folder / "tls", authorities.tls.issue(name, now, hosts=hosts))
    return credentials(home, organisation, name)


def _place(folder: Path, issued: Issued) -> None:
    """Write certificate and key so that the folder appears with both; whoever comes second finds the first's."""
    if folder.exists():
        return
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        write_private(staging / KEY, issued.key)
        write_private(staging / CERTIFICATE, issued.certificate, 0o644)
        with contextlib.suppress(OSError):  # a folder that is there and not empty is not replaced
            staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if not folder.exists():
        raise StateError(f"{folder} cannot be written: see whether its disk is full")


def credentials(home: Path, organisation: OrganisationSpec, name: str) -> Credentials:
    """Where an enrolled member's certificates and keys lie."""
    folder = organisation_folder(home, organisation.name) / "users" / name
    tls = folder / "tls" / CERTIFICATE
    return Credentials(
        organisation.msp_id,
        name,
        folder / CERTIFICATE,
        folder / KEY,
        tls if tls.exists() else None,
        folder / "tls" / KEY if tls.exists() else None,
    )


def _hosts(layout: Layout, place: Place) -> Iterable[str]:
    return dict.fromkeys((place.name, layout.runtime.host(place.name), LOOPBACK, "localhost"))
