"""Compares caches on disk: operations, arrays viewed in place, and processes that read together.

Operations are measured as by ``ratios``. Then two processes open one directory, and in every round
one of them reads alone, and then both at the same time. What is told is how much the two read in
the time of one, on the processor clock of the reader.
"""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench.operations import batched, compile_loop, disk_operations, view_operation
from bench.peers import DISK
from bench.ratios import compare
from bench.report import cell, installed, print_row, print_title, save, spread

if TYPE_CHECKING:
    import argparse
    from multiprocessing.synchronize import Barrier

    from bench.operations import Operation
    from bench.peers import Peer

READ_TOGETHER = ("get", "get_many")
_READY_SECONDS = 60
_TURN_NS = 50_000_000

_together: Barrier
"""Of the processes that read at the same time; set in each of them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m bench disk``."""
    parser.add_argument("--rounds", type=int, default=15, help="at least 9 for a fact (default 15)")
    parser.add_argument("--seed", type=int, default=1, help="of keys, orders and draws (default 1)")
    parser.add_argument(
        "--steps", type=int, default=1_000, help="operations in a round (default 1000)"
    )
    parser.add_argument("--megabytes", type=int, default=100, help="held per size of value")
    parser.add_argument("--only", default="", help="only operations whose name contains this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every number here")


def main(options: argparse.Namespace) -> None:
    """Measure, print the tables, and save everything if asked to."""
    rng = Random(options.seed)
    peers = list(filter(installed, DISK))
    operations = disk_operations(options.steps, options.megabytes)
    results: dict[str, Any] = {}
    for title, measured in (
        ("Disk, ratios to py-lmdb", operations),
        ("Arrays on disk, ratios to py-lmdb", [view_operation(options.steps)]),
    ):
        wanted = [operation for operation in measured if options.only in operation.name]
        if wanted:
            print_title(title, peers, options)
            results[title] = compare(wanted, peers, options.rounds, rng)
    together = {
        f"{operation.name}, 2 processes": operation
        for operation in operations
        if operation.statement in READ_TOGETHER and "miss" not in operation.name
    }
    wanted_together = {name: one for name, one in together.items() if options.only in name}
    if wanted_together:
        title = "Disk, how much two processes read in the time of one"
        print(f"\n{title} (median of {options.rounds} rounds)\n")
        print_row("", [peer.name for peer in peers])
        results[title] = {
            name: measure_together(name, operation, peers, options)
            for name, operation in wanted_together.items()
        }
    if options.json:
        distributions = (peer.distribution for peer in DISK if peer.distribution)
        save(options.json, options, distributions, {"results": results})


def measure_together(
    name: str, operation: Operation, peers: list[Peer], options: argparse.Namespace
) -> dict[str, Any]:
    """Print and return, for each peer, how many times as much two processes read as one."""
    found = {}
    for peer in peers:
        if peer.statement(operation.statement) is None:
            continue
        with TemporaryDirectory() as directory:
            with peer.make(Path(directory)) as cache:
                batches = batched(operation.stored(), 1000)
                items = [dict.fromkeys(keys, operation.value) for keys in batches]
                compile_loop(peer.statements["set_many"], "items")(cache, items, None)
            alone, both = read_in_two_processes(peer, operation, directory, options)
            times = [2 * one / other for one, other in zip(alone, both, strict=True)]
        found[peer.name] = {"times": spread(times)}
    print_row(name, [cell(found[p.name]["times"]) if p.name in found else "" for p in peers])
    return found


def read_in_two_processes(
    peer: Peer, operation: Operation, directory: str, options: argparse.Namespace
) -> tuple[list[float], list[float]]:
    """Nanoseconds of one process per round: while it reads alone, and while both do."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context, _join, (context.Barrier(2),)) as processes:
        spent, _ = [
            processes.submit(
                _read,
                peer.name,
                peer.statements[operation.statement],
                operation.over,
                directory,
                operation.work(Random(options.seed + alone), 0),
                [alone, True] * options.rounds,
            )
            for alone in (True, False)
        ]
        times = spent.result()
    return times[0::2], times[1::2]


def _join(barrier: Barrier) -> None:
    global _together
    _together = barrier


def _read(
    name: str, statement: str, over: str, directory: str, work: list[Any], turns: list[bool]
) -> list[float]:
    """Read in those turns that are ours, each begun together; nanoseconds per pass of each."""
    loop = compile_loop(statement, over)
    (peer,) = (peer for peer in DISK if peer.name == name)
    spent = []
    with peer.make(Path(directory)) as cache:
        loop(cache, work, None)
        started = time.process_time_ns()
        loop(cache, work, None)
        passes = 1 + _TURN_NS // (time.process_time_ns() - started)
        for ours in turns:
            _together.wait(_READY_SECONDS)
            if ours:
                started = time.process_time_ns()
                for _ in range(passes):
                    loop(cache, work, None)
                spent.append((time.process_time_ns() - started) / passes)
    return spent
