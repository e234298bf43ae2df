"""What blocks do to transactions that were endorsed side by side, on a real network."""

import asyncio

from fedfabric.chaincode.records import canonical_json
from fedfabric.tests.network.chaincode.ledger import MEMBERS
from fedfabric.tests.network.chaincode.test_job import attest, close, finalise, start, update
from fedfabric.tests.unit.chaincode.world import blob, outcome


async def endorse(ledger, organisation, role, function, request):
    """An endorsed and signed transaction that nobody has submitted yet."""
    contract = await ledger.contract(organisation, role)
    transaction = await contract.propose(function, canonical_json(request)).endorse()
    transaction.sign()
    return transaction


async def order(ledger, *transactions):
    """Submit all at once; their validation codes, when every peer has them."""
    commits = await asyncio.gather(*(transaction.submit() for transaction in transactions))
    codes = [(await commit.status()).code.name for commit in commits]
    for transaction in transactions:
        await ledger.settle(transaction.transaction_id)
    return codes


async def test_all_organisations_write_side_by_side_without_conflicts(ledger):
    await start(ledger, "side", rounds=1)
    place = {"job": "side", "round": 1}
    request = place | {"attempt": 1, "blob": blob("u"), "samples": 1}
    updates = [await endorse(ledger, member, "gateway", "training:update", request) for member in MEMBERS]
    assert await order(ledger, *updates) == ["VALID"] * 3
    await close(ledger, "side")
    request = place | {"attempt": 1, "outcome": outcome("all"), "accept": True}
    attestations = [await endorse(ledger, member, "gateway", "training:attest", request) for member in MEMBERS]
    assert await order(ledger, *attestations) == ["VALID"] * 3
    await finalise(ledger, "side", "all", *MEMBERS)


async def test_a_double_spend_commits_once(ledger):
    msp = ledger.msp("cleveland")
    row = await ledger.mint(msp, 10, "double")
    spends = [
        await endorse(
            ledger,
            "cleveland",
            "operator",
            "tokens:transfer",
            {"owner": msp, "inputs": [row], "outputs": [{"owner": ledger.msp(to), "amount": "10"}]},
        )
        for to in ("hungary", "switzerland")
    ]
    assert sorted(await order(ledger, *spends)) == ["MVCC_READ_CONFLICT", "VALID"]


async def test_a_replayed_envelope_pays_once(ledger):
    msp, to = ledger.msp("cleveland"), ledger.msp("hungary")
    row = await ledger.mint(msp, 10, "replay")
    before = await ledger.balance(to)
    request = {"owner": msp, "inputs": [row], "outputs": [{"owner": to, "amount": "10"}]}
    transaction = await endorse(ledger, "cleveland", "operator", "tokens:transfer", request)
    assert await order(ledger, transaction) == ["VALID"]
    await transaction.submit()
    # A later block proves that the repetition has been through validation.
    await ledger.mint(msp, 1, "replay-after")
    assert await ledger.balance(to) == before + 10


async def test_an_attestation_endorsed_before_the_round_ended_is_void_after_it(ledger):
    await start(ledger, "hoard", rounds=2, update_ms=60_000)
    await update(ledger, "hoard", *MEMBERS)
    await close(ledger, "hoard")
    request = {"job": "hoard", "round": 1, "attempt": 1, "outcome": outcome("hoarded"), "accept": True}
    hoarded = await endorse(ledger, "hungary", "gateway", "training:attest", request)
    await attest(ledger, "hoard", dict.fromkeys(MEMBERS, "truth"))
    await finalise(ledger, "hoard", "truth", *MEMBERS)
    assert await order(ledger, hoarded) == ["MVCC_READ_CONFLICT"]
