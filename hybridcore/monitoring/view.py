"""`CacheView`: what there is to see of one cache, as plain data, for the page and the terminal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from hybridcore.exporters.metrics import BOUNDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hybridcore.analytics import MissRatioCurve, Recommendation
    from hybridcore.invalidation import Invalidation
    from hybridcore.monitoring.signals import Samples
    from hybridcore.stats import DurableQueueStats
    from hybridcore.stats.performance import Performance
    from hybridcore.write_queue import DeadLetter

_LONGEST = 200
"""Characters of a text from outside that are shown."""
_POINTS = 24
"""Sizes at which a miss-ratio curve is told."""


class Latencies(NamedTuple):
    """Seconds that half, 95 and 99 of 100 operations took at most."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TierView:
    """A tier of late: operations a second, and of lookups the share that it answered.

    ``size`` and ``bound`` are in bytes, or both in entries; None where it is not known.
    """

    name: str
    rate: float | None
    hit_ratio: float | None
    errors: float | None
    latencies: Latencies | None
    entries: float | None = None
    size: float | None = None
    bound: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelView:
    """A level of a queue: writes that wait, their bytes, and the seconds that the oldest waits."""

    name: str
    items: float
    bytes: float | None = None
    oldest: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterView:
    """A dead letter; ``replayable`` unless a newer write superseded it, or it cannot be read."""

    id: int
    key: str
    level: str
    reason: str
    error: str
    attempts: int
    died: float
    replayable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """A queue of writes; ``letters`` are the oldest of ``dead``.

    ``is_open`` tells whether the letters can be listed and replayed from here.
    """

    levels: tuple[LevelView, ...]
    dead: float
    letters: tuple[LetterView, ...] = ()
    is_open: bool = False
    running: float | None = None
    delayed: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyView:
    """A line of the warming ledger; seconds ``spent`` by warming, and ``saved`` by its hits."""

    name: str
    is_on: bool
    warmed: float
    hits: float
    wasted: float
    failed: float
    calls: float
    spent: float
    saved: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveView:
    """Hit ratios by the size of memory, with the size there is and the one recommended."""

    unit: str
    policy: str | None = None
    requests: float | None = None
    sizes: tuple[float, ...]
    hit_ratios: tuple[float, ...]
    current: float | None
    current_hit_ratio: float | None
    recommended: float | None
    recommended_hit_ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidationView:
    """A line of the log of invalidations."""

    number: int
    at: float
    scope: str
    what: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertView:
    """An alert that fires."""

    rule: str
    severity: str
    summary: str
    value: float | None
    since: float
    runbook: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheView:
    """A cache at one moment; counts are a second, of the last ``window`` seconds.

    ``state`` is "ok", "degraded" or "down", "gone" where there is nothing to be seen any more, and
    "unknown" where nobody told. ``source`` is a directory, or "this process".
    """

    name: str
    source: str
    at: float
    state: str
    reasons: tuple[str, ...] = ()
    uptime: float | None = None
    window: float | None = None
    rate: float | None = None
    hit_ratio: float | None = None
    p99: float | None = None
    tiers: tuple[TierView, ...] = ()
    queue: QueueView | None = None
    warming: tuple[StrategyView, ...] = ()
    curve: CurveView | None = None
    alerts: tuple[AlertView, ...] = ()
    invalidations: tuple[InvalidationView, ...] = ()


class Course:
    """What the metrics of a cache were, and how they changed within so many seconds."""

    def __init__(self, after: Samples, before: Samples | None, seconds: float) -> None:
        self._after, self._before, self._seconds = after, before, seconds

    def now(self, name: str, **where: str) -> float | None:
        """The sum of a metric; None where it is not told."""
        return _sum(self._after, name, where)

    def total(self, name: str, **where: str) -> float:
        """The same, 0 where it is not told."""
        return self.now(name, **where) or 0.0

    def grown(self, name: str, **where: str) -> float:
        """By how much a counter grew, or what it is where nobody knows what it was."""
        after = self.total(name, **where)
        before = 0.0 if self._before is None else _sum(self._before, name, where) or 0.0
        return after if after < before else after - before  # it began anew

    def rate(self, name: str, **where: str) -> float | None:
        """The same in a second; None at the first look."""
        if self._before is None or self._seconds <= 0:
            return None
        return self.grown(name, **where) / self._seconds

    def by(self, name: str, label: str) -> dict[str, float]:
        """The values of a metric by one of its labels."""
        found: dict[str, float] = {}
        for labels, value in self._after.get("hybridcore_" + name, ()):
            for known, text in labels:
                if known == label:
                    found[text] = found.get(text, 0.0) + value
        return found

    def latencies(self, tier: str) -> Latencies | None:
        """Quantiles of durations, as far as buckets tell them."""
        name = "request_duration_seconds"
        counts = [self.grown(name + "_bucket", tier=tier, le=str(bound)) for bound in BOUNDS]
        count = self.grown(name + "_count", tier=tier)
        if not count:
            return None
        return Latencies(*(_quantile(counts, count, share) for share in (0.5, 0.95, 0.99)))


