"""A network's processes as values: which program, with which settings, in which folder.

Everything that a process reads is written below its own folder first; its settings travel as Fabric's environment
variables, which override core.yaml and orderer.yaml.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .identities import Authorities, Issued, write_msp, write_private
from .runtime import ProcessSpec, Runtime
from .specification import ChaincodeSpec, NetworkSpec, OrganisationSpec

PEER_PORTS = ("listen", "chaincode", "operations")
ORDERER_PORTS = ("listen", "admin", "operations")
SERVER_PORTS = ("listen",)
_LOGGING = {
    "FABRIC_LOGGING_SPEC": "warning:grpc=error",
    # Fabric's own format without its colours.
    "FABRIC_LOGGING_FORMAT": "%{time:2006-01-02 15:04:05.000 MST} %{level:.4s} [%{module}] %{shortfunc} -> %{message}",
}
_BUILDER_FILE = "ccaas.json"
_MEMBERS_FILE = "tls/members.crt"


@dataclass(frozen=True)
class Place:
    """A process's name, organisation and ports, from which its addresses follow."""

    name: str
    organisation: OrganisationSpec
    ports: Mapping[str, int]

    def folder(self, home: Path) -> Path:
        """Where the process reads and writes."""
        return home / "processes" / self.name


def peer_name(organisation: str, number: int) -> str:
    """The name of an organisation's peer, counted from 0."""
    return f"peer{number}.{organisation}"


def orderer_name(organisation: str, number: int) -> str:
    """The name of an organisation's orderer, counted from 0."""
    return f"orderer{number}.{organisation}"


def server_name(chaincode: str, organisation: str) -> str:
    """The name of an organisation's chaincode server."""
    return f"chaincode-{chaincode}.{organisation}"


def package_label(chaincode: ChaincodeSpec) -> str:
    """The label of a chaincode's package, which begins its id."""
    return f"{chaincode.name}_{chaincode.version}"


def write_tls(folder: Path, authorities: Authorities, server: Issued) -> None:
    """Write a server's TLS certificate, key and trusted root."""
    write_private(folder / "server.crt", server.certificate, 0o644)
    write_private(folder / "server.key", server.key)
    write_private(folder / "ca.crt", authorities.tls.certificate, 0o644)


def write_peer(folder: Path, authorities: Authorities, member: Issued, server: Issued) -> None:
    """Write what a peer reads, except for `write_chaincode_addresses`."""
    write_msp(folder / "msp", authorities, member)
    write_tls(folder / "tls", authorities, server)
    (folder / "data").mkdir(exist_ok=True)


def write_chaincode_addresses(
    folder: Path, authorities: Authorities, client: Issued, addresses: Mapping[str, str]
) -> None:
    """Write what a peer's external builder fills in: the servers' `addresses` by package label, and the certificate
    that shows the peer to them, `client` if it has none yet.
    """
    path = folder / _BUILDER_FILE
    values = {
        "root_cert": authorities.tls.certificate.decode(),
        "client_cert": client.certificate.decode(),
        "client_key": client.key.decode(),
        **(json.loads(path.read_bytes()) if path.exists() else {}),
        **{f"{label}/address": address for label, address in addresses.items()},
    }
    write_private(path, json.dumps(values).encode())


def write_members(folder: Path, authorities: Iterable[bytes]) -> None:
    """Write the TLS authorities that a peer trusts in other peers before a channel's configuration has told it."""
    write_private(folder / _MEMBERS_FILE, b"".join(authorities), 0o644)


def write_orderer(folder: Path, authorities: Authorities, member: Issued, server: Issued) -> None:
    """Write what an orderer reads."""
    write_msp(folder / "msp", authorities, member)
    write_tls(folder / "tls", authorities, server)
    (folder / "data").mkdir(exist_ok=True)


