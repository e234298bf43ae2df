"""The ledger's contracts, run in every organisation's chaincode server, and their typed vocabulary, ``records``."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .chaincode import LedgerChaincode
    from .settings import Settings, SettingsError

__all__ = ["LedgerChaincode", "Settings", "SettingsError"]

_HOME_OF = {"LedgerChaincode": "chaincode", "Settings": "settings", "SettingsError": "settings"}


def __getattr__(name: str) -> Any:
    # Loaded at first use (PEP 562): who reads records alone needs no contract.
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
