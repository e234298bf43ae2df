"""A channel's configuration: built from a description, turned into a genesis block, read back from a block.

Everything here is pure: no program of Fabric is run. A `Channel` describes what an operator decides; `genesis_block`
gives the bytes that every orderer and peer joins with. How a running channel is changed stands in
`configuration_update`.

Source: Fabric's `internal/configtxgen/encoder`, `common/channelconfig` and `common/genesis`.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from fabric_protos.common import common_pb2, configtx_pb2, configuration_pb2, policies_pb2
from fabric_protos.msp import msp_config_pb2
from fabric_protos.orderer import configuration_pb2 as orderer_pb2
from fabric_protos.orderer.etcdraft import configuration_pb2 as etcdraft_pb2
from fabric_protos.orderer.smartbft import configuration_pb2 as smartbft_pb2
from fabric_protos.peer import configuration_pb2 as peer_pb2
from google.protobuf.message import DecodeError, Message

from . import policies

if TYPE_CHECKING:
    from collections.abc import Mapping

ADMINS: Final = "Admins"
BLOCK_VALIDATION: Final = "BlockValidation"
_M = TypeVar("_M", bound=Message)
_NONCE_BYTES: Final = 24
_FABRIC_MSP: Final = 0
_MAX_CONFIG_BLOCK_BYTES: Final = 64 * 1024 * 1024


class ConfigurationError(ValueError):
    """A channel configuration that cannot be built or read; the text names the field."""


@dataclass(frozen=True)
class Endpoint:
    """Where a process is reached: host name or address, and TCP port."""

    host: str
    port: int

    def __post_init__(self) -> None:
        if not self.host or not 0 < self.port < 65536:
            raise ConfigurationError(f"endpoint {self.host!r}:{self.port}: a host and a port of 1 to 65535 are needed")

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Membership:
    """An organisation's membership service: which certificates are its own. All certificates are PEM."""

    msp_id: str
    roots: tuple[bytes, ...]
    tls_roots: tuple[bytes, ...]
    intermediates: tuple[bytes, ...] = ()
    tls_intermediates: tuple[bytes, ...] = ()
    revocation_lists: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if not self.msp_id:
            raise ConfigurationError("membership: the MSP id is empty")
        if not self.roots:
            raise ConfigurationError(f"membership {self.msp_id}: at least one root certificate is needed")


@dataclass(frozen=True)
class Organisation:
    """One organisation of the channel; its configuration group carries the name of its MSP.

    `anchor_peers` matter where it runs peers, `orderer_endpoints` where it runs orderers.
    """

    membership: Membership
    anchor_peers: tuple[Endpoint, ...] = ()
    orderer_endpoints: tuple[Endpoint, ...] = ()

    @property
    def msp_id(self) -> str:
        """The MSP id, which is the name of the configuration group too."""
        return self.membership.msp_id


@dataclass(frozen=True)
class Consenter:
    """One orderer of the consenter set. Certificates are PEM; `identity` is the signing certificate (BFT only)."""

    number: int
    endpoint: Endpoint
    msp_id: str
    identity: bytes
    client_tls_certificate: bytes
    server_tls_certificate: bytes


@dataclass(frozen=True)
class Batch:
    """When a block is cut: after `timeout_ms`, or at one of the sizes (messages, bytes)."""

    timeout_ms: int = 200
    max_messages: int = 500
    absolute_max_bytes: int = 10 * 1024 * 1024
    preferred_max_bytes: int = 2 * 1024 * 1024

    def __post_init__(self) -> None:
        if min(self.timeout_ms, self.max_messages, self.absolute_max_bytes, self.preferred_max_bytes) < 1:
            raise ConfigurationError("batch: timeout and sizes must be positive")
        if self.preferred_max_bytes > self.absolute_max_bytes:
            raise ConfigurationError("batch: preferred_max_bytes exceeds absolute_max_bytes")


