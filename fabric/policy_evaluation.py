"""Whether signatures satisfy a channel's policies, by its configuration.

Source: Fabric's `common/cauthdsl/cauthdsl.go` (signature rules: each identity counts once, sub-rules are tried in
order) and `common/policies/implicitmeta.go`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.serialization import Encoding
from fabric_protos.common import configtx_pb2, policies_pb2
from fabric_protos.msp import msp_config_pb2, msp_principal_pb2
from google.protobuf.message import DecodeError

from .identity import InvalidIdentityError
from .membership import MembershipError, MembershipService

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .identity import Identity

_MAX_DEPTH: Final = 32


class UnknownPolicyError(ValueError):
    """The configuration has no such policy, or one that can't be read."""


class ChannelPolicies:
    """One configuration's members and policies.

    Raises:
        MembershipError: an MSP's definition in it can't be used, or two differ under one id.
    """

    def __init__(self, config: configtx_pb2.Config) -> None:
        self._root = config.channel_group
        self.members: Mapping[str, MembershipService] = _members(config.channel_group)

    def member(self, msp_id: str) -> MembershipService:
        """Return an organisation's MSP.

        Raises:
            MembershipError: the channel has no such organisation.
        """
        if msp_id not in self.members:
            raise MembershipError(f"{msp_id!r} is no organisation of the channel")
        return self.members[msp_id]

    def satisfied(self, path: str, signers: Sequence[Identity]) -> bool:
        """Return whether signers satisfy the policy at a path such as `/Channel/Application/Endorsement`.

        The signatures themselves are checked by the caller. A certificate counts once, however often it is given, and
        however its PEM is written.

        Raises:
            UnknownPolicyError: there is no such policy.
        """
        parts = path.strip("/").split("/")
        if len(parts) < 2 or parts[0] != "Channel":
            raise UnknownPolicyError(f"policy {path!r}: expected /Channel/…/NAME")
        group = self._root
        for name in parts[1:-1]:
            if name not in group.groups:
                raise UnknownPolicyError(f"policy {path!r}: the configuration has no group {name}")
            group = group.groups[name]
        return self._policy(group, parts[-1], _once(signers), 0)

    def rule_satisfied(self, rule: policies_pb2.SignaturePolicyEnvelope, signers: Sequence[Identity]) -> bool:
        """Return whether signers satisfy a signature rule."""
        distinct = _once(signers)
        return self._rule(rule.rule, rule.identities, distinct, [False] * len(distinct), 0)

    def _policy(self, group: configtx_pb2.ConfigGroup, name: str, signers: Sequence[Identity], depth: int) -> bool:
        if name not in group.policies or depth > _MAX_DEPTH:
            raise UnknownPolicyError(f"the configuration has no policy {name}")
        policy = group.policies[name].policy
        try:
            if policy.type == policies_pb2.Policy.SIGNATURE:
                return self.rule_satisfied(policies_pb2.SignaturePolicyEnvelope.FromString(policy.value), signers)
            if policy.type == policies_pb2.Policy.IMPLICIT_META:
                meta = policies_pb2.ImplicitMetaPolicy.FromString(policy.value)
                return self._meta(group, meta, signers, depth)
        except DecodeError as error:
            raise UnknownPolicyError(f"policy {name} is not readable") from error
        raise UnknownPolicyError(f"policy {name} has the unknown type {policy.type}")

    def _meta(
        self,
        group: configtx_pb2.ConfigGroup,
        meta: policies_pb2.ImplicitMetaPolicy,
        signers: Sequence[Identity],
        depth: int,
    ) -> bool:
        below = [one for one in group.groups.values() if meta.sub_policy in one.policies]
        # A group without the sub-policy counts as one that is never satisfied.
        total = len(group.groups)
        needed = {
            policies_pb2.ImplicitMetaPolicy.ANY: min(1, total),
            policies_pb2.ImplicitMetaPolicy.ALL: total,
            policies_pb2.ImplicitMetaPolicy.MAJORITY: total // 2 + 1 if total else 0,
        }.get(meta.rule)
        if needed is None:
            raise UnknownPolicyError(f"an implicit meta policy has the unknown rule {meta.rule}")
        return sum(self._policy(one, meta.sub_policy, signers, depth + 1) for one in below) >= needed

    def _rule(
        self,
        rule: policies_pb2.SignaturePolicy,
        principals: Sequence[msp_principal_pb2.MSPPrincipal],
        signers: Sequence[Identity],
        used: list[bool],
        depth: int,
    ) -> bool:
        if depth > _MAX_DEPTH:
            return False
        if rule.WhichOneof("Type") == "signed_by":
            if not 0 <= rule.signed_by < len(principals):
                return False
            for place, signer in enumerate(signers):
                if not used[place] and self._is(principals[rule.signed_by], signer):
                    used[place] = True
                    return True
            return False
        if rule.WhichOneof("Type") != "n_out_of":
            return False  # an empty rule, which Fabric does not compile
        satisfied = 0
        for inner in rule.n_out_of.rules:
            tried = list(used)
            if self._rule(inner, principals, signers, tried, depth + 1):
                satisfied += 1
                used[:] = tried
        return bool(satisfied >= rule.n_out_of.n)

    def _is(self, principal: msp_principal_pb2.MSPPrincipal, signer: Identity) -> bool:
        member = self.members.get(signer.msp_id)
        return member is not None and member.satisfies(principal, signer)


def _once(signers: Sequence[Identity]) -> list[Identity]:
    # By the certificate itself, as Fabric does: one certificate has many PEMs.
    found: dict[tuple[str, bytes], Identity] = {}
    for signer in signers:
        try:
            certificate = signer.x509.public_bytes(Encoding.DER)
        except InvalidIdentityError:
            continue  # nobody's: it satisfies no principal
        found.setdefault((signer.msp_id, certificate), signer)
    return list(found.values())


def _members(root: configtx_pb2.ConfigGroup) -> dict[str, MembershipService]:
    found: dict[str, tuple[bytes, MembershipService]] = {}
    for section in ("Application", "Orderer"):
        if section not in root.groups:
            continue
        for name, group in root.groups[section].groups.items():
            if "MSP" not in group.values:
                raise MembershipError(f"{section} {name}: no MSP is defined")
            definition = group.values["MSP"].value
            try:
                service = MembershipService(msp_config_pb2.MSPConfig.FromString(definition))
            except DecodeError as error:
                raise MembershipError(f"{section} {name}: the MSP's definition is not readable") from error
            present = found.get(service.msp_id)
            if present is not None and present[0] != definition:
                raise MembershipError(f"{service.msp_id} is defined in two ways")
            found[service.msp_id] = (definition, service)
    return {msp_id: service for msp_id, (_, service) in found.items()}
