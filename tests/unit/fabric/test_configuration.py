"""A channel's configuration, compared with what Fabric's own configtxgen and configtxlator make of the same."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from fabric_protos.common import common_pb2, policies_pb2
from fedfabric.fabric import configuration, policies
from fedfabric.fabric.configuration import (
    Batch,
    Bft,
    Channel,
    ConfigurationError,
    Consenter,
    Endpoint,
    Membership,
    Organisation,
    Raft,
)


def program(name: str) -> str:
    """Find one of Fabric's programs: on PATH, or where FABRIC_PROGRAMS says."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("FABRIC_PROGRAMS", ""), os.environ["PATH"]]))
    if found is None:
        pytest.skip(f"{name} is neither on PATH nor under FABRIC_PROGRAMS")
    return found


def run(*arguments: object, data: bytes | None = None) -> bytes:
    environment = {"FABRIC_LOGGING_SPEC": "error", "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [str(one) for one in arguments], input=data, capture_output=True, env=environment, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.fixture(scope="session")
def crypto(tmp_path_factory) -> Path:
    """Certificates of an ordering organisation with four orderers and of two member organisations with one each."""
    folder = tmp_path_factory.mktemp("crypto")
    described = {
        "OrdererOrgs": [
            {
                "Name": "Orderer",
                "Domain": "orderer.test",
                "EnableNodeOUs": True,
                "Specs": [{"Hostname": f"o{n}", "SANS": ["127.0.0.1"]} for n in range(4)],
            }
        ],
        "PeerOrgs": [
            {"Name": f"Org{n}", "Domain": f"org{n}.test", "EnableNodeOUs": True, "Template": {"Count": 1}}
            for n in (1, 2, 3)
        ],
    }
    (folder / "crypto.yaml").write_text(yaml.safe_dump(described))
    run(program("cryptogen"), "generate", "--config", folder / "crypto.yaml", "--output", folder / "out")
    return folder / "out"


def folder_of(crypto: Path, msp_id: str) -> Path:
    if msp_id == "OrdererMSP":
        return crypto / "ordererOrganizations/orderer.test"
    return crypto / f"peerOrganizations/{msp_id.removesuffix('MSP').lower()}.test"


def organisation(crypto: Path, msp_id: str, port: int, endpoints: tuple[Endpoint, ...] = ()) -> Organisation:
    msp = folder_of(crypto, msp_id) / "msp"
    return Organisation(
        Membership(
            msp_id,
            roots=tuple(path.read_bytes() for path in sorted((msp / "cacerts").iterdir())),
            tls_roots=tuple(path.read_bytes() for path in sorted((msp / "tlscacerts").iterdir())),
        ),
        anchor_peers=(Endpoint("127.0.0.1", port),) if port else (),
        orderer_endpoints=endpoints,
    )


def consenter_files(crypto: Path, number: int) -> tuple[Path, Path]:
    home = folder_of(crypto, "OrdererMSP") / f"orderers/o{number}.orderer.test"
    return home / f"msp/signcerts/o{number}.orderer.test-cert.pem", home / "tls/server.crt"


def consenters(crypto: Path, count: int) -> tuple[Consenter, ...]:
    made = []
    for number in range(count):
        identity, tls = (path.read_bytes() for path in consenter_files(crypto, number))
        made.append(Consenter(number + 1, Endpoint("127.0.0.1", 7050 + number), "OrdererMSP", identity, tls, tls))
    return tuple(made)


def channel_of(crypto: Path, kind: str) -> Channel:
    count = 1 if kind == "etcdraft" else 4
    ordering = organisation(
        crypto, "OrdererMSP", 0, tuple(Endpoint("127.0.0.1", 7050 + number) for number in range(count))
    )
    nodes = consenters(crypto, count)
    return Channel(
        "ch1",
        applications=(organisation(crypto, "Org1MSP", 7151), organisation(crypto, "Org2MSP", 7251)),
        orderers=(ordering, organisation(crypto, "Org1MSP", 0, (Endpoint("127.0.0.1", 7059),))),
        consensus=Raft(nodes) if kind == "etcdraft" else Bft(nodes),
        batch=Batch(timeout_ms=50, max_messages=20, absolute_max_bytes=10 * 2**20, preferred_max_bytes=2**20),
    )


def profile(crypto: Path, kind: str) -> dict:
    """The same channel in configtxgen's language."""

    def signature(msp_id, *roles):
        return {"Type": "Signature", "Rule": "OR(" + ",".join(f"'{msp_id}.{role}'" for role in roles) + ")"}

    def meta(rule):
        return {"Type": "ImplicitMeta", "Rule": rule}

    def member(msp_id, port, *extra):
        described = {
            "Name": msp_id,
            "ID": msp_id,
            "MSPDir": str(folder_of(crypto, msp_id) / "msp"),
            "Policies": {
                "Readers": signature(msp_id, "admin", "peer", "client", *extra),
                "Writers": signature(msp_id, "admin", "client", *extra),
                "Admins": signature(msp_id, "admin"),
            },
        }
        if not extra:
            described["Policies"]["Endorsement"] = signature(msp_id, "peer")
            described["AnchorPeers"] = [{"Host": "127.0.0.1", "Port": port}]
        return described

    count = 1 if kind == "etcdraft" else 4
    standard = {"Readers": meta("ANY Readers"), "Writers": meta("ANY Writers"), "Admins": meta("MAJORITY Admins")}
    ordering = {
        "OrdererType": kind,
        "BatchTimeout": "50ms",
        "BatchSize": {"MaxMessageCount": 20, "AbsoluteMaxBytes": "10 MB", "PreferredMaxBytes": "1 MB"},
        "Organizations": [
            {
                **member("OrdererMSP", 0, "orderer"),
                "OrdererEndpoints": [f"127.0.0.1:{7050 + number}" for number in range(count)],
            },
            {**member("Org1MSP", 0, "orderer"), "OrdererEndpoints": ["127.0.0.1:7059"]},
        ],
        "Policies": {**standard, "BlockValidation": meta("ANY Writers")},
        "Capabilities": {"V2_0": True},
    }
    nodes = [
        {
            "Host": "127.0.0.1",
            "Port": 7050 + number,
            "ClientTLSCert": str(consenter_files(crypto, number)[1]),
            "ServerTLSCert": str(consenter_files(crypto, number)[1]),
        }
        for number in range(count)
    ]
    if kind == "etcdraft":
        ordering["EtcdRaft"] = {
            "Consenters": nodes,
            "Options": {
                "TickInterval": "100ms",
                "ElectionTick": 10,
                "HeartbeatTick": 1,
                "MaxInflightBlocks": 5,
                "SnapshotIntervalSize": "16 MB",
            },
        }
    else:
        ordering["ConsenterMapping"] = [
            {**node, "ID": number + 1, "MSPID": "OrdererMSP", "Identity": str(consenter_files(crypto, number)[0])}
            for number, node in enumerate(nodes)
        ]
        ordering["SmartBFT"] = {
            "RequestBatchMaxCount": 20,
            "RequestBatchMaxBytes": 10 * 2**20,
            "RequestBatchMaxInterval": "50ms",
            "IncomingMessageBufferSize": 200,
            "RequestPoolSize": 100000,
            "RequestForwardTimeout": "500ms",
            "RequestComplainTimeout": "1000ms",
            "RequestAutoRemoveTimeout": "180000ms",
            "RequestMaxBytes": 10 * 2**20,
            "ViewChangeResendInterval": "500ms",
            "ViewChangeTimeout": "2000ms",
            "LeaderHeartbeatTimeout": "2000ms",
            "LeaderHeartbeatCount": 10,
            "CollectTimeout": "1000ms",
        }
    return {
        "Policies": standard,
        "Capabilities": {"V3_0": True},
        "Orderer": ordering,
        "Application": {
            "Organizations": [member("Org1MSP", 7151), member("Org2MSP", 7251)],
            "Policies": {
                **standard,
                "Endorsement": meta("MAJORITY Endorsement"),
                "LifecycleEndorsement": meta("MAJORITY Endorsement"),
            },
            "Capabilities": {"V2_5": True},
        },
    }


class PlainDumper(yaml.SafeDumper):
    """configtxgen reads no YAML aliases."""

    def ignore_aliases(self, data):
        return True


@pytest.mark.parametrize("kind", ["etcdraft", "BFT"])
def test_the_genesis_block_says_what_configtxgen_says(crypto, kind, tmp_path):
    written = yaml.dump({"Profiles": {"Ch": profile(crypto, kind)}}, Dumper=PlainDumper)
    (tmp_path / "configtx.yaml").write_text(written)
    out = tmp_path / "oracle.block"
    run(
        *(program("configtxgen"), "-profile", "Ch", "-channelID", "ch1"),
        *("-outputBlock", out, "-configPath", tmp_path),
    )
    theirs = common_pb2.Block.FromString(out.read_bytes())
    block = configuration.genesis_block(channel_of(crypto, kind))

    name, config = configuration.read_config(block)
    assert name == "ch1"
    assert config == configuration.read_config(theirs)[1]
    assert block.metadata == theirs.metadata
    assert block.header.number == theirs.header.number
    assert block.header.previous_hash == theirs.header.previous_hash


def test_configtxlator_reads_the_genesis_block(crypto):
    block = configuration.genesis_block(channel_of(crypto, "BFT"))
    decoded = json.loads(
        run(program("configtxlator"), "proto_decode", "--type", "common.Block", data=block.SerializeToString())
    )
    config = decoded["data"]["data"][0]["payload"]["data"]["config"]
    ordering = config["channel_group"]["groups"]["Orderer"]
    assert len(ordering["values"]["Orderers"]["value"]["consenter_mapping"]) == 4
    assert ordering["policies"]["BlockValidation"]["policy"]["value"]["rule"]["n_out_of"]["n"] == 3


def test_clock_and_randomness_come_from_outside(crypto):
    channel = channel_of(crypto, "BFT")
    fixed = {"created_ns": 1_700_000_000_000_000_000, "nonce": bytes(24)}
    once = configuration.genesis_block(channel, **fixed).SerializeToString(deterministic=True)
    again = configuration.genesis_block(channel, **fixed).SerializeToString(deterministic=True)
    assert once == again
    assert once != configuration.genesis_block(channel).SerializeToString(deterministic=True)


@pytest.mark.parametrize(("consenters", "quorum"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 4), (7, 5), (10, 7)])
def test_a_bft_quorum_is_half_of_all_and_the_faulty_and_one_rounded_up(consenters, quorum):
    assert policies.bft_quorum(consenters) == quorum


def test_a_bft_channel_below_capability_3_is_refused(crypto):
    ordering = organisation(crypto, "OrdererMSP", 0, (Endpoint("127.0.0.1", 7050),))
    with pytest.raises(ConfigurationError, match="V3_0"):
        Channel("ch", (), (ordering,), Bft(consenters(crypto, 1)), channel_capability="V2_0")


def test_an_ordering_organisation_without_endpoints_is_refused_at_capability_3(crypto):
    with pytest.raises(ConfigurationError, match="OrdererMSP has no orderer endpoints"):
        Channel("ch", (), (organisation(crypto, "OrdererMSP", 0),), Raft(consenters(crypto, 1)))


def test_a_consenter_of_an_organisation_without_orderers_is_refused(crypto):
    with pytest.raises(ConfigurationError, match="OrdererMSP runs no orderers"):
        Channel(
            "ch", (), (organisation(crypto, "Org1MSP", 0, (Endpoint("127.0.0.1", 1),)),), Raft(consenters(crypto, 1))
        )


def test_a_block_that_holds_no_configuration_is_refused_by_name(crypto):
    block = configuration.genesis_block(channel_of(crypto, "BFT"))
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
