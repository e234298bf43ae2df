"""What the gateway says when it does not do what it was asked: stable codes, and for each the gRPC status.

    ApiError
    ├── DeniedError            who asks may not
    ├── NotFoundError          there is no such thing here
    ├── InvalidError           the request can't be meant so
    ├── UnreadyError           not now: something has to happen first
    ├── ExhaustedError         a bound was reached
    ├── CorruptError           stored or fetched bytes are not what they should be
    └── OutcomeUnknownError    whether the transaction commits is not known; ask by its id

Refusals of the contracts keep their codes. A status's details carry google.rpc.ErrorInfo (reason = the code, domain =
"fedfabric", metadata: field, transaction_id) and, where a field is at fault, google.rpc.BadRequest.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Final

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from ..chaincode.records import Refusal, printable, read_refusal
from ..fabric.client import (
    ClientError,
    CommitError,
    CommitStatusError,
    EndorseError,
    ForeignTransactionError,
    GatewayError,
    MalformedError,
    SubmitError,
    ValidationCode,
)

__all__ = [
    "DOMAIN",
    "OWN_CODES",
    "STATUS",
    "ApiError",
    "CorruptError",
    "DeniedError",
    "ExhaustedError",
    "InvalidError",
    "NotFoundError",
    "OutcomeUnknownError",
    "UnreadyError",
    "from_client",
    "from_refusal",
    "status_of",
    "to_status",
]

DOMAIN: Final = "fedfabric"

_S = grpc.StatusCode

OWN_CODES: Final[Mapping[str, grpc.StatusCode]] = MappingProxyType(
    {
        "CERTIFICATE_UNKNOWN": _S.UNAUTHENTICATED,
        "OTHER_ORGANISATION": _S.PERMISSION_DENIED,
        "CALLER_ROLE_REQUIRED": _S.PERMISSION_DENIED,
        "NOT_A_PARTICIPANT": _S.PERMISSION_DENIED,
        "NOT_THE_CREATOR": _S.PERMISSION_DENIED,
        "BLOB_UNKNOWN": _S.NOT_FOUND,
        "UPLOAD_UNKNOWN": _S.NOT_FOUND,
        "MODEL_UNKNOWN": _S.NOT_FOUND,
        "MALFORMED_REQUEST": _S.INVALID_ARGUMENT,
        "MALFORMED_TRANSACTION": _S.INVALID_ARGUMENT,
        "PLAN_INVALID": _S.INVALID_ARGUMENT,
        "MODEL_INVALID": _S.INVALID_ARGUMENT,
        "TOO_LONG": _S.RESOURCE_EXHAUSTED,
        "STORE_FULL": _S.RESOURCE_EXHAUSTED,
        "TOO_MANY": _S.RESOURCE_EXHAUSTED,
        "FUNDS_MISSING": _S.FAILED_PRECONDITION,
        "NOT_SYNCHRONISED": _S.UNAVAILABLE,
        "GATEWAY_STOPPING": _S.UNAVAILABLE,
        "BLOB_BROKEN": _S.DATA_LOSS,
        "STORE_FAILED": _S.INTERNAL,
        "PEER_UNAVAILABLE": _S.UNAVAILABLE,
        "ENDORSEMENT_FAILED": _S.ABORTED,
        "TRANSACTION_CONFLICT": _S.ABORTED,
        "TRANSACTION_INVALID": _S.ABORTED,
        "ENDORSEMENTS_INSUFFICIENT": _S.ABORTED,
        "TRAINING_OFF": _S.FAILED_PRECONDITION,
        "PLAN_FAILED": _S.FAILED_PRECONDITION,
        "OUTCOME_UNKNOWN": _S.UNKNOWN,
        "GATEWAY_UNAVAILABLE": _S.UNAVAILABLE,
        "GATEWAY_TIMEOUT": _S.DEADLINE_EXCEEDED,
        "INTERNAL": _S.INTERNAL,
    }
)
"""The gateway's own codes. A code is never given another meaning."""

