"""Trends: what a history says of hit ratios, traffic, growth, and what was out of the ordinary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hybridcore.analytics import Forecast, forecast
from hybridcore.monitoring.history import LEVELS, Values

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from hybridcore.monitoring.history import MetricHistory, SeriesName

DAY = 86400.0
AROUND = 30
"""Points before and after one that tell what is ordinary there."""
UNUSUAL = 8.0
"""Times the spread around it by which a point is out of the ordinary,"""
AT_LEAST = 0.1
"""and by this share of what was expected;"""
PERCEPTIBLE = {"s": 0.001}
"""and by so much at all, by unit."""
FEWEST = 12
"""Points that make a trend."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """From ``begin`` to ``end`` a measure was ``value`` at its farthest, not ``expected``."""

    measure: str
    begin: float
    end: float
    value: float
    expected: float


@dataclass(frozen=True, slots=True)
class Trend:
    """Where a measure went: its course, its median in the first and last quarter, and what is next.

    ``ahead`` is as far ahead as the course goes back, None where too little is known.
    """

    measure: str
    unit: str
    course: Values
    first: float
    last: float
    mean: float
    ahead: Forecast | None
    anomalies: tuple[Anomaly, ...]

    @property
    def change(self) -> float | None:
        """By what share it changed from the first quarter to the last."""
        return (self.last - self.first) / abs(self.first) if self.first else None


class Course:
    """The history of one cache from a time to a time, by metric.

    Args:
        step: seconds between points; by default the finest that there is for all of it.
    """

    def __init__(
        self,
        history: MetricHistory,
        cache: str,
        begin: float,
        end: float,
        step: float | None = None,
    ) -> None:
        fine, coarse = LEVELS
        self.step = step or (fine.step if end - begin <= fine.kept / 4 else coarse.step)
        self.begin, self.end = begin, end
        found = history.read(begin, end, step=self.step)
        self._series = {
            name: Values(times[times <= end], values[times <= end])  # no step half over
            for name, (times, values) in found.items()
            if name.cache == cache
        }

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known of that time."""
        return not self._series

    def _matching(self, metric: str, where: dict[str, str]) -> dict[SeriesName, Values]:
        return {
            series: values
            for series, values in self._series.items()
            if series.metric == metric and where.items() <= dict(series.labels).items()
        }

    def grown(self, metric: str, **where: str) -> Values | None:
        """How much counters of these labels grew in each step, together."""
        found = list(self._matching(metric, where).values())
        if not found:
            return None
        return Values(found[0].times, np.sum([values.values for values in found], axis=0))

    def total(self, metric: str, **where: str) -> float:
        """How much they grew in all."""
        values = self.grown(metric, **where)
        return 0.0 if values is None else float(values.values.sum())

    def state(self, metric: str, **where: str) -> Values | None:
        """What a gauge said, added up where there are several."""
        found = list(self._matching(metric, where).values())
        if not found:
            return None
        times = np.unique(np.concatenate([values.times for values in found]))
        together = np.zeros(len(times))
        for values in found:
            together[np.searchsorted(times, values.times)] += values.values
        return Values(times, together)

    def labels(self, metric: str, label: str) -> list[str]:
        """The values of a label."""
        found = {dict(series.labels).get(label) for series in self._matching(metric, {})}
        return sorted(text for text in found if text is not None)

    def rate(self, metric: str, **where: str) -> Values | None:
        """How much counters grew a second."""
        values = self.grown(metric, **where)
        return None if values is None else Values(values.times, values.values / self.step)

    def share(self, part: Values | None, whole: Values | None) -> Values | None:
        """One in the other, where there is any of it."""
        if part is None or whole is None:
            return None
        known = whole.values > 0
        return Values(whole.times[known], part.values[known] / whole.values[known])


def _hit_ratio(course: Course) -> Values | None:
    return course.share(
        course.grown("requests_total", tier="memory", result="hit"),
        course.grown("requests_total", tier="memory"),
    )


def _missed_all(course: Course) -> Values | None:
    return course.share(
        course.grown("requests_total", tier="origin"),
        course.grown("requests_total", tier="memory"),
    )


