"""`Alerts`: evaluates rules over snapshots of caches in a thread of its own, and tells sinks."""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from hybridcore.errors import ConfigurationError
from hybridcore.logs import RateLimitedLog, raised_by
from hybridcore.monitoring.objectives import Objectives
from hybridcore.monitoring.past import Past
from hybridcore.monitoring.rules import BUILT_IN, Rule, of_slos
from hybridcore.monitoring.signals import Gauge, History, samples_of
from hybridcore.units import Duration, seconds

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from hybridcore.exporters.sources import HasStats
    from hybridcore.monitoring.signals import Samples
    from hybridcore.monitoring.slo import Slo
    from hybridcore.stats.snapshot import HybridStats

log = RateLimitedLog(logging.getLogger("hybridcore"))

_AGE = Gauge("hybridcore_uptime_seconds")

_MOST_WAITING = 1000
"""Notices that wait for a sink; when there are more, new ones are left out and logged."""


@dataclass(frozen=True)
class Alert:
    """A notice: a rule fires for a cache, or it is over. Times are in seconds since the epoch."""

    rule: str
    cache: str
    state: Literal["firing", "resolved"]
    severity: str
    value: float | None
    since: float
    at: float
    summary: str
    runbook: str

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


class Alerts:
    """Tells sinks when a rule begins to fire for a cache, and when that is over: once each.

    A sink is called in a thread of its own, so that one that hangs delays nobody else; what it
    raises is logged.

    Args:
        caches: by name.
        sinks: are called with an `Alert` each; `hybridcore.monitoring.sinks` has some.
        rules: default: those built in.
        slos: objectives, alerted on as `of_slos` says and counted in ``objectives``.
        kept: a file in which ``objectives`` are kept across restarts.
        past: a file in which what rules look at is kept across restarts, see `Past`; without one
            a rule that compares with the last hours has to wait for them after each start.
        interval: between two snapshots.
        reach: how far back snapshots are kept; longer windows are never known.
        clock: the time in seconds since the epoch.
    """

    def __init__(
        self,
        caches: Mapping[str, HasStats],
        sinks: Iterable[Callable[[Alert], object]] = (),
        *,
        rules: Iterable[Rule] = BUILT_IN,
        slos: Iterable[Slo] = (),
        kept: str | os.PathLike[str] | None = None,
        past: str | os.PathLike[str] | None = None,
        interval: Duration = 10.0,
        reach: Duration = "3d",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._caches = dict(caches)
        slos = tuple(slos)
        self._rules = (*rules, *of_slos(slos))
        self.objectives = Objectives(slos, kept)
        """What became of the objectives, by day and month."""
        self._interval = seconds(interval)
        if self._interval <= 0:
            raise ConfigurationError("interval is expected to be more than no time")
        self._clock = clock
        self._reach = seconds(reach)
        self._signals = (_AGE, *(rule.signal for rule in self._rules))
        self._past = None if past is None else Past(past)
        self._histories: dict[str, History] = {}
        for name in self._caches:
            self._history(name)
        self._beyond: dict[tuple[str, str], float] = {}
        self._firing: dict[tuple[str, str], Alert] = {}
        self._silenced: dict[tuple[str | None, str | None], float] = {}
        self._lock = threading.Lock()
        self._outlets = [_Outlet(sink) for sink in sinks]
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> Alerts:
        """Evaluate from now on, in a thread, until closed."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="hybridcore-alerts", daemon=True)
            self._thread.start()
        return self

    def silence(
        self, duration: Duration, *, rule: str | None = None, cache: str | None = None
    ) -> None:
        """Tell nothing of this rule and cache (None: of any) for so long; it is still evaluated."""
        with self._lock:
            self._silenced[rule, cache] = self._clock() + seconds(duration)

    def firing(self) -> list[Alert]:
        """What fires now, also what is silenced."""
        with self._lock:
            return list(self._firing.values())

    def evaluate(self) -> list[Alert]:
        """Take a snapshot of each cache and evaluate all rules; returns what has changed."""
        changed: list[Alert] = []
        for name, cache in self._caches.items():
            try:
                stats = cache.stats()
            except Exception as error:
                log.warning("no snapshot of %s: %s", name, raised_by(error), about=name)
                stats = None
            changed += self.observe(name, stats, self._clock())
        return changed

    def observe(self, cache: str, stats: HybridStats | None, at: float) -> list[Alert]:
        """Evaluate all rules for a snapshot that was taken then, None: for that there was none;
        returns what has changed."""
        return self.judge(cache, None if stats is None else samples_of(stats), at)

    def judge(self, cache: str, samples: Samples | None, at: float) -> list[Alert]:
        """The same for metrics of a cache that is not of this process."""
        with self._lock:
            history = self._history(cache)
            if samples is not None:
                history.add(at, samples)
                self.objectives.observe(cache, at, samples)
            history.now = at
            changes = (self._judge(rule, cache, history, at) for rule in self._rules)
            changed = [change for change in changes if change is not None]
            told = [change for change in changed if not self._is_silenced(change)]
            if self._past is not None:
                self._past.keep(self._histories, at)
        for change in told:
            for outlet in self._outlets:
                outlet.put(change)
        return changed

    def close(self, timeout: float = 5.0) -> None:
        """Stop evaluating, and give the sinks so many seconds in all to take what waits."""
        self._stopping.set()
        until = time.monotonic() + timeout
        if self._thread is not None:
            self._thread.join(timeout)
        for outlet in self._outlets:
            outlet.close(until)
        self.objectives.close()
        if self._past is not None:
            with self._lock:
                self._past.save(self._histories)

    def __enter__(self) -> Alerts:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run(self) -> None:
        while not self._stopping.wait(self._interval):
            try:
                self.evaluate()
            except Exception:
                log.logger.exception("alerts could not be evaluated")

    def _history(self, cache: str) -> History:
        history = self._histories.get(cache)
        if history is None:
            history = self._histories[cache] = History(self._signals, self._reach)
            if self._past is not None:
                self._past.restore(cache, history, self._clock())
        return history

    def _judge(self, rule: Rule, cache: str, history: History, at: float) -> Alert | None:
        name = (rule.name, cache)
        firing = self._firing.get(name)
        value = None
        if not rule.settled or (_AGE.value(history) or 0.0) > rule.settled:
            value = rule.signal.value(history)
        if value is None or not rule.beyond(value, firing=firing is not None):
            self._beyond.pop(name, None)
            if firing is None:
                return None
            del self._firing[name]
            self._note(rule, cache, at, fires=False)
            return self._alert(rule, cache, "resolved", value, firing.since, at)
        since = self._beyond.setdefault(name, at)
        if firing is not None or at - since < rule.lasting:
            return None
        self._note(rule, cache, since, fires=True)
        self._firing[name] = alert = self._alert(rule, cache, "firing", value, since, at)
        return alert

    def _note(self, rule: Rule, cache: str, at: float, *, fires: bool) -> None:
        if rule.slo is not None:
            self.objectives.changed(cache, rule.slo[0].name, rule.name, at, fires=fires)

    @staticmethod
    def _alert(
        rule: Rule,
        cache: str,
        state: Literal["firing", "resolved"],
        value: float | None,
        since: float,
        at: float,
    ) -> Alert:
        return Alert(
            rule.name, cache, state, rule.severity, value, since, at, rule.summary, rule.runbook
        )

    def _is_silenced(self, alert: Alert) -> bool:
        return any(
            alert.at < until and rule in (None, alert.rule) and cache in (None, alert.cache)
            for (rule, cache), until in self._silenced.items()
        )


class _Outlet:
    """A sink with the thread that calls it and the notices that wait for it."""

    def __init__(self, sink: Callable[[Alert], object]) -> None:
        self._sink = sink
        self._waiting: queue.Queue[Alert | None] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="hybridcore-alert-sink", daemon=True)
        self._thread.start()

    def put(self, alert: Alert) -> None:
        try:
            self._waiting.put_nowait(alert)
        except queue.Full:
            log.warning("a sink of alerts is too slow: %s is left out", alert.rule)

    def close(self, until: float) -> None:
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(max(until - time.monotonic(), 0.0))

    def _run(self) -> None:
        while (alert := self._waiting.get()) is not None:
            try:
                self._sink(alert)
            except Exception as error:
                log.warning("a sink of alerts failed: %s", raised_by(error))
