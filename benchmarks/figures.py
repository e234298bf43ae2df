"""What a benchmark hands back: figures with their goals, printed as a table and written as JSON."""

import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

__all__ = ["Figure", "Goal", "Report", "at_least", "at_most"]

FOLDER = Path(__file__).resolve().parent.parent / "build" / "bench"
_DISTRIBUTIONS = ("fedfabric", "grpcio", "protobuf", "cryptography", "numpy", "torch")


@dataclass(frozen=True)
class Goal:
    """A bound: `relation` is "≥" or "≤"."""

    relation: str
    bound: float

    def met(self, value: float) -> bool:
        """Whether a value keeps to the bound."""
        return value >= self.bound if self.relation == "≥" else value <= self.bound

    def __str__(self) -> str:
        return f"{self.relation} {self.bound:g}"


def at_least(bound: float) -> Goal:
    """The value is to be no smaller."""
    return Goal("≥", bound)


def at_most(bound: float) -> Goal:
    """The value is to be no larger."""
    return Goal("≤", bound)


@dataclass(frozen=True)
class Figure:
    """One figure: the median of several runs, their spread (largest less smallest, in the same unit) and the goal."""

    name: str
    value: float
    unit: str
    spread: float = 0.0
    goal: Goal | None = None

    @classmethod
    def of(cls, name: str, runs: Sequence[float], unit: str, goal: Goal | None = None) -> "Figure":
        """The figure of these runs."""
        return cls(name, statistics.median(runs), unit, max(runs) - min(runs), goal)

    @property
    def met(self) -> bool | None:
        """Whether the goal was met; None without a goal."""
        return None if self.goal is None else self.goal.met(self.value)


@dataclass
class Report:
    """A benchmark's outcome.

    Attributes:
        name: the benchmark's.
        figures: in the order they are read.
        versions: of what was measured besides this machine's Python packages (Fabric, Node …).
        tables: what stands beside the figures: title, column names, rows.
        notes: sentences on how it was measured and on what falls short.
    """

    name: str
    figures: list[Figure] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    tables: list[tuple[str, Sequence[str], Sequence[Sequence[object]]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, runs: float | Sequence[float], unit: str, goal: Goal | None = None) -> Figure:
        """A figure from one run or several."""
        figure = Figure.of(name, runs if isinstance(runs, Sequence) else [runs], unit, goal)
        self.figures.append(figure)
        return figure

    def show(self, console: Console) -> None:
        """Print the figures, the tables beside them and the notes."""
        table = Table(title=self.name, title_justify="left", title_style="bold")
        for heading in ("figure", "value", "unit", "spread", "goal", ""):
            table.add_column(heading, justify="right" if heading in {"value", "spread", "goal"} else "left")
        for figure in self.figures:
            verdict = {None: "", True: "[green]met[/]", False: "[red]MISSED[/]"}[figure.met]
            goal = "" if figure.goal is None else str(figure.goal)
            table.add_row(figure.name, _short(figure.value), figure.unit, _short(figure.spread), goal, verdict)
        console.print(table)
        for title, headings, rows in self.tables:
            beside = Table(title=title, title_justify="left", title_style="italic")
            for heading in headings:
                beside.add_column(heading, justify="right")
            for row in rows:
                beside.add_row(*(_short(cell) if isinstance(cell, float) else str(cell) for cell in row))
            console.print(beside)
        for note in self.notes:
            console.print(f"  {note}", highlight=False)

    def write(self, folder: Path = FOLDER) -> Path:
        """Write `NAME.json` and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        content = {
            "name": self.name,
            "machine": machine(),
            "versions": versions() | self.versions,
            "figures": [
                {
                    "name": figure.name,
                    "value": figure.value,
                    "unit": figure.unit,
                    "spread": figure.spread,
                    "goal": None if figure.goal is None else str(figure.goal),
                    "met": figure.met,
                }
                for figure in self.figures
            ],
            "tables": [
                {"title": title, "columns": list(headings), "rows": [list(row) for row in rows]}
                for title, headings, rows in self.tables
            ],
            "notes": self.notes,
        }
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return path


def machine() -> Mapping[str, object]:
    """This machine, as far as it bears on the figures."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
    }


def versions() -> dict[str, str]:
    """Python and the packages whose speed shows."""
    return {"python": platform.python_version(), **dict(_installed(_DISTRIBUTIONS))}


def _installed(names: Iterable[str]) -> Iterable[tuple[str, str]]:
    for name in names:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def _short(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if value == 0 or 0.001 <= abs(value) < 1e7:
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:.2e}"
