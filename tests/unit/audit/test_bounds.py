"""An audit holds one block at a time, and whatever bytes it is given, it ends with a report."""

import dataclasses
import random
import tracemalloc
from pathlib import Path

import pytest
from fabric_protos.common import common_pb2
from fedfabric.aggregation import tagged_hash
from fedfabric.audit import verify_job
from fedfabric.audit.aggregates import AggregateAuditor
from fedfabric.audit.blobs import BlobDiffersError, BlobFolder, address_of
from fedfabric.audit.training import JobAuditor
from fedfabric.chaincode.records import Blob
from fedfabric.fabric.blocks import block_file_name
from fedfabric.tests.unit.audit.ledger import JOB, MEMBERS, Run, RunSettings


@pytest.fixture(scope="module")
async def run(tmp_path_factory) -> Run:
    return await Run(tmp_path_factory.mktemp("run")).run()


async def test_memory_does_not_grow_with_the_ledger(run, tmp_path):
    def peak(ledger, folder) -> int:
        ledger.write(folder)
        tracemalloc.start()
        try:
            assert verify_job(folder, None, ledger.genesis_hash, JOB).verified
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    short = run.ledger.copy()
    peak(short, tmp_path / "first")  # what is loaded once is not counted
    before = peak(short, tmp_path / "short")
    later = len(short.blocks)
    grown = await Run(tmp_path, None, run.ledger.copy()).grow(later * 2)
    after = peak(grown, tmp_path / "long")
    assert len(grown.blocks) == 3 * later
    assert after < before + 1024 * 1024


