"""How the memory tier chooses what to evict: by `Weights`, and by what it learns."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, get_args

from hybridcore.errors import ConfigurationError

if TYPE_CHECKING:
    from typing_extensions import Self

Objective = Literal["hit_ratio", "byte_hit_ratio", "cost_saved", "latency_saved"]
"""What a hit counts.

- ``hit_ratio``: one
- ``byte_hit_ratio``: the size of the entry
- ``cost_saved``, ``latency_saved``: its cost, which is the seconds a load takes for the latter
"""

State = Literal["fixed", "filling", "learning", "on_target", "suspended", "frozen"]


@dataclass(frozen=True, slots=True)
class Weights:
    """The exponents of the five factors in the score of an entry; the lowest score goes first.

    ``score = frequency ** f * cost ** c * importance ** i / size ** s``, and a score halves with
    every turnover of the cache (as many evictions as it has entries) times ``recency``.

    - ``recency`` alone: exact LRU
    - ``frequency`` alone: exact LFU for frequencies up to 11, in steps of 4 % above; frequencies
      halve every ten turnovers, so that yesterday's favourites leave
    - ``size``, ``cost``, ``importance``: 1 means in proportion, 0 that the factor does not count;
      each is rounded to 4 %

    Where the cache learns, recency and frequency are what it learns, and the others hold.
    """

    recency: float = 1.0
    frequency: float = 1.0
    size: float = 1.0
    cost: float = 1.0
    importance: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(f"the weight of {field.name}", getattr(self, field.name), 0, 8)
        if not any(getattr(self, field.name) for field in fields(self)):
            raise ConfigurationError("weights of only zeros choose nothing: give one of them")

    @classmethod
    def lru(cls) -> Self:
        """Recency alone."""
        return cls(1, 0, 0, 0, 0)

    @classmethod
    def lfu(cls) -> Self:
        """Frequency alone."""
        return cls(0, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Adaptive:
    """Whether and how a cache learns what to evict.

    - ``enabled``: False goes by the `Weights` alone
    - ``learning_rate``: the share of its experience that a lesson forgets, from 0 to below 1
    - ``performance_target``: a share of requests that find an entry, above 0 up to 1; once it is
      reached the cache stops learning until it is missed. None: it learns on
    - ``objective``: what a hit counts
    - ``seed``: of the samples; the same requests with the same hashes evict the same
    """

    enabled: bool = True
    learning_rate: float = 0.03
    performance_target: float | None = None
    objective: Objective = "hit_ratio"
    seed: int = 0

    def __post_init__(self) -> None:
        _check("learning_rate", self.learning_rate, 0, math.nextafter(1, 0))
        if self.performance_target is not None:
            _check("performance_target", self.performance_target, 1e-9, 1)
        if self.objective not in get_args(Objective):
            raise ConfigurationError(
                f"objective is expected to be one of {', '.join(get_args(Objective))}, "
                f"got {self.objective!r}"
            )
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**64:
            raise ConfigurationError(
                f"seed is expected to be an int from 0 to 2**64 - 1, got {self.seed!r}"
            )


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a cache has learned and decided, when `Cache.tuning` was called.

    - ``state``: ``fixed`` weights; ``filling``: less than an eighth full; ``learning``;
      ``on_target``: the performance target is reached; ``suspended``: LRU was better, and decides
      for some lessons; ``frozen`` by the user
    - ``lessons``, ``vetoes``: how often what was counted became what entries are worth, and how
      often the guard suspended that
    - ``requests``: uses and insertions seen; ``next_lesson``: requests until the next, or None
    - ``hit_ratio``, ``lru_hit_ratio``: shares of the requests between the last two lessons that
      found an entry, and that would have with LRU, as estimated
    - ``history``: evicted keys that can be remembered
    """

    weights: Weights
    adaptive: Adaptive | None
    state: State
    lessons: int = 0
    vetoes: int = 0
    requests: int = 0
    next_lesson: int | None = None
    hit_ratio: float = 0.0
    lru_hit_ratio: float = 0.0
    history: int = 0


def _check(name: str, value: float, least: float, most: float) -> None:
    try:
        if least <= value <= most:
            return
    except TypeError:
        pass
    raise ConfigurationError(
        f"{name} is expected to be a number from {least} to {most:g}, got {value!r}"
    )