@dataclass(frozen=True)
class Raft:
    """Crash-fault-tolerant ordering (etcdraft). A heartbeat every `tick_ms`, an election after `election_ticks`."""

    consenters: tuple[Consenter, ...]
    tick_ms: int = 100
    election_ticks: int = 10
    heartbeat_ticks: int = 1
    max_inflight_blocks: int = 5
    snapshot_interval_bytes: int = 16 * 1024 * 1024

    def __post_init__(self) -> None:
        if self.election_ticks <= self.heartbeat_ticks:
            raise ConfigurationError("raft: election_ticks must exceed heartbeat_ticks")


@dataclass(frozen=True)
class Bft:
    """Byzantine-fault-tolerant ordering (SmartBFT), times in milliseconds.

    The defaults elect a new leader about 1.7 s after the old one died (Fabric's own defaults: 22 s).
    """

    consenters: tuple[Consenter, ...]
    request_forward_ms: int = 500
    request_complain_ms: int = 1000
    request_auto_remove_ms: int = 180_000
    view_change_resend_ms: int = 500
    view_change_ms: int = 2000
    leader_heartbeat_ms: int = 2000
    leader_heartbeat_count: int = 10
    collect_ms: int = 1000
    incoming_message_buffer: int = 200
    request_pool: int = 100_000
    request_max_bytes: int = 10 * 1024 * 1024
    sync_on_start: bool = False
    speed_up_view_change: bool = False


@dataclass(frozen=True)
class Channel:
    """A channel as its operator describes it.

    `applications` are the organisations with peers, `orderers` those that run orderers; one organisation may be both.
    Endorsement and life cycle are implicit meta rules over the organisations' policy `Endorsement`.
    """

    name: str
    applications: tuple[Organisation, ...]
    orderers: tuple[Organisation, ...]
    consensus: Raft | Bft
    batch: Batch = Batch()
    endorsement: str = "MAJORITY Endorsement"
    lifecycle_endorsement: str = "MAJORITY Endorsement"
    channel_capability: str = "V3_0"
    orderer_capability: str = "V2_0"
    application_capability: str = "V2_5"
    acls: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigurationError("channel: the name is empty")
        if not self.orderers or not self.consensus.consenters:
            raise ConfigurationError(f"channel {self.name}: at least one orderer is needed")
        for place, organisations in (("applications", self.applications), ("orderers", self.orderers)):
            names = [organisation.msp_id for organisation in organisations]
            if len(set(names)) != len(names):
                raise ConfigurationError(f"channel {self.name}: {place} name an MSP twice: {names}")
        if isinstance(self.consensus, Bft) and self.channel_capability < "V3_0":
            raise ConfigurationError(f"channel {self.name}: BFT needs channel capability V3_0 or later")
        for organisation in self.orderers:
            if not organisation.orderer_endpoints and self.channel_capability >= "V3_0":
                raise ConfigurationError(
                    f"channel {self.name}: {organisation.msp_id} has no orderer endpoints, which V3_0 asks for"
                )
        self._check_consenters()

    def _check_consenters(self) -> None:
        consenters = self.consensus.consenters
        members = {organisation.msp_id for organisation in self.orderers}
        for consenter in consenters:
            if consenter.msp_id not in members:
                raise ConfigurationError(f"consenter {consenter.endpoint}: {consenter.msp_id} runs no orderers here")
        if len({consenter.number for consenter in consenters}) != len(consenters):
            raise ConfigurationError(f"channel {self.name}: two consenters have one number")


def membership_config(membership: Membership) -> msp_config_pb2.MSPConfig:
    """Return the MSP definition, with node OUs (client, peer, admin, orderer) on under the first root."""

    def unit(name: str) -> msp_config_pb2.FabricOUIdentifier:
        return msp_config_pb2.FabricOUIdentifier(certificate=membership.roots[0], organizational_unit_identifier=name)

    config = msp_config_pb2.FabricMSPConfig(
        name=membership.msp_id,
        root_certs=membership.roots,
        intermediate_certs=membership.intermediates,
        revocation_list=membership.revocation_lists,
        crypto_config=msp_config_pb2.FabricCryptoConfig(
            signature_hash_family="SHA2", identity_identifier_hash_function="SHA256"
        ),
        tls_root_certs=membership.tls_roots,
        tls_intermediate_certs=membership.tls_intermediates,
        fabric_node_ous=msp_config_pb2.FabricNodeOUs(
            enable=True,
            client_ou_identifier=unit("client"),
            peer_ou_identifier=unit("peer"),
            admin_ou_identifier=unit("admin"),
            orderer_ou_identifier=unit("orderer"),
        ),
    )
    return msp_config_pb2.MSPConfig(type=_FABRIC_MSP, config=config.SerializeToString())


