"""Evidence on its way out: what an audit reads and no more, blocks of any length."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from fedfabric.audit import verify_job
from fedfabric.fabric.blocks import block_file_name
from fedfabric.gateway.blobs import BlobStore
from fedfabric.gateway.blocks import read_block
from fedfabric.gateway.client_audit import _ExportWriter, _prepare_folder
from fedfabric.gateway.errors import CorruptError
from fedfabric.gateway.read_model import ReadModel
from fedfabric.gateway.services.audit import _blobs, _block_messages
from fedfabric.gateway.v1 import audit_pb2
from fedfabric.tests.unit.audit.ledger import JOB, MEMBERS, Run

KEY = bytes(32)


async def exported(run: Run, folder: Path) -> set[str]:
    """The addresses of the blobs of the job's export."""
    store = BlobStore(str(folder / "blobs"), folder / "staging", 1 << 30)
    for data in run.ledger.blobs.values():
        await store.put([data], KEY)
    with ReadModel(folder / "ledger.sqlite", MEMBERS[0]) as model:
        for block in run.ledger.blocks:
            model.apply(read_block(block, "fedfabric"))
        parts = SimpleNamespace(model=model, store=store, secrets=SimpleNamespace(storage_key=KEY))
        return {blob.address async for blob in _blobs(parts, model.job(JOB))}


async def test_updates_of_rounds_that_are_not_final_are_not_waited_for(tmp_path: Path) -> None:
    run = Run(tmp_path)
    await run.found()
    await run.offer(MEMBERS)
    await run.start()
    await run.round(1, MEMBERS)
    await run.deliver(2, MEMBERS)
    await run.close(2, MEMBERS)
    updates = [update["blob"]["address"] for update in run.updates]
    found = await exported(run, tmp_path)
    assert set(updates[:3]) <= found
    assert not set(updates[3:]) & found
    assert {run.outcomes[0][part]["address"] for part in ("model", "state")} <= found


async def test_an_update_larger_than_any_is_not_exported_and_not_missed(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.spoiled_update = (MEMBERS[1], lambda _: bytes(5 << 20))
    await run.run()
    found = await exported(run, tmp_path)
    assert run.updates[0]["blob"]["address"] in found
    assert run.updates[1]["blob"]["address"] not in found
    run.ledger.blobs = {address: data for address, data in run.ledger.blobs.items() if address in found}
    assert verify_job(run.ledger.write(tmp_path / "evidence"), None, run.ledger.genesis_hash, JOB).verified


@pytest.fixture
async def blocks(tmp_path: Path) -> list[bytes]:
    run = Run(tmp_path)
    await run.found()
    return [block.SerializeToString() for block in run.ledger.blocks]


def test_a_block_longer_than_a_message_comes_in_pieces(blocks: list[bytes], tmp_path: Path) -> None:
    _prepare_folder(tmp_path / "out", JOB)
    writer = _ExportWriter(tmp_path / "out", None)
    kinds = []
    for number, content in enumerate(blocks):
        # Every second one is longer than what one message takes.
        for message in _block_messages(content, 1 << 20 if number % 2 else len(content) + 1023):
            kinds.append(message.WhichOneof("part"))
            writer.take(message)
    assert {"block", "long_block", "piece"} == set(kinds)
    assert writer.finish().blocks == len(blocks)
    for number, content in enumerate(blocks):
        assert (tmp_path / "out" / "blocks" / block_file_name(number)).read_bytes() == content


def test_pieces_that_are_not_those_announced_are_refused(blocks: list[bytes], tmp_path: Path) -> None:
    def begun(size: int) -> _ExportWriter:
        writer = _ExportWriter(tmp_path, None)
        writer.take(audit_pb2.ExportResponse(long_block=audit_pb2.ExportedBlock(size=size)))
        return writer

    for size in (0, -1, 1 << 40):
        with pytest.raises(CorruptError, match="was announced"):
            begun(size)
    with pytest.raises(CorruptError, match="more of a block"):
        begun(5).take(audit_pb2.ExportResponse(piece=b"123456"))
    for following in (
        audit_pb2.ExportResponse(block=blocks[0]),
        audit_pb2.ExportResponse(blob=audit_pb2.ExportedBlob(address="a" * 64, size=1)),
        audit_pb2.ExportResponse(long_block=audit_pb2.ExportedBlock(size=5)),
    ):
        with pytest.raises(CorruptError, match="before its last byte"):
            begun(5).take(following)
    with pytest.raises(CorruptError, match="before its last byte"):
        begun(5).finish()
