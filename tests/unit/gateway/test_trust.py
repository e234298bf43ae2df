"""Whose certificate it is: found by the root that validates it, and refused in every doubt."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fedfabric.chaincode.records import Role
from fedfabric.fabric.configuration import Channel, Consenter, Endpoint, Organisation, Raft, genesis_block, read_config
from fedfabric.fabric.configuration import Membership as ChannelMembership
from fedfabric.fabric.identity import ATTRIBUTES_OID
from fedfabric.gateway.trust import Membership, Trust, UntrustedError
from fedfabric.tests.unit.fabric.test_identity import MADE_UP, made_up

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


class Authority:
    def __init__(self, name: str, issuer: "Authority | None" = None, *, ca: bool = True, **times) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = certificate(name, self.key, issuer or self, ca=ca, **times)

    @property
    def pem(self) -> bytes:
        return pem(self.certificate)

    def issue(self, name: str, role: str | bytes = "steward", **times) -> bytes:
        return pem(certificate(name, ec.generate_private_key(ec.SECP256R1()), self, role=role, **times))

    def revoke(self, issued: bytes) -> bytes:
        serial = x509.load_pem_x509_certificate(issued).serial_number
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - DAY).build()
        listed = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(NOW - DAY)
            .next_update(NOW + DAY)
            .add_revoked_certificate(entry)
        )
        return listed.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def pem(value: x509.Certificate) -> bytes:
    return value.public_bytes(serialization.Encoding.PEM)


def certificate(name, key, issuer, *, ca=False, role="", begins=NOW - DAY, ends=NOW + DAY) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if getattr(issuer, "certificate", None) is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if role:
        value = role if isinstance(role, bytes) else f'{{"attrs":{{"fedfabric.role":"{role}"}}}}'.encode()
        builder = builder.add_extension(x509.UnrecognizedExtension(ATTRIBUTES_OID, value), critical=False)
    return builder.sign(issuer.key, hashes.SHA256())


ALPHA, BETA, TLS = Authority("alpha ca"), Authority("beta ca"), Authority("alpha tls ca")
TRUST = Trust(
    {
        "AlphaMSP": Membership("AlphaMSP", (ALPHA.pem,), tls_roots=(TLS.pem,)),
        "BetaMSP": Membership("BetaMSP", (BETA.pem,)),
    }
)


def test_a_member_is_known_by_its_root() -> None:
    caller = TRUST.identify(ALPHA.issue("ann"), NOW)
    assert (caller.msp_id, caller.role, caller.account) == ("AlphaMSP", Role.STEWARD, "AlphaMSP/ann")
    assert TRUST.identify(BETA.issue("bob", "gateway"), NOW).msp_id == "BetaMSP"


def test_what_stands_around_the_certificate_is_not_part_of_the_identity() -> None:
    issued = ALPHA.issue("ann")
    caller = TRUST.identify(b"Subject: CN=somebody else\n" + issued, NOW)
    assert caller.identity.certificate == issued


@pytest.mark.parametrize(
    "role", ["", "emperor", b"not json", b'{"attrs": 7}', b'{"attrs":{"fedfabric.role":["steward"]}}']
)
def test_a_role_that_is_none_gives_none(role: str | bytes) -> None:
    assert TRUST.identify(ALPHA.issue("ann", role), NOW).role is None


REFUSED = {
    "of an unknown authority": lambda: Authority("gamma ca").issue("eve"),
    "of an authority that only has the same name": lambda: Authority("alpha ca").issue("eve"),
    "of the tls authority": lambda: TLS.issue("eve"),
    "that is its own": lambda: Authority("alpha ca", ca=False).pem,
    "that has expired": lambda: ALPHA.issue("eve", ends=NOW - DAY / 2),
    "that is not valid yet": lambda: ALPHA.issue("eve", begins=NOW + DAY / 2),
    "issued by a member who is no authority": lambda: Authority("mallory", ALPHA, ca=False).issue("eve"),
    "that is no certificate": lambda: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    "that is nothing": lambda: b"",
}


@pytest.mark.parametrize("flaw", REFUSED)
def test_a_certificate_is_refused(flaw: str) -> None:
    with pytest.raises(UntrustedError):
        TRUST.identify(REFUSED[flaw](), NOW)


def test_an_intermediate_authority_of_the_configuration_is_followed() -> None:
    between = Authority("alpha department", ALPHA)
    issued = between.issue("ann")
    with pytest.raises(UntrustedError):
        TRUST.identify(issued, NOW)
    trust = Trust({"AlphaMSP": Membership("AlphaMSP", (ALPHA.pem,), intermediates=(between.pem,))})
    assert trust.identify(issued, NOW).msp_id == "AlphaMSP"


def test_a_root_that_is_no_authority_issues_nobody() -> None:
    plain = Authority("alpha ca", ca=False)
    trust = Trust({"AlphaMSP": Membership("AlphaMSP", (plain.pem,))})
    with pytest.raises(UntrustedError):
        trust.identify(plain.issue("eve"), NOW)


def test_a_revoked_certificate_is_refused_and_a_forged_list_revokes_nothing() -> None:
    issued = ALPHA.issue("ann")
    trust = Trust({"AlphaMSP": Membership("AlphaMSP", (ALPHA.pem,), revocation_lists=(ALPHA.revoke(issued),))})
    with pytest.raises(UntrustedError, match="revoked"):
        trust.identify(issued, NOW)
    forged = Trust(
        {"AlphaMSP": Membership("AlphaMSP", (ALPHA.pem,), revocation_lists=(Authority("alpha ca").revoke(issued),))}
    )
    assert forged.identify(issued, NOW).msp_id == "AlphaMSP"


def test_a_root_that_two_organisations_share_identifies_nobody() -> None:
    shared = Trust({name: Membership(name, (ALPHA.pem,)) for name in ("AlphaMSP", "BetaMSP")})
    with pytest.raises(UntrustedError, match="shared"):
        shared.identify(ALPHA.issue("ann"), NOW)


def test_a_gateway_is_believed_under_its_own_organisations_tls_roots_alone() -> None:
    assert TRUST.server_roots("AlphaMSP") == TLS.pem
    assert TLS.pem not in TRUST.client_roots
    assert TRUST.client_roots == ALPHA.pem + BETA.pem
    with pytest.raises(UntrustedError):
        TRUST.server_roots("GammaMSP")


def test_members_are_read_from_the_channels_configuration() -> None:
    channel = Channel(
        name="channel",
        applications=(Organisation(ChannelMembership("AlphaMSP", (ALPHA.pem,), (TLS.pem,))),),
        orderers=(
            Organisation(
                ChannelMembership("OrdererMSP", (BETA.pem,), (TLS.pem,)),
                orderer_endpoints=(Endpoint("127.0.0.1", 7050),),
            ),
        ),
        consensus=Raft((_consenter(),)),
    )
    _, configuration = read_config(genesis_block(channel))
    trust = Trust.from_configuration(configuration)
    assert set(trust.members) == {"AlphaMSP"}
    assert trust.identify(ALPHA.issue("ann"), NOW).msp_id == "AlphaMSP"


def _consenter():
    return Consenter(1, Endpoint("127.0.0.1", 7050), "OrdererMSP", BETA.pem, TLS.pem, TLS.pem)


@pytest.mark.parametrize("flaw", MADE_UP)
def test_what_somebody_has_made_up_is_refused_as_nobodys(flaw: str) -> None:
    own = Authority("own")
    with pytest.raises(UntrustedError):
        Trust({"AMSP": Membership("AMSP", (own.pem,))}).identify(made_up(MADE_UP[flaw]), NOW)


@pytest.mark.parametrize("broken", [{"roots": (b"no certificate",)}, {"revocation_lists": (b"no list",)}], ids=str)
def test_an_organisation_that_can_not_be_read_vouches_for_nobody_and_hinders_no_other(broken) -> None:
    own, other = Authority("own"), Authority("other")
    unread = Membership("BMSP", **{"roots": (other.pem,), **broken})
    trust = Trust({"AMSP": Membership("AMSP", (own.pem,)), "BMSP": unread})
    assert trust.identify(own.issue("user"), NOW).msp_id == "AMSP"
    with pytest.raises(UntrustedError):
        trust.identify(other.issue("user"), NOW)
