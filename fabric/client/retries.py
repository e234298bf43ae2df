"""What is tried again, how often and when.

Only what has changed nothing is tried again: a transaction that its block found in conflict with another, or no longer
endorsed as the policy asks (as happens when an organisation joins), is endorsed anew under a new transaction id; the
same signed bytes are sent again to an ordering service that has no leader (a transaction id commits at most once).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc

from .errors import ClientError, CommitError, EndorseError, SubmitError
from .validation_codes import ValidationCode

__all__ = ["NO_RETRIES", "Retries"]

_CONFLICTS = frozenset({ValidationCode.MVCC_READ_CONFLICT, ValidationCode.PHANTOM_READ_CONFLICT})
# What the Gateway service says when endorsers computed on different heights of the ledger.
_DIFFERING = "ProposalResponsePayloads do not match"


@dataclass(frozen=True)
class Retries:
    """How often a transaction is tried again, by cause, and the pauses between (seconds).

    The n-th pause is drawn between half and the whole of min(longest_pause, first_pause · 2^(n-1)), so that clients in
    conflict do not meet again.
    """

    conflicts: int = 5
    policy_failures: int = 1
    unavailable: int = 5
    first_pause: float = 0.05
    longest_pause: float = 1.0
    chance: Callable[[], float] = field(default=random.random, compare=False, repr=False)

    def pause(self, number: int) -> float:
        """Seconds before the `number`-th repetition (from 1)."""
        whole = min(self.longest_pause, self.first_pause * 2.0 ** (number - 1))
        return whole * (0.5 + 0.5 * self.chance())

    def allowed(self, error: ClientError) -> int:
        """How many repetitions the cause of an error allows."""
        if isinstance(error, CommitError):
            if error.code in _CONFLICTS:
                return self.conflicts
            return self.policy_failures if error.code is ValidationCode.ENDORSEMENT_POLICY_FAILURE else 0
        if isinstance(error, EndorseError):
            return self.conflicts if any(detail.message == _DIFFERING for detail in error.details) else 0
        if isinstance(error, SubmitError):
            return self.unavailable if error.code is grpc.StatusCode.UNAVAILABLE else 0
        return 0


NO_RETRIES = Retries(conflicts=0, policy_failures=0, unavailable=0)
"""Every failure is the caller's at once."""
