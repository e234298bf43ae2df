"""What the demo shows while it runs: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from .figures import Scores

LEGEND = "Each round's global model: loss / AUC / balanced accuracy on the hold-out of all, and of each"
WIDE = 116
"""Columns of a terminal from which on seconds and digest have room in the table; they are in the summary too."""
HEADING_LINES = 4
"""Of the table: two of its title on a narrow terminal, the columns' names, and one to spare for the cursor."""


@dataclass(frozen=True)
class Round:
    """One round as it stands: what every hospital says of the new global model, and where the time went."""

    number: int
    hospitals: tuple[str, ...]
    """Titles of the cohort."""
    own: dict[str, Scores] = field(default_factory=dict)
    """By hospital: its attestation's figures (loss, auc, balanced_accuracy) on its own hold-out."""
    pooled: Scores = field(default_factory=dict)
    """On the pooled hold-out."""
    training_s: float = 0.0
    """Of the slowest member: training, and checking the result on its own hold-out."""
    moving_s: float = 0.0
    """Of the slowest member: fetching models and updates, and summing them."""
    ledger_s: float = 0.0
    """All the rest of the round: proposing, endorsing, ordering, committing, events."""
    digest: str = ""
    attested: int = 0
    final: bool = False

    @property
    def complete(self) -> bool:
        """Whether nothing more is to come: final on the ledger, and scored."""
        return self.final and bool(self.pooled)

    @property
    def parts(self) -> tuple[float, float, float]:
        """Seconds spent training, on the ledger, moving."""
        return self.training_s, self.ledger_s, self.moving_s


class Display:
    """Prints steps, notes and rounds; on a terminal the running step and the rounds' table stay at the bottom."""

    def __init__(self, console: Console, titles: Sequence[str]) -> None:
        self._console, self._titles = console, titles
        self._rounds: dict[int, Round] = {}
        self._running: list[str] = []
        self._explained = False
        self._live = Live(console=console, refresh_per_second=8, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        if self._live and self._rounds:
            self._console.print(self._table())

    def note(self, line: str = "") -> None:
        """A line that stays."""
        self._console.print(Text(line), soft_wrap=True)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Something that takes a while: its name and, when it is done, its seconds."""
        started = time.monotonic()
        self._running.append(text)
        self._refresh()
        try:
            yield
        except BaseException:
            self._running.remove(text)
            self._refresh()
            raise
        self._running.remove(text)
        self.note(f"{text:<76} {time.monotonic() - started:5.1f} s")
        self._refresh()

    def round(self, state: Round) -> None:
        """Show a round as it stands now; without a terminal once, when it is final and scored."""
        before = self._rounds.get(state.number)
        self._rounds[state.number] = state
        if self._live:
            self._refresh()
        elif state.complete and not (before and before.complete):
            if not self._explained:
                self.note(LEGEND)
            self._explained = True
            self.note(as_line(state))

    def _refresh(self) -> None:
        if self._live:
            self._live.update(self._picture(), refresh=True)

    def _picture(self) -> RenderableType:
        running = [Spinner("dots", Text(text)) for text in self._running]
        return Group(*([self._table(len(running))] if self._rounds else []), *running)

    def _table(self, below: int | None = None) -> Table:
        """All rounds, or the newest that fit the terminal's height above so many lines."""
        rounds = [self._rounds[number] for number in sorted(self._rounds)]
        if below is not None:
            rounds = rounds[-max(1, self._console.height - HEADING_LINES - below) :]
        return as_table(rounds, self._titles, wide=self._console.width >= WIDE)


def as_line(state: Round) -> str:
    """A final round in one line, for logs."""
    own = ", ".join(f"{name} {_figures(scores)}" for name, scores in state.own.items())
    return (
        f"round {state.number:>2}  all {_figures(state.pooled)} | {own} | training {state.training_s:.2f} s, "
        f"ledger {state.ledger_s:.2f} s, moving {state.moving_s:.2f} s | {state.digest[:12]} attested by "
        f"{state.attested} of {len(state.hospitals)}"
    )


def as_table(rounds: Sequence[Round], titles: Sequence[str], *, wide: bool = True) -> Table:
    """The rounds: loss, AUC, balanced accuracy of each hospital's hold-out and of all; attesters; seconds, digest."""
    table = Table(box=None, header_style="bold", pad_edge=False, title_justify="left")
    table.title = LEGEND
    table.title_style = "none"
    table.add_column("round", justify="right", no_wrap=True)
    table.add_column("all", justify="center", no_wrap=True)
    for title in titles:
        table.add_column(title, justify="center", style="dim", no_wrap=True)
    table.add_column("att.", justify="center", no_wrap=True)
    if wide:
        for heading in ("train s", "ledger s", "move s"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("digest", no_wrap=True)
    for state in rounds:
        table.add_row(
            str(state.number),
            _figures(state.pooled),
            *(_figures(state.own.get(title, {})) for title in titles),
            f"{state.attested}/{len(state.hospitals)}",
            *((*(f"{part:.2f}" if state.final else "" for part in state.parts), state.digest[:8]) if wide else ()),
        )
    return table


def _figures(scores: Scores) -> str:
    if not scores:
        return "·"
    names = ("loss", "auc", "balanced_accuracy")
    return " ".join(f"{scores[name]:.2f}".removeprefix("0") if name in scores else "-" for name in names)
