"""The gateway's own transactions: stored before they are sent, never two of one deed under way."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from fedfabric.chaincode.records import JobRef
from fedfabric.fabric.client import (
    CommitError,
    CommitStatusError,
    EndorseError,
    PeerDetail,
    Retries,
    Status,
    SubmitError,
    ValidationCode,
)
from fedfabric.gateway.journal import Act, Journal
from fedfabric.gateway.ledger import Ledger
from fedfabric.gateway.limits import Deadlines

VALID, CONFLICT = ValidationCode.VALID, ValidationCode.MVCC_READ_CONFLICT
REQUEST = JobRef(job="job")


@dataclass
class FakePeer:
    """A peer with the client's object model: plays what each transaction meets, in order."""

    script: list[object]
    """For each submission: a validation code, or an error, or ("lost", code): sent, but the answer is lost."""
    journal: Journal
    endorsed: int = 0
    sent: list[str] = field(default_factory=list)
    stored_when_sent: list[str] = field(default_factory=list)
    known: dict[str, ValidationCode] = field(default_factory=dict)

    def network(self, _: str) -> "FakePeer":
        return self

    def contract(self, _chaincode: str, _name: str) -> "FakePeer":
        return self

    async def submit_async(self, transaction: str, *_: bytes, before_submit, retries) -> "FakeCommit":
        meets = self.script[0]
        if isinstance(meets, EndorseError):
            raise self.script.pop(0)
        self.endorsed += 1
        made = FakeTransaction(self, f"tx{self.endorsed}-{transaction}")
        await before_submit(made)
        return await made.submit()

    def signed_transaction(self, data: bytes) -> "FakeTransaction":
        return FakeTransaction(self, data.decode())


@dataclass
class FakeTransaction:
    peer: FakePeer
    transaction_id: str

    @property
    def bytes(self) -> bytes:
        return self.transaction_id.encode()

    async def submit(self) -> "FakeCommit":
        act = self.peer.journal.act("start job")
        self.peer.stored_when_sent.append(act.transaction_id if act else "")
        self.peer.sent.append(self.transaction_id)
        if self.transaction_id in self.peer.known:
            return FakeCommit(self.transaction_id, self.peer.known[self.transaction_id])
        meets = self.peer.script.pop(0)
        if isinstance(meets, tuple):
            self.peer.known[self.transaction_id] = meets[1]
            raise SubmitError(self.transaction_id, grpc.StatusCode.UNAVAILABLE, "the answer was lost")
        if isinstance(meets, SubmitError):
            raise meets
        return FakeCommit(self.transaction_id, meets)


@dataclass
class FakeCommit:
    transaction_id: str
    meets: object

    async def status(self) -> Status:
        if isinstance(self.meets, Exception):
            raise self.meets
        return Status(self.meets, 7, self.transaction_id)


@pytest.fixture
def journal(tmp_path: Path):
    with Journal(tmp_path / "journal.sqlite") as journal:
        yield journal


def ledger(journal: Journal, script: Sequence[object]) -> tuple[Ledger, FakePeer, list[int]]:
    peer = FakePeer(list(script), journal)
    shown: list[int] = []

    async def show(block: int) -> None:
        shown.append(block)

    retries = Retries(first_pause=0.0)
    made = Ledger(peer, "channel", "jobs", journal=journal, shown=show, deadlines=Deadlines(ledger=5), retries=retries)
    return made, peer, shown


async def test_a_transaction_is_stored_before_it_is_sent_and_forgotten_when_its_end_is_known(journal: Journal) -> None:
    made, peer, shown = ledger(journal, [VALID])
    await made.act("start job", "training:start", REQUEST)
    assert peer.stored_when_sent == peer.sent == ["tx1-start"]
    assert journal.act("start job") is None
    assert shown == [7]


async def test_what_may_have_been_sent_is_sent_again_as_it_is(journal: Journal) -> None:
    made, peer, _ = ledger(journal, [("lost", VALID)])
    with pytest.raises(SubmitError):
        await made.act("start job", "training:start", REQUEST)
    assert journal.act("start job") == Act("start job", "tx1-start", b"tx1-start")
    await made.act("start job", "training:start", REQUEST)
    assert peer.endorsed == 1
    assert peer.sent == ["tx1-start", "tx1-start"]
    assert journal.act("start job") is None


async def test_a_restart_goes_on_with_the_transaction_that_was_stored(journal: Journal) -> None:
    journal.store_act(Act("start job", "before", b"before"))
    made, peer, _ = ledger(journal, [VALID])
    await made.act("start job", "training:start", REQUEST)
    assert (peer.endorsed, peer.sent) == (0, ["before"])


async def test_a_transaction_that_is_known_to_have_failed_is_made_anew(journal: Journal) -> None:
    journal.store_act(Act("start job", "before", b"before"))
    made, peer, _ = ledger(journal, [CONFLICT, VALID])
    await made.act("start job", "training:start", REQUEST)
    assert peer.sent == ["before", "tx1-start"]


async def test_a_transaction_that_the_orderers_refuse_is_made_anew(journal: Journal) -> None:
    """Killed before it was sent, and the certificate renewed since: those bytes are never taken."""
    journal.store_act(Act("start job", "before", b"before"))
    no = SubmitError("before", grpc.StatusCode.ABORTED, "the creator's certificate has expired")
    made, peer, _ = ledger(journal, [no, VALID])
    await made.act("start job", "training:start", REQUEST)
    assert peer.sent == ["before", "tx1-start"]
    assert journal.act("start job") is None


async def test_a_new_transaction_that_the_orderers_refuse_is_not_kept(journal: Journal) -> None:
    made, _, _ = ledger(journal, [SubmitError("tx1-start", grpc.StatusCode.ABORTED, "no")])
    with pytest.raises(SubmitError):
        await made.act("start job", "training:start", REQUEST)
    assert journal.act("start job") is None


async def test_a_stored_transaction_whose_answer_is_lost_again_is_kept(journal: Journal) -> None:
    journal.store_act(Act("start job", "before", b"before"))
    made, peer, _ = ledger(journal, [("lost", VALID), VALID])
    with pytest.raises(SubmitError):
        await made.act("start job", "training:start", REQUEST)
    assert journal.act("start job") == Act("start job", "before", b"before")
    assert peer.endorsed == 0


async def test_an_unknown_end_keeps_the_transaction(journal: Journal) -> None:
    lost = CommitStatusError("tx1-start", grpc.StatusCode.DEADLINE_EXCEEDED, "no answer")
    made, _, _ = ledger(journal, [lost])
    with pytest.raises(CommitStatusError):
        await made.act("start job", "training:start", REQUEST)
    assert journal.act("start job") is not None


async def test_conflicts_are_endorsed_anew_a_few_times(journal: Journal) -> None:
    made, peer, _ = ledger(journal, [CONFLICT, CONFLICT, VALID])
    await made.act("start job", "training:start", REQUEST)
    assert peer.endorsed == 3
    made, peer, _ = ledger(journal, [CONFLICT] * 20)
    with pytest.raises(CommitError):
        await made.act("start job", "training:start", REQUEST)
    assert peer.endorsed == 6
    assert journal.act("start job") is None


async def test_a_refusal_is_raised_and_nothing_stays_stored(journal: Journal) -> None:
    refused = EndorseError(
        "tx1", grpc.StatusCode.ABORTED, "no", [PeerDetail("peer", "AMSP", "chaincode response 409, {}")]
    )
    made, peer, _ = ledger(journal, [refused])
    with pytest.raises(EndorseError):
        await made.act("start job", "training:start", REQUEST)
    assert peer.sent == []
    assert journal.act("start job") is None
