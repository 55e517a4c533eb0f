"""Ratios within rounds, the lines that show them, and the JSON with all that a repetition needs."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib import metadata
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable
    from pathlib import Path

    from bench.peers import Peer

OURS = "hybridcore"


def print_title(title: str, peers: list[Peer], options: argparse.Namespace) -> None:
    """Print what follows, and the names of the columns."""
    print(f"\n{title} (seed {options.seed}, median of {options.rounds} rounds)\n")
    print_row("", [f"{peers[0].name}, ns", *(p.name for p in peers[1:]), f"{OURS}/best"])


def print_result(
    title: str, peers: list[Peer], measured: dict[str, list[float]]
) -> dict[str, dict[str, Any]]:
    """Print one line, ratios to the first peer, and return its numbers by peer."""
    base = measured[peers[0].name]
    numbers: dict[str, dict[str, Any]] = {
        name: {"ns": spread(times), "ratio": spread(quotients(times, base))}
        for name, times in measured.items()
    }
    cells = [f"{median(base):.0f}"]
    cells += [cell(numbers[p.name]["ratio"]) if p.name in numbers else "" for p in peers[1:]]
    own = (OURS, peers[0].name)  # a yardstick used in two ways is still one
    others = [p.name for p in peers[1:] if p.name in measured and not p.name.startswith(own)]
    if OURS in measured and others:
        best = min(others, key=lambda name: median(measured[name]))
        ratio = spread(quotients(measured[OURS], measured[best]))
        numbers[OURS] |= {"best peer": best, "ratio to best peer": ratio}
        cells.append(cell(ratio))
    print_row(title, cells)
    return numbers


def quotients(times: list[float], base: list[float]) -> list[float]:
    """Ratios within each round."""
    return [one / other for one, other in zip(times, base, strict=True)]


def spread(values: list[float]) -> dict[str, float]:
    """Median and percentiles, rounded for reading."""
    deciles = quantiles(values, n=10, method="inclusive")
    found = {"median": median(values), "p10": deciles[0], "p90": deciles[-1], "min": min(values)}
    return {name: round(value, 3) for name, value in found.items()}


def cell(ratio: dict[str, float]) -> str:
    """The median, and half the way from the 10th to the 90th percentile."""
    middle, half = ratio["median"], (ratio["p90"] - ratio["p10"]) / 2
    return f"{middle:.2f}±{half:.2f}" if middle < 10 else f"{middle:.0f}±{half:.0f}"


def print_row(title: str, cells: list[str]) -> None:
    """One line of a table."""
    print(f"{title:39}" + "".join(f"{cell:>15}" for cell in cells), flush=True)


def save(
    path: Path, options: argparse.Namespace, distributions: Iterable[str], results: dict[str, Any]
) -> None:
    """Write the results, and everything one needs to know to repeat the run."""
    told = {name: str(value) for name, value in vars(options).items() if name != "run"}
    conditions = {
        "options": told,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler": platform.python_compiler(),
        "machine": platform.platform(),
        "processors": os.cpu_count(),
        "load after": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "versions": {
            name: found for name in sorted(set(distributions)) if (found := version(name))
        },
    }
    path.write_text(json.dumps({"conditions": conditions, **results}, indent=1) + "\n")


def version(distribution: str) -> str | None:
    """Its version, or None where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def installed(peer: Peer) -> bool:
    """Whether the peer is there; says so if it is not."""
    missing = peer.missing()
    if missing:
        print(f"{peer.name} is left out: {missing}", file=sys.stderr)
    return not missing
