"""What statistics cost: hits with and without, records, scrapes; and how near quantiles are."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

import hybridcore as hc
from bench import report
from hybridcore._native.histogram import Histogram

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path

SHARES = (0.5, 0.95, 0.99, 0.999)
KEYS = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    from pathlib import Path

    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds")
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--save", type=Path, metavar="FILE", help="write JSON")


def main(options: argparse.Namespace) -> None:
    """Measure and print."""
    results = {
        "costs": costs(options.rounds),
        "scrape": scrape(options.rounds),
        "accuracy": accuracy(options.seed),
    }
    path: Path | None = options.save
    if path is not None:
        report.save(path, options, ["prometheus-client"], results)


def cpu_ns(work: Callable[[], object], times: int) -> float:
    """Nanoseconds of the processor that it takes."""
    started = time.process_time_ns()
    for _ in range(times):
        work()
    return (time.process_time_ns() - started) / times


def costs(rounds: int) -> dict[str, float]:
    """Of a get without timing, with one in 64 timed, with all; and of records from Python."""
    from prometheus_client import Histogram as TheirHistogram

    store: hc.HybridCache[str, int] = hc.HybridCache(memory=hc.Memory(5 * KEYS))
    keys = [f"key {number}" for number in range(KEYS)]
    for number, key in enumerate(keys):
        store.put(key, number)
    get, record = store.get, Histogram().record
    observe = TheirHistogram("seconds", "of theirs", registry=None).observe

    def gets() -> None:
        for key in keys:
            get(key)

    def records() -> None:
        for _ in keys:
            record(1e-5)

    def observations() -> None:
        for _ in keys:
            observe(1e-5)

    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, one_in in (("get", None), ("get, 1 in 64 timed", 64), ("get, all timed", 1)):
            store.time_hits(one_in)
            gets()
            found.setdefault(name, []).append(cpu_ns(gets, 100) / KEYS)
        for name, work in (("record", records), ("prometheus_client observe", observations)):
            found.setdefault(name, []).append(cpu_ns(work, 20) / KEYS)
    store.close()
    plain, sampled, timed = (found[name] for name in list(found)[:3])
    numbers = {
        "get, ns": median(plain),
        "1 in 64 timed adds, ns": median(b - a for a, b in zip(plain, sampled, strict=True)),
        "1 in 64 timed, ratio": median(report.quotients(sampled, plain)),
        "each timed adds, ns": median(b - a for a, b in zip(plain, timed, strict=True)),
        "Histogram.record, ns": median(found["record"]),
        "observe of prometheus_client / each timed": median(
            theirs / (b - a)
            for theirs, a, b in zip(found["prometheus_client observe"], plain, timed, strict=True)
        ),
        "observe of prometheus_client / record": median(
            report.quotients(found["prometheus_client observe"], found["record"])
        ),
    }
    for name, number in numbers.items():
        print(f"{name:45} {number:8.2f}")
    return numbers


def scrape(rounds: int) -> dict[str, float]:
    """Milliseconds of the processor for a scrape with 20 series of durations."""
    from hybridcore.exporters.prometheus import PrometheusExporter

    store: hc.HybridCache[str, int] = hc.HybridCache(memory=hc.Memory(KEYS), origin=len)
    for number in range(200):
        store.get(f"key {number}")
    known = len(store.stats().performance.series)
    random = np.random.default_rng(8)
    for number in range(20 - known):
        for seconds in random.lognormal(-9, 1, 1000):
            store._engine.timings.record(f"tier {number}", "get", "hit", seconds)
    exporter = PrometheusExporter({"things": store})
    registry = exporter.registry()
    collected = [cpu_ns(lambda: list(registry.collect()), 5) / 1e6 for _ in range(rounds)]
    written = [cpu_ns(exporter.text, 5) / 1e6 for _ in range(rounds)]
    store.close()
    numbers = {
        "collecting 20 series, ms": median(collected),
        "and writing them as text, ms": median(written),
    }
    for name, number in numbers.items():
        print(f"{name:45} {number:8.2f}")
    return numbers


def accuracy(seed: int) -> dict[str, Any]:
    """Errors of quantiles against those of the samples, in percent."""
    random = np.random.default_rng(seed)
    size = 200_000
    tail = random.lognormal(-9, 1, size)
    tail[random.random(size) < 0.01] *= 50
    both = np.where(
        random.random(size) < 0.7, random.normal(1e-6, 1e-7, size), random.normal(5e-3, 5e-4, size)
    )
    shapes = {
        "log-normal": random.lognormal(-9, 1, size),
        "bimodal": np.abs(both),
        "heavy tail, 1 % x50": tail,
    }
    found = {}
    for name, samples in shapes.items():
        histogram = Histogram()
        for duration in samples:
            histogram.record(duration)
        exact = np.quantile(samples, SHARES, method="inverted_cdf")
        told = np.array(histogram.snapshot().quantiles(*SHARES))
        errors = [float(error) for error in (told / exact - 1) * 100]
        found[name] = dict(zip(map(str, SHARES), errors, strict=True))
        cells = "  ".join(
            f"p{share * 100:g} {error:+.2f} %" for share, error in zip(SHARES, errors, strict=True)
        )
        print(f"{name:25} {cells}")
    return found