def _latency(course: Course) -> Values | None:
    return course.share(
        course.grown("request_duration_seconds_sum", tier="all"),
        course.grown("request_duration_seconds_count", tier="all"),
    )


MEASURES: dict[str, tuple[str, Callable[[Course], Values | None]]] = {
    "requests": ("/s", lambda course: course.rate("requests_total", tier="memory")),
    "memory hit ratio": ("", _hit_ratio),
    "share of requests that reach the origin": ("", _missed_all),
    "origin calls": ("/s", lambda course: course.rate("requests_total", tier="origin")),
    "origin errors": (
        "/s",
        lambda course: course.rate("requests_total", tier="origin", result="error"),
    ),
    "mean wait of misses": ("s", _latency),
    "evictions of memory": (
        "/s",
        lambda course: course.rate("evictions_total", tier="memory", cause="size"),
    ),
    "memory": ("B", lambda course: course.state("memory_bytes")),
    "disk": ("B", lambda course: course.state("disk_bytes", part="pages")),
    "origin quota used": ("/s", lambda course: course.rate("origin_quota_used_total")),
    "writes that wait": ("", lambda course: course.state("queue_waiting")),
}
"""What trends are told of: a unit, and how it is worked out."""


def trends(course: Course) -> list[Trend]:
    """The trend of each measure of which enough is known."""
    found = []
    for measure, (unit, work_out) in MEASURES.items():
        values = work_out(course)
        if values is None or len(values.times) < FEWEST or not values.values.any():
            continue
        found.append(trend(measure, unit, values))
    return found


def trend(measure: str, unit: str, values: Values) -> Trend:
    """The trend of a course."""
    quarter = max(1, len(values.values) // 4)
    span = float(values.times[-1] - values.times[0])
    marks = anomalies(measure, values, PERCEPTIBLE.get(unit, 0.0))
    ordinary = ~np.isin(np.arange(len(values.times)), _marked(values, marks))
    ahead = None
    if span and ordinary.sum() >= FEWEST:
        ahead = forecast(
            values.times[ordinary].tolist(),
            values.values[ordinary].tolist(),
            span,
            period=DAY if span >= 2 * DAY else None,
        )
    return Trend(
        measure,
        unit,
        values,
        float(np.median(values.values[:quarter])),
        float(np.median(values.values[-quarter:])),
        float(values.values.mean()),
        ahead,
        tuple(marks),
    )


def anomalies(measure: str, values: Values, least: float = 0.0) -> list[Anomaly]:
    """Where a course left what is ordinary around: by far more than it varies there.

    What is ordinary is the median of the points before and after, how much it varies the median of
    the distances from that (F. Hampel, 1974); of steps that last, only the edges may be told.
    """
    seen = values.values
    count = len(seen)
    if count < FEWEST:
        return []
    width = min(AROUND, count // 2)
    padded = np.pad(seen, width, mode="reflect")
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * width + 1)
    expected = np.median(around, axis=1)
    spread = 1.4826 * np.median(np.abs(around - expected[:, None]), axis=1)
    low, high = np.quantile(seen, [0.05, 0.95])
    whole = float(high - low) / 3.3
    far = np.abs(seen - expected)
    floor = np.maximum(AT_LEAST * np.abs(expected), max(least, 1e-9))
    odd = (far > UNUSUAL * np.maximum(spread, 0.3 * whole)) & (far > floor)
    found: list[Anomaly] = []
    for first, last in _runs(odd):
        worst = first + int(np.argmax(far[first : last + 1]))
        found.append(
            Anomaly(
                measure,
                float(values.times[first]),
                float(values.times[last]),
                float(seen[worst]),
                float(expected[worst]),
            )
        )
    return found


def _runs(odd: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last place of each stretch."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], odd.astype(np.int8), [0]])))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _marked(values: Values, marks: list[Anomaly]) -> list[int]:
    return [
        place
        for place, at in enumerate(values.times)
        if any(mark.begin <= at <= mark.end for mark in marks)
    ]
