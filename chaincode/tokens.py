"""The contract ``tokens``: minted by a quorum of members, transferred by their owners, as unspent rows."""

from .call import Call
from .dispatch import LedgerContract, evaluated, submitted
from .machine import NEW
from .records import (
    Balance,
    BalanceRequest,
    Mint,
    MintApproval,
    MintApproved,
    MintRequest,
    Role,
    Token,
    TokensMoved,
    Transfer,
    TransferRequest,
    mint_approval_key,
    mint_key,
    quorum,
    refusals,
)
from .states import MAJORITY_OF_MEMBERS, MINT
from .unspent import spend, write_row


class TokensContract(LedgerContract):
    """Supply changes by mints only; a transfer's inputs and outputs have the same sum."""

    name = "tokens"

    @submitted(Role.OPERATOR)
    async def approve(self, call: Call, request: MintRequest) -> MintApproval:
        """Write the caller's organisation's approval of a mint."""
        call.require_member_account(request.owner, "owner")
        row = MintApproval(msp=call.msp, mint=request)
        if await call.write_once(mint_approval_key(request.id, call.msp), row):
            call.emit(MintApproved(mint=request.id, msp=call.msp))
        return row

    @submitted(Role.OPERATOR)
    async def mint(self, call: Call, request: MintRequest) -> Mint:
        """Carry out a mint that a quorum of members has approved in equal rows; an id mints once."""
        done = await call.read(mint_key(request.id), Mint)
        if done is not None:
            if done.mint == request:
                return done
            raise refusals.Conflict("id", f"the mint {request.id} was carried out with other content")
        call.require_member_account(request.owner, "owner")
        members = [member.msp for member in call.consortium.members]
        rows = await call.read_many([mint_approval_key(request.id, msp) for msp in members], MintApproval)
        approvers = tuple(row.msp for row in rows if row is not None and row.mint == request)
        holding = (MAJORITY_OF_MEMBERS,) if len(approvers) >= quorum(len(members)) else ()
        MINT.next(NEW, "mint", holding, {MAJORITY_OF_MEMBERS: f"approved by {', '.join(approvers) or 'nobody'}"})
        token = await write_row(call, request.owner, int(request.amount), "amount")
        record = Mint(mint=request, token=token, approvers=approvers)
        await call.write(mint_key(request.id), record)
        call.emit(TokensMoved(type="tokens.minted", tx=call.tx, total=request.amount))
        return record

    @submitted(Role.OPERATOR, Role.SCIENTIST, Role.STEWARD)
    async def transfer(self, call: Call, request: TransferRequest) -> Transfer:
        """Spend rows of one account and write as much to others: a payment, a merge or a split."""
        call.require_account(request.owner, "owner")
        for position, output in enumerate(request.outputs):
            call.require_member_account(output.owner, f"outputs.{position}.owner")
        wanted = sum(int(output.amount) for output in request.outputs)
        total = await spend(call, request.owner, request.inputs)
        if total != wanted:
            raise refusals.SumsDiffer("outputs", f"the inputs hold {total}, the outputs {wanted}")
        written = [
            await write_row(call, output.owner, int(output.amount), f"outputs.{position}.amount")
            for position, output in enumerate(request.outputs)
        ]
        call.emit(TokensMoved(type="tokens.transferred", tx=call.tx, total=str(total)))
        return Transfer(tokens=tuple(written))

    @evaluated()
    async def balance(self, call: Call, request: BalanceRequest) -> Balance:
        """An owner's unspent rows and their sum."""
        rows = await call.rows("token", [request.owner], Token)
        return Balance(owner=request.owner, total=str(sum(int(row.amount) for row in rows)), tokens=rows)
