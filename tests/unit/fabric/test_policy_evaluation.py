"""Memberships and policies judged from configurations alone, and updates by their signatures."""

import base64
import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from fabric_protos.common import common_pb2, configtx_pb2, policies_pb2
from fedfabric.fabric import policies
from fedfabric.fabric.blocks import block_file_name, decode_block, read_blocks
from fedfabric.fabric.configuration import (
    Batch,
    Bft,
    Channel,
    ConfigurationError,
    Consenter,
    Endpoint,
    Membership,
    Organisation,
    genesis_block,
    membership_config,
    read_config,
)
from fedfabric.fabric.configuration_authority import UnauthorisedUpdateError, authorised_result
from fedfabric.fabric.configuration_update import (
    compute_update,
    sign_update,
    update_envelope,
    with_application,
    with_batch,
    without_application,
)
from fedfabric.fabric.identity import Identity, private_key_signer, verify
from fedfabric.fabric.membership import MembershipError, MembershipService
from fedfabric.fabric.policy_evaluation import ChannelPolicies, UnknownPolicyError
from fedfabric.network.identities import Authorities

CHANNELS = Path(__file__).parents[2] / "data" / "channels"
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class House:
    """An organisation's authorities and members."""

    def __init__(self, msp_id: str) -> None:
        self.msp_id = msp_id
        self.authorities = Authorities.create(msp_id, NOW)
        self.people = {}

    def membership(self, **changes) -> Membership:
        certificate = self.authorities.signing.certificate
        return Membership(self.msp_id, (certificate,), (self.authorities.tls.certificate,), **changes)

    def service(self, **changes) -> MembershipService:
        return MembershipService(membership_config(self.membership(**changes)))

    def person(self, kind, name="somebody"):
        if (kind, name) not in self.people:
            issued = self.authorities.signing.issue(name, NOW, kind=kind)
            self.people[kind, name] = (Identity(self.msp_id, issued.certificate), private_key_signer(issued.key))
        return self.people[kind, name]

    def identity(self, kind, name="somebody") -> Identity:
        return self.person(kind, name)[0]


@pytest.fixture(scope="module")
def houses():
    return {name: House(name) for name in ("AMSP", "BMSP", "CMSP", "OrdererMSP")}


@pytest.fixture(scope="module")
def channel(houses) -> Channel:
    orderer = houses["OrdererMSP"]
    endpoint = Endpoint("127.0.0.1", 7050)
    certificate = orderer.identity("orderer").certificate
    return Channel(
        "ch",
        tuple(Organisation(houses[name].membership()) for name in ("AMSP", "BMSP", "CMSP")),
        (Organisation(orderer.membership(), orderer_endpoints=(endpoint,)),),
        Bft((Consenter(1, endpoint, "OrdererMSP", certificate, certificate, certificate),)),
    )


@pytest.fixture(scope="module")
def config(channel) -> configtx_pb2.Config:
    return read_config(genesis_block(channel))[1]


@pytest.fixture(scope="module")
def judged(config) -> ChannelPolicies:
    return ChannelPolicies(config)


