"""Who signs: an organisation's certificate, its private key, and the signatures that Fabric accepts.

Fabric's ECDSA signatures are DER, over SHA-256, with s in the lower half of the curve's order: a peer refuses the
other half, although it is as good a signature, so that nobody can change a transaction's bytes without its signer.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.x509.oid import NameOID
from fabric_protos.msp import identities_pb2
from google.protobuf.message import DecodeError

__all__ = [
    "ATTRIBUTES_OID",
    "UNREADABLE",
    "Identity",
    "InvalidIdentityError",
    "Signer",
    "WrongSignatureError",
    "private_key_signer",
    "verify",
]

Signer: TypeAlias = Callable[[bytes], bytes]
"""A message in, its signature out: DER ECDSA over SHA-256, low s. It may live in a hardware module."""

ATTRIBUTES_OID: Final = x509.ObjectIdentifier("1.2.3.4.5.6.7.8.1")
"""The certificate extension in which Fabric CA writes an identity's attributes."""

MAXIMUM_CERTIFICATE_BYTES: Final = 64 * 1024

UNREADABLE: Final = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What the X.509 parser raises at what somebody has made up, some of it only when that part is first looked at."""

# The orders of the two curves that Fabric's membership service takes (SEC 2, sections 2.4.2 and 2.5.1).
_ORDERS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "secp256r1": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
        "secp384r1": int(
            "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973", 16
        ),
    }
)


class InvalidIdentityError(ValueError):
    """A certificate or a key is not one that Fabric could use."""


class WrongSignatureError(ValueError):
    """The signature does not belong to this message and this certificate."""


@dataclass(frozen=True)
class Identity:
    """A member of an organisation, as every peer sees it: MSP id and X.509 certificate in PEM."""

    msp_id: str
    certificate: bytes

    @classmethod
    def parse(cls, serialized: bytes) -> "Identity":
        """The identity in a creator's bytes (msp.SerializedIdentity).

        Raises:
            InvalidIdentityError: the bytes are not a serialized identity.
        """
        message = identities_pb2.SerializedIdentity()
        try:
            message.ParseFromString(serialized)
        except DecodeError as error:
            raise InvalidIdentityError("these bytes are not a serialized identity (msp.SerializedIdentity)") from error
        return cls(message.mspid, message.id_bytes)

    def serialized(self) -> bytes:
        """The creator's bytes, as they stand in proposals and transactions (msp.SerializedIdentity)."""
        return self._serialized

    @cached_property
    def _serialized(self) -> bytes:
        message = identities_pb2.SerializedIdentity(mspid=self.msp_id, id_bytes=self.certificate)
        return bytes(message.SerializeToString(deterministic=True))

    @cached_property
    def x509(self) -> x509.Certificate:
        """The certificate, parsed.

        Raises:
            InvalidIdentityError: the bytes are no PEM certificate, or longer than 64 KiB.
        """
        return _certificate(self.certificate)

    @property
    def enrolment_id(self) -> str:
        """The certificate's common name, "" when it has none.

        Raises:
            InvalidIdentityError: the certificate can't be read.
        """
        try:
            names = self.x509.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        except UNREADABLE as error:
            raise InvalidIdentityError("the certificate's subject can't be read") from error
        return str(names[0].value) if names else ""

    def attributes(self) -> Mapping[str, str]:
        """What the organisation's CA says of this identity: the attributes in extension 1.2.3.4.5.6.7.8.1.

        Raises:
            InvalidIdentityError: the certificate can't be read, or its extension is not `{"attrs": {name: text}}`.
        """
        certificate = self.x509
        try:
            extension = certificate.extensions.get_extension_for_oid(ATTRIBUTES_OID)
        except x509.ExtensionNotFound:
            return MappingProxyType({})
        except UNREADABLE as error:
            raise InvalidIdentityError("the certificate's extensions can't be read") from error
        if not isinstance(extension.value, x509.UnrecognizedExtension):
            raise InvalidIdentityError("the certificate's attribute extension has an unknown form")
        try:
            content = json.loads(extension.value.value)
        except (ValueError, RecursionError) as error:
            raise InvalidIdentityError("the certificate's attribute extension is not JSON") from error
        attributes = content.get("attrs", {}) if isinstance(content, dict) else None
        if not isinstance(attributes, dict) or not all(isinstance(value, str) for value in attributes.values()):
            raise InvalidIdentityError('the certificate\'s attribute extension is not {"attrs": {name: text}}')
        return MappingProxyType(attributes)


def private_key_signer(pem: bytes) -> Signer:
    """A signer that holds an unencrypted PEM private key (P-256 or P-384) in memory.

    Raises:
        InvalidIdentityError: the bytes are no such key. The message never quotes them.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        # Without the cause: a parser's message may quote what it was given.
        raise InvalidIdentityError("the private key is not an unencrypted PEM key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _ORDERS:
        raise InvalidIdentityError("the private key is not an elliptic-curve key on P-256 or P-384")
    order = _ORDERS[key.curve.name]
    algorithm = ec.ECDSA(hashes.SHA256())

    def sign(message: bytes) -> bytes:
        signature = key.sign(message, algorithm)
        r, s = decode_dss_signature(signature)
        return signature if s <= order // 2 else encode_dss_signature(r, order - s)

    return sign


def verify(certificate: bytes, message: bytes, signature: bytes) -> None:
    """Check that the holder of a PEM certificate signed a message, as a peer would: ECDSA, SHA-256, low s.

    Raises:
        WrongSignatureError: the signature is another's, another message's, malformed, or has a high s.
        InvalidIdentityError: the certificate can't be read, or its key is on another curve.
    """
    try:
        key = _certificate(certificate).public_key()
    except UNREADABLE as error:
        raise InvalidIdentityError("the certificate's key can't be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _ORDERS:
        raise InvalidIdentityError("the certificate's key is not an elliptic-curve key on P-256 or P-384")
    try:
        _, s = decode_dss_signature(signature)
    except ValueError as error:
        raise WrongSignatureError("the signature is not DER") from error
    if s > _ORDERS[key.curve.name] // 2:
        raise WrongSignatureError("the signature's s is in the upper half of the curve's order")
    try:
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise WrongSignatureError("the signature does not belong to this message and certificate") from error


def _certificate(pem: bytes) -> x509.Certificate:
    if len(pem) > MAXIMUM_CERTIFICATE_BYTES:
        raise InvalidIdentityError(f"the certificate has {len(pem)} bytes, {MAXIMUM_CERTIFICATE_BYTES} are the most")
    try:
        return x509.load_pem_x509_certificate(pem)
    except UNREADABLE as error:
        raise InvalidIdentityError("the certificate is not PEM") from error
