"""`MissRatioCurve`: the hit ratio of every size that a cache could have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Unit: TypeAlias = Literal["entries", "bytes"]


@dataclass(frozen=True, slots=True, eq=False)
class MissRatioCurve:
    """Hit ratios by the size of the cache, estimated from a sample of the keys.

    ``sizes`` are in ``unit`` and rise; ``hit_ratios`` are shares of requests, ``byte_hit_ratios``
    of the bytes asked for, both rise with them. Between two sizes the curve is a straight line.

    ``policy`` is "lru", or what was simulated. ``requests`` is what the curve is about, ``keys``
    and ``bytes`` the working set: how many different keys were asked for, of those that a size of
    interest could hold, and what they take. ``rate`` is the share of keys that were looked at.
    """

    unit: Unit
    policy: str
    sizes: NDArray[np.float64]
    hit_ratios: NDArray[np.float64]
    byte_hit_ratios: NDArray[np.float64]
    requests: float
    keys: float
    bytes: float
    rate: float

    def hit_ratio(self, size: float) -> float:
        """The share of requests that a cache of this size hits."""
        return float(np.interp(size, self.sizes, self.hit_ratios))

    def byte_hit_ratio(self, size: float) -> float:
        """The share of bytes asked for that a cache of this size has."""
        return float(np.interp(size, self.sizes, self.byte_hit_ratios))

    def size_for(self, hit_ratio: float) -> float | None:
        """The smallest size that hits that much; None if no size does."""
        reached = int(np.searchsorted(self.hit_ratios, hit_ratio))
        if reached == len(self.sizes):
            return None
        if reached == 0:
            return float(self.sizes[0])
        low, high = self.hit_ratios[reached - 1 : reached + 1]
        share = (hit_ratio - low) / (high - low)
        return float(
            self.sizes[reached - 1] + share * (self.sizes[reached] - self.sizes[reached - 1])
        )

    def marginal(self, size: float, more: float) -> float:
        """What hit ratio is gained by that much more size."""
        return self.hit_ratio(size + more) - self.hit_ratio(size)

    @property
    def best(self) -> float:
        """The hit ratio of a cache that is never full."""
        return float(self.hit_ratios[-1])

    def knee(self, share: float = 0.95) -> float:
        """The smallest size that hits this share of what any size can."""
        size = self.size_for(share * self.best)
        assert size is not None
        return size
