"""`Historian`: writes what caches tell into a history, every ten seconds, in a thread."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any

from hybridcore.errors import ConfigurationError
from hybridcore.exporters.metrics import BOUNDS, Buckets, families
from hybridcore.exporters.processes import collect
from hybridcore.forks import start_afresh_after_forks
from hybridcore.hybrid import HybridCache
from hybridcore.logs import RateLimitedLog, raised_by
from hybridcore.monitoring.history import (
    LEVELS,
    WRITER,
    MetricHistory,
    SavedCurve,
    SeriesName,
    series_text,
)

try:
    import fcntl
except ImportError:  # Windows, where one process is expected to write
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from hybridcore.exporters.metrics import Family
    from hybridcore.exporters.sources import HasStats
    from hybridcore.units import Size

log = RateLimitedLog(logging.getLogger("hybridcore"))


class Historian:
    """Writes what caches tell into a history every ten seconds, in a thread of its own.

    Of the processes that use a directory one writes, and another one takes over when it ends.

    Args:
        caches: by name, of this process.
        directory: of the history, such as "cache/history" beside the disk tier "cache".
        published: where the processes of a service publish their statistics, see
            `hybridcore.exporters.prometheus`; then what all of them counted is written, instead of
            what this one did.
        clock: the time in seconds since the epoch.
        start: whether the thread is started; without it, `write` does it once.
    """

    def __init__(
        self,
        caches: Mapping[str, HasStats],
        directory: str | os.PathLike[str],
        *,
        published: str | os.PathLike[str] | None = None,
        max_bytes: Size = "32MiB",
        clock: Callable[[], float] = time.time,
        start: bool = True,
    ) -> None:
        if not caches and published is None:
            raise ConfigurationError("expected caches by name, or published=")
        self._caches = dict(caches)
        self._published = published
        self._clock = clock
        self.history = MetricHistory(directory, max_bytes=max_bytes)
        self._before: dict[str, float] = {}
        self._turn: Any = None
        self._threaded = start
        self.start_afresh()
        start_afresh_after_forks(self)

    def start_afresh(self) -> None:
        """Begin again; a forked child waits for its turn to write."""
        self._lock = Lock()
        self._closed = Event()
        if self._turn is not None:
            self._turn.close()  # in a forked child: the parent still has it
            self._turn = None
        self._before = {}
        self._next_curves = 0.0
        if self._threaded:
            Thread(target=self._run, name="hybridcore-history", daemon=True).start()

    @property
    def writes(self) -> bool:
        """Whether it is this process's turn to write."""
        return self._turn is not None

    def write(self) -> bool:
        """Take a snapshot and write it, if it is this process's turn."""
        with self._lock:
            if self._closed.is_set() or not self._take_turn():
                return False
            told, counters = flat(self._families())
            before, self._before = self._before, {text: told[text] for text in counters}
            if not before:  # when what was counted until now was counted, nobody knows
                return True
            grown = {
                text: told[text] - (had if (had := before.get(text, 0.0)) <= told[text] else 0.0)
                for text in counters
            }
            states = {text: value for text, value in told.items() if text not in counters}
            at = self._clock()
            self.history.add(at, states | grown, counters)
            if at >= self._next_curves:
                self._next_curves = at + LEVELS[-1].step
                self._write_curves(at)
            return True

    def close(self) -> None:
        """Write a last time, and let others write."""
        with suppress(Exception):
            self.write()
        with self._lock:
            if not self._closed.is_set():
                self._closed.set()
                self.history.close()
                if self._turn is not None:
                    self._turn.close()
                    self._turn = None

    def __enter__(self) -> Historian:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _write_curves(self, at: float) -> None:
        for name, cache in self._caches.items():
            if not isinstance(cache, HybridCache) or cache.stats().predictions is None:
                continue
            found, stats = cache.recommend(), cache.stats()
            if found.current is None or stats.memory is None or not found.requests:
                continue
            misses = stats.memory.misses
            calls = min(1.0, stats.origin.loads / misses) if misses else 1.0
            saved = SavedCurve(
                at, cache.analytics.curve(), found.current.size, found.requests_per_hour, calls
            )
            self.history.add_curve(name, saved)

    def _families(self) -> list[Family]:
        if self._published is not None:
            return collect(self._published)
        return [
            family
            for name, cache in self._caches.items()
            for family in families(name, cache.stats())
        ]

    def _take_turn(self) -> bool:
        if self._turn is not None or fcntl is None:
            return True
        turn = open(self.history.directory / WRITER, "ab")  # noqa: SIM115 it is held
        try:
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            turn.close()
            return False
        self._turn = turn
        return True

    def _run(self) -> None:
        closed = self._closed
        while not closed.is_set():
            try:
                self.write()
            except Exception as error:
                log.warning("the history was not written: %s", raised_by(error))
            closed.wait(LEVELS[0].step)


def flat(told: Iterable[Family]) -> tuple[dict[str, float], set[str]]:
    """Values by the text of their series, and which of these are counters."""
    found: dict[str, float] = {}
    counters: set[str] = set()
    for family in told:
        for labels, value in family.samples.items():
            cache = dict(labels).get("cache", "")
            rest = tuple(label for label in labels if label[0] != "cache")
            metric = family.name.removeprefix("hybridcore_")
            parts: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {(metric, rest): 0.0}
            if isinstance(value, Buckets):
                parts = {
                    (f"{metric}_count", rest): value.counts[-1],
                    (f"{metric}_sum", rest): value.sum,
                }
                for number, count in enumerate(value.counts[:-1]):
                    if count:
                        parts[f"{metric}_bucket", (*rest, ("le", str(BOUNDS[number])))] = count
            else:
                parts[metric, rest] = value
            for (name, where), part in parts.items():
                text = series_text(SeriesName(cache, name, where))
                found[text] = float(part)
                if family.kind != "gauge":
                    counters.add(text)
    return found, counters
