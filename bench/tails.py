"""Times every single call, to tell how slow the slow ones are, in ratios of interleaved rounds.

Reads run in 1, 2 and 4 threads that do the same work at the same time; writes that evict, and reads
through, in one. The clock is the wall's, and reading it counts in. Then a cache of a million
entries is made small while another thread reads: how long that thread waits at most is told, and
how long it takes. A dict drops its keys one by one there, so that its reader waits for its turn.
"""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from random import Random
from threading import Barrier, Event, Lock
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.operations import KEYS, compile_loop, memory_operations
from bench.peers import MEMORY
from bench.report import installed, print_result, print_title, save

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from bench.operations import Operation
    from bench.peers import Peer

PERCENTILES = {"p50": 50, "p99": 99, "p99.9": 99.9, "max": 100}
THREADS = {
    "get int": (1, 2, 4),
    "get str": (1, 2, 4),
    "set int, evicting": (1,),
    "set int, evicting, 100 k entries": (1,),
    "read-through int, zipf + once": (1,),
}
"""In how many threads each operation is measured."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m bench tails``."""
    parser.add_argument("--rounds", type=int, default=9, help="at least 9 for a fact (default 9)")
    parser.add_argument("--seed", type=int, default=1, help="of keys, orders and draws (default 1)")
    parser.add_argument(
        "--steps", type=int, default=100_000, help="calls of a thread in a round (default 100000)"
    )
    parser.add_argument(
        "--entries", type=int, default=1_000_000, help="dropped while another thread reads"
    )
    parser.add_argument("--only", default="", help="only operations whose name contains this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every number here")


def main(options: argparse.Namespace) -> None:
    """Measure, print the tables, and save everything if asked to."""
    rng = Random(options.seed)
    peers = list(filter(installed, MEMORY))
    found: dict[str, Any] = {}
    print_title("One call, ratios to a dict", peers, options)
    for operation in memory_operations(options.steps):
        for threads in THREADS.get(operation.name, ()):
            name = f"{operation.name}, {threads} thread{'s' * (threads > 1)}"
            if options.only in name:
                found |= measure(name, operation, threads, peers, options.rounds, rng)
    results = {"One call, ratios to a dict": found}
    if options.only in "shrink":
        title = f"Dropping {options.entries:,} entries, ratios to a dict"
        print_title(title, peers, options)
        results[title] = measure_shrinking(peers, options.entries, options.rounds, rng)
    if options.json:
        distributions = (peer.distribution for peer in MEMORY if peer.distribution)
        save(options.json, options, distributions, {"results": results})


def measure(
    name: str, operation: Operation, threads: int, peers: list[Peer], rounds: int, rng: Random
) -> dict[str, Any]:
    """Print and return a line for each percentile of all calls of a round."""
    with ExitStack() as closing:
        timed = {
            peer.name: (loop, operation.cache(peer, closing))
            for peer in peers
            if (loop := timed_loop(operation, peer, threads))
        }
        measured: dict[str, dict[str, list[float]]] = {
            percentile: {name: [] for name in timed} for percentile in PERCENTILES
        }
        for turn in range(rounds + 1):  # one more to warm up
            works = [operation.work(rng, turn * threads + i) for i in range(threads)]
            for peer in rng.sample(list(timed), len(timed)):
                calls = time_calls(*timed[peer], works, operation.value)
                for percentile, percent in PERCENTILES.items() if turn else ():
                    value = float(np.percentile(calls, percent, method="higher"))
                    measured[percentile][peer].append(value)
    return {
        f"{name}, {percentile}": print_result(f"{name}, {percentile}", peers, times)
        for percentile, times in measured.items()
    }


def timed_loop(operation: Operation, peer: Peer, threads: int) -> Callable[..., None] | None:
    """Return ``loop(cache, work, value, clock, note, lock)``, which notes the time of each call."""
    statement = peer.statement(operation.statement)
    if statement is None:
        return None
    if threads > 1 and peer.wants_lock:
        statement = f"with lock: {statement}"
    lines = f"start = clock()\n{statement}\nnote(clock() - start)"
    return compile_loop(lines, operation.over, "clock, note, lock")


def time_calls(loop: Callable[..., None], cache: Any, works: list[Any], value: Any) -> np.ndarray:
    """Go through each work in a thread of its own, all at once; nanoseconds of every call."""
    together, lock = Barrier(len(works)), Lock()

    def run(work: list[Any]) -> list[int]:
        spent: list[int] = []
        together.wait()
        loop(cache, work, value, perf_counter_ns, spent.append, lock)
        return spent

    gc.collect()
    gc.disable()
    try:
        with ThreadPoolExecutor(len(works)) as pool:
            return np.concatenate(list(pool.map(run, works)))
    finally:
        gc.enable()


def measure_shrinking(
    peers: list[Peer], entries: int, rounds: int, rng: Random
) -> dict[str, dict[str, dict[str, Any]]]:
    """Print and return how long a reader waits at most while the cache shrinks, and the whole."""
    keys = list(map(KEYS["int"], range(entries + entries // 100)))
    waits: dict[str, list[float]] = {peer.name: [] for peer in peers if peer.statement("shrink")}
    totals: dict[str, list[float]] = {name: [] for name in waits}
    shrinking = [peer for peer in peers if peer.name in waits]
    for _ in range(rounds):
        for peer in rng.sample(shrinking, len(shrinking)):
            wait, total = shrink(peer, keys, entries)
            waits[peer.name].append(wait)
            totals[peer.name].append(total)
    return {
        name: print_result(name, peers, measured)
        for name, measured in (("longest wait of a get", waits), ("shrinking", totals))
    }


def shrink(peer: Peer, keys: list[Any], dropped: int) -> tuple[int, int]:
    """Drop so many entries: nanoseconds that a reading thread waited at most, and for the whole.

    What counts is the time from one answer to the next, for a thread waits between calls as well.
    """
    cache = peer.make(len(keys))
    compile_loop(peer.statements["set"], "k")(cache, keys, 1)
    lines = "c.get(k)\nnow = clock()\nif now - t[0] > t[1]: t[1] = now - t[0]\nt[0] = now"
    read = compile_loop(lines, "k", "clock, t")
    started, ended, times = Event(), Event(), [0, 0]

    def reader() -> int:
        read(cache, keys[-1000:], None, perf_counter_ns, times)
        times[:] = perf_counter_ns(), 0
        started.set()
        while not ended.is_set():
            read(cache, keys[-1000:], None, perf_counter_ns, times)
        return times[1]

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(reader)
        started.wait()
        begin = perf_counter_ns()
        compile_loop(peer.statements["shrink"], "ks")(cache, [keys[:dropped]], len(keys) - dropped)
        total = perf_counter_ns() - begin
        ended.set()
        return waiting.result(), total
