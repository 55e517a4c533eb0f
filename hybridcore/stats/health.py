"""`Health`: how a cache and each of its tiers are, why, and since when."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from hybridcore.errors import ConfigurationError
from hybridcore.units import Duration, Size, seconds, size_in_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from hybridcore.stats.tiers import CacheStats, GuardStats, WarmingStats

State = Literal["ok", "degraded", "down"]

_WORST: tuple[State, ...] = ("ok", "degraded", "down")
_SLACK = 1.05
"""How far beyond its bound a tier may be for a moment."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a tier is not ok: a ``code`` that never changes, a text, and since when, in s ago."""

    code: str
    text: str
    since: float


@dataclass(frozen=True, slots=True)
class TierHealth:
    """How a tier is, and for how many seconds it has been so, as far as that is known.

    ``missed`` are the writes that a disk that failed has yet to take.
    """

    state: State
    since: float
    reasons: tuple[Reason, ...] = ()
    missed: int = 0

    @property
    def reason(self) -> str | None:
        """The text of the first reason; None of a tier that is ok."""
        return self.reasons[0].text if self.reasons else None


@dataclass(frozen=True, slots=True)
class Health:
    """How a cache is: as its worst tier, but down only when no tier answers any more.

    ``tiers`` are by name, as far as the cache has them: ``"memory"``, ``"disk"``, ``"origin"``,
    ``"queue"``, ``"coherence"`` and ``"warming"``; ``health["disk"]`` is short for one.
    ``is_live``: it was not closed. ``is_ready``: readers may come, and what is to be warm is.
    """

    state: State
    tiers: Mapping[str, TierHealth]
    is_live: bool
    is_ready: bool

    @property
    def reasons(self) -> tuple[tuple[str, Reason], ...]:
        """Every reason with the name of its tier, the worst tiers first."""
        worst = sorted(self.tiers.items(), key=lambda item: -_WORST.index(item[1].state))
        return tuple((name, reason) for name, tier in worst for reason in tier.reasons)

    def __getitem__(self, tier: str) -> TierHealth:
        return self.tiers[tier]

    def __contains__(self, tier: object) -> bool:
        return tier in self.tiers

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "state": self.state,
            "live": self.is_live,
            "ready": self.is_ready,
            "tiers": {name: asdict(tier) for name, tier in self.tiers.items()},
        }


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on a tier counts as degraded.

    - ``map_used``: share of the map that pages in use take
    - ``readers``: share of the slots of readers
    - ``queue_age``: of the oldest write that waits
    - ``coherence_lag``: since this process was last known to be in step
    - ``quota_left``: share of the most that was ever seen to be left
    - ``rss``: bytes of memory of the process; None: any

    Raises:
        ConfigurationError: a share is not between 0 and 1, a duration or a size is none.
    """

    map_used: float = 0.95
    readers: float = 0.9
    queue_age: Duration = 60.0
    coherence_lag: Duration = 30.0
    quota_left: float = 0.1
    rss: Size | None = None

    def __post_init__(self) -> None:
        for name in ("map_used", "readers", "quota_left"):
            share = getattr(self, name)
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
                raise ConfigurationError(f"{name} is to be a share between 0 and 1, got {share!r}")
        seconds(self.queue_age)
        seconds(self.coherence_lag)
        if self.rss is not None:
            size_in_bytes(self.rss)


class Finding(NamedTuple):
    """That something is not ok with a tier; ``since`` in s ago where that is known."""

    state: State
    code: str
    text: str
    since: float | None = None


class DiskFigures(Protocol):
    """What tells how a disk tier is: of `DiskStats`, or as another process told."""

    @property
    def used_bytes(self) -> float: ...
    @property
    def map_bytes(self) -> float: ...
    @property
    def max_bytes(self) -> float: ...
    @property
    def readers(self) -> float: ...
    @property
    def max_readers(self) -> float: ...


class QuotaFigures(Protocol):
    """What tells how the quota of an origin is: of `OriginUsage`, or as another process told."""

    @property
    def quota_left(self) -> float | None: ...
    @property
    def quota_resets_at(self) -> float | None: ...


def of_memory(memory: CacheStats, rss: int | None, limits: Limits) -> Iterator[Finding]:
    """What is wrong with the memory tier."""
    if memory.currsize > memory.maxsize * _SLACK:
        text = f"entries count {memory.currsize}, of {memory.maxsize} allowed"
        yield Finding("degraded", "over_bound", text)
    if limits.rss is not None and rss is not None and rss > size_in_bytes(limits.rss):
        text = f"the process has {rss} bytes of memory, of {size_in_bytes(limits.rss)} allowed"
        yield Finding("degraded", "process_over_bound", text)


def of_disk(disk: DiskFigures, limits: Limits) -> Iterator[Finding]:
    """What is wrong with a disk tier that works."""
    if disk.used_bytes > limits.map_used * disk.map_bytes:
        text = f"pages in use take {disk.used_bytes:.0f} bytes of a map of {disk.map_bytes:.0f}"
        yield Finding("degraded", "nearly_full", text)
    if disk.used_bytes > disk.max_bytes * _SLACK:
        text = f"pages in use take {disk.used_bytes:.0f} bytes, of {disk.max_bytes:.0f} allowed"
        yield Finding("degraded", "over_bound", text)
    if disk.readers > limits.readers * disk.max_readers:
        text = f"{disk.readers:.0f} of {disk.max_readers:.0f} slots of readers are taken"
        yield Finding("degraded", "readers_exhausted", text)


def of_queue(oldest: float, dead: int, limits: Limits) -> Iterator[Finding]:
    """What is wrong with the writes that wait for the origin, and with those given up."""
    allowed = seconds(limits.queue_age)
    if oldest > allowed:
        text = f"the oldest write waits for {oldest:.0f} s, of {allowed:.0f} allowed"
        yield Finding("degraded", "queue_age", text, oldest - allowed)
    if dead:
        text = f"{dead} writes were given up and are kept as dead letters"
        yield Finding("degraded", "dead_letters", text)


def of_coherence(lag: float, limits: Limits) -> Iterator[Finding]:
    """What keeps this process from hearing of invalidations elsewhere."""
    allowed = seconds(limits.coherence_lag)
    if lag > allowed:
        text = f"invalidations are heard of {lag:.0f} s late, of {allowed:.0f} allowed"
        yield Finding("degraded", "coherence_lag", text, lag - allowed)


def of_breaker(guard: GuardStats | None, since: float | None) -> Iterator[Finding]:
    """What the breaker says of the origin."""
    if guard is None or guard.breaker is None or guard.breaker.state == "closed":
        return
    if guard.breaker.state == "half_open":
        yield Finding("degraded", "breaker_half_open", "the breaker tries the origin", since)
    else:
        yield Finding("down", "breaker_open", "the breaker is open", since)


def of_quota(
    usage: QuotaFigures | None, most: float, now: float, limits: Limits
) -> Iterator[Finding]:
    """What is left of the quota of the origin, of the most that was seen."""
    if usage is None or usage.quota_left is None:
        return
    if usage.quota_resets_at is not None and usage.quota_resets_at <= now:
        return  # it is filled again, and nobody has asked since
    if usage.quota_left <= 0:
        yield Finding("down", "quota_exhausted", "nothing is left of its quota")
    elif usage.quota_left < limits.quota_left * most:
        text = f"{usage.quota_left:g} units are left of its quota"
        yield Finding("degraded", "quota_low", text)


def of_warming(warming: WarmingStats) -> Iterator[Finding]:
    """What readers are to wait for."""
    if not warming.is_ready:
        yield Finding("degraded", "not_warm", "what is required at the start is not yet warm")


def worst(states: Iterable[State]) -> State:
    """The worst of some states; ok of none."""
    return max(states, key=_WORST.index, default="ok")


def whole(tiers: dict[str, TierHealth], *, is_warm: bool) -> Health:
    """The health of an open cache with these tiers."""
    answering = [tiers[name].state for name in ("memory", "disk", "origin") if name in tiers]
    is_down = bool(answering) and all(state == "down" for state in answering)
    is_well = worst(tier.state for tier in tiers.values()) == "ok"
    state: State = "down" if is_down else "ok" if is_well else "degraded"
    is_ready = is_warm and not is_down
    return Health(state, MappingProxyType(tiers), is_live=True, is_ready=is_ready)