def application_group(organisation: Organisation) -> configtx_pb2.ConfigGroup:
    """Return the group of an organisation under `Application`: MSP, policies, anchor peers."""
    group = _organisation_group(
        organisation.membership,
        readers=("admin", "peer", "client"),
        writers=("admin", "client"),
    )
    _set_policy(group, "Endorsement", policies.signature_policy(policies.any_role(organisation.msp_id, ["peer"])))
    if organisation.anchor_peers:
        anchors = [peer_pb2.AnchorPeer(host=peer.host, port=peer.port) for peer in organisation.anchor_peers]
        set_value(group, "AnchorPeers", peer_pb2.AnchorPeers(anchor_peers=anchors))
    return group


def orderer_group(organisation: Organisation) -> configtx_pb2.ConfigGroup:
    """Return the group of an organisation under `Orderer`: MSP, policies that admit its orderers, endpoints."""
    group = _organisation_group(
        organisation.membership,
        readers=("admin", "peer", "client", "orderer"),
        writers=("admin", "client", "orderer"),
    )
    if organisation.orderer_endpoints:
        set_value(
            group,
            "Endpoints",
            configuration_pb2.OrdererAddresses(addresses=[str(at) for at in organisation.orderer_endpoints]),
        )
    return group


def channel_group(channel: Channel) -> configtx_pb2.ConfigGroup:
    """Return the root of the channel's configuration, every element at version 0."""
    group = configtx_pb2.ConfigGroup(mod_policy=ADMINS)
    _standard_policies(group)
    set_value(group, "HashingAlgorithm", configuration_pb2.HashingAlgorithm(name="SHA256"))
    set_value(group, "BlockDataHashingStructure", configuration_pb2.BlockDataHashingStructure(width=2**32 - 1))
    _set_capability(group, channel.channel_capability)
    _fill_ordering(group.groups["Orderer"], channel)

    application = group.groups["Application"]
    application.mod_policy = ADMINS
    _standard_policies(application)
    _set_policy(application, "Endorsement", policies.implicit_meta(channel.endorsement))
    _set_policy(application, "LifecycleEndorsement", policies.implicit_meta(channel.lifecycle_endorsement))
    _set_capability(application, channel.application_capability)
    if channel.acls:
        acls = peer_pb2.ACLs()
        for resource, policy in channel.acls.items():
            acls.acls[resource].policy_ref = policy
        set_value(application, "ACLs", acls)
    for organisation in channel.applications:
        application.groups[organisation.msp_id].CopyFrom(application_group(organisation))
    return group


def genesis_block(channel: Channel, *, created_ns: int | None = None, nonce: bytes | None = None) -> common_pb2.Block:
    """Return the channel's genesis block.

    Two calls give different blocks unless `created_ns` (nanoseconds since 1970, default: now) and `nonce` (24 bytes,
    default: random) are given.
    """
    nonce = secrets.token_bytes(_NONCE_BYTES) if nonce is None else nonce
    created_ns = time.time_ns() if created_ns is None else created_ns
    header = common_pb2.ChannelHeader(
        type=common_pb2.CONFIG,
        version=1,
        channel_id=channel.name,
        epoch=0,
        tx_id=hashlib.sha256(nonce).hexdigest(),  # over nonce and creator, and a genesis block has no creator
    )
    header.timestamp.FromNanoseconds(created_ns)
    config = configtx_pb2.ConfigEnvelope(config=configtx_pb2.Config(channel_group=channel_group(channel)))
    payload = common_pb2.Payload(
        header=common_pb2.Header(
            channel_header=serialize(header),
            signature_header=common_pb2.SignatureHeader(nonce=nonce).SerializeToString(),
        ),
        data=serialize(config),
    )
    envelope = common_pb2.Envelope(payload=serialize(payload)).SerializeToString()

    block = common_pb2.Block()
    block.header.number = 0
    block.header.data_hash = hashlib.sha256(envelope).digest()
    block.data.data.append(envelope)
    last_config = common_pb2.LastConfig(index=0)
    metadata = [b""] * len(common_pb2.BlockMetadataIndex.keys())
    metadata[common_pb2.LAST_CONFIG] = common_pb2.Metadata(value=last_config.SerializeToString()).SerializeToString()
    metadata[common_pb2.SIGNATURES] = common_pb2.Metadata(
        value=common_pb2.OrdererBlockMetadata(last_config=last_config).SerializeToString()
    ).SerializeToString()
    block.metadata.metadata.extend(metadata)
    return block


