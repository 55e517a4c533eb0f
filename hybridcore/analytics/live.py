"""`Analyzer`: the miss-ratio curve of a cache while it runs, and what follows from it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from math import inf
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from hybridcore.analytics.estimator import ALL, SAMPLES, Estimator
from hybridcore.analytics.forecast import MOST_POINTS
from hybridcore.analytics.predictions import Predictions, Series, predict
from hybridcore.analytics.recommend import Recommendation, recommend
from hybridcore.analytics.tap import Requests, Tap
from hybridcore.units import Duration, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hybridcore.analytics.curve import MissRatioCurve
    from hybridcore.eviction import Adaptive, Weights
    from hybridcore.memory import Cache

DEEPEST = 16
SIMULATED = (0.5, 2, 4)
"""Times the size there is: the sizes at which the policy is simulated; 1 needs no simulation."""
ENOUGH = 64
"""Entries whose mean size says something."""
DRIFT = 1.5
"""By which the mean size may change before small caches of another size are made."""


@dataclass(frozen=True, slots=True)
class Analytics:
    """How a cache is looked at.

    Args:
        samples: keys looked at, 64 to 32000.
        half_life: after which what was seen counts half; None: all counts the same.
        simulate: whether the policy is simulated at other sizes; without it, the curve of another
            policy than LRU is that of LRU with the gain of the policy at the size there is.
        interval: between two measurements of growth.
    """

    samples: int = SAMPLES
    half_life: Duration | None = "1h"
    simulate: bool = True
    interval: Duration = "10s"


class Analyzer:
    """Looks at the requests of a sample of the keys, as the cache notes them.

    A lookup of any other key pays one comparison. At most a MiB of memory, see `memory_bytes`.

    Args:
        cache: what is looked at.
        options: how.
        measures: more that grows: functions by name, such as ``{"disk": ...}``.
        clock: seconds, rising.
        deepest: times the size there is, the largest size of interest; 0: any.
    """

    wants_keys = False

    def __init__(
        self,
        cache: Cache[Any, Any],
        options: Analytics = Analytics(),  # immutable
        *,
        measures: Mapping[str, Callable[[], float]] | None = None,
        clock: Callable[[], float] = monotonic,
        deepest: float = DEEPEST,
    ) -> None:
        self._cache = cache
        self._deepest = deepest
        self._options = options
        self._half_life = None if options.half_life is None else seconds(options.half_life)
        self._measures = dict(measures or {})
        self._clock = clock
        self._estimator: Estimator | None = None
        self._simulated = 0.0, 1.0
        self._faded = clock()
        self._counted = cache.counters()[:2]
        self._hits = self._lookups = self._time = 0.0
        self._measured = 0
        self._series = Series(seconds(options.interval), clock())
        self._lock = Lock()  # taken within that of the tap, if both are
        self._tap = Tap.of(cache)
        self._tap.add(self)

    @property
    def below(self) -> int:
        """Requests of keys with a hash below this are looked at."""
        return ALL if self._estimator is None else self._estimator.below

    def take(self, requests: Requests) -> None:
        """Look at requests. Called by the tap."""
        looked = len(requests.hashes)
        kept = looked / (looked + requests.lost) if looked else 1.0
        with self._lock:
            estimator = self._current()
            self._fade(estimator)
            sizes = requests.sizes
            if not estimator.sized:  # where 0 still says that a lookup missed
                sizes = (sizes != 0).astype(sizes.dtype)
            estimator.feed(requests.hashes, sizes, requests.operations, requests.requests * kept)
            if self._series.due(self._clock()):
                self._measure(estimator)

    def curve(self) -> MissRatioCurve:
        """The hit ratio of every size, with the policy that runs."""
        self._tap.drain()
        with self._lock:
            observed = None
            if self._lookups and self._cache.maxsize < inf:
                observed = (float(self._cache.maxsize), self._hits / self._lookups)
            policy = _policy(*self._cache.options()[6:8])
            return self._current().policy_curve(policy, observed)

    def recommend(
        self,
        *,
        hit_ratio: float | None = None,
        sizes: Sequence[float] | None = None,
        cost: float = 1.0,
        calls_per_miss: float = 1.0,
    ) -> Recommendation:
        """What size to give the cache, see `hybridcore.analytics.recommend`."""
        curve = self.curve()
        bounded = self._cache.maxsize < inf
        return recommend(
            curve,
            current=float(self._cache.maxsize) if bounded else None,
            hit_ratio=hit_ratio,
            sizes=sizes,
            requests_per_hour=3600 * self._lookups / self._time if self._time else 0.0,
            calls_per_miss=calls_per_miss,
            cost=cost,
        )

    def measured(self) -> int:
        """How many measurements of growth there were until now."""
        self._tap.drain()
        return self._measured

    def predict(
        self,
        horizon: Duration = "1h",
        *,
        period: Duration | None = None,
        points: int = MOST_POINTS,
    ) -> Predictions:
        """What is to come within the horizon, from measurements at every interval.

        Args:
            period: after which traffic repeats itself, such as "1d"; see `forecast`.
            points: measurements that lines are drawn through, at most.
        """
        self._tap.drain()
        with self._lock:
            return predict(
                self._series,
                seconds(horizon),
                maxsize=float(self._cache.maxsize),
                period=None if period is None else seconds(period),
                points=points,
            )

    def memory_bytes(self) -> int:
        """Return the memory that looking takes."""
        events = 1024 * 24
        found = 0 if self._estimator is None else self._estimator.memory_bytes()
        return found + events + self._series.memory_bytes()

    def close(self) -> None:
        """Look no more."""
        self._tap.remove(self)

    def _current(self) -> Estimator:
        """The estimator, for the bound that the cache has now."""
        cache, options = self._cache, self._options
        limit, sizer, _, _, _, estimates, weights, adaptive, _ = cache.options()
        _, _, inserted, _, evicted, expired, removed = cache.counters()[:7]
        entries = max(1, inserted - evicted - expired - removed)
        mean = max(1.0, cache.currsize / entries)
        sized = sizer is not None or estimates or cache.currsize > entries
        if self._estimator is None:
            self._estimator = Estimator(
                samples=options.samples,
                sized=sized,
                deepest=0 if limit is None else self._deepest * limit,
                mean_size=mean,
                weights=weights,
                adaptive=adaptive,
            )
        if (
            options.simulate
            and _policy(weights, adaptive) != "lru"
            and limit
            and (not sized or entries >= ENOUGH)
        ):
            size, mean_then = self._simulated
            if size != limit or not 1 / DRIFT < mean / mean_then < DRIFT:
                self._simulated = limit, mean
                self._estimator.simulate([share * limit for share in SIMULATED], mean)
        return self._estimator

    def _fade(self, estimator: Estimator) -> None:
        """Count what the cache did meanwhile, and let what was before weigh less."""
        now = self._clock()
        passed, self._faded = now - self._faded, now
        if self._half_life is not None and passed > 0:
            factor = 0.5 ** (passed / self._half_life)
            estimator.fade(factor)
            self._hits *= factor
            self._lookups *= factor
            self._time *= factor
        counted = self._cache.counters()[:2]
        hits, misses = (
            after - before for after, before in zip(counted, self._counted, strict=True)
        )
        self._counted = counted
        self._hits += hits
        self._lookups += hits + misses
        self._time += passed

    def _measure(self, estimator: Estimator) -> None:
        cache = self._cache
        counters = cache.counters()
        found = {
            "size": float(cache.currsize),
            "evicted": float(counters[4]),
            "evicted_size": float(counters[8]),
            "inserted": float(counters[2]),
            "working_set": estimator.working_set,
        }
        for name, measure in self._measures.items():
            with suppress(Exception):  # what cannot be measured now is measured later
                found[name] = float(measure())
        self._series.add(self._clock(), found)
        self._measured += 1


def _policy(weights: Weights, adaptive: Adaptive | None) -> str:
    """What to call it."""
    if adaptive is not None and adaptive.enabled:
        return "learned"
    others = (weights.frequency, weights.size, weights.cost, weights.importance)
    return "weights" if any(others) else "lru"
