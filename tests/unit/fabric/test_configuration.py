"""A channel's configuration, compared with what Fabric's own configtxgen and configtxlator make of the same."""

import dataclasses
import json

import pytest
import yaml
from fabric_protos.common import common_pb2, policies_pb2
from fedfabric.fabric import configuration, policies
from fedfabric.fabric.configuration import ConfigurationError


class PlainDumper(yaml.SafeDumper):
    """configtxgen reads no YAML aliases."""

    def ignore_aliases(self, data):
        return True


@pytest.mark.parametrize("kind", ["etcdraft", "BFT"])
def test_the_genesis_block_says_what_configtxgen_says(kind, tmp_path, request, fabric_program, configtxgen_profile):
    channel = request.getfixturevalue({"etcdraft": "raft_channel", "BFT": "bft_channel"}[kind])
    written = yaml.dump({"Profiles": {"Ch": configtxgen_profile(kind)}}, Dumper=PlainDumper)
    (tmp_path / "configtx.yaml").write_text(written)
    out = tmp_path / "oracle.block"
    fabric_program(
        *("configtxgen", "-profile", "Ch", "-channelID", "ch1"),
        *("-outputBlock", out, "-configPath", tmp_path),
    )
    theirs = common_pb2.Block.FromString(out.read_bytes())
    block = configuration.genesis_block(channel)

    name, config = configuration.read_config(block)
    assert name == "ch1"
    assert config == configuration.read_config(theirs)[1]
    assert block.metadata == theirs.metadata
    assert block.header.number == theirs.header.number
    assert block.header.previous_hash == theirs.header.previous_hash


def test_configtxlator_reads_the_genesis_block(bft_channel, fabric_program):
    block = configuration.genesis_block(bft_channel)
    decoded = json.loads(
        fabric_program("configtxlator", "proto_decode", "--type", "common.Block", data=block.SerializeToString())
    )
    config = decoded["data"]["data"][0]["payload"]["data"]["config"]
    ordering = config["channel_group"]["groups"]["Orderer"]
    assert len(ordering["values"]["Orderers"]["value"]["consenter_mapping"]) == 4
    assert ordering["policies"]["BlockValidation"]["policy"]["value"]["rule"]["n_out_of"]["n"] == 3


def test_clock_and_randomness_come_from_outside(bft_channel):
    fixed = {"created_ns": 1_700_000_000_000_000_000, "nonce": bytes(24)}
    once = configuration.genesis_block(bft_channel, **fixed).SerializeToString(deterministic=True)
    again = configuration.genesis_block(bft_channel, **fixed).SerializeToString(deterministic=True)
    assert once == again
    assert once != configuration.genesis_block(bft_channel).SerializeToString(deterministic=True)


@pytest.mark.parametrize(("consenters", "quorum"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 4), (7, 5), (10, 7)])
def test_a_bft_quorum_is_half_of_all_and_the_faulty_and_one_rounded_up(consenters, quorum):
    assert policies.bft_quorum(consenters) == quorum


def test_a_bft_channel_below_capability_3_is_refused(bft_channel):
    with pytest.raises(ConfigurationError, match="V3_0"):
        dataclasses.replace(bft_channel, channel_capability="V2_0")


def test_an_ordering_organisation_without_endpoints_is_refused_at_capability_3(bft_channel):
    bare = dataclasses.replace(bft_channel.orderers[0], orderer_endpoints=())
    with pytest.raises(ConfigurationError, match="OrdererMSP has no orderer endpoints"):
        dataclasses.replace(bft_channel, orderers=(bare,))


def test_a_consenter_of_an_organisation_without_orderers_is_refused(bft_channel):
    with pytest.raises(ConfigurationError, match="OrdererMSP runs no orderers"):
        dataclasses.replace(bft_channel, orderers=bft_channel.orderers[1:])


def test_two_consenters_of_one_number_are_refused(bft_channel):
    twice = dataclasses.replace(bft_channel.consensus, consenters=bft_channel.consensus.consenters[:1] * 2)
    with pytest.raises(ConfigurationError, match="one number"):
        dataclasses.replace(bft_channel, consensus=twice)


def test_a_block_that_holds_no_configuration_is_refused_by_name(bft_channel):
    block = configuration.genesis_block(bft_channel)
    block.data.data.append(block.data.data[0])
    with pytest.raises(ConfigurationError, match="2 transactions"):
        configuration.read_config(block)
    with pytest.raises(ConfigurationError, match="not readable"):
        configuration.read_config(b"\xff\xff")


@pytest.mark.parametrize(
    ("rule", "flaw"),
    [
        ("OR('A.peer'", "was expected"),
        ("OR('A.peer') x", "nothing more"),
        ("NOR('A.peer')", "AND, OR or OutOf"),
        ("OutOf(3, 'A.peer', 'B.peer')", "3 of 2"),
        ("OR('A')", "expected MSP.role"),
        ("OR('A.king')", "expected one of"),
        ("OR(" * 40 + "'A.peer'" + ")" * 40, "levels"),
    ],
)
def test_a_signature_rule_that_cannot_be_read_names_the_place(rule, flaw):
    with pytest.raises(policies.PolicyError, match=flaw):
        policies.parse_signature_rule(rule)


def test_a_signature_rule_enters_each_principal_once():
    envelope = policies.parse_signature_rule("AND('A.peer', OR('B.peer','A.peer'), OutOf(1,'C.admin', 'B.peer'))")
    assert len(envelope.identities) == 3
    assert envelope.rule.n_out_of.n == 3
    assert [rule.signed_by for rule in envelope.rule.n_out_of.rules[1].n_out_of.rules] == [1, 0]


def test_implicit_rules_are_read_as_fabric_spells_them():
    policy = policies.implicit_meta("MAJORITY Endorsement")
    meta = policies_pb2.ImplicitMetaPolicy.FromString(policy.value)
    assert (meta.rule, meta.sub_policy) == (policies_pb2.ImplicitMetaPolicy.MAJORITY, "Endorsement")
    with pytest.raises(policies.PolicyError):
        policies.implicit_meta("MOST Endorsement")
