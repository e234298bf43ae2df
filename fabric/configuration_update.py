"""How a running channel's configuration is changed: edit a copy, compute the difference, collect signatures.

    _, current = read_config(block)
    updated = with_application(current, newcomer)
    update = compute_update("channel", current, updated)
    signatures = [sign_update(update, identity, signer) for each administrator that the policy asks for]
    envelope = update_envelope(update, signatures, identity, signer)

Every edit returns a new configuration and leaves the given one as it was. The difference is Fabric's own
(`internal/configtxlator/update`): what is read and what is written, each element with its version.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Final, TypeVar

from fabric_protos.common import common_pb2, configtx_pb2, configuration_pb2
from fabric_protos.orderer import configuration_pb2 as orderer_pb2
from fabric_protos.orderer.etcdraft import configuration_pb2 as etcdraft_pb2
from google.protobuf.message import DecodeError, Message

from . import policies
from .configuration import (
    BLOCK_VALIDATION,
    Batch,
    ConfigurationError,
    Consenter,
    Endpoint,
    Organisation,
    application_group,
    batch_values,
    serialize,
    set_value,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .identity import Identity, Signer

_M = TypeVar("_M", bound=Message)
_NONCE_BYTES: Final = 24
_RAFT: Final = "etcdraft"
_BFT: Final = "BFT"


def compute_update(
    channel_name: str, current: configtx_pb2.Config, updated: configtx_pb2.Config
) -> configtx_pb2.ConfigUpdate:
    """Return the difference from `current` to `updated`, as administrators sign it.

    Raises:
        ConfigurationError: the two are equal, so that there is nothing to change.
    """
    read, write, changed = _compare(current.channel_group, updated.channel_group)
    if not changed:
        raise ConfigurationError(f"channel {channel_name}: the configurations are equal, there is nothing to update")
    return configtx_pb2.ConfigUpdate(channel_id=channel_name, read_set=read, write_set=write)


def sign_update(
    update: configtx_pb2.ConfigUpdate, identity: Identity, signer: Signer, *, nonce: bytes | None = None
) -> configtx_pb2.ConfigSignature:
    """Return one administrator's signature over an update (over signature header and update)."""
    header = _signature_header(identity, nonce)
    return configtx_pb2.ConfigSignature(signature_header=header, signature=signer(header + serialize(update)))


def update_envelope(
    update: configtx_pb2.ConfigUpdate,
    signatures: Sequence[configtx_pb2.ConfigSignature],
    identity: Identity,
    signer: Signer,
    *,
    created_ns: int | None = None,
    nonce: bytes | None = None,
) -> common_pb2.Envelope:
    """Return the envelope for an orderer, sent in the name of `identity` (which the channel's Writers must admit)."""
    header = common_pb2.ChannelHeader(type=common_pb2.CONFIG_UPDATE, channel_id=update.channel_id)
    header.timestamp.FromNanoseconds(time.time_ns() if created_ns is None else created_ns)
    signed = configtx_pb2.ConfigUpdateEnvelope(config_update=serialize(update), signatures=signatures)
    payload = common_pb2.Payload(
        header=common_pb2.Header(
            channel_header=header.SerializeToString(), signature_header=_signature_header(identity, nonce)
        ),
        data=signed.SerializeToString(),
    ).SerializeToString()
    return common_pb2.Envelope(payload=payload, signature=signer(payload))


def application_msps(config: configtx_pb2.Config) -> tuple[str, ...]:
    """Return the MSP ids of the organisations with peers, sorted."""
    return tuple(sorted(_section(config, "Application").groups))


def consensus_kind(config: configtx_pb2.Config) -> str:
    """Return `etcdraft` or `BFT`, as the configuration spells it."""
    return str(_value(_section(config, "Orderer"), "ConsensusType", orderer_pb2.ConsensusType).type)


