"""The contract ``consortium``: who the members are. Founded by all founders, changed by a majority of members."""

from .call import Call
from .dispatch import LedgerContract, evaluated, submitted
from .machine import NEW
from .records import (
    Consortium,
    ConsortiumApproval,
    ConsortiumApproved,
    ConsortiumChange,
    ConsortiumChanged,
    ConsortiumRequest,
    ConsortiumView,
    Role,
    consortium_approval_key,
    consortium_key,
    quorum,
    refusals,
)
from .states import ALL_FOUNDERS, CONSORTIUM, FOUNDED, MAJORITY_OF_MEMBERS


class ConsortiumContract(LedgerContract):
    """Changes of the consortium's record are whole records, approved row by row and then applied."""

    name = "consortium"

    @submitted(Role.OPERATOR, founding=True)
    async def approve(self, call: Call, request: ConsortiumChange) -> ConsortiumApproval:
        """Write the caller's organisation's approval of a change."""
        _check_next(call, request)
        row = ConsortiumApproval(msp=call.msp, digest=request.digest, change=request)
        if await call.write_once(consortium_approval_key(request.sequence, request.digest, call.msp), row):
            call.emit(ConsortiumApproved(msp=call.msp, sequence=request.sequence, digest=request.digest))
        return row

    @submitted(Role.OPERATOR, founding=True)
    async def apply(self, call: Call, request: ConsortiumChange) -> Consortium:
        """Make a change the present record: the first needs every founder, a later one a majority of members."""
        present = call.founded
        if present is not None and present.sequence == request.sequence and _same(present, request):
            return present
        _check_next(call, request)
        voters = [member.msp for member in present.members] if present else list(call.founders)
        keys = [consortium_approval_key(request.sequence, request.digest, msp) for msp in voters]
        rows = await call.read_many(keys, ConsortiumApproval)
        approvers = tuple(row.msp for row in rows if row is not None)
        holding = set()
        if len(approvers) == len(voters):
            holding.add(ALL_FOUNDERS)
        if len(approvers) >= quorum(len(voters)):
            holding.add(MAJORITY_OF_MEMBERS)
        found = f"approved by {', '.join(approvers) or 'nobody'}"
        details = {ALL_FOUNDERS: found, MAJORITY_OF_MEMBERS: found}
        CONSORTIUM.next(FOUNDED if present else NEW, "apply", holding, details)
        record = Consortium(
            sequence=request.sequence, members=request.members, window_ms=request.window_ms, approvers=approvers
        )
        await call.write(consortium_key(), record)
        members = tuple(member.msp for member in request.members)
        call.emit(ConsortiumChanged(sequence=request.sequence, members=members))
        return record

    @evaluated(founding=True)
    async def show(self, call: Call, request: ConsortiumRequest) -> ConsortiumView:  # noqa: ARG002
        """The present record, and the approvals of changes that would be the next."""
        sequence = call.founded.sequence + 1 if call.founded else 1
        rows = await call.rows("consortium-approval", [f"{sequence:06d}"], ConsortiumApproval)
        return ConsortiumView(consortium=call.founded, approvals=rows)


def _same(present: Consortium, change: ConsortiumChange) -> bool:
    return (present.members, present.window_ms) == (change.members, change.window_ms)


def _check_next(call: Call, change: ConsortiumChange) -> None:
    expected = call.founded.sequence + 1 if call.founded else 1
    if change.sequence != expected:
        raise refusals.SequenceDiffers("sequence", f"the next change is number {expected}")
    if call.founded is None:
        named = tuple(member.msp for member in change.members)
        if named != call.founders:
            ours = ", ".join(call.founders)
            raise refusals.FoundersDiffer("members", f"the founders are {ours}; the change names {', '.join(named)}")
