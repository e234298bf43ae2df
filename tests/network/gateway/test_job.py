"""A job across three organisations, from registration to the fetched model."""

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest
from fedfabric.aggregation import MemoryTensors, manifest_of, write_tensors
from fedfabric.audit import AuditSettings, verify_job
from fedfabric.gateway import ApiError, connect
from fedfabric.tests.network.gateway.house import ORGANISATIONS, House, output


async def test_three_organisations_train_a_model_together(house: House, tmp_path: Path) -> None:
    datasets = await house.data_of("whole", *ORGANISATIONS)
    job = await house.submit("whole", datasets, rounds=3)
    await house.approve(job)
    report = await house.ended("hungary", "whole")
    assert report.job.state.value == "finished", report.job.reason
    assert [one.round.state.value for one in report.rounds] == ["final"] * 3
    for one in report.rounds:
        assert len(one.attestations) == 3
        assert {row.outcome for row in one.attestations} == {one.round.outcome}
    first, last = report.rounds[0].metrics["loss"], report.rounds[-1].metrics["loss"]
    assert last < first
    scientist = await house.client("cleveland", "scientist")
    await house.at_block("cleveland", report.block_number)
    blob = await scientist.models.fetch("whole", tmp_path / "model.safetensors")
    assert blob == report.job.model


async def test_a_blocking_client_does_the_same(house: House) -> None:
    profile = await house.profile("cleveland", "auditor")

    def blocking() -> tuple[str, int, int]:
        with connect(profile) as client:
            reports = list(client.jobs.watch("blocking"))
            return client.describe().result().caller_role, len(client.datasets.list().result()), len(reports)

    job = await house.submit("blocking", await house.data_of("blocking", *ORGANISATIONS), rounds=1)
    task = asyncio.create_task(asyncio.to_thread(blocking))
    await house.approve(job)
    role, datasets, reports = await task
    assert role == "auditor"
    assert datasets >= 3
    assert reports >= 3


async def test_an_export_is_verified_offline(house: House, tmp_path: Path) -> None:
    job = await house.submit("evidence", await house.data_of("evidence", *ORGANISATIONS), rounds=2)
    await house.approve(job)
    report = await house.ended("switzerland", "evidence")
    auditor = await house.client("switzerland", "auditor")
    exported = await auditor.audit.export("evidence", tmp_path / "evidence")
    assert exported.blocks == report.block_number + 1
    assert exported.genesis_hash == (await auditor.describe()).genesis_hash
    verdict = await asyncio.to_thread(
        verify_job,
        tmp_path / "evidence",
        None,
        exported.genesis_hash,
        "evidence",
        AuditSettings(chaincode=house.chaincode),
    )
    assert verdict.findings == ()
    assert verdict.verdict == "verified"
    with pytest.raises(FileExistsError):
        await auditor.audit.export("evidence", tmp_path / "evidence")


async def test_a_large_model_is_fetched_in_segments_with_progress(house: House, tmp_path: Path) -> None:
    tensors = MemoryTensors({"weight": np.arange(700_000, dtype=np.float32)})
    write_tensors(tmp_path / "large.safetensors", tensors)
    scientist = await house.client("cleveland", "scientist")
    sent: list[tuple[int, int]] = []
    blob = await scientist.blobs.upload_model(
        tmp_path / "large.safetensors", progress=lambda done, all_: sent.append((done, all_))
    )
    assert blob.digest == manifest_of(tensors).digest
    assert sent[-1] == (blob.size, blob.size)
    got: list[tuple[int, int]] = []
    await scientist.blobs.fetch(
        blob, tmp_path / "back.safetensors", progress=lambda done, all_: got.append((done, all_))
    )
    assert [done for done, _ in got] == [1 << 20, 2 << 20, blob.size]
    assert (tmp_path / "back.safetensors").read_bytes() == (tmp_path / "large.safetensors").read_bytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -1.1e18])