def consenters(config: configtx_pb2.Config) -> tuple[Consenter, ...]:
    """Return the consenter set; for Raft, numbers are positions and `msp_id` and `identity` are empty."""
    ordering = _section(config, "Orderer")
    if consensus_kind(config) == _BFT:
        mapped = _value(ordering, "Orderers", configuration_pb2.Orderers).consenter_mapping
        return tuple(
            Consenter(
                one.id,
                Endpoint(one.host, one.port),
                one.msp_id,
                one.identity,
                one.client_tls_cert,
                one.server_tls_cert,
            )
            for one in mapped
        )
    return tuple(
        Consenter(at, Endpoint(one.host, one.port), "", b"", one.client_tls_cert, one.server_tls_cert)
        for at, one in enumerate(_raft_metadata(ordering).consenters, start=1)
    )


def with_application(config: configtx_pb2.Config, organisation: Organisation) -> configtx_pb2.Config:
    """Add an organisation with peers, or renew its group (new anchor peers, new roots)."""
    edited = _copy(config)
    _replace(_section(edited, "Application"), organisation.msp_id, application_group(organisation))
    return edited


def without_application(config: configtx_pb2.Config, msp_id: str) -> configtx_pb2.Config:
    """Remove an organisation with peers."""
    edited = _copy(config)
    _remove(_section(edited, "Application"), msp_id)
    return edited


def with_consenter(config: configtx_pb2.Config, consenter: Consenter) -> configtx_pb2.Config:
    """Add a consenter, or renew the one of the same number (BFT) or endpoint (Raft).

    With BFT the policy BlockValidation is encoded anew. Fabric takes one change of the consenter set per update.
    """
    others = [one for one in consenters(config) if not _same_place(config, one, consenter)]
    return _with_consenters(config, [*others, consenter])


def without_consenter(config: configtx_pb2.Config, endpoint: Endpoint) -> configtx_pb2.Config:
    """Remove the consenter at an endpoint.

    Raises:
        ConfigurationError: no consenter is there.
    """
    present = consenters(config)
    left = [one for one in present if one.endpoint != endpoint]
    if len(left) == len(present):
        raise ConfigurationError(f"no consenter at {endpoint}")
    return _with_consenters(config, left)


def with_batch(config: configtx_pb2.Config, batch: Batch) -> configtx_pb2.Config:
    """Change when blocks are cut."""
    edited = _copy(config)
    batch_values(_section(edited, "Orderer"), batch)
    return edited


def _with_consenters(config: configtx_pb2.Config, wanted: Sequence[Consenter]) -> configtx_pb2.Config:
    edited = _copy(config)
    ordering = _section(edited, "Orderer")
    if consensus_kind(config) == _BFT:
        mapping = [
            configuration_pb2.Consenter(
                id=one.number,
                host=one.endpoint.host,
                port=one.endpoint.port,
                msp_id=one.msp_id,
                identity=one.identity,
                client_tls_cert=one.client_tls_certificate,
                server_tls_cert=one.server_tls_certificate,
            )
            for one in wanted
        ]
        set_value(ordering, "Orderers", configuration_pb2.Orderers(consenter_mapping=mapping))
        ordering.policies[BLOCK_VALIDATION].policy.CopyFrom(policies.bft_block_validation(wanted))
        return edited
    metadata = _raft_metadata(ordering)
    del metadata.consenters[:]
    for one in wanted:
        metadata.consenters.add(
            host=one.endpoint.host,
            port=one.endpoint.port,
            client_tls_cert=one.client_tls_certificate,
            server_tls_cert=one.server_tls_certificate,
        )
    consensus = _value(ordering, "ConsensusType", orderer_pb2.ConsensusType)
    consensus.metadata = serialize(metadata)
    set_value(ordering, "ConsensusType", consensus)
    return edited


def _same_place(config: configtx_pb2.Config, one: Consenter, other: Consenter) -> bool:
    if consensus_kind(config) == _BFT:
        return one.number == other.number
    return one.endpoint == other.endpoint


def _raft_metadata(ordering: configtx_pb2.ConfigGroup) -> etcdraft_pb2.ConfigMetadata:
    consensus = _value(ordering, "ConsensusType", orderer_pb2.ConsensusType)
    if consensus.type != _RAFT:
        raise ConfigurationError(f"ordering by {consensus.type!r} is not known here")
    return _parsed(etcdraft_pb2.ConfigMetadata, consensus.metadata, "ConsensusType.metadata")