class TestMembership:
    def test_gives_the_role_of_the_node_ou(self, houses):
        service = houses["AMSP"].service()
        assert {
            kind: service.role(houses["AMSP"].identity(kind)) for kind in ("client", "admin", "peer", "orderer")
        } == {kind: kind for kind in ("client", "admin", "peer", "orderer")}

    def test_refuses_certificates_of_another_authority_of_the_same_name(self, houses):
        stranger = House("AMSP").identity("peer")
        with pytest.raises(MembershipError, match="does not lead to a root"):
            houses["AMSP"].service().role(stranger)

    def test_refuses_an_identity_of_another_msp(self, houses):
        with pytest.raises(MembershipError, match="BMSP is not AMSP"):
            houses["AMSP"].service().role(houses["BMSP"].identity("peer"))

    def test_refuses_the_authority_itself_and_certificates_without_a_node_ou(self, houses):
        house = houses["AMSP"]
        with pytest.raises(MembershipError, match="CA's certificate"):
            house.service().role(Identity("AMSP", house.authorities.signing.certificate))
        plain = house.authorities.signing.issue("nobody", NOW)
        with pytest.raises(MembershipError, match="0 of the node OUs"):
            house.service().role(Identity("AMSP", plain.certificate))

    def test_refuses_revoked_certificates(self, houses):
        house = houses["AMSP"]
        revoked = house.identity("client", "revoked")
        issuer = x509.load_pem_x509_certificate(house.authorities.signing.certificate)
        key = serialization.load_pem_private_key(house.authorities.signing.key, None)
        entry = x509.RevokedCertificateBuilder().serial_number(revoked.x509.serial_number).revocation_date(NOW).build()
        listed = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.subject)
            .last_update(NOW)
            .next_update(NOW + datetime.timedelta(days=1))
            .add_revoked_certificate(entry)
            .sign(key, hashes.SHA256())
        )
        service = house.service(revocation_lists=(listed.public_bytes(serialization.Encoding.PEM),))
        assert service.role(house.identity("client")) == "client"
        with pytest.raises(MembershipError, match="revoked"):
            service.role(revoked)

    def test_refuses_what_is_no_certificate(self, houses):
        with pytest.raises(MembershipError, match="can't be read"):
            houses["AMSP"].service().role(Identity("AMSP", b"not a certificate"))

    @pytest.mark.parametrize("flaw", ["a version that there is not", "extensions given twice", "a beginning in 9999"])
    def test_refuses_what_somebody_has_made_up(self, houses, flaw):
        house = houses["AMSP"]
        if flaw == "a beginning in 9999":
            begins = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
            key = ec.generate_private_key(ec.SECP256R1())
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
            built = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1)
            built = built.public_key(key.public_key()).not_valid_before(begins).not_valid_after(begins)
            made_up = built.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
        else:
            real = x509.load_pem_x509_certificate(house.identity("client").certificate).public_bytes(Encoding.DER)
            old, new = {
                "a version that there is not": ("a003020102", "a003020109"),
                "extensions given twice": ("0603551d23", "0603551d25"),  # authority key id, extended key usage
            }[flaw]
            changed = real.replace(bytes.fromhex(old), bytes.fromhex(new), 1)
            assert changed != real
            made_up = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(changed) + b"-----END CERTIFICATE-----\n"
        with pytest.raises(MembershipError, match="can't be read"):
            house.service().role(Identity("AMSP", made_up))

    def test_refuses_a_definition_of_another_kind(self, houses):
        config = membership_config(houses["AMSP"].membership())
        config.type = 1
        with pytest.raises(MembershipError, match="MSP type 1"):
            MembershipService(config)


