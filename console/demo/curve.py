"""The run as a picture: the global model round by round, beside each hospital alone and all data in one place."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from .display import Round
from .figures import Figures

PANELS = {"auc": "AUC", "balanced_accuracy": "balanced accuracy"}


def draw(
    path: Path, rounds: Sequence[Round], comparison: Mapping[str, Mapping[str, Figures]], joined: int | None
) -> None:
    """Write the picture (PNG). ``comparison``: by competitor, by metric; ``joined``: the newcomer's first round.

    Each panel: the run's own global model on the pooled hold-out, thin lines for the hospitals' own hold-outs, and the
    competitors' means over the seeds at the right with their spread.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    colours = {"Cleveland": "#1f77b4", "Hungary": "#2ca02c", "Switzerland": "#d62728", "VA Long Beach": "#9467bd"}
    colours |= {"federated": "black", "pooled": "#ff7f0e", "majority": "#7f7f7f"}
    figure, panels = pyplot.subplots(1, 2, figsize=(12, 5.6), layout="constrained")
    for panel, (metric, label) in zip(panels, PANELS.items(), strict=True):
        numbers = [state.number for state in rounds if metric in state.pooled]
        for title in dict.fromkeys(title for state in rounds for title in state.own):
            own = [(state.number, state.own[title][metric]) for state in rounds if metric in state.own.get(title, {})]
            if own:
                panel.plot(*zip(*own, strict=True), color=colours[title], linewidth=0.8, alpha=0.45)
        panel.plot(
            numbers,
            [state.pooled[metric] for state in rounds if metric in state.pooled],
            color="black",
            linewidth=2.2,
            marker="o",
            markersize=4,
            label="global model of this run (thin: on each own hold-out)",
        )
        end = max(numbers, default=0)
        for place, (name, figures) in enumerate(comparison.items(), start=1):
            if metric not in figures:
                continue
            panel.errorbar(
                [end + 0.55 * place],
                [figures[metric].mean],
                yerr=[figures[metric].spread],
                color=colours.get(name, "black"),
                marker="D" if name in {"federated", "pooled"} else "s",
                markersize=6,
                capsize=4,
                linestyle="none",
                label=_label(name),
            )
        if joined is not None:
            panel.axvline(joined - 0.5, color="#9467bd", linestyle=":", linewidth=1.2)
            panel.annotate(
                "VA Long Beach joins",
                (joined - 0.5, 0.02),
                xycoords=("data", "axes fraction"),
                xytext=(4, 0),
                textcoords="offset points",
                fontsize=8,
                color="#9467bd",
            )
        panel.set_xticks(numbers)
        panel.set_xlabel("round (right: means and standard deviations over five splits)")
        panel.set_ylabel(f"{label} on the pooled hold-out")
        panel.grid(alpha=0.25)
        panel.axvspan(end + 0.25, end + 0.55 * len(comparison) + 0.3, color="black", alpha=0.04)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    figure.suptitle("Heart disease, four hospitals: trained together, no patient's data moved")
    figure.savefig(path, dpi=130, metadata={"Software": "fedfabric"})
    pyplot.close(figure)


def _label(name: str) -> str:
    return {
        "federated": "federated",
        "pooled": "all data in one place",
        "majority": "majority class",
    }.get(name, f"{name} alone")
