"""The service Tokens: mints, transfers, balances."""

from typing import Any

from ...chaincode import records
from ..parts import Parts
from ..v1 import records_pb2, tokens_pb2, tokens_pb2_grpc, transactions_pb2
from ..wire import to_message, to_record
from .paging import fitting
from .preparing import prepare

NAMES = ("fedfabric.gateway.v1.Tokens",)


class Tokens(tokens_pb2_grpc.TokensServicer):
    """Approve a mint, mint, transfer, show a balance."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def ApproveMint(self, request: records_pb2.MintRequest, _: Any) -> transactions_pb2.PreparedProposal:  # noqa: N802
        """Prepare the approval of a mint."""
        return prepare(self._parts, "tokens:approve", to_record(request, records.MintRequest))

    async def Mint(self, request: records_pb2.MintRequest, _: Any) -> transactions_pb2.PreparedProposal:  # noqa: N802
        """Prepare a mint."""
        return prepare(self._parts, "tokens:mint", to_record(request, records.MintRequest))

    async def Transfer(self, request: records_pb2.TransferRequest, _: Any) -> transactions_pb2.PreparedProposal:  # noqa: N802
        """Prepare a payment; without inputs, rows are picked here and the change goes back."""
        if not request.inputs and request.outputs:
            self._fill(request)
        return prepare(self._parts, "tokens:transfer", to_record(request, records.TransferRequest))

    def _fill(self, request: records_pb2.TransferRequest) -> None:
        # A row that stands in for what is picked here, so that owner and amounts are checked before they are added up.
        unpicked = records_pb2.TransferRequest()
        unpicked.CopyFrom(request)
        unpicked.inputs.add(tx="0" * 64, n=0)
        checked = to_record(unpicked, records.TransferRequest)
        amount = sum(int(output.amount) for output in checked.outputs)
        rows = self._parts.model.tokens(checked.owner)
        inputs, total = self._parts.purse.pick(rows, checked.owner, amount)
        request.inputs.extend(to_message(row, records_pb2.TokenInput) for row in inputs)
        if total > amount:
            request.outputs.add(owner=checked.owner, amount=str(total - amount))

    async def ShowBalance(self, request: tokens_pb2.ShowBalanceRequest, _: Any) -> records_pb2.Balance:  # noqa: N802
        """An account's total, and its largest unspent rows: anybody can pay it so many that no message takes them."""
        asked = records.canonical_json({"owner": request.owner or self._parts.me})
        owner = records.parse(asked, records.BalanceRequest).owner
        rows = self._parts.model.tokens(owner)
        total = str(sum(int(row.amount) for row in rows))
        answer = to_message(records.Balance(owner=owner, total=total, tokens=()), records_pb2.Balance)
        largest = sorted(rows, key=lambda row: int(row.amount), reverse=True)
        answer.tokens.extend(fitting((to_message(row, records_pb2.Token) for row in largest), self._parts.limits))
        return answer


def add(server: Any, parts: Parts) -> None:
    """Add the service to a server."""
    tokens_pb2_grpc.add_TokensServicer_to_server(Tokens(parts), server)  # type: ignore[no-untyped-call]
