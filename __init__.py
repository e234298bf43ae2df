"""Federated learning between organisations under the rules of a Hyperledger Fabric ledger that they run together.

Rooms: ``fabric`` (Hyperledger Fabric for Python), ``aggregation`` (exact sums of model updates), ``trainers``
(PyTorch), ``chaincode`` (the ledger's contracts), ``network`` (brings Fabric networks up), ``gateway`` (one server per
organisation), ``audit`` (the verifier) and ``console`` (the ``fedfabric`` command).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .gateway import connect

__all__ = ["__version__", "connect"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name != "connect":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .gateway import connect  # noqa: PLC0415 - loaded when it is first used

    return connect
