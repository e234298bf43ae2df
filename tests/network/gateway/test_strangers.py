"""Who has no business here gets nothing: no grant, another organisation, an unknown certificate, another's name."""

import asyncio
import datetime
from collections import Counter
from pathlib import Path

import grpc
import pytest
from fedfabric.chaincode.records import DatasetUse, RetireDataset, SubmitJob
from fedfabric.fabric.client import connect as connect_fabric
from fedfabric.gateway import ApiError, connect
from fedfabric.gateway.client_session import Session, api_error
from fedfabric.gateway.limits import Limits
from fedfabric.gateway.services import NAMES
from fedfabric.gateway.v1 import (
    blobs_pb2,
    blobs_pb2_grpc,
    datasets_pb2_grpc,
    gateway_pb2,
    gateway_pb2_grpc,
    transactions_pb2,
    transactions_pb2_grpc,
)
from fedfabric.gateway.wire import to_message
from fedfabric.network.identities import Authorities
from fedfabric.tests.network.gateway.chain import transactions
from fedfabric.tests.network.gateway.house import ORGANISATIONS, House
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc


async def refusal(call) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await call
    return caught.value


@pytest.fixture
async def foreign(house: House):
    """A session of Hungary's scientist at Cleveland's gateway."""
    profile = (await house.profile("hungary", "scientist")).model_copy(
        update={
            "gateway": house.network.organisations["cleveland"].gateway_endpoint,
            "trust_roots": house.network.organisations["cleveland"].peer_tls_ca,
        }
    )
    session = Session(profile, timeout=30, limits=Limits())
    yield session
    await session.close()


async def test_a_job_on_data_without_a_grant_is_refused(house: House) -> None:
    dataset = await house.register("cleveland", "ungranted")
    await house.at_block("hungary", (await (await house.client("cleveland", "auditor")).describe()).block_number)
    error = await refusal(house.submit("ungranted", (DatasetUse(dataset=dataset, version=1),), submitter="hungary"))
    assert (error.code, error.field) == ("GRANT_MISSING", "datasets.0.grant")
    error = await refusal(
        house.submit("ungranted", (DatasetUse(dataset=dataset, version=1, grant="nobody"),), submitter="hungary")
    )
    assert error.code == "UNKNOWN_REQUEST"


async def test_an_organisation_outside_a_job_fetches_nothing_of_it(house: House) -> None:
    datasets = await house.data_of("closed", "cleveland", "switzerland")
    job = await house.submit("closed", datasets, rounds=1)
    await house.approve(job, "cleveland", "switzerland")
    report = await house.ended("cleveland", "closed")
    (only,) = report.rounds
    # Plan and initial model are the same bytes in jobs that Hungary is in; what was trained here is this job's alone.
    wanted = [report.job.model, *(row.blob for row in only.updates)]
    gateway = await house.network.enrol("hungary", "gateway", role="gateway", hosts=("127.0.0.1", "localhost"))
    for organisation in ("cleveland", "switzerland"):
        described = house.network.organisations[organisation]
        credentials = grpc.ssl_channel_credentials(
            described.peer_tls_ca.read_bytes(), gateway.key_path.read_bytes(), gateway.certificate_path.read_bytes()
        )
        async with grpc.aio.secure_channel(described.gateway_endpoint, credentials) as channel:
            stub = blobs_pb2_grpc.BlobsStub(channel)
            for address in [*(blob.address for blob in wanted), "0" * 64]:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    async for _ in stub.Fetch(blobs_pb2.FetchRequest(address=address)):
                        pass
                assert api_error(caught.value).code == "NOT_A_PARTICIPANT"
    scientist = await house.client("hungary", "scientist")
    await house.show("hungary", "closed")
    error = await refusal(scientist.models.fetch("closed", house.folder / "stolen"))
    assert error.code == "NOT_A_PARTICIPANT"
    assert not (house.folder / "stolen").exists()
    auditor = await house.client("hungary", "auditor")
    async with asyncio.timeout(20):
        error = await refusal(auditor.audit.export("closed", house.folder / "evidence"))
    assert error.code == "NOT_A_PARTICIPANT"


