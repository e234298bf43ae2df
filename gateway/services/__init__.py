"""The methods of the API, a module for each service: decode, call one part of the gateway, encode."""

from typing import Any

from ..parts import Parts
from . import access, audit, blobs, consortium, datasets, description, jobs, tokens, transactions

__all__ = ["NAMES", "add_services"]

_MODULES = (access, audit, blobs, consortium, datasets, description, jobs, tokens, transactions)

NAMES: tuple[str, ...] = tuple(name for module in _MODULES for name in module.NAMES)
"""Full names of the services, for health and reflection."""


def add_services(server: Any, parts: Parts) -> None:
    """Add every service to a gRPC server."""
    for module in _MODULES:
        module.add(server, parts)
