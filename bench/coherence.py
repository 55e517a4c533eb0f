"""What being in step costs: the check of a hit in memory, and invalidating a large tag."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import hybridcore as hc
from bench import report

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

KEYS = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--rounds", type=int, default=31, help="interleaved rounds (default 31)")
    parser.add_argument(
        "--entries", type=int, default=1_000_000, help="that carry the tag (default a million)"
    )
    parser.add_argument("--seed", type=int, default=10, help="unused, and noted")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every number here")


def main(options: argparse.Namespace) -> None:
    """Measure, print, and save everything if asked to."""
    with tempfile.TemporaryDirectory() as directory:
        results = hits(Path(directory), options.rounds)
        results |= tags(Path(directory), options.entries)
    for name, number in results.items():
        print(f"{name:60} {number:10.3f}")
    if options.json:
        report.save(options.json, options, [], {"results": results})


def hits(directory: Path, rounds: int) -> dict[str, float]:
    """A hit of a cache in step with others, and of one that nobody else can change."""
    alone: hc.HybridCache[str, int] = hc.HybridCache(hc.Memory(5 * KEYS))
    shared: hc.HybridCache[str, int] = hc.HybridCache(
        hc.Memory(5 * KEYS), hc.Lmdb(directory / "hits")
    )
    plain: hc.Cache[str, int] = hc.Cache(5 * KEYS)
    keys = [f"key {number}" for number in range(KEYS)]
    caches: dict[str, Any] = {"plain": plain, "alone": alone, "shared": shared, "tagged": shared}
    with alone, shared:
        for number, key in enumerate(keys):
            for cache in (alone, shared, plain):
                cache.put(key, number)
            shared.put("tagged " + key, number, tags=["t"])
        for cache in (alone, shared):
            cache.time_hits(None)
        found: dict[str, list[float]] = {name: [] for name in caches}
        tagged = ["tagged " + key for key in keys]
        for number in range(rounds):
            names = list(caches)
            for name in names[number % 4 :] + names[: number % 4]:
                wanted = tagged if name == "tagged" else keys
                found[name].append(_each(caches[name].get, wanted))
    return {
        "get of a Cache, ns": median(found["plain"]),
        "get of a hybrid cache alone, ns": median(found["alone"]),
        "get of one in step with others, ns": median(found["shared"]),
        "in step adds, ns": median(
            b - a for a, b in zip(found["alone"], found["shared"], strict=True)
        ),
        "in step / alone": median(report.quotients(found["shared"], found["alone"])),
        "in step, of an entry with a tag / alone": median(
            report.quotients(found["tagged"], found["alone"])
        ),
    }


def tags(directory: Path, entries: int) -> dict[str, float]:
    """Microseconds that invalidating a tag takes, in memory and with a log on disk."""
    found = {}
    for name, disk in (
        ("memory", None),
        ("memory and log", hc.Lmdb(directory / "tags", max_bytes="64MiB")),
    ):
        for count in (1, entries):
            store: hc.HybridCache[int, int] = hc.HybridCache(hc.Memory(2 * entries), disk)
            put = store._engine.tiers._hold
            options = hc.EntryOptions()
            for key in range(count):
                put(key, key, None, None, None, options, tags=("t",))
            took = []
            for _ in range(200):
                started = time.perf_counter_ns()
                store.invalidate(tags=["t"])
                took.append(time.perf_counter_ns() - started)
            found[f"invalidate(tags=) of {count:,} entries, {name}, us"] = median(took) / 1000
            if disk is None or count == entries:
                store.close()
    return found


def _each(get: Callable[[str], object], keys: list[str]) -> float:
    """Nanoseconds of the processor for one of these."""
    for key in keys:
        get(key)
    started = time.process_time_ns()
    for _ in range(20):
        for key in keys:
            get(key)
    return (time.process_time_ns() - started) / (20 * len(keys))
