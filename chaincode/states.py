"""The ledger's state machines. docs/reference/state-machines.md is drawn from these tables."""

from .machine import NEW, Guard, Machine, Transition
from .records import refusals
from .records.access import AccessState
from .records.datasets import DatasetState
from .records.training import JobState, RoundState

# -- consortium

ALL_FOUNDERS = Guard("every founder has approved", refusals.QuorumMissing)
MAJORITY_OF_MEMBERS = Guard("more than half of the members have approved", refusals.QuorumMissing)

FOUNDED = "founded"

CONSORTIUM = Machine(
    "consortium",
    "The consortium's record",
    (
        Transition(NEW, "apply", (ALL_FOUNDERS,), FOUNDED),
        Transition(FOUNDED, "apply", (MAJORITY_OF_MEMBERS,), FOUNDED),
    ),
)

# -- tokens

MINTED = "minted"

MINT = Machine("mint", "A mint", (Transition(NEW, "mint", (MAJORITY_OF_MEMBERS,), MINTED),))

# -- data sets

DATASET = Machine(
    "data set",
    "A data set",
    (
        Transition(NEW, "register", (), DatasetState.ACTIVE),
        Transition(DatasetState.ACTIVE, "update", (), DatasetState.ACTIVE),
        Transition(DatasetState.ACTIVE, "retire", (), DatasetState.RETIRED),
    ),
)

# -- access

NOT_EXPIRED = Guard("the grant's term is not over", refusals.GrantExpired)

ACCESS = Machine(
    "access request",
    "An access request",
    (
        Transition(NEW, "request", (), AccessState.REQUESTED),
        Transition(AccessState.REQUESTED, "grant", (NOT_EXPIRED,), AccessState.GRANTED),
        Transition(AccessState.REQUESTED, "withdraw", (), AccessState.WITHDRAWN),
        Transition(AccessState.GRANTED, "use", (NOT_EXPIRED,), AccessState.GRANTED),
        Transition(AccessState.GRANTED, "revoke", (), AccessState.REVOKED),
    ),
)

# -- jobs

BEFORE_APPROVAL_DEADLINE = Guard("t is before the approval deadline", refusals.DeadlinePassed)
AFTER_APPROVAL_DEADLINE = Guard("t has reached the approval deadline + 2w", refusals.TooEarly)
LATE_OWNER = Guard("the owner was added later", refusals.DeadlinePassed)
ALL_APPROVED = Guard("every owner of the terms has approved", refusals.ApprovalsMissing)
COHORT_NOT_EMPTY = Guard("some owner may take part", refusals.CohortEmpty)
NOTHING_DELIVERED = Guard("nobody has delivered in this round", refusals.WrongState)
LAST_ROUND = Guard("it was the last round", refusals.WrongState)
STOPPING = Guard("the submitter has cancelled", refusals.WrongState)
NOBODY_LEFT = Guard("no owner may take part in a next round", refusals.WrongState)

JOB = Machine(
    "job",
    "A training job",
    (
        Transition(NEW, "submit", (), JobState.SUBMITTED),
        Transition(JobState.SUBMITTED, "approve", (LATE_OWNER,), JobState.SUBMITTED),
        Transition(JobState.SUBMITTED, "approve", (BEFORE_APPROVAL_DEADLINE,), JobState.SUBMITTED),
        Transition(JobState.SUBMITTED, "refuse", (LATE_OWNER,), JobState.SUBMITTED),
        Transition(JobState.SUBMITTED, "refuse", (BEFORE_APPROVAL_DEADLINE,), JobState.REFUSED),
        Transition(JobState.SUBMITTED, "add", (), JobState.SUBMITTED),
        Transition(JobState.SUBMITTED, "start", (ALL_APPROVED, COHORT_NOT_EMPTY), JobState.RUNNING),
        Transition(JobState.SUBMITTED, "cancel", (), JobState.CANCELLED),
        Transition(JobState.SUBMITTED, "abort", (AFTER_APPROVAL_DEADLINE,), JobState.ABORTED),
        Transition(JobState.RUNNING, "approve", (LATE_OWNER,), JobState.RUNNING),
        Transition(JobState.RUNNING, "refuse", (LATE_OWNER,), JobState.RUNNING),
        Transition(JobState.RUNNING, "add", (), JobState.RUNNING),
        Transition(JobState.RUNNING, "cancel", (NOTHING_DELIVERED,), JobState.CANCELLED),
        Transition(JobState.RUNNING, "cancel", (), JobState.RUNNING),
        Transition(JobState.RUNNING, "finalise", (LAST_ROUND,), JobState.FINISHED),
        Transition(JobState.RUNNING, "finalise", (STOPPING,), JobState.CANCELLED),
        Transition(JobState.RUNNING, "finalise", (NOBODY_LEFT,), JobState.ABORTED),
        Transition(JobState.RUNNING, "finalise", (), JobState.RUNNING),
        Transition(JobState.RUNNING, "abort_round", (), JobState.ABORTED),
    ),
)

