"""Answers that are longer than a message: lists go on after the last row that fits, reports have the latest rounds."""

import dataclasses
from types import SimpleNamespace

import pytest
from fedfabric.chaincode.records import AccessRequest, Job, Token
from fedfabric.gateway.limits import Limits
from fedfabric.gateway.services.access import Access
from fedfabric.gateway.services.datasets import Datasets
from fedfabric.gateway.services.jobs import Jobs, report
from fedfabric.gateway.services.paging import page
from fedfabric.gateway.services.tokens import Tokens
from fedfabric.gateway.v1 import access_pb2, datasets_pb2, jobs_pb2, records_pb2, tokens_pb2
from fedfabric.tests.unit.audit.ledger import JOB, MEMBERS, Run, RunSettings
from fedfabric.tests.unit.gateway.test_consent import Case

ROUNDS = 4


@pytest.fixture(scope="module")
async def parts(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("paging")
    run = Run(folder, RunSettings(rounds=ROUNDS))
    await run.run()
    other = {"id": "other", "plan": run.plan, "datasets": [run.use(MEMBERS[0])], "budget": "0"}
    await run.ledger.submit(MEMBERS[0], "scientist", "training:submit", other)
    case = Case(run, folder).follow()
    journal = SimpleNamespace(times=lambda *_: {}, failures=lambda *_: {})
    yield SimpleNamespace(model=case.model, limits=Limits(), journal=journal, me=MEMBERS[0])
    case.model.close()


def small(parts: SimpleNamespace, room: int) -> SimpleNamespace:
    """The same gateway with messages that have so much room for rows."""
    return SimpleNamespace(**{**vars(parts), "limits": dataclasses.replace(parts.limits, message_bytes=4096 + room)})


@pytest.mark.parametrize(
    ("service", "request_", "field"),
    [
        (Datasets, datasets_pb2.ListDatasetsRequest, "datasets"),
        (Access, access_pb2.ListAccessRequest, "requests"),
        (Jobs, jobs_pb2.ListJobsRequest, "jobs"),
    ],
)
async def test_a_list_goes_on_after_the_last_row_that_one_message_takes(parts, service, request_, field: str) -> None:
    whole = await service(parts).List(request_(), None)
    rows = list(getattr(whole, field))
    assert not whole.next
    one = small(parts, max(row.ByteSize() for row in rows) + 8)
    found, after = [], ""
    for _ in rows:
        answer = await service(one).List(request_(after=after), None)
        assert len(getattr(answer, field)) == 1
        found += getattr(answer, field)
        after = answer.next
    assert found == rows
    assert after == ""


def test_a_row_that_no_message_takes_is_passed_over(parts) -> None:
    found = parts.model.requests("", "", "", 10)[0]
    assert all(isinstance(one, AccessRequest) for one in found)
    rows, after = page(found, "", records_pb2.AccessRequest, small(parts, 10).limits)
    assert (rows, after) == ([], found[0].id)


def test_a_report_has_the_latest_rounds_that_one_message_takes(parts) -> None:
    job: Job = parts.model.job(JOB)
    whole = report(parts, job)
    assert [one.round.number for one in whole.rounds] == [1, 2, 3, 4]
    last = sum(one.ByteSize() + 8 for one in whole.rounds[2:])
    head = jobs_pb2.JobReport(job=whole.job, decisions=whole.decisions, block_number=whole.block_number).ByteSize()
    fits = report(small(parts, head + last), job)
    assert [one.round.number for one in fits.rounds] == [3, 4]
    assert fits.ByteSize() <= 4096 + head + last
    assert [one.round.number for one in report(small(parts, head + last - 1), job).rounds] == [4]


async def test_a_balance_has_its_whole_total_and_the_largest_rows_that_fit(parts) -> None:
    rows = [Token(owner="AMSP", tx=f"{n:064x}", n=0, amount=str(n)) for n in (5, 900, 30)]
    parts = small(parts, 2 * 100)
    parts.model = SimpleNamespace(tokens=lambda _: rows)
    answer = await Tokens(parts).ShowBalance(tokens_pb2.ShowBalanceRequest(owner="AMSP"), None)
    assert answer.total == "935"
    assert [row.amount for row in answer.tokens] == ["900", "30"]
