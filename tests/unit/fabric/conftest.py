"""Certificates and channels that the tests of this folder share, made by Fabric's own cryptogen."""

import functools
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from fedfabric.fabric.configuration import Batch, Bft, Channel, Consenter, Endpoint, Membership, Organisation, Raft
from fedfabric.fabric.identity import Identity, private_key_signer
from fedfabric.network.programs import Programs, ensure


def program(name: str) -> str:
    """Find one of Fabric's programs: those that `make setup` has built, or on PATH."""
    return str(programs().program(name))


@functools.cache
def programs() -> Programs:
    return ensure()


def run(name: str, *arguments: object, data: bytes | None = None, may_fail: bool = False) -> bytes | None:
    environment = {"FABRIC_LOGGING_SPEC": "error", "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [program(name), *map(str, arguments)], input=data, capture_output=True, env=environment, check=False, timeout=60
    )
    if may_fail and done.returncode:
        return None
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
    run("cryptogen", "generate", "--config", folder / "crypto.yaml", "--output", folder / "out")
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


@pytest.fixture(scope="session")
def fabric_program():
    """Run one of Fabric's programs: name, arguments, `data` on its input; gives its output."""
    return run


@pytest.fixture(scope="session")
def raft_channel(crypto) -> Channel:
    return channel_of(crypto, "etcdraft")


@pytest.fixture(scope="session")
def bft_channel(crypto) -> Channel:
    return channel_of(crypto, "BFT")


@pytest.fixture(scope="session")
def administrators(crypto):
    """Identity and signer of the administrators of Org1MSP and Org2MSP."""
    found = []
    for msp_id in ("Org1MSP", "Org2MSP"):
        (msp,) = (folder_of(crypto, msp_id) / "users").glob("Admin@*/msp")
        (certificate,) = (msp / "signcerts").iterdir()
        (key,) = (msp / "keystore").iterdir()
        found.append((Identity(msp_id, certificate.read_bytes()), private_key_signer(key.read_bytes())))
    return tuple(found)


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


@pytest.fixture(scope="session")
def configtxgen_profile(crypto):
    """The channel of one kind of ordering in configtxgen's language."""
    return lambda kind: profile(crypto, kind)
