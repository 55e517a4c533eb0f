"""Draws hit ratios over the size of the cache, one picture per trace."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bench.policies import BASE, BOUND, OURS

if TYPE_CHECKING:
    from pathlib import Path

    from bench.scoring import Cell

OTHERS = ["tab:blue", "tab:orange", "tab:green", "tab:purple", "tab:brown", "tab:cyan"]
STYLES: dict[str, dict[str, Any]] = {
    OURS: {"color": "black", "linewidth": 2.5, "linestyle": (0, (4, 2)), "zorder": 9},
    BASE: {"color": "tab:gray", "linewidth": 2},
    BOUND: {"color": "tab:red", "linewidth": 1.5, "linestyle": ":"},
}


def draw(path: Path, cells: list[Cell], measure: str, summary: dict[str, Any]) -> None:
    """Draw ours, LRU, Belady and the policies that close most of the gap."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    others = [policy for policy in summary if policy not in STYLES][: len(OTHERS)]
    colors = dict(zip(others, OTHERS, strict=False))
    policies = [name for name in (BOUND, *others, BASE, OURS) if name in summary]
    traces = list(dict.fromkeys(cell.trace for cell in cells))
    columns = min(4, len(traces))
    rows = math.ceil(len(traces) / columns)
    figure, axes = pyplot.subplots(
        rows,
        columns,
        figsize=(max(7, 3.6 * columns), 4.2 if rows == 1 else 2.8 * rows),
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat[len(traces) :]:
        axis.remove()
    for axis, trace in zip(axes.flat, traces, strict=False):
        for policy in policies:
            points = [
                (cell.fraction, 100 * cell.ratios[policy][measure])
                for cell in cells
                if cell.trace == trace and policy in cell.ratios
            ]
            style = STYLES.get(policy, {"color": colors.get(policy), "linewidth": 1.2})
            axis.plot(*zip(*points, strict=True), label=policy, marker=".", **style)
        axis.set(title=trace, xscale="log")
        shares = sorted({cell.fraction for cell in cells if cell.trace == trace})
        axis.set_xticks(shares, [f"{100 * share:g} %" for share in shares], minor=False)
        axis.set_xticks([], minor=True)
        axis.grid(alpha=0.3)
    figure.supxlabel("size of the cache, as a share of the whole")
    figure.supylabel(f"hit ratio, % of {measure}")
    lines, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside right upper")
    figure.savefig(path, dpi=100, metadata={"Date": None} if path.suffix != ".png" else None)
    pyplot.close(figure)
