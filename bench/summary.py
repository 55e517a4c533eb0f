"""Sums up hit ratios: tables per trace, and how policies stand over all cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.policies import BASE, BOUND
from bench.scoring import STEADY

if TYPE_CHECKING:
    from bench.scoring import Cell
    from bench.traces import Trace

NEAR = 0.005  # half a point
WORTH = {"objects": "their number", "bytes": "their bytes", "cost": "their cost"}


def closed(cells: list[Cell], policy: str, measure: str) -> float | None:
    """The share of the gap from LRU to Belady that the policy closes, all cells pooled."""
    mine = [cell.ratios for cell in cells if policy in cell.ratios]
    gap = sum(ratios[BOUND][measure] - ratios[BASE][measure] for ratios in mine)
    gain = sum(ratios[policy][measure] - ratios[BASE][measure] for ratios in mine)
    return gain / gap if gap > 0 else None


def summarize(cells: list[Cell], measure: str) -> dict[str, dict[str, Any]]:
    """How each policy stands, the one that closes most of the gap first.

    ``mean``: of its hit ratios. ``worst``: its least lead over LRU, and ``worst cell`` where.
    ``misses``: what its misses are worth relative to LRU's, on average; ``most`` and ``most cell``:
    where that is highest. ``near``: in how many cells it is at most half a point behind the best of
    the others (Belady not counted).
    """
    found = {}
    for policy in dict.fromkeys(name for cell in cells for name in cell.ratios):
        mine = [cell for cell in cells if policy in cell.ratios]
        worst = min(mine, key=lambda cell: lead(cell, policy, measure))
        most = max(mine, key=lambda cell: misses(cell, policy, measure))
        found[policy] = {
            "closed": closed(mine, policy, measure),
            "mean": sum(cell.ratios[policy][measure] for cell in mine) / len(mine),
            "worst": lead(worst, policy, measure),
            "worst cell": f"{worst.trace} at {worst.fraction:g}",
            "misses": sum(misses(cell, policy, measure) for cell in mine) / len(mine),
            "most": misses(most, policy, measure),
            "most cell": f"{most.trace} at {most.fraction:g}",
            "near": sum(
                cell.ratios[policy][measure] >= best_other(cell, policy, measure) - NEAR
                for cell in mine
            ),
            "cells": len(mine),
        }
    return dict(sorted(found.items(), key=lambda item: -(item[1]["closed"] or 0)))


def lead(cell: Cell, policy: str, measure: str) -> float:
    """How far the policy is above LRU."""
    return cell.ratios[policy][measure] - cell.ratios[BASE][measure]


def misses(cell: Cell, policy: str, measure: str) -> float:
    """What its misses are worth where LRU's are worth 1; 1 where LRU misses nothing."""
    base = 1 - cell.ratios[BASE][measure]
    return (1 - cell.ratios[policy][measure]) / base if base else 1.0


def best_other(cell: Cell, policy: str, measure: str) -> float:
    """The highest hit ratio of the other policies that do not know the future."""
    others = set(cell.ratios) - {policy, BOUND}
    return max((cell.ratios[name][measure] for name in others), default=0.0)


def print_table(trace: Trace, cells: list[Cell], measure: str) -> None:
    """One line per policy, one column per size, and the share of the gap that is closed."""
    print(f"\n{trace.name}: {len(trace.keys):,} requests for {trace.unique:,} keys, % of {measure}")
    print_row("of all", [f"{cell.fraction:g}" for cell in cells] + ["closed"])
    print_row("capacity", [f"{cell.capacity:,}" for cell in cells])
    for policy, row in summarize(cells, measure).items():
        ratios = [cell.ratios.get(policy) for cell in cells]
        shown = [percent(None if ratio is None else ratio[measure], 2) for ratio in ratios]
        print_row(policy, [*shown, percent(row["closed"])])


def print_recoveries(trace: Trace, cells: list[Cell]) -> None:
    """After each change, the turnovers until a policy hits as it will, and what it hits then."""
    print(f"\n{trace.name}: turnovers to {STEADY:.0%} of the new hit ratio, and that ratio, %")
    print_row("of all", [f"{cell.fraction:g}" for cell in cells])
    for i, change in enumerate(trace.changes):
        print(f"after request {change:,}")
        for policy in dict.fromkeys(name for cell in cells for name in cell.recoveries):
            found = [cell.recoveries[policy][i] for cell in cells if policy in cell.recoveries]
            print_row(policy, [f"{turns or 'never'} ({percent(hit)})" for turns, hit in found])


def print_summary(summary: dict[str, dict[str, Any]], cells: list[Cell], measure: str) -> None:
    """One line per policy over all cells."""
    traces = len({cell.trace for cell in cells})
    print(f"\nAll together: {len(cells)} cells of {traces} traces, {measure}")
    print_row(
        "",
        [
            "closed",
            "mean",
            "worst",
            "near best",
            "misses",
            "at most",
            "  its worst cell, most misses",
        ],
    )
    for policy, row in summary.items():
        near = f"{row['near']}/{row['cells']}"
        shown = [percent(row["closed"]), percent(row["mean"]), percent(row["worst"]), near]
        shown += [f"{row['misses']:.3f}", f"{row['most']:.3f}"]
        print_row(policy, [*shown, f"  {row['worst cell']}, {row['most cell']}"])
    print(
        f"closed: % of the gap from {BASE} to {BOUND}, pooled. mean: hit ratio, %. worst: points "
        f"above {BASE}.\nnear best: cells at most {NEAR * 100:g} points behind the best of the "
        f"others. misses: {WORTH[measure]}, {BASE} = 1, mean of the cells; at most: highest."
    )


def percent(ratio: float | None, digits: int = 1) -> str:
    """A share in percent; nothing is shown as -0."""
    return "" if ratio is None else f"{round(ratio * 100, digits) + 0.0:.{digits}f}"


def print_row(title: str, cells: list[str]) -> None:
    """One line of a table."""
    print(f"{title:16}" + "".join(f"{cell:>12}" for cell in cells), flush=True)
