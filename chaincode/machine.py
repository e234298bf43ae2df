"""State machines as tables: (state, event, guards, next state), one pure function over them, and their drawing."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from .records.refusals import Refusal, WrongState

NEW = "new"
"""The state before the record exists."""


@dataclass(frozen=True)
class Guard:
    """A condition of a transition. Whether it holds, the contract finds out; what its failure means stands here."""

    text: str
    """What holds, as the drawing shows it."""
    refusal: type[Refusal]
    """What a caller gets when it does not."""


@dataclass(frozen=True)
class Transition:
    """One row of a table."""

    state: str
    event: str
    guards: tuple[Guard, ...]
    next: str


@dataclass(frozen=True)
class Machine:
    """A state machine. Of the rows for a state and event, the first whose guards all hold is taken."""

    name: str
    title: str
    transitions: tuple[Transition, ...]

    def next(
        self,
        state: StrEnum | str,
        event: str,
        holding: Collection[Guard] = (),
        details: Mapping[Guard, str] = MappingProxyType({}),
    ) -> str:
        """The state after ``event``, given the guards that hold. Changes nothing.

        ``details`` says of a guard what was found, for the text of a refusal.

        Raises:
            WrongState: the table has no row for this state and event.
            Refusal: there are rows and none applies; it is the first unmet guard's of the last row.
        """
        rows = [row for row in self.transitions if (row.state, row.event) == (state, event)]
        if not rows:
            allowed = sorted({row.state for row in self.transitions if row.event == event})
            raise WrongState("", f"{event} is possible in {' and '.join(allowed)}; the {self.name} is {state}")
        for row in rows:
            if all(guard in holding for guard in row.guards):
                return row.next
        unmet = next(guard for guard in rows[-1].guards if guard not in holding)
        found = f"; {details[unmet]}" if unmet in details else ""
        raise unmet.refusal("", f"{event} in state {state} needs: {unmet.text}{found}")

    @property
    def states(self) -> tuple[str, ...]:
        """Every state, in the order of the table."""
        return tuple(dict.fromkeys(state for row in self.transitions for state in (row.state, row.next)))

    @property
    def final_states(self) -> tuple[str, ...]:
        """States that nothing leaves."""
        left = {row.state for row in self.transitions}
        return tuple(state for state in self.states if state not in left)

    def mermaid(self) -> str:
        """The table drawn as a Mermaid state diagram."""
        lines = ["stateDiagram-v2"]
        for row in self.transitions:
            guards = " and ".join(guard.text for guard in row.guards)
            label = f"{row.event} [{guards}]" if guards else row.event
            lines.append(f"    {'[*]' if row.state == NEW else row.state} --> {row.next}: {label}")
        lines += [f"    {state} --> [*]" for state in self.final_states]
        return "\n".join(lines)

    def table(self) -> str:
        """The table in Markdown."""
        lines = ["| state | event | guards | next |", "|---|---|---|---|"]
        for row in self.transitions:
            guards = "; ".join(f"{guard.text} (else {guard.refusal.code})" for guard in row.guards)
            lines.append(f"| {row.state} | {row.event} | {guards} | {row.next} |")
        return "\n".join(lines)
