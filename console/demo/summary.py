"""The run in writing: summary.json for programs and summary.md for people, from the same record."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from .display import Round
from .figures import Figures
from .hospitals import ATTRIBUTION

NAMES = {"federated": "Federated, four hospitals", "pooled": "All data in one place", "majority": "Majority class"}

TEMPLATE = """\
# Heart disease across four hospitals

Job `{job}` {state} after {count} rounds on a real Hyperledger Fabric {fabric} network ({runtime} runtime):
{whole:.1f} s from nothing to everything taken down.

![The run](curve.png)

## Is it worth it?

One pooled hold-out (a quarter of each hospital's patients, stratified by diagnosis), five splits, mean ± standard
deviation. Nobody in a real consortium could compute this table, since it needs everybody's patients; the demo plays
all of them. The first split's federated figure is this run on the network, the other four are the same process object
in one process.

{comparison}

## The rounds

Each hospital's figures are those of its own attestation on the ledger: loss / AUC / balanced accuracy of the round's
new global model on its own hold-out. {joined}

{rounds}

## What the audit says

{verdict}: {checks} checks, from the genesis block's hash, one organisation's blocks and the blobs, without a network.
To run it again:

    {command}

{facts}

## Where the time went

{seconds}

fedfabric {version} on {machine}. Data: {attribution}.
"""


@dataclass(frozen=True)
class Summary:
    """What the demo did and found. Seconds are wall time; figures are on the pooled hold-out unless said otherwise."""

    version: str
    """Of fedfabric."""
    fabric: str
    """Of Hyperledger Fabric."""
    runtime: str
    machine: str
    job: str
    state: str
    """In which the job ended, as the ledger has it."""
    plan_digest: str
    model_digest: str
    genesis_hash: str
    samples: Mapping[str, int]
    """Patients registered on the ledger, by hospital."""
    payments: Mapping[str, str]
    """Tokens that the job's rounds paid, by organisation."""
    returned: str
    """Tokens of the budget that went back to the submitter: what the rounds' parts left over."""
    rounds: tuple[Round, ...]
    joined: int | None
    """The first round of the hospital that was onboarded half way."""
    comparison: Mapping[str, Mapping[str, Figures]]
    """By competitor, by metric."""
    audit_verdict: str
    audit_checks: int
    audit_command: str
    seconds: Mapping[str, float]
    """By step, and ``whole``."""


def write(folder: Path, summary: Summary) -> tuple[Path, Path]:
    """Write both files and return their paths, Markdown first."""
    markdown, document = folder / "summary.md", folder / "summary.json"
    document.write_text(json.dumps(asdict(summary), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    markdown.write_text(as_markdown(summary), encoding="utf-8")
    return markdown, document


def as_markdown(summary: Summary) -> str:
    """The summary for people."""
    facts = {"genesis block": f"`{summary.genesis_hash}`", "plan": f"`{summary.plan_digest}`"}
    facts["final model"] = f"`{summary.model_digest}`"
    facts |= {f"patients registered by {title}": str(count) for title, count in summary.samples.items()}
    facts |= {f"tokens earned by {title}": amount for title, amount in summary.payments.items()}
    facts["tokens back to the submitter"] = summary.returned
    joined = f"VA Long Beach was onboarded on the running channel and joined in round {summary.joined}."
    return TEMPLATE.format(
        job=summary.job,
        state=summary.state,
        count=len(summary.rounds),
        fabric=summary.fabric,
        runtime=summary.runtime,
        whole=summary.seconds["whole"],
        comparison=comparison_table(summary.comparison),
        joined=joined if summary.joined else "",
        rounds=_rounds(summary.rounds),
        verdict=summary.audit_verdict,
        checks=summary.audit_checks,
        command=summary.audit_command,
        facts=_table(("what", "value"), facts.items()),
        seconds=_table(("step", "seconds"), ((step, f"{taken:.1f}") for step, taken in summary.seconds.items())),
        version=summary.version,
        machine=summary.machine,
        attribution=ATTRIBUTION,
    )


def comparison_table(comparison: Mapping[str, Mapping[str, Figures]]) -> str:
    """Who reaches what on the pooled hold-out, as a Markdown table."""
    rows = (
        (NAMES.get(name, f"{name} alone"), _figure(metrics["auc"]), _figure(metrics["balanced_accuracy"]))
        for name, metrics in comparison.items()
    )
    return _table(("trained on", "AUC", "balanced accuracy"), rows)


def _rounds(rounds: tuple[Round, ...]) -> str:
    titles = list(dict.fromkeys(title for state in rounds for title in state.hospitals))
    return _table(
        ("round", "all", *titles, "training", "ledger", "moving", "digest", "attested"),
        (
            (
                str(state.number),
                _scores(state.pooled),
                *(_scores(state.own.get(title)) for title in titles),
                *(f"{part:.2f} s" for part in state.parts),
                f"`{state.digest[:12]}`",
                f"{state.attested} of {len(state.hospitals)}",
            )
            for state in rounds
        ),
    )


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    headings = list(headings)
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _figure(figures: Figures) -> str:
    return f"{figures.mean:.3f} ± {figures.spread:.3f}"


def _scores(scores: Mapping[str, float] | None) -> str:
    if not scores:
        return ""
    return " / ".join(f"{scores[name]:.3f}" if name in scores else "-" for name in ("loss", "auc", "balanced_accuracy"))


def closing(folder: Path, summary: Summary) -> list[str]:
    """The demo's last lines: what came out, where it lies, what to try next."""
    return [
        "",
        *(
            _compared(label, metric, summary.comparison)
            for label, metric in (("AUC", "auc"), ("balanced accuracy", "balanced_accuracy"))
        ),
        f"audit: {summary.audit_verdict}, {summary.audit_checks} checks, offline",
        f"whole run: {summary.seconds['whole']:.1f} s; nothing is left running",
        f"results: {folder}  (curve.png, summary.md, summary.json, model.safetensors, audit/)",
        "",
        "try next:",
        f"  {summary.audit_command}",
        "      checks it all again; change one byte below audit/ first, and it names what you touched",
        "  less examples/heart_disease/plan.py",
        "      all of the code that came near a patient",
        "  less docs/tutorial.md",
        "      the same by hand, command by command",
    ]


def _compared(label: str, metric: str, comparison: Mapping[str, Mapping[str, Figures]]) -> str:
    """One metric of every competitor, the majority class as the baseline last."""
    alone = ", ".join(f"{name} {figures[metric].mean:.3f}" for name, figures in comparison.items() if name not in NAMES)
    return (
        f"{label} on everybody's hold-out, five splits: federated {_figure(comparison['federated'][metric])}, "
        f"all data in one place {_figure(comparison['pooled'][metric])}, alone {alone}, "
        f"always the majority class {comparison['majority'][metric].mean:.3f}"
    )
