"""How a transaction of ours is declared, and everything that is checked before it runs.

A contract's method takes a call and one request and returns a record:

    class DatasetsContract(LedgerContract):
        name = "datasets"

        @submitted(Role.STEWARD)
        async def register(self, call: Call, request: RegisterDataset) -> Dataset: ...

The checks, in this order, the same for every transaction: (1) the argument is one bounded JSON document of the
request's model; (2) the consortium's record is read; (3) the proposal's timestamp is within w of this server's clock;
(4) the caller's organisation is a member; (5) the certificate's role is among those declared, and among those that
the consortium allows to the organisation. What fails is a refusal, and nothing has been written.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, get_type_hints

from ..fabric.identity import Identity, InvalidIdentityError
from ..fabric.shim import ChaincodeError, Contract, Stub, Transaction, transaction
from .call import Call
from .records import Consortium, consortium_key, parse, printable, refusals
from .records.canonical import Record
from .records.fields import Role
from .settings import Settings

ROLE_ATTRIBUTE = "fedfabric.role"

Clock = Callable[[], int]
"""Milliseconds since 1970."""

ContractT = TypeVar("ContractT", bound="LedgerContract")
RequestT = TypeVar("RequestT", bound=Record)
Method = Callable[[ContractT, Call, RequestT], Awaitable[Record]]


def system_clock() -> int:
    """This machine's clock, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class LedgerContract(Contract):
    """Base of our contracts: they share settings and clock, and keep nothing between transactions."""

    def __init__(self, settings: Settings, clock: Clock = system_clock) -> None:
        self._settings = settings
        self._clock = clock

    def invalid_argument(self, transaction: Transaction, parameter: str, reason: str) -> ChaincodeError:  # noqa: ARG002
        """A wrong number of arguments, as a refusal of ours."""
        return refuse(refusals.Malformed("", f"{transaction.contract}:{transaction.name} {reason}"))

    async def enter(self, stub: Stub, roles: tuple[Role, ...] | None, founding: bool) -> Call:
        """Checks 2 to 5.

        Raises:
            Refusal: the first that fails.
        """
        stored = await stub.get_state(consortium_key())
        consortium = Consortium.model_validate_json(stored) if stored else None
        window = consortium.window_ms if consortium else self._settings.window_ms
        away = stub.timestamp_ms - self._clock()
        if abs(away) > window:
            raise refusals.TimeWindow(
                "", f"the proposal's timestamp is {away} ms from this endorser's clock, w={window}"
            )
        msp = stub.creator.msp_id
        if consortium is None and not founding:
            raise refusals.NoConsortium("", "the consortium has not been founded: approve and apply its first record")
        allowed = _allowed(consortium, self._settings.founders, msp)
        if roles is not None:
            role = _role(stub.creator)
            if role not in roles or role not in allowed:
                wanted = (
                    " or ".join(sorted(role.value for role in roles if role in allowed)) or "no role of this member"
                )
                raise refusals.RoleRequired(
                    "", f"the certificate's {ROLE_ATTRIBUTE} is {role or 'none'}; needs {wanted}"
                )
        return Call(stub, consortium, self._settings.founders)


def submitted(*roles: Role, founding: bool = False) -> Callable[[Method[ContractT, RequestT]], Any]:
    """Declare a transaction that writes, for callers with one of ``roles``.

    ``founding`` admits it before the consortium's record exists, to founders.
    """
    return lambda method: _declare(method, roles, evaluate_only=False, founding=founding)


def evaluated(*, founding: bool = False) -> Callable[[Method[ContractT, RequestT]], Any]:
    """Declare a look-up that is evaluated and never submitted, for any certificate of a member."""
    return lambda method: _declare(method, None, evaluate_only=True, founding=founding)


def _declare(
    method: Method[ContractT, RequestT], roles: tuple[Role, ...] | None, *, evaluate_only: bool, founding: bool
) -> Any:
    model: type[RequestT] = get_type_hints(method)["request"]

    async def run(self: ContractT, stub: Stub, argument: bytes) -> bytes:
        try:
            request = parse(argument, model)
            call = await self.enter(stub, roles, founding)
            return (await method(self, call, request)).canonical()
        except refusals.Refusal as refusal:
            raise refuse(refusal) from refusal

    run.__name__, run.__qualname__, run.__doc__ = method.__name__, method.__qualname__, method.__doc__
    declare = transaction(
        evaluate_only=evaluate_only, roles=roles, request=model, founding=founding, summary=method.__doc__ or ""
    )
    return declare(run)


def _allowed(consortium: Consortium | None, founders: tuple[str, ...], msp: str) -> tuple[Role, ...]:
    if consortium is None:
        if msp not in founders:
            raise refusals.NotAMember(
                "", f"{printable(msp)} is not among the founders {', '.join(founders) or '(none)'}"
            )
        return tuple(Role)
    member = consortium.member(msp)
    if member is None:
        raise refusals.NotAMember("", f"{printable(msp)} is not a member of the consortium")
    return member.roles


def _role(creator: Identity) -> Role | None:
    try:
        return Role(creator.attributes().get(ROLE_ATTRIBUTE, ""))
    except (InvalidIdentityError, ValueError):
        return None


def refuse(refusal: refusals.Refusal) -> ChaincodeError:
    """The refusal as the shim sends it."""
    return ChaincodeError(refusal.message(), status=refusal.status)
