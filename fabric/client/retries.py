"""What is tried again, how often and when.

Only what has changed nothing is tried again. A transaction that its block found in conflict with another, or no longer
endorsed as the policy asks (as happens when an organisation joins), is endorsed anew under a new transaction id, and so
is one that a peer in between could not have endorsed. The same signed bytes are sent again to an ordering service that
has no leader: a transaction id commits at most once. The question how a transaction ended is asked again.
"""

import asyncio
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, TypeVar

import grpc

from .errors import ClientError, CommitError, EndorseError, GatewayError
from .validation_codes import ValidationCode

__all__ = ["NO_RETRIES", "Cause", "Retries"]

Cause: TypeAlias = Literal["conflicts", "heights", "policy_failures", "unavailable"]
_Result = TypeVar("_Result")

_INVALID: Final[dict[ValidationCode, Cause]] = {
    ValidationCode.MVCC_READ_CONFLICT: "conflicts",
    ValidationCode.PHANTOM_READ_CONFLICT: "conflicts",
    ValidationCode.ENDORSEMENT_POLICY_FAILURE: "policy_failures",
}
# What the Gateway service says when endorsers computed on different heights of the ledger.
_DIFFERING: Final = "ProposalResponsePayloads do not match"
# What it says of an endorser that it could not reach, or whose connection it has just given up.
_UNREACHED: Final = re.compile(r"rpc error: code = (Unavailable|Canceled) ")


@dataclass(frozen=True)
class Retries:
    """How often a transaction is tried again, by cause, and the pauses between (seconds).

    The n-th pause is drawn between half and the whole of min(longest_pause, first_pause · 2^(n-1)), so that clients in
    conflict do not meet again.

    Attributes:
        conflicts: read conflicts in the block.
        heights: endorsers that computed on different heights of the ledger, until the one behind has caught up.
        policy_failures: endorsements that no longer meet the policy.
        unavailable: peers or orderers that did not answer.
    """

    conflicts: int = 5
    heights: int = 12
    policy_failures: int = 1
    unavailable: int = 6
    first_pause: float = 0.05
    longest_pause: float = 1.0
    chance: Callable[[], float] = field(default=random.random, compare=False, repr=False)

    def pause(self, number: int) -> float:
        """Seconds before the `number`-th repetition (from 1)."""
        whole = min(self.longest_pause, self.first_pause * 2.0 ** (number - 1))
        return whole * (0.5 + 0.5 * self.chance())

    async def run(self, step: Callable[[], Awaitable[_Result]], failure: type[ClientError]) -> _Result:
        """Take a step, again after failures of this class as often as their causes allow; raises the last one."""
        seen: Counter[Cause] = Counter()
        while True:
            try:
                return await step()
            except failure as error:
                cause = cause_of(error)
                if cause is None:
                    raise
                seen[cause] += 1
                if seen[cause] > getattr(self, cause):
                    raise
            await asyncio.sleep(self.pause(seen.total()))


NO_RETRIES = Retries(conflicts=0, heights=0, policy_failures=0, unavailable=0)
"""Every failure is the caller's at once."""


def cause_of(error: ClientError) -> Cause | None:
    """For which cause a failed step may be tried again; None: for none."""
    if isinstance(error, CommitError):
        return _INVALID.get(error.code)
    if not isinstance(error, GatewayError):
        return None
    if error.code is grpc.StatusCode.UNAVAILABLE:
        return "unavailable"
    if isinstance(error, EndorseError) and error.details:
        if all(_UNREACHED.match(detail.message) for detail in error.details):
            return "unavailable"
        if any(detail.message == _DIFFERING for detail in error.details):
            return "heights"
    return None
