"""What alerts look at: each signal is worked out of snapshots here, and by Prometheus as PromQL."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Protocol

from hybridcore.exporters.metrics import BOUNDS, Buckets, families

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hybridcore.stats.snapshot import HybridStats

Labels = frozenset[tuple[str, str]]
Samples = dict[str, list[tuple[Labels, float]]]

_FINE, _COARSE = 660.0, 60.0
"""Seconds for which every snapshot is kept, and how far apart older ones are."""


def samples_of(stats: HybridStats) -> Samples:
    """A snapshot as Prometheus would have it, by the names of the metrics."""
    found: Samples = {}
    for family in families("", stats):
        for labels, value in family.samples.items():
            where = frozenset(labels)
            if isinstance(value, Buckets):
                found.setdefault(family.name + "_count", []).append((where, value.counts[-1]))
                found.setdefault(family.name + "_sum", []).append((where, value.sum))
                for bound, count in zip(BOUNDS, value.counts, strict=False):
                    bucket = where | {("le", str(bound))}
                    found.setdefault(family.name + "_bucket", []).append((bucket, count))
            else:
                found.setdefault(family.name, []).append((where, value))
    return found


class History:
    """Snapshots of one cache in the order of their times, older ones a minute apart.

    Args:
        reach: seconds after which they are forgotten.
    """

    def __init__(self, reach: float = 3 * 86400.0) -> None:
        self._reach = reach
        self._times: list[float] = []
        self._samples: list[Samples] = []

    def add(self, at: float, samples: Samples) -> None:
        """Take a snapshot; one that is not newer than the last is passed over."""
        if self._times and at <= self._times[-1]:
            return
        self._times.append(at)
        self._samples.append(samples)
        old = bisect_right(self._times, at - _FINE)
        if old >= 2 and self._times[old - 1] - self._times[max(old - 3, 0)] < _COARSE:
            del self._times[old - 2], self._samples[old - 2]
        gone = bisect_right(self._times, at - self._reach) - 1
        if gone > 0:
            del self._times[:gone], self._samples[:gone]

    @property
    def latest(self) -> Samples | None:
        """The newest snapshot."""
        return self._samples[-1] if self._samples else None

    def between(self, window: float, ago: float = 0.0) -> tuple[Samples, Samples] | None:
        """The snapshots at the end of a stretch of time and at its beginning; None
        while less than half of it is known."""
        if len(self._times) < 2:
            return None
        end = self._times[-1] - ago
        last = bisect_right(self._times, end) - 1
        first = max(bisect_right(self._times, end - window) - 1, 0)
        if last <= first or self._times[last] - self._times[first] < window / 2:
            return None
        return self._samples[last], self._samples[first]

    @property
    def seconds(self) -> float:
        """How long it goes back."""
        return self._times[-1] - self._times[0] if self._times else 0.0


class Signal(Protocol):
    """A number that tells how a cache fares."""

    def value(self, history: History, ago: float = 0.0) -> float | None:
        """The number so many seconds ago, None where it cannot be told."""

    def promql(self) -> str:
        """The same as an expression of Prometheus, by ``job`` and ``cache``."""


def _selector(name: str, where: Mapping[str, str]) -> str:
    inside = ",".join(f'{label}="{text}"' for label, text in sorted(where.items()))
    return f"{name}{{{inside}}}" if inside else name


def _total(samples: Samples, name: str, where: Mapping[str, str]) -> float | None:
    wanted = where.items()
    found = [value for labels, value in samples.get(name, ()) if wanted <= labels]
    return sum(found) if found else None


def _span(window: float) -> str:
    return f"{window:.0f}s"


@dataclass(frozen=True)
class Increase:
    """By how much counters grew within a window of seconds; a restart begins at zero."""

    name: str
    window: float
    where: Mapping[str, str] = field(default_factory=dict)

    def value(self, history: History, ago: float = 0.0) -> float | None:
        found = history.between(self.window, ago)
        if found is None:
            return None
        after, before = (_total(samples, self.name, self.where) for samples in found)
        if after is None:
            return None
        return after if before is None or after < before else after - before

    def promql(self) -> str:
        selector = _selector(self.name, self.where)
        return f"sum by (job, cache) (increase({selector}[{_span(self.window)}]))"


@dataclass(frozen=True)
class Gauge:
    """What a gauge says now, the largest where there are several."""

    name: str
    where: Mapping[str, str] = field(default_factory=dict)

    def value(self, history: History, ago: float = 0.0) -> float | None:
        samples = history.latest
        wanted = self.where.items()
        found = [v for labels, v in (samples or {}).get(self.name, ()) if wanted <= labels]
        return max(found, default=None)

    def promql(self) -> str:
        return f"max by (job, cache) ({_selector(self.name, self.where)})"


@dataclass(frozen=True)
class Share:
    """The part in a whole; unknown while the whole is less than ``least``."""

    part: Signal
    whole: Signal
    least: float = 1.0
    rest: bool = False
    """Whether it is what the part leaves of the whole."""

    def value(self, history: History, ago: float = 0.0) -> float | None:
        part, whole = self.part.value(history, ago), self.whole.value(history, ago)
        if part is None or whole is None or whole < self.least or whole <= 0:
            return None
        return 1 - part / whole if self.rest else part / whole

    def promql(self) -> str:
        share = f"({self.part.promql()} / ({self.whole.promql()} >= {self.least:g}))"
        return f"(1 - {share})" if self.rest else share


@dataclass(frozen=True)
class Least:
    """The smaller of two, such as of a long and a short window."""

    one: Signal
    other: Signal

    def value(self, history: History, ago: float = 0.0) -> float | None:
        one, other = self.one.value(history, ago), self.other.value(history, ago)
        return None if one is None or other is None else min(one, other)

    def promql(self) -> str:
        one, other = self.one.promql(), self.other.promql()
        return f"((({one} < {other}) or {other}) and {one})"


@dataclass(frozen=True)
class Deviation:
    """By how much a signal is off its median, in robust standard deviations; down is negative.

    It is the median and the median of the distances to it (MAD) of the last ``window`` seconds,
    looked at every ``step``; a quarter of them being strange does not matter. ``floor`` is the
    least deviation that counts as one. Prometheus takes quartiles in the place of the MAD.
    """

    signal: Signal
    window: float = 3600.0
    step: float = 60.0
    floor: float = 0.02

    def value(self, history: History, ago: float = 0.0) -> float | None:
        if history.seconds < self.window / 2:
            return None
        now = self.signal.value(history, ago)
        steps = range(1, int(min(self.window, history.seconds) / self.step) + 1)
        past = [self.signal.value(history, ago + step * self.step) for step in steps]
        known = [value for value in past if value is not None]
        if now is None or len(known) < 20:
            return None
        middle = median(known)
        spread = 1.4826 * median(abs(value - middle) for value in known)
        return (now - middle) / max(spread, self.floor)

    def promql(self) -> str:
        inner = self.signal.promql()
        over = f"({inner})[{_span(self.window)}:{_span(self.step)}]"
        spread = f"(quantile_over_time(0.75, {over}) - quantile_over_time(0.25, {over})) / 1.349"
        enough = f"(count_over_time({over}) >= 30)"
        middle = f"quantile_over_time(0.5, {over})"
        return f"(({inner} - {middle}) / clamp_min({spread}, {self.floor:g}) and {enough})"
