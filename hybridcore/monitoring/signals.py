"""What alerts look at: each signal is worked out of snapshots here, and by Prometheus as PromQL."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property, lru_cache
from math import ceil, floor, isnan, nan
from statistics import median
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from hybridcore.exporters.metrics import BOUNDS, Buckets, families

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from hybridcore.exporters.metrics import Family
    from hybridcore.stats.snapshot import HybridStats

Labels = frozenset[tuple[str, str]]
Samples = dict[str, list[tuple[Labels, float]]]

_THINNED = ((660.0, 60.0), (7200.0, 300.0))
"""Seconds after which snapshots are thinned out, and how far apart they are then."""


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


class Kept(Struct):
    """A `History` as it is kept on disk: columns, times, numbers, and what signals were."""

    columns: list[tuple[str, str, list[tuple[str, str]]]]
    times: list[float]
    rows: bytes
    known: dict[str, dict[float, float | None]]


class History:
    """What signals look at, of the snapshots of one cache: a number for each counter and gauge.

    Older snapshots are thinned out, to a minute apart and then five: three days of the built-in
    rules take about 0.6 MiB, with what signals were.

    Args:
        signals: the signals that are worked out of it.
        reach: seconds after which snapshots are forgotten.
    """

    def __init__(self, signals: Iterable[Signal], reach: float = 3 * 86400.0) -> None:
        self._reach = reach
        self._columns: dict[Column, int] = {}
        for one in signals:
            for read in _read_by(one):
                self._columns.setdefault(read.column, len(self._columns))
        self._times: list[float] = []
        self._rows: list[array[float]] = []
        self._known: dict[int, tuple[Signal, dict[float, float | None]]] = {}
        self._restored: dict[str, dict[float, float | None]] = {}
        self.now = 0.0
        """The time that signals are worked out for: that of the newest snapshot, or later."""

    def __len__(self) -> int:
        """How many snapshots are kept."""
        return len(self._times)

    def add(self, at: float, samples: Samples) -> None:
        """Take a snapshot; one that is not newer than the last is passed over."""
        if self._times and at <= self._times[-1]:
            return
        self.now = at
        self._times.append(at)
        self._rows.append(array("d", (_taken(samples, column) for column in self._columns)))
        for age, apart in _THINNED:
            old = bisect_right(self._times, at - age)
            if old >= 3 and self._times[old - 1] - self._times[old - 3] <= apart:
                del self._times[old - 2], self._rows[old - 2]
        gone = bisect_right(self._times, at - self._reach) - 1
        if gone > 0:
            del self._times[:gone], self._rows[:gone]

    def kept(self) -> Kept:
        """All of it, to be restored in another process."""
        return Kept(
            [(how, name, sorted(where)) for how, name, where in self._columns],
            self._times,
            b"".join(row.tobytes() for row in self._rows),
            {repr(signal): known for signal, known in self._known.values()} | self._restored,
        )

    def restore(self, kept: Kept, now: float) -> None:
        """Go on from what another one kept, as far as it is not of the future.

        Raises:
            ValueError: it does not fit together.
        """
        whole = array("d", kept.rows)
        if len(whole) != len(kept.times) * len(kept.columns):
            raise ValueError("the snapshots are incomplete")
        places = {
            (how, name, frozenset(where)): n for n, (how, name, where) in enumerate(kept.columns)
        }
        wanted = [places.get(column) for column in self._columns]
        for number, at in enumerate(kept.times):
            row = whole[number * len(places) : (number + 1) * len(places)]
            if at <= now and (not self._times or at > self._times[-1]):
                self._times.append(at)
                self._rows.append(array("d", (nan if n is None else row[n] for n in wanted)))
        self._restored = kept.known

    def latest(self, column: Column, at: float | None = None) -> float | None:
        """What the newest snapshot of that time has of a column."""
        last = len(self._times) if at is None else bisect_right(self._times, at)
        return self._cell(last - 1, column) if last else None

    def _cell(self, row: int, column: Column) -> float | None:
        value = self._rows[row][self._columns[column]]
        return None if isnan(value) else value

    def between(
        self, column: Column, window: float, at: float | None = None
    ) -> tuple[float | None, float | None] | None:
        """A column at the end of a stretch of time and at its beginning; None while less than
        half of the stretch is known."""
        if len(self._times) < 2:
            return None
        end = self._times[-1] if at is None else at
        last = bisect_right(self._times, end) - 1
        first = max(bisect_right(self._times, end - window) - 1, 0)
        if last <= first or self._times[last] - self._times[first] < window / 2:
            return None
        return self._cell(last, column), self._cell(first, column)

    def past(self, signal: Signal, window: float, step: float, at: float) -> list[float]:
        """What a signal was at whole multiples of a step within a window, as far as known."""
        entry = self._known.get(id(signal))
        if entry is None:
            known = self._restored.pop(repr(signal), {}) if self._restored else {}
            entry = self._known[id(signal)] = (signal, known)
        known = entry[1]
        begin = max(at - window, self._times[0] if self._times else at)
        wanted = [number * step for number in range(ceil(begin / step), ceil(at / step))]
        for time in wanted:
            if time not in known:
                known[time] = signal.value(self, time)
        if len(known) > 1.25 * window / step + 20:
            for time in [time for time in known if time < begin]:
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


Column = tuple[str, str, frozenset[tuple[str, str]]]
"""What is kept of a snapshot: "sum" or "max", of the metric of that name, where labels fit."""


def _taken(samples: Samples, column: Column) -> float:
    how, name, where = column
    found = _found(samples, name, dict(where))
    if not found:
        return nan
    return sum(found) if how == "sum" else max(found)


def parts(signal: object) -> Iterator[object]:
    """A signal, and all that it is worked out of."""
    yield signal
    if is_dataclass(signal):
        for one in fields(signal):
            yield from parts(getattr(signal, one.name))


def _read_by(signal: Signal) -> Iterator[Increase | Gauge]:
    """The counters and gauges that a signal is worked out of."""
    return (part for part in parts(signal) if isinstance(part, Increase | Gauge))


def _span(window: float) -> str:
    return f"{window:.0f}s"


@dataclass(frozen=True)
class Increase:
    """By how much counters grew within a window of seconds; a restart begins at zero."""

    name: str
    window: float
    where: Mapping[str, str] = field(default_factory=dict)

    def value(self, history: History, at: float | None = None) -> float | None:
        between = history.between(self.column, self.window, at)
        if between is None:
            return None
        after, before = between
        if after is None:
            return None
        grown = after - (before or 0.0)
        return grown if grown >= 0 else after

    @cached_property
    def column(self) -> Column:
        """What is kept of a snapshot for it."""
        return "sum", self.name, frozenset(self.where.items())

    def promql(self) -> str:
        selector = _selector(self.name, self.where)
        return f"sum by (job, cache) (increase({selector}[{_span(self.window)}]))"


@dataclass(frozen=True)
class Gauge:
    """What a gauge says, the largest where there are several."""

    name: str
    where: Mapping[str, str] = field(default_factory=dict)

    def value(self, history: History, at: float | None = None) -> float | None:
        return history.latest(self.column, at)

    @cached_property
    def column(self) -> Column:
        """What is kept of a snapshot for it."""
        return "max", self.name, frozenset(self.where.items())

    def promql(self) -> str:
        return f"max by (job, cache) ({_selector(self.name, self.where)})"


@dataclass(frozen=True)
class Growth:
    """By how much another signal grew within a window of seconds."""

    signal: Signal
    window: float

    def value(self, history: History, at: float | None = None) -> float | None:
        end = history.now if at is None else at
        if history.seconds < self.window / 2:
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

    gauge: Gauge

    def value(self, history: History, at: float | None = None) -> float | None:
        until = self.gauge.value(history, at)
        return None if until is None else max(0.0, until - (history.now if at is None else at))

    def promql(self) -> str:
        return f"clamp_min({self.gauge.promql()} - time(), 0)"


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
class Otherwise:
    """A signal, or another one while it is unknown."""

    one: Signal
    other: Signal

    def value(self, history: History, at: float | None = None) -> float | None:
        value = self.one.value(history, at)
        return self.other.value(history, at) if value is None else value

    def promql(self) -> str:
        return f"({self.one.promql()} or {self.other.promql()})"


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
class Median:
    """The median of a signal over the last ``window`` seconds, looked at every ``step``."""

    signal: Signal
    window: float = 3600.0
    step: float = 60.0

    def value(self, history: History, at: float | None = None) -> float | None:
        end = history.now if at is None else at
        known = history.past(self.signal, self.window, self.step, end)
        return median(known) if known else None

    def promql(self) -> str:
        over = f"({self.signal.promql()})[{_span(self.window)}:{_span(self.step)}]"
        return f"quantile_over_time(0.5, {over})"


@dataclass(frozen=True)
class Highest:
    """The highest that a signal was within ``window`` seconds until ``before`` seconds ago.

    It is looked at every ``step``. Never below ``least``; ``unknown`` where it was known less than
    ``fewest`` times, so that what comes and goes is seen first.
    """

    signal: Signal
    least: float
    unknown: float
    window: float = 86400.0
    step: float = 60.0
    before: float = 900.0
    fewest: int = 300

    def value(self, history: History, at: float | None = None) -> float | None:
        end = history.now if at is None else at
        known = history.past(self.signal, self.window, self.step, end - self.before)
        return max(self.least, *known) if len(known) >= self.fewest else self.unknown

    def promql(self) -> str:
        inner = self.signal.promql()
        over = f"({inner})[{_span(self.window)}:{_span(self.step)}]"
        if self.before:
            over += f" offset {_span(self.before)}"
        highest = f"clamp_min(max_over_time({over}), {self.least:g})"
        enough = f"(count_over_time({over}) >= {self.fewest})"
        return f"(({highest} and {enough}) or {inner} * 0 + {self.unknown:g})"


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

    deviation: Signal
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
