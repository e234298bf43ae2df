"""The API against what it speaks of: records, codes, methods. Whatever is added in one place is missed in none."""

import re
from pathlib import Path

import grpc
import pytest
from fedfabric.chaincode import records
from fedfabric.chaincode.records import REFUSALS, Record, Role, refusals
from fedfabric.fabric.client import CommitError, EndorseError, PeerDetail, SubmitError, ValidationCode
from fedfabric.gateway import authorisation
from fedfabric.gateway.authorisation import RULES, Whose, authorise
from fedfabric.gateway.client_session import api_error
from fedfabric.gateway.configuration import GatewayConfiguration, PeerSettings, Profile, TrainerSettings
from fedfabric.gateway.errors import OWN_CODES, STATUS, ApiError, DeniedError, from_client, from_refusal, to_status
from fedfabric.gateway.services import NAMES
from fedfabric.gateway.trust import Caller
from fedfabric.gateway.v1 import (
    access_pb2,
    audit_pb2,
    blobs_pb2,
    consortium_pb2,
    datasets_pb2,
    gateway_pb2,
    jobs_pb2,
    records_pb2,
    tokens_pb2,
    transactions_pb2,
)
from fedfabric.gateway.wire import to_message, to_record
from google.rpc import error_details_pb2

FILES = [
    access_pb2,
    audit_pb2,
    blobs_pb2,
    consortium_pb2,
    datasets_pb2,
    gateway_pb2,
    jobs_pb2,
    tokens_pb2,
    transactions_pb2,
]
MESSAGES = sorted(records_pb2.DESCRIPTOR.message_types_by_name)
BLOB = records.Blob(address="a" * 64, digest="b" * 64, size=3)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_has_the_fields_of_its_record(name: str) -> None:
    record = getattr(records, name)
    assert issubclass(record, Record)
    fields = [field.name for field in records_pb2.DESCRIPTOR.message_types_by_name[name].fields]
    assert sorted(fields) == sorted(set(record.model_fields) - {"v"})


def test_a_record_goes_over_the_wire_and_back() -> None:
    job = records.SubmitJob(
        id="job",
        title="Ärzte",
        plan=records.Plan(
            bundle=BLOB,
            model=BLOB,
            clip="1.0",
            rounds=3,
            approval_ms=1000,
            update_ms=1000,
            attest_ms=1000,
            optimizer=records.ServerOptimizer(name="adam", parameters={"beta1": "0.9", "tau": "1"}),
        ),
        datasets=(
            records.DatasetUse(dataset="AMSP/x", version=1),
            records.DatasetUse(dataset="BMSP/x", version=2, grant="grant"),
        ),
        budget="100",
        inputs=(records.TokenInput(tx="c" * 64, n=0),),
    )
    assert to_record(to_message(job, records_pb2.SubmitJob), records.SubmitJob) == job


def test_a_record_of_the_ledger_goes_over_the_wire_without_its_version_mark() -> None:
    update = records.Update(
        job="j", round=1, attempt=1, msp="AMSP", blob=BLOB, samples=1, metrics={"v": 1, "loss": -5, "time.training": 0}
    )
    owner = records.Owner(msp="AMSP", dataset="AMSP/x", version=1, digest="c" * 64, samples=1, grant=None)
    for record in (update, owner):
        assert to_record(to_message(record), type(record)) == record


def test_absent_is_not_zero_where_the_record_knows_the_difference() -> None:
    assert to_record(records_pb2.DatasetUse(dataset="AMSP/x", version=1), records.DatasetUse).grant is None
    update = records.CommitUpdate(job="j", round=1, attempt=1, blob=BLOB, samples=1)
    assert update.metrics == {}


