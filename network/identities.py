"""Certificates: each organisation's two authorities, and what they issue.

An organisation has a signing authority (its members' identities) and a TLS authority (its servers). Kinds of members
are told apart by the subject's organisational unit (Fabric's NodeOUs); a person's or program's role stands in Fabric
CA's attribute extension, where chaincode reads it.
"""

import datetime
import ipaddress
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..fabric.identity import ATTRIBUTES_OID, Identity, Signer, private_key_signer

Kind = Literal["client", "admin", "peer", "orderer"]
ROLE_ATTRIBUTE = "fedfabric.role"
AUTHORITY_DAYS = 3650
MEMBER_DAYS = 365
# Clocks of machines that check a new certificate may lag behind the one that issued it.
BACKDATED = datetime.timedelta(minutes=10)
_HALF_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551 // 2

NODE_OUS = "NodeOUs:\n  Enable: true\n" + "".join(
    f"  {kind.capitalize()}OUIdentifier:\n    Certificate: cacerts/ca.pem\n    OrganizationalUnitIdentifier: {kind}\n"
    for kind in ("client", "admin", "peer", "orderer")
)


@dataclass(frozen=True)
class Issued:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class Credentials:
    """Where an enrolled member's certificates and keys lie; the keys themselves are only read to sign."""

    msp_id: str
    name: str
    certificate_path: Path
    key_path: Path
    tls_certificate_path: Path | None = None
    tls_key_path: Path | None = None

    def identity(self) -> Identity:
        """The member as other organisations see it."""
        return Identity(self.msp_id, self.certificate_path.read_bytes())

    def signer(self) -> Signer:
        """Signs with the member's key."""
        return private_key_signer(self.key_path.read_bytes())


@dataclass(frozen=True)
class Authority:
    """A certificate authority: P-256 key, self-signed certificate (both PEM)."""

    certificate: bytes
    key: bytes = field(repr=False)

    @classmethod
    def create(cls, name: str, organisation: str, now: datetime.datetime) -> "Authority":
        """A new authority, valid for ten years."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        builder = (
            _builder(subject, subject, key.public_key(), now, AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(authority=True), critical=True)
        )
        return cls(_sign(builder, key), _pem(key))

    @classmethod
    def load(cls, folder: Path) -> "Authority":
        """Read an authority that `save` wrote."""
        return cls((folder / "certificate.pem").read_bytes(), (folder / "key.pem").read_bytes())

    def save(self, folder: Path) -> None:
        """Write certificate and key; the key for the owner only."""
        write_private(folder / "certificate.pem", self.certificate, 0o644)
        write_private(folder / "key.pem", self.key)

    def issue(
        self,
        name: str,
        now: datetime.datetime,
        *,
        kind: Kind | None = None,
        hosts: Iterable[str] = (),
        attributes: Mapping[str, str] | None = None,
    ) -> Issued:
        """A certificate for `name` with a new P-256 key, good for signing and for both ends of TLS.

        `kind` becomes the organisational unit, `hosts` (names or addresses) the subject's alternative names,
        `attributes` the extension 1.2.3.4.5.6.7.8.1.
        """
        issuer = x509.load_pem_x509_certificate(self.certificate)
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if kind is not None:
            names.insert(0, x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, kind))
        builder = (
            _builder(x509.Name(names), issuer.subject, key.public_key(), now, MEMBER_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                    issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
                ),
                critical=False,
            )
        )
        alternatives = [_general_name(host) for host in hosts]
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        if attributes:
            content = json.dumps({"attrs": dict(sorted(attributes.items()))}, separators=(",", ":")).encode()
            builder = builder.add_extension(x509.UnrecognizedExtension(ATTRIBUTES_OID, content), critical=False)
        own = serialization.load_pem_private_key(self.key, password=None)
        if not isinstance(own, ec.EllipticCurvePrivateKey):
            raise TypeError("the authority's key is not an elliptic-curve key")
        return Issued(_sign(builder, own), _pem(key))


@dataclass(frozen=True)
class Authorities:
    """An organisation's two authorities: one for its members' signatures, one for its servers' TLS."""

    signing: Authority
    tls: Authority

    @classmethod
    def create(cls, organisation: str, now: datetime.datetime) -> "Authorities":
        """Two new authorities."""
        return cls(
            Authority.create(f"ca.{organisation}", organisation, now),
            Authority.create(f"tlsca.{organisation}", organisation, now),
        )

    @classmethod
    def load(cls, folder: Path) -> "Authorities":
        """Read what `save` wrote."""
        return cls(Authority.load(folder / "ca"), Authority.load(folder / "tlsca"))

    def save(self, folder: Path) -> None:
        """Write both below `folder`."""
        self.signing.save(folder / "ca")
        self.tls.save(folder / "tlsca")


def write_msp(folder: Path, authorities: Authorities, member: Issued) -> None:
    """Write a local MSP as peers, orderers and Fabric's command-line programs read it."""
    write_private(folder / "cacerts" / "ca.pem", authorities.signing.certificate, 0o644)
    write_private(folder / "tlscacerts" / "tlsca.pem", authorities.tls.certificate, 0o644)
    write_private(folder / "signcerts" / "certificate.pem", member.certificate, 0o644)
    write_private(folder / "keystore" / "key.pem", member.key)
    write_private(folder / "config.yaml", NODE_OUS.encode(), 0o644)


def write_private(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a file by one that has this mode from its first byte on, and make its folders for the owner only."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    staging = path.with_name(f".{path.name}.new")
    descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    staging.replace(path)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _sign(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> bytes:
    # Fabric rewrites a certificate whose signature's s lies in the upper half of the order; then its bytes differ from
    # place to place. So sign until s is low: two tries on average.
    while True:
        certificate = builder.sign(key, hashes.SHA256())
        if decode_dss_signature(certificate.signature)[1] <= _HALF_ORDER:
            return certificate.public_bytes(serialization.Encoding.PEM)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
