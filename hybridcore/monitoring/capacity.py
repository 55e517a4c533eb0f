"""Capacity: what is to come, and what another size, ttl or more traffic would do.

Hit ratios are expected to stay what they were, the latest counting most. Of what grows, several
ways to continue it are tried on its first half, and the one that told the second half best is used.
How far off either was there is the interval.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from hybridcore.errors import ConfigurationError
from hybridcore.units import Duration, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from hybridcore.analytics import MissRatioCurve

FEWEST = 4
"""Windows of the past that a forecast needs."""
FADE = 0.9
"""What a window counts for, of the one after it."""
FINE = 64
"""Points at which the lives of entries are looked at."""
WIDER = 1.5
"""Times as far as it was off before is how far off it may be."""
FLOOR = 0.02
"""The least that an interval reaches to either side: a share, or as much of a hit ratio."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A value that is expected, within an interval; ``way`` is how it was found."""

    value: float
    lower: float
    upper: float
    way: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a cache of a size would do, with a ttl and traffic of so many times that of now.

    ``origin_calls_per_hour`` are its misses, ``saved_per_hour`` how many fewer than now, at the
    same traffic.
    """

    size: float
    ttl: float | None
    traffic: float
    keys: float
    hit_ratio: float
    origin_calls_per_hour: float
    saved_per_hour: float


def what_if(
    curve: MissRatioCurve,
    *,
    requests_per_hour: float,
    size: float,
    current: float,
    ttl: Duration | None = None,
    traffic: float = 1.0,
    keys: float = 1.0,
    calls_per_miss: float = 1.0,
) -> Outcome:
    """Work out what a cache would hit.

    Args:
        curve: as it is, with the ttl that entries have now: a longer one cannot be told of.
        requests_per_hour: as they are.
        size: that the cache would have, in the unit of the curve.
        current: that it has.
        ttl: after which entries would expire, counted from their load; None: as it is.
        traffic: times as many requests,
        keys: for times as many keys.
        calls_per_miss: of the origin.

    Raises:
        ConfigurationError: a size, a ttl or a factor that is not above 0.
    """
    for name, value in (("size", size), ("traffic", traffic), ("keys", keys)):
        if not value > 0:
            raise ConfigurationError(f"{name} is expected to be above 0, got {value!r}")
    lasting = None if ttl is None else seconds(ttl)
    if lasting is not None and not lasting > 0:
        raise ConfigurationError(f"ttl is expected to be above 0, got {ttl!r}")
    rate = requests_per_hour * traffic
    spread = size / keys
    if lasting is None:
        hits = curve.hit_ratio(spread)
    else:
        hits = _with_ttl(curve, spread, rate / keys / 3600, lasting)
    now = curve.hit_ratio(current)
    return Outcome(
        size=size,
        ttl=lasting,
        traffic=traffic,
        keys=keys,
        hit_ratio=hits,
        origin_calls_per_hour=rate * (1 - hits) * calls_per_miss,
        saved_per_hour=rate * (hits - now) * calls_per_miss,
    )


def _with_ttl(curve: MissRatioCurve, size: float, rate: float, ttl: float) -> float:
    """The hit ratio where entries live so long from their load on.

    Under LRU an entry that is not asked for leaves a cache of size c after a time T(c), in which
    misses fill it: dT = dc / (rate * misses(c)); so time is size (X. Hu and others, 2016: average
    eviction time). A request is a hit within the ttl of the last *load*, not request. Where
    requests of a key are independent, that share is the mean of what caches hit that live an
    exponentially distributed multiple of the ttl since the last request.
    """
    entry = curve.bytes / curve.keys if curve.unit == "bytes" and curve.keys else 1.0
    sizes, misses = curve.sizes / entry, 1 - curve.hit_ratios
    known = np.concatenate([[True], np.diff(sizes) > 0])
    sizes, misses = sizes[known], np.maximum(misses[known], 1e-9)
    steps = np.diff(sizes) / ((misses[1:] + misses[:-1]) / 2) / max(rate, 1e-12)
    times = np.concatenate([[0.0], np.cumsum(steps)])
    multiples = -np.log((np.arange(FINE) + 0.5) / FINE)
    reached = np.interp(multiples * ttl, times, sizes) * entry
    return float(np.mean([curve.hit_ratio(min(size, one)) for one in reached]))


def expected_curve(windows: Sequence[MissRatioCurve]) -> tuple[MissRatioCurve, Expected]:
    """The curve that is expected next, of curves of equal stretches of time, oldest first.

    Returns it, and of its hit ratios the mean with how far each may be off.
    """
    if not windows:
        raise ConfigurationError("a curve needs at least one curve before it")
    last = windows[-1]
    ratios = np.array([np.interp(last.sizes, one.sizes, one.hit_ratios) for one in windows], float)
    weights = np.array([max(one.requests, 1e-9) for one in windows])
    # Only sizes up to the working set tell curves apart.
    whole = max(last.bytes if last.unit == "bytes" else last.keys, 2.0)
    at = np.unique(
        np.searchsorted(last.sizes, np.geomspace(1, whole, 32)).clip(0, len(last.sizes) - 1)
    )

    def mean_of(until: int) -> Any:
        fading = weights[:until] * FADE ** np.arange(until - 1, -1, -1)
        return np.average(ratios[:until], axis=0, weights=fading)

    off = FLOOR
    for cut in _cuts(len(windows)) if len(windows) >= FEWEST else ():
        came = np.average(ratios[cut:], axis=0, weights=weights[cut:])
        off = max(off, WIDER * float(np.abs(mean_of(cut) - came)[at].mean()))
    found = mean_of(len(windows))
    mean = float(found[at].mean())
    curve = replace(last, hit_ratios=np.maximum.accumulate(found))
    return curve, Expected(mean, mean - off, mean + off, f"the mean of {len(windows)}")


def expected_growth(values: Sequence[float], ahead: float = 1.0, *, most: float = inf) -> Expected:
    """What something that grows will be, from values at equal stretches of time, oldest first.

    Args:
        ahead: times as far as the values go back.
        most: that it can be, such as the bound of a disk.

    Raises:
        ConfigurationError: fewer than five values.
    """
    seen = np.asarray(values, float)
    most = float(most)
    count = len(seen) - 1
    if count < FEWEST:
        raise ConfigurationError(f"growth needs {FEWEST + 1} values or more, got {len(seen)}")
    tried: dict[str, list[float]] = {}
    for cut in _cuts(count):
        for way, continued in _WAYS.items():
            off = continued(seen[: cut + 1], count - cut) - seen[count]
            tried.setdefault(way, []).append(abs(off) * cut / (count - cut))
    best = min(tried, key=lambda way: sum(tried[way]))
    value = float(_WAYS[best](seen, ahead * count))
    # As far off as it was, and a way is no surer than that half of the others agree with it.
    others = sorted(abs(way(seen, ahead * count) - value) for way in _WAYS.values())
    scale = ahead * abs(value / seen[count]) if seen[count] else ahead
    off = WIDER * max(max(tried[best]) * scale, others[len(others) // 2])
    off = max(off, FLOOR * abs(value))
    lower, upper = float(value - off), float(value + off)
    return Expected(min(value, most), min(lower, most), min(upper, most), best)


def _cuts(count: int) -> list[int]:
    """Where the past ends when it is tried how well it tells of what came then."""
    return sorted({max(1, round(share * count)) for share in (0.5, 0.625, 0.75)})


def _line(share: float) -> Callable[[NDArray[np.float64], float], float]:
    """On as through so much of what was last."""

    def continued(seen: NDArray[np.float64], steps: float) -> float:
        last = max(1, round(share * (len(seen) - 1)))
        return float(seen[-1] + (seen[-1] - seen[-1 - last]) / last * steps)

    return continued


def _power(share: float) -> Callable[[NDArray[np.float64], float], float]:
    """As a power of time: what is new becomes rarer as more is known (H. Heaps, 1978)."""

    def continued(seen: NDArray[np.float64], steps: float) -> float:
        count = len(seen) - 1
        at = np.arange(max(1, int(count * share)), count + 1)
        if seen[at[0]] <= 0 or len(at) < 2:
            return float(seen[-1])
        exponent = float(np.polyfit(np.log(at), np.log(np.maximum(seen[at], 1e-9)), 1)[0])
        return float(seen[-1] * ((count + steps) / count) ** exponent)

    return continued


def _slowing(seen: NDArray[np.float64], steps: float) -> float:
    """As much slower or faster again as the second half grew than the second quarter."""
    count = len(seen) - 1
    half = count // 2
    before, lately = seen[half] - seen[half // 2], seen[-1] - seen[half]
    if before <= 0:
        return float(seen[-1] + lately / (count - half) * steps)
    return float(seen[-1] + lately * min(max(lately / before, 0.0), 2.0) * steps / count)


_WAYS: dict[str, Callable[[NDArray[np.float64], float], float]] = {
    "a power of time": _power(0.25),
    "a power of time, of the last half": _power(0.5),
    "a line through the last quarter": _line(0.25),
    "a line through the last half": _line(0.5),
    "slowing as before": _slowing,
}


def reached_in(values: Sequence[float], step: float, bound: float) -> float | None:
    """Seconds until something that grows reaches a bound; None: not while it is foreseen.

    Args:
        values: at every ``step`` seconds, oldest first.
    """
    if values[-1] >= bound:
        return 0.0
    if len(values) <= FEWEST:
        return None
    span = step * (len(values) - 1)
    for ahead in np.geomspace(0.05, 2.0, 24):
        if expected_growth(values, float(ahead)).value >= bound:
            return float(ahead) * span
    return None


def thinned(values: Sequence[float], count: int) -> list[float]:
    """So many of the values, evenly apart, the last among them."""
    chosen = np.unique(np.linspace(0, len(values) - 1, count).round().astype(int))
    return [values[place] for place in chosen]
