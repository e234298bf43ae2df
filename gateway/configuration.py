"""What a gateway is told at its start (gateway.toml) and what a client is told (a profile), both TOML.

Paths in a file are relative to the file's own folder, so that a folder of them can be moved as a whole. Every
error names the file, the key and what was expected of it; values are left out of it, since some are secrets' places.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

__all__ = [
    "PROFILE_VARIABLE",
    "ConfigurationError",
    "GatewayConfiguration",
    "PeerSettings",
    "Profile",
    "TrainerSettings",
    "split_address",
]

PROFILE_VARIABLE: Final = "FEDFABRIC_PROFILE"
"""The environment variable that names the profile when no argument does."""

_MAXIMUM_FILE_BYTES = 64 * 1024
_ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:]{2,45}\]):(?P<port>[0-9]{1,5})")

Table = TypeVar("Table", bound="_TomlFile")


class ConfigurationError(ValueError):
    """A configuration file can't be used; the message says which file, which key and what is expected there."""


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port` (an IPv6 host in brackets).

    Raises:
        ValueError: the text has another form, or the port is above 65535.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match["port"]) > 65535:
        raise ValueError("expected host:port")
    return match["host"], int(match["port"])


def _address(value: str) -> str:
    split_address(value)
    return value


def _in_folder(value: Path, information: ValidationInfo) -> Path:
    folder = (information.context or {}).get("folder")
    return value.expanduser() if folder is None else Path(folder) / value.expanduser()


Address = Annotated[str, AfterValidator(_address)]
MspId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
ChannelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9.-]{0,248}$")]
ChaincodeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]+([-_][A-Za-z0-9]+)*$", max_length=64)]
FilePath = Annotated[Path, Field(strict=False), AfterValidator(_in_folder)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True)


class _TomlFile(_Table):
    kind: ClassVar[str]

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read and check a file.

        Raises:
            ConfigurationError: it can't be read, is not TOML, or a key is missing, unknown or wrong.
        """
        path = Path(path).expanduser()
        return cls.parse(_read(path, cls.kind), folder=path.absolute().parent, name=str(path))

    @classmethod
    def parse(cls, table: Mapping[str, Any], *, folder: Path, name: str) -> Self:
        """Check the content of a file whose relative paths start at a folder."""
        try:
            return cls.model_validate(table, context={"folder": folder})
        except ValidationError as error:
            raise ConfigurationError(f"{name}: {_explain(error)}") from None


class PeerSettings(_Table):
    """The organisation's own peer, whose Gateway and Deliver services this gateway uses."""

    endpoint: Address
    """host:port."""
    tls_ca: FilePath
    """PEM file with the root of the peer's TLS certificate."""
    override_hostname: str = ""
    """The name to expect in the peer's TLS certificate, when it is not the endpoint's host."""


class TrainerSettings(_Table):
    """What one trainer may use of this machine."""

    enabled: bool = True
    """False: this gateway serves data, jobs and blobs, and trains nothing."""
    memory_bytes: int = Field(default=4 << 30, ge=64 << 20)
    """Resident memory of one trainer; a trainer above it is ended."""
    threads: int = Field(default=0, ge=0, le=1024)
    """Threads of one trainer; 0: the cores of this machine over `concurrent`."""
    concurrent: int = Field(default=1, ge=1, le=64)
    """Trainers on this machine at a time, those of other gateways on it counted in."""
    scratch: FilePath = Path("/dev/shm")  # noqa: S108 - decrypted data must live in memory, never on a disk
    """A folder in memory (tmpfs), where a trainer's decrypted data lives as long as the trainer does."""
    file_bytes: int = Field(default=4 << 30, ge=1 << 20)
    """The largest file that a trainer may write."""


class GatewayConfiguration(_TomlFile):
    """gateway.toml: one organisation's gateway."""

    kind: ClassVar[str] = "gateway configuration"

    msp_id: MspId
    """The organisation's MSP id."""
    listen: Address
    """Where to listen, host:port; port 0 takes a free one."""
    endpoint: str = ""
    """host:port at which the other organisations reach this gateway, as in the consortium's record."""
    channel: ChannelName
    """The consortium's channel."""
    chaincode: ChaincodeName
    """The name under which the contracts run there."""
    peer: PeerSettings
    certificate: FilePath
    """Signing certificate (PEM) with the role `gateway`; it is also the client certificate towards other gateways."""
    key: FilePath
    """Its private key (PEM)."""
    tls_certificate: FilePath
    """TLS server certificate (PEM), from the organisation's TLS CA, with the names of `endpoint`."""
    tls_key: FilePath
    """Its private key (PEM)."""
    state: FilePath
    """Folder for journal, read model, checkpoint, secrets and unfinished uploads."""
    blobs: str = ""
    """Where blobs live: a folder or any URL that fsspec knows; "" is `blobs` in the state folder."""
    metrics: str = ""
    """host:port for Prometheus on a loopback address; "" serves none."""
    trainer: TrainerSettings = TrainerSettings()

    @field_validator("metrics")
    @classmethod
    def _loopback(cls, value: str) -> str:
        if value and split_address(value)[0] not in {"127.0.0.1", "[::1]", "localhost"}:
            raise ValueError("expected host:port on a loopback address: these figures are served without TLS")
        return value

    @property
    def blobs_url(self) -> str:
        """The blob store's place, with its default filled in."""
        return self.blobs or str(self.state / "blobs")


class Profile(_TomlFile):
    """profile.toml: how one user reaches their organisation's gateway, and as whom."""

    kind: ClassVar[str] = "profile"

    gateway: Address
    """host:port of the organisation's gateway."""
    msp_id: MspId
    """The user's organisation."""
    certificate: FilePath
    """The user's certificate (PEM): it signs what they decide, and is the TLS client certificate."""
    key: FilePath
    """Its private key (PEM)."""
    trust_roots: FilePath
    """PEM file with the TLS roots that the gateway's certificate may chain to."""
    channel: ChannelName
    """The consortium's channel: what is signed must be for it."""
    chaincode: ChaincodeName = "fedfabric"
    """The name under which the contracts run there: likewise."""
    override_hostname: str = ""
    """The name to expect in the gateway's certificate, when it is not the gateway's host."""

    @classmethod
    def find(cls, path: Path | str | None = None, environment: Mapping[str, str] | None = None) -> Self:
        """The profile named by an argument or, without one, by FEDFABRIC_PROFILE.

        Raises:
            ConfigurationError: neither names one, or it can't be used.
        """
        named = path or (os.environ if environment is None else environment).get(PROFILE_VARIABLE, "")
        if not named:
            raise ConfigurationError(
                f"no profile: name one, or set {PROFILE_VARIABLE} (`fedfabric network up` prints where it wrote them)"
            )
        return cls.load(named)


def _read(path: Path, kind: str) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(_MAXIMUM_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{path}: the {kind} can't be read: {error.strerror}") from error
    if len(content) > _MAXIMUM_FILE_BYTES:
        raise ConfigurationError(f"{path}: the {kind} is longer than {_MAXIMUM_FILE_BYTES} bytes")
    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: the {kind} is not TOML: {error}") from error


def _explain(error: ValidationError) -> str:
    parts = []
    for fault in error.errors(include_url=False, include_input=False):
        key = ".".join(str(part) for part in fault["loc"]) or "the file"
        match fault["type"]:
            case "missing":
                parts.append(f"{key} is missing")
            case "extra_forbidden":
                parts.append(f"{key} is not a key of this file")
            case _:
                parts.append(f"{key}: {fault['msg'].removeprefix('Value error, ')}")
    return "; ".join(parts)
