import base64
import datetime
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.x509.oid import NameOID
from fabric_protos.msp import identities_pb2
from fedfabric.fabric.identity import (
    ATTRIBUTES_OID,
    Identity,
    InvalidIdentityError,
    WrongSignatureError,
    private_key_signer,
    verify,
)

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
ORDERS = {
    "secp256r1": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "secp384r1": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
}


def pem(key, password=None):
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def certificate(key, attributes=None, name="alice"):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    if attributes is not None:
        builder = builder.add_extension(x509.UnrecognizedExtension(ATTRIBUTES_OID, attributes), critical=False)
    hash_algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, hash_algorithm).public_bytes(serialization.Encoding.PEM)


@pytest.fixture(params=[ec.SECP256R1(), ec.SECP384R1()], ids=["P-256", "P-384"])
def key(request):
    return ec.generate_private_key(request.param)


def test_a_signature_belongs_to_its_message_and_certificate(key):
    signature = private_key_signer(pem(key))(b"message")
    verify(certificate(key), b"message", signature)
    with pytest.raises(WrongSignatureError):
        verify(certificate(key), b"another message", signature)
    with pytest.raises(WrongSignatureError):
        verify(certificate(ec.generate_private_key(key.curve)), b"message", signature)


def test_every_signature_has_a_low_s(key):
    sign = private_key_signer(pem(key))
    order = ORDERS[key.curve.name]
    for number in range(64):  # by chance half of them would not
        message = number.to_bytes(4)
        _, s = decode_dss_signature(sign(message))
        assert s <= order // 2
        verify(certificate(key), message, sign(message))


def test_a_signature_with_a_high_s_is_refused(key):
    r, s = decode_dss_signature(private_key_signer(pem(key))(b"message"))
    high = encode_dss_signature(r, ORDERS[key.curve.name] - s)
    key.public_key().verify(high, b"message", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(WrongSignatureError, match="upper half"):
        verify(certificate(key), b"message", high)


@pytest.mark.parametrize("signature", [b"", b"\x00" * 64, b"\xff", b"0" * 5000])
def test_a_signature_that_is_not_der_is_refused(key, signature):
    with pytest.raises(WrongSignatureError):
        verify(certificate(key), b"message", signature)


@pytest.mark.parametrize(
    "other",
    [
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP256K1()),
    ],
    ids=["Ed25519", "RSA", "secp256k1"],
)
def test_keys_that_fabric_does_not_take_are_refused(other):
    with pytest.raises(InvalidIdentityError, match="P-256 or P-384"):
        private_key_signer(pem(other))
    with pytest.raises(InvalidIdentityError, match="P-256 or P-384"):
        verify(certificate(other), b"message", b"signature")


def test_a_bad_key_is_refused_without_showing_it(key):
    encrypted = pem(key, b"password")
    broken = b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
    for data in (encrypted, broken, b"secret"):
        with pytest.raises(InvalidIdentityError) as caught:
            private_key_signer(data)
        assert "c2VjcmV0" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_creators_bytes_go_there_and_back(key):
    identity = Identity("Org1MSP", certificate(key))
    assert Identity.parse(identity.serialized()) == identity
    message = identities_pb2.SerializedIdentity.FromString(identity.serialized())
    assert (message.mspid, message.id_bytes) == ("Org1MSP", identity.certificate)


def test_bytes_that_are_no_creator_are_refused():
    with pytest.raises(InvalidIdentityError):
        Identity.parse(b"\xff\xff\xff")


def test_the_enrolment_id_is_the_common_name(key):
    assert Identity("Org1MSP", certificate(key, name="bob")).enrolment_id == "bob"
    assert Identity("Org1MSP", certificate(key, name=None)).enrolment_id == ""


