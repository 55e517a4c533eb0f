"""Replays traces through eviction policies and tells how much each of them hits.

Every policy starts empty, sees the same requests, and stores what it missed. Sizes of the cache are
shares of the trace's keys (of their total size with --units bytes); those that would hold fewer
than 32 entries are left out. LRU and Belady's offline bound are always run: a policy is judged by
the share of the gap between them that it closes. Where costs count, one reads what the misses cost
relative to LRU's.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from bench.policies import BASE, BOUND, MODULES, POLICIES, Policy
from bench.processes import run_apart
from bench.report import save
from bench.scoring import Cell, make_requests, score
from bench.summary import print_recoveries, print_summary, print_table, summarize
from bench.traces import SHIPPED, Trace, TraceError, chained, read_trace

SIZES = (0.001, 0.01, 0.05, 0.1, 0.25)
SMALLEST = 32  # entries; below, a cell tells about luck
UNITS = ("objects", "bytes", "cost")


class UsageError(Exception):
    """The command makes no sense."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m bench hit_ratio``."""
    add = parser.add_argument
    add("traces", nargs="*", type=Path, metavar="TRACE", help="files (default: the shipped trace)")
    add("--sizes", type=fractions, default=SIZES, metavar="F,F", help="shares, above 0 up to 1")
    add("--policies", default="", metavar="NAME,NAME", help="only these, of any kind")
    add("--peers", action="store_true", help="also other caches in Python, which takes longer")
    add(
        "--units",
        type=units,
        default=("objects",),
        metavar="UNIT,UNIT",
        help="what is counted: objects; bytes, in a cache bounded in bytes; cost, of the misses",
    )
    add(
        "--costs", type=positive_float, metavar="SIGMA", help="draw log-normal costs for all traces"
    )
    add("--chain", action="store_true", help="one trace after the other, to see who takes a change")
    add("--limit", type=positive, metavar="N", help="only the first N requests of a trace")
    add("--seed", type=int, default=1, help="of the costs that are drawn (default 1)")
    add("--jobs", type=positive, default=os.cpu_count() or 1, help="replays at a time")
    add("--json", type=Path, metavar="FILE", help="save every number here")
    add("--plot", type=Path, metavar="FILE", help="draw the curves here (.png, .svg, .pdf)")