@pytest.mark.parametrize(
    ("message", "record", "field"),
    [
        (records_pb2.RetireDataset(), records.RetireDataset, "id"),
        (records_pb2.RetireDataset(id="no slash"), records.RetireDataset, "id"),
        (records_pb2.MintRequest(id="m", owner="AMSP", amount="-1"), records.MintRequest, "amount"),
        (records_pb2.MintRequest(id="m", owner="AMSP", amount="0"), records.MintRequest, "amount"),
        (records_pb2.MintRequest(id="m", owner="AMSP", amount="9" * 31), records.MintRequest, "amount"),
        (records_pb2.GrantAccess(id="g", expires_ms=-1), records.GrantAccess, "expires_ms"),
        (records_pb2.GrantAccess(id="g", expires_ms=2**60), records.GrantAccess, ""),
        (records_pb2.RevokeAccess(id="g", reason="x" * 300), records.RevokeAccess, "reason"),
        (records_pb2.RevokeAccess(id="g", reason="a\u202eb"), records.RevokeAccess, "reason"),
    ],
)
def test_a_bad_request_is_refused_as_the_contract_would(message, record: type[Record], field: str) -> None:
    with pytest.raises((records.Refusal, ValueError)) as caught:
        to_record(message, record)
    assert isinstance(caught.value, records.Refusal)
    assert caught.value.field == field


def test_every_code_has_one_status() -> None:
    assert set(STATUS) == set(OWN_CODES) | set(REFUSALS)
    assert not set(OWN_CODES) & set(REFUSALS)


def test_every_code_that_the_gateway_uses_is_listed() -> None:
    used = set()
    folder = Path(authorisation.__file__).parent
    for path in [*folder.glob("*.py"), *(folder / "services").glob("*.py")]:
        used |= set(re.findall(r'code="([A-Z_]+)"', path.read_text()))
        used |= set(re.findall(r'default = "([A-Z_]+)"', path.read_text()))
    assert used <= set(STATUS)


def test_every_method_has_a_rule_and_every_rule_a_method() -> None:
    methods = {
        f"/{service.full_name}/{method.name}"
        for file in FILES
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert {method for method in RULES if method.startswith("/fedfabric.")} == methods
    assert {service.full_name for file in FILES for service in file.DESCRIPTOR.services_by_name.values()} == set(NAMES)


class _Identity:
    def __init__(self, msp_id: str) -> None:
        self.msp_id = msp_id


def _caller(msp_id: str, role: Role | None) -> Caller:
    return Caller(_Identity(msp_id), role)


@pytest.mark.parametrize("method", sorted(RULES))
def test_no_method_is_open_to_a_certificate_without_a_role(method: str) -> None:
    with pytest.raises(DeniedError):
        authorise(method, _caller("AMSP", None), "AMSP")


@pytest.mark.parametrize("method", sorted(RULES))
def test_other_organisations_people_reach_health_alone(method: str) -> None:
    rule = RULES[method]
    for role in Role:
        allowed = rule.whose is Whose.ANY or (rule.whose is Whose.OWN_OR_GATEWAYS and role is Role.GATEWAY)
        if allowed:
            authorise(method, _caller("BMSP", role), "AMSP")
        else:
            with pytest.raises(DeniedError) as caught:
                authorise(method, _caller("BMSP", role), "AMSP")
            assert caught.value.code == "OTHER_ORGANISATION"


def test_an_unknown_method_is_open_to_nobody() -> None:
    with pytest.raises(DeniedError):
        authorise("/fedfabric.gateway.v1.Datasets/Steal", _caller("AMSP", Role.OPERATOR), "AMSP")


def test_a_steward_does_not_submit_and_a_scientist_does_not_grant() -> None:
    for method, role in (
        ("Jobs/Submit", Role.STEWARD),
        ("Access/Grant", Role.SCIENTIST),
        ("Tokens/Mint", Role.AUDITOR),
    ):
        with pytest.raises(DeniedError, match="needs the role"):
            authorise(f"/fedfabric.gateway.v1.{method}", _caller("AMSP", role), "AMSP")


def _failed(error: ApiError) -> grpc.aio.AioRpcError:
    status = to_status(error)
    return grpc.aio.AioRpcError(
        error.status,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(("grpc-status-details-bin", status.SerializeToString())),
        error.text,
    )


def test_an_error_arrives_as_it_was_raised() -> None:
    sent = ApiError("too long", code="TOO_LARGE", field="terms.title", transaction_id="f" * 64)
    got = api_error(_failed(sent))
    assert (got.code, got.field, got.text, got.transaction_id) == (sent.code, sent.field, sent.text, "f" * 64)
    assert got.status is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("details", "told"),
    [
        ("last error: UNKNOWN: ipv4:127.0.0.1:9: connect: Connection refused (111)", "nothing listens"),
        ("DNS resolution failed for no.such.host:1: Domain name not found", "the host of the gateway's address"),
        ("SSL_ERROR_SSL: error:1000007d:SSL routines:CERTIFICATE_VERIFY_FAILED: no issuer", "trust_roots"),
        ("Hostname Verification Check failed.", "another host's certificate"),
        ("last error: UNAVAILABLE: ipv4:127.0.0.1:9: Socket closed", "certificate for nobody's"),
        ("something new", "can't be reached, or takes this certificate for nobody's: something new"),
    ],
)
def test_a_connection_that_fails_is_explained_without_the_words_of_grpc(details: str, told: str) -> None:
    found = api_error(
        grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), details)
    )
    assert found.code == "GATEWAY_UNAVAILABLE"
    assert told in found.text
    assert "SSL routines" not in found.text


