"""Replays traces through eviction policies and tells how much each of them hits.

Every policy starts empty, sees the same requests, and stores what it missed. Sizes of the cache are
shares of the trace's keys (of their total size with --units bytes); those that would hold fewer
than 32 entries are left out. LRU and Belady's offline bound are always run: a policy is judged by
the share of the gap between them that it closes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from bench.policies import BASE, BOUND, MODULES, POLICIES, Policy, Requests
from bench.processes import run_apart
from bench.summary import Cell, print_summary, print_table, summarize
from bench.traces import SHIPPED, Trace, TraceError, read_trace

SIZES = (0.001, 0.01, 0.05, 0.1, 0.25)
SMALLEST = 32  # entries; below, a cell tells about luck
COST_SIGMA = 1.0  # of the log-normal costs that are drawn where a trace has none


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
        choices=("objects", "bytes", "cost"),
        default="objects",
        help="what is counted: entries; bytes, in a cache bounded in bytes; the cost of misses",
    )
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
    if options.units == "bytes":
        for trace in traces:
            if trace.sizes is None:
                print(f"left out: {trace.name} has no sizes", file=sys.stderr)
        traces = [trace for trace in traces if trace.sizes is not None]
    measures = list(dict.fromkeys(["objects", options.units]))
    cells: list[Cell] = []
    for trace in traces:
        found = replay(trace, policies, options)
        cells += found
        for measure in measures if found else ():
            print_table(trace, found, measure)
    if not cells:
        raise UsageError(f"no trace has a size that leaves at least {SMALLEST} entries")
    summaries = {measure: summarize(cells, measure) for measure in measures}
    for measure, summary in summaries.items():
        print_summary(summary, cells, measure)
    if options.json:
        result = {
            "conditions": conditions(options),
            "cells": [vars(cell) for cell in cells],
            "summary": summaries,
        }
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.plot:
        from bench.curves import draw

        draw(options.plot, cells, options.units, summaries[options.units])
    return cells


def replay(trace: Trace, policies: list[Policy], options: argparse.Namespace) -> list[Cell]:
    """Replay the trace through every policy at every size."""
    requests = make_requests(trace, options.units, options.seed)
    total = trace.footprint if options.units == "bytes" else trace.unique
    cells = {
        fraction: Cell(trace.name, len(trace.keys), trace.unique, fraction, int(fraction * total))
        for fraction in options.sizes
        if int(fraction * trace.unique) >= SMALLEST
    }
    for fraction in set(options.sizes) - set(cells):
        print(f"left out: {fraction:g} of {trace.name} is too small", file=sys.stderr)
    tasks = [(policy, fraction) for fraction in cells for policy in policies]
    work = partial(score, requests, {fraction: cell.capacity for fraction, cell in cells.items()})
    for (policy, fraction), ratios, error in run_apart(work, tasks, options.jobs):
        if error:
            message = f"{policy.name} failed on {trace.name} at {fraction:g}: {error}"
            if policy.name in (BASE, BOUND):
                raise UsageError(message)
            print(message, file=sys.stderr)
            cells[fraction].failed[policy.name] = error
        else:
            cells[fraction].ratios[policy.name] = ratios
    return list(cells.values())


def score(
    requests: Requests, capacities: dict[float, int], task: tuple[Policy, float]
) -> dict[str, float]:
    """Under each measure, the share that was hit."""
    policy, fraction = task
    capacity = capacities[fraction]
    if policy.offline:
        return {
            measure: share(gains, policy.replay(requests, capacity, gains))
            for measure, gains in requests.gains.items()
        }
    missed = policy.replay(requests, capacity)
    return {measure: share(gains, missed) for measure, gains in requests.gains.items()}


def share(gains: np.ndarray, missed: list[int]) -> float:
    """What the hits are worth, as a share of all requests' worth."""
    return float(1 - gains[missed].sum() / gains.sum())


def make_requests(trace: Trace, units: str, seed: int) -> Requests:
    """What the policies get to see of a trace, and what a hit is worth."""
    ones = np.ones(len(trace.keys))
    gains = {"objects": ones}
    sizes = np.ones_like(trace.keys)
    costs = ones
    if units == "bytes":
        assert trace.sizes is not None
        sizes = trace.sizes
        gains["bytes"] = sizes.astype(np.float64)
    elif units == "cost":
        costs = drawn_costs(trace, seed) if trace.costs is None else trace.costs
        gains["cost"] = costs
    return Requests(trace.keys.tolist(), sizes.tolist(), costs.tolist(), gains)


def drawn_costs(trace: Trace, seed: int) -> np.ndarray:
    """A log-normal cost for each key, for traces that have none."""
    rng = Random(seed)
    print(f"{trace.name} has no costs: they are drawn, log-normal with sigma {COST_SIGMA:g}")
    costs = np.array([rng.lognormvariate(0, COST_SIGMA) for _ in range(trace.unique)])
    return costs[trace.keys]


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
    if options.units == "bytes":
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


def positive(text: str) -> int:
    """Parse a whole number above 0."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text}")
    return number


def conditions(options: argparse.Namespace) -> dict[str, Any]:
    """Everything one needs to know to repeat the run."""
    told = {name: value for name, value in vars(options).items() if name != "run"}
    told["traces"] = [path.name for path in options.traces] or [SHIPPED.name]
    return {
        "options": {name: str(value) for name, value in told.items()},
        "seed": options.seed,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": platform.platform(),
        "processors": os.cpu_count(),
        "versions": {
            name: metadata.version(name)
            for name in sorted({*MODULES, "numpy"})
            if find_spec(MODULES.get(name, name))
        },
    }
