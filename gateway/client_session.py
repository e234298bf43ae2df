"""The client's side of the wire: connection, signatures, and errors as they were meant.

Before anything is signed it is checked: the proposal must say what was asked, in the signer's name, and the endorsed
transaction must be that proposal's. So a gateway can refuse, but can't have another thing signed.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from pydantic import ValidationError

from ..chaincode.records import Record
from ..fabric.client import ForeignTransactionError, MalformedError, Proposal, connect
from ..fabric.identity import Identity, InvalidIdentityError, Signer, private_key_signer
from .configuration import ConfigurationError, Profile
from .errors import DOMAIN, ApiError, InvalidError, OutcomeUnknownError
from .limits import Limits
from .v1 import transactions_pb2, transactions_pb2_grpc

__all__ = ["Asked", "Session", "api_error"]

AnyRecord = TypeVar("AnyRecord", bound=Record)

_DETAILS_KEY: Final = "grpc-status-details-bin"
_AGAIN: Final[Mapping[str, int]] = {
    "TRANSACTION_CONFLICT": 5,
    "ENDORSEMENTS_INSUFFICIENT": 1,
    "TOKEN_UNKNOWN": 2,
}
"""Refusals that have changed nothing and may pass: how often to prepare anew."""
_LOST: Final = frozenset({"OUTCOME_UNKNOWN", "GATEWAY_UNAVAILABLE", "GATEWAY_TIMEOUT", "INTERNAL"})
"""After one of these a transaction may have been sent."""
_ENDED: Final = frozenset({"TRANSACTION_CONFLICT", "TRANSACTION_INVALID", "ENDORSEMENTS_INSUFFICIENT"})
"""These say how a transaction has ended; whatever else comes after one was sent says nothing about it."""
_UNREACHED: Final[Mapping[str, str]] = {
    "Connection refused": "nothing listens at the gateway's address in the profile",
    "DNS resolution failed": "the host of the gateway's address in the profile is not known",
    "CERTIFICATE_VERIFY_FAILED": "what listens at the gateway's address has a certificate that the profile's "
    "trust_roots do not know",
    "Hostname Verification Check failed": "what listens at the gateway's address has another host's certificate",
    "Socket closed": "the gateway closed the connection: it takes the profile's certificate for nobody's, or is being "
    "stopped",
}
"""What gRPC's words for a connection that failed mean to a user."""
_RESENDS: Final = 5
_PAUSE: Final = 0.2


@dataclass(frozen=True)
class Asked:
    """What a transaction is meant to say.

    Attributes:
        function: `contract:transaction`.
        record: its request.
        filled: fields that the gateway may fill in.
    """

    function: str
    record: Record
    filled: tuple[str, ...] = ()


