"""The miss-ratio curve of a cache as metrics: what memory of other sizes would hit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from hybridcore.errors import ConfigurationError
from hybridcore.exporters.metrics import PREFIX, Family, Labels

if TYPE_CHECKING:
    from hybridcore.analytics import StoreAnalytics
    from hybridcore.exporters.metrics import Buckets

_SHARES = tuple(2.0**power for power in range(-6, 5))
"""Of the size there is: the sizes that are told, so that all processes tell the same ones."""
_SELDOM = 10.0
"""Seconds between two looks at a curve."""


class Curves:
    """The curves of caches that have ``analytics``, as of some seconds ago at most."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, list[Family]]] = {}

    def families(self, name: str, cache: Any) -> list[Family]:
        """The curve of a cache; nothing where it is not analyzed, or was never asked."""
        until, told = self._known.get(name, (0.0, []))
        if time.monotonic() >= until:
            analytics = getattr(cache, "analyzed", None)
            try:
                told = [] if analytics is None else _families(name, analytics)
            except ConfigurationError:  # it only records
                told = []
            self._known[name] = time.monotonic() + (_SELDOM if told else 0.0), told
        return told


def _families(cache: str, analytics: StoreAnalytics) -> list[Family]:
    curve = analytics.curve()
    advice = analytics.recommend() if curve.requests else None
    if advice is None or advice.current is None:
        return []
    size = advice.current.size
    sizes = sorted({max(1, round(share * size)) for share in _SHARES})
    named = (("cache", cache), ("unit", curve.unit))
    ratios: dict[Labels, float | Buckets] = {
        (*named, ("size", str(one))): curve.hit_ratio(one) for one in sizes
    }
    text = "Hit ratio that memory of a size would have."
    found = [Family(f"{PREFIX}memory_hit_ratio_at", "gauge", text, ratios, "max")]
    text = "What the memory of a process may hold."
    bound: dict[Labels, float | Buckets] = {named: float(size)}
    found.append(Family(f"{PREFIX}memory_process_maxsize", "gauge", text, bound, "max"))
    return found
