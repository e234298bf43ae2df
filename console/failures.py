"""Failures as a user meets them: what went wrong, where, and what to do; never a traceback.

Every room has its own exceptions. ``explain`` turns any of them into a ``Failure``; what it does not know is a fault
of ours, whose traceback goes into a report file instead of the terminal.
"""

import errno
import os
import re
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pydantic

from .exit_codes import ExitCode

if TYPE_CHECKING:
    from enum import StrEnum

    from pydantic_core import ErrorDetails

EXTRAS = {"torch": "train", "landlock": "train", "pyseccomp": "train", "testcontainers": "docker"}
EXTRAS |= {"matplotlib": "demo", "sklearn": "demo"}


OPTIONS = {
    ("Plan", "clip"): "--clip",
    ("Plan", "rounds"): "--rounds",
    ("Plan", "approval_ms"): "--approval-minutes",
    ("Plan", "update_ms"): "--update-seconds",
    ("Plan", "attest_ms"): "--attest-seconds",
    ("SubmitJob", "id"): "JOB",
    ("SubmitJob", "title"): "--title",
    ("SubmitJob", "budget"): "--budget",
    ("MintRequest", "id"): "ID",
    ("MintRequest", "amount"): "--amount",
    ("MintRequest", "owner"): "--for",
    ("RequestAccess", "id"): "--id",
    ("RequestAccess", "dataset"): "DATASET",
    ("RequestAccess", "purpose"): "--purpose",
    ("RequestAccess", "note"): "--note",
    ("RegisterDataset", "name"): "NAME",
    ("DatasetTerms", "title"): "--title",
    ("DatasetTerms", "description"): "--description",
    ("DatasetTerms", "samples"): "--samples",
    ("DatasetTerms", "licence"): "--licence",
    ("DatasetTerms", "price"): "--price",
    ("DatasetTerms", "jurisdiction"): "--jurisdiction",
    ("DatasetTerms", "retention_days"): "--retention-days",
    ("Column", "name"): "--column",
    ("Column", "type"): "--column",
    ("OrganisationSpec", "name"): "ORGANISATION",
    ("OrganisationSpec", "msp_id"): "--msp-id",
}
"""The option or argument that a field of a record was given by: (record, field) → its name on the command line."""


class Failure(Exception):  # noqa: N818  it is an outcome for the user, made from any room's error
    """A command can't go on. ``code`` is stable and machine-readable, the rest is for people."""

    def __init__(
        self, exit_code: ExitCode, code: str, what: str, *, where: str = "", remedy: str = "", field: str = ""
    ) -> None:
        super().__init__(what)
        self.exit_code, self.code, self.what = exit_code, code, what
        self.where, self.remedy, self.field = where, remedy, field

    def as_dict(self) -> dict[str, object]:
        """The failure as ``--output json`` prints it on standard error."""
        return {
            "error": {
                "code": self.code,
                "exit": int(self.exit_code),
                "what": self.what,
                "where": self.where,
                "field": self.field,
                "remedy": self.remedy,
            }
        }


def bad_input(what: str, *, where: str = "", remedy: str = "", field: str = "") -> Failure:
    """A file or value that the user gave is wrong."""
    return Failure(ExitCode.BAD_INPUT, "BAD_INPUT", what, where=where, remedy=remedy, field=field)


def check_state(given: str, states: "type[StrEnum]") -> None:
    """Refuse a state that nothing can be in, rather than answer that nothing is in it.

    Raises:
        Failure: it is neither empty nor one of ``states``.
    """
    if given and given not in {state.value for state in states}:
        raise bad_input(f"there is no state {given}", field="--state", remedy=f"one of {', '.join(states)}")


def environment(what: str, *, where: str = "", remedy: str = "") -> Failure:
    """The machine lacks something."""
    return Failure(ExitCode.ENVIRONMENT, "ENVIRONMENT", what, where=where, remedy=remedy)


def state_folder() -> Path:
    """Where reports of internal faults go (XDG base directories)."""
    if named := os.environ.get("FEDFABRIC_HOME"):
        return Path(named)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "fedfabric"


