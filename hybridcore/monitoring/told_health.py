"""`ToldHealth`: how a cache of other processes is, as far as their metrics and its queue tell."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from hybridcore.monitoring.view import plain
from hybridcore.stats import health
from hybridcore.stats.health import Finding, Health, Limits, Reason, TierHealth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hybridcore.monitoring.signals import Samples
    from hybridcore.stats.tiers import DurableQueueStats

_LIMITS = Limits()


class _Disk(NamedTuple):
    used_bytes: float
    map_bytes: float
    max_bytes: float
    readers: float
    max_readers: float


class _Usage(NamedTuple):
    quota_left: float | None
    quota_resets_at: float | None


class ToldHealth:
    """The same reasons as of `HybridCache.health`, each since it was first seen from here.

    Of several processes the worst figure counts, as they tell it together.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._seen: dict[tuple[str, str, str], float] = {}
        self._most_quota: dict[str, float] = {}

    def of(
        self, name: str, samples: Samples, now: float, queue: DurableQueueStats | None = None
    ) -> Health:
        """The health of a cache by what it tells at a time, in seconds since 1970.

        Args:
            queue: that can be asked itself, whatever was told of it.
        """
        findings = dict(self._findings(name, samples, now))
        if queue is not None:
            findings["queue"] = health.of_queue(queue.oldest, queue.dead, _LIMITS)
        tiers = {tier: self._dated(name, tier, list(found)) for tier, found in findings.items()}
        return health.whole(tiers, is_warm=True)

    def _findings(
        self, name: str, samples: Samples, now: float
    ) -> Iterator[tuple[str, Iterator[Finding]]]:
        def told(metric: str, **labels: str) -> float | None:
            return _told(samples, metric, **labels)

        if told("memory_entries") is not None:
            yield "memory", iter(())
        used, room = told("disk_bytes", part="pages"), told("disk_map_bytes")
        most, readers, slots = map(told, ("disk_max_bytes", "disk_readers", "disk_max_readers"))
        if None not in (used, room, most, readers, slots):
            disk = _Disk(used or 0, room or 0, most or 0, readers or 0, slots or 0)
            yield "disk", health.of_disk(disk, _LIMITS)
        left = told("origin_quota_left")
        if left is not None or told("breaker_state") is not None:
            self._most_quota[name] = max(self._most_quota.get(name, 0.0), left or 0.0)
            usage = _Usage(left, told("origin_quota_resets_timestamp_seconds"))
            yield "origin", self._of_origin(samples, usage, self._most_quota[name], now)
        oldest = told("queue_oldest_seconds")
        if oldest is not None:
            dead = int(told("queue_dead_letters") or 0)
            yield "queue", health.of_queue(oldest, dead, _LIMITS)
        lag = told("coherence_lag_seconds")
        if lag is not None:
            yield "coherence", health.of_coherence(lag, _LIMITS)

    def _of_origin(
        self, samples: Samples, usage: _Usage, most: float, now: float
    ) -> Iterator[Finding]:
        if _told(samples, "breaker_state", state="open"):
            yield Finding("down", "breaker_open", "the breaker is open")
        elif _told(samples, "breaker_state", state="half_open"):
            yield Finding("degraded", "breaker_half_open", "the breaker tries the origin")
        yield from health.of_quota(usage, most, now, _LIMITS)

    def _dated(self, name: str, tier: str, found: list[Finding]) -> TierHealth:
        now = self._clock()
        reasons = []
        for finding in found:
            seen = self._seen.setdefault((name, tier, finding.code), now)
            since = now - seen if finding.since is None else finding.since
            reasons.append(Reason(finding.code, finding.text, since))
        codes = {finding.code for finding in found}
        for at in [at for at in self._seen if at[:2] == (name, tier) and at[2] not in codes]:
            del self._seen[at]
        state = health.worst(finding.state for finding in found)
        return TierHealth(state, max((why.since for why in reasons), default=0.0), tuple(reasons))


def told_lines(health: Health) -> tuple[str, ...]:
    """The reasons for people, the worst first."""
    return tuple(
        plain(f"{name} is {health[name].state}: {why.text}{_ago(why.since)}")
        for name, why in health.reasons
    )


def _ago(since: float) -> str:
    """How long ago, in steps so coarse that a line does not change with every look."""
    if since < 60:
        return ""
    minutes = int(since // 60)
    return f" (for {minutes} min)" if minutes < 120 else f" (for {minutes // 60} h)"


def _told(samples: Samples, metric: str, **labels: str) -> float | None:
    wanted = set(labels.items())
    found = [value for at, value in samples.get(f"hybridcore_{metric}", ()) if wanted <= set(at)]
    return max(found, default=None)
