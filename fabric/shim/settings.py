"""A chaincode server's settings: from the environment, as Fabric names them, with all limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .errors import SettingsError
from .handler import Limits

__all__ = ["ServerSettings", "TransportSecurity"]


@dataclass(frozen=True, slots=True)
class TransportSecurity:
    """Mutual TLS: the server's PEM key and certificate, and the CA whose peers may connect."""

    key: Path
    certificate: Path
    client_ca: Path


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How a chaincode server runs.

    Args:
        chaincode_id: the package id under which the peer installed the chaincode: `label:hash`.
        address: `host:port` to listen on; port 0 takes a free one.
        tls: None turns TLS off: whoever reaches the address can then pose as the peer.
        msp_id: the organisation of the peer, "" when unknown.
        limits: transactions running and waiting, arguments' size.
        transaction_seconds: a transaction that runs longer is stopped. Peers give up after their own
            `chaincode.executetimeout`, 30 s by default.
        grace_seconds: how long a stopping server lets running transactions go on.
    """

    chaincode_id: str
    address: str
    tls: TransportSecurity | None
    msp_id: str = ""
    limits: Limits = field(default_factory=Limits)
    transaction_seconds: float = 60.0
    grace_seconds: float = 20.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "ServerSettings":
        """Settings from CHAINCODE_ID, CHAINCODE_SERVER_ADDRESS, CHAINCODE_TLS_KEY, CHAINCODE_TLS_CERT,
        CHAINCODE_CLIENT_CA_CERT (paths of PEM files), CHAINCODE_TLS_DISABLED, CHAINCODE_MAX_CONCURRENCY (transactions
        at a time), CHAINCODE_TRANSACTION_SECONDS, CHAINCODE_GRACE_SECONDS and CORE_PEER_LOCALMSPID.

        Raises:
            SettingsError: a variable is missing or has no such value; the message names it.
        """
        disabled = environment.get("CHAINCODE_TLS_DISABLED", "false").lower()
        if disabled not in ("true", "false"):
            raise SettingsError("CHAINCODE_TLS_DISABLED is true or false")
        limits = Limits(running=_count(environment, "CHAINCODE_MAX_CONCURRENCY", 256, 100_000))
        return cls(
            chaincode_id=_required(environment, "CHAINCODE_ID"),
            address=_address(_required(environment, "CHAINCODE_SERVER_ADDRESS")),
            tls=None if disabled == "true" else _security(environment),
            msp_id=environment.get("CORE_PEER_LOCALMSPID", ""),
            limits=limits,
            transaction_seconds=_number(environment, "CHAINCODE_TRANSACTION_SECONDS", 60, 0.001, 86_400),
            grace_seconds=_number(environment, "CHAINCODE_GRACE_SECONDS", 20, 0, 3_600),
        )


def _required(environment: Mapping[str, str], name: str, hint: str = "") -> str:
    value = environment.get(name, "").strip()
    if not value:
        raise SettingsError(f"the environment variable {name} is missing{hint}")
    return value


def _security(environment: Mapping[str, str]) -> TransportSecurity:
    hint = " (a PEM file's path; CHAINCODE_TLS_DISABLED=true turns TLS off)"
    return TransportSecurity(
        key=Path(_required(environment, "CHAINCODE_TLS_KEY", hint)),
        certificate=Path(_required(environment, "CHAINCODE_TLS_CERT", hint)),
        client_ca=Path(_required(environment, "CHAINCODE_CLIENT_CA_CERT", hint)),
    )


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise SettingsError(f"CHAINCODE_SERVER_ADDRESS is host:port, not {text!r}")
    return text


def _count(environment: Mapping[str, str], name: str, default: int, highest: int) -> int:
    text = environment.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(highest)) and 1 <= int(text) <= highest):
        raise SettingsError(f"{name} is a whole number from 1 to {highest}, not {text[:40]!r}")
    return int(text)


def _number(environment: Mapping[str, str], name: str, default: float, lowest: float, highest: float) -> float:
    text = environment.get(name, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not lowest <= value <= highest:
        raise SettingsError(f"{name} is a number of seconds from {lowest} to {highest}, not {text[:40]!r}")
    return value