class TestPolicies:
    def test_a_majority_of_organisations_endorses(self, judged, houses):
        path = "/Channel/Application/Endorsement"
        a, b, c = (houses[name].identity("peer") for name in ("AMSP", "BMSP", "CMSP"))
        assert judged.satisfied(path, [a, b])
        assert judged.satisfied(path, [a, b, c])
        assert not judged.satisfied(path, [a])
        assert not judged.satisfied(path, [])
        assert not judged.satisfied(path, [a, a, a])
        assert not judged.satisfied(path, [a, houses["AMSP"].identity("peer", "another")])
        assert not judged.satisfied(path, [houses[name].identity("client") for name in ("AMSP", "BMSP")])
        assert not judged.satisfied(path, [a, House("BMSP").identity("peer")])
        assert not judged.satisfied(path, [a, Identity("NoMSP", a.certificate)])

    def test_one_orderer_of_a_bft_channel_is_named_by_its_certificate(self, judged, houses):
        path = "/Channel/Orderer/BlockValidation"
        assert judged.satisfied(path, [houses["OrdererMSP"].identity("orderer")])
        assert not judged.satisfied(path, [houses["OrdererMSP"].identity("orderer", "another")])

    def test_signature_rules_use_each_signer_once(self, judged, houses):
        a, b = houses["AMSP"].identity("peer"), houses["BMSP"].identity("peer")
        both = policies.parse_signature_rule("AND('AMSP.peer','AMSP.member')")
        assert not judged.rule_satisfied(both, [a])
        assert judged.rule_satisfied(both, [a, houses["AMSP"].identity("client")])
        nested = policies.parse_signature_rule("OR(AND('AMSP.peer','BMSP.peer'), AND('AMSP.admin','BMSP.admin'))")
        assert judged.rule_satisfied(nested, [b, a])
        assert not judged.rule_satisfied(nested, [a, houses["BMSP"].identity("admin")])
        two = policies.parse_signature_rule("OutOf(2,'AMSP.peer','BMSP.peer','CMSP.peer')")
        assert judged.rule_satisfied(two, [a, b])
        assert not judged.rule_satisfied(two, [a])

    def test_a_rule_that_names_no_principal_is_not_satisfied(self, judged, houses):
        rule = policies.any_role("AMSP", ["peer"])
        rule.rule.n_out_of.rules[0].signed_by = 7
        assert not judged.rule_satisfied(rule, [houses["AMSP"].identity("peer")])

    def test_one_certificate_in_two_pems_is_one_signer(self, judged, houses):
        peer = houses["AMSP"].identity("peer")
        again = Identity("AMSP", b"the same once more\n" + peer.certificate)
        assert again.x509 == peer.x509
        two = policies.parse_signature_rule("OutOf(2,'AMSP.peer','AMSP.member')")
        assert not judged.rule_satisfied(two, [peer, again])
        assert judged.rule_satisfied(two, [peer, houses["AMSP"].identity("peer", "another")])

    def test_a_rule_without_content_is_not_satisfied(self, judged, houses):
        empty = policies_pb2.SignaturePolicyEnvelope()
        assert not judged.rule_satisfied(empty, [])
        assert not judged.rule_satisfied(empty, [houses["AMSP"].identity("peer")])
        inner = policies.any_role("AMSP", ["peer"])
        inner.rule.n_out_of.rules[0].Clear()
        assert not judged.rule_satisfied(inner, [houses["AMSP"].identity("peer")])

    def test_an_unknown_implicit_rule_is_an_error(self, config, houses):
        edited = configtx_pb2.Config()
        edited.CopyFrom(config)
        meta = policies_pb2.ImplicitMetaPolicy(rule=7, sub_policy="Endorsement")
        edited.channel_group.groups["Application"].policies["Endorsement"].policy.value = meta.SerializeToString()
        with pytest.raises(UnknownPolicyError, match="unknown rule 7"):
            ChannelPolicies(edited).satisfied("/Channel/Application/Endorsement", [houses["AMSP"].identity("peer")])

    @pytest.mark.parametrize("path", ["/Channel/Application/None", "/Channel/None/Admins", "Admins", "/Other/Admins"])
    def test_unknown_policies_are_errors(self, judged, path):
        with pytest.raises(UnknownPolicyError):
            judged.satisfied(path, [])

    def test_an_organisation_that_is_defined_in_two_ways_is_refused(self, channel, houses):
        twice = House("OrdererMSP").membership()
        config = read_config(genesis_block(channel))[1]
        edited = with_application(config, Organisation(twice))
        with pytest.raises(MembershipError, match="in two ways"):
            ChannelPolicies(edited)


