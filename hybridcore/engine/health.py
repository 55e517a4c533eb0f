"""Health: what is wrong with the tiers at this moment, and since when."""

from __future__ import annotations

from time import monotonic, time
from types import MappingProxyType
from typing import TYPE_CHECKING

from hybridcore.engine.statistics import Statistics
from hybridcore.errors import ClosedError, DiskError
from hybridcore.memory import Cache
from hybridcore.stats import health
from hybridcore.stats.health import Finding, Health, Limits, Reason, TierHealth
from hybridcore.stats.resources import resident_bytes
from hybridcore.stats.tiers import DurableQueueStats

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LIMITS = Limits()
_CLOSED = Health("down", MappingProxyType({}), is_live=False, is_ready=False)


class Healthy(Statistics):
    """The part of the engine that tells how it is."""

    def health(self, limits: Limits | None = None) -> Health:
        """How the tiers are; costs less than `stats`, and looks no further."""
        if self.closed:
            return _CLOSED
        try:
            return self._health(limits or _LIMITS)
        except ClosedError:  # meanwhile
            return _CLOSED

    def _health(self, limits: Limits) -> Health:
        tiers: dict[str, TierHealth] = {}
        is_warm = True
        if self.memory is not None:
            tiers["memory"] = self._dated("memory", self._of_memory(limits))
        if self.tiers.disk is not None:
            found = self._of_disk(limits)
            tiers["disk"] = self._dated("disk", found, self.tiers.disk.missed)
        if self.origin is not None or self.guard is not None:
            tiers["origin"] = self._dated("origin", self._of_origin(limits))
        if self.queue is not None:
            tiers["queue"] = self._dated("queue", self._of_queue(limits))
        if self.coherence.is_shared:
            lag = health.of_coherence(self.coherence.stats().lag, limits)
            tiers["coherence"] = self._dated("coherence", lag)
        warming = None if self.warming is None else self.warming()
        if warming is not None:
            is_warm = warming.is_ready
            tiers["warming"] = self._dated("warming", health.of_warming(warming))
        return health.whole(tiers, is_warm=is_warm)

    def _of_memory(self, limits: Limits) -> Iterator[Finding]:
        if isinstance(self.memory, Cache):
            rss = None if limits.rss is None else resident_bytes()
            yield from health.of_memory(self.memory.stats(), rss, limits)

    def _of_disk(self, limits: Limits) -> Iterator[Finding]:
        assert self.tiers.disk is not None
        assert self.disk is not None
        outage = self.tiers.disk.outage()
        if outage is not None:
            yield Finding("down", "failing", *outage)
            return
        try:
            stats = self.disk.stats()
        except DiskError as error:
            yield Finding("down", "failing", str(error))
            return
        yield from health.of_disk(stats, limits)

    def _of_origin(self, limits: Limits) -> Iterator[Finding]:
        guard, since = None, None
        if self.guard is not None:
            guard = self.guard.stats()
            if self.guard.circuit is not None and (past := self.guard.circuit.history):
                since = max(0.0, time() - past[-1].time)
        yield from health.of_breaker(guard, since)
        usage = None if self.origin is None else self.origin.usage()
        if usage is not None and usage.quota_left is not None:
            self._most_quota = max(self._most_quota, usage.quota_left)
            yield from health.of_quota(usage, self._most_quota, time(), limits)

    def _of_queue(self, limits: Limits) -> Iterator[Finding]:
        assert self.queue is not None
        try:
            stats = self.queue.stats()
        except DiskError as error:
            yield Finding("down", "failing", str(error))
            return
        dead = stats.dead if isinstance(stats, DurableQueueStats) else 0
        yield from health.of_queue(stats.oldest, dead, limits)

    def _dated(self, tier: str, findings: Iterable[Finding], missed: int = 0) -> TierHealth:
        """The health of a tier, its findings with the time that they are known for."""
        now = monotonic()
        found = list(findings)
        reasons = []
        with self._counting:
            for finding in found:
                seen = self._seen.setdefault((tier, finding.code), now)
                since = now - seen if finding.since is None else finding.since
                reasons.append(Reason(finding.code, finding.text, since))
            codes = {finding.code for finding in found}
            over = [at for at in self._seen if at[0] == tier and at[1] not in codes]
            for at in over:
                del self._seen[at]
            if over and not found:
                self._well[tier] = now
            well = self._well.get(tier, self._made)
        if not found:
            return TierHealth("ok", now - well, (), missed)
        state = health.worst(finding.state for finding in found)
        since = max(reason.since for reason in reasons)
        return TierHealth(state, since, tuple(reasons), missed)
