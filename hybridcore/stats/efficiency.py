"""What the tiers are good for: who answers, what moves between them, what is lost on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hybridcore.stats.tiers import CacheStats, DiskStats, OriginStats


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Ratios, and rates in entries a second, mostly by tier.

    - ``hit_ratio``: fresh hits of the lookups that came to the tier; ``"all"``: of all lookups,
      those answered from a tier
    - ``byte_hit_ratio``: the same of the bytes handed out, where sizes are known
    - ``stale_ratio``: lookups answered with a stale copy, which are no hits
    - ``promotion_rate``, ``demotion_rate``: entries copied from disk to memory, and spilled
    - ``eviction_rate``: entries that left, by tier and cause
    - ``admission_rate``: share of what was offered to the tier that it took
    - ``fragmentation``: share of what is allocated that holds no entry: of memory's table; of the
      disk, pages that are free (``"disk_free"``) or, of those in use, not full (``"disk"``)
    """

    hit_ratio: Mapping[str, float]
    byte_hit_ratio: Mapping[str, float]
    stale_ratio: Mapping[str, float]
    promotion_rate: float
    demotion_rate: float
    eviction_rate: Mapping[str, Mapping[str, float]]
    admission_rate: Mapping[str, float]
    fragmentation: Mapping[str, float]


def efficiency(
    memory: CacheStats | None,
    disk: DiskStats | None,
    origin: OriginStats,
    served: Mapping[str, int],
    table_used: float | None,
    seconds: float,
) -> Efficiency:
    """Work it out from what was counted within so many seconds.

    ``served`` are the bytes handed out by tier, ``table_used`` the share of memory's table.
    """
    hit_ratio: dict[str, float] = {}
    stale_ratio: dict[str, float] = {}
    eviction_rate: dict[str, dict[str, float]] = {}
    admission_rate: dict[str, float] = {}
    fragmentation: dict[str, float] = {}
    lookups = hits = 0
    if memory is not None:
        lookups, hits = memory.requests, memory.hits
        hit_ratio["memory"] = memory.hit_ratio
        eviction_rate["memory"] = {
            "size": per(memory.evicted, seconds),
            "expired": per(memory.expired, seconds),
            "explicit": per(memory.removed, seconds),
            "replaced": per(memory.replaced, seconds),
        }
        stored = memory.insertions + memory.updates
        admission_rate["memory"] = share(stored, stored + memory.rejected, empty=1.0)
        if table_used is not None:
            fragmentation["memory"] = 1.0 - table_used
    if disk is not None:
        lookups = lookups or disk.requests
        hits += disk.hits
        hit_ratio["disk"] = disk.hit_ratio
        stale_ratio["disk"] = share(disk.stale_hits, disk.requests)
        eviction_rate["disk"] = {
            "size": per(disk.evictions, seconds),
            "expired": per(disk.evicted_expired, seconds),
            "explicit": per(disk.deletes, seconds),
        }
        refused = disk.rejected_first + disk.rejected_size + disk.rejected_rate
        admission_rate["disk"] = share(disk.admitted, disk.admitted + refused, empty=1.0)
        fragmentation["disk"] = disk.fragmentation
        fragmentation["disk_free"] = share(disk.free_bytes, disk.allocated_bytes)
    hit_ratio["all"] = min(share(hits, lookups), 1.0)
    stale_ratio["all"] = share(origin.stale_served, lookups)
    byte_hit_ratio: dict[str, float] = {}
    below = sum(served.values())
    for tier in ("memory", "disk"):
        if tier in served:
            byte_hit_ratio[tier] = share(served[tier], below)
            below -= served[tier]
    return Efficiency(
        hit_ratio,
        byte_hit_ratio,
        stale_ratio,
        per(origin.promoted, seconds),
        per(origin.spilled, seconds),
        eviction_rate,
        admission_rate,
        fragmentation,
    )


def share(part: float, whole: float, *, empty: float = 0.0) -> float:
    """The part in the whole, ``empty`` where there is none."""
    return part / whole if whole else empty


def per(count: float, seconds: float) -> float:
    """How many a second."""
    return count / seconds if seconds > 0 else 0.0
