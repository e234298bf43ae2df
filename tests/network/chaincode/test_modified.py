"""Modified chaincode at one organisation changes nothing."""

import time
from pathlib import Path

import pytest
from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2
from fabric_protos.peer import proposal_pb2
from fedfabric.chaincode.records import canonical_json, read_refusal, refusals
from fedfabric.fabric.client import CommitError, EndorseError, GatewayError
from fedfabric.network.specification import ChaincodeSpec
from fedfabric.tests.network.chaincode.ledger import MEMBERS, NO_RETRIES, Ledger
from fedfabric.tests.unit.chaincode.world import blob, change, digest, outcome, plan, terms

MODIFIED = Path(__file__).parents[1] / "chaincodes" / "modified.py"
HOSTILE = "hungary"


async def test_an_organisation_with_modified_chaincode_neither_founds_nor_mints_nor_steals_nor_lies(bft_network):
    await bft_network.deploy(ChaincodeSpec(name="modified", command=("python", str(MODIFIED))))
    async with Ledger(bft_network, "modified") as ledger:
        ledger.endorsers = ("cleveland", "switzerland")
        hostile, victim = ledger.msp(HOSTILE), ledger.msp("cleveland")

        # It founds a consortium of its own: its peer says yes, and no other does.
        await _changes_nothing(ledger, "consortium:approve", change(hostile))
        assert (await ledger.evaluate("consortium:show", {}))["consortium"] is None
        await ledger.found()

        # It mints for itself, spends what others have, and registers data in a role that may not.
        row = await ledger.mint(victim, 100, "honest")
        theft = {"owner": victim, "inputs": [row], "outputs": [{"owner": hostile, "amount": "1000000"}]}
        mint = {"id": "alone", "owner": hostile, "amount": "1000000"}
        await ledger.submit(HOSTILE, "operator", "tokens:approve", mint)
        await _changes_nothing(ledger, "tokens:mint", mint)
        await _changes_nothing(ledger, "tokens:transfer", theft)
        await _changes_nothing(ledger, "datasets:register", {"name": "mine", "terms": terms()})
        assert [await ledger.balance(msp) for msp in (hostile, victim)] == [0, 100]

        # It takes the consortium over.
        await ledger.submit(HOSTILE, "operator", "consortium:approve", change(hostile, sequence=2))
        await _changes_nothing(ledger, "consortium:apply", change(hostile, sequence=2))

        # It makes its lie the global model, and its payment.
        job = {"id": "lie", "plan": plan(), "datasets": await ledger.data("lie"), "budget": "100", "inputs": [row]}
        made = await ledger.submit("cleveland", "scientist", "training:submit", job)
        for member in MEMBERS:
            await ledger.submit(
                member, "steward", "training:approve", {"job": "lie", "digest": made["digest"], "privacy": "clear"}
            )
        await ledger.submit("cleveland", "gateway", "training:start", {"job": "lie"})
        place = {"job": "lie", "round": 1}
        for member in MEMBERS:
            update = place | {"attempt": 1, "blob": blob(member), "samples": 1}
            await ledger.submit(member, "gateway", "training:update", update)
        await ledger.submit("cleveland", "gateway", "training:close", place)
        await ledger.submit(
            HOSTILE, "gateway", "training:attest", place | {"attempt": 1, "outcome": outcome("its lie"), "accept": True}
        )
        lie = place | {"outcome": digest("its lie"), "attestations": [hostile]}
        await _changes_nothing(ledger, "training:finalise", lie)
        shown = (await ledger.evaluate("training:show", {"job": "lie"}))["job"]
        assert (shown["round"], shown["paid"], shown["model"]["digest"]) == (1, "0", digest("initial model"))
        members = (await ledger.evaluate("consortium:show", {}))["consortium"]["members"]
        assert [member["msp"] for member in members] == sorted(ledger.msp(member) for member in MEMBERS)


async def _changes_nothing(ledger, function, request):
    """Its own endorsement alone is void in its block, and no other organisation's joins it."""
    with pytest.raises(CommitError) as void:
        await ledger.submit(HOSTILE, "operator", function, request, endorsers=(HOSTILE,), retries=NO_RETRIES)
    assert void.value.code.name == "ENDORSEMENT_POLICY_FAILURE"
    for partner in ("cleveland", "switzerland"):
        with pytest.raises((EndorseError, refusals.Refusal)):
            await ledger.submit(
                HOSTILE, "operator", function, request, endorsers=(HOSTILE, partner), retries=NO_RETRIES
            )


async def test_a_timestamp_outside_w_is_refused_by_the_contract_where_the_peer_is_more_patient(bft_network):
    # Peers of this network take timestamps within 1 s; this consortium chooses 100 ms.
    await bft_network.deploy(ChaincodeSpec(name="punctual"))
    async with Ledger(bft_network, "punctual") as ledger:
        founding = change(*(ledger.msp(member) for member in MEMBERS), window_ms=100)
        for member in MEMBERS:
            await ledger.submit(member, "operator", "consortium:approve", founding)
        await ledger.submit("cleveland", "operator", "consortium:apply", founding)
        with pytest.raises(GatewayError) as refused:
            await _evaluate_at(ledger, time.time_ns() + 900_000_000)
        refusal = read_refusal(refused.value.refusal.message)
        assert isinstance(refusal, refusals.TimeWindow)


async def test_a_timestamp_outside_the_peers_window_does_not_reach_the_contract(ledger):
    with pytest.raises(GatewayError, match="timestamp"):
        await _evaluate_at(ledger, time.time_ns() - 60_000_000_000)


async def _evaluate_at(ledger, nanoseconds):
    """Evaluate with a proposal that says another time, signed by its owner."""
    gateway = await ledger.gateway("cleveland", "auditor")
    contract = await ledger.contract("cleveland", "auditor")
    proposed = gateway_pb2.ProposedTransaction.FromString(contract.propose("consortium:show", canonical_json({})).bytes)
    proposal = proposal_pb2.Proposal.FromString(proposed.proposal.proposal_bytes)
    header = common_pb2.Header.FromString(proposal.header)
    channel = common_pb2.ChannelHeader.FromString(header.channel_header)
    channel.timestamp.seconds, channel.timestamp.nanos = divmod(nanoseconds, 1_000_000_000)
    header.channel_header = channel.SerializeToString()
    proposal.header = header.SerializeToString()
    proposed.proposal.proposal_bytes = proposal.SerializeToString()
    proposed.proposal.signature = b""
    return await gateway.signed_proposal(proposed.SerializeToString()).evaluate()
