"""The chaincode protocol as an asyncio server: write contracts in Python and run them as a service.

from fedfabric.fabric.shim import Contract, Stub, serve, transaction

class Assets(Contract):
    @transaction()
    async def create(self, stub: Stub, key: str, value: bytes) -> None:
        await stub.put_state(key, value)

if __name__ == "__main__":
    serve(Assets())
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .contract import Chaincode, Contract, ContractChaincode, Parameter, Transaction, transaction
    from .errors import ChaincodeError, PeerError, ProtocolError, SettingsError, ShimError, UsageError
    from .handler import Capabilities, Handler, Limits
    from .invocation import Invocation, Response
    from .keys import create_composite_key, split_composite_key
    from .memory_peer import MemoryPeer, TransactionRefusedError
    from .server import ChaincodeServer, serve
    from .settings import ServerSettings, TransportSecurity
    from .stub import KV, KeyModification, Page, Rows, Stub

_HOMES = {
    "contract": ("Chaincode", "Contract", "ContractChaincode", "Parameter", "Transaction", "transaction"),
    "errors": ("ChaincodeError", "PeerError", "ProtocolError", "SettingsError", "ShimError", "UsageError"),
    "handler": ("Capabilities", "Handler", "Limits"),
    "invocation": ("Invocation", "Response"),
    "keys": ("create_composite_key", "split_composite_key"),
    "memory_peer": ("MemoryPeer", "TransactionRefusedError"),
    "server": ("ChaincodeServer", "serve"),
    "settings": ("ServerSettings", "TransportSecurity"),
    "stub": ("KV", "KeyModification", "Page", "Rows", "Stub"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "KV",
    "Capabilities",
    "Chaincode",
    "ChaincodeError",
    "ChaincodeServer",
    "Contract",
    "ContractChaincode",
    "Handler",
    "Invocation",
    "KeyModification",
    "Limits",
    "MemoryPeer",
    "Page",
    "Parameter",
    "PeerError",
    "ProtocolError",
    "Response",
    "Rows",
    "ServerSettings",
    "SettingsError",
    "ShimError",
    "Stub",
    "Transaction",
    "TransactionRefusedError",
    "TransportSecurity",
    "UsageError",
    "create_composite_key",
    "serve",
    "split_composite_key",
    "transaction",
]


def __getattr__(name: str) -> Any:
    # Loaded at first use (PEP 562), so that a contract's tests need no gRPC.
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
