"""Contracts: classes whose marked methods are a chaincode's transactions.

    class Assets(Contract):
        name = "assets"

        @transaction()
        async def create(self, stub: Stub, key: str, owner: Owner) -> str: ...

A client calls `assets:create`, or `create` alone for the first contract of a chaincode. Arguments are decoded by their
annotation: bytes as they are, str from UTF-8, int and bool from their JSON form, any class with `model_validate_json`
by it. Results: None is b"", bytes as they are, str in UTF-8, objects with `model_dump_json` by it, anything else as
JSON with sorted keys.
"""

import asyncio
import inspect
import json
import logging
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Final, Protocol, TypeVar

from .errors import LOWEST_ERROR, ChaincodeError, ShimError
from .invocation import Response
from .stub import Stub

__all__ = ["Chaincode", "Contract", "ContractChaincode", "Parameter", "Transaction", "transaction"]

_logger = logging.getLogger(__name__)

_INTEGER_DIGITS: Final = 78
"""Enough for 256 bits; longer digits are refused, since parsing them costs the square of their length."""

_UNKNOWN: Final = 404
_INVALID: Final = 400
_INTERNAL: Final = 500
_MARK: Final = "__fabric_transaction__"

MethodT = TypeVar("MethodT", bound=Callable[..., Awaitable[Any]])


class Chaincode(Protocol):
    """What a chaincode server runs."""

    async def invoke(self, stub: Stub) -> Response:
        """The response to one transaction. An exception becomes a refusal with status 500."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A transaction's parameter: its name, how its bytes are decoded, and whether it may be left out."""

    name: str
    decode: Callable[[bytes], Any] = field(repr=False)
    required: bool = True
    variadic: bool = False


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction of a contract, as its declaration says."""

    contract: str
    name: str
    method: Callable[..., Awaitable[Any]] = field(repr=False)
    parameters: tuple[Parameter, ...]
    evaluate_only: bool
    declarations: Mapping[str, Any]
    """What else the declaration says (roles, deadlines): for `Contract.before`, which enforces it in one place."""


def transaction(*, evaluate_only: bool = False, name: str = "", **declarations: Any) -> Callable[[MethodT], MethodT]:
    """Mark an async method `(self, stub, …arguments…)` of a contract as a transaction.

    Args:
        evaluate_only: the stub refuses writes; for lists and look-ups that are never submitted.
        name: the transaction's name for clients, when it differs from the method's.
        declarations: anything that the contract's `before` is to enforce.
    """

    def mark(method: MethodT) -> MethodT:
        is_async: bool = inspect.iscoroutinefunction(method)
        if not is_async:
            raise TypeError(f"{method.__qualname__} is no async method, so it can't be a transaction")
        setattr(method, _MARK, (name or method.__name__, evaluate_only, MappingProxyType(dict(declarations))))
        return method

    return mark


class Contract:
    """Base class of contracts. One object serves all transactions side by side: it holds no state of its own."""

    name: ClassVar[str] = ""
    """The contract's name for clients; the class's name when empty."""

    async def before(self, stub: Stub, transaction: Transaction) -> None:
        """Runs before each transaction, its arguments not yet decoded; what it raises refuses the transaction."""

    async def after(self, stub: Stub, transaction: Transaction, result: bytes) -> None:
        """Runs after each transaction that did not raise; what it raises refuses the transaction."""

    def encode(self, result: Any) -> bytes:
        """A transaction's result as the client gets it."""
        return _encode(result)

    def invalid_argument(self, transaction: Transaction, parameter: str, reason: str) -> ChaincodeError:
        """The refusal of an argument that can't be decoded, or of a wrong number of them (`parameter` is "")."""
        where = f"{transaction.contract}:{transaction.name}" + (f", {parameter}" if parameter else "")
        return ChaincodeError(f"{where}: {reason}", status=_INVALID)


class ContractChaincode:
    """A chaincode made of contracts; the first one's transactions may be called without its name.

    Raises:
        TypeError: two contracts or transactions share a name, or a parameter's annotation can't be decoded.
    """

    def __init__(self, *contracts: Contract) -> None:
        if not contracts:
            raise TypeError("a chaincode needs a contract")
        self._transactions: dict[str, tuple[Contract, Transaction]] = {}
        for contract in contracts:
            for declared in _transactions(contract):
                full_name = f"{declared.contract}:{declared.name}"
                if full_name in self._transactions:
                    raise TypeError(f"two transactions are called {full_name}")
                self._transactions[full_name] = (contract, declared)
                if contract is contracts[0]:
                    self._transactions[declared.name] = (contract, declared)

    @property
    def transactions(self) -> Mapping[str, Transaction]:
        """Every transaction by the names under which it can be called."""
        return {name: declared for name, (_, declared) in self._transactions.items()}

    async def invoke(self, stub: Stub) -> Response:
        """Run the transaction that the first argument names."""
        name = stub.args[0].decode("utf-8", "replace") if stub.args else ""
        found = self._transactions.get(name)
        if found is None:
            return _refusal(self.unknown_transaction(name))
        contract, declared = found
        stub.read_only = declared.evaluate_only
        try:
            await contract.before(stub, declared)
            arguments = _arguments(contract, declared, stub.args[1:])
            result = contract.encode(await declared.method(stub, *arguments))
            await contract.after(stub, declared, result)
        except ChaincodeError as error:
            return _refusal(error)
        except ShimError as error:
            return Response(_INTERNAL, f"{declared.contract}:{declared.name}: {error}")
        except Exception as error:
            # The text may quote arguments or transient data, so it stays in this organisation's log.
            _logger.exception("%s:%s failed in transaction %s", declared.contract, declared.name, stub.tx_id)
            return Response(_INTERNAL, f"{declared.contract}:{declared.name}: internal error ({type(error).__name__})")
        return Response(payload=result)

    def unknown_transaction(self, name: str) -> ChaincodeError:
        """The refusal of a call that no contract knows."""
        return ChaincodeError(f"there is no transaction {name[:100]!r}", status=_UNKNOWN)


