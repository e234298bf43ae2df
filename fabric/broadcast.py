"""Envelopes to the ordering service: what the peers' Gateway service does not carry, such as configuration updates.

Source: fabric-protos `orderer/ab.proto`; Fabric's `orderer/common/broadcast`.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

import grpc
from fabric_protos.common import common_pb2
from fabric_protos.orderer import ab_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 0.5
# A BFT orderer that hears of an envelope from another orderer first refuses it from us in these words.
_HAS_IT: Final = re.compile(r"request already (processed|exists)")


class BroadcastError(Exception):
    """No orderer took the envelope.

    Attributes:
        status: the name of the last orderer's status (`BAD_REQUEST`, `FORBIDDEN`, `SERVICE_UNAVAILABLE`, ...).
        certain: True where an orderer refused it; False where it is not known whether one has it.
    """

    def __init__(self, status: str, text: str, *, certain: bool) -> None:
        super().__init__(f"the ordering service refused the envelope: {status}: {text}")
        self.status = status
        self.certain = certain


async def broadcast(
    orderers: Sequence[grpc.aio.Channel], envelope: common_pb2.Envelope, *, deadline_s: float = 30
) -> None:
    """Hand an envelope to the first orderer that takes it; taken is not yet committed.

    An orderer that is not there, or has no leader, is passed over and asked again until the deadline. Sending one
    envelope twice is safe: the second has no effect. One that says that it has the envelope already has taken it. The
    channels stay the caller's.

    Raises:
        BroadcastError: an orderer refused the envelope, or none took it before the deadline.
    """
    clock = asyncio.get_running_loop().time
    ends = clock() + deadline_s
    most_each = max(deadline_s / len(orderers), _FIRST_PAUSE_S)
    pause = _FIRST_PAUSE_S
    lost = False  # whether an orderer may have taken it without our hearing of it
    while True:
        for orderer in orderers:
            status, text = await _send(orderer, envelope, min(max(ends - clock(), _FIRST_PAUSE_S), most_each))
            if status == "SUCCESS" or _HAS_IT.search(text):
                return
            if status not in ("SERVICE_UNAVAILABLE", "UNREACHABLE"):
                raise BroadcastError(status, text, certain=not lost)
            lost = lost or status == "UNREACHABLE"
        if clock() + pause > ends:
            raise BroadcastError(status, text, certain=not lost)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


async def _send(orderer: grpc.aio.Channel, envelope: common_pb2.Envelope, deadline_s: float) -> tuple[str, str]:
    call = ab_pb2_grpc.AtomicBroadcastStub(orderer).Broadcast(timeout=deadline_s)
    try:
        await call.write(envelope)
        answer = await call.read()
        await call.done_writing()
    except grpc.aio.AioRpcError as error:
        return "UNREACHABLE", str(error.details())
    except asyncio.InvalidStateError as error:
        return "UNREACHABLE", str(error)
    finally:
        call.cancel()
    if answer is grpc.aio.EOF:  # type: ignore[attr-defined]  # the stubs miss it
        return "UNREACHABLE", "the orderer closed the stream without an answer"
    known = answer.status in common_pb2.Status.values()
    return common_pb2.Status.Name(answer.status) if known else f"status {answer.status}", answer.info
