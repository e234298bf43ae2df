"""What a network hands over: a gateway.toml for each organisation, and a profile for each of its people."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .exit_codes import ExitCode
from .failures import Failure

if TYPE_CHECKING:
    from ..network import Credentials, Network, Organisation
    from ..network.specification import Role

LOCAL = ("127.0.0.1", "localhost")
PEOPLE: "tuple[Role, ...]" = ("operator", "steward", "scientist", "auditor")
"""Users that each organisation gets when network.yaml names none: one of each role."""
GATEWAY_USER = "gateway"


@dataclass(frozen=True)
class Handover:
    """The files of one organisation."""

    organisation: str
    msp_id: str
    gateway: Path
    """Its gateway.toml."""
    profiles: dict[str, Path]
    """By user."""


async def hand_over(network: "Network", organisation: str) -> Handover:
    """Enrol the organisation's gateway and people where that has not been done, and write their files anew."""
    described = network.organisations[organisation]
    users = {user.name: user.role for user in network.spec.organisation(organisation).users}
    profiles = {
        name: await write_profile(network, organisation, name, role)
        for name, role in (users or dict(zip(PEOPLE, PEOPLE, strict=True))).items()
    }
    gateway = await network.enrol(organisation, GATEWAY_USER, role="gateway", hosts=LOCAL)
    folder = network.home / "gateways" / organisation
    config = {
        "msp_id": described.msp_id,
        "listen": described.gateway_endpoint,
        "endpoint": described.gateway_endpoint,
        "channel": network.channel_name,
        "chaincode": network.chaincode_name,
        "certificate": gateway.certificate_path,
        "key": gateway.key_path,
        "tls_certificate": gateway.tls_certificate_path,
        "tls_key": gateway.tls_key_path,
        "state": folder / "state",
        "peer": {"endpoint": described.peer_endpoint, "tls_ca": described.peer_tls_ca},
        "trainer": {"concurrent": sum(1 for one in network.organisations.values() if one.peers)},
    }
    path = _write(folder / "gateway.toml", config)
    return Handover(organisation, described.msp_id, path, profiles)


async def write_profile(network: "Network", organisation: str, name: str, role: str) -> Path:
    """Enrol a person with a role, or take the certificate that they have, and write their profile.

    Raises:
        Failure: the network has no such organisation.
    """
    described = network.organisations.get(organisation)
    if described is None:
        raise Failure(
            ExitCode.NOT_FOUND,
            "NO_SUCH_ORGANISATION",
            f"there is no organisation {organisation} in {network.spec.name}",
            remedy=f"name one of {', '.join(network.organisations)}",
        )
    person = await network.enrol(organisation, name, role=role)
    return _write(network.home / "profiles" / organisation / f"{name}.toml", _profile(network, described, person))


def _profile(network: "Network", described: "Organisation", person: "Credentials") -> Mapping[str, Any]:
    return {
        "gateway": described.gateway_endpoint,
        "msp_id": described.msp_id,
        "certificate": person.certificate_path,
        "key": person.key_path,
        "trust_roots": described.peer_tls_ca,
        "channel": network.channel_name,
        "chaincode": network.chaincode_name,
    }


def _write(path: Path, table: Mapping[str, Any]) -> Path:
    """Write a TOML table, paths relative to its own folder, so that the whole can be moved."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lines, tables = [], []
    for name, value in table.items():
        if isinstance(value, Mapping):
            tables += ["", f"[{name}]", *(f"{key} = {_toml(item, path.parent)}" for key, item in value.items())]
        else:
            lines.append(f"{name} = {_toml(value, path.parent)}")
    staging = path.with_suffix(".new")
    staging.write_text("\n".join([*lines, *tables, ""]), encoding="utf-8")
    staging.replace(path)
    return path


def _toml(value: Any, folder: Path) -> str:
    """A string, path or integer in TOML; a basic string's escapes are JSON's."""
    return json.dumps(os.path.relpath(value, folder) if isinstance(value, Path) else value)
