"""One run of a replay, in a process of its own: a trace through one way of caching, measured.

Its process reads a `Job` as a line of JSON, prints ``{"left": N}`` lines while it works and a
`Result` at the end, and gives up when its standard input ends.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from operator import length_hint
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
from xxhash import xxh3_64_intdigest

from hybridcore import Cache, EntryOptions, HybridCache, Lmdb, Loaded, Memory, Tier
from hybridcore.cli.demo_origin import Service  # noqa: TC001  # msgspec reads the annotations
from hybridcore.cli.origins import DEMOS, NotedOrigin
from hybridcore.cli.trace import read_trace
from hybridcore.types import NotModified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Contender = Literal["hybrid", "memory", "none"]

FIRST = 1_000
"""Requests whose outcomes are told apart from the rest, to show a warm start."""

STALE = "1d"
"""How long the disk tier keeps an expired entry, so that the origin can renew it."""


class Outcome(IntEnum):
    """How one request ended."""

    FAILED = 0  # it raised, or the value was wrong
    MEMORY = 1
    DISK = 2
    RENEWED = 3  # the origin said that the copy held is still right
    LOADED = 4
    SHARED = 5  # somebody else was looking it up already


@dataclass(frozen=True, slots=True)
class Job:
    """What to run: ``requests`` of a trace through a contender, against the service at ``url``.

    - ``published``: the directory in which a hybrid cache tells what it counts
    - ``stays``: whether it stays open when all is done, until standard input ends
    """

    contender: Contender
    origin: str
    trace: str | None
    requests: int
    service: Service
    url: str
    memory: int | str
    disk: int
    directory: str
    workers: int
    published: str | None = None
    stays: bool = False


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds that requests took, by percentile."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run.

    ``outcomes`` and ``first`` count requests by outcome, ``latency`` is by tier ("memory", "disk",
    "origin", "all"), ``bytes_in`` are those of bodies received, ``quota`` the units spent.
    """

    contender: Contender
    requests: int
    seconds: float
    outcomes: dict[str, int]
    first: dict[str, int]
    latency: dict[str, Latency]
    origin_requests: int
    not_modified: int
    bytes_in: int
    quota: float
    wrong: int
    errors: list[str]


class Notes(threading.local):
    """What the current thread learned about the request that it is working on."""

    tier: Tier | None = None
    answer: object = None

    def looked_up(self, key: Any, tier: Tier | None, duration: float) -> None:
        """Hear from the cache which tier below memory answered."""
        self.tier = tier

    def answered(self, answer: object) -> None:
        """Hear from the origin what it answered."""
        self.answer = answer

    def outcome(self) -> Outcome:
        """Return how the request ended, and forget it."""
        tier, answer = self.tier, self.answer
        self.tier = self.answer = None
        if isinstance(answer, Loaded):
            return Outcome.LOADED
        if isinstance(answer, NotModified):
            return Outcome.RENEWED
        if tier is Tier.ORIGIN:
            return Outcome.SHARED
        return Outcome.DISK if tier is Tier.DISK else Outcome.MEMORY


@contextmanager
def contender(job: Job, notes: Notes) -> Iterator[tuple[Callable[[str], Any], NotedOrigin]]:
    """Open the way of caching to be run: how to get a key, and the origin behind it."""
    origin = NotedOrigin(DEMOS[job.origin], job.url, job.workers, job.service, notes.answered)

    def load(key: str) -> Any:
        answer = origin.load(key)
        if not isinstance(answer, Loaded):
            raise KeyError(key)
        return answer.value

    if job.contender == "hybrid":
        with (
            HybridCache(
                Memory(job.memory),
                Lmdb(job.directory, max_bytes=job.disk),
                origin,
                defaults=EntryOptions(ttl=job.service.max_age, stale=STALE),
                listener=notes,
                analytics=job.published is not None,
            ) as cache,
            _publishing(cache, job.published),
        ):
            yield cache.get, origin
        return
    try:
        if job.contender == "none":
            yield load, origin
        elif isinstance(job.memory, int):
            yield lru_cache(maxsize=job.memory)(load), origin
        else:
            yield _memory_alone(Cache(job.memory), load), origin
    finally:
        origin.close()


