"""Connection profiles and wallets, by which other clients of Fabric reach a network.

Below the folder named, for each organisation that runs a peer:

``ORGANISATION/connection.json``, ``connection.yaml``
    The common connection profile that the official SDKs read. It holds no secret.
``ORGANISATION/wallet/USER.id``
    A file-system wallet of the official SDKs: certificate and private key of each user.
``ORGANISATION/hfc.json``
    A network profile for hfc (fabric-sdk-py 1.0): ``hfc.fabric.Client(net_profile=…)``. hfc takes addresses without a
    scheme, and paths where the others take certificates; so it names the files of ``users/`` and ``tls/`` beside it by
    their absolute paths, and is written anew after the folder has moved.
``ORGANISATION/users/USER/{certificate,key}.pem``, ``tls/ORGANISATION.pem``
    The same as plain files.

Whatever holds a private key can be read by its owner alone.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from . import founding
from .errors import StateError
from .founding import Layout
from .identities import Credentials, write_private
from .network import Network
from .processes import Place
from .runtime import LOOPBACK
from .specification import OrganisationSpec

__all__ = ["Export", "export"]

WALLET_VERSION = 1
"""Of the official SDKs' wallet entries for X.509 identities."""


@dataclass(frozen=True)
class Export:
    """Where an organisation's export lies.

    Attributes:
        organisation: its name.
        connection_json, connection_yaml: the common connection profile, in both forms.
        wallet: the folder of a file-system wallet.
        hfc: the profile for hfc.
        users: the names of those whose certificates and keys were exported.
    """

    organisation: str
    connection_json: Path
    connection_yaml: Path
    wallet: Path
    hfc: Path
    users: tuple[str, ...]


def export(network: Network, folder: Path) -> tuple[Export, ...]:
    """Write profiles and wallets for all organisations with peers; what is there is overwritten.

    Raises:
        StateError: the network has not been brought up, or the folder cannot be written.
    """
    folder = folder.absolute()
    members = [one for one in network.spec.organisations if one.peers]
    layout = network.layout
    try:
        for organisation in network.spec.organisations:
            ca = founding.organisation_folder(network.home, organisation.name) / "tlsca" / founding.CERTIFICATE
            write_private(_tls(folder, organisation), ca.read_bytes(), 0o644)
        return tuple(_export(layout, one, folder) for one in members)
    except OSError as error:
        raise StateError(f"{error.filename or folder}: {error.strerror}: name a folder that can be written") from error


def connection_profile(layout: Layout, organisation: OrganisationSpec) -> dict[str, Any]:
    """The common connection profile of a client of this organisation, with its certificates inside."""
    members = _members(layout)

    def node(place: Place) -> dict[str, Any]:
        ca = founding.organisation_folder(layout.home, place.organisation.name) / "tlsca" / founding.CERTIFICATE
        return {
            "url": f"grpcs://{_address(place)}",
            "tlsCACerts": {"pem": ca.read_text()},
            # The names of a peer's certificate; "ssl-target-name-override" is gRPC's, the other the Java SDK's.
            "grpcOptions": {"ssl-target-name-override": place.name, "hostnameOverride": place.name},
        }

    return {
        "name": f"{layout.state.spec.name}-{organisation.name}",
        "version": "1.0.0",
        "client": {
            "organization": organisation.name,
            "connection": {"timeout": {"peer": {"endorser": "300"}, "orderer": "300"}},
        },
        "channels": {
            layout.state.spec.channel: {
                "orderers": [place.name for place in _orderers(layout)],
                "peers": {
                    place.name: dict.fromkeys(("endorsingPeer", "chaincodeQuery", "ledgerQuery", "eventSource"), True)
                    for member in members
                    for place in layout.peers(member)
                },
            }
        },
        "organizations": {
            member.name: {"mspid": member.msp_id, "peers": [place.name for place in layout.peers(member)]}
            for member in members
        },
        "orderers": {place.name: node(place) for place in _orderers(layout)},
        "peers": {place.name: node(place) for member in members for place in layout.peers(member)},
    }