class Session:
    """One connection to a gateway, in one event loop."""

    def __init__(self, profile: Profile, *, timeout: float, limits: Limits, signer: Signer | None = None) -> None:
        self.profile = profile
        self.timeout = timeout
        self.limits = limits
        certificate, key = _read(profile.certificate, "certificate"), _read(profile.key, "key")
        roots = _read(profile.trust_roots, "trust_roots")
        self.identity = Identity(profile.msp_id, certificate)
        own = _checked(profile, self.identity, key, roots)
        self._signer = signer or own
        options: list[tuple[str, int | str]] = [
            ("grpc.max_receive_message_length", limits.message_bytes),
            ("grpc.max_send_message_length", limits.message_bytes),
            ("grpc.enable_retries", 0),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        if profile.override_hostname:
            options.append(("grpc.ssl_target_name_override", profile.override_hostname))
        self.channel = grpc.aio.secure_channel(
            profile.gateway, grpc.ssl_channel_credentials(roots, key, certificate), options=options
        )
        # Its calls are never made: it opens and checks what the gateway prepared.
        self._reader = connect(self.channel, self.identity)

    async def close(self) -> None:
        """End the connection."""
        await self.channel.close(None)

    async def call(self, method: Callable[..., Awaitable[Any]], request: Message) -> Any:
        """Make a call that only reads, or only prepares.

        Raises:
            ApiError: as the gateway said, or GATEWAY_UNAVAILABLE, GATEWAY_TIMEOUT.
        """
        try:
            return await method(request, timeout=self.timeout)
        except grpc.aio.AioRpcError as error:
            raise api_error(error) from error

    async def stream(self, method: Callable[..., Any], request: Message) -> AsyncIterator[Any]:
        """Read a stream, which lasts as long as it lasts.

        Raises:
            ApiError: as the gateway said, or GATEWAY_UNAVAILABLE.
        """
        call = method(request)
        try:
            async for answer in call:
                yield answer
        except grpc.aio.AioRpcError as error:
            raise api_error(error) from error
        finally:
            call.cancel()

    async def write(
        self,
        prepare: Callable[..., Awaitable[transactions_pb2.PreparedProposal]],
        request: Message,
        asked: Asked,
        result: type[AnyRecord],
    ) -> AnyRecord:
        """Have something prepared, sign it, have it endorsed, sign that, submit it, and wait for its commit.

        Raises:
            ApiError: it was refused or failed, and has changed nothing.
            OutcomeUnknownError: it was sent, and whether it commits is not known.
        """
        tries: dict[str, int] = {}
        while True:
            try:
                return await self._write_once(prepare, request, asked, result)
            except ApiError as error:
                tries[error.code] = tries.get(error.code, 0) + 1
                if tries[error.code] > _AGAIN.get(error.code, 0):
                    raise
            await asyncio.sleep(_PAUSE * tries[max(tries, key=lambda code: tries[code])])

    async def _write_once(
        self,
        prepare: Callable[..., Awaitable[transactions_pb2.PreparedProposal]],
        request: Message,
        asked: Asked,
        result: type[AnyRecord],
    ) -> AnyRecord:
        prepared = await self.call(prepare, request)
        try:
            proposal = self._reader.signed_proposal(prepared.proposed_transaction)
            self._check(proposal.message, prepared.proposal)
            self._check_place(proposal)
            check_arguments(proposal.arguments, asked)
            endorsed = await self.call(
                self._stub.Endorse,
                transactions_pb2.EndorseRequest(
                    proposed_transaction=prepared.proposed_transaction, signature=self._signer(proposal.message)
                ),
            )
            transaction = self._reader.signed_transaction(endorsed.prepared_transaction)
            transaction.check(proposal.message)
            self._check(transaction.message, endorsed.payload)
        except (ForeignTransactionError, MalformedError, InvalidIdentityError) as error:
            raise InvalidError(
                f"the gateway prepared something else than was asked, nothing was signed: {error}",
                code="MALFORMED_TRANSACTION",
            ) from error
        submitted = await self._submit(
            transactions_pb2.SubmitRequest(
                prepared_transaction=endorsed.prepared_transaction, signature=self._signer(transaction.message)
            ),
            transaction.transaction_id,
        )
        return _read_result(transaction.result or submitted.result, result)

    @staticmethod
    def _check(found: bytes, shown: bytes) -> None:
        if found != shown:
            raise ForeignTransactionError("what is to be signed is not what was prepared")

    def _check_place(self, proposal: Proposal) -> None:
        creator = proposal.creator
        if creator.msp_id != self.identity.msp_id or creator.x509 != self.identity.x509:
            raise ForeignTransactionError("the proposal is in another's name")
        if (proposal.channel_name, proposal.chaincode_name) != (self.profile.channel, self.profile.chaincode):
            raise ForeignTransactionError("the proposal is for another chaincode or channel")

    @property
    def _stub(self) -> transactions_pb2_grpc.TransactionsStub:
        return transactions_pb2_grpc.TransactionsStub(self.channel)  # type: ignore[no-untyped-call]

    async def _submit(
        self, request: transactions_pb2.SubmitRequest, transaction_id: str
    ) -> transactions_pb2.SubmitResponse:
        """The same bytes again when the answer is lost: a transaction commits once."""
        sent = False
        for again in range(_RESENDS + 1):
            try:
                answer: transactions_pb2.SubmitResponse = await self.call(self._stub.Submit, request)
            except ApiError as error:
                sent = sent or error.code in _LOST
                if not sent or error.code in _ENDED:
                    raise
                if again == _RESENDS:
                    raise OutcomeUnknownError(
                        "the transaction was sent, and whether it commits is not known; look, or ask again",
                        transaction_id=transaction_id,
                    ) from error
                await asyncio.sleep(_PAUSE * 2**again)
            else:
                return answer
        raise AssertionError  # pragma: no cover - the loop returns or raises


def check_arguments(arguments: tuple[bytes, ...], asked: Asked) -> None:
    """Check that a proposal's arguments say what was asked, but for what the gateway fills in.

    Raises:
        ForeignTransactionError: they don't.
    """
    if len(arguments) != 2 or arguments[0] != asked.function.encode():
        raise ForeignTransactionError(f"the proposal is not {asked.function}")
    if arguments[1] == asked.record.canonical():
        return
    try:
        proposed = type(asked.record).model_validate_json(arguments[1])
    except ValidationError as error:
        raise ForeignTransactionError("the proposal's argument is not a request of this kind") from error
    unfilled = {name: getattr(asked.record, name) for name in asked.filled if hasattr(asked.record, name)}
    if not asked.filled or proposed.model_copy(update=unfilled) != asked.record:
        raise ForeignTransactionError("the proposal's argument is not what was asked")
    _check_filled(proposed, asked)


def _check_filled(proposed: Record, asked: Asked) -> None:
    """What the gateway filled in spends the caller's own rows, and gives what is left back."""
    before, after = asked.record, proposed
    payer = getattr(before, "payer", None)
    if "payer" in asked.filled and payer is not None and getattr(after, "payer", None) != payer:
        raise ForeignTransactionError("the proposal is paid by another account")
    outputs = getattr(before, "outputs", ())
    added = getattr(after, "outputs", ())[len(outputs) :]
    if getattr(after, "outputs", ())[: len(outputs)] != outputs or any(
        output.owner != getattr(before, "owner", None) for output in added
    ):
        raise ForeignTransactionError("the proposal pays others than was asked")


def _read_result(content: bytes, result: type[AnyRecord]) -> AnyRecord:
    try:
        return result.model_validate_json(content)
    except ValidationError as error:
        raise ApiError(
            "it is committed; the contract's answer is of a later version and can't be read here", code="INTERNAL"
        ) from error


def api_error(error: grpc.aio.AioRpcError) -> ApiError:
    """A failed call as the gateway meant it; what is not the gateway's own words, by the status alone."""
    metadata: Any = error.trailing_metadata() or ()
    for key, value in metadata:
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                found = _of_details(status_pb2.Status.FromString(value))
            except DecodeError:
                continue
            if found is not None:
                return found
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        details = error.details() or ""
        known = (meaning for sign, meaning in _UNREACHED.items() if sign in details)
        text = next(known, f"the gateway can't be reached, or takes this certificate for nobody's: {details}")
        return ApiError(text, code="GATEWAY_UNAVAILABLE")
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ApiError("the gateway did not answer in time", code="GATEWAY_TIMEOUT")
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return ApiError(error.details() or "a bound was reached", code="TOO_MANY")
    return ApiError(f"{error.code().name}: {error.details() or ''}", code="INTERNAL")


def _of_details(status: status_pb2.Status) -> ApiError | None:
    for detail in status.details:
        information = error_details_pb2.ErrorInfo()
        if detail.Is(information.DESCRIPTOR) and detail.Unpack(information) and information.domain == DOMAIN:
            kind = OutcomeUnknownError if information.reason == "OUTCOME_UNKNOWN" else ApiError
            return kind(
                status.message,
                code=information.reason,
                field=information.metadata.get("field", ""),
                transaction_id=information.metadata.get("transaction_id", ""),
            )
    return None


def _checked(profile: Profile, identity: Identity, key: bytes, roots: bytes) -> Signer:
    """The profile's own signer. Finds in its files what gRPC would refuse with words that name none of them.

    Raises:
        ConfigurationError: one of them is not what it should be, or the key is another certificate's.
    """
    try:
        x509.load_pem_x509_certificates(roots)
    except ValueError as error:
        raise ConfigurationError(f"profile, trust_roots: {profile.trust_roots} holds no certificate (PEM)") from error
    try:
        certified = identity.x509.public_key()
    except InvalidIdentityError as error:
        raise ConfigurationError(f"profile, certificate: {profile.certificate}: {error}") from error
    try:
        own = private_key_signer(key)
    except InvalidIdentityError as error:
        raise ConfigurationError(f"profile, key: {profile.key}: {error}") from error
    if load_pem_private_key(key, None).public_key() != certified:
        raise ConfigurationError(f"profile, key: {profile.key} is not the key of {profile.certificate}")
    return own


def _read(path: Any, what: str) -> bytes:
    try:
        return bytes(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"profile, {what}: {path} can't be read: {error.strerror}") from error
