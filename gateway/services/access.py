"""The service Access: requests, grants, revocations, uses."""

from typing import Any

from ...chaincode import records
from ...chaincode.records import refusals
from ..parts import Parts
from ..v1 import access_pb2, access_pb2_grpc, records_pb2, transactions_pb2
from ..wire import to_message, to_record
from .paging import limit_of, page
from .preparing import prepare

NAMES = ("fedfabric.gateway.v1.Access",)


class Access(access_pb2_grpc.AccessServicer):
    """Request, grant, revoke, withdraw, show, list."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def Request(self, request: records_pb2.RequestAccess, _: Any) -> transactions_pb2.PreparedProposal:  # noqa: N802
        """Prepare a request; its price is paid from rows picked here unless the caller names some."""
        record = to_record(request, records.RequestAccess)
        dataset = self._parts.model.dataset(record.dataset)
        price = int(dataset.terms.price) if dataset is not None else 0
        if price and not record.inputs:
            payer = record.payer or self._parts.me
            inputs, _total = self._parts.purse.pick(self._parts.model.tokens(payer), payer, price)
            record = record.model_copy(update={"inputs": inputs, "payer": payer})
        return prepare(self._parts, "access:request", record)

    async def Grant(self, request: records_pb2.GrantAccess, _: Any) -> transactions_pb2.PreparedProposal:  # noqa: N802
        """Prepare a grant."""
        return prepare(self._parts, "access:grant", to_record(request, records.GrantAccess))

    async def Revoke(self, request: records_pb2.RevokeAccess, _: Any) -> transactions_pb2.PreparedProposal:  # noqa: N802
        """Prepare a revocation."""
        return prepare(self._parts, "access:revoke", to_record(request, records.RevokeAccess))

    async def Withdraw(self, request: records_pb2.WithdrawAccess, _: Any) -> transactions_pb2.PreparedProposal:  # noqa: N802
        """Prepare a withdrawal."""
        return prepare(self._parts, "access:withdraw", to_record(request, records.WithdrawAccess))

    async def Show(self, request: access_pb2.ShowAccessRequest, _: Any) -> access_pb2.AccessReport:  # noqa: N802
        """A request and the owner's rows beside it."""
        model = self._parts.model
        found = model.request(request.id)
        if found is None:
            raise refusals.UnknownRequest("id", f"no access request {records.printable(request.id)} is on the ledger")
        grant, revocation = model.grant(found.id, found.owner), model.revocation(found.id, found.owner)
        return access_pb2.AccessReport(
            request=to_message(found, records_pb2.AccessRequest),
            grant=None if grant is None else to_message(grant, records_pb2.Grant),
            revocation=None if revocation is None else to_message(revocation, records_pb2.Revocation),
            uses=[to_message(use, records_pb2.Use) for use in model.uses(found.id)],
        )

    async def List(self, request: access_pb2.ListAccessRequest, _: Any) -> access_pb2.ListAccessResponse:  # noqa: N802
        """A page of requests."""
        limit = limit_of(request.limit, self._parts.limits)
        found, after = self._parts.model.requests(request.dataset, request.state, request.after, limit)
        rows, after = page(found, after, records_pb2.AccessRequest, self._parts.limits)
        return access_pb2.ListAccessResponse(requests=rows, next=after)


def add(server: Any, parts: Parts) -> None:
    """Add the service to a server."""
    access_pb2_grpc.add_AccessServicer_to_server(Access(parts), server)  # type: ignore[no-untyped-call]
