"""Statistics: what the engine counted and timed, with what the tiers did."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from hybridcore.engine.writes import Writes
from hybridcore.memory import Cache
from hybridcore.stats.performance import ERRORS, Performance
from hybridcore.stats.resources import measure
from hybridcore.stats.snapshot import HybridStats
from hybridcore.stats.tiers import OriginStats

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridcore.stats import DiskStats, Expectations, WarmingStats


class Statistics(Writes):
    """The part of the engine that tells how it fares."""

    warming: Callable[[], WarmingStats | None] | None = None
    """Tells what warming did, where there is any."""
    predictions: Callable[[], Expectations | None] | None = None
    """Tells what is to come, where requests are looked at."""

    def stats(self) -> HybridStats:
        """A snapshot of everything."""
        memory, origin = self.memory, self.origin
        disk = None if self.disk is None else self.disk.stats()
        usage = None if origin is None else origin.usage()
        performance = Performance(self.timings.latencies(), self._errors(disk))
        served = dict(self._served.bytes)
        if memory is not None and self._weigh is not None:
            served["memory"] = memory.hit_size()
        elapsed = monotonic() - self._made
        return HybridStats(
            memory=memory.stats() if isinstance(memory, Cache) else None,
            disk=disk,
            origin=self.origin_stats(),
            usage=usage,
            guard=None if self.guard is None else self.guard.stats(),
            queue=None if self.queue is None else self.queue.stats(),
            warming=None if self.warming is None else self.warming(),
            coherence=self.coherence.stats(),
            performance=performance,
            resources=measure(
                memory,
                disk,
                {} if origin is None else {origin.name: usage},
                self._cpu_seconds,
                performance.of("memory").sum + performance.of("disk").sum,
                elapsed,
            ),
            served=served,
            table_used=None if memory is None else memory.table_used(),
            seconds=elapsed,
            predictions=None if self.predictions is None else self.predictions(),
        )

    def origin_stats(self) -> OriginStats:
        """A snapshot of what was counted about the origin."""
        with self._counting:
            counts = dict(self._counts)
        if self.straight is not None:
            promoted, loads = self.straight.counts()
            counts["promoted"] = counts.get("promoted", 0) + promoted
            counts["loads"] = counts.get("loads", 0) + loads
        counts["spilled"] = self.tiers.spills
        counts["disk_errors"] = 0 if self.tiers.disk is None else self.tiers.disk.errors
        return OriginStats(*(counts.get(name, 0) for name in OriginStats.__slots__))

    def _errors(self, disk: DiskStats | None) -> dict[str, int]:
        with self._counting:
            errors = {name: self._failures[name] for name in ERRORS}
        errors["serialization"] += self.tiers.refusals + (0 if disk is None else disk.damaged)
        errors["disk"] = 0 if self.tiers.disk is None else self.tiers.disk.errors
        return errors
