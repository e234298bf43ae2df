"""Describes, brings up, changes and observes Fabric networks.

spec = NetworkSpec.load(Path("network.yaml"))
async with Network(spec, home=Path("net")) as network:
    print(network.organisations["cleveland"].peer_endpoint)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import (
        NetworkError,
        OnboardingError,
        PortError,
        ProcessError,
        ProgramsError,
        ReadinessError,
        SpecificationError,
        StateError,
    )
    from .identities import Credentials
    from .network import Network, Organisation
    from .observation import NetworkStatus, ProcessStatus
    from .runtime import ProcessState
    from .specification import ChaincodeSpec, NetworkSpec, OrderingSpec, OrganisationSpec, ProbeSpec, UserSpec

# The supervisor and the builder of programs are started by name in this package and must not wait for all of it.
_PLACES = {
    "errors": (
        "NetworkError",
        "OnboardingError",
        "PortError",
        "ProcessError",
        "ProgramsError",
        "ReadinessError",
        "SpecificationError",
        "StateError",
    ),
    "identities": ("Credentials",),
    "network": ("Network", "Organisation"),
    "observation": ("NetworkStatus", "ProcessStatus"),
    "runtime": ("ProcessState",),
    "specification": (
        "ChaincodeSpec",
        "NetworkSpec",
        "OrderingSpec",
        "OrganisationSpec",
        "ProbeSpec",
        "UserSpec",
    ),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}

__all__ = [
    "ChaincodeSpec",
    "Credentials",
    "Network",
    "NetworkError",
    "NetworkSpec",
    "NetworkStatus",
    "OnboardingError",
    "OrderingSpec",
    "Organisation",
    "OrganisationSpec",
    "PortError",
    "ProbeSpec",
    "ProcessError",
    "ProcessState",
    "ProcessStatus",
    "ProgramsError",
    "ReadinessError",
    "SpecificationError",
    "StateError",
    "UserSpec",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
