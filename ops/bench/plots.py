"""Learning curves drawn with matplotlib, as SVG: the same curves, the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ops.errors import CommandError

Curve = Mapping[str, Any]

_STYLE = {"svg.fonttype": "none", "svg.hashsalt": "plaudit", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}


def win_rates(path: Path, curves: Mapping[str, Curve], ceilings: Mapping[str, float], title: str) -> None:
    """Each curve's mean win rate by votes with the least and the most of its seeds, and each ceiling as a line across."""
    plt = _pyplot()
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(6.4, 3.6))
        for place, (label, curve) in enumerate(curves.items()):
            rates = [point["win_rate"] for point in curve["points"]]
            votes = [point["votes"] for point in curve["points"]]
            means = [rate["mean"] for rate in rates]
            around = [[rate["mean"] - rate["least"] for rate in rates], [rate["most"] - rate["mean"] for rate in rates]]
            axes.errorbar(votes, means, yerr=around, label=label, color=f"C{place}", marker="o", capsize=3, linewidth=1.5)
        for place, (label, rate) in enumerate(ceilings.items()):
            axes.axhline(rate, linestyle=("--", ":", "-.")[place % 3], color="grey", linewidth=1, label=f"{label}: {rate:.2f}")
        axes.set(xlabel="votes", ylabel="win rate over the base", title=title, ylim=(0.45, 1.0))
        axes.legend(fontsize=8, loc="lower right")
        _save(figure, path)
        plt.close(figure)


def shares(path: Path, curve: Curve, names: Sequence[str], title: str) -> None:
    """The means of shares of answers by votes, the least and the most of the seeds shaded."""
    plt = _pyplot()
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(6.4, 3.6))
        votes = [point["votes"] for point in curve["points"]]
        for place, name in enumerate(names):
            values = [point[name] for point in curve["points"]]
            axes.plot(votes, [value["mean"] for value in values], marker="o", color=f"C{place}", label=name)
            least, most = [value["least"] for value in values], [value["most"] for value in values]
            axes.fill_between(votes, least, most, color=f"C{place}", alpha=0.15, linewidth=0)
        axes.set(xlabel="votes", ylabel="share of the champion's answers", title=title, ylim=(0, 1))
        axes.legend(fontsize=8, loc="center right")
        _save(figure, path)
        plt.close(figure)


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise CommandError("the plots need matplotlib, which is not installed: pip install 'plaudit[bench]'") from error
    matplotlib.use("svg")
    import matplotlib.pyplot

    return matplotlib.pyplot


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
