"""The service ConsortiumService: the members' record."""

from typing import Any

from ...chaincode import records
from ...chaincode.records import refusals
from ..parts import Parts
from ..v1 import consortium_pb2, consortium_pb2_grpc, records_pb2, transactions_pb2
from ..wire import to_message, to_record
from .preparing import prepare

NAMES = ("fedfabric.gateway.v1.ConsortiumService",)


class ConsortiumService(consortium_pb2_grpc.ConsortiumServiceServicer):
    """Show, approve and apply."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def Show(  # noqa: N802
        self, _: consortium_pb2.ShowConsortiumRequest, __: Any
    ) -> records_pb2.Consortium:
        """The members' record."""
        found = self._parts.model.consortium()
        if found is None:
            raise refusals.NoConsortium("", "the consortium has not been founded on this channel")
        return to_message(found, records_pb2.Consortium)

    async def Approve(  # noqa: N802
        self, request: records_pb2.ConsortiumChange, _: Any
    ) -> transactions_pb2.PreparedProposal:
        """Prepare the approval of a change."""
        return prepare(self._parts, "consortium:approve", to_record(request, records.ConsortiumChange))

    async def Apply(  # noqa: N802
        self, request: records_pb2.ConsortiumChange, _: Any
    ) -> transactions_pb2.PreparedProposal:
        """Prepare the application of a change."""
        return prepare(self._parts, "consortium:apply", to_record(request, records.ConsortiumChange))


def add(server: Any, parts: Parts) -> None:
    """Add the service to a server."""
    consortium_pb2_grpc.add_ConsortiumServiceServicer_to_server(ConsortiumService(parts), server)  # type: ignore[no-untyped-call]