async def test_who_names_others_blobs_in_a_job_of_its_own_gets_none_of_them(house: House) -> None:
    datasets = await house.data_of("robbed", "cleveland", "switzerland")
    job = await house.submit("robbed", datasets, rounds=1)
    await house.approve(job, "cleveland", "switzerland")
    report = await house.ended("cleveland", "robbed")
    (only,) = report.rounds
    wanted = [report.job.model, *(row.blob for row in only.updates)]
    # All that the ledger shows, named as the initial models of jobs of its own, which nobody has to approve; its own
    # gateway would not have that, so it goes to its peer.
    own = DatasetUse(dataset=await house.register("hungary", "thief"), version=1)
    await house.show("hungary", "robbed")
    async with house.contract("hungary", "training", user="scientist") as contract:
        for number, blob in enumerate(wanted):
            plan = job.terms.plan.model_copy(update={"model": blob})
            await contract.submit(
                "submit", SubmitJob(id=f"thief-{number}", plan=plan, datasets=(own,), budget="0").canonical()
            )
    last = f"thief-{len(wanted) - 1}"
    gateway = await house.network.enrol("hungary", "gateway", role="gateway", hosts=("127.0.0.1", "localhost"))
    for organisation in ("cleveland", "switzerland"):
        await house.show(organisation, last)
        described = house.network.organisations[organisation]
        credentials = grpc.ssl_channel_credentials(
            described.peer_tls_ca.read_bytes(), gateway.key_path.read_bytes(), gateway.certificate_path.read_bytes()
        )
        async with grpc.aio.secure_channel(described.gateway_endpoint, credentials) as channel:
            stub = blobs_pb2_grpc.BlobsStub(channel)
            for blob in wanted:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    async for _ in stub.Fetch(blobs_pb2.FetchRequest(address=blob.address)):
                        pass
                assert api_error(caught.value).code == "NOT_A_PARTICIPANT"
    # Who is entitled still gets them.
    scientist = await house.client("cleveland", "scientist")
    assert await scientist.blobs.fetch(report.job.model, house.folder / "robbed-model")


async def test_data_sets_are_served_to_nobody_at_all(house: House) -> None:
    dataset = await house.register("cleveland", "kept")
    own = await house.client("cleveland", "scientist")
    blob = (await own.datasets.show(dataset)).terms.blob
    for client in (own, await house.client("cleveland", "steward")):
        error = await refusal(client.blobs.fetch(blob, house.folder / "kept"))
        assert error.code in {"NOT_A_PARTICIPANT", "BLOB_BROKEN"}


async def test_other_organisations_people_are_sent_to_their_own_gateway(foreign: Session) -> None:
    stub = gateway_pb2_grpc.GatewayStub(foreign.channel)
    error = await refusal(foreign.call(stub.Describe, gateway_pb2.DescribeRequest()))
    assert (error.code, error.status) == ("OTHER_ORGANISATION", grpc.StatusCode.PERMISSION_DENIED)