def test_attributes_are_those_of_the_ca(key):
    extension = json.dumps({"attrs": {"fedfabric.role": "steward", "hf.Affiliation": ""}}).encode()
    attributes = Identity("Org1MSP", certificate(key, extension)).attributes()
    assert dict(attributes) == {"fedfabric.role": "steward", "hf.Affiliation": ""}
    with pytest.raises(TypeError):
        attributes["fedfabric.role"] = "operator"


def test_a_certificate_without_the_extension_has_no_attributes(key):
    assert dict(Identity("Org1MSP", certificate(key)).attributes()) == {}


@pytest.mark.parametrize(
    "extension",
    [b"", b"{", b"[]", b"1", b"\xff", b'{"attrs": []}', b'{"attrs": {"a": 1}}', b'{"attrs": null}', b"[" * 10_000],
)
def test_an_extension_of_another_form_is_an_error_not_no_attributes(key, extension):
    with pytest.raises(InvalidIdentityError, match="attribute extension"):
        Identity("Org1MSP", certificate(key, extension)).attributes()


def test_a_certificate_with_much_behind_it_is_refused(key):
    with pytest.raises(InvalidIdentityError, match="are the most"):
        Identity("Org1MSP", certificate(key) + b"\n" * 70_000).attributes()


@pytest.mark.parametrize("data", [b"", b"certificate", b"x" * 70_000])
def test_bytes_that_are_no_certificate_are_refused(data):
    with pytest.raises(InvalidIdentityError, match="certificate"):
        Identity("Org1MSP", data).attributes()


def made_up(change):
    """A certificate whose DER somebody has changed after its authority signed it, PEM again."""
    key = ec.generate_private_key(ec.SECP256R1())
    der = x509.load_pem_x509_certificate(certificate(key, b'{"attrs": {}}')).public_bytes(serialization.Encoding.DER)
    changed = change(der)
    assert changed != der
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(changed) + b"-----END CERTIFICATE-----\n"


# Each makes the parser raise an exception of another class.
MADE_UP = {
    "a version that there is not": lambda der: der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x09", 1),
    "a curve that nobody knows": lambda der: der.replace(
        bytes.fromhex("06082a8648ce3d030107"), b"\x06\x08" + b"\x2a" * 8
    ),
    "a key of a kind that nobody knows": lambda der: der.replace(
        bytes.fromhex("06072a8648ce3d0201"), b"\x06\x07" + b"\x2a" * 7
    ),
    "a name that is not UTF-8": lambda der: der.replace(b"alice", b"\xff" * 5),
}


@pytest.mark.parametrize("flaw", MADE_UP)
def test_a_certificate_that_somebody_has_made_up_is_refused_as_such(flaw):
    identity = Identity("Org1MSP", made_up(MADE_UP[flaw]))
    read = [
        lambda: identity.x509,
        identity.attributes,
        lambda: identity.enrolment_id,
        lambda: verify(identity.certificate, b"m", b"\x30\x06\x02\x01\x01\x02\x01\x01"),
    ]
    refused = 0
    for part in read:
        try:
            part()
        except InvalidIdentityError:
            refused += 1
        except WrongSignatureError:
            continue
    assert refused


def test_extensions_given_twice_are_refused_as_such():
    key = ec.generate_private_key(ec.SECP256R1())
    other = x509.ObjectIdentifier("1.2.3.4.5.6.7.8.2")
    built = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(x509.Name([])).serial_number(1)
    built = built.public_key(key.public_key()).not_valid_before(NOW).not_valid_after(NOW)
    for name in (ATTRIBUTES_OID, other):
        built = built.add_extension(x509.UnrecognizedExtension(name, b"{}"), critical=False)
    der = built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    twice = der.replace(bytes.fromhex("06082a03040506070802"), bytes.fromhex("06082a03040506070801"))
    pem_of_it = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(twice) + b"-----END CERTIFICATE-----\n"
    with pytest.raises(InvalidIdentityError, match="extensions can't be read"):
        Identity("Org1MSP", pem_of_it).attributes()
