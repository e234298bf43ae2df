"""What a real network wrote is verified offline, and what was changed in a copy of it is found."""

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from fabric_protos.gateway import gateway_pb2
from fabric_protos.peer import peer_pb2_grpc
from fedfabric.audit import AuditSettings, Check, verify_job
from fedfabric.chaincode.records import canonical_json
from fedfabric.fabric.blocks import block_file_name, read_blocks
from fedfabric.fabric.client import open_channel
from fedfabric.fabric.proposals import assemble, propose
from fedfabric.network.network import Network
from fedfabric.tests.network.audit.conftest import CHAINCODE, Evidence, NetworkLedger
from fedfabric.tests.network.chaincode.ledger import MEMBERS, Ledger
from fedfabric.tests.unit.audit.ledger import JOB, renamed

SETTINGS = AuditSettings(chaincode=CHAINCODE)


@pytest.fixture
def copy(evidence: Evidence, tmp_path: Path) -> Path:
    shutil.copytree(evidence.folder, tmp_path / "copy")
    return tmp_path / "copy"


def broken(report, check: Check) -> str:
    return "\n".join(f"{one.link}: {one.text}" for one in report.findings if one.check is check)


def test_a_real_jobs_evidence_is_verified(evidence: Evidence) -> None:
    report = verify_job(evidence.folder, None, evidence.genesis_hash, JOB, SETTINGS)
    assert report.findings == ()
    assert report.verified
    assert [one.state for one in report.rounds] == ["final", "final"]
    assert [one.dissent for one in report.rounds] == [("HungaryMSP",), ()]
    assert all(one.recomputed for one in report.rounds)
    assert set(report.certificate_authorities) >= {"ClevelandMSP", "HungaryMSP", "SwitzerlandMSP"}


def test_a_copied_folder_is_verified_where_there_is_no_network(evidence: Evidence, copy: Path) -> None:
    program = textwrap.dedent(
        """
        import json, socket, sys
        from pathlib import Path
        from fedfabric.audit import AuditSettings, verify_job

        folder, genesis_hash, job, chaincode = sys.argv[1:]
        interfaces = [name for _, name in socket.if_nameindex()]
        report = verify_job(Path(folder), None, genesis_hash, job, AuditSettings(chaincode=chaincode))
        print(json.dumps({"interfaces": interfaces, "verdict": report.verdict}))
        """
    )
    shut = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*shut, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make a network namespace")
    done = subprocess.run(
        [*shut, sys.executable, "-c", program, str(copy), evidence.genesis_hash, JOB, CHAINCODE],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["verdict"] == "verified"
    assert set(said["interfaces"]) <= {"lo"}


def test_a_changed_update_in_a_real_block_is_named(evidence: Evidence, copy: Path) -> None:
    digest = evidence.run.updates[0]["blob"]["digest"].encode()
    number = next(
        block.number
        for block in read_blocks(copy / "blocks")
        for transaction in block.transactions
        if transaction.action and any(digest in argument for argument in transaction.action.arguments)
    )
    path = copy / "blocks" / block_file_name(number)
    path.write_bytes(path.read_bytes().replace(digest, b"ab" * 32))
    report = verify_job(copy, None, evidence.genesis_hash, JOB, SETTINGS)
    assert f"block {number}: its transactions have the hash" in broken(report, Check.CHAIN)
    assert f"block {number}" in report.verdict
    assert "training:update job heart round 1 by ClevelandMSP" in broken(report, Check.CREATORS)


def test_a_changed_blob_is_named(evidence: Evidence, copy: Path) -> None:
    address = evidence.run.updates[-1]["blob"]["address"]
    path = copy / "blobs" / address
    data = bytearray(path.read_bytes())
    data[-1] ^= 0x80
    path.write_bytes(bytes(data))
    report = verify_job(copy, None, evidence.genesis_hash, JOB, SETTINGS)
    assert f"update of SwitzerlandMSP in round 2 of job {JOB}: blob {address}" in broken(report, Check.BLOBS)


async def test_what_any_client_may_submit_breaks_no_audit(
    bft_network: Network, evidence: Evidence, tmp_path: Path
) -> None:
    async with Ledger(bft_network, CHAINCODE) as ledger:
        # Look-ups, some of which read ranges, are declared for evaluation, and peers endorse them all the same.
        await ledger.submit("hungary", "auditor", "tokens:balance", {"owner": ledger.msp("cleveland")})
        await ledger.submit("hungary", "auditor", "training:list", {})
        await ledger.submit("hungary", "auditor", "training:show", {"job": JOB})
        # Peers run the chaincode that the header names, and don't look at the name beside the arguments.
        mint = {"id": "misnamed", "owner": ledger.msp("hungary"), "amount": "5"}
        await _submit_misnamed(ledger, "tokens:approve", mint)
        exported = NetworkLedger(ledger)
        exported.blobs = evidence.run.ledger.blobs
        await exported.export(tmp_path, "switzerland")
    submitted = {
        transaction.action.arguments[0]: transaction.action.access(CHAINCODE)
        for block in read_blocks(tmp_path / "blocks")
        for transaction in block.transactions
        if transaction.action and transaction.is_valid
    }
    assert submitted[b"tokens:balance"].range_queries
    assert submitted[b"training:list"].range_queries
    assert not submitted[b"training:show"].writes
    report = verify_job(tmp_path, None, evidence.genesis_hash, JOB, SETTINGS)
    assert report.findings == ()
    assert report.verified


async def _submit_misnamed(ledger: Ledger, function: str, request: object) -> None:
    """Submit as an operator whose call names another chaincode than the proposal's header."""
    network = ledger.network
    gateway = await ledger.gateway("hungary", "operator")
    person = await network.enrol("hungary", f"operator-{CHAINCODE}", role="operator")
    identity, sign = person.identity(), person.signer()
    arguments = (function.encode(), canonical_json(request))
    proposal = propose(identity, sign, CHAINCODE, arguments, channel_name=network.channel_name)
    proposal = renamed(proposal, "another", sign)
    responses = []
    for organisation in MEMBERS:
        described = network.organisations[organisation]
        async with open_channel(described.peer_endpoint, described.peer_tls_ca.read_bytes()) as channel:
            responses.append(await peer_pb2_grpc.EndorserStub(channel).ProcessProposal(proposal.signed))
    prepared = gateway_pb2.PreparedTransaction(
        transaction_id=proposal.transaction_id, envelope=assemble(proposal, responses, sign)
    )
    commit = await gateway.signed_transaction(prepared.SerializeToString()).submit()
    assert (await commit.status()).successful
    await ledger.settle(proposal.transaction_id)