async def test_a_model_that_nobody_can_train_from_is_not_kept(house: House, tmp_path: Path, value: float) -> None:
    tensors = MemoryTensors({"weight": np.array([0, value, 1], dtype=np.float32)})
    write_tensors(tmp_path / "model.safetensors", tensors)
    scientist = await house.client("cleveland", "scientist")
    with pytest.raises(ApiError) as caught:
        await scientist.blobs.upload_model(tmp_path / "model.safetensors")
    assert caught.value.code == "MODEL_INVALID"


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"PK\x03\x04", "MODEL_INVALID"), (b"\xff" * 100, "MODEL_INVALID"), (bytes(8), "MODEL_INVALID")],
)
async def test_what_is_no_model_is_not_kept(house: House, content: bytes, code: str) -> None:
    scientist = await house.client("cleveland", "scientist")
    with pytest.raises(ApiError) as caught:
        await scientist.blobs.upload_model(content)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"samples": 0}, "OUT_OF_RANGE", "terms.samples"),
        ({"samples": 2**53}, "OUT_OF_RANGE", ""),
        ({"title": "a\x00b"}, "INVALID_FIELD", "terms.title"),
        ({"title": "x" * 201}, "TOO_LARGE", "terms.title"),
        ({"price": "-1"}, "INVALID_FIELD", "terms.price"),
        ({"purposes": ()}, "INVALID_FIELD", "terms.purposes"),
        ({"purposes": tuple(f"p{at}" for at in range(40))}, "TOO_LARGE", "terms.purposes"),
        ({"jurisdiction": "Utopia"}, "INVALID_FIELD", "terms.jurisdiction"),
    ],
)
async def test_bad_terms_are_refused_before_a_byte_is_sent(
    house: House, tmp_path: Path, changes: dict, code: str, field: str
) -> None:
    steward = await house.client("cleveland", "steward")
    folder = house.write_examples(tmp_path / "data", 0)
    terms = {"title": "t", "samples": 10, "licence": "CC0-1.0", "jurisdiction": "CH", **changes}
    sent: list[int] = []
    with pytest.raises(ApiError) as caught:
        await steward.datasets.register("bad", folder, progress=lambda done, _: sent.append(done), **terms)
    assert (caught.value.code, caught.value.field) == (code, field)
    assert sent == []


async def test_what_does_not_exist_is_said_so(house: House) -> None:
    auditor = await house.client("cleveland", "auditor")
    for call, code in (
        (auditor.jobs.show("nobody"), "UNKNOWN_JOB"),
        (auditor.datasets.show("ClevelandMSP/nothing"), "UNKNOWN_DATASET"),
        (auditor.datasets.show("../../etc/passwd"), "UNKNOWN_DATASET"),
        (auditor.access.show("nothing"), "UNKNOWN_REQUEST"),
    ):
        with pytest.raises(ApiError) as caught:
            await call
        assert caught.value.code == code


async def test_a_transfer_pays_and_gives_the_change_back(house: House) -> None:
    operator = await house.client("hungary", "operator")
    await house.mint("change", house.msp("hungary"), 100)
    await house.at_block("hungary", (await (await house.client("cleveland", "auditor")).describe()).block_number)
    mine = int((await operator.tokens.balance()).total)
    theirs = int((await operator.tokens.balance(house.msp("switzerland"))).total)
    await operator.tokens.transfer(house.msp("hungary"), [output(house.msp("switzerland"), 30)])
    assert int((await operator.tokens.balance()).total) == mine - 30
    assert int((await operator.tokens.balance(house.msp("switzerland"))).total) == theirs + 30
    with pytest.raises(ApiError) as caught:
        await operator.tokens.transfer(house.msp("hungary"), [output(house.msp("switzerland"), mine)])
    assert caught.value.code == "FUNDS_MISSING"


async def test_watching_goes_on_when_the_gateway_is_back_and_does_not_hold_its_stop_up(house: House) -> None:
    job = await house.submit("watched", await house.data_of("watched", *ORGANISATIONS), rounds=1)
    auditor = await house.client("hungary", "auditor")
    await house.show("hungary", "watched")
    reports = aiter(auditor.jobs.watch("watched"))
    assert (await anext(reports)).job.state.value == "submitted"
    began = time.monotonic()
    assert await house.stop("hungary") == 0
    assert time.monotonic() - began < 8  # a stop waits for open calls as long as 10 s
    await house.start("hungary")
    await house.approve(job)
    async for report in reports:
        last = report
    assert last.job.state.value == "finished"
    assert [one.round.state.value for one in last.rounds] == ["final"]
