"""`Estimator`: miss-ratio curves of a stream of requests, in less than a MiB."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hybridcore._native.distances import StackDistances, edges
from hybridcore._native.miniature import Miniature
from hybridcore.analytics.curve import MissRatioCurve
from hybridcore.eviction import Weights
from hybridcore.memory import Cache

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hybridcore.eviction import Adaptive

ALL = 1 << 32
"""The threshold that every hash is below."""

SAMPLES = 8192
SMALL = 192
"""Entries of a cache in miniature, where sizes differ,"""
LARGE = 384
"""and where they do not: half of the memory of such an entry is what sizes need."""

CROWDED = 1.3
"""Times as many entries, of a smaller size than was thought, are too many."""
PIECE = 512
"""Requests between two looks at that."""

_EDGES = edges()


class Estimator:
    """Takes requests in and tells what caches of other sizes would have hit.

    The curve of LRU comes from stack distances. That of another policy is the curve of LRU, plus
    the difference between the two that small caches show at a few sizes.

    Args:
        samples: keys looked at, at most 32000. The error falls with the root of it.
        sized: sizes are in bytes, not in entries.
        deepest: the largest size of interest; 0: any.
        sizes: at which small caches are run.
        mean_size: bytes an entry takes, about; for the small caches of a sized one.
        weights, adaptive: the policy, as `Cache` takes them; not needed without ``sizes``.
        sample: the share of the keys of which requests are fed.
        entries: of a small cache; the more, the better it does as a large one does.
    """

    def __init__(
        self,
        *,
        samples: int = SAMPLES,
        sized: bool = False,
        deepest: float = 0,
        sizes: Sequence[float] = (),
        mean_size: float = 1.0,
        weights: Weights | None = None,
        adaptive: Adaptive | None = None,
        sample: float = 1.0,
        entries: int | None = None,
    ) -> None:
        self.sized = sized
        self._entries = entries or (SMALL if sized else LARGE)
        self._sample = sample
        self._distances = StackDistances(samples, sized, deepest / mean_size, round(sample * ALL))
        self._policy = (weights, adaptive)
        self._miniatures: list[tuple[float, Miniature]] = []
        self.simulate(sizes, mean_size)

    def simulate(self, sizes: Sequence[float], mean_size: float = 1.0) -> None:
        """Run small caches at these sizes from now on, instead of those that ran so far."""
        self._miniatures = [
            (
                size,
                miniature(size, min(self._sample, self._entries * mean_size / size), *self._policy),
            )
            for size in sorted(sizes)
        ]

    @property
    def below(self) -> int:
        """Requests of keys with a hash below this are of use."""
        return max([self._distances.below, *(small.below for _, small in self._miniatures)])

    @property
    def working_set(self) -> float:
        """What the keys known take, in the unit of sizes."""
        return self._distances.bytes if self.sized else self._distances.keys

    def feed(
        self,
        hashes: NDArray[np.uint32],
        sizes: NDArray[np.int64] | None = None,
        operations: NDArray[np.uint8] | None = None,
        requests: float | None = None,
    ) -> None:
        """Take requests in, see `StackDistances.feed`."""
        self._distances.feed(hashes, sizes, operations, requests)
        for start in range(0, len(hashes), PIECE):
            piece = slice(start, start + PIECE)
            for _, small in self._miniatures:
                small.feed(
                    hashes[piece],
                    None if sizes is None else sizes[piece],
                    None if operations is None else operations[piece],
                )
            if self.sized:
                self._shrink()

    def _shrink(self) -> None:
        """Go on with fewer keys where entries are smaller than was thought, and so too many."""
        for number, (size, small) in enumerate(self._miniatures):
            if small.entries > CROWDED * self._entries:
                rate = small.below / ALL * self._entries / small.entries
                fewer = small.go_on_with(miniature(size, rate, *self._policy))
                self._miniatures[number] = size, fewer

    def fade(self, factor: float) -> None:
        """Let what was seen so far weigh less."""
        self._distances.fade(factor)
        for _, small in self._miniatures:
            small.fade(factor)

    def curve(self) -> MissRatioCurve:
        """What LRU hits, by size."""
        by_count, by_size, bytes_by_size = self._distances.histograms()
        ratios = _rising(by_size if self.sized else by_count, self._distances.requests)
        if self.sized:
            total = self._distances.sampled_bytes
            if self._distances.sampled:
                total *= self._distances.requests / self._distances.sampled
            byte_ratios = _rising(bytes_by_size, total)
        else:
            byte_ratios = ratios
        return MissRatioCurve(
            unit="bytes" if self.sized else "entries",
            policy="lru",
            sizes=np.maximum(_EDGES - 1, 0),
            hit_ratios=ratios,
            byte_hit_ratios=byte_ratios,
            requests=self._distances.requests,
            keys=self._distances.keys,
            bytes=self._distances.bytes,
            rate=self._distances.rate,
        )

    def policy_curve(
        self, name: str = "policy", observed: tuple[float, float] | None = None
    ) -> MissRatioCurve:
        """What the policy hits, by size.

        Args:
            name: of the policy.
            observed: a size, and the hit ratio that the cache itself has had there.
        """
        lru = self.curve()
        found = self.differences(lru)
        more = [(size, ratio) for size, ratio, _ in found]
        more_bytes = [(size, ratio) for size, _, ratio in found]
        if observed is not None:
            size, ratio = observed
            more.append((size, ratio - lru.hit_ratio(size)))
            if not self.sized:
                more_bytes.append(more[-1])
        whole = lru.bytes if self.sized else lru.keys
        return replace(
            lru,
            policy=name,
            hit_ratios=plus(lru.hit_ratios, lru.sizes, more, whole),
            byte_hit_ratios=plus(lru.byte_hit_ratios, lru.sizes, more_bytes, whole),
        )

    def differences(self, lru: MissRatioCurve) -> list[tuple[float, float, float]]:
        """Sizes, and what the policy hits more there than LRU: of requests, and of bytes."""
        return [
            difference(size, small, lru)
            for size, small in self._miniatures
            if small.requests and small.bytes
        ]

    def memory_bytes(self) -> int:
        """Return the memory that all of it takes."""
        return self._distances.memory_bytes() + sum(
            small.memory_bytes() for _, small in self._miniatures
        )


def miniature(
    size: float, rate: float, weights: Weights | None, adaptive: Adaptive | None
) -> Miniature:
    """A cache of that size and policy, smaller by the rate."""
    small = max(1, round(size * rate))
    cache = Cache[int, None](small, weights=weights, adaptive=adaptive)
    return Miniature(cache, Cache[int, None](small, weights=Weights.lru()), round(rate * ALL))


def difference(size: float, small: Miniature, lru: MissRatioCurve) -> tuple[float, float, float]:
    """The size, and what the policy hits more there than LRU: of requests, and of bytes."""
    own = 1 - _weight(small.below / ALL, lru.rate)
    ratio, lru_ratio = small.hits / small.requests, small.lru_hits / small.requests
    of_bytes, lru_of_bytes = small.hit_bytes / small.bytes, small.lru_hit_bytes / small.bytes
    return (
        size,
        ratio - lru_ratio + own * (lru_ratio - lru.hit_ratio(size)),
        of_bytes - lru_of_bytes + own * (lru_of_bytes - lru.byte_hit_ratio(size)),
    )


def _rising(histogram: NDArray[np.float64], total: float) -> NDArray[Any]:
    """The share of the total up to each edge of the buckets."""
    if not total:
        return np.zeros(len(histogram) + 1)
    shares = np.concatenate([[0.0], np.cumsum(histogram)]) / total
    return np.maximum.accumulate(np.clip(shares, 0.0, 1.0))


def _weight(rate: float, other: float) -> float:
    """How far to trust the stack distances, of a sample at the other rate, against a small cache.

    By their variances; that of stack distances is far below what the rate says, as they are
    corrected for the busy keys. So a small cache is trusted when it is hardly smaller.
    """
    variance, others = (1 - rate) / rate, (1 - other) / (32 * other)
    return variance / (variance + others) if others else 1.0


def plus(
    ratios: NDArray[Any], sizes: NDArray[Any], more: list[tuple[float, float]], whole: float
) -> NDArray[Any]:
    """A curve plus what is known at some sizes, linear in between by the logarithm of the size.

    A cache of one entry, and one that holds the ``whole``, are the same with any policy.
    """
    known = sorted(more)
    if not known:
        return ratios
    if whole > known[-1][0]:
        known.append((whole, 0.0))
    if known[0][0] > 1:
        known.insert(0, (1.0, 0.0))
    at, differences = zip(*known, strict=True)
    added = np.interp(np.log(np.maximum(sizes, 1)), np.log(np.maximum(at, 1)), differences)
    return np.maximum.accumulate(np.clip(ratios + added, 0.0, ratios[-1]))
