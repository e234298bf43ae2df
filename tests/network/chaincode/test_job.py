"""A job's life by direct calls of several organisations' clients, on a real network."""

import asyncio
import time

import pytest
from fedfabric.chaincode.records import refusals
from fedfabric.tests.network.chaincode.ledger import MEMBERS
from fedfabric.tests.unit.chaincode.world import blob, digest, outcome, plan

PATIENCE = 30.0
"""Seconds for a deadline on the ledger to pass."""


async def start(ledger, job, owners=MEMBERS, budget=0, **changes):
    """Data, grants, tokens, a job approved by its owners and started."""
    uses = await ledger.data(job, owners=owners)
    inputs = [await ledger.mint(ledger.msp("cleveland"), budget, job)] if budget else []
    request = {"id": job, "plan": plan(**changes), "datasets": uses, "budget": str(budget), "inputs": inputs}
    made = await ledger.submit("cleveland", "scientist", "training:submit", request)
    decision = {"job": job, "digest": made["digest"], "privacy": "clear"}
    await asyncio.gather(*(ledger.submit(one, "steward", "training:approve", decision) for one in owners))
    await ledger.submit(owners[-1], "gateway", "training:start", {"job": job})
    return made


async def update(ledger, job, *members, number=1):
    async def one(member):
        request = {"job": job, "round": number, "attempt": 1, "blob": blob(f"{member} {number}"), "samples": 90}
        await ledger.submit(member, "gateway", "training:update", request)

    await asyncio.gather(*(one(member) for member in members))


async def attest(ledger, job, said, number=1, attempt=1, summed=None):
    """Members attest outcomes by their texts, of the sum of all who attest unless told otherwise."""
    counted = sorted(ledger.msp(member) for member in summed or said)

    async def one(member, text):
        result = outcome(text, summed=counted)
        request = {"job": job, "round": number, "attempt": attempt, "outcome": result, "accept": True}
        await ledger.submit(member, "gateway", "training:attest", request)

    await asyncio.gather(*(one(member, text) for member, text in said.items()))


async def finalise(ledger, job, text, *members, number=1, by="hungary"):
    attesters = sorted(ledger.msp(member) for member in members)
    request = {"job": job, "round": number, "outcome": digest(text), "attestations": attesters}
    return await ledger.submit(by, "gateway", "training:finalise", request)


async def close(ledger, job, number=1, by="hungary"):
    return await ledger.submit(by, "gateway", "training:close", {"job": job, "round": number})


