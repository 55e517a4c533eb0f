"""Statistics as instruments of OpenTelemetry, read when its reader collects."""

from __future__ import annotations

from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import MeterProvider, Observation, get_meter_provider

from hybridcore.exporters.metrics import Buckets, Family
from hybridcore.exporters.push import quantiles
from hybridcore.exporters.sources import HasStats, Sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_FRESH = 0.5
"""Seconds for which one snapshot serves all instruments."""


def instrument(caches: Mapping[str, HasStats], provider: MeterProvider | None = None) -> None:
    """Make observable instruments that tell of these caches, as counters and gauges.

    Names and attributes are those of the metrics for Prometheus, without ``_total``. Durations are
    counters of how many and how long in all, and gauges of quantiles of the last minute.

    Args:
        caches: by the name that becomes the attribute ``cache``.
        provider: of meters; by default the global one.
    """
    meter = (provider or get_meter_provider()).get_meter("hybridcore")
    readings = _Readings(Sources(caches))
    for family in readings.now()[0]:
        name = family.name.removesuffix("_total")
        if family.kind == "gauge":
            meter.create_observable_gauge(name, [readings.of(family.name)], "", family.help)
        elif family.kind == "counter":
            meter.create_observable_counter(name, [readings.of(family.name)], "", family.help)
    name = "hybridcore_request_duration_seconds"
    for part in ("count", "sum"):
        meter.create_observable_counter(
            f"{name}_{part}", [readings.of(name, part)], "s" if part == "sum" else ""
        )
    meter.create_observable_gauge(f"{name}_quantile", [readings.quantiles], "s")


class _Readings:
    """The latest snapshot, taken anew when it is not that of this collection."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._lock = Lock()
        self._at = float("-inf")
        self._families: list[Family] = []
        self._quantiles: list[tuple[str, dict[str, str], float]] = []

    def now(self) -> tuple[list[Family], list[tuple[str, dict[str, str], float]]]:
        with self._lock:
            if monotonic() - self._at > _FRESH:
                self._families = self._sources.families()
                self._quantiles = [
                    row
                    for cache, stats in self._sources.stats().items()
                    for row in quantiles(cache, stats.performance)
                ]
                self._at = monotonic()
            return self._families, self._quantiles

    def of(self, name: str, part: str = "") -> Callable[[Any], Iterator[Observation]]:
        def observe(options: Any) -> Iterator[Observation]:
            for family in self.now()[0]:
                if family.name == name:
                    for labels, value in family.samples.items():
                        if isinstance(value, Buckets):
                            value = value.sum if part == "sum" else value.counts[-1]
                        yield Observation(value, dict(labels))

        return observe

    def quantiles(self, options: Any) -> Iterator[Observation]:
        for _, labels, value in self.now()[1]:
            yield Observation(value, labels)
