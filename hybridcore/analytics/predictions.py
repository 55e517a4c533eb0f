"""`Predictions`: how a cache fills and evicts, from what was measured of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from hybridcore.analytics.forecast import MOST_POINTS, Forecast, forecast

if TYPE_CHECKING:
    from collections.abc import Mapping

POINTS = 512
"""Measurements that are kept; beyond, every second one goes and the interval is doubled."""
COUNTED = ("evicted", "inserted", "evicted_size")
"""What only grows: counts, of which nothing is foretold but how fast."""


class Series:
    """Measurements by name over time, in constant memory."""

    def __init__(self, interval: float, start: float) -> None:
        self.interval = interval
        self.times: list[float] = []
        self.values: dict[str, list[float | None]] = {}
        self._next = start

    def due(self, now: float) -> bool:
        """Whether the interval has passed."""
        return now >= self._next

    def add(self, now: float, values: Mapping[str, float]) -> None:
        """Add a measurement; what is not measured this time has no value then."""
        if self.times and now <= self.times[-1]:
            return
        for name in values:
            self.values.setdefault(name, [None] * len(self.times))
        self.times.append(now)
        for name, column in self.values.items():
            column.append(values.get(name))
        if len(self.times) >= POINTS:
            del self.times[1::2]
            for column in self.values.values():
                del column[1::2]
            self.interval *= 2
        self._next = now + self.interval

    def forecast(
        self, name: str, horizon: float, period: float | None, points: int = MOST_POINTS
    ) -> Forecast | None:
        """Where a measurement goes; None if there are too few."""
        known = [
            (at, value)
            for at, value in zip(self.times, self.values.get(name, ()), strict=False)
            if value is not None
        ]
        if len(known) < 3:
            return None
        times, values = zip(*known, strict=True)
        return forecast(times, values, horizon, period=period, most_points=points)

    def memory_bytes(self) -> int:
        """Return the memory that it takes, about."""
        return 32 * len(self.times) * (1 + len(self.values))


@dataclass(frozen=True, slots=True)
class Predictions:
    """What is expected within ``horizon`` seconds.

    ``evictions`` of the memory tier lie between ``fewest`` and ``most`` with the probability of the
    forecasts; ``full_in`` is the time until it is full, 0 if it is, None if it will not be.
    ``growth`` has a forecast of each thing measured: the "size" of the memory tier, the
    "working_set" that was asked for, in the same unit, and the bytes on "disk". Nothing is known
    before three measurements.
    """

    horizon: float
    evictions: float | None = None
    fewest: float | None = None
    most: float | None = None
    full_in: float | None = None
    growth: Mapping[str, Forecast] = field(default_factory=dict)


def predict(
    series: Series,
    horizon: float,
    *,
    maxsize: float,
    period: float | None = None,
    points: int = MOST_POINTS,
) -> Predictions:
    """Tell what the measurements lead to."""
    found = {
        name: line
        for name in series.values
        if (line := series.forecast(name, horizon, None if name in COUNTED else period, points))
    }
    growth = {name: line for name, line in found.items() if name not in COUNTED}
    if "evicted" not in found or "size" not in found:
        return Predictions(horizon, growth=growth)
    now = series.times[-1]
    size = series.values["size"][-1]
    evicted = series.values["evicted"][-1]
    assert size is not None
    assert evicted is not None
    if maxsize == inf or not maxsize:
        return Predictions(horizon, 0.0, 0.0, 0.0, None, growth)
    per_second = found["size"].per_hour / 3600
    if size >= 0.98 * maxsize or series.values["evicted"][0] != evicted:
        line, counted = found["evicted"], evicted
        full_in: float | None = 0.0
        left = horizon
    else:
        line, counted = found["inserted"], series.values["inserted"][-1] or 0.0
        full_in = (maxsize - size) / per_second if per_second > 0 else None
        left = max(0.0, horizon - full_in) if full_in is not None else 0.0
    share = left / (line.times[-1] - now)

    def events(until: float) -> float:
        return max(0.0, until - counted) * share

    return Predictions(
        horizon,
        events(line.values[-1]),
        events(line.lower[-1]),
        events(line.upper[-1]),
        full_in,
        growth,
    )