async def test_a_certificate_of_an_unknown_authority_does_not_get_a_connection(house: House, tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    authorities = Authorities.create("cleveland", now)
    member = authorities.signing.issue("eve", now, kind="client", attributes={"fedfabric.role": "steward"})
    (tmp_path / "certificate.pem").write_bytes(member.certificate)
    (tmp_path / "key.pem").write_bytes(member.key)
    profile = (await house.profile("cleveland", "steward")).model_copy(
        update={"certificate": tmp_path / "certificate.pem", "key": tmp_path / "key.pem"}
    )
    async with connect(profile, timeout=10) as client:
        assert (await refusal(client.describe())).code == "GATEWAY_UNAVAILABLE"


async def test_without_a_certificate_there_is_no_connection(house: House) -> None:
    described = house.network.organisations["cleveland"]
    credentials = grpc.ssl_channel_credentials(described.peer_tls_ca.read_bytes())
    async with grpc.aio.secure_channel(described.gateway_endpoint, credentials) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await gateway_pb2_grpc.GatewayStub(channel).Describe(gateway_pb2.DescribeRequest(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_without_the_role_is_told_which_it_needs(house: House) -> None:
    scientist = await house.client("cleveland", "scientist")
    error = await refusal(scientist.datasets.retire("ClevelandMSP/whatever"))
    assert error.code == "CALLER_ROLE_REQUIRED"
    assert "steward" in error.text


async def test_nobody_has_a_proposal_endorsed_in_anothers_name(house: House) -> None:
    session = Session(await house.profile("cleveland", "scientist"), timeout=30, limits=Limits())
    steward = await house.network.enrol("cleveland", "steward", role="steward")
    try:
        network = connect_fabric(session.channel, steward.identity(), steward.signer()).network(
            house.network.channel_name
        )
        proposal = network.contract(house.chaincode, "datasets").propose(
            "retire", RetireDataset(id="ClevelandMSP/whatever").canonical()
        )
        stub = transactions_pb2_grpc.TransactionsStub(session.channel)
        request = transactions_pb2.EndorseRequest(
            proposed_transaction=proposal.bytes, signature=steward.signer()(proposal.message)
        )
        assert (await refusal(session.call(stub.Endorse, request))).code == "NOT_THE_CREATOR"
    finally:
        await session.close()


@pytest.mark.parametrize("size", [0, 100, 100_000])
async def test_bytes_that_are_no_proposal_are_refused(house: House, size: int) -> None:
    session = Session(await house.profile("cleveland", "scientist"), timeout=30, limits=Limits())
    try:
        stub = transactions_pb2_grpc.TransactionsStub(session.channel)
        request = transactions_pb2.EndorseRequest(proposed_transaction=bytes(size), signature=bytes(70))
        assert (await refusal(session.call(stub.Endorse, request))).code == "MALFORMED_TRANSACTION"
        again = transactions_pb2.SubmitRequest(prepared_transaction=b"\xff" * size, signature=bytes(70))
        assert (await refusal(session.call(stub.Submit, again))).code == "MALFORMED_TRANSACTION"
    finally:
        await session.close()


async def test_an_envelope_that_is_submitted_again_commits_once(house: House) -> None:
    dataset = await house.register("cleveland", "replayed")
    steward = await house.network.enrol("cleveland", "steward", role="steward")
    session = Session(await house.profile("cleveland", "steward"), timeout=30, limits=Limits())
    try:
        signer = steward.signer()
        retire = RetireDataset(id=dataset)
        prepare = datasets_pb2_grpc.DatasetsStub(session.channel)
        prepared = await session.call(prepare.Retire, to_message(retire))
        stub = transactions_pb2_grpc.TransactionsStub(session.channel)
        endorsed = await session.call(
            stub.Endorse,
            transactions_pb2.EndorseRequest(
                proposed_transaction=prepared.proposed_transaction, signature=signer(prepared.proposal)
            ),
        )
        request = transactions_pb2.SubmitRequest(
            prepared_transaction=endorsed.prepared_transaction, signature=signer(endorsed.payload)
        )
        first = await session.call(stub.Submit, request)
        again = await asyncio.gather(*(session.call(stub.Submit, request) for _ in range(3)))
        assert {one.transaction_id for one in again} == {first.transaction_id}
    finally:
        await session.close()
    sent = [one for one in await transactions(house, "cleveland", dataset) if one.function == "datasets:retire"]
    assert Counter(one.code for one in sent)["VALID"] == 1
    assert {one.code for one in sent} <= {"VALID", "DUPLICATE_TXID"}


async def test_a_replayed_proposal_is_refused(house: House) -> None:
    dataset = await house.register("cleveland", "proposed-again")
    steward = await house.network.enrol("cleveland", "steward", role="steward")
    session = Session(await house.profile("cleveland", "steward"), timeout=30, limits=Limits())
    try:
        signer = steward.signer()
        prepare = datasets_pb2_grpc.DatasetsStub(session.channel)
        prepared = await session.call(prepare.Retire, to_message(RetireDataset(id=dataset)))
        stub = transactions_pb2_grpc.TransactionsStub(session.channel)
        request = transactions_pb2.EndorseRequest(
            proposed_transaction=prepared.proposed_transaction, signature=signer(prepared.proposal)
        )
        endorsed = await session.call(stub.Endorse, request)
        await session.call(
            stub.Submit,
            transactions_pb2.SubmitRequest(
                prepared_transaction=endorsed.prepared_transaction, signature=signer(endorsed.payload)
            ),
        )
        assert (await refusal(session.call(stub.Endorse, request))).code in {"ENDORSEMENT_FAILED", "PEER_UNAVAILABLE"}
    finally:
        await session.close()


async def test_a_gateway_shows_itself_and_its_caller(house: House) -> None:
    for organisation in ORGANISATIONS:
        found = await (await house.client(organisation, "auditor")).describe()
        assert (found.msp_id, found.caller_role) == (house.msp(organisation), "auditor")
        assert found.caller_account == f"{house.msp(organisation)}/auditor"
        assert len(found.genesis_hash) == 64


async def test_health_is_told_to_every_organisation_and_the_methods_to_the_own(house: House, foreign: Session) -> None:
    check = health_pb2_grpc.HealthStub(foreign.channel).Check
    for service in ("", *NAMES):
        answer = await check(health_pb2.HealthCheckRequest(service=service), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    everything = reflection_pb2.ServerReflectionRequest(list_services="")
    with pytest.raises(grpc.aio.AioRpcError):
        await anext(aiter(_reflected(foreign, everything)))
    own = Session(await house.profile("cleveland", "auditor"), timeout=30, limits=Limits())
    try:
        answer = await anext(aiter(_reflected(own, everything)))
    finally:
        await own.close()
    found = {service.name for service in answer.list_services_response.service}
    assert found == {*NAMES, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


def _reflected(session: Session, request: reflection_pb2.ServerReflectionRequest):
    return reflection_pb2_grpc.ServerReflectionStub(session.channel).ServerReflectionInfo(iter([request]), timeout=10)