def main(options: argparse.Namespace) -> None:
    """Replay, print the tables, save and draw; the exit code is 1 if a replay failed.

    What cannot be done at all is told in one line, with exit code 2.
    """
    try:
        cells = run(options)
    except (UsageError, TraceError) as error:
        print(f"hit_ratio: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    if any(cell.failed for cell in cells):
        raise SystemExit(1)


def run(options: argparse.Namespace) -> list[Cell]:
    """Do what the options say, and return every cell.

    Raises:
        UsageError, TraceError: nothing was replayed or nothing can be saved.
    """
    check_outputs(options)
    policies = chosen_policies(options)
    traces = [read_trace(path, options.limit) for path in options.traces or [SHIPPED]]
    if options.chain:
        traces = [chained(traces)]
    if "bytes" in options.units:
        for trace in traces:
            if trace.sizes is None:
                print(f"left out: {trace.name} has no sizes", file=sys.stderr)
        traces = [trace for trace in traces if trace.sizes is not None]
    if options.costs is not None:
        options.units = (*options.units, "cost")
    measures = [unit for unit in UNITS if unit in ("objects", *options.units)]
    cells: list[Cell] = []
    for trace in traces:
        found = replay(trace, policies, options)
        cells += found
        for measure in measures if found else ():
            print_table(trace, found, measure)
        if trace.changes:
            print_recoveries(trace, found)
    if not cells:
        raise UsageError(f"no trace has a size that leaves at least {SMALLEST} entries")
    summaries = {measure: summarize(cells, measure) for measure in measures}
    for measure, summary in summaries.items():
        print_summary(summary, cells, measure)
    if options.json:
        options.traces = [path.name for path in options.traces] or [SHIPPED.name]
        result = {"cells": [vars(cell) for cell in cells], "summary": summaries}
        save(options.json, options, [*MODULES, "numpy"], result)
    if options.plot:
        from bench.curves import draw

        draw(options.plot, cells, measures[-1], summaries[measures[-1]])
    return cells


def replay(trace: Trace, policies: list[Policy], options: argparse.Namespace) -> list[Cell]:
    """Replay the trace through every policy at every size."""
    requests = make_requests(trace, options.units, options.seed, options.costs)
    total = trace.footprint if "bytes" in options.units else trace.unique
    cells = {
        fraction: Cell(trace.name, len(trace.keys), trace.unique, fraction, int(fraction * total))
        for fraction in options.sizes
        if int(fraction * trace.unique) >= SMALLEST
    }
    for fraction in set(options.sizes) - set(cells):
        print(f"left out: {fraction:g} of {trace.name} is too small", file=sys.stderr)
    tasks = [(policy, fraction) for fraction in cells for policy in policies]
    work = partial(score, requests, trace.changes, dict(cells))
    for (policy, fraction), result, error in run_apart(work, tasks, options.jobs):
        if error:
            message = f"{policy.name} failed on {trace.name} at {fraction:g}: {error}"
            if policy.name in (BASE, BOUND):
                raise UsageError(message)
            print(message, file=sys.stderr)
            cells[fraction].failed[policy.name] = error
        else:
            ratios, recoveries = result
            cells[fraction].ratios[policy.name] = ratios
            cells[fraction].recoveries[policy.name] = recoveries
    return list(cells.values())


def chosen_policies(options: argparse.Namespace) -> list[Policy]:
    """The policies that were asked for and are installed; LRU and Belady always are."""
    names = [name.strip() for name in options.policies.split(",") if name.strip()]
    unknown = set(names) - {policy.name for policy in POLICIES}
    if unknown:
        known = ", ".join(policy.name for policy in POLICIES)
        raise UsageError(f"unknown policy {', '.join(sorted(unknown))}: expected some of {known}")
    found = [
        policy
        for policy in POLICIES
        if policy.name in (BASE, BOUND)
        or (policy.name in names if names else options.peers or not policy.peer)
    ]
    for package in sorted({package for policy in found if (package := policy.missing())}):
        print(f"left out: {package} is not installed (pip install --group bench)", file=sys.stderr)
    if "bytes" in options.units:
        for policy in found:
            if not policy.sized:
                print(f"left out: {policy.name} knows no sizes", file=sys.stderr)
        found = [policy for policy in found if policy.sized]
    return [policy for policy in found if not policy.missing()]


def check_outputs(options: argparse.Namespace) -> None:
    """Refuse before the work what could not be saved after it."""
    for path in filter(None, (options.json, options.plot)):
        if not path.parent.is_dir():
            raise UsageError(f"cannot write {path}: there is no directory {path.parent}")
    if options.plot and not find_spec("matplotlib"):
        raise UsageError("--plot needs matplotlib: pip install --group bench")
    if options.plot and options.plot.suffix not in (".png", ".svg", ".pdf"):
        raise UsageError(f"cannot draw {options.plot}: expected .png, .svg or .pdf")


def fractions(text: str) -> tuple[float, ...]:
    """Parse ``0.01,0.1``."""
    found = tuple(sorted({float(part) for part in text.split(",")}))
    if not all(0 < fraction <= 1 for fraction in found):
        raise argparse.ArgumentTypeError(f"expected shares above 0 up to 1, got {text}")
    return found


def units(text: str) -> tuple[str, ...]:
    """Parse ``bytes,cost``."""
    found = tuple(text.split(","))
    if not set(found) <= set(UNITS):
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(UNITS)}, got {text}")
    return found


def positive_float(text: str) -> float:
    """Parse a number above 0."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number


def positive(text: str) -> int:
    """Parse a whole number above 0."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text}")
    return number
