"""Recommendations: what would serve a cache better, with the evidence that its history has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybridcore.monitoring.capacity import expected_curve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybridcore.analytics import MissRatioCurve
    from hybridcore.monitoring.history import SavedCurve
    from hybridcore.monitoring.trends import Course

LARGER = (1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""Times the size there is."""
WORTH = 0.05
"""Share of the calls of the origin that a recommendation saves at least."""
NEARLY = 0.9
"""Of what the largest size could save: what the size recommended does."""
NO_LOSS = 0.01
"""Share of the calls of the origin that a smaller size may cost."""
FEW = 1000
"""Requests that say too little."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do, why, and what share of the calls of the origin that saves, where it is known."""

    action: str
    evidence: str
    saves: float | None = None


def advise(course: Course, curves: list[SavedCurve]) -> list[Advice]:
    """What a history recommends, what saves most first."""
    found = [*_size(curves), *_expiry(course), *_missing(course), *_disk(course), *_warming(course)]
    return sorted(found, key=lambda advice: -(advice.saves or 0.0))


def saved_calls(curve: MissRatioCurve, current: float, size: float) -> float:
    """The share of the calls of the origin that another size saves; negative: costs."""
    misses = 1 - curve.hit_ratio(current)
    return 1 - (1 - curve.hit_ratio(size)) / misses if misses > 0 else 0.0


def in_words(size: float, unit: str) -> str:
    """A size for people."""
    if unit == "entries":
        return f"{size:,.0f} entries"
    for name in ("B", "KiB", "MiB"):
        if abs(size) < 1024:
            return f"{size:,.3g} {name}"
        size /= 1024
    return f"{size:,.3g} GiB"


def _size(curves: list[SavedCurve]) -> Iterator[Advice]:
    if not curves or sum(saved.curve.requests for saved in curves) < FEW:
        return
    last = curves[-1]
    comparable = [saved.curve for saved in curves if saved.curve.unit == last.curve.unit]
    curve, _ = expected_curve(comparable)
    now, unit, calls = last.size, curve.unit, last.requests_per_hour * last.calls_per_miss

    def calls_at(size: float) -> str:
        return f"{calls * (1 - curve.hit_ratio(size)):,.0f} calls of the origin an hour"

    most = saved_calls(curve, now, LARGER[-1] * now)
    if most >= WORTH:
        size = next(
            factor * now
            for factor in LARGER
            if saved_calls(curve, now, factor * now) >= NEARLY * most
        )
        saves = saved_calls(curve, now, size)
        yield Advice(
            f"Memory at {in_words(size, unit)} would save {saves:.0%} of origin calls",
            f"At {in_words(now, unit)} it hits {curve.hit_ratio(now):.1%}, {calls_at(now)}; at "
            f"{in_words(size, unit)} it would hit {curve.hit_ratio(size):.1%}, {calls_at(size)}. "
            f"From {len(comparable)} curves of the policy {curve.policy!r}.",
            saves,
        )
        return
    for share in (0.25, 0.5, 0.75):
        costs = -saved_calls(curve, now, share * now)
        if costs <= NO_LOSS:
            yield Advice(
                f"Memory at {in_words(share * now, unit)} would do: {1 - share:.0%} of it is free",
                f"At {in_words(now, unit)} it hits {curve.hit_ratio(now):.1%}, at "
                f"{in_words(share * now, unit)} {curve.hit_ratio(share * now):.1%}.",
                -costs,
            )
            return


def _expiry(course: Course) -> Iterator[Advice]:
    misses = course.total("requests_total", tier="memory", result="miss")
    expired = course.total("evictions_total", tier="memory", cause="expired")
    unchanged = course.total("requests_total", tier="origin", result="not_modified")
    loads = course.total("requests_total", tier="origin")
    if misses >= FEW and expired > 0.3 * misses:
        yield Advice(
            "Let entries live longer, or refresh them ahead of their expiry",
            f"{expired:,.0f} entries expired for {misses:,.0f} misses: of these at most "
            f"{expired / misses:.0%} are of such entries. `refresh_ahead=0.8` loads what is "
            "asked for before it expires, `stale=` serves it meanwhile.",
        )
    if loads >= FEW and unchanged > 0.5 * loads:
        yield Advice(
            "Let entries live longer: most had not changed when they were loaded again",
            f"{unchanged:,.0f} of {loads:,.0f} answers of the origin said that nothing was new. "
            "`adaptive_ttl=` learns how often entries change.",
            unchanged / loads / 2,
        )


def _missing(course: Course) -> Iterator[Advice]:
    loads = course.total("requests_total", tier="origin")
    missing = course.total("requests_total", tier="origin", result="miss")
    failed = course.total("requests_total", tier="origin", result="error")
    if loads >= FEW and missing > 0.2 * loads:
        yield Advice(
            "Remember for longer which keys do not exist",
            f"{missing:,.0f} of {loads:,.0f} answers of the origin were that there is no such key. "
            "A longer `negative_ttl=` spares asking again.",
        )
    if loads >= FEW and failed > 0.01 * loads:
        stale = course.total("stale_served_total")
        yield Advice(
            "Serve stale copies while the origin fails",
            f"{failed:,.0f} of {loads:,.0f} loads failed ({failed / loads:.1%}), and {stale:,.0f} "
            "lookups were answered with a stale copy instead. `stale=` tells how old it may be.",
        )


def _disk(course: Course) -> Iterator[Advice]:
    asked = course.total("requests_total", tier="disk")
    hits = course.total("requests_total", tier="disk", result="hit")
    evicted = course.total("evictions_total", tier="disk", cause="size")
    stored = course.total("stored_total", tier="disk")
    if asked < FEW:
        return
    if evicted > 0.5 * stored and hits > 0.1 * asked:
        yield Advice(
            "Give the disk more room",
            f"It evicted {evicted:,.0f} entries for {stored:,.0f} that it stored, and answers "
            f"{hits / asked:.0%} of what memory does not have.",
        )
    if hits < 0.02 * asked and stored:
        yield Advice(
            "The disk hardly answers: ask whether it is worth its writes",
            f"{hits:,.0f} of {asked:,.0f} lookups were hits, for {stored:,.0f} entries written. "
            "`Admission` keeps out what is asked for once.",
        )


def _warming(course: Course) -> Iterator[Advice]:
    for strategy in course.labels("warming_settled_total", "strategy"):
        used = course.total("warming_settled_total", strategy=strategy, result="hit")
        wasted = course.total("warming_settled_total", strategy=strategy, result="wasted")
        if used + wasted >= FEW / 10 and used < 0.2 * (used + wasted):
            yield Advice(
                f"Warm less by the strategy {strategy!r}",
                f"Of {used + wasted:,.0f} entries that it warmed, {used / (used + wasted):.0%} "
                "were asked for before they expired.",
            )
