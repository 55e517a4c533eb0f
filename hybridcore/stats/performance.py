"""How long operations took, how many there were in a second, and how many failed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, NamedTuple

from hybridcore._native.histogram import Distribution
from hybridcore.stats.counted import Counted, less_by
from hybridcore.units import seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hybridcore.units import Duration

WINDOWS = (60.0, 300.0, 3600.0)
"""Seconds of the last minute, the last five and the last hour: what `Performance.over` knows."""

TIERS = ("memory", "disk", "origin", "queue", "all")

ERRORS = (
    "load_error",
    "store_error",
    "timeout",
    "breaker_open",
    "bulkhead_full",
    "serialization",
    "disk",
)
"""Classes of errors: of loads and writes that are of no other class, then these, then the disk."""


class Series(NamedTuple):
    """What a distribution is of.

    - ``tier``: memory, disk, origin, the queue of writes, or all: whole lookups that missed memory
    - ``operation``: get, put, delete of a tier; load, store, delete of the origin
    - ``outcome``: of a lookup ``"hit"``, ``"stale"``, ``"miss"`` or ``"error"``, of others
      ``"ok"`` or ``"error"``
    """

    tier: str
    operation: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Latency(Counted):
    """How long the operations of one series took: ever, and by window in seconds.

    ``outliers`` are a few that took very long of late, with their times since the epoch. The
    difference of two has no windows.
    """

    total: Distribution
    windows: Mapping[float, Distribution]
    outliers: tuple[tuple[float, float], ...] = ()

    def __sub__(self, before: Latency) -> Latency:
        return Latency(self.total - before.total, {}, self.outliers)


@dataclass(frozen=True, slots=True)
class Performance(Counted):
    """How long the operations of each tier took, in seconds, and how many failed of what.

    ``mean``, ``p50``, ``p95``, ``p99``, ``p999`` and ``throughput`` (operations a second) are by
    tier, and of all operations since the cache was made; `over` tells of the last minutes, and
    ``after - before`` of the time between. Hits of memory are a sample, which stands for all.

    ``errors`` are by class, see `ERRORS`; in a window they are those since the cache was made.
    """

    series: Mapping[Series, Latency]
    errors: Mapping[str, int]
    window: float | None = None

    def __sub__(self, before: Performance) -> Performance:
        nothing = Latency(Distribution(), {})
        series = {
            name: latency - before.series.get(name, nothing)
            for name, latency in self.series.items()
        }
        return Performance(series, less_by(self.errors, before.errors))

    def over(self, window: Duration) -> Performance:
        """The same over the last minute, five minutes or hour: 60, 300 or 3600 seconds.

        Raises:
            ValueError: another window, or a difference, which knows of no others.
        """
        wanted = seconds(window)
        if wanted not in WINDOWS:
            known = ", ".join(f"{known:.0f}" for known in WINDOWS)
            raise ValueError(f"window is expected to be one of {known} seconds, got {window!r}")
        if any(wanted not in latency.windows for latency in self.series.values()):
            raise ValueError("the difference of two snapshots is of one stretch of time only")
        windows = {
            series: replace(latency, total=latency.windows[wanted], windows={})
            for series, latency in self.series.items()
        }
        return replace(self, series=windows, window=wanted)

    def of(
        self, tier: str | None = None, operation: str | None = None, outcome: str | None = None
    ) -> Distribution:
        """All series together of this tier, operation and outcome; None: of any."""
        wanted = (tier, operation, outcome)
        found = (
            latency.total
            for series, latency in self.series.items()
            if all(want in (None, has) for want, has in zip(wanted, series, strict=True))
        )
        return reduce(add, found, Distribution())

    def by_tier(self) -> dict[str, Distribution]:
        """Of each tier that was used, all its operations."""
        tiers = {series.tier for series in self.series}
        return {tier: self.of(tier) for tier in TIERS if tier in tiers}

    @property
    def mean(self) -> dict[str, float]:
        """Mean seconds by tier."""
        return {tier: found.mean for tier, found in self.by_tier().items()}

    def quantile(self, share: float) -> dict[str, float]:
        """The seconds that this share of the operations took at most, by tier."""
        return {tier: found.quantile(share) for tier, found in self.by_tier().items()}

    @property
    def p50(self) -> dict[str, float]:
        """Median seconds by tier."""
        return self.quantile(0.5)

    @property
    def p95(self) -> dict[str, float]:
        """Seconds that 95 of 100 took at most, by tier."""
        return self.quantile(0.95)

    @property
    def p99(self) -> dict[str, float]:
        """Seconds that 99 of 100 took at most, by tier."""
        return self.quantile(0.99)

    @property
    def p999(self) -> dict[str, float]:
        """Seconds that 999 of 1000 took at most, by tier."""
        return self.quantile(0.999)

    @property
    def throughput(self) -> dict[str, float]:
        """Operations a second by tier."""
        return {tier: found.rate for tier, found in self.by_tier().items()}

    @property
    def error_rate(self) -> dict[str, float]:
        """Errors of each class for every operation of disk, origin and queue."""
        operations = sum(self.of(tier).count for tier in ("disk", "origin", "queue"))
        return {name: count / max(operations, 1) for name, count in self.errors.items()}

    def as_dict(self) -> dict[str, Any]:
        """What there is to tell of each series, and the errors, as plain data."""
        shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p999": 0.999}
        told = []
        for series, latency in sorted(self.series.items()):
            found = latency.total
            quantiles = dict(zip(shares, found.quantiles(*shares.values()), strict=True))
            told.append(
                {
                    **series._asdict(),
                    "count": found.count,
                    "rate": found.rate,
                    "mean": found.mean,
                    **quantiles,
                    "outliers": [list(outlier) for outlier in latency.outliers],
                }
            )
        return {"series": told, "errors": dict(self.errors)}