def hfc_profile(layout: Layout, organisation: OrganisationSpec, folder: Path) -> dict[str, Any]:
    """What hfc reads, with the paths of the exported files in `folder`."""
    own = folder / organisation.name
    members = _members(layout)

    def node(place: Place) -> dict[str, Any]:
        return {
            "url": _address(place),
            "tlsCACerts": {"path": str(_tls(folder, place.organisation))},
            "grpcOptions": {"grpc.ssl_target_name_override": place.name},
        }

    users = {
        user.name: {
            "cert": str(own / "users" / user.name / "certificate.pem"),
            "private_key": str(own / "users" / user.name / "key.pem"),
        }
        for user in _users(layout, organisation)
    }
    return {
        "name": f"{layout.state.spec.name}-{organisation.name}",
        "version": "1.0",
        "client": {"organization": organisation.name, "credentialStore": {"path": str(own / "hfc-store")}},
        "channels": {layout.state.spec.channel: {"orderers": [place.name for place in _orderers(layout)]}},
        "organizations": {
            member.name: {
                "mspid": member.msp_id,
                "peers": [place.name for place in layout.peers(member)],
                "orderers": [place.name for place in layout.orderers(member)],
                "users": users if member == organisation else {},
            }
            for member in members
        },
        "orderers": {place.name: node(place) for place in _orderers(layout)},
        "peers": {place.name: node(place) for member in members for place in layout.peers(member)},
        "certificateAuthorities": {},
    }


def wallet_entry(user: Credentials) -> Mapping[str, Any]:
    """A user's entry in a wallet of the official SDKs."""
    return {
        "credentials": {
            "certificate": user.certificate_path.read_text(),
            "privateKey": user.key_path.read_text(),
        },
        "mspId": user.msp_id,
        "type": "X.509",
        "version": WALLET_VERSION,
    }


def _export(layout: Layout, organisation: OrganisationSpec, folder: Path) -> Export:
    own = folder / organisation.name
    profile = connection_profile(layout, organisation)
    users = tuple(_users(layout, organisation))
    written = Export(
        organisation.name,
        own / "connection.json",
        own / "connection.yaml",
        own / "wallet",
        own / "hfc.json",
        tuple(user.name for user in users),
    )
    write_private(written.connection_json, _json(profile), 0o644)
    write_private(written.connection_yaml, yaml.safe_dump(profile, sort_keys=False).encode(), 0o644)
    for user in users:
        write_private(written.wallet / f"{user.name}.id", _json(wallet_entry(user)))
        write_private(own / "users" / user.name / "certificate.pem", user.certificate_path.read_bytes(), 0o644)
        write_private(own / "users" / user.name / "key.pem", user.key_path.read_bytes())
    write_private(written.hfc, _json(hfc_profile(layout, organisation, folder)), 0o644)
    return written


def _users(layout: Layout, organisation: OrganisationSpec) -> Iterator[Credentials]:
    folder = founding.organisation_folder(layout.home, organisation.name) / "users"
    for entry in sorted(folder.glob(f"[!.]*/{founding.CERTIFICATE}")):  # an enrolment under way begins with a dot
        yield founding.credentials(layout.home, organisation, entry.parent.name)


def _members(layout: Layout) -> list[OrganisationSpec]:
    return [one for one in layout.state.spec.organisations if one.peers]


def _orderers(layout: Layout) -> list[Place]:
    return [place for one in layout.state.spec.organisations for place in layout.orderers(one)]


def _address(place: Place) -> str:
    return f"{LOOPBACK}:{place.ports['listen']}"


def _tls(folder: Path, organisation: OrganisationSpec) -> Path:
    return folder / "tls" / f"{organisation.name}.pem"


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
