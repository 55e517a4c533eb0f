"""Prints what ``ratios --json`` saved as the Markdown tables of ``docs/benchmarks.md``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m bench table``."""
    parser.add_argument("file", type=Path, help="what ratios --json wrote")


def main(options: argparse.Namespace) -> None:
    """Print one table per tier: a line per operation, a column per peer."""
    report = json.loads(options.file.read_text())
    for title, operations in report["results"].items():
        peers = list(dict.fromkeys(peer for numbers in operations.values() for peer in numbers))
        print(f"\n## {title}\n")
        print_row("", peers)
        print_row("---", ["--:"] * len(peers))
        for operation, numbers in operations.items():
            print_row(operation, [cell(numbers.get(peer)) for peer in peers])


def cell(measured: Any) -> str:
    """The ratio and, where noted, the hit ratio; or the bytes; or nothing."""
    if isinstance(measured, float):
        return f"{measured:.0f} B"
    if not measured or "ratio" not in measured:
        return ""
    ratio = measured["ratio"]["median"]
    if ratio == 1 == measured["ratio"]["p90"]:
        return f"{measured['ns']['median']:.0f} ns"  # the yardstick
    shown = f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"
    return f"{shown} ({measured['hit ratio']:.1%})" if measured.get("hit ratio") else shown


def print_row(title: str, cells: list[str]) -> None:
    """One line of a Markdown table."""
    print(f"| {' | '.join([title, *cells])} |")
