"""Whether a configuration follows from the one before it, by an update that whoever must has signed.

What each peer and orderer decides of a configuration update, from the configurations alone: every element that is read
has the version that the update names, every element that changes is one version on and signed as its own modification
policy asks, and the new configuration is the old one with exactly these changes.

Source: Fabric's `common/configtx/update.go`, `configmap.go` and `validator.go`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from fabric_protos.common import common_pb2, configtx_pb2
from google.protobuf.message import DecodeError

from .configuration import ADMINS, ConfigurationError
from .identity import Identity, InvalidIdentityError, WrongSignatureError, verify
from .policy_evaluation import ChannelPolicies, UnknownPolicyError

if TYPE_CHECKING:
    from collections.abc import Mapping

Element: TypeAlias = configtx_pb2.ConfigGroup | configtx_pb2.ConfigValue | configtx_pb2.ConfigPolicy
_Place: TypeAlias = tuple[str, str]
"""Kind (group, value, policy) and path, `/Channel/...`."""

_MAX_ELEMENTS: Final = 100_000
_KEY: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9.-]{1,249}", re.ASCII)
"""What Fabric takes for an element's name (`validateConfigID`); so that no name looks like another element's path."""
_ROOT: Final = "/Channel"


class UnauthorisedUpdateError(ConfigurationError):
    """An update that its signatures do not carry, or that does not fit the configuration before it."""


@dataclass(frozen=True)
class _Map:
    """A configuration's elements by their places."""

    elements: dict[_Place, Element]

    @classmethod
    def of(cls, root: configtx_pb2.ConfigGroup) -> _Map:
        found: dict[_Place, Element] = {}
        waiting = [(_ROOT, root)]
        while waiting:
            path, group = waiting.pop()
            for key in (*group.values, *group.policies, *group.groups):
                if not _KEY.fullmatch(key):
                    raise ConfigurationError(f"{path}: {key[:60]!r} is no name of an element")
            found["group", path] = group
            found.update((("value", f"{path}/{key}"), value) for key, value in group.values.items())
            found.update((("policy", f"{path}/{key}"), policy) for key, policy in group.policies.items())
            waiting += [(f"{path}/{key}", inner) for key, inner in group.groups.items()]
            if len(found) > _MAX_ELEMENTS:
                raise ConfigurationError(f"a configuration of more than {_MAX_ELEMENTS} elements")
        return cls(found)


def authorised_result(
    channel_name: str, current: configtx_pb2.Config, policies: ChannelPolicies, update: common_pb2.Envelope
) -> configtx_pb2.Config:
    """Return the configuration that an update makes of `current`, whose policies are `policies`.

    Args:
        channel_name: the channel that the update must be for.
        current: the configuration in force.
        policies: the same configuration's members and policies.
        update: the envelope that administrators sent (`last_update` of a configuration block).

    Raises:
        UnauthorisedUpdateError: names the first element that may not be changed so.
        ConfigurationError: the envelope can't be read.
    """
    signed = _opened(update)
    try:
        content = configtx_pb2.ConfigUpdate.FromString(signed.config_update)
    except DecodeError as error:
        raise ConfigurationError("the configuration update is not readable") from error
    if content.channel_id != channel_name:
        raise UnauthorisedUpdateError(f"an update of channel {content.channel_id!r}")
    existing = _Map.of(current.channel_group).elements
    read = _Map.of(content.read_set).elements if content.HasField("read_set") else {}
    for place, element in read.items():
        if place not in existing or existing[place].version != element.version:
            raise UnauthorisedUpdateError(f"{_name(place)} is not at version {element.version}, which the update read")
    written = _Map.of(content.write_set).elements if content.HasField("write_set") else {}
    changed = {
        place: element
        for place, element in written.items()
        if place not in read or read[place].version != element.version
    }
    if not changed:
        raise UnauthorisedUpdateError("the update changes nothing")
    signers = _signers(signed)
    for place in sorted(changed):
        _require_authority(place, changed[place], existing.get(place), policies, signers)
    result = configtx_pb2.Config(sequence=current.sequence + 1)
    result.channel_group.CopyFrom(_built(_ROOT, {**existing, **changed}))
    return result


def _opened(update: common_pb2.Envelope) -> configtx_pb2.ConfigUpdateEnvelope:
    try:
        payload = common_pb2.Payload.FromString(update.payload)
        header = common_pb2.ChannelHeader.FromString(payload.header.channel_header)
        signed = configtx_pb2.ConfigUpdateEnvelope.FromString(payload.data)
    except DecodeError as error:
        raise ConfigurationError("the configuration update's envelope is not readable") from error
    if header.type != common_pb2.CONFIG_UPDATE:
        raise ConfigurationError(f"the envelope's type is {header.type}, not that of a configuration update")
    return signed


def _signers(signed: configtx_pb2.ConfigUpdateEnvelope) -> list[Identity]:
    """Return whose signatures hold; others count for nothing, as in Fabric."""
    found = []
    for one in signed.signatures:
        try:
            header = common_pb2.SignatureHeader.FromString(one.signature_header)
            identity = Identity.parse(header.creator)
            verify(identity.certificate, one.signature_header + signed.config_update, one.signature)
        except (DecodeError, InvalidIdentityError, WrongSignatureError):
            continue
        found.append(identity)
    return found


def _require_authority(
    place: _Place,
    element: Element,
    existing: Element | None,
    policies: ChannelPolicies,
    signers: list[Identity],
) -> None:
    if not element.mod_policy:
        raise UnauthorisedUpdateError(f"{_name(place)} is given no modification policy")
    if existing is None:
        # New elements belong to a group whose own version goes up, and that group's policy is asked.
        if element.version != 0:
            raise UnauthorisedUpdateError(f"{_name(place)} does not exist and is set to version {element.version}")
        return
    if element.version != existing.version + 1:
        raise UnauthorisedUpdateError(
            f"{_name(place)} is at version {existing.version} and is set to version {element.version}"
        )
    path = _policy_path(place, existing)
    try:
        satisfied = policies.satisfied(path, signers)
    except UnknownPolicyError as error:
        raise UnauthorisedUpdateError(f"{_name(place)}: {error}") from error
    if not satisfied:
        names = ", ".join(sorted({signer.msp_id for signer in signers})) or "nobody"
        raise UnauthorisedUpdateError(f"{_name(place)} asks for {path}, signed by {names}")


def _policy_path(place: _Place, existing: Element) -> str:
    policy = str(existing.mod_policy)
    if policy.startswith("/"):
        return policy
    kind, path = place
    return f"{path if kind == 'group' else path.rpartition('/')[0]}/{policy}"


def _built(path: str, elements: Mapping[_Place, Element]) -> configtx_pb2.ConfigGroup:
    """Put a group together from its own member lists and the elements at their places."""
    listed = elements["group", path]
    if not isinstance(listed, configtx_pb2.ConfigGroup):
        raise ConfigurationError(f"{path} is no group")
    built = configtx_pb2.ConfigGroup(version=listed.version, mod_policy=listed.mod_policy or ADMINS)
    for key in listed.values:
        built.values[key].CopyFrom(elements["value", f"{path}/{key}"])
        built.values[key].mod_policy = built.values[key].mod_policy or ADMINS
    for key in listed.policies:
        built.policies[key].CopyFrom(elements["policy", f"{path}/{key}"])
        built.policies[key].mod_policy = built.policies[key].mod_policy or ADMINS
    for key in listed.groups:
        built.groups[key].CopyFrom(_built(f"{path}/{key}", elements))
    return built


def _name(place: _Place) -> str:
    return f"the {place[0]} {place[1]}"
