"""Compares caches by the ratios of interleaved rounds, which hold on a noisy machine.

In every round each peer does the same work, one after the other in an order drawn anew, on the
processor clock of the process; an empty loop over the same work is subtracted. A ratio is taken
within a round, and the median over the rounds is reported with its 10th and 90th percentile.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import platform
import sys
import time
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from random import Random
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

from bench.footprint import bytes_per_entry
from bench.operations import (
    Operation,
    compile_loop,
    disk_operations,
    large_operation,
    memory_operations,
)
from bench.peers import DISK, MEMORY, Peer

if TYPE_CHECKING:
    import argparse

OURS = "hybridcore"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m bench ratios``."""
    parser.add_argument("--rounds", type=int, default=15, help="at least 9 for a fact (default 15)")
    parser.add_argument("--seed", type=int, default=1, help="of keys, orders and draws (default 1)")
    parser.add_argument(
        "--steps", type=int, default=20_000, help="operations in a round, in memory"
    )
    parser.add_argument(
        "--disk-steps", type=int, default=1_000, help="operations in a round, on disk"
    )
    parser.add_argument("--megabytes", type=int, default=100, help="held on disk per size of value")
    parser.add_argument("--only", default="", help="only operations whose name contains this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every number here")


def main(options: argparse.Namespace) -> None:
    """Measure, print the tables, and save everything if asked to."""
    rng = Random(options.seed)
    memory = [*memory_operations(options.steps), large_operation(options.steps)]
    disk = disk_operations(options.disk_steps, options.megabytes)
    results = {}
    for title, operations, peers in (
        ("Memory, ratios to a dict", memory, MEMORY),
        ("Disk, ratios to py-lmdb", disk, DISK),
    ):
        peers = list(filter(installed, peers))
        wanted = [operation for operation in operations if options.only in operation.name]
        if wanted:
            print(f"\n{title} (seed {options.seed}, median of {options.rounds} rounds)\n")
            print_row("", [f"{peers[0].name}, ns", *(p.name for p in peers[1:]), f"{OURS}/best"])
            results[title] = compare(wanted, peers, options.rounds, rng)
    if options.only in "bytes per entry":
        results["Memory, bytes per entry"] = print_footprints(list(filter(installed, MEMORY)))
    if options.json:
        report = {"conditions": conditions(options), "results": results}
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def installed(peer: Peer) -> bool:
    """Whether the peer is there; says so if it is not."""
    try:
        return peer.distribution is None or bool(metadata.version(peer.distribution))
    except metadata.PackageNotFoundError:
        print(f"{peer.name} is left out: {peer.distribution} is not installed", file=sys.stderr)
        return False


def compare(
    operations: list[Operation], peers: list[Peer], rounds: int, rng: Random
) -> dict[str, Any]:
    """Measure and print each operation; those that hold the same entries share the caches."""
    results = {}
    for _, sharing in itertools.groupby(operations, key=lambda operation: operation.stored):
        with ExitStack() as closing:
            caches: dict[str, Any] = {}
            for operation in sharing:
                work = [operation.work(rng) for _ in range(rounds + 1)]  # one more to warm up
                measured = interleave(operation, peers, work, rng, caches, closing)
                numbers = results[operation.name] = print_result(operation, peers, measured)
                if operation.statement == "read":
                    print_hit_ratios(operation, peers, work[0], numbers)
    return results


def interleave(
    operation: Operation,
    peers: list[Peer],
    rounds: list[list[Any]],
    rng: Random,
    caches: dict[str, Any],
    closing: ExitStack,
) -> dict[str, list[float]]:
    """Nanoseconds per entry of each peer in each round but the first."""
    loops = {peer.name: (peer, loop) for peer in peers if (loop := operation.loop(peer))}
    empty = compile_loop("pass", operation.over)
    nanoseconds: dict[str, list[float]] = {name: [] for name in loops}
    gc.collect()
    for work in rounds:
        floor = clocked(empty, None, work, None)
        for name in rng.sample(list(loops), len(loops)):
            peer, loop = loops[name]
            if operation.fresh or name not in caches:
                caches[name] = operation.cache(peer, closing)
            spent = clocked(loop, caches[name], work, operation.value) - floor
            nanoseconds[name].append(max(spent, 1) / len(work) / operation.entries)
    return {name: measured[1:] for name, measured in nanoseconds.items()}


def clocked(loop: Any, cache: Any, work: list[Any], value: Any) -> int:
    """Nanoseconds of processor time that the loop took."""
    gc.disable()
    try:
        start = time.process_time_ns()
        loop(cache, work, value)
        return time.process_time_ns() - start
    finally:
        gc.enable()


def print_result(
    operation: Operation, peers: list[Peer], measured: dict[str, list[float]]
) -> dict[str, Any]:
    """Print the line of one operation, and return its numbers by peer."""
    base = measured[peers[0].name]
    numbers: dict[str, Any] = {
        name: {"ns": spread(times), "ratio": spread(quotients(times, base))}
        for name, times in measured.items()
    }
    cells = [f"{median(base):.0f}"]
    cells += [cell(numbers[p.name]["ratio"]) if p.name in numbers else "" for p in peers[1:]]
    others = [p.name for p in peers[1:] if p.name in measured and not p.name.startswith(OURS)]
    if OURS in measured and others:
        best = min(others, key=lambda name: median(measured[name]))
        ratio = spread(quotients(measured[OURS], measured[best]))
        numbers[OURS] |= {"best peer": best, "ratio to best peer": ratio}
        cells.append(cell(ratio))
    print_row(operation.name, cells)
    return numbers


def print_hit_ratios(
    operation: Operation, peers: list[Peer], work: list[Any], numbers: dict[str, Any]
) -> None:
    """Print the share of lookups of a read-through that found something, and note it."""
    cells = []
    for peer in peers:
        share = hit_ratio(operation, peer, work)
        cells.append("" if share is None else f"{share:.3f}")
        numbers.setdefault(peer.name, {})["hit ratio"] = share
    print_row("  its hit ratio", cells)


def hit_ratio(operation: Operation, peer: Peer, work: list[Any]) -> float | None:
    """Share of the lookups that found something; None where a miss cannot be told from a hit."""
    statements = peer.statements
    if "set" not in statements:
        return None
    missed: list[Any] = []  # goes in as the value, so that the statement can note a miss
    note = f"if {statements['get']} is None:\n    v.append(k)\n    {statements['set']}"
    with ExitStack() as closing:
        compile_loop(note, operation.over)(operation.cache(peer, closing), work, missed)
    return 1 - len(missed) / len(work)


def print_footprints(peers: list[Peer]) -> dict[str, dict[str, float | None]]:
    """Measure and print the bytes per entry, and return them by kind of key and peer."""
    found = {}
    for kind in ("int", "str"):
        sizes = {peer.name: bytes_per_entry(peer, kind) for peer in peers}
        cells = ["" if size is None else f"{size:.0f} B" for size in sizes.values()]
        print_row(f"bytes per entry, {kind}", cells)
        found[kind] = sizes
    return found


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
    print(f"{title:24}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


def conditions(options: argparse.Namespace) -> dict[str, Any]:
    """Everything one needs to know to repeat the run."""
    distributions = {peer.distribution for peer in MEMORY + DISK if peer.distribution}
    return {
        "options": {name: str(value) for name, value in vars(options).items() if name != "run"},
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler": platform.python_compiler(),
        "machine": platform.platform(),
        "processors": os.cpu_count(),
        "load before": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "versions": {name: metadata.version(name) for name in sorted(distributions)},
    }
