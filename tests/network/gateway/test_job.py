"""A job across three organisations, from registration to the fetched model."""

from pathlib import Path

from fedfabric.tests.network.gateway.house import ORGANISATIONS, House


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
    blob = await scientist.models.fetch("whole", tmp_path / "model.safetensors")
    assert blob == report.job.model