async def run_chaincode(chaincode: Chaincode, stub: Stub) -> Response:
    """Run one transaction to its end: whatever the chaincode does, there is a response, and its writes are sent."""
    try:
        response = await chaincode.invoke(stub)
        await (stub.end() if response.status < LOWEST_ERROR else stub.abandon())
    except ShimError as error:
        await stub.abandon()
        return Response(_INTERNAL, str(error))
    except (Exception, SystemExit, GeneratorExit, asyncio.CancelledError) as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise  # the stream's end or the time limit, not the contract's own doing
        _logger.exception("the chaincode failed in transaction %s", stub.tx_id)
        await stub.abandon()
        return Response(_INTERNAL, f"internal error ({type(error).__name__})")
    return response


def _refusal(error: ChaincodeError) -> Response:
    return Response(error.status, error.message, error.payload)


def _transactions(contract: Contract) -> list[Transaction]:
    contract_name = type(contract).name or type(contract).__name__
    if ":" in contract_name:
        raise TypeError(f"a contract's name can't hold a colon: {contract_name}")
    declared = []
    for attribute, function in inspect.getmembers(type(contract), inspect.iscoroutinefunction):
        mark = getattr(function, _MARK, None)
        if mark is None:
            continue
        name, evaluate_only, declarations = mark
        declared.append(
            Transaction(
                contract_name,
                name,
                getattr(contract, attribute),
                _parameters(function),
                evaluate_only,
                declarations,
            )
        )
    return declared


def _parameters(function: Callable[..., Any]) -> tuple[Parameter, ...]:
    hints = typing.get_type_hints(function)
    parameters = []
    for position, (name, parameter) in enumerate(inspect.signature(function).parameters.items()):
        if position < 2:  # self, stub
            continue
        if parameter.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD):
            raise TypeError(f"{function.__qualname__}: {name} can't be given by position")
        variadic = parameter.kind is inspect.Parameter.VAR_POSITIONAL
        required = parameter.default is inspect.Parameter.empty and not variadic
        decode = _decoder(hints.get(name))
        if decode is None:
            raise TypeError(f"{function.__qualname__}: {name} needs an annotation that bytes can be decoded to")
        parameters.append(Parameter(name, decode, required, variadic))
    return tuple(parameters)


def _decoder(annotation: Any) -> Callable[[bytes], Any] | None:
    if annotation is bytes:
        return bytes
    if annotation is str:
        return _text
    if annotation is bool:
        return _boolean
    if annotation is int:
        return _integer
    decoder = getattr(annotation, "model_validate_json", None)
    return decoder if callable(decoder) else None


def _text(argument: bytes) -> str:
    try:
        return argument.decode()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None


def _boolean(argument: bytes) -> bool:
    if argument not in (b"true", b"false"):
        raise ValueError("neither true nor false")
    return argument == b"true"


def _integer(argument: bytes) -> int:
    digits = argument.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > _INTEGER_DIGITS or (digits.startswith(b"0") and argument != b"0"):
        raise ValueError(f"not an integer of at most {_INTEGER_DIGITS} digits")
    return int(argument)


def _arguments(contract: Contract, declared: Transaction, given: tuple[bytes, ...]) -> list[Any]:
    parameters = declared.parameters
    variadic = bool(parameters) and parameters[-1].variadic
    required = sum(parameter.required for parameter in parameters)
    if len(given) < required or (len(given) > len(parameters) and not variadic):
        counted = f"{required} or more" if variadic else " to ".join(map(str, sorted({required, len(parameters)})))
        raise contract.invalid_argument(declared, "", f"takes {counted} arguments, not {len(given)}")
    arguments = []
    for position, argument in enumerate(given):
        parameter = parameters[min(position, len(parameters) - 1)]
        try:
            arguments.append(parameter.decode(argument))
        except ValueError as error:  # pydantic's ValidationError is one
            raise contract.invalid_argument(declared, parameter.name, _reason(error)) from error
    return arguments


def _reason(error: ValueError) -> str:
    errors = getattr(error, "errors", None)
    if not callable(errors):
        return str(error)
    # Without the input, which the client knows and a log need not.
    listed = errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(".".join([*map(str, entry["loc"]), entry["msg"]]) for entry in listed[:5])


def _encode(result: Any) -> bytes:
    if result is None:
        return b""
    if isinstance(result, bytes):
        return result
    if isinstance(result, str):
        return result.encode()
    dump = getattr(result, "model_dump_json", None)
    if callable(dump):
        return str(dump()).encode()
    return json.dumps(result, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
