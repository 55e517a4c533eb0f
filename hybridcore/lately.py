"""What the engine remembers for a while: keys that were missing or failed, and what loads cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybridcore.eviction import Weights
from hybridcore.memory import Cache

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridcore.config import EntryOptions

_MOST = 100_000
"""Keys that are remembered; of more, those go that were noted longest ago."""
_FADE = 0.1
"""How much a new load counts in the average of those before."""


class Lately:
    """Keys, each remembered for its own while."""

    def __init__(self, timer: Callable[[], float] | None = None) -> None:
        self._timer = timer
        self._keys: Cache[Any, Any] | None = None  # made when there is something to remember

    def note(self, key: Any, seconds: float | None, what: Any = True) -> None:
        """Remember this of the key for so long; None and 0: not at all."""
        if seconds:
            if self._keys is None:
                self._keys = Cache(_MOST, timer=self._timer, weights=Weights.lru())
            self._keys.put(key, what, ttl=seconds)

    def forget(self, key: Any) -> None:
        """Do not remember the key any longer."""
        if self._keys is not None:
            self._keys.discard(key)

    def clear(self) -> None:
        """Forget every key."""
        if self._keys is not None:
            self._keys.clear()

    def of(self, key: Any) -> Any:
        """What is remembered of the key, None if nothing is."""
        return None if self._keys is None else self._keys.get(key)

    def __contains__(self, key: Any) -> bool:
        return self._keys is not None and key in self._keys


class Costs:
    """What loads cost, by the rule of their key: the time they took, against that of all loads."""

    def __init__(self) -> None:
        self._all = 0.0
        self._by_rule: dict[int, float] = {}

    def of(self, rule: EntryOptions, took: float | None = None) -> float:
        """The cost of a key of this rule, 1 for the average load; ``took`` is that of one more.

        It is rounded to a power of the square root of 2, since it only serves to compare.
        """
        before = self._by_rule.get(id(rule))
        if took is not None:
            before = took if before is None else before + _FADE * (took - before)
            self._by_rule[id(rule)] = before
            self._all = took if not self._all else self._all + _FADE * (took - self._all)
        if before is None or len(self._by_rule) < 2 or not self._all or not before:
            return 1.0
        return float(2 ** (round(2 * _log2(before / self._all)) / 2))


def _log2(ratio: float) -> float:
    from math import log2

    return log2(ratio)
