"""A job's whole life by direct calls of several organisations' clients, on a real network."""

import asyncio

from fedfabric.tests.network.chaincode.ledger import MEMBERS
from fedfabric.tests.unit.chaincode.world import blob, digest, outcome, plan


async def test_three_organisations_take_a_job_from_its_submission_to_its_last_payment(ledger):
    uses = await ledger.data("whole")
    msps = [ledger.msp(member) for member in MEMBERS]
    before = [await ledger.balance(msp) for msp in msps]
    row = await ledger.mint(msps[0], 1000, "whole")
    request = {"id": "whole", "plan": plan(), "datasets": uses, "budget": "900", "inputs": [row]}
    job = await ledger.submit("cleveland", "scientist", "training:submit", request)
    decision = {"job": "whole", "digest": job["digest"]}
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
        attest = place | {"outcome": outcome(f"model {number}"), "accept": True}
        await asyncio.gather(*(ledger.submit(one, "gateway", "training:attest", attest) for one in MEMBERS))
        finalise = place | {"outcome": digest(f"model {number}"), "attestations": sorted(msps)}
        await asyncio.gather(*(ledger.submit(one, "gateway", "training:finalise", finalise) for one in MEMBERS))
    shown = (await ledger.evaluate("training:show", {"job": "whole"}, "switzerland"))["job"]
    assert (shown["state"], shown["paid"], shown["escrow"]) == ("finished", "900", None)
    after = [await ledger.balance(msp) for msp in msps]
    assert [now - then for now, then in zip(after, before, strict=True)] == [400, 300, 300]
