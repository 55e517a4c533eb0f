"""What the statistics foretell: growth, evictions, and which size each tier should have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class RecommendedSize:
    """A size for a tier, in entries or bytes, and the hit ratio that is expected of it."""

    size: int
    unit: str
    hit_ratio: float


@dataclass(frozen=True, slots=True)
class Expectations:
    """What is expected within ``horizon`` seconds, as of the last measurement.

    - ``working_set``: what the keys take that are asked for, in the unit of the memory tier
    - ``growth_per_hour``: of the ``"size"`` of memory and the ``"working_set"`` that is asked for,
      in the unit of the memory tier, and of the bytes on ``"disk"``
    - ``evictions`` of the memory tier, from ``fewest`` to ``most``; None before it is known
    - ``full_in``: seconds until memory is full, 0 if it is; None if it will not be
    - ``recommended``: by tier, the smallest size that reaches nearly what any size could: of memory
      95 % of these hits, of memory and disk together 99 %
    """

    horizon: float
    working_set: float | None = None
    growth_per_hour: Mapping[str, float] = field(default_factory=dict)
    evictions: float | None = None
    fewest: float | None = None
    most: float | None = None
    full_in: float | None = None
    recommended: Mapping[str, RecommendedSize] = field(default_factory=dict)
