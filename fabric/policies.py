"""Fabric's policies: signature rules over principals, implicit meta rules over sub-policies, block validation of BFT.

Sources: fabric-protos `common/policies.proto`, and of Fabric `common/policies/bft.go` (block validation) and
`common/policies/implicitmetaparser.go` (the spelling "MAJORITY Admins").
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol

from fabric_protos.common import policies_pb2
from fabric_protos.msp import identities_pb2, msp_principal_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROLES: Final = {
    "member": msp_principal_pb2.MSPRole.MEMBER,
    "admin": msp_principal_pb2.MSPRole.ADMIN,
    "client": msp_principal_pb2.MSPRole.CLIENT,
    "peer": msp_principal_pb2.MSPRole.PEER,
    "orderer": msp_principal_pb2.MSPRole.ORDERER,
}
_META_RULES: Final = {
    "ANY": policies_pb2.ImplicitMetaPolicy.ANY,
    "ALL": policies_pb2.ImplicitMetaPolicy.ALL,
    "MAJORITY": policies_pb2.ImplicitMetaPolicy.MAJORITY,
}
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<name>[A-Za-z]+)|(?P<number>\d{1,6})|'(?P<principal>[^']{1,256})'|(?P<mark>[(),]))"
)
_MAX_DEPTH: Final = 16
_MAX_PRINCIPALS: Final = 1024


class PolicyError(ValueError):
    """A policy that cannot be written or read; the text names the place in it."""


class SigningConsenter(Protocol):
    """What block validation needs of a consenter: its MSP and its signing certificate (PEM)."""

    @property
    def msp_id(self) -> str:
        """The MSP that the consenter belongs to."""

    @property
    def identity(self) -> bytes:
        """The signing certificate, PEM."""


def implicit_meta(rule: str) -> policies_pb2.Policy:
    """Return the implicit meta policy of a rule such as `MAJORITY Admins`.

    Raises:
        PolicyError: the rule is not ANY, ALL or MAJORITY and the name of a sub-policy.
    """
    words = rule.split()
    if len(words) != 2 or words[0] not in _META_RULES:
        raise PolicyError(f"implicit meta policy {rule!r}: expected ANY, ALL or MAJORITY and the name of a policy")
    meta = policies_pb2.ImplicitMetaPolicy(rule=_META_RULES[words[0]], sub_policy=words[1])
    return policies_pb2.Policy(type=policies_pb2.Policy.IMPLICIT_META, value=meta.SerializeToString())


def role_principal(msp_id: str, role: str) -> msp_principal_pb2.MSPPrincipal:
    """Return the principal "anybody of this MSP in this role" (member, admin, client, peer, orderer)."""
    if role not in ROLES:
        raise PolicyError(f"role {role!r} of {msp_id}: expected one of {', '.join(ROLES)}")
    return msp_principal_pb2.MSPPrincipal(
        principal_classification=msp_principal_pb2.MSPPrincipal.ROLE,
        principal=msp_principal_pb2.MSPRole(msp_identifier=msp_id, role=ROLES[role]).SerializeToString(),
    )


def signed_by(
    principals: Sequence[msp_principal_pb2.MSPPrincipal], required: int = 1
) -> policies_pb2.SignaturePolicyEnvelope:
    """Return the rule "at least `required` of these principals have signed".

    Raises:
        PolicyError: `required` is not between 1 and the number of principals.
    """
    if not 1 <= required <= len(principals):
        raise PolicyError(f"{required} of {len(principals)} signatures: not possible")
    envelope = policies_pb2.SignaturePolicyEnvelope(version=0, identities=principals)
    envelope.rule.n_out_of.n = required
    for index in range(len(principals)):
        envelope.rule.n_out_of.rules.add().signed_by = index
    return envelope


def any_role(msp_id: str, roles: Iterable[str]) -> policies_pb2.SignaturePolicyEnvelope:
    """Return the rule "one signature of this MSP in one of these roles"."""
    return signed_by([role_principal(msp_id, role) for role in roles])


def signature_policy(envelope: policies_pb2.SignaturePolicyEnvelope) -> policies_pb2.Policy:
    """Wrap a signature rule as a policy of a configuration group."""
    return policies_pb2.Policy(type=policies_pb2.Policy.SIGNATURE, value=envelope.SerializeToString())


def bft_quorum(consenters: int) -> int:
    """Return how many of n consenters must sign a block: ⌈(n + f + 1) / 2⌉ with f = ⌊(n - 1) / 3⌋ faulty ones."""
    faulty = (consenters - 1) // 3
    return (consenters + faulty + 2) // 2


def bft_block_validation(consenters: Sequence[SigningConsenter]) -> policies_pb2.Policy:
    """Return the policy BlockValidation of a BFT channel: a quorum of exactly these signing certificates.

    It is to be encoded anew whenever a consenter or its signing certificate changes (`common/policies/bft.go`).
    """
    principals = [
        msp_principal_pb2.MSPPrincipal(
            principal_classification=msp_principal_pb2.MSPPrincipal.IDENTITY,
            principal=identities_pb2.SerializedIdentity(
                mspid=consenter.msp_id, id_bytes=consenter.identity
            ).SerializeToString(),
        )
        for consenter in consenters
    ]
    return signature_policy(signed_by(principals, bft_quorum(len(principals))))


def parse_signature_rule(text: str) -> policies_pb2.SignaturePolicyEnvelope:
    """Read Fabric's language of signature rules: `OR('AMSP.peer', AND('BMSP.peer', 'CMSP.admin'))`, `OutOf(2, ...)`.

    Each principal is entered once, in the order of first appearance, as Fabric's own tools do.

    Raises:
        PolicyError: the text is not such a rule; names the character where reading stopped.
    """
    return _RuleParser(text).parse()


class _RuleParser:
    """One reading of one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._principals: dict[str, int] = {}

    def parse(self) -> policies_pb2.SignaturePolicyEnvelope:
        rule = policies_pb2.SignaturePolicy()
        self._rule(rule, 0)
        if self._text[self._at :].strip():
            raise self._error("nothing more was expected")
        principals = []
        for name in self._principals:
            msp_id, dot, role = name.rpartition(".")
            if not dot or not msp_id:
                raise PolicyError(f"principal {name!r}: expected MSP.role")
            principals.append(role_principal(msp_id, role))
        return policies_pb2.SignaturePolicyEnvelope(version=0, rule=rule, identities=principals)

    def _error(self, expected: str) -> PolicyError:
        return PolicyError(f"signature policy, character {self._at + 1}: {expected}")

    def _next(self, kind: str, expected: str) -> str:
        found = _TOKEN.match(self._text, self._at)
        if found is None or found.group(kind) is None:
            raise self._error(expected)
        self._at = found.end()
        return found.group(kind)

    def _peek(self, kind: str) -> str | None:
        found = _TOKEN.match(self._text, self._at)
        return None if found is None else found.group(kind)

    def _rule(self, into: policies_pb2.SignaturePolicy, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise self._error(f"more than {_MAX_DEPTH} levels")
        if self._peek("principal") is not None:
            name = self._next("principal", "a principal was expected")
            if len(self._principals) >= _MAX_PRINCIPALS:
                raise self._error(f"more than {_MAX_PRINCIPALS} principals")
            into.signed_by = self._principals.setdefault(name, len(self._principals))
            return
        word = self._next("name", "AND, OR, OutOf or a quoted principal was expected").lower()
        if word not in ("and", "or", "outof"):
            raise self._error("AND, OR or OutOf was expected")
        self._mark("(")
        required = 0
        if word == "outof":
            required = int(self._next("number", "a number was expected"))
            self._mark(",")
        group = into.n_out_of
        group.n = 0
        self._rule(group.rules.add(), depth + 1)
        while self._peek("mark") == ",":
            self._mark(",")
            self._rule(group.rules.add(), depth + 1)
        self._mark(")")
        count = len(group.rules)
        group.n = {"and": count, "or": 1, "outof": required}[word]
        if not 1 <= group.n <= count:
            raise self._error(f"{group.n} of {count} is not possible")

    def _mark(self, mark: str) -> None:
        if self._peek("mark") != mark:
            raise self._error(f"{mark!r} was expected")
        self._next("mark", f"{mark!r} was expected")
