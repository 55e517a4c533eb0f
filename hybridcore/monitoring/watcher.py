"""`Watcher`: looks at caches every so often in a thread of its own, and keeps what it saw."""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import replace
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, NamedTuple

from hybridcore.errors import ConfigurationError
from hybridcore.forks import start_afresh_after_forks
from hybridcore.logs import RateLimitedLog, raised_by
from hybridcore.monitoring.view import (
    AlertView,
    CacheView,
    Course,
    curve_of_metrics,
    hit_ratio_of,
    plain,
    queue_of_metrics,
    tiers_of,
    warming_of,
)
from hybridcore.monitoring.watched import Seen
from hybridcore.units import Duration, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hybridcore.monitoring.alerts import Alert, Alerts
    from hybridcore.monitoring.signals import Samples
    from hybridcore.monitoring.watched import Watched

log = RateLimitedLog(logging.getLogger("hybridcore"))

WINDOW = 60.0
"""Seconds that ratios, rates and latencies are about."""
_STEP = 5.0
"""Seconds between the snapshots that are kept for that."""
_POINTS = 300
"""Points that are kept of each cache."""
_SELDOM = 10.0
"""Seconds between two looks that alerts judge, which keep what they judged."""
_IDLE = 60.0
"""Seconds after which a watcher stops that nobody asked."""


class Point(NamedTuple):
    """Lookups a second between two looks by who answered, and errors of the origin."""

    at: float
    memory: float
    disk: float
    origin: float
    errors: float


