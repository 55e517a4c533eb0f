"""What alerts look at: each signal is worked out of snapshots here, and by Prometheus as PromQL."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil, floor
from statistics import median
from typing import TYPE_CHECKING, Protocol

from hybridcore.exporters.metrics import BOUNDS, Buckets, families

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hybridcore.exporters.metrics import Family
    from hybridcore.stats.snapshot import HybridStats

Labels = frozenset[tuple[str, str]]
Samples = dict[str, list[tuple[Labels, float]]]

_FINE, _COARSE = 660.0, 60.0
"""Seconds for which every snapshot is kept, and how far apart older ones are."""


def samples_of(stats: HybridStats) -> Samples:
    """A snapshot as Prometheus would have it, by the names of the metrics."""
    return samples_in(families("", stats))


def samples_in(told: Iterable[Family]) -> Samples:
    """Metrics as Prometheus would have them, by their names."""
    found: Samples = {}
    for family in told:
        for labels, value in family.samples.items():
            where = _labels(labels)
            if isinstance(value, Buckets):
                found.setdefault(family.name + "_count", []).append((where, value.counts[-1]))
                found.setdefault(family.name + "_sum", []).append((where, value.sum))
                for bound, count in zip(BOUNDS, value.counts, strict=False):
                    bucket = _labels(labels, bound)
                    found.setdefault(family.name + "_bucket", []).append((bucket, count))
            else:
                found.setdefault(family.name, []).append((where, value))
    return found


@lru_cache(maxsize=1 << 16)
def _labels(labels: tuple[tuple[str, str], ...], bound: float | None = None) -> Labels:
    """The labels as they are kept, once for all snapshots: they are most of one."""
    return frozenset(labels if bound is None else (*labels, ("le", str(bound))))


class History:
    """Snapshots of one cache in the order of their times, older ones a minute apart.

    Args:
        reach: seconds after which they are forgotten.
    """

    def __init__(self, reach: float = 3 * 86400.0) -> None:
        self._reach = reach
        self._times: list[float] = []
        self._samples: list[Samples] = []
        self._known: dict[int, tuple[Signal, dict[float, float | None]]] = {}
        self.now = 0.0
        """The time that signals are worked out for: that of the newest snapshot, or later."""

    def add(self, at: float, samples: Samples) -> None:
        """Take a snapshot; one that is not newer than the last is passed over."""
        if self._times and at <= self._times[-1]:
            return
        self.now = at
        self._times.append(at)
        self._samples.append(samples)
        old = bisect_right(self._times, at - _FINE)
        if old >= 3 and self._times[old - 1] - self._times[old - 3] <= _COARSE:
            del self._times[old - 2], self._samples[old - 2]
        gone = bisect_right(self._times, at - self._reach) - 1
        if gone > 0:
            del self._times[:gone], self._samples[:gone]

    def latest(self, at: float | None = None) -> Samples | None:
        """The newest snapshot of that time."""
        last = len(self._times) if at is None else bisect_right(self._times, at)
        return self._samples[last - 1] if last else None

    def between(self, window: float, at: float | None = None) -> tuple[Samples, Samples] | None:
        """The snapshots at the end of a stretch of time and at its beginning; None
        while less than half of it is known."""
        if len(self._times) < 2:
            return None
        end = self._times[-1] if at is None else at
        last = bisect_right(self._times, end) - 1
        first = max(bisect_right(self._times, end - window) - 1, 0)
        if last <= first or self._times[last] - self._times[first] < window / 2:
            return None
        return self._samples[last], self._samples[first]

    def past(self, signal: Signal, window: float, step: float, at: float) -> list[float]:
        """What a signal was at whole multiples of a step within a window, as far as known."""
        _, known = self._known.setdefault(id(signal), (signal, {}))
        begin = max(at - window, self._times[0] if self._times else at)
        wanted = [number * step for number in range(ceil(begin / step), ceil(at / step))]
        for time in wanted:
            if time not in known:
                known[time] = signal.value(self, time)
        if len(known) > 3 * window / step:
            for time in [time for time in known if time < at - 2 * window]:
                del known[time]
        return [value for time in wanted if (value := known[time]) is not None]

    @property
    def silent(self) -> float:
        """Seconds since the last snapshot."""
        return self.now - self._times[-1] if self._times else 0.0

    @property
    def seconds(self) -> float:
        """How long it goes back."""
        return self._times[-1] - self._times[0] if self._times else 0.0


class Signal(Protocol):
    """A number that tells how a cache fares."""

    def value(self, history: History, at: float | None = None) -> float | None:
        """The number at a time, by default now; None where it cannot be told."""

    def promql(self) -> str:
        """The same as an expression of Prometheus, by ``job`` and ``cache``."""


def _selector(name: str, where: Mapping[str, str]) -> str:
    """``{state: "open|half_open"}`` is either of them."""
    inside = ",".join(
        f'{label}{"=~" if "|" in text else "="}"{text}"' for label, text in sorted(where.items())
    )
    return f"{name}{{{inside}}}" if inside else name


def _found(samples: Samples, name: str, where: Mapping[str, str]) -> list[float]:
    wanted = [{(label, one) for one in text.split("|")} for label, text in where.items()]
    return [
        value
        for labels, value in samples.get(name, ())
        if all(not allowed.isdisjoint(labels) for allowed in wanted)
    ]


def _span(window: float) -> str:
    return f"{window:.0f}s"


@dataclass(frozen=True)
class Increase:
    """By how much counters grew within a window of seconds; a restart begins at zero."""

    name: str
    window: float
    where: Mapping[str, str] = field(default_factory=dict)

    def value(self, history: History, at: float | None = None) -> float | None:
        between = history.between(self.window, at)
        if between is None:
            return None
        after, before = (_found(samples, self.name, self.where) for samples in between)
        if not after:
            return None
        grown = sum(after) - sum(before)
        return grown if grown >= 0 else sum(after)

    def promql(self) -> str:
        selector = _selector(self.name, self.where)
        return f"sum by (job, cache) (increase({selector}[{_span(self.window)}]))"


@dataclass(frozen=True)
class Gauge:
    """What a gauge says, the largest where there are several."""

    name: str
    where: Mapping[str, str] = field(default_factory=dict)

    def value(self, history: History, at: float | None = None) -> float | None:
        samples = history.latest(at)
        return (
            None if samples is None else max(_found(samples, self.name, self.where), default=None)
        )

    def promql(self) -> str:
        return f"max by (job, cache) ({_selector(self.name, self.where)})"


@dataclass(frozen=True)
class Growth:
    """By how much another signal grew within a window of seconds."""

    signal: Signal
    window: float

    def value(self, history: History, at: float | None = None) -> float | None:
        end = history.now if at is None else at
        if history.between(self.window, at) is None:
            return None
        after = self.signal.value(history, end)
        before = self.signal.value(history, end - self.window)
        return None if after is None or before is None else after - before

    def promql(self) -> str:
        inner = self.signal.promql()
        before = f"last_over_time(({inner})[60s:15s] offset {_span(self.window)})"
        return f"({inner} - {before})"


@dataclass(frozen=True)
class TimeLeft:
    """Seconds until the time that a gauge tells, in seconds since the epoch; at least 0."""

    name: str

    def value(self, history: History, at: float | None = None) -> float | None:
        until = Gauge(self.name).value(history, at)
        return None if until is None else max(0.0, until - (history.now if at is None else at))

    def promql(self) -> str:
        return f"clamp_min({Gauge(self.name).promql()} - time(), 0)"


@dataclass(frozen=True)
class Silence:
    """Seconds since a cache was last told of; known for an hour."""

    name: str = "hybridcore_uptime_seconds"

    def value(self, history: History, at: float | None = None) -> float | None:
        return history.silent if history.silent <= 3600 else None

    def promql(self) -> str:
        last = f"max_over_time(timestamp({self.name})[3600s:15s])"
        return f"(time() - max by (job, cache) ({last}))"


@dataclass(frozen=True)
class Share:
    """The part in a whole; unknown while the whole is less than ``least``."""

    part: Signal
    whole: Signal
    least: float = 1.0
    rest: bool = False
    """Whether it is what the part leaves of the whole."""

    def value(self, history: History, at: float | None = None) -> float | None:
        part, whole = self.part.value(history, at), self.whole.value(history, at)
        if part is None or whole is None or whole < self.least or whole <= 0:
            return None
        return 1 - part / whole if self.rest else part / whole

    def promql(self) -> str:
        share = f"({self.part.promql()} / ({self.whole.promql()} >= {self.least:g}))"
        return f"(1 - {share})" if self.rest else share


@dataclass(frozen=True)
class Product:
    """Two signals, multiplied."""

    one: Signal
    other: Signal

    def value(self, history: History, at: float | None = None) -> float | None:
        one, other = self.one.value(history, at), self.other.value(history, at)
        return None if one is None or other is None else one * other

    def promql(self) -> str:
        return f"({self.one.promql()} * {self.other.promql()})"


@dataclass(frozen=True)
class Difference:
    """One signal less so many times another."""

    one: Signal
    other: Signal
    times: float = 1.0

    def value(self, history: History, at: float | None = None) -> float | None:
        one, other = self.one.value(history, at), self.other.value(history, at)
        return None if one is None or other is None else one - self.times * other

    def promql(self) -> str:
        return f"({self.one.promql()} - {self.times:g} * {self.other.promql()})"


@dataclass(frozen=True)
class Least:
    """The smaller of a signal and so many times another, such as of a long and a short window."""

    one: Signal
    other: Signal
    times: float = 1.0

    def value(self, history: History, at: float | None = None) -> float | None:
        one, other = self.one.value(history, at), self.other.value(history, at)
        return None if one is None or other is None else min(one, self.times * other)

    def promql(self) -> str:
        one, other = self.one.promql(), self.other.promql()
        if self.times != 1:
            other = f"({self.times:g} * {other})"
        return f"((({one} < {other}) or {other}) and {one})"


@dataclass(frozen=True)
class Deviation:
    """By how much a signal is off its median, in robust standard deviations; down is negative.

    It is the median and the median of the distances to it (MAD) of the last ``window`` seconds,
    looked at every ``step``; a quarter of them being strange does not matter. ``floor``, or the
    share ``relative`` of the median, is the least deviation that counts as one. Prometheus takes
    quartiles in the place of the MAD.
    """

    signal: Signal
    window: float = 3600.0
    step: float = 60.0
    floor: float = 0.02
    relative: float = 0.0

    def value(self, history: History, at: float | None = None) -> float | None:
        end = history.now if at is None else at
        now = self.signal.value(history, at)
        if now is None or history.seconds < self.window / 2:
            return None
        known = history.past(self.signal, self.window, self.step, end)
        if len(known) < self.window / self.step / 3:
            return None
        middle = median(known)
        spread = 1.4826 * median(abs(value - middle) for value in known)
        return (now - middle) / max(spread, self.floor, self.relative * abs(middle))

    def promql(self) -> str:
        inner = self.signal.promql()
        over = f"({inner})[{_span(self.window)}:{_span(self.step)}]"
        middle = f"quantile_over_time(0.5, {over})"
        spread = f"(quantile_over_time(0.75, {over}) - quantile_over_time(0.25, {over})) / 1.349"
        spread = f"clamp_min({spread}, {self.floor:g})"
        if self.relative:
            share = f"{self.relative:g} * abs({middle})"
            spread = f"(({spread} > {share}) or {share})"
        enough = f"(count_over_time({over}) >= {self.window / self.step / 3:.0f})"
        return f"(({inner} - {middle}) / {spread} and {enough})"


@dataclass(frozen=True)
class Drift:
    """What a deviation was beyond ``slack`` in the last ``window`` seconds, added up step by step.

    The CUSUM of Page, over a window: what is a little too high for long counts as much as what is
    far too high for a moment.
    """

    deviation: Deviation
    window: float = 300.0
    step: float = 30.0
    slack: float = 2.0

    def value(self, history: History, at: float | None = None) -> float | None:
        end = history.now if at is None else at
        last = floor(end / self.step) * self.step + self.step  # the step that is under way, too
        known = history.past(self.deviation, self.window, self.step, last)
        if not known:
            return None
        return sum(max(0.0, value - self.slack) for value in known)

    def promql(self) -> str:
        beyond = f"clamp_min({self.deviation.promql()} - {self.slack:g}, 0)"
        return f"sum_over_time(({beyond})[{_span(self.window)}:{_span(self.step)}])"
