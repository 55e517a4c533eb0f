"""What a dashboard looks at: a store of this process, or a directory that any process uses."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from hybridcore.errors import ConfigurationError, HybridCoreError
from hybridcore.monitoring.signals import Samples, samples_in, samples_of
from hybridcore.monitoring.told_health import ToldHealth, told_lines
from hybridcore.monitoring.view import (
    CurveView,
    InvalidationView,
    QueueView,
    curve_of,
    exact_latencies,
    invalidation_view,
    letter_view,
    plain,
    queue_of_stats,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from hybridcore.exporters.metrics import Family
    from hybridcore.hybrid import HybridCache
    from hybridcore.monitoring.view import Latencies, LetterView
    from hybridcore.write_queue import WriteQueue

PUBLISHED = "statistics"
"""The directory within that of a cache in which processes may tell what they count."""
_LETTERS = 50
"""Dead letters that are listed."""
_TAIL = 30
"""Entries of the log of invalidations that are shown."""
_HERE = "this process"
_SELDOM = 10.0
"""Seconds between looks at what is dear to work out: curves, and letters that did not change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A cache as it was found: ``latencies`` where they are known better than by buckets."""

    name: str
    source: str
    samples: Samples
    state: str = "unknown"
    reasons: tuple[str, ...] = ()
    latencies: Mapping[str, Latencies] | None = None
    queue: QueueView | None = None
    curve: CurveView | None = None
    invalidations: tuple[InvalidationView, ...] = ()


class Watched(Protocol):
    """Something with caches in it; one thread at a time looks, and any replays."""

    def look(self) -> list[Seen]:
        """The caches as they are now."""

    def replay(self, number: int | None) -> int:
        """Queue a dead letter again, or all; returns how many."""

    def close(self) -> None:
        """Let go of what was opened to look."""


class WatchedStore:
    """A store of this process, which is left open."""

    def __init__(self, name: str, store: HybridCache[Any, Any]) -> None:
        self._name, self._store = name, store
        self._letters = _Letters()
        self._curve = _Seldom(self._curve_now)

    def look(self) -> list[Seen]:
        store, queue = self._store, _durable(self._store)
        if store._engine.closed:
            return [_gone(self._name, _HERE, "it was closed")]
        stats = store.stats()
        state, reasons = _health(store)
        return [
            Seen(
                name=self._name,
                source=_HERE,
                samples=samples_of(stats),
                state=state,
                reasons=reasons,
                latencies=exact_latencies(stats.performance.over(60)),
                queue=None if queue is None else self._letters.view(queue),
                curve=self._curve(),
                invalidations=_tail(store),
            )
        ]

    def replay(self, number: int | None) -> int:
        queue = _durable(self._store)
        if queue is None:
            raise ConfigurationError(f"{self._name} has no write queue on disk: nothing to replay")
        return queue.dead_letters.replay(number)

    def close(self) -> None:
        pass

    def _curve_now(self) -> CurveView | None:
        try:
            analytics = self._store.analytics
            return curve_of(analytics.curve(), analytics.recommend())
        except ConfigurationError:  # it was made without analytics
            return None


class WatchedDirectory:
    """A directory: of a disk tier, of statistics that processes publish, or of a write queue.

    Whoever uses it goes on. It may vanish, and come back.

    Raises:
        ConfigurationError: there is nothing of ours in it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._name = plain(directory.absolute().name or str(directory))
        self._source = plain(str(directory))
        self._names: list[str] = [self._name]
        self._store: HybridCache[Any, Any] | None = None
        self._queue: WriteQueue | None = None
        self._letters = _Letters()
        self._health = ToldHealth()
        self._open()
        if self._store is None and self._queue is None and self._published() is None:
            raise ConfigurationError(
                f"there is neither a disk tier, nor a write queue, nor published statistics in "
                f"{directory}"
            )

    def look(self) -> list[Seen]:
        try:
            self._open()
            found = self._look()
        except (OSError, HybridCoreError) as error:
            return [_gone(name, self._source, plain(str(error))) for name in self._names]
        self._names = [seen.name for seen in found] or self._names
        return found or [
            _gone(name, self._source, "the directory is gone, or empty") for name in self._names
        ]

    def replay(self, number: int | None) -> int:
        if self._queue is None:
            raise ConfigurationError(f"there is no write queue in {self._source}")
        return self._queue.dead_letters.replay(number)

    def close(self) -> None:
        for opened in (self._store, self._queue):
            if opened is not None:
                with suppress(OSError, HybridCoreError):
                    opened.close()
        self._store = self._queue = None

    def _open(self) -> None:
        """Have open what there is; nothing is made where there is nothing."""
        if not (self._directory / "data.mdb").is_file():
            self.close()
        elif self._store is None and self._queue is None:
            from hybridcore.disk import Lmdb
            from hybridcore.errors import DiskError
            from hybridcore.hybrid import HybridCache
            from hybridcore.write_queue import WriteQueue

            try:
                # What loses least, and the least of sizes: neither is changed for its users.
                disk: Lmdb[Any, Any] = Lmdb(
                    self._directory, max_bytes="128KiB", durability="power", sweep=None
                )
            except DiskError as not_a_tier:
                try:
                    self._queue = WriteQueue(self._directory)
                except DiskError:
                    raise not_a_tier from None
            else:
                self._store = HybridCache(None, disk)

    def _published(self) -> Path | None:
        for place in (self._directory, self._directory / PUBLISHED):
            if next(place.glob("*-*.json"), None) or (place / "gone.json").is_file():
                return place
        return None

    def _health_in(
        self, name: str, samples: Samples, *, has_queue: bool
    ) -> tuple[str, tuple[str, ...]]:
        """As far as metrics tell it, or the queue that is open here."""
        if "hybridcore_uptime_seconds" not in samples and not has_queue:
            return "unknown", ("no process that publishes statistics here is running",)
        queue = None if self._queue is None else self._queue.stats()
        health = self._health.of(name, samples, time.time(), queue)
        return health.state, told_lines(health)

    def _look(self) -> list[Seen]:
        queue = None if self._queue is None else self._letters.view(self._queue)
        place = self._published()
        told: dict[str, Samples] = {}
        if place is not None:
            from hybridcore.exporters.processes import collect

            told = {name: samples_in(found) for name, found in _by_cache(collect(place)).items()}
        if not told and self._store is not None:
            told[self._name] = _of_the_directory(self._store)
        if not told and queue is not None:
            told[self._name] = {}
        found = []
        for name, samples in told.items():
            state, reasons = self._health_in(name, samples, has_queue=queue is not None)
            found.append(
                Seen(
                    name=plain(name),
                    source=self._source,
                    samples=samples,
                    state=state,
                    reasons=reasons,
                    queue=queue,
                    invalidations=() if self._store is None else _tail(self._store),
                )
            )
        return found


