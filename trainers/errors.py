"""What a trainer task can end in, by stable code.

TrainerError
├── PlanError        PLAN_INVALID: the bundle or what plan.py exports breaks the rules
├── SandboxError     SANDBOX_UNAVAILABLE, SANDBOX_FAILED: a foreign plan can't be confined here
└── TaskError        BAD_REQUEST, DATA_INVALID, MODEL_MISMATCH, PLAN_FAILED, NOT_FINITE, MEMORY_LIMIT, TIME_LIMIT,
                     FILE_LIMIT, KILLED, CANCELLED
"""

from __future__ import annotations


class TrainerError(Exception):
    """The base; `code` is stable. The text never quotes a plan's own words, which could carry an owner's data."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class PlanError(TrainerError):
    """A plan that is not taken."""

    def __init__(self, text: str, code: str = "PLAN_INVALID") -> None:
        super().__init__(code, text)


class SandboxError(TrainerError):
    """A plan that can't be run safely on this machine."""


class TaskError(TrainerError):
    """A task that did not end well."""
