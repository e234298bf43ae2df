"""The client's calls for auditors: evidence, written into a folder as it comes."""

import asyncio
import re
from pathlib import Path
from typing import Any, Final

from ..fabric import blocks
from .client_calls import Call
from .client_part import Part
from .client_reports import Exported
from .client_session import Session
from .client_transfers import Progress
from .errors import CorruptError
from .v1 import audit_pb2, audit_pb2_grpc

__all__ = ["AuditCalls"]

_ADDRESS: Final = re.compile(r"[0-9a-f]{64}")
_LONGEST_BLOCK: Final = 128 << 20
"""Bytes. Fabric orders none of that size by any sensible configuration; it is held in memory to be read."""
_EXPORT_README: Final = """Evidence of the training job {job}, exported from one organisation's gateway.

blocks/  the channel's blocks from the first one on (protobuf common.Block)
blobs/   the job's plan, models, states and updates, each under the Merkle root of its 1 MiB segments

Nothing here has to be believed: verify it with

    fedfabric audit verify FOLDER {job} --genesis HASH

and a hash of the genesis block that you did not get from here.
"""


class AuditCalls(Part):
    """Evidence to take away."""

    def export(self, job: str, folder: Path | str, *, progress: Progress | None = None) -> Call[Exported]:
        """Write the channel's blocks and a job's blobs into a new or empty folder, for an audit without a network.

        Raises:
            FileExistsError: something is in the folder.
        """
        target = Path(folder)

        async def work(session: Session) -> Exported:
            await asyncio.to_thread(_prepare_folder, target, job)
            stub: Any = audit_pb2_grpc.AuditStub(session.channel)  # type: ignore[no-untyped-call]
            writer = _ExportWriter(target, progress)
            try:
                async for message in session.stream(stub.Export, audit_pb2.ExportRequest(job=job)):
                    await asyncio.to_thread(writer.take, message)
                return writer.finish()
            finally:
                writer.close()

        return self.call(work)


def _prepare_folder(folder: Path, job: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(17, "the folder is not empty", str(folder))
    (folder / "blocks").mkdir()
    (folder / "blobs").mkdir()
    (folder / "README.txt").write_text(_EXPORT_README.format(job=job), encoding="utf-8")


class _ExportWriter:
    """Writes an export's messages into its folder."""

    def __init__(self, folder: Path, progress: Progress | None) -> None:
        self._folder = folder
        self._progress = progress
        self._blocks = 0
        self._blobs = 0
        self._genesis = ""
        self._file: Any = None
        self._long: bytearray | None = None
        """What has come of a block that comes in pieces."""
        self._left = 0
        self._bytes = 0

    def take(self, message: audit_pb2.ExportResponse) -> None:
        """One message."""
        match message.WhichOneof("part"):
            case "block":
                self._block(message.block)
            case "blob":
                self._begin(message.blob)
            case "long_block":
                self._begin_block(message.long_block.size)
            case "piece" if self._long is not None:
                self._block_piece(self._long, message.piece)
            case "piece":
                self._piece(message.piece)

    def _block(self, content: bytes) -> None:
        self._finish_blob()
        try:
            block = blocks.decode_block(content)
        except blocks.BlockError as error:
            raise CorruptError(str(error)) from error
        if block.number != self._blocks:
            raise CorruptError(f"block {block.number} came where block {self._blocks} was due")
        if not self._blocks:
            self._genesis = block.header_hash.hex()
        (self._folder / "blocks" / blocks.block_file_name(block.number)).write_bytes(content)
        self._blocks += 1
        self._tell(len(content))

    def _begin_block(self, size: int) -> None:
        self._finish_blob()
        if not 0 < size <= _LONGEST_BLOCK:
            raise CorruptError(f"a block of {size} bytes was announced, at most {_LONGEST_BLOCK} are taken")
        self._long, self._left = bytearray(), size

    def _block_piece(self, block: bytearray, piece: bytes) -> None:
        if len(piece) > self._left:
            raise CorruptError("more of a block came than was announced")
        block += piece
        self._left -= len(piece)
        if not self._left:
            self._long = None
            self._block(bytes(block))

    def _begin(self, blob: audit_pb2.ExportedBlob) -> None:
        self._finish_blob()
        if not _ADDRESS.fullmatch(blob.address):
            raise CorruptError("a blob came under something that is no address")
        self._file = (self._folder / "blobs" / blob.address).open("xb")
        self._left = blob.size
        self._blobs += 1

    def _piece(self, piece: bytes) -> None:
        if self._file is None or len(piece) > self._left:
            raise CorruptError("more of a blob came than was announced")
        self._file.write(piece)
        self._left -= len(piece)
        self._tell(len(piece))

    def _finish_blob(self) -> None:
        if self._left:
            raise CorruptError("a blob or block ended before its last byte")
        self.close()

    def _tell(self, count: int) -> None:
        self._bytes += count
        if self._progress is not None:
            self._progress(self._bytes, 0)

    def finish(self) -> Exported:
        """What was written, once all of it was."""
        self._finish_blob()
        return Exported(self._folder, self._blocks, self._blobs, self._genesis)

    def close(self) -> None:
        """Close the open file."""
        if self._file is not None:
            self._file.close()
            self._file = None
