"""Certificates, as Fabric and TLS read them."""

import datetime
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store
from fedfabric.fabric.identity import Identity, private_key_signer, verify
from fedfabric.network.identities import Authorities, Authority, write_msp, write_private

NOW = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)
HALF = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551 // 2


@pytest.fixture(scope="module")
def authorities():
    return Authorities.create("cleveland", NOW)


def parsed(pem):
    return x509.load_pem_x509_certificate(pem)


def test_a_member_signs_and_its_certificate_carries_unit_and_role(authorities):
    member = authorities.signing.issue("ada", NOW, kind="client", attributes={"fedfabric.role": "scientist"})
    identity = Identity("ClevelandMSP", member.certificate)
    assert identity.enrolment_id == "ada"
    assert identity.attributes() == {"fedfabric.role": "scientist"}
    units = parsed(member.certificate).subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    assert [unit.value for unit in units] == ["client"]
    verify(member.certificate, b"message", private_key_signer(member.key)(b"message"))


def test_certificates_serve_both_ends_of_tls(authorities):
    member = authorities.tls.issue("peer0", NOW, hosts=("localhost", "127.0.0.1", "::1"))
    certificate = parsed(member.certificate)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    verifier = PolicyBuilder().store(Store([parsed(authorities.tls.certificate)])).time(NOW)
    verifier.build_server_verifier(x509.DNSName("localhost")).verify(certificate, [])


def test_another_authority_is_not_trusted(authorities):
    stranger = Authority.create("ca.cleveland", "cleveland", NOW).issue("ada", NOW, hosts=("localhost",))
    verifier = PolicyBuilder().store(Store([parsed(authorities.tls.certificate)])).time(NOW)
    with pytest.raises(x509.verification.VerificationError):
        verifier.build_server_verifier(x509.DNSName("localhost")).verify(parsed(stranger.certificate), [])


def test_every_signature_has_a_low_s(authorities):
    certificates = [authorities.signing.issue(f"member{number}", NOW).certificate for number in range(16)]
    for pem in (*certificates, authorities.signing.certificate, authorities.tls.certificate):
        assert decode_dss_signature(parsed(pem).signature)[1] <= HALF


def test_lifetimes_begin_a_little_early_and_end(authorities):
    certificate = parsed(authorities.signing.issue("ada", NOW).certificate)
    assert NOW - datetime.timedelta(hours=1) < certificate.not_valid_before_utc < NOW
    assert certificate.not_valid_after_utc == NOW + datetime.timedelta(days=365)
    assert parsed(authorities.signing.certificate).not_valid_after_utc > NOW + datetime.timedelta(days=3000)


def test_authorities_survive_being_saved_and_show_no_key(authorities, tmp_path):
    authorities.save(tmp_path)
    assert Authorities.load(tmp_path) == authorities
    assert "PRIVATE" not in repr(authorities)
    assert "PRIVATE" not in repr(authorities.signing.issue("ada", NOW))
    assert (tmp_path / "ca" / "key.pem").stat().st_mode & 0o077 == 0


def test_an_msp_folder_is_private_and_names_its_units(authorities, tmp_path):
    member = authorities.signing.issue("peer0", NOW, kind="peer")
    write_msp(tmp_path / "msp", authorities, member)
    assert (tmp_path / "msp" / "keystore" / "key.pem").stat().st_mode & 0o077 == 0
    assert "OrganizationalUnitIdentifier: orderer" in (tmp_path / "msp" / "config.yaml").read_text()


def test_a_file_written_anew_keeps_nothing_of_the_old(tmp_path):
    write_private(tmp_path / "a" / "file", b"a longer content")
    write_private(tmp_path / "a" / "file", b"short")
    assert (tmp_path / "a" / "file").read_bytes() == b"short"


def test_openssl_takes_certificate_and_key_together(authorities, tmp_path):
    issued = authorities.tls.issue("server", NOW, hosts=("localhost",))
    write_private(tmp_path / "certificate", issued.certificate)
    write_private(tmp_path / "key", issued.key)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "certificate", tmp_path / "key")
