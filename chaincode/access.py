"""The contract ``access``: requests for data sets, the owners' grants and revocations, and every use."""

from .call import Call
from .datasets import require_dataset
from .dispatch import LedgerContract, evaluated, submitted
from .machine import NEW, Guard
from .records import (
    AccessChanged,
    AccessEvent,
    AccessPage,
    AccessRequest,
    AccessState,
    AccessUsed,
    AccessView,
    DatasetState,
    Grant,
    GrantAccess,
    ListRequest,
    RequestAccess,
    Revocation,
    RevokeAccess,
    Role,
    ShowAccess,
    Use,
    UseAccess,
    WithdrawAccess,
    access_grant_key,
    access_request_key,
    access_revocation_key,
    access_use_key,
    refusals,
)
from .states import ACCESS, NOT_EXPIRED
from .unspent import escrow, pay, spend_escrow


class AccessContract(LedgerContract):
    """A request's price waits in escrow; a grant pays it to the owner, a withdrawal gives it back."""

    name = "access"

    @submitted(Role.SCIENTIST, Role.STEWARD)
    async def request(self, call: Call, request: RequestAccess) -> AccessRequest:
        """Ask a data set's owner for access, with its price in escrow."""
        payer = request.payer or call.msp
        present = await call.read(access_request_key(request.id), AccessRequest)
        if present is not None:
            if _same(present, request, call.msp, payer):
                return present
            raise refusals.Conflict("id", f"the request {request.id} is on the ledger with other content")
        dataset = await require_dataset(call, request.dataset, "dataset")
        if dataset.state != DatasetState.ACTIVE:
            raise refusals.DatasetRetired("dataset", f"{dataset.id} has been retired")
        if dataset.version != request.version:
            raise refusals.VersionDiffers("version", f"{dataset.id} has version {dataset.version}")
        if request.purpose not in dataset.terms.purposes:
            permitted = ", ".join(dataset.terms.purposes)
            raise refusals.PurposeNotPermitted("purpose", f"{dataset.id} is for {permitted}")
        held = await escrow(call, payer, request.inputs, int(dataset.terms.price), f"request:{request.id}")
        record = AccessRequest(
            id=request.id,
            requester=call.msp,
            dataset=dataset.id,
            owner=dataset.owner,
            version=dataset.version,
            digest=dataset.terms.blob.digest,
            purpose=request.purpose,
            price=dataset.terms.price,
            payer=payer,
            escrow=held,
            note=request.note,
            state=AccessState(ACCESS.next(NEW, "request")),
        )
        await call.write(access_request_key(record.id), record)
        _emit(call, "access.requested", record)
        return record

    @submitted(Role.STEWARD)
    async def grant(self, call: Call, request: GrantAccess) -> Grant:
        """Grant a request for the caller's organisation's data set; the price becomes the owner's."""
        asked = await _owned(call, request.id)
        row = Grant(
            request=asked.id,
            owner=asked.owner,
            requester=asked.requester,
            dataset=asked.dataset,
            version=asked.version,
            digest=asked.digest,
            purpose=asked.purpose,
            expires_ms=request.expires_ms,
        )
        if not await call.write_once(access_grant_key(asked.id, call.msp), row):
            return row
        dataset = await require_dataset(call, asked.dataset, "id")
        if dataset.state != DatasetState.ACTIVE:
            raise refusals.DatasetRetired("id", f"{dataset.id} has been retired")
        if dataset.version != asked.version:
            raise refusals.VersionDiffers("id", f"{dataset.id} has version {dataset.version}, not {asked.version}")
        state = ACCESS.next(asked.state, "grant", unexpired(request.expires_ms, call.now))
        await pay(call, asked.owner, await spend_escrow(call, asked.escrow))
        granted = {"state": AccessState(state), "escrow": None, "expires_ms": request.expires_ms}
        await call.write(access_request_key(asked.id), asked.model_copy(update=granted))
        _emit(call, "access.granted", asked)
        return row

    @submitted(Role.STEWARD)
    async def revoke(self, call: Call, request: RevokeAccess) -> Revocation:
        """Revoke a grant: no further release, and no round opened from now on uses the data set under it."""
        asked = await _owned(call, request.id)
        row = Revocation(request=asked.id, owner=call.msp, reason=request.reason)
        if not await call.write_once(access_revocation_key(asked.id, call.msp), row):
            return row
        state = AccessState(ACCESS.next(asked.state, "revoke"))
        await call.write(access_request_key(asked.id), asked.model_copy(update={"state": state}))
        _emit(call, "access.revoked", asked)
        return row

    @submitted(Role.SCIENTIST, Role.STEWARD)
    async def withdraw(self, call: Call, request: WithdrawAccess) -> AccessRequest:
        """Take a request back before it is granted; its escrow goes back to the payer."""
        asked = await require_request(call, request.id, "id")
        if asked.requester != call.msp:
            raise refusals.NotOwner("id", f"the request is {asked.requester}'s")
        if asked.state == AccessState.WITHDRAWN:
            return asked
        state = AccessState(ACCESS.next(asked.state, "withdraw"))
        await pay(call, asked.payer, await spend_escrow(call, asked.escrow))
        record = asked.model_copy(update={"state": state, "escrow": None})
        await call.write(access_request_key(asked.id), record)
        _emit(call, "access.withdrawn", asked)
        return record

    @submitted(Role.GATEWAY)
    async def use(self, call: Call, request: UseAccess) -> Use:
        """Record a use of a grant before it happens."""
        asked = await _owned(call, request.id)
        ACCESS.next(asked.state, "use", unexpired(asked.expires_ms, call.now))
        row = Use(request=asked.id, owner=call.msp, operation=request.operation, detail=request.detail)
        if await call.write_once(access_use_key(asked.id, call.msp, request.operation), row):
            call.emit(AccessUsed(request=asked.id, dataset=asked.dataset, owner=call.msp, operation=request.operation))
        return row

    @evaluated()
    async def show(self, call: Call, request: ShowAccess) -> AccessView:
        """A request and the uses recorded under it."""
        asked = await require_request(call, request.id, "id")
        return AccessView(request=asked, uses=await call.rows("access-use", [asked.id], Use))

    @evaluated()
    async def list(self, call: Call, request: ListRequest) -> AccessPage:
        """Requests in the order of their ids."""
        rows, bookmark = await call.page("access-request", [], AccessRequest, request.limit, request.bookmark)
        return AccessPage(requests=rows, bookmark=bookmark)


