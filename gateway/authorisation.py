"""Who may call which method: one table, checked in one place before a method runs.

The contracts check again what is written. This table keeps others' people out of an organisation's gateway, and a
caller without the role from being led through signatures to a refusal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from ..chaincode.records import Role
from .errors import DeniedError
from .trust import Caller

__all__ = ["RULES", "Rule", "Whose", "authorise"]


class Whose(Enum):
    """Whose certificates may call."""

    OWN = "the gateway's own organisation"
    ANY = "any organisation of the channel"
    OWN_OR_GATEWAYS = "the gateway's own organisation, and the other organisations' gateways"


@dataclass(frozen=True)
class Rule:
    """Who may call a method."""

    whose: Whose
    roles: frozenset[Role] = frozenset(Role)
    """One of these is needed, of the own organisation's callers."""


def _own(*roles: Role) -> Rule:
    return Rule(Whose.OWN, frozenset(roles) if roles else frozenset(Role))


_PACKAGE: Final = "/fedfabric.gateway.v1."
_OPERATOR, _STEWARD, _SCIENTIST, _AUDITOR = Role.OPERATOR, Role.STEWARD, Role.SCIENTIST, Role.AUDITOR

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        f"{_PACKAGE}Gateway/Describe": _own(),
        f"{_PACKAGE}Transactions/Endorse": _own(),
        f"{_PACKAGE}Transactions/Submit": _own(),
        f"{_PACKAGE}ConsortiumService/Show": _own(),
        f"{_PACKAGE}ConsortiumService/Approve": _own(_OPERATOR),
        f"{_PACKAGE}ConsortiumService/Apply": _own(_OPERATOR),
        f"{_PACKAGE}Datasets/Upload": _own(_STEWARD),
        f"{_PACKAGE}Datasets/Register": _own(_STEWARD),
        f"{_PACKAGE}Datasets/Update": _own(_STEWARD),
        f"{_PACKAGE}Datasets/Retire": _own(_STEWARD),
        f"{_PACKAGE}Datasets/Show": _own(),
        f"{_PACKAGE}Datasets/List": _own(),
        f"{_PACKAGE}Access/Request": _own(_SCIENTIST, _STEWARD),
        f"{_PACKAGE}Access/Grant": _own(_STEWARD),
        f"{_PACKAGE}Access/Revoke": _own(_STEWARD),
        f"{_PACKAGE}Access/Withdraw": _own(_SCIENTIST, _STEWARD),
        f"{_PACKAGE}Access/Show": _own(),
        f"{_PACKAGE}Access/List": _own(),
        f"{_PACKAGE}Tokens/ApproveMint": _own(_OPERATOR),
        f"{_PACKAGE}Tokens/Mint": _own(_OPERATOR),
        f"{_PACKAGE}Tokens/Transfer": _own(_OPERATOR, _SCIENTIST, _STEWARD),
        f"{_PACKAGE}Tokens/ShowBalance": _own(),
        f"{_PACKAGE}Jobs/Submit": _own(_SCIENTIST),
        f"{_PACKAGE}Jobs/Approve": _own(_STEWARD),
        f"{_PACKAGE}Jobs/Refuse": _own(_STEWARD),
        f"{_PACKAGE}Jobs/Add": _own(_SCIENTIST),
        f"{_PACKAGE}Jobs/Cancel": _own(_SCIENTIST),
        f"{_PACKAGE}Jobs/Show": _own(),
        f"{_PACKAGE}Jobs/List": _own(),
        f"{_PACKAGE}Jobs/Review": _own(),
        f"{_PACKAGE}Jobs/Watch": _own(),
        f"{_PACKAGE}Blobs/Upload": _own(_SCIENTIST),
        f"{_PACKAGE}Blobs/Fetch": Rule(Whose.OWN_OR_GATEWAYS),
        f"{_PACKAGE}Models/Fetch": _own(),
        f"{_PACKAGE}Models/Initialise": _own(_SCIENTIST),
        f"{_PACKAGE}Audit/Export": _own(_AUDITOR, _OPERATOR),
        "/grpc.health.v1.Health/Check": Rule(Whose.ANY),
        "/grpc.health.v1.Health/Watch": Rule(Whose.ANY),
        "/grpc.health.v1.Health/List": Rule(Whose.ANY),
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _own(),
    }
)
"""Every method of the server; a test compares it with the services."""


def authorise(method: str, caller: Caller, me: str) -> None:
    """Check that a caller may call a method of the gateway of the organisation `me`.

    Raises:
        DeniedError: it may not.
    """
    rule = RULES.get(method)
    if rule is None:
        raise DeniedError("this method is not open to anybody", code="OTHER_ORGANISATION")
    if caller.msp_id == me:
        if caller.role is None or caller.role not in rule.roles:
            named = " or ".join(sorted(role.value for role in rule.roles))
            held = f"the role {caller.role.value}" if caller.role is not None else "no role"
            raise DeniedError(f"this needs the role {named}; the certificate has {held}")
        return
    if rule.whose is Whose.OWN or (rule.whose is Whose.OWN_OR_GATEWAYS and caller.role is not Role.GATEWAY):
        raise DeniedError(
            f"this gateway serves {me} here; ask the gateway of {caller.msp_id}", code="OTHER_ORGANISATION"
        )
