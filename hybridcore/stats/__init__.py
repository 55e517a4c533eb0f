"""Statistics: immutable snapshots of what was counted and timed, and what they say.

tiers        what each tier counted, and what stands between them
counted      how two of them are subtracted
coherence    what was invalidated, here and elsewhere
timings      where durations are recorded
performance  how long operations took, how many there were, how many failed
efficiency   what the tiers are good for
resources    what they take
health       how the tiers are, why, and since when
predictions  what is to come, where requests are looked at
snapshot     all of it: what ``store.stats()`` returns
"""

from hybridcore.stats.coherence import BusStats, CoherenceStats
from hybridcore.stats.counted import Counted
from hybridcore.stats.predictions import Expectations, RecommendedSize
from hybridcore.stats.tiers import (
    BreakerStats,
    BudgetStats,
    CacheStats,
    CompressionStats,
    CompressorStats,
    DiskStats,
    DurableQueueStats,
    EventStats,
    GuardStats,
    LevelStats,
    OriginStats,
    OriginUsage,
    StrategyStats,
    WarmingStats,
    WriteQueueStats,
)

__all__ = [
    "BreakerStats",
    "BudgetStats",
    "BusStats",
    "CacheStats",
    "CoherenceStats",
    "CompressionStats",
    "CompressorStats",
    "Counted",
    "DiskStats",
    "DurableQueueStats",
    "EventStats",
    "Expectations",
    "GuardStats",
    "LevelStats",
    "OriginStats",
    "OriginUsage",
    "RecommendedSize",
    "StrategyStats",
    "WarmingStats",
    "WriteQueueStats",
]
