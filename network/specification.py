"""What a network is: network.yaml, checked.

Every model is frozen and refuses unknown keys; a contradiction is an error that names the line and what to do.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from ..fabric.policies import PolicyError, parse_signature_rule
from .errors import SpecificationError

MAXIMUM_BYTES = 2**20
SMALLEST_BFT = 4

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=40)]
"""Lower-case letters, digits and single hyphens: names become host names, folders and common names."""
MspId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9]*$", max_length=64)]
USER_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
UserName = Annotated[str, StringConstraints(pattern=USER_NAME)]
ChaincodeName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]+([_-][A-Za-z0-9]+)*$", max_length=64)]
Role = Literal["operator", "steward", "scientist", "auditor", "gateway"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class UserSpec(_Model):
    """A person or program to whom the organisation's CA gives a certificate."""

    name: UserName
    role: Role


class OrganisationSpec(_Model):
    """A member of the network: how many peers and orderers it runs."""

    name: Name
    msp_id: MspId = ""
    peers: int = Field(1, ge=0, le=8)
    orderers: int = Field(0, ge=0, le=8)
    users: Annotated[tuple[UserSpec, ...], Field(strict=False)] = ()

    @model_validator(mode="before")
    @classmethod
    def _default_msp_id(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and not values.get("msp_id") and isinstance(values.get("name"), str):
            return {**values, "msp_id": "".join(map(str.capitalize, values["name"].split("-"))) + "MSP"}
        return values

    @model_validator(mode="after")
    def _runs_something(self) -> Self:
        if not self.peers and not self.orderers:
            raise ValueError(f"organisation {self.name} runs neither peers nor orderers: give it one or leave it out")
        names = [user.name for user in self.users]
        if len(set(names)) != len(names) or "admin" in names:
            raise ValueError(f"organisation {self.name}: user names must differ, and admin is taken")
        return self


class OrderingSpec(_Model):
    """How blocks are made. Times in milliseconds, sizes in bytes."""

    type: Literal["bft", "raft"] = "bft"
    batch_timeout_ms: int = Field(50, ge=1, le=60_000)
    max_messages: int = Field(500, ge=1, le=100_000)
    preferred_max_bytes: int = Field(2 * 2**20, ge=1024)
    absolute_max_bytes: int = Field(10 * 2**20, ge=1024, le=99 * 2**20)
    tick_ms: int = Field(100, ge=10, le=10_000)

    @model_validator(mode="after")
    def _sizes_agree(self) -> Self:
        if self.preferred_max_bytes > self.absolute_max_bytes:
            raise ValueError("preferred_max_bytes exceeds absolute_max_bytes: lower the one or raise the other")
        return self


class ProbeSpec(_Model):
    """The transaction by which a network shows that it is ready; it must be harmless to repeat."""

    function: str = Field(min_length=1, max_length=256)
    arguments: Annotated[tuple[str, ...], Field(strict=False)] = ()


class ChaincodeSpec(_Model):
    """A chaincode: a server process beside every peer.

    In `command`, the word `python` stands for the interpreter that runs fedfabric, and an argument that begins with
    `./` or `../` is a path beside network.yaml.
    """

    name: ChaincodeName = "fedfabric"
    version: str = Field("1.0", pattern=r"^[A-Za-z0-9_.+-]+$", max_length=64)
    command: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = ("python", "-m", "fedfabric.chaincode")
    environment: dict[str, str] = Field(default_factory=dict)
    endorsement: str | None = None
    """A policy of the channel by its path, or a signature rule; None: the channel's, a majority of organisations."""
    probe: ProbeSpec | None = None

    @field_validator("endorsement")
    @classmethod
    def _is_a_policy(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("/"):
            try:
                parse_signature_rule(value)
            except PolicyError as error:
                raise ValueError(f"{error}: write OR('ClevelandMSP.peer', ...), AND(...) or OutOf(2, ...)") from error
        return value


class NetworkSpec(_Model):
    """A whole network as its operator describes it."""

    name: Name = "fedfabric"
    channel: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9.-]*$", max_length=249)] = "consortium"
    organisations: Annotated[tuple[OrganisationSpec, ...], Field(strict=False, min_length=1, max_length=64)]
    ordering: OrderingSpec = OrderingSpec()
    chaincodes: Annotated[tuple[ChaincodeSpec, ...], Field(strict=False, min_length=1, max_length=16)] = (
        ChaincodeSpec(),
    )
    state_database: Literal["leveldb"] = "leveldb"
    window_ms: int = Field(5000, ge=100, le=900_000)
    """How far a proposal's timestamp may lie from a peer's clock, and from the ledger's time."""

    @classmethod
    def load(cls, path: Path) -> "NetworkSpec":
        """Read network.yaml.

        Raises:
            SpecificationError: the file cannot be read, is not YAML, or describes no possible network.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise SpecificationError(f"{path}: {error.strerror}") from error
        return cls.parse(data, path)

    @classmethod
    def parse(cls, data: bytes, path: Path = Path("network.yaml")) -> "NetworkSpec":
        """Check the bytes of a network.yaml; `path` is named in errors, and paths in commands lie beside it.

        Raises:
            SpecificationError: with the line and the remedy.
        """
        if len(data) > MAXIMUM_BYTES:
            raise SpecificationError(f"{path}: larger than {MAXIMUM_BYTES} bytes, which no description of a network is")
        try:
            text = data.decode()
            root = yaml.compose(text, yaml.SafeLoader)
            if not isinstance(root, yaml.MappingNode):
                raise SpecificationError(f"{path}:1: a network is described by keys such as 'organisations:'")
            _refuse_aliases_and_duplicates(root, path)
            values = yaml.safe_load(text)
        except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            line = f":{mark.line + 1}" if mark is not None else ""
            problem = getattr(error, "problem", None) or (
                "not UTF-8" if isinstance(error, UnicodeDecodeError) else error
            )
            raise SpecificationError(f"{path}{line}: not YAML: {problem}") from error
        try:
            spec = cls.model_validate(values)
        except ValidationError as error:
            raise SpecificationError("\n".join(_explain(error, root, path))) from error
        return spec.beside(path.absolute().parent)

    def beside(self, folder: Path) -> "NetworkSpec":
        """The same network with relative paths in commands resolved against `folder`."""

        def resolve(word: str) -> str:
            return str((folder / word).resolve()) if word.startswith(("./", "../")) else word

        chaincodes = tuple(
            chaincode.model_copy(update={"command": tuple(map(resolve, chaincode.command))})
            for chaincode in self.chaincodes
        )
        return self.model_copy(update={"chaincodes": chaincodes})

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        for what, names in (
            ("organisation", [organisation.name for organisation in self.organisations]),
            ("msp_id", [organisation.msp_id for organisation in self.organisations]),
            ("chaincode", [chaincode.name for chaincode in self.chaincodes]),
        ):
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"two entries share the {what} {name}: give each its own")
        orderers = sum(organisation.orderers for organisation in self.organisations)
        if not orderers:
            raise ValueError("no organisation runs an orderer: add 'orderers: 1' to at least one organisation")
        if self.ordering.type == "bft" and orderers < SMALLEST_BFT:
            raise ValueError(
                f"BFT ordering needs {SMALLEST_BFT} orderers to bear one that lies, and there are {orderers}: add "
                "'orderers: 1' to more organisations, or set 'ordering: {type: raft}'"
            )
        if not any(organisation.peers for organisation in self.organisations):
            raise ValueError("no organisation runs a peer: set 'peers: 1' on at least one organisation")
        return self

    def organisation(self, name: str) -> OrganisationSpec:
        """The organisation of that name.

        Raises:
            SpecificationError: there is none.
        """
        for organisation in self.organisations:
            if organisation.name == name:
                return organisation
        known = ", ".join(organisation.name for organisation in self.organisations)
        raise SpecificationError(f"there is no organisation {name} in the network {self.name}; it has {known}")


def interpreter_command(command: tuple[str, ...], interpreter: str = sys.executable) -> tuple[str, ...]:
    """A chaincode's command with the word `python` replaced."""
    return (interpreter, *command[1:]) if command[0] == "python" else command


def _refuse_aliases_and_duplicates(root: yaml.Node, path: Path) -> None:
    """YAML lets a key be given twice, the last one winning, and lets aliases grow without bound: neither is meant."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        line = node.start_mark.line + 1
        if id(node) in seen:
            raise SpecificationError(f"{path}:{line}: an alias: write the value out")
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode) or key.value in keys:
                    raise SpecificationError(
                        f"{path}:{key.start_mark.line + 1}: the key {key.value!r} stands there twice: keep one of them"
                    )
                keys.add(key.value)
                waiting.append(value)


def _explain(error: ValidationError, root: yaml.Node, path: Path) -> Iterator[str]:
    problems = error.errors(include_url=False, include_input=False)
    for problem in problems:
        place = problem["loc"]
        if problem["type"] == "too_short" and any(one["loc"][: len(place)] == place != one["loc"] for one in problems):
            continue  # pydantic counts the entries that are wrong as missing
        line, trail = _locate(root, problem["loc"])
        message = re.sub(r"^Value error, ", "", problem["msg"])
        if problem["type"] == "extra_forbidden":
            message = "unknown key: correct its spelling or remove it"
        elif problem["type"] == "missing":
            message = "this key is missing: add it"
        yield f"{path}:{line}: {trail + ': ' if trail else ''}{message}"


def _locate(root: yaml.Node, location: tuple[int | str, ...]) -> tuple[int, str]:
    """The line of a value, or of the nearest thing around it, and its name as a reader of the file would say it."""
    node, line = root, root.start_mark.line
    for step in location:
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line
        elif isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == step]
            if not found:
                break
            line = found[0][0].start_mark.line
            node = found[0][1]
        else:
            break
    return line + 1, re.sub(r"\.(\d+)", r"[\1]", ".".join(map(str, location)))
