"""A transaction whose end is not known is never said to have changed nothing: who believed that would pay twice."""

import asyncio
import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
from fedfabric.gateway import client_session, server
from fedfabric.gateway.admission import as_api_error
from fedfabric.gateway.client_session import Session
from fedfabric.gateway.errors import ApiError, ExhaustedError, OutcomeUnknownError
from fedfabric.gateway.limits import Deadlines, Limits
from fedfabric.gateway.services import transactions
from fedfabric.gateway.v1 import transactions_pb2
from fedfabric.network.identities import Authorities

NOW = datetime.datetime.now(datetime.UTC)
TRANSACTION_ID = "ab" * 32
ANSWER = transactions_pb2.SubmitResponse(transaction_id=TRANSACTION_ID, block_number=7)


async def done(*_: object) -> SimpleNamespace:
    return SimpleNamespace(successful=True, block_number=7)


async def never(*_: object) -> None:
    await asyncio.Event().wait()


async def submitted(
    monkeypatch: pytest.MonkeyPatch,
    limits: Limits | None = None,
    **slow: Callable,
) -> transactions_pb2.SubmitResponse:
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
        limits=limits or Limits(),
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


async def test_what_has_only_waited_for_its_turn_was_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExhaustedError):
        await submitted(monkeypatch, Limits(submissions=0))


async def test_callers_who_wait_for_commits_leave_the_gateway_its_own_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutcomeUnknownError):
        await submitted(monkeypatch, Limits(awaited=0))
    assert Limits().awaited <= Limits().peer_calls // 2


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


@dataclass
class Busy:
    """A peer that counts the callers' calls under way and lets none through before it is told."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    now: int = 0
    most: int = 0

    async def call(self) -> SimpleNamespace:
        self.now += 1
        self.most = max(self.most, self.now)
        await self.go.wait()
        self.now -= 1
        return SimpleNamespace(transaction_id=TRANSACTION_ID, message=b"", bytes=b"", result=b"")


async def test_all_callers_together_have_a_bounded_number_of_calls_at_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    peer, orderer = Busy(), Busy()
    made = {"channel_name": "consortium", "chaincode_name": "fedfabric", "creator": None, "message": b"", "result": b""}
    made["transaction_id"] = TRANSACTION_ID
    gateway = SimpleNamespace(
        signed_proposal=lambda *_: SimpleNamespace(endorse=peer.call, **made),
        signed_transaction=lambda *_: SimpleNamespace(submit=orderer.call, **made),
    )
    monkeypatch.setattr(transactions, "connect", lambda *_, **__: gateway)
    monkeypatch.setattr(transactions, "caller", lambda: SimpleNamespace(identity=None))
    monkeypatch.setattr(transactions, "_require_caller", lambda _: None)
    monkeypatch.setattr(transactions, "_creator", lambda _: None)
    parts = SimpleNamespace(
        configuration=SimpleNamespace(channel="consortium", chaincode="fedfabric"),
        deadlines=Deadlines(ledger=10),
        limits=Limits(endorsements=3, submissions=2),
        peer=SimpleNamespace(channel_ready=done),
        fabric=SimpleNamespace(network=lambda _: SimpleNamespace(commit=lambda _: SimpleNamespace(status=done))),
        follower=SimpleNamespace(until=done),
    )
    service = transactions.Transactions(parts)
    calls = [service.Endorse(transactions_pb2.EndorseRequest(signature=bytes(70)), None) for _ in range(9)]
    calls += [service.Submit(transactions_pb2.SubmitRequest(signature=bytes(70)), None) for _ in range(9)]
    under_way = asyncio.gather(*calls)
    async with asyncio.timeout(5):
        while (peer.now, orderer.now) != (3, 2):  # noqa: ASYNC110 - nothing tells that the rest waits
            await asyncio.sleep(0)
    peer.go.set()
    orderer.go.set()
    await under_way
    assert (peer.most, orderer.most) == (3, 2)


def test_what_a_gateway_asks_of_its_peer_at_a_time_is_less_than_a_peer_takes() -> None:
    limits = Limits()
    assert limits.peer_calls + limits.endorsements + limits.submissions <= 450


async def test_the_gateways_own_calls_have_their_part_of_it(tmp_path: Path) -> None:
    issued = Authorities.create("AMSP", NOW).signing.issue("gateway", NOW, attributes={"fedfabric.role": "gateway"})
    (tmp_path / "tls.pem").write_bytes(issued.certificate)
    peer = SimpleNamespace(endpoint="127.0.0.1:1", tls_ca=tmp_path / "tls.pem", override_hostname="")
    configuration = SimpleNamespace(msp_id="AMSP", certificate=tmp_path / "tls.pem", peer=peer)
    channel, gateway = server._fabric(configuration, issued.certificate, issued.key, 7)
    assert gateway._calls.slots.free == 7
    await channel.close()
