"""Replays what readers ask for with warming on and off: waits, misses, and the origin's quota.

The orchestrator is the real one; its clock and the origin's latency are simulated. The origin
counts as GitHub does: a call costs a unit of quota, and nothing if it is answered 304. A reader
waits until the load of its key is over, whoever began it.
"""

from __future__ import annotations

import csv
import heapq
import json
import math
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import periodic
from hybridcore import Cache, EntryOptions, HybridCache, Origin
from hybridcore.origins import Meter
from hybridcore.types import Loaded, NotModified, Validators
from hybridcore.warming import (
    Budget,
    Predictive,
    Preemptive,
    Sequences,
    Startup,
    Warmer,
    predictive,
)
from hybridcore.warming.predictive import PROMPT

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection

    from bench.periodic import Workload

HIT = 2e-6
"""Seconds that a hit takes; only counts in means."""


class Clock:
    """The time of the simulation."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Service(Origin[int, int]):
    """Answers at once, notes until when it would have taken, and counts quota as GitHub does.

    While ``slots`` is not None a call begins when one of them is free: those of the warmer.
    """

    name = "service"

    def __init__(self, clock: Clock, *, latency: float = 0.15, changes: float = 6 * 3600) -> None:
        self._clock = clock
        self.slots: list[float] | None = None
        self._latency = latency
        self._changes = changes
        self._random = np.random.default_rng(7)
        self._drawn: list[float] = []
        self.meter = Meter()
        self.ready: dict[int, tuple[float, float]] = {}
        """Until when a key is being loaded, and how long the call takes."""
        self.keys = 0

    def load(self, key: int, held: Validators | None = None) -> Loaded[int] | NotModified:
        """The version of the moment, or that it is the one held."""
        until, took = self._call()
        answer = self._answer(key, held, until, took)
        self._count(took, [answer])
        return answer

    def _call(self) -> tuple[float, float]:
        """Until when a call made now takes, and how long it does."""
        if not self._drawn:
            self._drawn = (
                self._latency * np.exp(0.6 * self._random.standard_normal(4096))
            ).tolist()
        took = self._drawn.pop()
        if self.slots is None:
            return self._clock.now + took, took
        until = max(self._clock.now, self.slots[0]) + took
        heapq.heapreplace(self.slots, until)
        return until, took

    def _answer(
        self, key: int, held: Validators | None, until: float, took: float
    ) -> Loaded[int] | NotModified:
        now = self._clock.now
        self.ready[key] = until, took
        self.keys += 1
        spread = 0.25 + 4 * ((key * 2_654_435_761) % 1_000) / 1_000  # some change often
        version = int((now + key * 7919) // (self._changes * spread))
        if held is not None and held.etag == str(version):
            return NotModified()
        return Loaded(version, None, Validators(str(version)))

    def _count(self, took: float, answers: Collection[Loaded[int] | NotModified]) -> None:
        """Count a call: GitHub charges none in which nothing has changed."""
        unchanged = all(isinstance(answer, NotModified) for answer in answers)
        self.meter.record(took, not_modified=int(unchanged), quota=float(not unchanged))

    def usage(self) -> Any:
        """What was spent."""
        return self.meter.usage()


class Batches(Service):
    """The same, but takes several keys in a call, which costs a unit if any of them has changed."""

    def load_many(self, keys: Any) -> dict[int, Any]:
        """The versions of the moment; each takes as long as the call."""
        until, took = self._call()
        held = keys if isinstance(keys, Mapping) else dict.fromkeys(keys)
        answers = {key: self._answer(key, one, until, took) for key, one in held.items()}
        self._count(took, answers.values())
        return answers


@dataclass(frozen=True, slots=True)
class Run:
    """What one replay found out; seconds."""

    requests: int
    misses: int
    misses_known: int
    """Of them, those of keys asked for before."""
    p50: float
    p95: float
    p95_known: float
    """Of the requests for keys asked for before; a figure of its own."""
    p99: float
    mean: float
    calls: int
    not_modified: int
    quota: float
    keys: int
    """That the origin was asked for: the quota of one that counts each key."""
    took: float
    hit_ratio_by_minute: list[float]
    warming: dict[str, Any] | None


def replay(
    workload: Workload,
    size: int,
    *,
    ttl: float,
    strategies: tuple[Any, ...] | None,
    tick: float = 5.0,
    overhead: float = 0.05,
    startup: Startup | None = None,
    skip: float = 0.0,
    changes: float = 6 * 3600,
    at_once: int = 4,
    batches: bool = False,
) -> Run:
    """Replay a workload; ``strategies`` None is warming off, ``skip`` seconds are not counted."""
    clock = Clock(float(workload.times[0]))
    service = (Batches if batches else Service)(clock, changes=changes)
    store: HybridCache[int, int] = HybridCache(
        Cache(size, timer=clock),
        origin=service,
        defaults=EntryOptions(ttl=ttl, stale="1d"),
        breaker=None,
    )
    warmer = None
    if strategies is not None:
        warmer = Warmer(
            store,
            *strategies,
            startup=startup,
            budget=Budget(overhead=overhead, clock=clock),
            max_concurrent_warms=at_once,
            clock=clock,
            threaded=False,
        )
    waits = np.zeros(workload.keys.size)
    ready, get, drain = service.ready, store.get, store._engine.events.drain
    counted_from = clock.now + skip
    before, keys_before = service.usage(), service.keys
    is_counting = not skip
    slots = [0.0] * at_once

    def step(now: float, *, is_short: bool = False) -> None:
        assert warmer is not None
        clock.now = now
        drain()
        service.slots = slots
        if is_short:
            warmer.glance()
        else:
            warmer.step()
        service.slots = None

    next_step, next_glance = clock.now + tick, math.inf
    glances = warmer is not None and warmer.glances
    began = time.perf_counter()
    for number, (now, key) in enumerate(
        zip(workload.times.tolist(), workload.keys.tolist(), strict=True)
    ):
        while warmer is not None and now >= (due := min(next_step, next_glance)):
            step(due, is_short=due < next_step)
            if due == next_step:
                next_step += tick
            if glances:
                due_at = [at for one in warmer.strategies if (at := one.next_at()) is not None]
                next_glance = max(due + PROMPT, min(due_at, default=math.inf))
        if not is_counting and now >= counted_from:
            is_counting, before, keys_before = True, service.usage(), service.keys
        clock.now = now
        get(key)
        until, longest = ready.get(key, (0.0, 0.0))
        if until > now:  # a reader does not wait for a load that is queued, but does it
            waits[number] = min(until - now, longest)
            if glances:
                next_glance = min(next_glance, now + PROMPT)
    took = time.perf_counter() - began
    counted = waits[np.searchsorted(workload.times, counted_from) :]
    after = service.usage()
    minutes = ((workload.times - workload.times[0]) // 60).astype(int)
    hits = np.bincount(minutes, waits == 0) / np.maximum(np.bincount(minutes), 1)
    known = workload.times >= counted_from
    known[np.unique(workload.keys, return_index=True)[1]] = False
    stats = None
    if warmer is not None:
        stats = {name: asdict(s) for name, s in warmer.stats().strategies.items()}
        warmer.close()
    store.close()
    p50, p95, p99 = np.quantile(counted + HIT, [0.5, 0.95, 0.99])
    return Run(
        requests=counted.size,
        misses=int((counted > 0).sum()),
        misses_known=int((waits[known] > 0).sum()),
        p50=float(p50),
        p95=float(p95),
        p95_known=float(np.quantile(waits[known] + HIT, 0.95)) if known.any() else 0.0,
        p99=float(p99),
        mean=float(counted.mean() + HIT),
        calls=after.calls - before.calls,
        not_modified=after.not_modified - before.not_modified,
        quota=after.quota_used - before.quota_used,
        keys=service.keys - keys_before,
        took=took,
        hit_ratio_by_minute=hits[:30].round(4).tolist(),
        warming=stats,
    )


def every_strategy() -> tuple[Any, ...]:
    """Preemptive and all models."""
    return (Preemptive(seed=1, margin="11s"), *predictive())


def from_trace(path: Path) -> Workload:
    """A recorded trace with times; milliseconds and microseconds become seconds.

    Of a ``.csv`` the first line names the columns: ``time`` and ``lbn``, the address of a block, as
    in `data/cloudPhysicsIO.csv` of libCacheSim. There keys are the addresses themselves.
    """
    if path.suffix == ".csv":
        with path.open(newline="") as lines:
            rows = [(row["time"], row["lbn"]) for row in csv.DictReader(lines)]
        times = np.array([float(at) for at, _ in rows])
        keys = np.array([int(address) for _, address in rows], np.int64)
    else:
        with np.load(path, allow_pickle=False) as found:
            times = found["time"].astype(float)
            keys = found["keys"].astype(np.int64)
    if times[-1] - times[0] > 1e6:
        times /= 1000.0
    same = np.flatnonzero(np.diff(times, prepend=-1.0))  # spread what has the same time stamp
    lengths = np.diff(np.append(same, times.size))
    within = np.arange(times.size) - np.repeat(same, lengths)
    gaps = np.diff(np.append(times[same], times[-1] + 1.0))
    times = times + within / np.repeat(lengths, lengths) * np.repeat(gaps, lengths)
    return periodic.Workload(path.stem, periodic.BEGIN + times, keys)


def cold_start(workload: Workload, size: int, ttl: float, directory: Path) -> dict[str, Any]:
    """The hit ratio by minute after a start at noon of the last day, with a hot set and without."""
    noon = workload.times[-1] - 0.5 * periodic.DAY
    start = int(np.searchsorted(workload.times, noon))
    early = int(np.searchsorted(workload.times, noon - 0.5 * periodic.DAY))
    hot = directory / "hot-set"
    hot.unlink(missing_ok=True)
    warm_up = periodic.Workload("", workload.times[early:start], workload.keys[early:start])
    rest = periodic.Workload("", workload.times[start:], workload.keys[start:])
    whole = periodic.Workload("", workload.times[early:], workload.keys[early:])
    replay(warm_up, size, ttl=ttl, strategies=every_strategy(), startup=Startup(hot_set=hot))
    steady = replay(whole, size, ttl=ttl, strategies=every_strategy())
    startup = Startup(hot_set=hot, required=True)
    with_set = replay(rest, size, ttl=ttl, strategies=every_strategy(), startup=startup)
    without = replay(rest, size, ttl=ttl, strategies=every_strategy())
    ratio = 1 - steady.misses / steady.requests
    return {
        "steady": ratio,
        "with": with_set.hit_ratio_by_minute,
        "without": without.hit_ratio_by_minute,
        "first_minute_of_steady": with_set.hit_ratio_by_minute[0] / ratio,
        "keys": startup.report["hot_set"].warmed,
    }


def burst(entries: int = 10_000, at_once: int = 4) -> dict[str, Any]:
    """Entries that all expire at once, refreshed by threads while readers go on; real time."""
    found = {}
    for warming in (False, True):
        state = {"now": 0, "most": 0}
        lock = threading.Lock()

        def load(key: int, state: dict[str, int] = state, lock: Any = lock) -> int:
            if threading.current_thread().name.startswith("reader"):
                time.sleep(0.002)
                return key
            with lock:
                state["now"] += 1
                state["most"] = max(state["most"], state["now"])
            time.sleep(0.002)
            with lock:
                state["now"] -= 1
            return key

        store: HybridCache[int, int] = HybridCache(
            Cache(entries + 100), origin=load, defaults=EntryOptions(ttl=18.0), breaker=None
        )
        warmer = None
        if warming:
            warmer = Warmer(
                store,
                Preemptive(0.5, ceiling=entries),
                budget=Budget(overhead=None),
                max_concurrent_warms=at_once,
                tick=0.05,
            )
        for key in range(entries, entries + 20):
            store.get(key)  # what a load takes is known
        for key in range(entries):
            store.put(key, key)
        for key in range(entries):
            store.get(key)
        waits: list[float] = []
        end = time.monotonic() + 21.0

        def read(
            seed: int, waits: list[float] = waits, store: Any = store, end: float = end
        ) -> None:
            random = np.random.default_rng(seed)
            mine = []
            while time.monotonic() < end:
                key = int(random.integers(entries))
                began = time.perf_counter()
                store.get(key)
                mine.append(time.perf_counter() - began)
                time.sleep(0.0005)
            waits.extend(mine)

        readers = [threading.Thread(target=read, args=(n,), name=f"reader-{n}") for n in range(4)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        found["on" if warming else "off"] = {
            "most_concurrent_warms": state["most"],
            "reads": len(waits),
            "misses": sum(wait > 0.0015 for wait in waits),
            "p50_wait": float(np.quantile(waits, 0.5)),
            "p90_wait": float(np.quantile(waits, 0.9)),
            "p99_wait": float(np.quantile(waits, 0.99)),
            "p999_wait": float(np.quantile(waits, 0.999)),
            "longest_wait": max(waits),
            "warmed": 0 if warmer is None else warmer.stats().strategies["preemptive"].warmed,
        }
        if warmer is not None:
            warmer.close()
        store.close()
    return {"max_concurrent_warms": at_once, **found}


def compare(
    workload: Workload, size: int, ttl: float, *, sequences: bool = False, **options: Any
) -> dict[str, Any]:
    """Off against on, and what differs in percent."""
    off = replay(workload, size, ttl=ttl, strategies=None, **options)
    strategies = every_strategy()
    if sequences:
        strategies = (*strategies, Predictive(Sequences()))
    on = replay(workload, size, ttl=ttl, strategies=strategies, **options)
    first = np.unique(workload.keys, return_index=True)[1]
    unknown = int((workload.times[first] >= workload.times[0] + options.get("skip", 0.0)).sum())

    def change(name: str) -> float:
        old = getattr(off, name)
        return math.nan if not old else 100 * (getattr(on, name) / old - 1)

    return {
        "workload": workload.name,
        "size": size,
        "ttl": ttl,
        "off": asdict(off),
        "on": asdict(on),
        "change": {
            n: change(n)
            for n in ("p95", "p99", "mean", "misses", "quota", "keys", "calls", "took", "p95_known")
        },
        "unknown": unknown,
        "spared": (off.misses_known - on.misses_known) / max(1, off.misses_known),
    }


def show(result: dict[str, Any]) -> None:
    """Print one comparison."""
    off, on, change = result["off"], result["on"], result["change"]
    print(f"\n{result['workload']}: {off['requests']:,} requests, {result['size']:,} entries")
    print(f"{'':12}{'off':>14}{'on':>14}{'change':>10}")
    for name in ("misses", "calls", "not_modified", "quota", "keys"):
        print(f"{name:12}{off[name]:14,.0f}{on[name]:14,.0f}", end="")
        print(f"{change[name]:+9.1f}%" if name in change else "")
    for name in ("p95", "p95_known", "p99", "mean"):
        print(f"{name:12}{1e3 * off[name]:11.3f} ms{1e3 * on[name]:11.3f} ms{change[name]:+9.1f}%")
    unknown = result["unknown"]
    print(
        f"keys asked for the first time: {unknown:,}, {unknown / off['requests']:.1%} of the "
        f"requests; of the other misses {result['spared']:.1%} were spared"
    )
    for name, book in (on["warming"] or {}).items():
        known = book["hits"] + book["wasted"]
        rate = book["hits"] / known if known else 0.0
        print(
            f"  {name:26} {'on' if book['is_on'] else 'off':4} warmed {book['warmed']:8,} "
            f"hit rate {rate:.2f} quota {book['quota']:8,.0f} declined {book['declined']:,} "
            f"unaffordable {book['unaffordable']:,}"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("traces", nargs="*", type=Path, help=".npz with keys and time, or .csv")
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--rate", type=float, default=5.0, help="requests a second")
    parser.add_argument("--size", type=int, default=4_000, help="entries of the memory tier")
    parser.add_argument("--seed", type=int, default=1, help="of the generated requests")
    parser.add_argument("--ttl", type=float, default=600.0)
    parser.add_argument("--trace-ttl", type=float, default=120.0)
    parser.add_argument("--only", choices=["periodic", "traces", "cold", "burst"])
    parser.add_argument("--json", type=Path)


def main(options: argparse.Namespace) -> None:
    """Run all parts, or one."""
    found: dict[str, Any] = {}
    only = options.only
    workload = periodic.generate(options.days, options.rate, seed=options.seed)
    if only in (None, "periodic"):
        # The first two days teach the models; what readers saw is counted from the third on.
        skip = 2 * periodic.DAY if options.days > 4 else 0.0
        found["periodic"] = compare(workload, options.size, options.ttl, skip=skip)
        show(found["periodic"])
        found["unpredictable"] = compare(periodic.unpredictable(), options.size, options.ttl)
        show(found["unpredictable"])
    if only in (None, "traces"):
        for path in options.traces:
            trace = from_trace(path)
            size = max(100, np.unique(trace.keys).size // 5)
            rest = {"tick": 1.0, "changes": 900.0}
            found[path.stem] = compare(trace, size, options.trace_ttl, **rest)
            show(found[path.stem])
            if path.suffix == ".csv":  # real addresses
                print("\nwith sequences, and an origin that takes several keys in a call:")
                rest |= {"sequences": True, "batches": True, "at_once": 16}
                found[f"{path.stem} sequences"] = compare(trace, size, options.trace_ttl, **rest)
                show(found[f"{path.stem} sequences"])
    if only in (None, "cold"):
        with TemporaryDirectory() as directory:
            cold = cold_start(workload, options.size, options.ttl, Path(directory))
        found["cold"] = cold
        print(
            f"\ncold start: {cold['first_minute_of_steady']:.1%} of the steady hit ratio "
            f"{cold['steady']:.3f} in the first minute, with {cold['keys']:,} keys"
        )
        print("minute   with  without")
        for minute in (0, 1, 2, 3, 5, 10, 20, 29):
            print(f"{minute:6} {cold['with'][minute]:6.3f} {cold['without'][minute]:8.3f}")
    if only in (None, "burst"):
        found["burst"] = burst()
        print(f"\nburst: {json.dumps(found['burst'], indent=2)}")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1))