def tiers_of(course: Course, exact: Mapping[str, Latencies] | None) -> tuple[TierView, ...]:
    """The tiers that a cache has; ``exact`` are latencies known better than by buckets."""

    def latencies(tier: str) -> Latencies | None:
        return course.latencies(tier) if exact is None else exact.get(tier)

    found = []
    for tier in ("memory", "disk"):
        entries = course.now(f"{tier}_entries")
        if entries is None and course.now("requests_total", tier=tier) is None:
            continue
        hits = course.grown("requests_total", tier=tier, result="hit")
        lookups = course.grown("requests_total", tier=tier)
        size, bound = course.now("memory_size"), course.now("memory_maxsize")
        if tier == "disk":
            size = course.now("disk_bytes", part="pages")
            bound = course.now("disk_max_bytes")
        failed = course.rate("errors_total", **{"class": "disk"}) if tier == "disk" else None
        found.append(
            TierView(
                name=tier,
                rate=course.rate("requests_total", tier=tier),
                hit_ratio=hits / lookups if lookups else None,
                errors=failed,
                latencies=latencies(tier),
                entries=entries,
                size=size,
                bound=bound if bound is not None and math.isfinite(bound) else None,
            )
        )
    if course.now("requests_total", tier="origin") is not None:
        found.append(
            TierView(
                name="origin",
                rate=course.rate("requests_total", tier="origin"),
                hit_ratio=None,
                errors=course.rate("requests_total", tier="origin", result="error"),
                latencies=latencies("origin"),
            )
        )
    return tuple(found)


def hit_ratio_of(course: Course) -> float | None:
    """Of all lookups the share that memory or disk answered; None without lookups."""
    first = "memory" if course.now("requests_total", tier="memory") is not None else "disk"
    lookups = course.grown("requests_total", tier=first)
    hits = sum(course.grown("requests_total", tier=t, result="hit") for t in ("memory", "disk"))
    return min(hits / lookups, 1.0) if lookups else None


def exact_latencies(performance: Performance) -> dict[str, Latencies]:
    """The quantiles of each tier."""
    return {
        tier: Latencies(*found.quantiles(0.5, 0.95, 0.99))
        for tier, found in performance.by_tier().items()
        if found.count
    }


def queue_of_metrics(course: Course) -> QueueView | None:
    """A queue as processes tell of it."""
    waiting = course.now("queue_waiting")
    if waiting is None:
        return None
    sizes = course.by("queue_bytes", "level")
    levels = course.by("queue_waiting", "level")
    shown = [
        LevelView(name=plain(name), items=items, bytes=sizes.get(name))
        for name, items in levels.items()
    ]
    if not shown:
        oldest = course.now("queue_oldest_seconds")
        shown = [LevelView(name="all", items=waiting, oldest=oldest)]
    return QueueView(levels=tuple(shown), dead=course.total("queue_dead_letters"))


def queue_of_stats(stats: DurableQueueStats, letters: tuple[LetterView, ...]) -> QueueView:
    """A queue that is open here."""
    return QueueView(
        levels=tuple(
            LevelView(name=plain(name), items=level.items, bytes=level.bytes, oldest=level.oldest)
            for name, level in stats.levels.items()
        ),
        dead=stats.dead,
        letters=letters,
        is_open=True,
        running=stats.running,
        delayed=stats.delayed,
    )


def warming_of(course: Course) -> tuple[StrategyView, ...]:
    """The warming ledger."""

    def told(name: str, strategy: str, **where: str) -> float:
        return course.total(f"warming_{name}", strategy=strategy, **where)

    return tuple(
        StrategyView(
            name=plain(strategy),
            is_on=on > 0,
            warmed=told("warmed_total", strategy),
            hits=told("settled_total", strategy, result="hit"),
            wasted=told("settled_total", strategy, result="wasted"),
            failed=told("failed_total", strategy),
            calls=told("calls_total", strategy),
            spent=told("seconds_total", strategy),
            saved=told("saved_seconds_total", strategy),
        )
        for strategy, on in course.by("warming_on", "strategy").items()
    )