async def test_files_held_open_do_not_grow_with_the_rounds(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    run = await Run(tmp_path / "run", RunSettings(rounds=5)).run()
    whole = AggregateAuditor._round
    held = []

    def counted(auditor, links, before, place, files):
        assert list(place.iterdir()) == []  # of the round before the last, nothing takes space any more
        result = whole(auditor, links, before, place, files)
        opened = [one.readlink() for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
        held.append(sorted(one.name for one in opened if "fedfabric-audit-" in str(one)))
        return result

    monkeypatch.setattr(AggregateAuditor, "_round", counted)
    assert verify_job(run.ledger.write(tmp_path / "out"), None, run.ledger.genesis_hash, JOB).verified
    pair = ["model.safetensors", "state.safetensors"]
    assert held == [pair, *[sorted(pair * 2)] * 4]


def test_any_byte_changed_in_a_blocks_signed_part_is_found(run, tmp_path):
    ledger, source = run.ledger, random.Random(20260101)
    folder = ledger.write(tmp_path)
    for _ in range(25):
        number = source.randrange(len(ledger.blocks))
        path = folder / "blocks" / block_file_name(number)
        whole = path.read_bytes()
        changed = bytearray(whole)
        changed[source.randrange(len(changed))] ^= 1 << source.randrange(8)
        path.write_bytes(bytes(changed))
        report = verify_job(folder, None, ledger.genesis_hash, JOB)
        if signed_part(bytes(changed)) != signed_part(whole):
            assert not report.verified
            assert report.findings
        path.write_bytes(whole)
    assert verify_job(folder, None, ledger.genesis_hash, JOB).verified


def signed_part(data: bytes) -> tuple[bytes, list[bytes]] | None:
    """What orderers sign of a block: its header, and by the data hash its transactions."""
    try:
        block = common_pb2.Block.FromString(data)
    except ValueError:
        return None
    return block.header.SerializeToString(), list(block.data.data)


def test_any_bytes_in_place_of_blobs_are_a_report(run, tmp_path):
    source = random.Random(7)
    ledger = run.ledger.copy()
    for address in list(ledger.blobs):
        ledger.blobs[address] = source.randbytes(source.choice([0, 1, 7, 8, 100, 5000]))
    report = verify_job(ledger.write(tmp_path), None, ledger.genesis_hash, JOB)
    assert not report.verified
    assert {finding.check.value for finding in report.findings} == {"blobs"}


class TestMisconductOnRecord:
    """What a member commits is its own fault: the job's verdict stands, and the report says who."""

    @pytest.mark.parametrize("rubbish", [b"not tensors at all", b""])
    async def test_an_update_that_is_no_tensors_is_left_out_by_everybody(self, tmp_path, rubbish):
        report = await self.report(tmp_path, update=lambda _: rubbish)
        assert report.verified
        assert [one.link for one in report.remarks] == [f"update of {MEMBERS[1]} in round 1 of job {JOB}"]

    async def test_an_update_beyond_its_weight_is_left_out_by_everybody(self, tmp_path):
        report = await self.report(tmp_path, update=lambda data: data[:-4] + b"\xff\xff\xff\x7f")
        assert report.verified
        assert "exceeds the range of its weight" in report.remarks[0].text

    async def test_an_update_larger_than_any_of_its_model_is_left_out_unread(self, tmp_path):
        report = await self.report(tmp_path, update=lambda _: bytes(5 << 20), kept=1 << 20)
        assert report.verified
        assert [one.link for one in report.remarks] == [f"update of {MEMBERS[1]} in round 1 of job {JOB}"]
        assert "5242880 bytes, an update of this model has at most" in report.remarks[0].text

    async def report(self, tmp_path, update, kept=1 << 30):
        (tmp_path / "run").mkdir()
        run = Run(tmp_path / "run")
        run.spoiled_update = (MEMBERS[1], update)
        await run.run()
        run.ledger.blobs = {address: data for address, data in run.ledger.blobs.items() if len(data) <= kept}
        return verify_job(run.ledger.write(tmp_path / "out"), None, run.ledger.genesis_hash, JOB)

    async def test_a_wrong_digest_of_the_right_bytes_is_on_record(self, tmp_path):
        (tmp_path / "run").mkdir()
        run = Run(tmp_path / "run")
        run.claims = {"digest": "cd" * 32}
        await run.run()
        report = verify_job(run.ledger.write(tmp_path / "out"), None, run.ledger.genesis_hash, JOB)
        assert report.verified
        assert "the ledger says cdcd" in report.remarks[0].text


def test_a_plan_is_not_read_beyond_the_size_that_the_ledger_names(tmp_path, monkeypatch):
    (tmp_path / "whole").write_bytes(b"a plan")
    address = address_of(tmp_path / "whole")
    (tmp_path / "whole").rename(tmp_path / address)
    blob = Blob(address=address, digest=tagged_hash("plan", b"a plan"), size=6)
    assert BlobFolder(tmp_path).plan(blob) == b"a plan"
    monkeypatch.setattr(Path, "read_bytes", None)
    with pytest.raises(BlobDiffersError, match="it has 6 bytes, the ledger says 1"):
        BlobFolder(tmp_path).plan(blob.model_copy(update={"size": 1}))


def test_a_transactions_writes_are_taken_alike_in_any_order(run, tmp_path, monkeypatch):
    folder = run.ledger.write(tmp_path)
    made = {one.check: one.made for one in verify_job(folder, None, run.ledger.genesis_hash, JOB).checks}
    take = JobAuditor.take

    def reversed_take(auditor, access, writer):
        take(auditor, dataclasses.replace(access, writes=access.writes[::-1]), writer)

    monkeypatch.setattr(JobAuditor, "take", reversed_take)
    assert {one.check: one.made for one in verify_job(folder, None, run.ledger.genesis_hash, JOB).checks} == made


async def test_a_plan_of_another_digest_than_its_bytes_have_is_broken(tmp_path):
    (tmp_path / "run").mkdir()
    run = Run(tmp_path / "run")
    run.plan_digest = "ab" * 32
    await run.run()
    report = verify_job(run.ledger.write(tmp_path / "out"), None, run.ledger.genesis_hash, JOB)
    assert [finding.link for finding in report.findings] == [f"plan of job {JOB}"]
    assert "the ledger says abab" in report.findings[0].text
