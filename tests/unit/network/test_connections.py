"""What the processes of a network refuse or leave unanswered, as an error of this room."""

import ssl

import grpc
import pytest
from fedfabric.fabric.lifecycle import LifecycleError, UnknownOutcomeError
from fedfabric.fabric.participation import ParticipationError
from fedfabric.fabric.proposals import EndorsementsDifferError
from fedfabric.network import ReadinessError
from fedfabric.network.connections import connected

UNAVAILABLE = grpc.aio.AioRpcError(
    grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), details="connection refused"
)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (LifecycleError("InstallChaincode", "no builder"), "refused: InstallChaincode: no builder"),
        (UnknownOutcomeError("Approve", "not seen"), "not seen"),
        (ParticipationError("status 500"), "refused: status 500"),
        (EndorsementsDifferError("two results"), "two results"),
        (UNAVAILABLE, "does not answer: UNAVAILABLE: connection refused"),
        (TimeoutError("no whole answer within 10 s"), "admin port does not answer: no whole answer"),
        (ConnectionRefusedError("refused"), "admin port does not answer"),
        (ssl.SSLError("certificate"), "admin port does not answer"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_is_named_with_its_cause(fault, text):
    with pytest.raises(ReadinessError, match=text) as caught:
        async with connected(None):
            raise fault
    assert caught.value.__cause__ is fault


async def test_another_fault_stays_what_it_is():
    with pytest.raises(OSError, match="No space left") as caught:
        async with connected(None):
            raise OSError(28, "No space left on device")
    assert caught.value.errno == 28