def curve_of(curve: MissRatioCurve, advice: Recommendation) -> CurveView | None:
    """A curve at sizes that are told apart; None before there were requests."""
    if not curve.requests or not len(curve.sizes):
        return None
    current, recommended = advice.current, advice.recommended
    marked = [option.size for option in (current, recommended) if option is not None]
    most = 2 * max([curve.knee(0.999), *marked, 1.0])
    least = max(1.0, min([curve.knee(0.1), *marked]))
    step = (most / least) ** (1 / (_POINTS - 1))
    sizes = sorted({float(round(least * step**number)) for number in range(_POINTS)} | {*marked})
    return CurveView(
        unit=curve.unit,
        policy=curve.policy,
        requests=float(curve.requests),
        sizes=tuple(map(float, sizes)),
        hit_ratios=tuple(curve.hit_ratio(size) for size in sizes),
        current=None if current is None else float(current.size),
        current_hit_ratio=None if current is None else current.hit_ratio,
        recommended=None if recommended is None else float(recommended.size),
        recommended_hit_ratio=None if recommended is None else recommended.hit_ratio,
    )


def curve_of_metrics(course: Course) -> CurveView | None:
    """A curve as processes tell of it."""
    told = course.by("memory_hit_ratio_at", "size")
    if not told:
        return None
    points = {float(size): ratio for size, ratio in told.items()}
    current = course.now("memory_process_maxsize")
    best, best_ratio = (
        course.now("recommended_size", tier="memory"),
        course.now("recommended_hit_ratio", tier="memory"),
    )
    if best is not None and best_ratio is not None:
        points[best] = best_ratio
    sizes = sorted(points)
    return CurveView(
        unit=next(iter(course.by("memory_hit_ratio_at", "unit"))),
        sizes=tuple(sizes),
        hit_ratios=tuple(points[size] for size in sizes),
        current=current,
        current_hit_ratio=None if current is None else points.get(current),
        recommended=best,
        recommended_hit_ratio=best_ratio,
    )


def invalidation_view(entry: Invalidation) -> InvalidationView:
    """A line of the log, newest things first of what it names."""
    names = [*map(shown_key, entry.keys[:5]), *(f"tag {shown_key(tag)}" for tag in entry.tags[:5])]
    left = len(entry.keys) + len(entry.tags) - len(names)
    return InvalidationView(
        number=entry.number,
        at=entry.at,
        scope=entry.scope if entry.hard else f"{entry.scope}, soft",
        what=", ".join(names) + (f" and {left} more" if left else ""),
        cause=plain(entry.cause),
    )


def letter_view(letter: DeadLetter) -> LetterView:
    """A dead letter for people."""
    return LetterView(
        id=letter.id,
        key=shown_key(letter.key),
        level=plain(letter.level),
        reason=letter.reason,
        error=plain(f"{letter.error}: {letter.message}"),
        attempts=letter.attempts,
        died=letter.died_at,
        replayable=not letter.superseded and letter.reason not in ("damaged", "undecodable"),
    )


def shown_key(key: Any) -> str:
    """A key as people read it, one line without control characters."""
    try:
        return plain(repr(key))
    except Exception as error:
        return f"<{type(key).__name__} without a repr: {type(error).__name__}>"


def plain(text: str) -> str:
    """A text from outside in one line: bounded, and what cannot be printed escaped."""
    short = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    if short.isprintable():
        return short
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in short)


def _sum(samples: Samples, name: str, where: Mapping[str, str]) -> float | None:
    wanted = where.items()
    found = [v for labels, v in samples.get("hybridcore_" + name, ()) if wanted <= labels]
    return sum(found) if found else None


def _quantile(counts: Sequence[float], count: float, share: float) -> float:
    """Between the bounds of its bucket, in proportion; beyond the last one, that bound."""
    wanted, below, low = share * count, 0.0, 0.0
    for bound, reached in zip(BOUNDS, counts, strict=True):
        if reached >= wanted and reached > below:
            return low + (bound - low) * (wanted - below) / (reached - below)
        below, low = max(below, reached), bound
    return BOUNDS[-1]
