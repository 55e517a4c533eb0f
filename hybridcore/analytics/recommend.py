"""`Recommendation`: which size to give a cache, and what that is worth."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from hybridcore.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hybridcore.analytics.curve import MissRatioCurve, Unit

SHARES = (0.25, 0.5, 1, 2, 4, 8)
"""Of the size there is: those that are compared with it."""
NEARLY_ALL = 0.95
"""Of what any size could hit: what is recommended where nothing is asked for."""
MIB = 1 << 20
THOUSAND = 1000


@dataclass(frozen=True, slots=True)
class Option:
    """A size, and what it would do.

    ``marginal`` is the hit ratio gained by the next MiB, or by the next 1000 entries where those
    are counted. Origin calls are of an hour like the one that was seen, what is saved is against
    the size there is.
    """

    size: int
    hit_ratio: float
    byte_hit_ratio: float
    marginal: float
    origin_calls_per_hour: float
    calls_saved_per_hour: float
    cost_saved_per_hour: float


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What the miss-ratio curve says about sizes.

    ``current`` is the size there is, None where there is none. ``recommended`` is the smallest that
    reaches ``target``: the hit ratio asked for, or 95 % of what any size could hit; None if no size
    does. ``requests`` is how many the curve is about; of few, expect little.
    """

    unit: Unit
    policy: str
    requests: int
    requests_per_hour: float
    target: float
    best_hit_ratio: float
    current: Option | None
    recommended: Option | None
    options: tuple[Option, ...]


def whole(size: float) -> int:
    """The next whole size, which hits no less."""
    return max(1, ceil(size * (1 - 1e-12)))


def recommend(
    curve: MissRatioCurve,
    *,
    current: float | None = None,
    hit_ratio: float | None = None,
    sizes: Sequence[float] | None = None,
    requests_per_hour: float = 0.0,
    calls_per_miss: float = 1.0,
    cost: float = 1.0,
) -> Recommendation:
    """Read a curve.

    Args:
        current: the size there is.
        hit_ratio: what is wanted, above 0 and below 1.
        sizes: to be compared; by default a quarter to eight times the current one.
        requests_per_hour: as they were seen.
        calls_per_miss: of the origin; less than 1 where another tier is in between.
        cost: of one such call.

    Raises:
        ConfigurationError: a hit ratio that is none, or sizes below 1.
    """
    if hit_ratio is not None and not 0 < hit_ratio < 1:
        raise ConfigurationError(f"hit_ratio is expected between 0 and 1, got {hit_ratio!r}")
    if sizes is not None and any(size < 1 for size in sizes):
        raise ConfigurationError(f"sizes are expected to be at least 1, got {list(sizes)!r}")
    more = MIB if curve.unit == "bytes" else THOUSAND
    calls = requests_per_hour * calls_per_miss
    now = None if current is None else curve.hit_ratio(current)

    def option(size: float) -> Option:
        hits = curve.hit_ratio(size)
        saved = 0.0 if now is None else calls * (hits - now)
        return Option(
            size=round(size),
            hit_ratio=hits,
            byte_hit_ratio=curve.byte_hit_ratio(size),
            marginal=curve.marginal(size, more),
            origin_calls_per_hour=calls * (1 - hits),
            calls_saved_per_hour=saved,
            cost_saved_per_hour=saved * cost,
        )

    target = NEARLY_ALL * curve.best if hit_ratio is None else hit_ratio
    enough = curve.size_for(target) if curve.requests else None
    if sizes is None:
        around = current if current is not None else enough
        sizes = [] if around is None else [max(1.0, share * around) for share in SHARES]
    return Recommendation(
        unit=curve.unit,
        policy=curve.policy,
        requests=round(curve.requests),
        requests_per_hour=requests_per_hour,
        target=target,
        best_hit_ratio=curve.best,
        current=None if current is None else option(current),
        recommended=None if enough is None else option(whole(enough)),
        options=tuple(option(size) for size in sizes),
    )
