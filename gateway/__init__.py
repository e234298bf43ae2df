"""One server per organisation: the gRPC API outside, the ledger and the blob store inside.

`serve(configuration)` runs it; `connect(profile)` is its client. Names are loaded when they are first used, so that a
client does not load the server.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .archives import ArchiveError
    from .client import Client, connect
    from .client_calls import Call, Stream
    from .client_reports import (
        AccessReport,
        Description,
        Exported,
        JobReport,
        JobReview,
        RoundReport,
        RoundTiming,
    )
    from .configuration import ConfigurationError, GatewayConfiguration, Profile
    from .errors import (
        ApiError,
        CorruptError,
        DeniedError,
        ExhaustedError,
        InvalidError,
        NotFoundError,
        OutcomeUnknownError,
        UnreadyError,
    )
    from .limits import Deadlines, Limits
    from .server import GatewayStartError, RunningGateway, running, serve

__all__ = [
    "AccessReport",
    "ApiError",
    "ArchiveError",
    "Call",
    "Client",
    "ConfigurationError",
    "CorruptError",
    "Deadlines",
    "DeniedError",
    "Description",
    "ExhaustedError",
    "Exported",
    "GatewayConfiguration",
    "GatewayStartError",
    "InvalidError",
    "JobReport",
    "JobReview",
    "Limits",
    "NotFoundError",
    "OutcomeUnknownError",
    "Profile",
    "RoundReport",
    "RoundTiming",
    "RunningGateway",
    "Stream",
    "UnreadyError",
    "connect",
    "running",
    "serve",
]

_HOMES = {
    "archives": ("ArchiveError",),
    "client": ("Client", "connect"),
    "client_calls": ("Call", "Stream"),
    "client_reports": (
        "AccessReport",
        "Description",
        "Exported",
        "JobReport",
        "JobReview",
        "RoundReport",
        "RoundTiming",
    ),
    "configuration": ("ConfigurationError", "GatewayConfiguration", "Profile"),
    "errors": (
        "ApiError",
        "CorruptError",
        "DeniedError",
        "ExhaustedError",
        "InvalidError",
        "NotFoundError",
        "OutcomeUnknownError",
        "UnreadyError",
    ),
    "limits": ("Deadlines", "Limits"),
    "server": ("GatewayStartError", "RunningGateway", "running", "serve"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