def explain(error: BaseException) -> Failure:
    """What a user can do about ``error``; a fault of ours writes its traceback to a report file and names it."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, BaseExceptionGroup):
        # Tasks that ran side by side: the first of them to fail tells why.
        return explain(error.exceptions[0])
    for source in (
        _of_validation,
        _of_extras,
        _of_system,
        _of_network,
        _of_gateway,
        _of_fabric,
        _of_trainers,
        _of_audit,
    ):
        if failure := source(error):
            return failure
    return _internal(error)


def _of_extras(error: BaseException) -> Failure | None:
    missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if missing not in EXTRAS:
        return None
    return environment(
        f"this command needs {missing}, which is not installed",
        remedy=f"pip install 'fedfabric[{EXTRAS[missing]}]' (a clone has it after make setup)",
    )


def _of_validation(error: BaseException) -> Failure | None:
    if not isinstance(error, pydantic.ValidationError):
        return None
    first = error.errors(include_url=False)[0]
    others = error.error_count() - 1
    field = ".".join(map(str, first["loc"]))
    option = OPTIONS.get((error.title, field), "")
    given = f"{first['input']!r}: " if isinstance(first["input"], str | int | float) else ""
    return bad_input(
        f"{given}{_in_words(first)}" + (f" (and {others} more)" if others else ""),
        where=error.title,
        field=option or field,
        remedy=f"correct {option or field}" if option or field else "correct the value",
    )


WORDS = {
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "too_short": "at least {min_length} must be given",
    "too_long": "at most {max_length} may be given",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "enum": "must be one of {expected}",
    "literal_error": "must be one of {expected}",
    "missing": "must be given",
    "extra_forbidden": "is not known here",
}
"""What a value must be, by pydantic's type of the error, whose context fills the gaps."""


def _in_words(wrong: "ErrorDetails") -> str:
    """What a value must be, without the words of the library that checks it."""
    from ..chaincode.records.patterns import explain as pattern_in_words

    limits = wrong.get("ctx", {})
    if wrong["type"] == "string_pattern_mismatch":
        return pattern_in_words(limits["pattern"])
    words = WORDS.get(wrong["type"])
    return words.format(**limits) if words else wrong["msg"].removeprefix("Value error, ")


def _loaded(module: str) -> ModuleType | None:
    """A room that this process has imported: an exception of one that it has not can't be at hand."""
    return sys.modules.get(f"{__package__.rpartition('.')[0]}.{module}")


def _of_network(error: BaseException) -> Failure | None:
    if (errors := _loaded("network.errors")) is None or not isinstance(error, errors.NetworkError):
        return None
    exits = {
        "ProgramsError": ExitCode.ENVIRONMENT,
        "EngineError": ExitCode.ENVIRONMENT,
        "SpecificationError": ExitCode.BAD_INPUT,
        "StateError": ExitCode.BAD_INPUT,
        "PortError": ExitCode.ENVIRONMENT,
        "ProcessError": ExitCode.UNAVAILABLE,
        "ReadinessError": ExitCode.UNAVAILABLE,
        "OnboardingError": ExitCode.UNAVAILABLE,
    }
    name = type(error).__name__
    code = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.removesuffix("Error")).upper()
    return Failure(
        exits.get(name, ExitCode.UNAVAILABLE), f"NETWORK_{code}", str(error), remedy=remedy_for(f"NETWORK_{code}")
    )