class Watcher:
    """Looks at caches while somebody asks for what it sees.

    Args:
        watched: stores and directories; closed with it.
        interval: between two looks.
        alerts: whose alerts are told. With ``always`` they judge what is seen here.
        always: look also when nobody asks.
    """

    def __init__(
        self,
        watched: Iterable[Watched],
        *,
        interval: Duration = 2.0,
        alerts: Alerts | None = None,
        always: bool = False,
    ) -> None:
        self._watched = tuple(watched)
        self.interval = seconds(interval)
        if self.interval <= 0:
            raise ConfigurationError("interval is expected to be more than no time")
        self._alerts = alerts
        self._always = always
        self._judged = 0.0
        self._listeners: set[Callable[[], object]] = set()
        self._tracks: dict[str, _Track] = {}
        self._by_name: dict[str, Watched] = {}
        self._views: tuple[CacheView, ...] = ()
        self.closed = False
        self.start_afresh()
        start_afresh_after_forks(self)

    def start_afresh(self) -> None:
        """Forget the thread: a forked child has none."""
        self._lock = Lock()
        self._looking = Lock()
        self._stopping = Event()
        self._thread: Thread | None = None
        self._asked = 0.0

    def ask(self) -> None:
        """Somebody wants to see: look from now on, for a while."""
        with self._lock:
            self._asked = time.monotonic()
            if self.closed or (self._thread is not None and self._thread.is_alive()):
                return
            self._thread = Thread(target=self._run, name="hybridcore-watcher", daemon=True)
            self._thread.start()

    def views(self) -> tuple[CacheView, ...]:
        """The caches as they were seen last."""
        return self._views

    def points(self, name: str, after: float = 0.0) -> list[Point]:
        """What became of the lookups of a cache since a time."""
        track = self._tracks.get(name)
        return [] if track is None else [point for point in list(track.points) if point.at > after]

    def listen(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Have it called, in the thread, when there is something new; returns what ends that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def look(self) -> None:
        """Look now."""
        with self._looking:
            at = time.time()
            alerts = self._alerts
            judges = alerts is not None and self._always and at - self._judged >= _SELDOM
            if judges:
                self._judged = at
            views: dict[str, CacheView] = {}
            for watched in self._watched:
                for seen in self._seen(watched):
                    name = _unused(seen.name, views)
                    track = self._tracks.setdefault(name, _Track())
                    self._by_name[name] = watched
                    views[name] = replace(track.view(seen, at), name=name)
                    if alerts is not None and judges:
                        alerts.judge(name, seen.samples or None, at)
            for alert in [] if alerts is None else alerts.firing():
                view = views.get(alert.cache)
                if view is not None:
                    views[view.name] = replace(view, alerts=(*view.alerts, _alert(alert)))
            for name in self._tracks.keys() - views.keys():
                del self._tracks[name], self._by_name[name]
            self._views = tuple(views.values())
        for listener in list(self._listeners):
            listener()

    def replay(self, name: str, number: int | None = None) -> int:
        """Queue a dead letter of a cache again, or all; returns how many.

        Raises:
            ConfigurationError: there is no such cache, or it has no queue that is open here.
        """
        watched = self._by_name.get(name)
        if watched is None:
            raise ConfigurationError(f"there is no cache {name!r} here")
        return watched.replay(number)

    def close(self) -> None:
        """Look no more."""
        with self._lock:
            self.closed = True
            self._stopping.set()
            thread = self._thread
        if thread is not None:
            thread.join()
        for listener in list(self._listeners):
            listener()
        with self._looking:
            for watched in self._watched:
                watched.close()

    def _seen(self, watched: Watched) -> list[Seen]:
        try:
            return watched.look()
        except Exception as error:
            log.warning("a cache could not be looked at: %s", raised_by(error))
            before = [view for view in self._views if self._by_name.get(view.name) is watched]
            reason = f"it could not be looked at: {type(error).__name__}"
            return [
                Seen(name=v.name, source=v.source, samples={}, reasons=(reason,)) for v in before
            ]

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except Exception:
                log.logger.exception("caches could not be looked at")
            self._stopping.wait(self.interval)
            with self._lock:
                if not self._always and time.monotonic() - self._asked > _IDLE:
                    self._thread = None
                    return


class _Track:
    """What was seen of a cache before."""

    def __init__(self) -> None:
        self._snapshots: deque[tuple[float, Samples]] = deque()
        self._last: tuple[float, Samples] | None = None
        self.points: deque[Point] = deque(maxlen=_POINTS)

    def view(self, seen: Seen, at: float) -> CacheView:
        """What is to be seen now."""
        samples = seen.samples
        while len(self._snapshots) > 1 and self._snapshots[1][0] <= at - WINDOW:
            self._snapshots.popleft()
        began, before = self._snapshots[0] if self._snapshots else (at, None)
        course = Course(samples, before, _passed(samples, before, at - began))
        if not samples:
            self._last = None
            self._snapshots.clear()
        elif self._last is None:
            self._last = (at, samples)
        else:
            passed = _passed(samples, self._last[1], at - self._last[0])
            if passed > 0:  # 0: those who publish have told nothing new
                self.points.append(_point(Course(samples, self._last[1], passed), at))
                self._last = (at, samples)
        if samples and (not self._snapshots or at - self._snapshots[-1][0] >= _STEP):
            self._snapshots.append((at, samples))
        tiers = tiers_of(course, seen.latencies)
        exact = seen.latencies
        whole = course.latencies("all") if exact is None else exact.get("all")
        return CacheView(
            name=seen.name,
            source=seen.source,
            at=at,
            state=seen.state,
            reasons=seen.reasons,
            uptime=course.now("uptime_seconds"),
            window=None if before is None else at - began,
            rate=tiers[0].rate if tiers else None,
            hit_ratio=hit_ratio_of(course),
            p99=None if whole is None else whole.p99,
            tiers=tiers,
            queue=seen.queue or queue_of_metrics(course),
            warming=warming_of(course),
            curve=seen.curve or curve_of_metrics(course),
            invalidations=seen.invalidations,
        )


def _passed(after: Samples, before: Samples | None, seconds: float) -> float:
    """By how much a cache grew older, by its own clock: it may have been published since."""
    if before is None:
        return 0.0
    ages = (Course(samples, None, 0.0).now("uptime_seconds") for samples in (before, after))
    was, is_now = ages
    if was is None or is_now is None or is_now < was or was < is_now < seconds:
        return seconds  # nobody knows, or it began anew meanwhile
    return is_now - was


def _point(course: Course, at: float) -> Point:
    def rate(tier: str, result: str | None = None) -> float:
        where = {"tier": tier} if result is None else {"tier": tier, "result": result}
        return course.rate("requests_total", **where) or 0.0

    failed = rate("origin", "error")
    return Point(at, rate("memory", "hit"), rate("disk", "hit"), rate("origin") - failed, failed)


def _alert(alert: Alert) -> AlertView:
    return AlertView(
        rule=plain(alert.rule),
        severity=alert.severity,
        summary=plain(alert.summary),
        value=alert.value,
        since=alert.since,
        runbook=alert.runbook,
    )


def _unused(name: str, taken: dict[str, CacheView]) -> str:
    number, free = 2, name
    while free in taken:
        free, number = f"{name} ({number})", number + 1
    return free
