"""Configuration updates: the difference is configtxlator's, the edits keep what they do not name."""

import dataclasses

import pytest
from fabric_protos.common import common_pb2, configtx_pb2, policies_pb2
from fedfabric.fabric import configuration, configuration_update
from fedfabric.fabric.configuration import Batch, ConfigurationError, Consenter, Endpoint, Membership, Organisation
from fedfabric.fabric.identity import Identity, verify
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NAMES = st.sampled_from(["a", "b", "c", "d"])
POLICIES = st.sampled_from(["Admins", "Writers", ""])


def policies():
    return st.builds(
        lambda version, mod, kind, value: configtx_pb2.ConfigPolicy(
            version=version, mod_policy=mod, policy=policies_pb2.Policy(type=kind, value=value)
        ),
        st.integers(0, 3),
        POLICIES,
        st.integers(0, 3),
        st.sampled_from([b"x", b"y"]),
    )


def values():
    return st.builds(
        lambda version, mod, value: configtx_pb2.ConfigValue(version=version, mod_policy=mod, value=value),
        st.integers(0, 3),
        POLICIES,
        st.sampled_from([b"", b"x", b"y"]),
    )


def groups(children):
    return st.builds(
        lambda version, mod, values, policies, groups: configtx_pb2.ConfigGroup(
            version=version, mod_policy=mod, values=values, policies=policies, groups=groups
        ),
        st.integers(0, 3),
        POLICIES,
        st.dictionaries(NAMES, values(), max_size=3),
        st.dictionaries(NAMES, policies(), max_size=3),
        children,
    )


TREES = groups(st.dictionaries(NAMES, groups(st.dictionaries(NAMES, groups(st.just({})), max_size=2)), max_size=2))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(old=TREES, new=TREES)
def test_the_difference_is_what_configtxlator_computes(old, new, tmp_path, fabric_program):
    current = configtx_pb2.Config(sequence=1, channel_group=old)
    updated = configtx_pb2.Config(sequence=1, channel_group=new)
    (tmp_path / "old").write_bytes(current.SerializeToString())
    (tmp_path / "new").write_bytes(updated.SerializeToString())
    try:
        ours = configuration_update.compute_update("ch", current, updated)
    except ConfigurationError:
        ours = None
    theirs = fabric_program(
        *("configtxlator", "compute_update", "--channel_id", "ch"),
        *("--original", tmp_path / "old", "--updated", tmp_path / "new"),
        may_fail=True,
    )
    assert ours == (None if theirs is None else configtx_pb2.ConfigUpdate.FromString(theirs))


def newcomer(port: int = 9051) -> Organisation:
    return Organisation(Membership("NewMSP", (b"root",), (b"tls",)), anchor_peers=(Endpoint("127.0.0.1", port),))


def test_adding_an_organisation_writes_its_group_and_nothing_else(bft_channel):
    _, current = configuration.read_config(configuration.genesis_block(bft_channel))
    before = current.SerializeToString(deterministic=True)
    updated = configuration_update.with_application(current, newcomer())
    update = configuration_update.compute_update("ch1", current, updated)

    assert current.SerializeToString(deterministic=True) == before
    assert configuration_update.application_msps(updated) == ("NewMSP", "Org1MSP", "Org2MSP")
    write = update.write_set.groups["Application"]
    assert write.version == 1
    assert set(write.groups["NewMSP"].values) == {"MSP", "AnchorPeers"}
    assert not write.groups["Org1MSP"].values
    assert configuration_update.without_application(updated, "NewMSP") == current


def test_adding_a_bft_consenter_encodes_block_validation_anew(bft_channel):
    _, current = configuration.read_config(configuration.genesis_block(bft_channel))
    fifth = Consenter(5, Endpoint("127.0.0.1", 7060), "Org1MSP", b"identity", b"client", b"server")
    updated = configuration_update.with_consenter(current, fifth)

    assert configuration_update.consenters(updated) == (*bft_channel.consensus.consenters, fifth)
    policy = updated.channel_group.groups["Orderer"].policies["BlockValidation"].policy
    rule = policies_pb2.SignaturePolicyEnvelope.FromString(policy.value)
    assert (rule.rule.n_out_of.n, len(rule.identities)) == (4, 5)
    assert configuration_update.without_consenter(updated, fifth.endpoint) == current


def test_renewing_a_consenters_certificate_changes_the_policy_that_names_it(bft_channel):
    _, current = configuration.read_config(configuration.genesis_block(bft_channel))
    renewed = dataclasses.replace(bft_channel.consensus.consenters[0], identity=b"renewed")
    updated = configuration_update.with_consenter(current, renewed)
    assert len(configuration_update.consenters(updated)) == 4
    policy = updated.channel_group.groups["Orderer"].policies["BlockValidation"].policy
    assert b"renewed" in policy.value


def test_a_raft_consenter_set_grows_and_shrinks_and_keeps_its_options(raft_channel):
    _, current = configuration.read_config(configuration.genesis_block(raft_channel))
    second = Consenter(2, Endpoint("127.0.0.1", 7060), "", b"", b"client", b"server")
    updated = configuration_update.with_consenter(current, second)
    assert [one.endpoint.port for one in configuration_update.consenters(updated)] == [7050, 7060]
    assert configuration_update.without_consenter(updated, second.endpoint) == current
    with pytest.raises(ConfigurationError, match="no consenter at"):
        configuration_update.without_consenter(current, second.endpoint)


def test_batch_settings_change_and_equal_configurations_give_no_update(bft_channel):
    _, current = configuration.read_config(configuration.genesis_block(bft_channel))
    with pytest.raises(ConfigurationError, match="nothing to update"):
        configuration_update.compute_update("ch1", current, current)
    updated = configuration_update.with_batch(current, Batch(timeout_ms=77))
    write = configuration_update.compute_update("ch1", current, updated).write_set.groups["Orderer"]
    assert set(write.values) == {"BatchTimeout", "BatchSize"}


def test_an_unknown_organisation_cannot_be_removed(bft_channel):
    _, current = configuration.read_config(configuration.genesis_block(bft_channel))
    with pytest.raises(ConfigurationError, match="NoMSP is not in"):
        configuration_update.without_application(current, "NoMSP")


def test_each_administrator_signs_its_own_header_and_the_update(bft_channel, administrators):
    _, current = configuration.read_config(configuration.genesis_block(bft_channel))
    update = configuration_update.compute_update(
        "ch1", current, configuration_update.with_application(current, newcomer())
    )
    signatures = [configuration_update.sign_update(update, identity, sign) for identity, sign in administrators]
    envelope = configuration_update.update_envelope(update, signatures, *administrators[0])

    payload = common_pb2.Payload.FromString(envelope.payload)
    verify(administrators[0][0].certificate, envelope.payload, envelope.signature)
    sent = configtx_pb2.ConfigUpdateEnvelope.FromString(payload.data)
    assert configtx_pb2.ConfigUpdate.FromString(sent.config_update) == update
    for (identity, _), signature in zip(administrators, sent.signatures, strict=True):
        header = common_pb2.SignatureHeader.FromString(signature.signature_header)
        assert Identity.parse(header.creator) == identity
        verify(identity.certificate, signature.signature_header + sent.config_update, signature.signature)