# -- rounds

BEFORE_UPDATE_DEADLINE = Guard("t is before D", refusals.DeadlinePassed)
AFTER_UPDATE_DEADLINE = Guard("t has reached D + 2w", refusals.TooEarly)
WHOLE_COHORT_IN = Guard("every member's update is in", refusals.QuorumMissing)
QUORUM_OF_UPDATES = Guard("a quorum of updates is in", refusals.QuorumMissing)
NO_QUORUM_OF_UPDATES = Guard("fewer updates than the quorum are in", refusals.QuorumPossible)
BEFORE_ATTEST_DEADLINE = Guard("t is before A", refusals.DeadlinePassed)
AFTER_ATTEST_DEADLINE = Guard("t has reached A + 2w", refusals.TooEarly)
QUORUM_MISSES = Guard("a quorum can't get the updates of some counted members", refusals.QuorumMissing)
QUORUM_LEFT = Guard("a quorum of updates is left", refusals.QuorumMissing)
COUNTED_ATTESTED = Guard("every counted member has attested", refusals.TooEarly)
QUORUM_AGREES = Guard("a quorum attests and accepts this outcome", refusals.QuorumMissing)
NO_QUORUM_AGREES = Guard("no outcome has a quorum", refusals.QuorumPossible)
QUORUM_IMPOSSIBLE = Guard("no outcome can reach the quorum any more", refusals.QuorumPossible)

ROUND = Machine(
    "round",
    "A round of a job",
    (
        Transition(NEW, "open", (), RoundState.OPEN),
        Transition(RoundState.OPEN, "update", (BEFORE_UPDATE_DEADLINE,), RoundState.OPEN),
        Transition(RoundState.OPEN, "close", (WHOLE_COHORT_IN,), RoundState.CLOSED),
        Transition(RoundState.OPEN, "close", (AFTER_UPDATE_DEADLINE, QUORUM_OF_UPDATES), RoundState.CLOSED),
        Transition(RoundState.OPEN, "cancel", (NOTHING_DELIVERED,), RoundState.ABORTED),
        Transition(RoundState.OPEN, "abort_round", (AFTER_UPDATE_DEADLINE, NO_QUORUM_OF_UPDATES), RoundState.ABORTED),
        Transition(RoundState.CLOSED, "attest", (BEFORE_ATTEST_DEADLINE,), RoundState.CLOSED),
        Transition(RoundState.CLOSED, "report_missing", (BEFORE_ATTEST_DEADLINE,), RoundState.CLOSED),
        Transition(RoundState.CLOSED, "recount", (QUORUM_MISSES, NO_QUORUM_AGREES, QUORUM_LEFT), RoundState.CLOSED),
        Transition(RoundState.CLOSED, "finalise", (QUORUM_AGREES, COUNTED_ATTESTED), RoundState.FINAL),
        Transition(RoundState.CLOSED, "finalise", (QUORUM_AGREES, AFTER_ATTEST_DEADLINE), RoundState.FINAL),
        Transition(RoundState.CLOSED, "abort_round", (AFTER_ATTEST_DEADLINE, NO_QUORUM_AGREES), RoundState.ABORTED),
        Transition(RoundState.CLOSED, "abort_round", (QUORUM_IMPOSSIBLE,), RoundState.ABORTED),
    ),
)

MACHINES = (CONSORTIUM, MINT, DATASET, ACCESS, JOB, ROUND)