@contextmanager
def _publishing(cache: HybridCache[str, Any], directory: str | None) -> Iterator[None]:
    """Have a cache tell what it counts, for those who watch the directory."""
    if directory is None:
        yield
        return
    from hybridcore.exporters.processes import Shared
    from hybridcore.exporters.sources import Sources

    shared = Shared(Sources({"replay": cache}), directory, interval=0.5)
    try:
        yield
    finally:
        shared.close()


def _memory_alone(cache: Cache[str, Any], load: Callable[[str], Any]) -> Callable[[str], Any]:
    def get(key: str) -> Any:
        value = cache.get(key)
        if value is None:
            value = cache[key] = load(key)
        return value

    return get


def run(job: Job, progress: Callable[[int], object], done: Callable[[Result], object]) -> None:
    """Carry out the job, and tell ``done`` what came of it, with the cache still open.

    ``progress`` hears now and then how many requests are left.
    """
    keys = read_trace(Path(job.trace) if job.trace is not None else None, job.requests).keys
    expected = {key: xxh3_64_intdigest(job.service.body(key)) for key in set(keys)}
    outcomes = np.zeros(len(keys), np.int8)
    durations = np.zeros(len(keys), np.int64)
    wrong: list[str] = []
    errors: list[str] = []
    notes = Notes()
    taking = threading.Lock()
    positions = iter(range(len(keys)))
    started = time.perf_counter()

    def work(get: Callable[[str], Any]) -> None:
        while True:
            with taking:
                position = next(positions, None)
            if position is None:
                return
            key = keys[position]
            began = time.perf_counter_ns()
            try:
                value = get(key)
            except Exception as error:
                errors.append(f"{key}: {type(error).__name__}: {error}")
                notes.outcome()
                continue
            durations[position] = time.perf_counter_ns() - began
            outcome = notes.outcome()
            if isinstance(value, bytes) and xxh3_64_intdigest(value) == expected[key]:
                outcomes[position] = outcome
            else:
                wrong.append(f"{key}: a wrong value from {outcome.name.lower()}")

    with contender(job, notes) as (get, origin):
        workers = [threading.Thread(target=work, args=(get,)) for _ in range(job.workers)]
        for worker in workers:
            worker.start()
        for worker in workers:
            while worker.is_alive():
                worker.join(0.2)
                progress(length_hint(positions))
        elapsed = time.perf_counter() - started
        usage = origin.usage()
        result = Result(
            contender=job.contender,
            requests=len(keys),
            seconds=elapsed,
            outcomes=_counted(outcomes),
            first=_counted(outcomes[:FIRST]),
            latency=_latencies(outcomes, durations),
            origin_requests=usage.calls,
            not_modified=usage.not_modified,
            bytes_in=usage.bytes_in,
            quota=usage.quota_used,
            wrong=len(wrong),
            errors=(wrong + errors)[:5],
        )
        done(result)


def _counted(outcomes: np.ndarray[Any, Any]) -> dict[str, int]:
    return {kind.name.lower(): int((outcomes == kind).sum()) for kind in Outcome}


def _latencies(
    outcomes: np.ndarray[Any, Any], durations: np.ndarray[Any, Any]
) -> dict[str, Latency]:
    tiers = {
        "memory": outcomes == Outcome.MEMORY,
        "disk": outcomes == Outcome.DISK,
        "origin": np.isin(outcomes, (Outcome.RENEWED, Outcome.LOADED)),
        "all": outcomes != Outcome.FAILED,
    }
    return {
        tier: Latency(*(np.percentile(durations[chosen], (50, 95, 99)) / 1e9).tolist())
        for tier, chosen in tiers.items()
        if chosen.any()
    }


def main() -> None:
    """Read the job, run it, tell how it goes."""
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    done, over = threading.Event(), threading.Event()
    threading.Thread(target=_stop_with_stdin, args=(done, over), daemon=True).start()

    def tell(message: object) -> None:
        print(msgspec.json.encode(message).decode(), flush=True)

    def finish(result: Result) -> None:
        done.set()
        tell(result)
        if job.stays:
            over.wait()

    run(job, lambda left: tell({"left": left}), finish)


def _stop_with_stdin(done: threading.Event, over: threading.Event) -> None:
    while os.read(0, 4096):  # not sys.stdin: a thread that holds its lock breaks the way out
        pass
    if not done.is_set():
        os._exit(1)
    over.set()
