"""Compares the hit ratios that analytics predicts with those that a replay finds.

Every trace is replayed through caches of eight sizes, and predicted from one pass over a sample of
its keys: for LRU, and for the policy that `Cache` has by default. An error is the difference of two
hit ratios. A recommendation is the size predicted for a hit ratio that the replay had at a size; it
is compared with that size where the curve is steep enough to tell sizes apart, and a cache of the
size recommended is replayed: does it hit what was wanted? Keys are hashed anew with each seed, so
that the spread over samples is seen.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.processes import run_apart
from bench.report import save
from bench.traces import SHIPPED, Trace, make_trace, read_trace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

SIZES = (0.001, 0.003, 0.01, 0.03, 0.06, 0.1, 0.25, 0.5)
SMALLEST = 32
MANY = 100_000
"""Keys that make a trace one of those that the mean is about."""
STEEP = 0.02
"""What the hit ratio gains by e times the size, at least, where sizes can be told apart."""
SIMULATED = (0.2, 0.55, 0.75, 1.0)
"""Where the small caches are, from the smallest size to the largest on a logarithmic scale; those
bounded in bytes take more memory, and do without the first."""
NEAR = 0.1
"""How far a size may be from the one that replay finds,"""
ENOUGH = 0.005
"""and the hit ratio that it has from the one wanted."""


@dataclass(frozen=True)
class Row:
    """One trace, one policy: errors at each size, over all seeds."""

    trace: str
    policy: str
    unit: str
    requests: int
    keys: int
    rate: float
    mean_error: float
    worst_error: float
    size_errors: list[float]
    reached: list[float]
    replayed: list[float]
    predicted: list[list[float]]
    memory: int
    ns_per_request: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m bench curve``."""
    add = parser.add_argument
    add("traces", nargs="*", type=Path, metavar="TRACE", help="files (default: the shipped trace)")
    add(
        "--generated", action="store_true", help="also traces that are drawn: zipf, shifting, loops"
    )
    add("--samples", type=int, default=8192, metavar="N", help="keys looked at (default 8192)")
    add("--seeds", type=int, default=3, metavar="N", help="samples drawn of each trace (default 3)")
    add(
        "--bytes", action="store_true", help="of traces with sizes, predict caches bounded in bytes"
    )
    add(
        "--memory",
        type=float,
        default=1,
        metavar="MIB",
        help="for each pass of a recommendation (default 1)",
    )
    add("--limit", type=int, metavar="N", help="only the first N requests of a trace")
    add("--jobs", type=int, default=1, help="traces at a time")
    add("--json", type=Path, metavar="FILE", help="save every number here")


def main(options: argparse.Namespace) -> None:
    """Replay, predict, print and save."""
    traces = [read_trace(path, options.limit) for path in options.traces or [SHIPPED]]
    if options.generated:
        traces += generated()
    if options.bytes:
        traces = [trace for trace in traces if trace.sizes is not None]
    work = partial(
        measure,
        samples=options.samples,
        seeds=options.seeds,
        bytewise=options.bytes,
        memory=round(options.memory * (1 << 20)),
    )
    rows: list[Row] = []
    print(
        f"{'trace':<18} {'policy':<8} {'keys':>8} {'rate':>6} {'mean':>7} {'worst':>7} "
        f"{'sizes off by':>12} {'within 10 %':>11} {'hit as much':>11} {'KiB':>5} {'ns':>5}"
    )
    for trace, found, error in run_apart(work, traces, options.jobs):
        if error:
            raise SystemExit(f"curve: {trace.name}: {error}")
        for row in found:
            rows.append(row)
            print_row(row)
    for policy in ("lru", "learned"):
        large = [row for row in rows if row.policy == policy and row.keys > MANY]
        every = [row for row in rows if row.policy == policy]
        for name, some in ((f"{policy}, over {MANY:,} keys", large), (f"{policy}, all", every)):
            if some:
                off = [abs(error) for row in some for error in row.size_errors]
                near = np.array(off) <= NEAR
                reached = np.abs([error for row in some for error in row.reached]) <= ENOUGH
                print(
                    f"{name}: mean error {np.mean([row.mean_error for row in some]):.4f}, "
                    f"sizes off by {np.median(off):.1%} (median), {near.mean():.0%} of {len(off)} "
                    f"within {NEAR:.0%}, {reached.mean():.0%} hit within {ENOUGH} of what was "
                    f"wanted, {(near | reached).mean():.0%} either"
                )
    if options.json:
        options.traces = [path.name for path in options.traces]
        save(
            options.json, options, ["hybridcore", "numpy"], {"rows": [asdict(row) for row in rows]}
        )


