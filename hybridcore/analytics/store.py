"""`StoreAnalytics`: what a hybrid cache tells about the size of its memory tier."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from hybridcore.analytics.live import DEEPEST, Analytics, Analyzer
from hybridcore.analytics.recommend import NEARLY_ALL, whole
from hybridcore.analytics.recording import Recorder
from hybridcore.errors import ConfigurationError
from hybridcore.memory import Cache
from hybridcore.stats import Expectations, RecommendedSize

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from hybridcore._native import MemoryStore
    from hybridcore.analytics.curve import MissRatioCurve
    from hybridcore.analytics.predictions import Predictions
    from hybridcore.analytics.recommend import Recommendation
    from hybridcore.stats import DiskStats
    from hybridcore.units import Duration

HORIZON = 3600.0
"""Seconds that the statistics look ahead,"""
POINTS = 64
"""by lines through so many measurements, as they are asked for often."""
DISK_SHARE = 0.99
"""Of what any size could hit: what a disk should, which is cheap."""


class HasRecords(Protocol):
    """A disk tier."""

    def stats(self) -> DiskStats:
        """What it counted."""


class StoreAnalytics:
    """``store.analytics``: curve, recommendation, predictions and recordings of the memory tier.

    Args:
        memory: the tier, if there is one.
        options: True or `Analytics`: its requests are looked at from now on.
        loads: how many answers the origin gave.
        measures: what else grows.
        disk: the tier below, if there is one.

    Raises:
        ConfigurationError: there is no memory tier to be looked at.
    """

    clock = staticmethod(monotonic)

    def __init__(
        self,
        memory: MemoryStore[Any, Any] | None,
        options: Analytics | bool,
        loads: Callable[[], int],
        measures: Mapping[str, Callable[[], float]],
        disk: HasRecords | None = None,
    ) -> None:
        self._memory = memory
        self._loads = loads
        self._disk = disk
        self._expected: tuple[tuple[int, int], Expectations] | None = None
        self._analyzer: Analyzer | None = None
        if options:
            chosen = options if isinstance(options, Analytics) else Analytics()
            # What a disk holds is deep.
            deepest = DEEPEST if disk is None else 0
            self._analyzer = Analyzer(
                self._cache(), chosen, measures=measures, clock=self.clock, deepest=deepest
            )

    def curve(self) -> MissRatioCurve:
        """The hit ratio of every size, with the policy that runs."""
        return self._running().curve()

    def recommend(
        self,
        *,
        hit_ratio: float | None = None,
        sizes: Sequence[float] | None = None,
        cost: float = 1.0,
    ) -> Recommendation:
        """See `HybridCache.recommend`."""
        misses = self._cache().counters()[1]
        return self._running().recommend(
            hit_ratio=hit_ratio,
            sizes=sizes,
            cost=cost,
            calls_per_miss=min(1.0, self._loads() / misses) if misses else 1.0,
        )

    def predict(self, horizon: Duration = "1h", *, period: Duration | None = None) -> Predictions:
        """How the tiers grow and memory evicts within the horizon.

        Args:
            period: after which traffic repeats itself, such as "1d".
        """
        return self._running().predict(horizon, period=period)

    def expectations(self) -> Expectations | None:
        """What ``store.stats()`` tells of the next hour and of sizes.

        Worked out once for each measurement, and when there are twice as many requests.
        """
        running = self._running()
        hits, misses, *_ = self._cache().counters()
        known = running.measured(), (hits + misses).bit_length()
        if self._expected is None or self._expected[0] != known:
            self._expected = known, self._expect(running)
        return self._expected[1]

    def _expect(self, running: Analyzer) -> Expectations:
        found = running.predict(HORIZON, points=POINTS)
        curve = running.curve()
        return Expectations(
            horizon=HORIZON,
            working_set=curve.bytes if curve.unit == "bytes" else curve.keys,
            growth_per_hour={name: line.per_hour for name, line in found.growth.items()},
            evictions=found.evictions,
            fewest=found.fewest,
            most=found.most,
            full_in=found.full_in,
            recommended=self._recommended(curve),
        )

    def _recommended(self, curve: MissRatioCurve) -> dict[str, RecommendedSize]:
        if not curve.requests or not curve.best:
            return {}
        size = whole(curve.knee(NEARLY_ALL))
        found = {"memory": RecommendedSize(size, curve.unit, curve.hit_ratio(size))}
        if self._disk is not None:
            disk, memory = self._disk.stats(), self._cache()
            if disk.entries and len(memory):
                of_memory = memory.currsize / len(memory)
                of_disk = disk.used_bytes / disk.entries
                size = round(curve.knee(DISK_SHARE) / of_memory * of_disk)
                found["disk"] = RecommendedSize(size, "bytes", DISK_SHARE * curve.best)
        return found

    def record(self, path: str | os.PathLike[str], sample: float, keys: bool) -> Recorder:
        """See `HybridCache.record`."""
        return Recorder(self._cache(), path, sample=sample, keys=keys)

    def memory_bytes(self) -> int:
        """Return the memory that looking takes."""
        return self._running().memory_bytes()

    def close(self) -> None:
        """Look no more."""
        if self._analyzer is not None:
            self._analyzer.close()

    def _cache(self) -> Cache[Any, Any]:
        if not isinstance(self._memory, Cache):
            raise ConfigurationError(
                "what is analyzed or recorded are the requests of the memory tier, and there is "
                "none: give the cache memory=Memory(...)"
            )
        return self._memory

    def _running(self) -> Analyzer:
        if self._analyzer is None:
            raise ConfigurationError(
                "nothing was analyzed: make the cache with HybridCache(..., analytics=True)"
            )
        return self._analyzer
