"""`StoreAnalytics`: what a hybrid cache tells about the size of its memory tier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybridcore.analytics.live import Analytics, Analyzer
from hybridcore.analytics.recording import Recorder
from hybridcore.errors import ConfigurationError
from hybridcore.memory import Cache

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from hybridcore._native import MemoryStore
    from hybridcore.analytics.curve import MissRatioCurve
    from hybridcore.analytics.predictions import Predictions
    from hybridcore.analytics.recommend import Recommendation
    from hybridcore.units import Duration


class StoreAnalytics:
    """``store.analytics``: curve, recommendation, predictions and recordings of the memory tier.

    Args:
        memory: the tier, if there is one.
        options: True or `Analytics`: its requests are looked at from now on.
        loads: how many answers the origin gave.
        measures: what else grows.

    Raises:
        ConfigurationError: there is no memory tier to be looked at.
    """

    def __init__(
        self,
        memory: MemoryStore[Any, Any] | None,
        options: Analytics | bool,
        loads: Callable[[], int],
        measures: Mapping[str, Callable[[], float]],
    ) -> None:
        self._memory = memory
        self._loads = loads
        self._analyzer: Analyzer | None = None
        if options:
            chosen = options if isinstance(options, Analytics) else Analytics()
            self._analyzer = Analyzer(self._cache(), chosen, measures=measures)

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