async def when_it_is_time(act):
    """Repeat an act that the ledger's time does not allow yet."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return await act()
        except refusals.TooEarly:
            assert time.monotonic() < deadline, "the ledger's deadline did not pass"


async def show(ledger, job):
    return (await ledger.evaluate("training:show", {"job": job}, "switzerland"))["job"]


async def test_three_organisations_take_a_job_from_its_submission_to_its_last_payment(ledger):
    uses = await ledger.data("whole")
    msps = [ledger.msp(member) for member in MEMBERS]
    before = [await ledger.balance(msp) for msp in msps]
    row = await ledger.mint(msps[0], 1000, "whole")
    request = {"id": "whole", "plan": plan(), "datasets": uses, "budget": "900", "inputs": [row]}
    job = await ledger.submit("cleveland", "scientist", "training:submit", request)
    decision = {"job": "whole", "digest": job["digest"], "privacy": "clear"}
    await asyncio.gather(*(ledger.submit(one, "steward", "training:approve", decision) for one in MEMBERS))
    await ledger.submit("hungary", "gateway", "training:start", {"job": "whole"})
    for number in (1, 2):
        place = {"job": "whole", "round": number}
        await asyncio.gather(
            *(
                ledger.submit(
                    one,
                    "gateway",
                    "training:update",
                    place | {"attempt": 1, "blob": blob(f"{one} {number}"), "samples": 90},
                )
                for one in MEMBERS
            )
        )
        # Every gateway closes and finalises: one changes the state, the others find it done.
        await asyncio.gather(*(ledger.submit(one, "gateway", "training:close", place) for one in MEMBERS))
        attest = place | {"attempt": 1, "outcome": outcome(f"model {number}"), "accept": True}
        await asyncio.gather(*(ledger.submit(one, "gateway", "training:attest", attest) for one in MEMBERS))
        finalise = place | {"outcome": digest(f"model {number}"), "attestations": sorted(msps)}
        await asyncio.gather(*(ledger.submit(one, "gateway", "training:finalise", finalise) for one in MEMBERS))
    shown = (await ledger.evaluate("training:show", {"job": "whole"}, "switzerland"))["job"]
    assert (shown["state"], shown["paid"], shown["escrow"]) == ("finished", "900", None)
    after = [await ledger.balance(msp) for msp in msps]
    assert [now - then for now, then in zip(after, before, strict=True)] == [400, 300, 300]


async def test_a_round_ends_without_a_member_that_died_and_the_deadline_is_the_ledgers(ledger):
    await start(ledger, "dead", budget=50, rounds=1, update_ms=3000, attest_ms=1)
    await update(ledger, "dead", "cleveland", "hungary")
    closed = await when_it_is_time(lambda: close(ledger, "dead"))
    assert closed["counted"] == [ledger.msp("cleveland"), ledger.msp("hungary")]
    with pytest.raises((refusals.DeadlinePassed, refusals.WrongState)):
        await update(ledger, "dead", "switzerland")


async def test_an_update_that_a_quorum_cannot_get_is_left_out_and_its_member_is_not_paid(ledger):
    await start(ledger, "withheld", budget=40, rounds=1)
    await update(ledger, "withheld", *MEMBERS)
    await close(ledger, "withheld")
    place = {"job": "withheld", "round": 1}
    missing = place | {"attempt": 1, "members": [ledger.msp("switzerland")]}
    honest = ("cleveland", "hungary")
    for member in honest:
        await ledger.submit(member, "gateway", "training:report_missing", missing)
    record = await ledger.submit("hungary", "gateway", "training:recount", place)
    assert (record["attempt"], record["withheld"]) == (2, [ledger.msp("switzerland")])
    await attest(ledger, "withheld", dict.fromkeys(honest, "truth"), attempt=2)
    await finalise(ledger, "withheld", "truth", *honest)
    view = await ledger.evaluate("training:round", place)
    paid = {one["msp"]: one["amount"] for one in view["round"]["payments"]}
    assert paid == {ledger.msp(member): "20" for member in honest}


async def test_a_disagreeing_majority_aborts_the_job_and_the_escrow_goes_back(ledger):
    before = await ledger.balance(ledger.msp("cleveland"))
    await start(ledger, "split", budget=60)
    await update(ledger, "split", *MEMBERS)
    await close(ledger, "split")
    await attest(ledger, "split", {member: f"{member}'s own" for member in MEMBERS})
    for member in MEMBERS:
        with pytest.raises(refusals.QuorumMissing):
            await finalise(ledger, "split", f"{member}'s own", member)
    await ledger.submit("switzerland", "gateway", "training:abort_round", {"job": "split", "round": 1})
    shown = await show(ledger, "split")
    assert (shown["state"], shown["paid"], shown["escrow"]) == ("aborted", "0", None)
    assert await ledger.balance(ledger.msp("cleveland")) == before + 60
    view = await ledger.evaluate("training:round", {"job": "split", "round": 1})
    assert len(view["round"]["attestations"]) == 3


async def test_a_liar_is_outvoted_and_on_record(ledger):
    await start(ledger, "liar", rounds=1)
    await update(ledger, "liar", *MEMBERS)
    await close(ledger, "liar")
    await attest(ledger, "liar", {"cleveland": "truth", "hungary": "lie", "switzerland": "truth"})
    await finalise(ledger, "liar", "truth", "cleveland", "switzerland")
    view = await ledger.evaluate("training:round", {"job": "liar", "round": 1})
    said = {one["msp"]: one["outcome"] for one in view["round"]["attestations"]}
    assert said[ledger.msp("hungary")] == digest("lie")
    assert view["round"]["outcome"]["digest"] == digest("truth")
    assert (await show(ledger, "liar"))["state"] == "finished"


async def test_a_revoked_grant_is_out_from_the_next_round_and_a_late_owner_in(ledger):
    made = await start(ledger, "change", owners=("cleveland", "hungary"), rounds=3)
    (late,) = await ledger.data("change-late", owners=("switzerland",))
    await ledger.submit("cleveland", "scientist", "training:add", {"job": "change", "dataset": late})
    decision = {"job": "change", "digest": made["digest"], "privacy": "clear"}
    await ledger.submit("switzerland", "steward", "training:approve", decision)
    await ledger.submit("hungary", "steward", "access:revoke", {"id": "change-hungary"})
    await update(ledger, "change", "cleveland", "hungary")
    with pytest.raises(refusals.NotInCohort):
        await update(ledger, "change", "switzerland")
    await close(ledger, "change")
    await attest(ledger, "change", {"cleveland": "one", "hungary": "one"})
    await finalise(ledger, "change", "one", "cleveland", "hungary")
    view = await ledger.evaluate("training:round", {"job": "change", "round": 2})
    cohort = [member["msp"] for member in view["round"]["cohort"]]
    assert cohort == [ledger.msp("cleveland"), ledger.msp("switzerland")]
    with pytest.raises(refusals.NotInCohort):
        await update(ledger, "change", "hungary", number=2)
    use = {"id": "change-hungary", "operation": "change.2"}
    with pytest.raises(refusals.WrongState):
        await ledger.submit("hungary", "gateway", "access:use", use)


async def test_roles_and_owners_are_checked_by_every_endorser(ledger):
    await ledger.data("roles")
    msp = ledger.msp("hungary")
    retire = {"id": f"{msp}/roles"}
    for endorser in MEMBERS:
        for role in ("scientist", "gateway", "operator", "auditor"):
            with pytest.raises(refusals.RoleRequired):
                await ledger.submit("hungary", role, "datasets:retire", retire, endorsers=(endorser,))
        with pytest.raises(refusals.NotOwner):
            await ledger.submit("cleveland", "steward", "datasets:retire", retire, endorsers=(endorser,))
    shown = await ledger.evaluate("datasets:show", {"id": f"{msp}/roles"})
    assert shown["state"] == "active"


@pytest.mark.parametrize(
    ("argument", "refusal"),
    [
        (b"\xff\xfe", refusals.Malformed),
        (b"{", refusals.Malformed),
        (b'{"name":"bad","terms":{},"terms":{}}', refusals.Malformed),
        (b'{"name":"bad\\u0000","terms":{}}', refusals.InvalidField),
        (b'{"name":"' + b"x" * 70_000 + b'"}', refusals.TooLarge),
        (b"[" * 5_000, refusals.TooLarge),
        (b'{"name":"bad","terms":1e999}', refusals.Malformed),
    ],
    ids=["not UTF-8", "no JSON", "name twice", "control character", "too long", "too deep", "infinite"],
)
async def test_bad_bytes_come_back_as_the_contracts_refusal(ledger, argument, refusal):
    with pytest.raises(refusal):
        await ledger.submit("cleveland", "steward", "datasets:register", argument)