def write_configuration(folder: Path, runtime: Runtime, *, peer: bool) -> None:
    """Write core.yaml or orderer.yaml: Fabric's own, and for a peer with our external builder, a list."""
    name = "core.yaml" if peer else "orderer.yaml"
    source = (runtime.configuration / name).read_bytes()
    if peer:
        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        settings = yaml.load(source, loader)  # noqa: S506 (a safe loader, in C where it is there)
        settings["chaincode"]["externalBuilders"] = [
            {
                "name": "ccaas",
                "path": runtime.builder,
                "propagateEnvironment": ["CHAINCODE_AS_A_SERVICE_BUILDER_CONFIG"],
            }
        ]
        settings["vm"]["endpoint"] = ""
        source = yaml.dump(settings, Dumper=dumper).encode()
    write_private(folder / name, source, 0o644)


def orderer_process(home: Path, runtime: Runtime, place: Place) -> ProcessSpec:
    """An orderer, without a system channel; channels are joined by its admin port."""
    folder = place.folder(home)
    inside = runtime.inside(folder)
    server = {"CERTIFICATE": f"{inside}/tls/server.crt", "PRIVATEKEY": f"{inside}/tls/server.key"}
    roots = f"[{inside}/tls/ca.crt]"
    return ProcessSpec(
        name=place.name,
        kind="orderer",
        command=("orderer",),
        folder=folder,
        ports=tuple(place.ports.values()),
        environment={
            "FABRIC_CFG_PATH": inside,
            **_LOGGING,
            "ORDERER_GENERAL_LISTENADDRESS": runtime.listen,
            "ORDERER_GENERAL_LISTENPORT": str(place.ports["listen"]),
            "ORDERER_GENERAL_LOCALMSPID": place.organisation.msp_id,
            "ORDERER_GENERAL_LOCALMSPDIR": f"{inside}/msp",
            "ORDERER_GENERAL_BOOTSTRAPMETHOD": "none",
            "ORDERER_GENERAL_TLS_ENABLED": "true",
            **{f"ORDERER_GENERAL_TLS_{name}": value for name, value in server.items()},
            "ORDERER_GENERAL_TLS_ROOTCAS": roots,
            "ORDERER_GENERAL_CLUSTER_CLIENTCERTIFICATE": server["CERTIFICATE"],
            "ORDERER_GENERAL_CLUSTER_CLIENTPRIVATEKEY": server["PRIVATEKEY"],
            "ORDERER_GENERAL_CLUSTER_ROOTCAS": roots,
            "ORDERER_CHANNELPARTICIPATION_ENABLED": "true",
            "ORDERER_ADMIN_LISTENADDRESS": f"{runtime.listen}:{place.ports['admin']}",
            "ORDERER_ADMIN_TLS_ENABLED": "true",
            **{f"ORDERER_ADMIN_TLS_{name}": value for name, value in server.items()},
            "ORDERER_ADMIN_TLS_CLIENTAUTHREQUIRED": "true",
            "ORDERER_ADMIN_TLS_CLIENTROOTCAS": roots,
            "ORDERER_OPERATIONS_LISTENADDRESS": f"{runtime.listen}:{place.ports['operations']}",
            "ORDERER_FILELEDGER_LOCATION": f"{inside}/data/ledger",
            "ORDERER_CONSENSUS_WALDIR": f"{inside}/data/wal",
            "ORDERER_CONSENSUS_SNAPDIR": f"{inside}/data/snapshots",
        },
    )


