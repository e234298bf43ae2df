"""A consortium on a fake ledger, and short ways to act in it."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from fedfabric.chaincode.chaincode import LedgerChaincode
from fedfabric.chaincode.records import (
    Balance,
    Job,
    JobView,
    Record,
    Round,
    RoundView,
    Token,
    canonical_json,
    decode_events,
    read_refusal,
)
from fedfabric.chaincode.settings import Settings
from fedfabric.tests.unit.chaincode.fake_stub import VALID, Endorsed, FakeLedger, identity
from fedfabric.tests.unit.chaincode.memory_ledger import MemoryLedger

A, B, C, D = "ClevelandMSP", "HungaryMSP", "SwitzerlandMSP", "VaMSP"
WINDOW = 1000
START = 1_700_000_000_000


class StaleError(Exception):
    """The transaction was void: its reads were stale when it was validated."""


def digest(text: str) -> str:
    """A digest of its own for each text."""
    return hashlib.sha256(text.encode()).hexdigest()


def blob(text: str) -> dict[str, Any]:
    """A blob's reference of its own for each text."""
    return {"address": digest("address of " + text), "digest": digest(text), "size": 1000}


def outcome(text: str, *, state: bool = False, summed: Sequence[str] = (A, B, C)) -> dict[str, Any]:
    """A round's outcome of its own for each text."""
    return {
        "digest": digest(text),
        "model": blob("model " + text),
        "state": blob("state " + text) if state else None,
        "summed": list(summed),
    }


def terms(**changes: Any) -> dict[str, Any]:
    """A data set's terms."""
    return {
        "title": "Heart disease",
        "blob": blob("data"),
        "samples": 100,
        "licence": "CC-BY-4.0",
        "purposes": ["training"],
        "jurisdiction": "CH",
    } | changes


def plan(**changes: Any) -> dict[str, Any]:
    """A plan of two rounds."""
    return {
        "bundle": blob("plan"),
        "model": blob("initial model"),
        "clip": "1.5",
        "rounds": 2,
        "approval_ms": 10_000,
        "update_ms": 10_000,
        "attest_ms": 10_000,
    } | changes


def change(*members: str, sequence: int = 1, **changes: Any) -> dict[str, Any]:
    """A change of the consortium's record."""
    return {"sequence": sequence, "members": [{"msp": msp} for msp in sorted(members)], "window_ms": WINDOW} | changes