def unexpired(expires_ms: int, now: int) -> tuple[Guard, ...]:
    """The guard ``NOT_EXPIRED`` if it holds; 0 never expires."""
    return () if expires_ms and now >= expires_ms else (NOT_EXPIRED,)


async def require_request(call: Call, request: str, field: str) -> AccessRequest:
    """The access request's record.

    Raises:
        UnknownRequest: there is none.
    """
    record = await call.read(access_request_key(request), AccessRequest)
    if record is None:
        raise refusals.UnknownRequest(field, f"no access request {request} is on the ledger")
    return record


async def _owned(call: Call, request: str) -> AccessRequest:
    record = await require_request(call, request, "id")
    if record.owner != call.msp:
        raise refusals.NotOwner("id", f"the data set {record.dataset} belongs to {record.owner}")
    return record


def _same(present: AccessRequest, request: RequestAccess, msp: str, payer: str) -> bool:
    return (present.requester, present.dataset, present.version, present.purpose, present.payer, present.note) == (
        msp,
        request.dataset,
        request.version,
        request.purpose,
        payer,
        request.note,
    )


def _emit(call: Call, kind: AccessEvent, asked: AccessRequest) -> None:
    call.emit(
        AccessChanged(type=kind, request=asked.id, dataset=asked.dataset, owner=asked.owner, requester=asked.requester)
    )
