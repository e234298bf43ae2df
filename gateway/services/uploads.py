"""Taking a blob in from a caller: opening, pieces, end; an interrupted one goes on where its whole segments end."""

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

from ..admission import caller
from ..blobs import Addressed, BlobBrokenError, BlobMissingError, StoredBlob, Upload
from ..errors import DeniedError, ExhaustedError, InvalidError, NotFoundError
from ..journal import StoredUpload
from ..parts import Parts
from ..v1 import datasets_pb2

__all__ = ["Received", "receive"]


@dataclass(frozen=True)
class Received:
    """What came in."""

    blob: StoredBlob
    key: bytes
    """The data key that it is sealed with."""
    kind: str


async def receive(
    parts: Parts,
    requests: AsyncIterator[datasets_pb2.UploadRequest],
    *,
    kinds: frozenset[str],
    own_key: bool,
    maximum: int,
) -> AsyncIterator[datasets_pb2.UploadResponse | Received]:
    """Take an upload's messages and yield answers, the last of them a `Received`.

    Args:
        parts: the gateway's.
        requests: the caller's messages.
        kinds: what an opening may call the bytes.
        own_key: whether the blob gets a data key of its own and is addressed by its sealed bytes.
        maximum: bytes.

    Raises:
        ApiError: the messages are out of order, too long, or of an upload that is not the caller's.
    """
    try:
        first = await anext(requests)
    except StopAsyncIteration:
        raise InvalidError("an upload begins with its opening", field="opening") from None
    if first.WhichOneof("part") != "opening":
        raise InvalidError("an upload begins with its opening", field="opening")
    opening = first.opening
    if opening.kind not in kinds:
        raise InvalidError(f"kind is one of: {', '.join(sorted(kinds))}", field="kind")
    if not 0 < opening.size <= maximum:
        raise ExhaustedError(f"1 to {maximum} bytes are taken here", code="TOO_LONG", field="size")
    stored, key = _stored(parts, opening, own_key=own_key)
    if stored.id in parts.uploads:
        raise ExhaustedError("somebody is sending to this upload right now")
    parts.uploads.add(stored.id)
    try:
        async with await _open(parts, stored, key) as upload:
            yield _position(upload)
            async for answer in _pieces(requests, upload, stored.size):
                yield answer
            blob = await upload.finish(addressed=Addressed.SEALED if own_key else Addressed.PLAIN)
    finally:
        parts.uploads.discard(stored.id)
    yield Received(blob, key, stored.kind)
    parts.journal.forget_upload(stored.id)


def _stored(parts: Parts, opening: datasets_pb2.UploadOpening, *, own_key: bool) -> tuple[StoredUpload, bytes]:
    journal, account = parts.journal, caller().account
    if opening.upload_id:
        found = journal.upload(opening.upload_id)
        if found is None:
            raise NotFoundError("no such upload is here; begin again", code="UPLOAD_UNKNOWN")
        if (found.account, found.kind, found.size) != (account, opening.kind, opening.size):
            raise DeniedError("that upload is another one", code="NOT_THE_CREATOR")
        return found, parts.secrets.unwrap(found.wrapped_key, found.id.encode())
    begun = journal.uploads()
    if len(begun) >= parts.limits.open_uploads:
        # The oldest of the same caller makes room: whoever keeps beginning anew keeps nobody else out.
        own = [upload for upload in begun if upload.account == account and upload.id not in parts.uploads]
        if not own:
            raise ExhaustedError(f"{parts.limits.open_uploads} uploads are not finished; try again later")
        journal.forget_upload(own[0].id)
        parts.store.staged(own[0].id).unlink(missing_ok=True)
    upload_id = secrets.token_hex(16)
    key = secrets.token_bytes(32) if own_key else parts.secrets.storage_key
    stored = StoredUpload(upload_id, account, opening.kind, opening.size, parts.secrets.wrap(key, upload_id.encode()))
    journal.store_upload(stored)
    return stored, key


async def _open(parts: Parts, stored: StoredUpload, key: bytes) -> Upload:
    try:
        return await parts.store.resume(key, stored.id, maximum=stored.size, size=stored.size)
    except (BlobMissingError, BlobBrokenError):
        parts.store.staged(stored.id).unlink(missing_ok=True)
        return await parts.store.upload(key, upload_id=stored.id, maximum=stored.size, size=stored.size)


async def _pieces(
    requests: AsyncIterator[datasets_pb2.UploadRequest], upload: Upload, size: int
) -> AsyncIterator[datasets_pb2.UploadResponse]:
    told = upload.position
    async for request in requests:
        part = request.WhichOneof("part")
        if part == "end":
            if upload.size != size:
                raise InvalidError(f"{upload.size} bytes came, {size} were announced", field="size")
            return
        if part != "piece":
            raise InvalidError("after its opening an upload has pieces and an end", field=part or "part")
        await upload.write(request.piece)
        if upload.position != told:
            told = upload.position
            yield _position(upload)
    raise InvalidError("the upload broke off; its whole segments are kept", field="end")


def _position(upload: Upload) -> datasets_pb2.UploadResponse:
    return datasets_pb2.UploadResponse(
        position=datasets_pb2.UploadPosition(upload_id=upload.id, position=upload.position)
    )
