"""What each organisation's chaincode server is started with, beside the shim's own settings."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_MSP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class SettingsError(ValueError):
    """An environment variable has a value that can't be used; the message names it and says what is expected."""


@dataclass(frozen=True)
class Settings:
    """Founders and time window, which hold until the consortium's record exists; the record has its own window."""

    founders: tuple[str, ...] = ()
    """MSP ids, sorted; none means that this server endorses no founding."""
    window_ms: int = 5000
    """w before the founding, in milliseconds."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read ``FEDFABRIC_FOUNDERS`` (MSP ids, comma between) and ``FEDFABRIC_WINDOW_MS``.

        Raises:
            SettingsError: a value is malformed.
        """
        founders = tuple(sorted(name.strip() for name in environment.get("FEDFABRIC_FOUNDERS", "").split(",") if name))
        for name in founders:
            if not _MSP.fullmatch(name):
                raise SettingsError(f"FEDFABRIC_FOUNDERS holds {name[:80]!r}; give MSP ids with commas between them")
        if len(set(founders)) != len(founders):
            raise SettingsError("FEDFABRIC_FOUNDERS names an organisation twice")
        window = environment.get("FEDFABRIC_WINDOW_MS", "5000")
        if not re.fullmatch(r"[0-9]{3,6}", window) or not 100 <= int(window) <= 900_000:
            raise SettingsError(f"FEDFABRIC_WINDOW_MS is {window[:20]!r}; give milliseconds from 100 to 900000")
        return cls(founders, int(window))