def read_config(block: common_pb2.Block | bytes) -> tuple[str, configtx_pb2.Config]:
    """Return channel name and configuration of a configuration block (as an orderer, a peer or `genesis_block` gives).

    Raises:
        ConfigurationError: this is not a configuration block.
    """
    if isinstance(block, bytes):
        if len(block) > _MAX_CONFIG_BLOCK_BYTES:
            raise ConfigurationError(f"configuration block: {len(block)} bytes, more than {_MAX_CONFIG_BLOCK_BYTES}")
        block = _parse(common_pb2.Block, block, "block")
    if len(block.data.data) != 1:
        raise ConfigurationError(
            f"block {block.header.number}: {len(block.data.data)} transactions, a configuration block has one"
        )
    envelope = _parse(common_pb2.Envelope, block.data.data[0], "envelope")
    payload = _parse(common_pb2.Payload, envelope.payload, "payload")
    header = _parse(common_pb2.ChannelHeader, payload.header.channel_header, "channel header")
    if header.type != common_pb2.CONFIG:
        raise ConfigurationError(f"block {block.header.number}: header type {header.type} is not CONFIG")
    config = _parse(configtx_pb2.ConfigEnvelope, payload.data, "configuration envelope").config
    if not config.HasField("channel_group"):
        raise ConfigurationError(f"block {block.header.number}: the configuration has no channel group")
    return header.channel_id, config


def set_value(group: configtx_pb2.ConfigGroup, key: str, value: Message, mod_policy: str = ADMINS) -> None:
    """Write one value of a group; maps inside are serialised in key order, so that equal values have equal bytes."""
    group.values[key].CopyFrom(configtx_pb2.ConfigValue(mod_policy=mod_policy, value=serialize(value)))


def serialize(message: Message) -> bytes:
    """Serialise with maps in key order."""
    return message.SerializeToString(deterministic=True)


def batch_values(group: configtx_pb2.ConfigGroup, batch: Batch) -> None:
    """Write the batch settings into the group `Orderer`."""
    set_value(
        group,
        "BatchSize",
        orderer_pb2.BatchSize(
            max_message_count=batch.max_messages,
            absolute_max_bytes=batch.absolute_max_bytes,
            preferred_max_bytes=batch.preferred_max_bytes,
        ),
    )
    set_value(group, "BatchTimeout", orderer_pb2.BatchTimeout(timeout=f"{batch.timeout_ms}ms"))


def consensus_values(group: configtx_pb2.ConfigGroup, consensus: Raft | Bft, batch: Batch) -> None:
    """Write consenters, options and the policy BlockValidation into the group `Orderer`."""
    if isinstance(consensus, Raft):
        metadata: Message = _raft_metadata(consensus)
        _set_policy(group, BLOCK_VALIDATION, policies.implicit_meta("ANY Writers"))
    else:
        metadata = _bft_options(consensus, batch)
        orderers = configuration_pb2.Orderers(consenter_mapping=[_mapped(one) for one in consensus.consenters])
        set_value(group, "Orderers", orderers)
        _set_policy(group, BLOCK_VALIDATION, policies.bft_block_validation(consensus.consenters))
    kind = "etcdraft" if isinstance(consensus, Raft) else "BFT"
    set_value(group, "ConsensusType", orderer_pb2.ConsensusType(type=kind, metadata=serialize(metadata)))