REMEDIES = {
    "PROFILE": "fedfabric network up writes profiles below the network's folder, profiles/ORGANISATION/USER.toml: "
    "name one with --profile or FEDFABRIC_PROFILE",
    "CONFIGURATION": "correct the file; see docs/reference for its keys",
    # of networks
    "NETWORK": "see fedfabric network status, and fedfabric network logs PROCESS",
    "NETWORK_PROGRAMS": "install what the message names (Go, git, or Docker), then fedfabric network up again",
    "NETWORK_ENGINE": "start Docker's engine, or leave --runtime docker out: native needs none",
    "NETWORK_SPECIFICATION": "correct network.yaml, or the name that was given; see fedfabric network up --help",
    "NETWORK_STATE": "do what the message says; see fedfabric network status",
    "NETWORK_PORT": "end the program that holds the port, then fedfabric network up again",
    "NETWORK_PROCESS": "see fedfabric network logs PROCESS; fedfabric network up starts what is missing",
    "NETWORK_READINESS": "see fedfabric network status, then fedfabric network up again",
    "NETWORK_ONBOARDING": "see fedfabric network status, then give the same command again",
    # of the gateway itself
    "GATEWAY_START": "correct what the message names in gateway.toml; fedfabric network status says whether the "
    "network is up",
    "GATEWAY_UNAVAILABLE": "fedfabric gateway start --config GATEWAY_TOML, if it does not run; else see its address, "
    "certificate and trust_roots in the profile",
    "GATEWAY_TIMEOUT": "see fedfabric gateway status, then give the same command again",
    "GATEWAY_STOPPING": "fedfabric gateway start --config GATEWAY_TOML, once it has stopped",
    "NOT_SYNCHRONISED": "wait until the gateway has read the channel: fedfabric gateway status --wait 60",
    "PEER_UNAVAILABLE": "see fedfabric network status; fedfabric network up starts what is missing",
    "INTERNAL": "see the gateway's log for the cause, and send it to the maintainers",
    "TOO_MANY": "close a fedfabric job watch or wait for a running upload, then give the same command again",
    "TOO_LONG": "send less at once: the message names the bound",
    # of transactions
    "ENDORSEMENT_FAILED": "see fedfabric network status, then give the same command again",
    "TRANSACTION_CONFLICT": "give the same command again",
    "TRANSACTION_INVALID": "look with the matching show, then give the same command again; the message has Fabric's "
    "validation code",
    "ENDORSEMENTS_INSUFFICIENT": "give the same command again",
    "OUTCOME_UNKNOWN": "look with the matching list or show before you give the same command again",
    "MALFORMED_TRANSACTION": "see that fedfabric --version and the version in fedfabric gateway status are the same, "
    "and the profile's channel and chaincode right",
    "UNKNOWN_TRANSACTION": "update the chaincode: fedfabric --version is newer than what the members run",
    "UNKNOWN_REFUSAL": "update fedfabric: the contract's code is newer than this version",
    "TIME_WINDOW": "synchronise this machine's clock (NTP); fedfabric network status shows the skew",
    # of who may
    "CALLER_ROLE_REQUIRED": "give --profile of a user with that role; fedfabric network add-user makes one",
    "ROLE_REQUIRED": "give --profile of a user with that role; fedfabric network add-user makes one",
    "OTHER_ORGANISATION": "give --profile of your own organisation, whose gateway it names",
    "CERTIFICATE_UNKNOWN": "give --profile of a user of this network; fedfabric network up writes them anew",
    "NOT_THE_CREATOR": "give --profile of the one who began it",
    "NOT_OWNER": "give --profile of the organisation that owns it",
    "NOT_A_MEMBER": "give --profile of a member of the consortium; fedfabric network add-org admits one",
    "NOT_A_PARTICIPANT": "give --profile of an organisation that has a part in the job: fedfabric job show JOB",
    # of requests
    "MALFORMED": "give plain text (UTF-8) and whole numbers; see the command's --help",
    "MALFORMED_REQUEST": "correct what the message names; see the command's --help",
    "TOO_LARGE": "shorten what the message names",
    "UNKNOWN_FIELD": "update the chaincode: fedfabric --version knows a field that the members' contracts do not",
    "MISSING_FIELD": "give what the message names; see the command's --help",
    "INVALID_FIELD": "correct what the message names; see the command's --help",
    "OUT_OF_RANGE": "give a number within the range in the message",
    "DUPLICATE": "name it once",
    "CONFLICT": "choose another id: what is on the ledger under this one has other content",
    "WRONG_STATE": "see where it stands with the matching show or list",
    "TOO_EARLY": "wait until the time in the message, then give the same command again",
    "DEADLINE_PASSED": "its time is over; submit anew with a longer one",
    # of members
    "QUORUM_MISSING": "operators of other members give the same command with their own --profile",
    "NO_CONSORTIUM": "fedfabric network up founds it",
    "FOUNDERS_DIFFER": "give every chaincode server the same FEDFABRIC_FOUNDERS; fedfabric network up does",
    "SEQUENCE_DIFFERS": "another change was faster: give the same command again",
    # of data and access
    "UNKNOWN_DATASET": "fedfabric data list shows all",
    "DATASET_RETIRED": "choose another one: fedfabric data list",
    "VERSION_DIFFERS": "fedfabric data show MSP/NAME has the version of today; give the same command again",
    "PURPOSE_NOT_PERMITTED": "give --purpose one that fedfabric data show MSP/NAME lists",
    "UNKNOWN_REQUEST": "fedfabric access list shows all",
    "GRANT_MISSING": "fedfabric access request MSP/NAME --id ID; its owner then grants it",
    "GRANT_REVOKED": "fedfabric access request MSP/NAME with a new --id",
    "GRANT_EXPIRED": "fedfabric access request MSP/NAME with a new --id",
    "GRANT_DIFFERS": "fedfabric access list shows what each grant is for; ask for this version with a new --id",
    # of tokens
    "FUNDS_MISSING": "see fedfabric token balance; fedfabric token mint makes more",
    "TOKEN_UNKNOWN": "somebody else spent from the account meanwhile: give the same command again",
    "SUMS_DIFFER": "see fedfabric token balance, and give amounts that it covers",
    "AMOUNT_OVERFLOW": "give an amount of at most 30 digits",
    # of jobs
    "UNKNOWN_JOB": "fedfabric job list shows all",
    "UNKNOWN_ROUND": "fedfabric job show JOB lists its rounds",
    "MODEL_UNKNOWN": "fedfabric job show JOB lists its rounds; without --round it is the latest model",
    "DIGEST_DIFFERS": "fedfabric job review JOB shows the digest to approve",
    "MASKED_NOT_SUPPORTED": "submit the job as clear, if its owners agree that aggregators read single updates",
    "APPROVALS_MISSING": "fedfabric job show JOB says who has not decided yet",
    "COHORT_EMPTY": "fedfabric job add JOB asks another owner",
    "NOT_IN_COHORT": "wait for the next round: fedfabric job watch JOB",
    "SAMPLES_EXCEEDED": "claim no more than fedfabric data show MSP/NAME says; its owner may change that with data "
    "update",
    "NOT_COUNTED": "fedfabric job show JOB lists whose updates the round counts",
    "ATTESTATIONS_DIFFER": "fedfabric job show JOB lists the attestations of today",
    "QUORUM_POSSIBLE": "wait for the other members: fedfabric job watch JOB",
    # of plans, models and blobs
    "PLAN_INVALID": "make the bundle with fedfabric plan build",
    "PLAN_FAILED": "correct the plan, then fedfabric plan build",
    "MODEL_INVALID": "name a model in safetensors, of finite numbers",
    "TRAINING_OFF": "give --model, or set trainer.enabled = true in gateway.toml and start the gateway again",
    "BLOB_UNKNOWN": "see that the other members' gateways run, then give the same command again",
    "UPLOAD_UNKNOWN": "give the same command again: it begins anew",
    "BLOB_BROKEN": "restore the gateway's blob store from a copy, or ask another member's gateway",
    "STORE_FULL": "free some space where the gateway keeps its blobs, then give the same command again",
    "STORE_FAILED": "see the gateway's log, and that its folder of blobs is there and writable",
    "SANDBOX_UNAVAILABLE": "run it on Linux 5.13 or later with landlock, as fedfabric's plans need",
    "SANDBOX_FAILED": "see the message and the kernel's log; Linux 5.13 or later with landlock is needed",
    "DATA_INVALID": "correct the data, or the plan's load",
    "MODEL_MISMATCH": "name a model with the tensors of the plan's own",
    "NOT_FINITE": "lower the plan's learning rate: its numbers left the finite ones",
    "MEMORY_LIMIT": "raise trainer.memory_bytes in gateway.toml, or make the plan smaller",
    "TIME_LIMIT": "give --update-seconds more, or make the plan faster",
    "FILE_LIMIT": "raise trainer.file_bytes in gateway.toml, or have the plan write less",
    "KILLED": "see the machine's memory and its log, then try again",
    "CANCELLED": "give the same command again",
    "BAD_REQUEST": "see the gateway's log, and send it to the maintainers",
}
"""What to do about each code that a command may show."""