def _section(config: configtx_pb2.Config, name: str) -> configtx_pb2.ConfigGroup:
    if name not in config.channel_group.groups:
        raise ConfigurationError(f"the configuration has no group {name}")
    return config.channel_group.groups[name]


def _value(group: configtx_pb2.ConfigGroup, key: str, kind: type[_M]) -> _M:
    if key not in group.values:
        raise ConfigurationError(f"the configuration has no value {key}")
    return _parsed(kind, group.values[key].value, key)


def _parsed(kind: type[_M], data: bytes, what: str) -> _M:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise ConfigurationError(f"the configuration's {what} is not readable") from error


def _copy(config: configtx_pb2.Config) -> configtx_pb2.Config:
    copied = configtx_pb2.Config()
    copied.CopyFrom(config)
    return copied


def _replace(section: configtx_pb2.ConfigGroup, name: str, group: configtx_pb2.ConfigGroup) -> None:
    # Versions are the channel's, not the builder's; the difference is computed over content and versions of the old.
    section.groups[name].CopyFrom(group)


def _remove(section: configtx_pb2.ConfigGroup, name: str) -> None:
    if name not in section.groups:
        raise ConfigurationError(f"organisation {name} is not in the configuration")
    del section.groups[name]


def _signature_header(identity: Identity, nonce: bytes | None) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES) if nonce is None else nonce
    return bytes(common_pb2.SignatureHeader(creator=identity.serialized(), nonce=nonce).SerializeToString())


def _compare(
    old: configtx_pb2.ConfigGroup, new: configtx_pb2.ConfigGroup
) -> tuple[configtx_pb2.ConfigGroup, configtx_pb2.ConfigGroup, bool]:
    """Return what is read and what is written of one group, and whether anything in or below it changed."""
    read = configtx_pb2.ConfigGroup(version=old.version)
    write = configtx_pb2.ConfigGroup(version=old.version)
    same = configtx_pb2.ConfigGroup()
    members_changed = _compare_leaves(old, new, write, same)

    for name, group in old.groups.items():
        if name not in new.groups:
            members_changed = True
            continue
        group_read, group_write, changed = _compare(group, new.groups[name])
        if changed:
            read.groups[name].CopyFrom(group_read)
            write.groups[name].CopyFrom(group_write)
        else:
            same.groups[name].CopyFrom(group_read)
    for name, group in new.groups.items():
        if name not in old.groups:
            members_changed = True
            _, added, _ = _compare(configtx_pb2.ConfigGroup(), group)
            added.version = 0
            added.mod_policy = group.mod_policy
            write.groups[name].CopyFrom(added)

    if not members_changed and old.mod_policy == new.mod_policy:
        changed = any((write.groups, write.values, write.policies, read.groups))
        return read, write, changed
    # The group itself changes: its members that stay as they are belong to what is read and to what is written.
    read.MergeFrom(same)
    write.MergeFrom(same)
    read.version = old.version
    write.version = old.version + 1
    write.mod_policy = new.mod_policy
    return read, write, True


def _compare_leaves(
    old: configtx_pb2.ConfigGroup,
    new: configtx_pb2.ConfigGroup,
    write: configtx_pb2.ConfigGroup,
    same: configtx_pb2.ConfigGroup,
) -> bool:
    """Sort values and policies into changed (`write`) and unchanged (`same`); return whether keys came or went."""
    for key, value in new.values.items():
        was = old.values.get(key, None)
        if was is not None and (was.mod_policy, was.value) == (value.mod_policy, value.value):
            same.values[key].version = was.version
        else:
            write.values[key].CopyFrom(value)
            write.values[key].version = 0 if was is None else was.version + 1
    for key, policy in new.policies.items():
        before = old.policies.get(key, None)
        if before is not None and (before.mod_policy, before.policy) == (policy.mod_policy, policy.policy):
            same.policies[key].version = before.version
        else:
            write.policies[key].CopyFrom(policy)
            write.policies[key].version = 0 if before is None else before.version + 1
    return set(old.values) != set(new.values) or set(old.policies) != set(new.policies)