class World:
    """One ledger, one clock, and organisations with a certificate for each role."""

    def __init__(
        self,
        *organisations: str,
        founders: tuple[str, ...] | None = None,
        ledger: FakeLedger | MemoryLedger | None = None,
    ) -> None:
        self.organisations = organisations or (A, B, C)
        self.now = START
        self.ledger = ledger or FakeLedger()
        self.founders = tuple(sorted(founders if founders is not None else self.organisations))
        self.chaincode = LedgerChaincode(Settings(self.founders, WINDOW), lambda: self.now)

    async def propose(self, msp: str, role: str | None, function: str, request: Any, name: str = "someone") -> Endorsed:
        """Simulate; raise the refusal when the chaincode refuses."""
        argument = request if isinstance(request, bytes) else canonical_json(request)
        creator = identity(msp, role, name)
        endorsed = await self.ledger.simulate(self.chaincode, creator, self.now, function.encode(), argument)
        if endorsed.response.status >= 400:
            refusal = read_refusal(endorsed.response.message)
            assert refusal is not None, endorsed.response.message
            assert endorsed.response.status == refusal.status
            raise refusal
        return endorsed

    async def submit(self, msp: str, role: str | None, function: str, request: Any, name: str = "someone") -> Any:
        """Simulate and commit in a block of its own; the answer as plain data."""
        endorsed = await self.propose(msp, role, function, request, name)
        if self.ledger.commit(endorsed) != [VALID]:
            raise StaleError
        return json.loads(endorsed.response.payload)

    async def evaluate(self, function: str, request: Any, model: type[Record], msp: str = A) -> Any:
        """Evaluate; the answer as a record."""
        endorsed = await self.propose(msp, None, function, request)
        assert not endorsed.writes
        return model.model_validate_json(endorsed.response.payload)

    async def found(self) -> None:
        """Every founder approves, one applies."""
        for msp in self.organisations:
            await self.submit(msp, "operator", "consortium:approve", change(*self.organisations))
        await self.submit(self.organisations[0], "operator", "consortium:apply", change(*self.organisations))

    async def mint(self, owner: str, amount: int, mint: str = "m1") -> dict[str, Any]:
        """Mint by everybody; the row as an input."""
        request = {"id": mint, "owner": owner, "amount": str(amount)}
        for msp in self.organisations:
            await self.submit(msp, "operator", "tokens:approve", request)
        made = await self.submit(self.organisations[0], "operator", "tokens:mint", request)
        return {"tx": made["token"]["tx"], "n": made["token"]["n"]}

    async def register(self, msp: str, name: str = "heart", **changes: Any) -> dict[str, Any]:
        return await self.submit(msp, "steward", "datasets:register", {"name": name, "terms": terms(**changes)})

    async def grant(self, owner: str, requester: str, request: str, name: str = "heart", **changes: Any) -> None:
        """Ask for access and get it."""
        asked = {"id": request, "dataset": f"{owner}/{name}", "version": 1, "purpose": "training"} | changes
        await self.submit(requester, "scientist", "access:request", asked)
        await self.submit(owner, "steward", "access:grant", {"id": request})

    async def prepare(self, *owners: str, submitter: str = A) -> list[dict[str, Any]]:
        """Register a data set of each owner and get the submitter's grants; the job's list of data sets."""
        uses = []
        for owner in owners or self.organisations:
            await self.register(owner)
            use: dict[str, Any] = {"dataset": f"{owner}/heart", "version": 1}
            if owner != submitter:
                use["grant"] = f"g-{owner.lower()}"
                await self.grant(owner, submitter, use["grant"])
            uses.append(use)
        return uses

    async def job(self, job: str = "j1", budget: int = 0, submitter: str = A, **changes: Any) -> Job:
        """Data sets of the founders, grants, tokens and a job, approved by all and started."""
        return await self.job_of(*self.organisations, job=job, budget=budget, submitter=submitter, **changes)

    async def job_of(self, *owners: str, job: str = "j1", budget: int = 0, submitter: str = A, **changes: Any) -> Job:
        """As `job`, with these owners."""
        uses = await self.prepare(*owners, submitter=submitter)
        return await self.run_job(uses, job=job, budget=budget, submitter=submitter, **changes)

    async def run_job(
        self, uses: list[dict[str, Any]], job: str = "j1", budget: int = 0, submitter: str = A, **changes: Any
    ) -> Job:
        """A job over these data sets, approved by their owners and started."""
        inputs = [await self.mint(submitter, budget, f"for-{job}")] if budget else []
        request = {"id": job, "plan": plan(**changes), "datasets": uses, "budget": str(budget), "inputs": inputs}
        made = await self.submit(submitter, "scientist", "training:submit", request)
        for use in uses:
            await self.approve(use["dataset"].split("/")[0], job, made["digest"])
        await self.submit(B, "gateway", "training:start", {"job": job})
        return await self.show(job)

    async def approve(self, msp: str, job: str, of: str) -> Any:
        return await self.submit(msp, "steward", "training:approve", {"job": job, "digest": of, "privacy": "clear"})

    async def update(self, msp: str, number: int = 1, job: str = "j1", samples: int = 100, text: str = "") -> Any:
        request = {
            "job": job,
            "round": number,
            "attempt": 1,
            "blob": blob(text or f"update {number} of {msp}"),
            "samples": samples,
        }
        return await self.submit(msp, "gateway", "training:update", request)

    async def close(self, number: int = 1, job: str = "j1", msp: str = B) -> Any:
        return await self.submit(msp, "gateway", "training:close", {"job": job, "round": number})

    async def attest(
        self, msp: str, number: int = 1, text: str = "", job: str = "j1", *, accept: bool = True, attempt: int = 0
    ) -> Any:
        """Attest an outcome of all the updates counted, in the present attempt unless told otherwise."""
        current = await self.round(number, job)
        request = {
            "job": job,
            "round": number,
            "attempt": attempt or current.attempt,
            "outcome": outcome(text or f"result {number}", summed=current.counted or (A, B, C)),
            "accept": accept,
        }
        return await self.submit(msp, "gateway", "training:attest", request)

    async def report_missing(self, msp: str, *members: str, number: int = 1, job: str = "j1", attempt: int = 1) -> Any:
        request = {"job": job, "round": number, "attempt": attempt, "members": list(members)}
        return await self.submit(msp, "gateway", "training:report_missing", request)

    async def recount(self, number: int = 1, job: str = "j1", msp: str = B) -> Any:
        return await self.submit(msp, "gateway", "training:recount", {"job": job, "round": number})

    async def finalise(self, *attesters: str, number: int = 1, text: str = "", job: str = "j1", msp: str = B) -> Any:
        request = {
            "job": job,
            "round": number,
            "outcome": digest(text or f"result {number}"),
            "attestations": sorted(attesters),
        }
        return await self.submit(msp, "gateway", "training:finalise", request)

    async def abort_round(self, number: int = 1, job: str = "j1", msp: str = B) -> Any:
        return await self.submit(msp, "gateway", "training:abort_round", {"job": job, "round": number})

    async def whole_round(self, *members: str, number: int = 1, job: str = "j1") -> None:
        """A round in which all the members deliver and agree."""
        for msp in members:
            await self.update(msp, number, job)
        await self.close(number, job)
        for msp in members:
            await self.attest(msp, number, job=job)
        await self.finalise(*members, number=number, job=job)

    async def show(self, job: str = "j1") -> Job:
        return (await self.evaluate("training:show", {"job": job}, JobView)).job

    async def round(self, number: int = 1, job: str = "j1") -> Round:
        return (await self.evaluate("training:round", {"job": job, "round": number}, RoundView)).round

    async def balance(self, owner: str) -> int:
        return int((await self.evaluate("tokens:balance", {"owner": owner}, Balance)).total)

    def supply(self) -> int:
        """The sum of all unspent rows."""
        rows = [value for key, (value, _) in self.ledger.state.items() if key.startswith("\x00token\x00")]
        return sum(int(Token.model_validate_json(value).amount) for value in rows)

    def events(self) -> list[str]:
        """The types of the events of the last block."""
        return [
            event.type
            for endorsed, code in self.ledger.chain[-1]
            if code == VALID and endorsed.event is not None
            for event in decode_events(endorsed.event[1])
        ]