def peer_process(home: Path, runtime: Runtime, place: Place, spec: NetworkSpec) -> ProcessSpec:
    """A peer with gossip fast enough that organisations find each other at once, and mutual TLS to chaincode."""
    folder = place.folder(home)
    inside = runtime.inside(folder)
    host = runtime.host(place.name)
    address = f"{host}:{place.ports['listen']}"
    return ProcessSpec(
        name=place.name,
        kind="peer",
        command=("peer", "node", "start"),
        folder=folder,
        ports=tuple(place.ports.values()),
        environment={
            "FABRIC_CFG_PATH": inside,
            **_LOGGING,
            "CORE_PEER_ID": place.name,
            "CORE_PEER_ADDRESS": address,
            "CORE_PEER_LISTENADDRESS": f"{runtime.listen}:{place.ports['listen']}",
            "CORE_PEER_CHAINCODELISTENADDRESS": f"{runtime.listen}:{place.ports['chaincode']}",
            "CORE_PEER_CHAINCODEADDRESS": f"{host}:{place.ports['chaincode']}",
            "CORE_PEER_LOCALMSPID": place.organisation.msp_id,
            "CORE_PEER_MSPCONFIGPATH": f"{inside}/msp",
            "CORE_PEER_FILESYSTEMPATH": f"{inside}/data",
            "CORE_LEDGER_SNAPSHOTS_ROOTDIR": f"{inside}/data/snapshots",
            "CORE_LEDGER_STATE_STATEDATABASE": "goleveldb",
            "CORE_OPERATIONS_LISTENADDRESS": f"{runtime.listen}:{place.ports['operations']}",
            "CORE_PEER_TLS_ENABLED": "true",
            "CORE_PEER_TLS_CERT_FILE": f"{inside}/tls/server.crt",
            "CORE_PEER_TLS_KEY_FILE": f"{inside}/tls/server.key",
            "CORE_PEER_TLS_ROOTCERT_FILE": f"{inside}/{_MEMBERS_FILE}",
            "CORE_PEER_AUTHENTICATION_TIMEWINDOW": f"{spec.window_ms}ms",
            "CORE_PEER_GOSSIP_BOOTSTRAP": address,
            "CORE_PEER_GOSSIP_ENDPOINT": address,
            "CORE_PEER_GOSSIP_EXTERNALENDPOINT": address,
            # Peers of other organisations are met through anchor peers. Whoever joins a channel dials them a moment
            # before it can check who answers, and again after this pause; with Fabric's own (25 s) the Gateway service
            # finds no endorsers for as long. A peer that is down is dialled for 500 ms, and again after this pause, for
            # as long as Fabric's own 120 attempts last (50 minutes).
            "CORE_PEER_GOSSIP_RECONNECTINTERVAL": "50ms",
            "CORE_PEER_GOSSIP_DIALTIMEOUT": "500ms",
            "CORE_PEER_GOSSIP_MAXCONNECTIONATTEMPTS": "5500",
            "CORE_PEER_GOSSIP_ALIVETIMEINTERVAL": "1s",
            "CORE_PEER_GOSSIP_PUBLISHSTATEINFOINTERVAL": "1s",
            "CORE_PEER_GOSSIP_REQUESTSTATEINFOINTERVAL": "1s",
            # Otherwise any client stalls another organisation's peer for a minute with one invalid private write.
            "CORE_PEER_GOSSIP_PVTDATA_SKIPPULLINGINVALIDTRANSACTIONSDURINGCOMMIT": "true",
            "CORE_PEER_GOSSIP_PVTDATA_PULLRETRYTHRESHOLD": "2s",
            # How long a peer bears an orderer that sends no blocks while others send their headers; Fabric's own 30 s
            # stall a round whenever one orderer falls behind.
            "CORE_PEER_DELIVERYCLIENT_BLOCKCENSORSHIPTIMEOUTKEY": "2s",
            "CHAINCODE_AS_A_SERVICE_BUILDER_CONFIG": json.dumps({"file": f"{inside}/{_BUILDER_FILE}"}),
        },
    )


def server_process(
    home: Path,
    runtime: Runtime,
    place: Place,
    chaincode: ChaincodeSpec,
    *,
    package_id: str,
    settings: Mapping[str, str],
) -> ProcessSpec:
    """An organisation's server of one chaincode; `settings` is what the network tells every chaincode."""
    folder = place.folder(home)
    inside = runtime.inside(folder)
    return ProcessSpec(
        name=place.name,
        kind="chaincode",
        command=chaincode.command,
        folder=folder,
        ports=tuple(place.ports.values()),
        environment={
            "CORE_PEER_LOCALMSPID": place.organisation.msp_id,
            **settings,
            **chaincode.environment,
            "CHAINCODE_ID": package_id,
            "CHAINCODE_SERVER_ADDRESS": f"{runtime.listen}:{place.ports['listen']}",
            "CHAINCODE_TLS_CERT": f"{inside}/tls/server.crt",
            "CHAINCODE_TLS_KEY": f"{inside}/tls/server.key",
            "CHAINCODE_CLIENT_CA_CERT": f"{inside}/tls/ca.crt",
        },
    )
