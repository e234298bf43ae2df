"""A transaction whose end is not known is never said to have changed nothing: who believed that would pay twice."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace

import grpc
import pytest
from fedfabric.gateway import client_session
from fedfabric.gateway.admission import as_api_error
from fedfabric.gateway.client_session import Session
from fedfabric.gateway.errors import ApiError, OutcomeUnknownError
from fedfabric.gateway.limits import Deadlines
from fedfabric.gateway.services import transactions
from fedfabric.gateway.v1 import transactions_pb2

TRANSACTION_ID = "ab" * 32
ANSWER = transactions_pb2.SubmitResponse(transaction_id=TRANSACTION_ID, block_number=7)


async def done(*_: object) -> SimpleNamespace:
    return SimpleNamespace(successful=True, block_number=7)


async def never(*_: object) -> None:
    await asyncio.Event().wait()


async def submitted(monkeypatch: pytest.MonkeyPatch, **slow: Callable) -> transactions_pb2.SubmitResponse:
    """Submit at a gateway whose peer and follower answer at once, but for what is `slow`."""
    transaction = SimpleNamespace(
        channel_name="consortium",
        transaction_id=TRANSACTION_ID,
        message=b"",
        result=b"",
        submit=slow.get("submit", done),
    )
    gateway = SimpleNamespace(signed_transaction=lambda *_: transaction)
    monkeypatch.setattr(transactions, "connect", lambda *_, **__: gateway)
    monkeypatch.setattr(transactions, "caller", lambda: SimpleNamespace(identity=None))
    monkeypatch.setattr(transactions, "_require_caller", lambda _: None)
    monkeypatch.setattr(transactions, "_creator", lambda _: None)
    commit = SimpleNamespace(status=slow.get("status", done))
    parts = SimpleNamespace(
        configuration=SimpleNamespace(channel="consortium"),
        deadlines=Deadlines(ledger=0.01),
        peer=None,
        fabric=SimpleNamespace(network=lambda _: SimpleNamespace(commit=lambda _: commit)),
        follower=SimpleNamespace(until=slow.get("until", done)),
    )
    request = transactions_pb2.SubmitRequest(signature=bytes(70))
    return await transactions.Transactions(parts).Submit(request, None)


async def test_a_transaction_is_submitted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await submitted(monkeypatch)).block_number == 7


@pytest.mark.parametrize("slow", ["submit", "status", "until"])
async def test_a_submission_that_takes_too_long_is_of_unknown_outcome(
    monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    with pytest.raises(OutcomeUnknownError) as caught:
        await submitted(monkeypatch, **{slow: never})
    assert as_api_error(caught.value).code == "OUTCOME_UNKNOWN"
    assert caught.value.transaction_id == TRANSACTION_ID


class Scripted(Session):
    """A session whose gateway answers as a test has it."""

    def __init__(self, *codes: str) -> None:
        self.channel = grpc.aio.insecure_channel("127.0.0.1:1")
        self.codes = list(codes)
        self.sent: list[bytes] = []

    async def call(self, _method: object, request: transactions_pb2.SubmitRequest) -> transactions_pb2.SubmitResponse:
        self.sent.append(request.prepared_transaction)
        code = self.codes.pop(0)
        if code:
            raise ApiError("as scripted", code=code)
        return ANSWER

    async def submit(self) -> transactions_pb2.SubmitResponse:
        request = transactions_pb2.SubmitRequest(prepared_transaction=b"the same bytes")
        try:
            return await self._submit(request, TRANSACTION_ID)
        finally:
            await self.close()


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_session, "_PAUSE", 0)


@pytest.mark.parametrize("lost", ["OUTCOME_UNKNOWN", "GATEWAY_UNAVAILABLE", "GATEWAY_TIMEOUT", "INTERNAL"])
async def test_the_same_bytes_are_sent_again_when_the_answer_is_lost(lost: str) -> None:
    session = Scripted(lost, lost, "")
    assert await session.submit() == ANSWER
    assert session.sent == [b"the same bytes"] * 3


@pytest.mark.parametrize("later", ["TOO_MANY", "CERTIFICATE_UNKNOWN", "GATEWAY_STOPPING"])
async def test_a_refusal_to_take_the_bytes_again_does_not_say_how_they_ended(later: str) -> None:
    with pytest.raises(OutcomeUnknownError) as caught:
        await Scripted("OUTCOME_UNKNOWN", *[later] * client_session._RESENDS).submit()
    assert caught.value.transaction_id == TRANSACTION_ID
    assert await Scripted("OUTCOME_UNKNOWN", later, "").submit() == ANSWER


@pytest.mark.parametrize("codes", [("TOO_MANY",), ("OUTCOME_UNKNOWN", "TRANSACTION_CONFLICT")])
async def test_what_is_known_to_have_changed_nothing_is_said_at_once(codes: tuple[str, ...]) -> None:
    session = Scripted(*codes)
    with pytest.raises(ApiError) as caught:
        await session.submit()
    assert caught.value.code == codes[-1]
    assert not isinstance(caught.value, OutcomeUnknownError)
    assert not session.codes