def test_a_status_names_its_field_for_programs() -> None:
    status = to_status(ApiError("is required", code="MISSING_FIELD", field="id"))
    fields = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(fields)
    assert [violation.field for violation in fields.field_violations] == ["id"]


def test_a_contracts_refusal_keeps_its_code() -> None:
    refusal = refusals.GrantMissing("datasets.0.grant", "name its grant")
    error = EndorseError(
        "a" * 64,
        grpc.StatusCode.ABORTED,
        "failed to endorse",
        [PeerDetail("peer:7051", "AMSP", f"chaincode response 403, {refusal.message()}")],
    )
    got = from_client(error)
    assert (got.code, got.field, got.status) == ("GRANT_MISSING", "datasets.0.grant", grpc.StatusCode.PERMISSION_DENIED)


def test_unknown_and_failed_are_kept_apart() -> None:
    lost = from_client(SubmitError("a" * 64, grpc.StatusCode.UNAVAILABLE, "gone"))
    assert (lost.code, lost.transaction_id) == ("OUTCOME_UNKNOWN", "a" * 64)
    assert from_client(CommitError(ValidationCode.MVCC_READ_CONFLICT, "b" * 64)).code == "TRANSACTION_CONFLICT"
    assert from_client(CommitError(ValidationCode.BAD_PAYLOAD, "b" * 64)).code == "TRANSACTION_INVALID"
    away = from_client(EndorseError("a" * 64, grpc.StatusCode.UNAVAILABLE, "no peer"))
    assert away.code == "PEER_UNAVAILABLE"


def test_each_peers_words_are_in_the_error_once_and_bounded() -> None:
    said = [PeerDetail(f"peer{number}:7051", "AMSP", "access\x1b denied " + "x" * 600) for number in range(3)]
    said += [PeerDetail(f"peer{number}:7051", f"B{number}MSP", "no such channel") for number in range(9)]
    got = from_client(EndorseError("a" * 64, grpc.StatusCode.ABORTED, "see attached details", said))
    assert got.code == "ENDORSEMENT_FAILED"
    assert got.text.count("AMSP: access  denied xxx") == 1
    assert "; B0MSP: no such channel; B1MSP: no such channel" in got.text
    assert "B2MSP" not in got.text
    assert len(got.text) < 1100


def test_foreign_text_in_an_error_is_made_harmless() -> None:
    got = from_refusal(refusals.Malformed("a\x1b[31m", "evil\x00text\u202e" + "x" * 1000))
    assert got.field == "a?[31m"
    assert got.text.isascii()
    assert "\x00" not in got.text
    assert len(got.text) <= 500


def test_every_own_code_is_documented_with_its_status() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([A-Z_]+) \| ([A-Z_]+) \| [^|]{20,} \|$", page, re.MULTILINE))
    assert rows == {code: status.name for code, status in OWN_CODES.items()}


def test_the_client_calls_every_method() -> None:
    folder = Path(authorisation.__file__).parent
    text = "\n".join(path.read_text() for path in folder.glob("client*.py"))
    for file in FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                called = re.search(rf'tub\.{method.name}\b|"{method.name}"', text)
                assert called, f"{service.name}.{method.name} has no call in the client"


def test_every_setting_is_described() -> None:
    for model in (GatewayConfiguration, PeerSettings, TrainerSettings, Profile):
        assert [name for name, field in model.model_fields.items() if not field.description] in (
            [],
            ["peer", "trainer"],
        )