def remedy_for(code: str) -> str:
    """What a user can do about a code; one that is not known comes from a newer gateway or contract."""
    return REMEDIES.get(code, REMEDIES["NETWORK" if code.startswith("NETWORK_") else "UNKNOWN_REFUSAL"])


STATUS_EXITS = {
    "INVALID_ARGUMENT": ExitCode.BAD_INPUT,
    "NOT_FOUND": ExitCode.NOT_FOUND,
    "PERMISSION_DENIED": ExitCode.DENIED,
    "UNAUTHENTICATED": ExitCode.DENIED,
    "UNAVAILABLE": ExitCode.UNAVAILABLE,
    "DEADLINE_EXCEEDED": ExitCode.UNAVAILABLE,
    "RESOURCE_EXHAUSTED": ExitCode.UNAVAILABLE,
    "UNKNOWN": ExitCode.UNKNOWN_OUTCOME,
    "FAILED_PRECONDITION": ExitCode.REFUSED,
    "ALREADY_EXISTS": ExitCode.REFUSED,
    "ABORTED": ExitCode.REFUSED,
    "UNIMPLEMENTED": ExitCode.REFUSED,
    "DATA_LOSS": ExitCode.UNAVAILABLE,
    "INTERNAL": ExitCode.UNAVAILABLE,
}
"""What a gateway's status means for a command; the code beside it stays the gateway's or the contract's own."""