def measure(trace: Trace, samples: int, seeds: int, bytewise: bool, memory: int) -> list[Row]:
    """Both policies on one trace."""
    from hybridcore import Weights
    from hybridcore.analytics import Estimator, trace_curve
    from hybridcore.analytics import Trace as Requests

    whole = trace.footprint if bytewise else trace.unique
    sizes = sorted(
        {int(share * whole) for share in SIZES if int(share * trace.unique) >= SMALLEST}
    ) or [whole // 4, whole // 2]
    mean = float(trace.sizes.mean()) if bytewise and trace.sizes is not None else 1.0
    at = np.exp(np.interp(SIMULATED[bytewise:], [0, 1], np.log([sizes[0], sizes[-1]])))
    rows = []
    for policy, options in (("lru", {"weights": Weights.lru()}), ("learned", {})):
        replayed = [replay(trace, size, bytewise, options) for size in sizes]
        predicted, offs, reached, spent, most = [], [], [], 0.0, 0
        for seed in range(seeds):
            estimator = Estimator(
                samples=samples,
                sized=bytewise,
                sizes=() if policy == "lru" else at,
                mean_size=mean,
            )
            hashes = hashed(trace.keys, seed)
            started = process_time()
            estimator.feed(hashes, trace.sizes if bytewise else None)
            spent += process_time() - started
            curve = estimator.curve() if policy == "lru" else estimator.policy_curve(policy)
            predicted.append([curve.hit_ratio(size) for size in sizes])
            for ratio, size, steep in zip(replayed, sizes, slopes(sizes, replayed), strict=True):
                if steep < STEEP:
                    continue
                requests = Requests(hashes, trace.sizes if bytewise else None, mean_size=mean)
                closer = trace_curve(
                    requests, policy, sized=bytewise, hit_ratio=ratio, memory=memory, **options
                )
                enough = closer.size_for(ratio) or whole
                offs.append(enough / size - 1)
                reached.append(replay(trace, round(enough), bytewise, options) - ratio)
            most = max(most, estimator.memory_bytes())
        errors = np.abs(np.array(predicted) - replayed)
        rows.append(
            Row(
                trace.name,
                policy,
                "bytes" if bytewise else "entries",
                len(trace.keys),
                trace.unique,
                curve.rate,
                float(errors.mean()),
                float(errors.max()),
                offs,
                reached,
                replayed,
                predicted,
                most,
                1e9 * spent / seeds / len(trace.keys),
            )
        )
    return rows


def replay(trace: Trace, size: int, bytewise: bool, options: dict[str, Any]) -> float:
    """The hit ratio of a cache of that size."""
    from hybridcore import Cache

    cache = Cache[int, bool](size, **options)
    get, put = cache.get, cache.put
    if bytewise and trace.sizes is not None:
        for key, weight in zip(trace.keys.tolist(), trace.sizes.tolist(), strict=True):
            if get(key) is None and weight <= size:
                put(key, True, size=weight)
    else:
        for key in trace.keys.tolist():
            if get(key) is None:
                cache[key] = True
    return cache.stats().hit_ratio


def slopes(sizes: Sequence[float], ratios: Sequence[float]) -> Any:
    """What the hit ratio gains by e times the size, at each of them: the lesser of both sides."""
    if len(sizes) < 2:
        return [0.0] * len(sizes)
    steps = np.diff(ratios) / np.diff(np.log(sizes))
    return np.minimum(np.concatenate([steps[:1], steps]), np.concatenate([steps, steps[-1:]]))


def hashed(keys: Any, seed: int) -> Any:
    """A hash of 32 bits for each key, another one with each seed."""
    chosen = np.random.default_rng(seed).permutation(1 << 20).astype(np.uint64)
    word = (keys.astype(np.uint64) << np.uint64(20)) | chosen[keys & ((1 << 20) - 1)]
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        word = (word ^ (word >> np.uint64(shift))) * np.uint64(factor)
    return ((word ^ (word >> np.uint64(31))) >> np.uint64(32)).astype(np.uint32)


def generated(requests: int = 1_000_000, keys: int = 200_000, seed: int = 7) -> list[Trace]:
    """Traces that nobody recorded: popularity that stays, that shifts, loops, and scans between."""
    rng = np.random.default_rng(seed)
    ranks = 1 / np.arange(1, keys + 1) ** 0.9
    drawn = rng.choice(keys, requests, p=ranks / ranks.sum())
    sizes = np.exp(rng.normal(7, 1.2, keys)).astype(np.int64) + 64
    phase = np.arange(requests) * 8 // requests
    shifting = (drawn + phase * (keys // 16)) % keys
    loop = np.arange(requests) % (keys - 50_000)
    nested = np.where(rng.random(requests) < 0.5, np.arange(requests) % 20_000, loop + keys)
    scanned = drawn.copy()
    for start in range(0, requests, requests // 10):
        scanned[start : start + 30_000] = keys + start + np.arange(30_000)
    return [
        make_trace("zipf", drawn, sizes[drawn]),
        make_trace("shifting", shifting, sizes[shifting]),
        make_trace("loop150k", loop),
        make_trace("two loops", nested),
        make_trace("zipf and scans", scanned),
    ]


def print_row(row: Row) -> None:
    """One line."""
    off, reached = np.abs(row.size_errors), np.abs(row.reached)
    sizes = " " * 36
    if len(off):
        sizes = (
            f"{np.median(off):>12.1%} {np.mean(off <= NEAR):>11.0%} "
            f"{np.mean(reached <= ENOUGH):>11.0%}"
        )
    print(
        f"{row.trace[:18]:<18} {row.policy:<8} {row.keys:>8,} {row.rate:>6.1%} "
        f"{row.mean_error:>7.4f} {row.worst_error:>7.4f} {sizes} "
        f"{row.memory / 1024:>5.0f} {row.ns_per_request:>5.0f}",
        flush=True,
    )
