"""What a hybrid cache tells of its requests: curves, recommendations, recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from hybridcore.analytics import Analytics, Recommendation, Recorder, StoreAnalytics


class Analyzed:
    """The part of `hybridcore.HybridCache` that looks at what memory is asked for."""

    _engine: Any
    _analytics: StoreAnalytics | None = None

    @property
    def analytics(self) -> StoreAnalytics:
        """Curve, predictions and recordings of the memory tier."""
        if self._analytics is None:
            self._analytics = self._analyze(False)
        return self._analytics

    @property
    def analyzed(self) -> StoreAnalytics | None:
        """The same, if anybody has asked for it yet."""
        return self._analytics

    def recommend(
        self,
        *,
        hit_ratio: float | None = None,
        sizes: Sequence[float] | None = None,
        cost: float = 1.0,
    ) -> Recommendation:
        """What size to give the memory tier, and what that would save. Needs ``analytics=True``.

        Args:
            hit_ratio: that is wanted; by default 95 % of what any size could reach.
            sizes: to compare; by default a quarter to eight times the size there is.
            cost: of a call of the origin.
        """
        return self.analytics.recommend(hit_ratio=hit_ratio, sizes=sizes, cost=cost)

    def record(
        self, path: str | os.PathLike[str], sample: float = 0.1, *, keys: bool = False
    ) -> Recorder:
        """Record what memory is asked for until the result, a context manager, is closed.

        See `hybridcore.analytics.Recorder`.
        """
        return self.analytics.record(path, sample, keys)

    def _analyze(self, options: Analytics | bool) -> StoreAnalytics:
        from hybridcore.analytics import StoreAnalytics

        engine, disk = self._engine, self._engine.disk
        measures = {} if disk is None else {"disk": lambda: float(disk.stats().used_bytes)}
        return StoreAnalytics(
            engine.memory, options, lambda: engine.origin_stats().loads, measures, disk
        )
