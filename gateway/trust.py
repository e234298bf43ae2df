"""Whom the gateway believes: the organisations' certificate authorities, as the channel's configuration names them.

A caller's organisation is the one whose root validates the certificate of the caller's TLS connection; nothing that a
caller says about itself counts. A root that two organisations share identifies nobody.
"""

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from fabric_protos.common import configtx_pb2
from fabric_protos.msp import msp_config_pb2
from google.protobuf.message import DecodeError

from ..chaincode.records import Role
from ..fabric.identity import UNREADABLE, Identity

__all__ = ["Caller", "Membership", "Trust", "UntrustedError"]

ROLE_ATTRIBUTE = "fedfabric.role"
_LONGEST_CHAIN = 4


class UntrustedError(Exception):
    """A certificate belongs to no organisation of the channel, or no longer."""


@dataclass(frozen=True)
class Caller:
    """Who is at the other end of a connection, proven by its certificate."""

    identity: Identity
    role: Role | None
    """The certificate's role, None when it has none that we know."""

    @property
    def msp_id(self) -> str:
        """The caller's organisation."""
        return self.identity.msp_id

    @property
    def account(self) -> str:
        """The caller's own account of tokens, `MSP/enrolment id`."""
        return f"{self.identity.msp_id}/{self.identity.enrolment_id}"


@dataclass(frozen=True)
class Membership:
    """One organisation's certificate authorities, all PEM."""

    msp_id: str
    roots: tuple[bytes, ...]
    intermediates: tuple[bytes, ...] = ()
    tls_roots: tuple[bytes, ...] = ()
    tls_intermediates: tuple[bytes, ...] = ()
    revocation_lists: tuple[bytes, ...] = ()

    @cached_property
    def authorities(self) -> tuple[x509.Certificate, ...]:
        """Roots and intermediates, parsed."""
        return tuple(x509.load_pem_x509_certificate(pem) for pem in (*self.roots, *self.intermediates))

    @cached_property
    def _root_set(self) -> frozenset[bytes]:
        return frozenset(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER) for pem in self.roots)

    @cached_property
    def _revoked(self) -> frozenset[tuple[bytes, int]]:
        """Issuer name and serial number of each certificate that a list revokes."""
        found: set[tuple[bytes, int]] = set()
        for pem in self.revocation_lists:
            revoked = x509.load_pem_x509_crl(pem)
            issuer = revoked.issuer.public_bytes()
            signers = [authority for authority in self.authorities if authority.subject == revoked.issuer]
            if any(revoked.is_signature_valid(signer.public_key()) for signer in signers):  # type: ignore[arg-type]
                found.update((issuer, entry.serial_number) for entry in revoked)
        return frozenset(found)

    def validates(self, certificate: x509.Certificate, now: datetime.datetime) -> bool:
        """Whether a chain leads from the certificate to one of this organisation's roots, all of it valid now.

        Raises:
            UntrustedError: it does, but the certificate or one above it is revoked or out of its time.
        """
        try:
            return self._validates(certificate, now)
        except UNREADABLE:
            # Whose authorities or revocation lists can't be read vouches for nobody, and hinders no other.
            return False

    def _validates(self, certificate: x509.Certificate, now: datetime.datetime) -> bool:
        current = certificate
        for _ in range(_LONGEST_CHAIN):
            issuer = next((authority for authority in self.authorities if _issued(current, authority)), None)
            if issuer is None:
                return False
            if not current.not_valid_before_utc <= now <= current.not_valid_after_utc:
                raise UntrustedError(f"the certificate of {self.msp_id} is not valid at this time")
            if (current.issuer.public_bytes(), current.serial_number) in self._revoked:
                raise UntrustedError(f"the certificate was revoked by {self.msp_id}")
            if issuer.public_bytes(Encoding.DER) in self._root_set:
                return issuer.not_valid_before_utc <= now <= issuer.not_valid_after_utc
            current = issuer
        return False


@dataclass(frozen=True)
class Trust:
    """The channel's organisations at one of its configurations."""

    members: Mapping[str, Membership] = field(default_factory=dict)

    @classmethod
    def from_configuration(cls, configuration: configtx_pb2.Config) -> "Trust":
        """The application organisations of a channel configuration.

        Raises:
            ValueError: an organisation's membership can't be read.
        """
        members = {}
        application = configuration.channel_group.groups["Application"]
        for name, group in application.groups.items():
            try:
                outer = msp_config_pb2.MSPConfig.FromString(group.values["MSP"].value)
                msp = msp_config_pb2.FabricMSPConfig.FromString(outer.config)
            except DecodeError as error:
                raise ValueError(f"the membership of {name} in the channel's configuration can't be read") from error
            members[msp.name] = Membership(
                msp.name,
                roots=tuple(msp.root_certs),
                intermediates=tuple(msp.intermediate_certs),
                tls_roots=tuple(msp.tls_root_certs),
                tls_intermediates=tuple(msp.tls_intermediate_certs),
                revocation_lists=tuple(msp.revocation_list),
            )
        return cls(MappingProxyType(members))

    @property
    def client_roots(self) -> bytes:
        """PEM bundle of the authorities that a client's certificate may come from."""
        return _bundle(pem for member in self.members.values() for pem in (*member.roots, *member.intermediates))

    def server_roots(self, msp_id: str) -> bytes:
        """PEM bundle of the TLS authorities that one organisation's gateway certificate may come from.

        Only its own: a gateway of another organisation can't stand in for it.

        Raises:
            UntrustedError: the organisation is not in the channel.
        """
        member = self.members.get(msp_id)
        if member is None:
            raise UntrustedError(f"{msp_id} is not in the channel's configuration")
        return _bundle((*member.tls_roots, *member.tls_intermediates))

    def identify(self, certificate_pem: bytes, now: datetime.datetime) -> Caller:
        """The member that a certificate belongs to.

        Raises:
            UntrustedError: no organisation's root validates it, two organisations' do, or it is revoked or expired.
        """
        try:
            certificate = x509.load_pem_x509_certificate(certificate_pem)
        except UNREADABLE as error:
            raise UntrustedError("the certificate can't be read") from error
        owners = [member.msp_id for member in self.members.values() if member.validates(certificate, now)]
        if len(owners) != 1:
            raise UntrustedError(
                "the certificate belongs to no organisation of this channel"
                if not owners
                else "the certificate's root is shared by organisations, so it identifies none"
            )
        # As PEM anew: what stands around the block in the peer's text is not part of the certificate.
        identity = Identity(owners[0], certificate.public_bytes(Encoding.PEM))
        return Caller(identity, _role(identity))


def _role(identity: Identity) -> Role | None:
    try:
        named = identity.attributes().get(ROLE_ATTRIBUTE, "")
    except ValueError:
        # An attribute extension that can't be read gives no role; it takes none away from the organisation's root.
        return None
    return next((role for role in Role if role.value == named), None)


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    if certificate.issuer != authority.subject:
        return False
    try:
        constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.verify_directly_issued_by(authority)
    except (x509.ExtensionNotFound, InvalidSignature, *UNREADABLE):
        return False
    return constraints.ca


def _bundle(pems: Iterable[bytes]) -> bytes:
    return b"".join(pem.rstrip() + b"\n" for pem in dict.fromkeys(pems))
