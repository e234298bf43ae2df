"""Whose certificate is it, and in which role: an MSP's rules, applied to identities found in blocks.

The same answers that a peer gives, from a channel's configuration alone and without its programs: chain to the MSP's
roots, no CA as a member, revocation lists, and the node OUs (client, peer, admin, orderer). Expiry is not judged, as
in Fabric, where a certificate that has expired still verifies what it signed: the chain is checked for the moment at
which the certificate began.

Source: Fabric's `msp/mspimpl.go`, `msp/mspimplvalidate.go`, `msp/mspimplsetup.go`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID
from fabric_protos.msp import identities_pb2, msp_config_pb2, msp_principal_pb2
from google.protobuf.message import DecodeError

from .identity import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .identity import Identity

_FABRIC_MSP: Final = 0
_MAX_CHAIN: Final = 8
_MAX_CACHED: Final = 4096
_ROLES: Final = msp_principal_pb2.MSPRole


class MembershipError(ValueError):
    """A certificate is not one of the MSP's, or an MSP's own definition can't be used."""


class MembershipService:
    """One organisation's MSP, as a channel's configuration defines it.

    Raises:
        MembershipError: the definition is not an X.509 MSP, or a certificate in it can't be read.
    """

    def __init__(self, config: msp_config_pb2.MSPConfig) -> None:
        if config.type != _FABRIC_MSP:
            raise MembershipError(f"MSP type {config.type} is not the X.509 one")
        try:
            definition = msp_config_pb2.FabricMSPConfig.FromString(config.config)
        except DecodeError as error:
            raise MembershipError("the MSP's definition is not readable") from error
        self.msp_id: str = definition.name
        self.roots = _certificates(definition.root_certs, f"{self.msp_id}: root")
        self.tls_roots = tuple(definition.tls_root_certs)
        self._authorities = self.roots + _certificates(definition.intermediate_certs, f"{self.msp_id}: intermediate")
        self._admins = frozenset(definition.admins)
        self._revocations = tuple(_revocation_list(data, self.msp_id) for data in definition.revocation_list)
        self._units = _units(definition.fabric_node_ous, self.msp_id)
        self._checked: dict[bytes, str | None] = {}
        """Role by certificate, None where there are no node OUs; only valid certificates are kept."""

    def role(self, identity: Identity) -> str | None:
        """Return the role that the certificate's OU gives (client, peer, admin, orderer); None without node OUs.

        Raises:
            MembershipError: the certificate is not a valid one of this MSP.
        """
        if identity.msp_id != self.msp_id:
            raise MembershipError(f"{identity.msp_id} is not {self.msp_id}")
        if identity.certificate in self._checked:
            return self._checked[identity.certificate]
        role = self._validate(identity)
        if len(self._checked) >= _MAX_CACHED:
            self._checked.clear()
        self._checked[identity.certificate] = role
        return role

    def satisfies(self, principal: msp_principal_pb2.MSPPrincipal, identity: Identity) -> bool:
        """Return whether a valid identity of this MSP is what a principal asks for (a role, or one certificate)."""
        try:
            role = self.role(identity)
            if principal.principal_classification == msp_principal_pb2.MSPPrincipal.ROLE:
                wanted = _ROLES.FromString(principal.principal)
                return bool(wanted.msp_identifier == self.msp_id) and self._has_role(wanted.role, role, identity)
            if principal.principal_classification == msp_principal_pb2.MSPPrincipal.IDENTITY:
                named = identities_pb2.SerializedIdentity.FromString(principal.principal)
                return bool((named.mspid, named.id_bytes) == (identity.msp_id, identity.certificate))
        except (MembershipError, DecodeError):
            return False
        return False

    def _has_role(self, wanted: int, role: str | None, identity: Identity) -> bool:
        if wanted == _ROLES.MEMBER:
            return True
        if wanted == _ROLES.ADMIN and identity.certificate in self._admins:
            return True
        return role is not None and wanted == _ROLES.MSPRoleType.Value(role.upper())

    def _validate(self, identity: Identity) -> str | None:
        try:
            certificate = identity.x509
            if _is_authority(certificate):
                raise MembershipError(f"{self.msp_id}: a CA's certificate is no member's")
            issuer = self._issuer(certificate)
            self._check_revocation(certificate, issuer)
            names = {
                str(attribute.value)
                for attribute in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
            }
        except UNREADABLE as error:
            if isinstance(error, MembershipError):
                raise
            raise MembershipError(f"{self.msp_id}: the certificate can't be read: {error}") from error
        if not self._units:
            return None
        roles = [
            role for role, (unit, authority) in self._units.items() if unit in names and authority in (None, issuer)
        ]
        if len(roles) != 1:
            raise MembershipError(f"{self.msp_id}: the certificate has {len(roles)} of the node OUs, not one")
        return roles[0]

    def _issuer(self, certificate: x509.Certificate) -> x509.Certificate:
        """Return the authority that issued a certificate, once its chain has been followed to a root."""
        moment = certificate.not_valid_before_utc + timedelta(seconds=1)
        first: x509.Certificate | None = None
        for _ in range(_MAX_CHAIN):
            issuer = next((one for one in self._authorities if _issued(one, certificate)), None)
            if issuer is None or not issuer.not_valid_before_utc <= moment <= issuer.not_valid_after_utc:
                break
            first = first or issuer
            if issuer in self.roots:
                return first
            certificate = issuer
        raise MembershipError(f"{self.msp_id}: the certificate's chain does not lead to a root of this MSP")

    def _check_revocation(self, certificate: x509.Certificate, issuer: x509.Certificate) -> None:
        for revoked in self._revocations:
            entry = revoked.get_revoked_certificate_by_serial_number(certificate.serial_number)
            if (
                entry is not None
                and revoked.issuer == issuer.subject
                and revoked.is_signature_valid(
                    issuer.public_key()  # type: ignore[arg-type]
                )
            ):
                raise MembershipError(f"{self.msp_id}: the certificate has been revoked")


def _issued(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    if not _is_authority(authority):
        return False
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, *UNREADABLE):
        return False
    return True


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False


def _certificates(data: Iterable[bytes], what: str) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificate(one) for one in data)
    except UNREADABLE as error:
        raise MembershipError(f"{what} certificate: not PEM") from error


def _revocation_list(data: bytes, msp_id: str) -> x509.CertificateRevocationList:
    try:
        return x509.load_pem_x509_crl(data)
    except UNREADABLE as error:
        raise MembershipError(f"{msp_id}: a revocation list is not PEM") from error


def _units(units: msp_config_pb2.FabricNodeOUs, msp_id: str) -> dict[str, tuple[str, x509.Certificate | None]]:
    """Return role to (name of the OU, authority that must have issued the certificate, None for any)."""
    if not units.enable:
        return {}
    found = {}
    for role in ("client", "peer", "admin", "orderer"):
        unit = getattr(units, f"{role}_ou_identifier")
        if unit.organizational_unit_identifier:
            authority: Sequence[x509.Certificate] = _certificates(
                [unit.certificate] if unit.certificate else [], f"{msp_id}: OU {role}"
            )
            found[role] = (unit.organizational_unit_identifier, authority[0] if authority else None)
    return found
