"""`Push`: tells sinks of caches every few seconds, and lets none of them disturb anybody."""

from __future__ import annotations

import logging
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Protocol
from weakref import finalize, ref

from hybridcore.exporters.metrics import Buckets, Family
from hybridcore.exporters.sources import HasStats, Sources
from hybridcore.forks import start_afresh_after_forks
from hybridcore.logs import raised_by
from hybridcore.units import seconds

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from hybridcore.units import Duration

log = logging.getLogger("hybridcore")

_SHARES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999))


class Sink(Protocol):
    """Where statistics go. What it raises is logged once, until it works again."""

    def count(self, name: str, increase: float, labels: Mapping[str, str]) -> None:
        """A counter has grown since it was told of last."""

    def gauge(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """Something is so large now."""

    def flush(self) -> None:
        """That was all for now."""


class Push:
    """Tells sinks what caches counted, in a thread of its own, until it is closed.

    Counters are told as what they grew by. Of durations there are counters of how many and how
    long in all, ``..._duration_seconds_count`` and ``_sum``, and gauges of the quantiles of the
    last minute, with the label ``quantile``.

    Args:
        caches: by the name that becomes the label ``cache``.
        interval: how often; None: only by `push`.
    """

    def __init__(
        self, caches: Mapping[str, HasStats], *sinks: Sink, interval: Duration | None = 10.0
    ) -> None:
        self._sources = Sources(caches)
        self._sinks = sinks
        self._interval = None if interval is None else seconds(interval)
        self._told: dict[tuple[Any, ...], float] = {}
        self._failing: set[int] = set()
        self._finalize: Any = None
        self.start_afresh()
        start_afresh_after_forks(self)

    def start_afresh(self) -> None:
        """Begin a thread; a forked child tells what it counts itself."""
        self._lock = Lock()
        self._told = {}
        self._closed = Event()
        if self._finalize is not None:
            self._finalize.detach()
        self._finalize = finalize(self, self._closed.set)
        if self._interval is not None:
            Thread(
                target=_push_often,
                args=(ref(self), self._closed, self._interval),
                name="hybridcore-push",
                daemon=True,
            ).start()

    def push(self) -> None:
        """Tell all sinks now; raises nothing that they do."""
        with self._lock:
            rows = self._rows()
            for place, sink in enumerate(self._sinks):
                try:
                    for kind, name, labels, value in rows:
                        if kind == "gauge":
                            sink.gauge(name, value, labels)
                        elif value:
                            sink.count(name, value, labels)
                    sink.flush()
                except Exception as error:
                    if place not in self._failing:
                        log.warning(
                            "a sink of statistics fails, and is not told of again until it works: "
                            "%s, %s",
                            type(sink).__name__,
                            raised_by(error),
                        )
                    self._failing.add(place)
                else:
                    self._failing.discard(place)

    def close(self) -> None:
        """Tell a last time."""
        if not self._closed.is_set():
            self._closed.set()
            self.push()

    def __enter__(self) -> Push:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _rows(self) -> list[tuple[str, str, dict[str, str], float]]:
        rows = []
        for family in self._sources.families():
            for name, labels, value in _numbers(family):
                if family.kind != "gauge":
                    place = (name, *sorted(labels.items()))
                    value, self._told[place] = value - self._told.get(place, 0.0), value
                    rows.append(("count", name, labels, value))
                else:
                    rows.append(("gauge", name, labels, value))
        for cache, stats in self._sources.stats().items():
            rows += (
                ("gauge", name, labels, value)
                for name, labels, value in quantiles(cache, stats.performance)
            )
        return rows


def _numbers(family: Family) -> list[tuple[str, dict[str, str], float]]:
    """The samples of a family as plain numbers."""
    rows = []
    for sample, value in family.samples.items():
        labels = dict(sample)
        if isinstance(value, Buckets):
            rows.append((f"{family.name}_count", labels, float(value.counts[-1])))
            rows.append((f"{family.name}_sum", labels, value.sum))
        else:
            rows.append((family.name, labels, value))
    return rows


def quantiles(cache: str, performance: Any) -> list[tuple[str, dict[str, str], float]]:
    """Gauges of how long operations took in the last minute."""
    rows = []
    for series, latency in performance.series.items():
        lately = latency.windows.get(60.0) or latency.total
        found = lately.quantiles(*(share for _, share in _SHARES))
        labels = {
            "cache": cache,
            "tier": series.tier,
            "operation": series.operation,
            "result": series.outcome,
        }
        for (name, _), value in zip(_SHARES, found, strict=True):
            rows.append(
                ("hybridcore_request_duration_seconds", {**labels, "quantile": name}, value)
            )
    return rows


def _push_often(push_ref: ref[Push], closed: Event, interval: float) -> None:
    """Run by the thread, which does not keep alive what nobody else knows."""
    while not closed.wait(interval):
        push = push_ref()
        if push is None:
            return
        try:
            push.push()
        except Exception as error:
            log.warning("statistics were not told: %s", raised_by(error))
        del push
