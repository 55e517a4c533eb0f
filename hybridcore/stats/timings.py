"""Where durations are recorded: a histogram for each tier, operation and outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridcore._native.histogram import Histogram
from hybridcore.stats.performance import WINDOWS, Latency, Series

if TYPE_CHECKING:
    from collections.abc import Callable


class Timings:
    """The histograms of one cache, each made when it is first needed.

    Args:
        timer: a clock in seconds, for their windows.
    """

    def __init__(self, timer: Callable[[], float] | None = None) -> None:
        self._timer = timer
        self._histograms: dict[tuple[str, str, str], Histogram] = {}

    def record(self, tier: str, operation: str, outcome: str, seconds: float) -> None:
        """Count an operation that took so long; safe for threads, takes no lock."""
        try:
            histogram = self._histograms[tier, operation, outcome]
        except KeyError:
            histogram = self.histogram(tier, operation, outcome)
        histogram.record(max(seconds, 0.0))

    def histogram(self, tier: str, operation: str, outcome: str) -> Histogram:
        """The histogram of a series."""
        return self._histograms.setdefault((tier, operation, outcome), Histogram(self._timer))

    def latencies(self) -> dict[Series, Latency]:
        """A snapshot of each series that has anything."""
        latencies = {}
        for series, histogram in list(self._histograms.items()):
            total, *windows = histogram.windows(*WINDOWS)
            if total.count:
                latencies[Series(*series)] = Latency(
                    total, dict(zip(WINDOWS, windows, strict=True)), tuple(histogram.outliers())
                )
        return latencies
