"""`trace_curve`: the curve of a whole trace, read several times, so that each time shows more.

A trace can be read as often as one likes, which a cache that runs cannot be. One pass looks at all
keys, as far as a cache of some ten thousand entries goes, and finds exactly what LRU hits there;
one at a sample of the keys finds what larger ones hit more. Then the policy is run in small caches
at a few sizes. If a hit ratio is wanted, more passes close in on its size, each with one cache as
large as there is room for: often one of the very size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, log
from typing import TYPE_CHECKING, Any

import numpy as np

from hybridcore.analytics.estimator import (
    CROWDED,
    PIECE,
    Estimator,
    difference,
    miniature,
    plus,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hybridcore._native.miniature import Miniature
    from hybridcore.analytics.curve import MissRatioCurve
    from hybridcore.eviction import Adaptive, Weights

MIB = 1 << 20
A_SAMPLE, A_SIZED_SAMPLE = 36, 52
"""Bytes that a key takes which is looked at, without and with its size."""
AN_ENTRY, A_SIZED_ENTRY = 370, 560
"""Bytes that an entry of two small caches takes."""
SIMULATED = 5
"""Sizes at which the policy runs at first."""
SMALLEST = 32
"""Entries of the smallest of them."""
PASSES = 5
"""That close in on a size at most,"""
CLOSE = 0.01
"""until two of them are this near to each other."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What a trace asks for: hashes of 32 bits, and more as `Estimator.feed` takes it.

    ``sample`` is the share of the keys that are there, ``lookups`` how many there were of all.
    """

    hashes: NDArray[np.uint32]
    sizes: NDArray[np.int64] | None = None
    operations: NDArray[np.uint8] | None = None
    sample: float = 1.0
    lookups: float | None = None
    mean_size: float = 1.0


def trace_curve(
    trace: Trace,
    policy: str = "lru",
    *,
    sized: bool = False,
    weights: Weights | None = None,
    adaptive: Adaptive | None = None,
    hit_ratio: float | None = None,
    share: float | None = None,
    memory: int = MIB,
) -> MissRatioCurve:
    """Tell what caches of any size hit.

    Args:
        policy: its name; of "lru" the exact one is known without running it.
        sized: sizes are in bytes, not in entries.
        weights, adaptive: the policy, as `Cache` takes them.
        hit_ratio: where the curve is to be as right as can be,
        share: or this share of what any size could hit.
        memory: bytes that each pass takes at most, about.
    """
    if not sized and trace.sizes is not None:
        # Where sizes do not count, 0 still says that a lookup missed.
        trace = replace(trace, sizes=(trace.sizes != 0).astype(trace.sizes.dtype), mean_size=1.0)
    lru = _lru(trace, sized, memory, (hit_ratio, share) if policy == "lru" else (None, None))
    if policy == "lru":
        return lru.curve
    whole = lru.curve.bytes if sized else lru.curve.keys
    entries = memory // (A_SIZED_ENTRY if sized else AN_ENTRY)
    options: dict[str, Any] = {"weights": weights, "adaptive": adaptive}
    known = _differences(trace, sized, lru, _spread(lru.curve, whole), entries, options)
    curve = _curve(policy, lru.curve, known, whole)
    for _ in range(PASSES):
        enough = _wanted(curve, hit_ratio, share)
        if enough is None or enough < 1:
            break
        if any(abs(log(enough / size)) < CLOSE for size, _, _ in known):
            break
        known += _differences(trace, sized, lru, [enough], entries, options)
        curve = _curve(policy, lru.curve, known, whole)
    return curve


def _fed(trace: Trace, sized: bool, **options: Any) -> Estimator:
    estimator = Estimator(
        sized=sized, sample=trace.sample, mean_size=trace.mean_size if sized else 1.0, **options
    )
    estimator.feed(trace.hashes, trace.sizes, trace.operations, trace.lookups)
    return estimator


@dataclass(frozen=True, slots=True)
class _Lru:
    """What LRU hits; up to the size ``near`` that is known from a larger sample."""

    curve: MissRatioCurve
    near: float = 0.0
    near_rate: float = 0.0

    def at(self, size: float) -> MissRatioCurve:
        """The curve, with the rate that holds at the size."""
        return replace(self.curve, rate=self.near_rate) if size <= self.near else self.curve


def _wanted(curve: MissRatioCurve, hit_ratio: float | None, share: float | None) -> float | None:
    """The size to close in on, if there is one."""
    if share is not None:
        return curve.knee(share)
    return None if hit_ratio is None else curve.size_for(hit_ratio)


def _lru(trace: Trace, sized: bool, memory: int, wanted: tuple[float | None, float | None]) -> _Lru:
    samples = min(32_000, memory // (A_SIZED_SAMPLE if sized else A_SAMPLE))
    curve = _fed(trace, sized, samples=samples).curve()
    if curve.rate >= trace.sample:
        return _Lru(curve)
    mean = curve.bytes / curve.keys if sized else 1.0
    near = 0.7 * samples * mean / trace.sample
    closest = _fed(trace, sized, samples=samples, deepest=near).curve()
    curve = _joined(closest, curve, near)
    enough = _wanted(curve, *wanted)
    if enough is not None and near < enough:
        depth = 1.3 * enough
        closer = _fed(trace, sized, samples=samples, deepest=depth).curve()
        if closer.rate > curve.rate:
            curve = _joined(closest, _joined(closer, curve, depth), near)
    return _Lru(curve, near, closest.rate)


def _joined(near: MissRatioCurve, far: MissRatioCurve, at: float) -> MissRatioCurve:
    """One curve up to a size, and from there what the other rises by."""
    beyond = far.sizes > at

    def both(ratios: Any, others: Any, there: float, other: float) -> Any:
        return np.minimum(np.where(beyond, others - other + there, ratios), 1.0)

    return replace(
        far,
        hit_ratios=both(near.hit_ratios, far.hit_ratios, near.hit_ratio(at), far.hit_ratio(at)),
        byte_hit_ratios=both(
            near.byte_hit_ratios,
            far.byte_hit_ratios,
            near.byte_hit_ratio(at),
            far.byte_hit_ratio(at),
        ),
    )


def _spread(curve: MissRatioCurve, whole: float) -> list[float]:
    """Sizes from small to nearly the whole, each larger than the one before by the same factor."""
    first = min(max(SMALLEST * whole / max(curve.keys, 1), whole / 1000), whole)
    step = (log(whole) - log(first)) / SIMULATED
    return [exp(log(first) + number * step) for number in range(SIMULATED)]


def _differences(
    trace: Trace,
    sized: bool,
    lru: _Lru,
    sizes: list[float],
    entries: int,
    options: dict[str, Any],
) -> list[tuple[float, float, float]]:
    """By size, what the policy hits more than LRU, of requests and of bytes."""
    return [
        difference(size, small, lru.at(size))
        for size in sizes
        if (small := _small(trace, sized, size, entries // len(sizes), options)).bytes
    ]


def _small(
    trace: Trace, sized: bool, size: float, entries: int, options: dict[str, Any]
) -> Miniature:
    """A small cache that went through the trace; begun again if it held more than it should."""
    rate = min(trace.sample, entries * (trace.mean_size if sized else 1.0) / size)
    while True:
        small = miniature(size, rate, **options)
        for start in range(0, len(trace.hashes), PIECE):
            piece = slice(start, start + PIECE)
            small.feed(
                trace.hashes[piece],
                None if trace.sizes is None else trace.sizes[piece],
                None if trace.operations is None else trace.operations[piece],
            )
            if small.entries > CROWDED * entries:
                break
        else:
            return small
        rate *= entries / small.entries


def _curve(
    policy: str, lru: MissRatioCurve, known: list[tuple[float, float, float]], whole: float
) -> MissRatioCurve:
    objects = [(size, more) for size, more, _ in known]
    of_bytes = [(size, more) for size, _, more in known]
    return replace(
        lru,
        policy=policy,
        hit_ratios=plus(lru.hit_ratios, lru.sizes, objects, whole),
        byte_hit_ratios=plus(lru.byte_hit_ratios, lru.sizes, of_bytes, whole),
    )