def _mapped(consenter: Consenter) -> configuration_pb2.Consenter:
    return configuration_pb2.Consenter(
        id=consenter.number,
        host=consenter.endpoint.host,
        port=consenter.endpoint.port,
        msp_id=consenter.msp_id,
        identity=consenter.identity,
        client_tls_cert=consenter.client_tls_certificate,
        server_tls_cert=consenter.server_tls_certificate,
    )


def _raft_metadata(raft: Raft) -> etcdraft_pb2.ConfigMetadata:
    return etcdraft_pb2.ConfigMetadata(
        consenters=[
            etcdraft_pb2.Consenter(
                host=consenter.endpoint.host,
                port=consenter.endpoint.port,
                client_tls_cert=consenter.client_tls_certificate,
                server_tls_cert=consenter.server_tls_certificate,
            )
            for consenter in raft.consenters
        ],
        options=etcdraft_pb2.Options(
            tick_interval=f"{raft.tick_ms}ms",
            election_tick=raft.election_ticks,
            heartbeat_tick=raft.heartbeat_ticks,
            max_inflight_blocks=raft.max_inflight_blocks,
            snapshot_interval_size=raft.snapshot_interval_bytes,
        ),
    )


def _bft_options(bft: Bft, batch: Batch) -> smartbft_pb2.Options:
    return smartbft_pb2.Options(
        request_batch_max_count=batch.max_messages,
        request_batch_max_bytes=batch.absolute_max_bytes,
        request_batch_max_interval=f"{batch.timeout_ms}ms",
        incoming_message_buffer_size=bft.incoming_message_buffer,
        request_pool_size=bft.request_pool,
        request_forward_timeout=f"{bft.request_forward_ms}ms",
        request_complain_timeout=f"{bft.request_complain_ms}ms",
        request_auto_remove_timeout=f"{bft.request_auto_remove_ms}ms",
        request_max_bytes=bft.request_max_bytes,
        view_change_resend_interval=f"{bft.view_change_resend_ms}ms",
        view_change_timeout=f"{bft.view_change_ms}ms",
        leader_heartbeat_timeout=f"{bft.leader_heartbeat_ms}ms",
        leader_heartbeat_count=bft.leader_heartbeat_count,
        collect_timeout=f"{bft.collect_ms}ms",
        sync_on_start=bft.sync_on_start,
        speed_up_view_change=bft.speed_up_view_change,
    )


def _fill_ordering(group: configtx_pb2.ConfigGroup, channel: Channel) -> None:
    group.mod_policy = ADMINS
    _standard_policies(group)
    batch_values(group, channel.batch)
    set_value(group, "ChannelRestrictions", orderer_pb2.ChannelRestrictions())
    _set_capability(group, channel.orderer_capability)
    consensus_values(group, channel.consensus, channel.batch)
    for organisation in channel.orderers:
        group.groups[organisation.msp_id].CopyFrom(orderer_group(organisation))


def _organisation_group(
    membership: Membership, *, readers: tuple[str, ...], writers: tuple[str, ...]
) -> configtx_pb2.ConfigGroup:
    group = configtx_pb2.ConfigGroup(mod_policy=ADMINS)
    set_value(group, "MSP", membership_config(membership))
    for key, roles in (("Readers", readers), ("Writers", writers), ("Admins", ("admin",))):
        _set_policy(group, key, policies.signature_policy(policies.any_role(membership.msp_id, roles)))
    return group


def _standard_policies(group: configtx_pb2.ConfigGroup) -> None:
    for key, rule in (("Readers", "ANY Readers"), ("Writers", "ANY Writers"), ("Admins", "MAJORITY Admins")):
        _set_policy(group, key, policies.implicit_meta(rule))


def _set_policy(group: configtx_pb2.ConfigGroup, key: str, policy: policies_pb2.Policy) -> None:
    group.policies[key].CopyFrom(configtx_pb2.ConfigPolicy(mod_policy=ADMINS, policy=policy))


def _set_capability(group: configtx_pb2.ConfigGroup, capability: str) -> None:
    capabilities = configuration_pb2.Capabilities()
    capabilities.capabilities[capability].SetInParent()
    set_value(group, "Capabilities", capabilities)


def _parse(kind: type[_M], data: bytes, what: str) -> _M:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise ConfigurationError(f"configuration block: the {what} is not readable") from error
