"""`HybridStats`: all there is to tell of a hybrid cache at one moment."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hybridcore.stats.counted import Counted
from hybridcore.stats.efficiency import Efficiency, efficiency
from hybridcore.stats.performance import WINDOWS, Performance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hybridcore.stats.coherence import CoherenceStats
    from hybridcore.stats.predictions import Expectations
    from hybridcore.stats.resources import Resources
    from hybridcore.stats.tiers import (
        CacheStats,
        DiskStats,
        GuardStats,
        OriginStats,
        OriginUsage,
        WarmingStats,
        WriteQueueStats,
    )

_PARTS = ("memory", "disk", "origin", "usage", "guard", "queue", "warming", "coherence")


@dataclass(frozen=True, slots=True)
class HybridStats(Counted):
    """Snapshots of the tiers, and of what stands before the origin; None where there is none.

    Of all counts ``after - before`` is what happened in between; what is no count, such as the
    number of entries, is that of ``after``.

    - ``usage``: what the origin itself counted of its traffic, where it does
    - ``performance``: how long operations took, and which failed
    - ``resources``: memory, disk, network and time of the processor
    - ``coherence``: what was invalidated, here and elsewhere
    - ``served``: bytes handed out by each tier, where the sizes of values are known
    - ``table_used``: share of memory's table that has entries in it
    - ``seconds``: since the cache was made, or between the two snapshots
    - ``predictions``: what is to come, where the cache was made with ``analytics=True``
    """

    STATES = frozenset({"table_used", "warming", "predictions"})

    memory: CacheStats | None
    disk: DiskStats | None
    origin: OriginStats
    usage: OriginUsage | None
    guard: GuardStats | None
    queue: WriteQueueStats | None
    performance: Performance
    resources: Resources
    served: Mapping[str, int]
    table_used: float | None
    seconds: float
    warming: WarmingStats | None = None
    coherence: CoherenceStats | None = None
    predictions: Expectations | None = None

    @property
    def efficiency(self) -> Efficiency:
        """Hit ratios, and what moves between the tiers."""
        return efficiency(
            self.memory, self.disk, self.origin, self.served, self.table_used, self.seconds
        )

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain data, such as JSON takes; durations in seconds."""
        performance = {"total": self.performance.as_dict()}
        if all(latency.windows for latency in self.performance.series.values()):
            for window in WINDOWS:
                performance[f"{window:.0f}s"] = self.performance.over(window).as_dict()
        tiers = {
            name: None if (found := getattr(self, name)) is None else asdict(found)
            for name in _PARTS
        }
        return {
            "seconds": self.seconds,
            **tiers,
            "performance": performance,
            "efficiency": asdict(self.efficiency),
            "resources": asdict(self.resources),
            "served": dict(self.served),
            "predictions": None if self.predictions is None else asdict(self.predictions),
        }