STATUS: Final[Mapping[str, grpc.StatusCode]] = MappingProxyType(
    {
        **OWN_CODES,
        "UNKNOWN_REFUSAL": _S.FAILED_PRECONDITION,
        "MALFORMED": _S.INVALID_ARGUMENT,
        "UNKNOWN_TRANSACTION": _S.UNIMPLEMENTED,
        "TOO_LARGE": _S.INVALID_ARGUMENT,
        "UNKNOWN_FIELD": _S.INVALID_ARGUMENT,
        "MISSING_FIELD": _S.INVALID_ARGUMENT,
        "INVALID_FIELD": _S.INVALID_ARGUMENT,
        "OUT_OF_RANGE": _S.INVALID_ARGUMENT,
        "DUPLICATE": _S.INVALID_ARGUMENT,
        "NOT_A_MEMBER": _S.PERMISSION_DENIED,
        "ROLE_REQUIRED": _S.PERMISSION_DENIED,
        "NOT_OWNER": _S.PERMISSION_DENIED,
        "TIME_WINDOW": _S.FAILED_PRECONDITION,
        "TOO_EARLY": _S.FAILED_PRECONDITION,
        "DEADLINE_PASSED": _S.FAILED_PRECONDITION,
        "CONFLICT": _S.ALREADY_EXISTS,
        "WRONG_STATE": _S.FAILED_PRECONDITION,
        "DIGEST_DIFFERS": _S.FAILED_PRECONDITION,
        "QUORUM_MISSING": _S.FAILED_PRECONDITION,
        "NO_CONSORTIUM": _S.FAILED_PRECONDITION,
        "FOUNDERS_DIFFER": _S.PERMISSION_DENIED,
        "SEQUENCE_DIFFERS": _S.FAILED_PRECONDITION,
        "UNKNOWN_DATASET": _S.NOT_FOUND,
        "DATASET_RETIRED": _S.FAILED_PRECONDITION,
        "VERSION_DIFFERS": _S.FAILED_PRECONDITION,
        "PURPOSE_NOT_PERMITTED": _S.PERMISSION_DENIED,
        "UNKNOWN_REQUEST": _S.NOT_FOUND,
        "GRANT_MISSING": _S.PERMISSION_DENIED,
        "GRANT_REVOKED": _S.PERMISSION_DENIED,
        "GRANT_EXPIRED": _S.PERMISSION_DENIED,
        "GRANT_DIFFERS": _S.PERMISSION_DENIED,
        "TOKEN_UNKNOWN": _S.FAILED_PRECONDITION,
        "SUMS_DIFFER": _S.INVALID_ARGUMENT,
        "AMOUNT_OVERFLOW": _S.INVALID_ARGUMENT,
        "MASKED_NOT_SUPPORTED": _S.UNIMPLEMENTED,
        "UNKNOWN_JOB": _S.NOT_FOUND,
        "UNKNOWN_ROUND": _S.NOT_FOUND,
        "APPROVALS_MISSING": _S.FAILED_PRECONDITION,
        "COHORT_EMPTY": _S.FAILED_PRECONDITION,
        "NOT_IN_COHORT": _S.PERMISSION_DENIED,
        "SAMPLES_EXCEEDED": _S.INVALID_ARGUMENT,
        "NOT_COUNTED": _S.INVALID_ARGUMENT,
        "ATTESTATIONS_DIFFER": _S.FAILED_PRECONDITION,
        "QUORUM_POSSIBLE": _S.FAILED_PRECONDITION,
    }
)
"""The one map from codes, the contracts' and the gateway's own, to gRPC statuses; a test holds it complete."""


class ApiError(Exception):
    """The answer to a call that does not succeed.

    Attributes:
        code: stable, one of STATUS.
        field: the request's field at fault, "" when none is.
        text: for people; holds no secret and no foreign text that is not printable ASCII.
        transaction_id: of the transaction concerned, "" when there is none.
    """

    default: ClassVar[str] = "INTERNAL"

    def __init__(self, text: str, *, code: str = "", field: str = "", transaction_id: str = "") -> None:
        super().__init__(text)
        self.code = code or self.default
        self.field = field
        self.text = text
        self.transaction_id = transaction_id

    def __str__(self) -> str:
        return f"{self.code}: {self.field}: {self.text}" if self.field else f"{self.code}: {self.text}"

    @property
    def status(self) -> grpc.StatusCode:
        """The gRPC status of the code."""
        return status_of(self.code)


class DeniedError(ApiError):
    """Who asks may not."""

    default = "CALLER_ROLE_REQUIRED"


class NotFoundError(ApiError):
    """There is no such thing here."""

    default = "BLOB_UNKNOWN"


