"""Compares caches by the ratios of interleaved rounds, which hold on a noisy machine.

In every round each peer does the same work, one after the other in an order drawn anew, on the
processor clock of the process; an empty loop over the same work is subtracted. A ratio is taken
within a round, and the median over the rounds is reported with its 10th and 90th percentile.
"""

from __future__ import annotations

import gc
import itertools
import time
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from bench.footprint import bytes_per_entry
from bench.operations import (
    Operation,
    compile_loop,
    disk_operations,
    large_operation,
    memory_operations,
)
from bench.peers import DISK, MEMORY, TTL, Peer
from bench.report import (
    OURS,
    cell,
    installed,
    print_result,
    print_row,
    print_title,
    save,
    spread,
)

if TYPE_CHECKING:
    import argparse

REPLAYED = 16  # rounds that a hit ratio is taken from, however many are timed: it rises for long


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
            print_title(title, peers, options)
            results[title] = compare(wanted, peers, options.rounds, rng)
    if options.only in "bytes per entry":
        results["Memory, bytes per entry"] = print_footprints(list(filter(installed, MEMORY)))
    if options.json:
        distributions = (peer.distribution for peer in MEMORY + DISK if peer.distribution)
        save(options.json, options, distributions, {"results": results})


def compare(
    operations: list[Operation], peers: list[Peer], rounds: int, rng: Random
) -> dict[str, Any]:
    """Measure and print each operation; those that hold the same entries share the caches."""
    results = {}
    for _, sharing in itertools.groupby(operations, key=lambda operation: operation.stored):
        with ExitStack() as closing:
            caches: dict[str, Any] = {}
            for operation in sharing:
                work = [operation.work(rng, turn) for turn in range(rounds + 1)]  # one to warm up
                measured = interleave(operation, peers, work, rng, caches, closing)
                numbers = results[operation.name] = print_result(operation.name, peers, measured)
                hit = operation.statement in ("get", "[k]") and "miss" not in operation.name
                if hit and {OURS, TTL} <= set(measured):
                    numbers[TTL]["added ns"] = print_added(measured)
                if operation.statement == "read":
                    more = range(len(work), REPLAYED)
                    work += [operation.work(rng, turn) for turn in more]
                    print_hit_ratios(operation, peers, work[:REPLAYED], numbers)
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
            if name not in caches:
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


def print_added(measured: dict[str, list[float]]) -> dict[str, float]:
    """Print how many nanoseconds a hit takes longer when entries expire, and return it."""
    added = [own - plain for own, plain in zip(measured[TTL], measured[OURS], strict=True)]
    found = spread(added)
    print_row("  ns added by a ttl", [cell(found)])
    return found


def print_hit_ratios(
    operation: Operation, peers: list[Peer], work: list[list[Any]], numbers: dict[str, Any]
) -> None:
    """Print the share of lookups of a read-through that found something, and note it."""
    cells = []
    for peer in peers:
        share = hit_ratio(operation, peer, work)
        cells.append("" if share is None else f"{share:.3f}")
        numbers.setdefault(peer.name, {})["hit ratio"] = share
    print_row("  its hit ratio", cells)


def hit_ratio(operation: Operation, peer: Peer, rounds: list[list[Any]]) -> float | None:
    """Share of the lookups that found something in the second half of the rounds.

    None where a miss cannot be told from a hit.
    """
    statements = peer.statements
    if "set" not in statements:
        return None
    missed: list[Any] = []  # goes in as the value, so that the statement can note a miss
    note = f"if {statements['get']} is None:\n    v.append(k)\n    {statements['set']}"
    with ExitStack() as closing:
        cache = operation.cache(peer, closing)
        for turn, work in enumerate(rounds):
            if turn == len(rounds) // 2:
                missed.clear()
            compile_loop(note, operation.over)(cache, work, missed)
    return 1 - len(missed) / sum(map(len, rounds[len(rounds) // 2 :]))


def print_footprints(peers: list[Peer]) -> dict[str, dict[str, float | None]]:
    """Measure and print the bytes per entry, and return them by kind of key and peer."""
    found = {}
    for kind in ("int", "str"):
        sizes = {peer.name: bytes_per_entry(peer, kind) for peer in peers}
        cells = ["" if size is None else f"{size:.0f} B" for size in sizes.values()]
        print_row(f"bytes per entry, {kind}", cells)
        found[kind] = sizes
    return found