class _Seldom:
    """What a function returned lately."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function, self._value, self._until = function, None, 0.0

    def __call__(self) -> Any:
        if time.monotonic() >= self._until:
            self._value = self._function()
            self._until = time.monotonic() + _SELDOM
        return self._value


class _Letters:
    """The first dead letters of a queue, read again when their number has changed, or seldom."""

    def __init__(self) -> None:
        self._known: tuple[int, int] | None = None
        self._until = 0.0
        self._letters: tuple[LetterView, ...] = ()

    def view(self, queue: WriteQueue) -> QueueView:
        stats = queue.stats()
        now = stats.dead, stats.dead_bytes
        if now != self._known or time.monotonic() >= self._until:
            letters = queue.dead_letters.after(0, _LETTERS) if stats.dead else []
            self._letters = tuple(map(letter_view, letters))
            self._known, self._until = now, time.monotonic() + _SELDOM
        return queue_of_stats(stats, self._letters)


def _gone(name: str, source: str, reason: str) -> Seen:
    return Seen(name=name, source=source, samples={}, state="gone", reasons=(reason,))


def _durable(store: HybridCache[Any, Any]) -> WriteQueue | None:
    from hybridcore.write_queue import WriteQueue

    queue = store._engine.queue
    return queue if isinstance(queue, WriteQueue) else None


def _tail(store: HybridCache[Any, Any]) -> tuple[InvalidationView, ...]:
    try:
        return tuple(map(invalidation_view, reversed(store.invalidation_log(last=_TAIL))))
    except HybridCoreError:  # the disk fails, which its health tells
        return ()


def _health(store: HybridCache[Any, Any]) -> tuple[str, tuple[str, ...]]:
    health = store.health()
    return health.state, told_lines(health)


def _by_cache(families: list[Family]) -> dict[str, list[Family]]:
    found: dict[str, list[Family]] = {}
    for family in families:
        caches = {dict(labels).get("cache", "") for labels in family.samples}
        for cache in sorted(caches):
            of_it = {
                labels: value
                for labels, value in family.samples.items()
                if dict(labels).get("cache", "") == cache
            }
            found.setdefault(cache, []).append(family._replace(samples=of_it))
    return found


def _of_the_directory(store: HybridCache[Any, Any]) -> Samples:
    """What can be told of a disk tier when no process tells what it counts."""
    disk = store.stats().disk
    assert disk is not None
    nothing: frozenset[tuple[str, str]] = frozenset()
    return {
        "hybridcore_disk_entries": [(nothing, disk.entries)],
        "hybridcore_disk_bytes": [(frozenset({("part", "pages")}), disk.used_bytes)],
    }