class InvalidError(ApiError):
    """The request can't be meant so."""

    default = "MALFORMED_REQUEST"


class UnreadyError(ApiError):
    """Not now: something has to happen first."""

    default = "NOT_SYNCHRONISED"


class ExhaustedError(ApiError):
    """A bound was reached."""

    default = "TOO_MANY"


class CorruptError(ApiError):
    """Stored or fetched bytes are not what they should be."""

    default = "BLOB_BROKEN"


class OutcomeUnknownError(ApiError):
    """Whether the transaction commits is not known; ask by its id, or send the same bytes again."""

    default = "OUTCOME_UNKNOWN"


def status_of(code: str) -> grpc.StatusCode:
    """The gRPC status of a code; a contract's code that this version does not know is FAILED_PRECONDITION."""
    return STATUS.get(code, _S.FAILED_PRECONDITION)


def from_refusal(refusal: Refusal, transaction_id: str = "") -> ApiError:
    """A contract's refusal as an answer of the API, under the contract's own code."""
    return ApiError(
        printable_text(refusal.text),
        code=refusal.code,
        field=printable(refusal.field),
        transaction_id=transaction_id,
    )


_INVALID: Final = {
    ValidationCode.MVCC_READ_CONFLICT: "TRANSACTION_CONFLICT",
    ValidationCode.PHANTOM_READ_CONFLICT: "TRANSACTION_CONFLICT",
    ValidationCode.ENDORSEMENT_POLICY_FAILURE: "ENDORSEMENTS_INSUFFICIENT",
}


# Whose words an error repeats; each is cut to `printable_text`, so that the status still travels.
_MOST_PEERS: Final = 5


def from_client(error: ClientError) -> ApiError:
    """What the Fabric client said, as an answer of the API."""
    if isinstance(error, GatewayError):
        return _from_gateway(error)
    if isinstance(error, CommitError):
        return ApiError(
            f"the transaction was found invalid ({error.code.name}) and has changed nothing",
            code=_INVALID.get(error.code, "TRANSACTION_INVALID"),
            transaction_id=error.transaction_id,
        )
    if isinstance(error, MalformedError | ForeignTransactionError):
        return InvalidError(printable_text(str(error)), code="MALFORMED_TRANSACTION")
    return ApiError("the ledger could not be asked", code="INTERNAL")


def _from_gateway(error: GatewayError) -> ApiError:
    refusal = read_refusal(error.refusal.message) if error.refusal is not None else None
    if refusal is not None:
        return from_refusal(refusal, error.transaction_id)
    if isinstance(error, SubmitError | CommitStatusError):
        return OutcomeUnknownError(
            "the transaction was sent, and whether it commits is not known yet; send the same bytes again, or look",
            transaction_id=error.transaction_id,
        )
    away = error.code in {_S.UNAVAILABLE, _S.DEADLINE_EXCEEDED} or not isinstance(error, EndorseError)
    words = dict.fromkeys(f"{detail.msp_id}: {detail.message}" for detail in error.details[:_MOST_PEERS])
    return ApiError(
        "; ".join(
            [
                "the peers did not endorse the transaction, nothing was sent: " + printable_text(error.message),
                *map(printable_text, words),
            ]
        ),
        code="PEER_UNAVAILABLE" if away else "ENDORSEMENT_FAILED",
        transaction_id=error.transaction_id,
    )


def printable_text(text: str) -> str:
    """Foreign text of a few lines, cut to 500 characters, anything but printable ASCII replaced."""
    return "".join(letter if " " <= letter <= "~" else " " for letter in text[:500])


def to_status(error: ApiError) -> status_pb2.Status:
    """The rich status that travels: code, message, and details for programs."""
    metadata = {"field": error.field, "transaction_id": error.transaction_id}
    details: list[any_pb2.Any] = [any_pb2.Any(), any_pb2.Any()]
    details[0].Pack(
        error_details_pb2.ErrorInfo(
            reason=error.code, domain=DOMAIN, metadata={name: text for name, text in metadata.items() if text}
        )
    )
    if error.field:
        details[1].Pack(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.text)
                ]
            )
        )
    number = code_pb2.Code.Value(error.status.name)
    return status_pb2.Status(code=number, message=error.text, details=[entry for entry in details if entry.type_url])