def _of_gateway(error: BaseException) -> Failure | None:
    if (archives := _loaded("gateway.archives")) and isinstance(error, archives.ArchiveError):
        return bad_input(
            str(error), remedy="give a folder of plain files alone: replace links by what they name, remove the rest"
        )
    if (configuration := _loaded("gateway.configuration")) and isinstance(error, configuration.ConfigurationError):
        code = "PROFILE" if str(error).startswith("no profile") else "CONFIGURATION"
        return bad_input(str(error), remedy=remedy_for(code))
    if (server := _loaded("gateway.server")) and isinstance(error, server.GatewayStartError):
        return Failure(ExitCode.ENVIRONMENT, "GATEWAY_START", str(error), remedy=remedy_for("GATEWAY_START"))
    if (errors := _loaded("gateway.errors")) and isinstance(error, errors.ApiError):
        return Failure(
            STATUS_EXITS.get(error.status.name, ExitCode.REFUSED),
            error.code,
            error.text,
            where=f"transaction {error.transaction_id}" if error.transaction_id else "",
            field=error.field,
            remedy=remedy_for(error.code),
        )
    return None


def _of_fabric(error: BaseException) -> Failure | None:
    if (client := _loaded("fabric.client.errors")) is None or not isinstance(error, client.ClientError):
        return None
    from ..gateway.errors import from_client

    return _of_gateway(from_client(error))


def _of_trainers(error: BaseException) -> Failure | None:
    if (errors := _loaded("trainers.errors")) is None or not isinstance(error, errors.TrainerError):
        return None
    exit_code = ExitCode.ENVIRONMENT if isinstance(error, errors.SandboxError) else ExitCode.BAD_INPUT
    return Failure(exit_code, error.code, error.text, remedy=remedy_for(error.code))


def _of_audit(error: BaseException) -> Failure | None:
    if (verifier := _loaded("audit.verifier")) and isinstance(error, verifier.AuditInputError):
        return bad_input(str(error), remedy="see fedfabric audit verify --help")
    return None


SYSTEM = {
    errno.ENOSPC: "free some space on that disk, or name another folder with FEDFABRIC_HOME",
    errno.EDQUOT: "free some space on that disk, or name another folder with FEDFABRIC_HOME",
    errno.EACCES: "give yourself access to it, or name another folder with FEDFABRIC_HOME",
    errno.EPERM: "give yourself access to it, or name another folder with FEDFABRIC_HOME",
    errno.EROFS: "name a folder that can be written with FEDFABRIC_HOME",
    errno.ENOTDIR: "a part of that path is a file; name another folder",
    errno.EADDRINUSE: "another program listens there; end it or choose another port",
    errno.ENOENT: "check the path",
    errno.EEXIST: "name a new or empty folder",
    errno.EISDIR: "name a file, not a folder",
}


def _of_system(error: BaseException) -> Failure | None:
    if not isinstance(error, OSError) or error.errno is None:
        return None
    what = (error.strerror or str(error)).lower()
    where = str(error.filename or "")
    if error.errno in {errno.EEXIST, errno.EISDIR}:
        return bad_input(what, where=where, remedy=SYSTEM[error.errno])
    if error.errno == errno.ENOENT:
        return Failure(ExitCode.BAD_INPUT, "NO_SUCH_FILE", what, where=where, remedy=SYSTEM[errno.ENOENT])
    return environment(what, where=where, remedy=SYSTEM.get(error.errno or 0, "see the system's message"))


def _internal(error: BaseException) -> Failure:
    report = state_folder() / "reports" / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.txt"
    try:
        report.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        report.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        remedy = f"send {report} to the maintainers"
    except OSError as unwritable:
        remedy = f"its report could not be written: {unwritable}"
    return Failure(
        ExitCode.INTERNAL, "INTERNAL", f"fault of fedfabric itself: {type(error).__name__}: {error}", remedy=remedy
    )