class TestUpdates:
    """Each by its signatures; the results are compared with those of Fabric on real channels."""

    @pytest.mark.parametrize("ordering", ["bft", "raft"])
    def test_of_a_real_channel_gives_what_fabric_made(self, ordering):
        current = None
        for block in read_blocks(CHANNELS / ordering):
            if block.config is None:
                continue
            if current is not None:
                made = authorised_result("ch1", current, ChannelPolicies(current), block.transactions[0].last_update)
                assert made == block.config
            current = block.config

    def update(self, config, updated, *signers, channel="ch"):
        update = compute_update(channel, config, updated)
        signatures = [sign_update(update, *signer) for signer in signers]
        return update_envelope(update, signatures, *signers[0])

    def admins(self, houses, *names):
        return [houses[name].person("admin") for name in names]

    def test_by_a_majority_of_administrators_holds(self, config, judged, houses):
        updated = with_application(config, Organisation(House("NewMSP").membership()))
        envelope = self.update(config, updated, *self.admins(houses, "AMSP", "BMSP"))
        result = authorised_result("ch", config, judged, envelope)
        assert result.sequence == 1
        assert "NewMSP" in result.channel_group.groups["Application"].groups
        assert result.channel_group.groups["Application"].version == 1

    def test_by_too_few_is_refused(self, config, judged, houses):
        updated = with_application(config, Organisation(House("NewMSP").membership()))
        envelope = self.update(config, updated, *self.admins(houses, "AMSP"))
        with pytest.raises(UnauthorisedUpdateError, match="/Channel/Application/Admins, signed by AMSP"):
            authorised_result("ch", config, judged, envelope)

    def test_of_ordering_needs_the_orderers(self, config, judged, houses):
        updated = with_batch(config, Batch(timeout_ms=5))
        members = self.admins(houses, "AMSP", "BMSP", "CMSP")
        with pytest.raises(UnauthorisedUpdateError, match="/Channel/Orderer/Admins"):
            authorised_result("ch", config, judged, self.update(config, updated, *members))
        envelope = self.update(config, updated, *self.admins(houses, "OrdererMSP"))
        assert authorised_result("ch", config, judged, envelope) is not None

    def test_with_a_forged_signature_counts_it_for_nothing(self, config, judged, houses):
        updated = without_application(config, "CMSP")
        (a, sign_a), (b, _) = self.admins(houses, "AMSP", "BMSP")
        update = compute_update("ch", config, updated)
        signatures = [sign_update(update, a, sign_a), sign_update(update, b, sign_a)]
        with pytest.raises(UnauthorisedUpdateError, match=r"signed by AMSP$"):
            authorised_result("ch", config, judged, update_envelope(update, signatures, a, sign_a))

    def test_of_an_outdated_configuration_is_refused(self, config, judged, houses):
        admins = self.admins(houses, "AMSP", "BMSP")
        updated = with_application(config, Organisation(House("NewMSP").membership()))
        envelope = self.update(config, updated, *admins)
        after = authorised_result("ch", config, judged, envelope)
        with pytest.raises(UnauthorisedUpdateError, match="not at version 0"):
            authorised_result("ch", after, ChannelPolicies(after), envelope)

    def test_of_another_channel_is_refused(self, config, judged, houses):
        updated = without_application(config, "CMSP")
        envelope = self.update(config, updated, *self.admins(houses, "AMSP", "BMSP"), channel="other")
        with pytest.raises(UnauthorisedUpdateError, match="channel 'other'"):
            authorised_result("ch", config, judged, envelope)

    def test_that_skips_a_version_or_drops_its_policy_is_refused(self, config, judged, houses):
        updated = without_application(config, "CMSP")
        admins = self.admins(houses, "AMSP", "BMSP")
        for change, text in (
            (lambda group: setattr(group, "version", 7), "set to version 7"),
            (lambda group: setattr(group, "mod_policy", ""), "no modification policy"),
        ):
            update = compute_update("ch", config, updated)
            change(update.write_set.groups["Application"])
            signatures = [sign_update(update, *admin) for admin in admins]
            with pytest.raises(UnauthorisedUpdateError, match=text):
                authorised_result("ch", config, judged, update_envelope(update, signatures, *admins[0]))

    @pytest.mark.parametrize("name", ["Application/AMSP", "..", "A B", "x" * 250, "É"])
    @pytest.mark.parametrize("kind", ["groups", "values", "policies"])
    def test_that_names_an_element_as_fabric_does_not_is_refused(self, config, judged, houses, kind, name):
        update = compute_update("ch", config, without_application(config, "CMSP"))
        getattr(update.write_set.groups["Application"], kind)[name].mod_policy = "Admins"
        admins = self.admins(houses, "AMSP", "BMSP")
        signatures = [sign_update(update, *admin) for admin in admins]
        with pytest.raises(ConfigurationError, match=r"/Channel/Application: .* is no name of an element"):
            authorised_result("ch", config, judged, update_envelope(update, signatures, *admins[0]))

    def test_that_is_no_update_is_refused(self, config, judged):
        with pytest.raises(ConfigurationError, match="not that of a configuration update"):
            authorised_result("ch", config, judged, common_pb2.Envelope())
        with pytest.raises(ConfigurationError, match="not readable"):
            authorised_result("ch", config, judged, common_pb2.Envelope(payload=b"\xff"))


def test_real_orderers_signatures_satisfy_the_real_policy():
    genesis = decode_block((CHANNELS / "raft" / block_file_name(0)).read_bytes())
    block = decode_block((CHANNELS / "raft" / block_file_name(1)).read_bytes())
    judged = ChannelPolicies(genesis.config)
    (signature,) = block.orderer_signatures
    signer = Identity.parse(signature.signer)
    verify(signer.certificate, block.signed_by_orderer(signature), signature.signature)
    assert judged.satisfied("/Channel/Orderer/BlockValidation", [signer])
    assert not judged.satisfied(
        "/Channel/Orderer/BlockValidation", [block.transactions[0].action.endorsements[0].endorser]
    )
