"""Preemptive warming: entries still asked for are loaded anew just before they expire."""

from __future__ import annotations

import heapq
from collections import Counter
from math import exp
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from hybridcore.errors import ConfigurationError
from hybridcore.units import Duration, seconds
from hybridcore.warming.strategy import Heard, Wish
from hybridcore.warming.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybridcore.warming.shelf import Shelf

_PRIOR = 0.25
"""Uses that every entry is credited with."""
_TRIAL = 30
"""Refreshes whose fate is known before it counts."""
_LONGEST_LINE = 600.0
"""Seconds ahead that it looks for entries that expire together."""
_SPARE = 1.5
"""Times what refreshing them is expected to take is left for it."""
_ANYWAY = 0.02
"""Share of refreshes that are tried whatever became of those before, to notice when it changes."""


class _Tracked(NamedTuple):
    number: int
    expires: float
    whole: float
    uses: int


class Preemptive:
    """Refreshes entries before they expire, at random times, so that a fleet does not at once.

    The time is drawn as in XFetch (Vattani, Chierichetti, Lowenstein: Optimal Probabilistic Cache
    Stampede Prevention, VLDB 2015): before the expiry by ``beta`` mean loads times an exponential
    variate, but not before ``trigger_threshold`` of the ttl. Entries that were not asked for at
    least ``min_uses`` times since they were loaded are left to expire. When more expire together
    than can be loaded in that time, they are begun as much earlier as it takes.

    Args:
        trigger_threshold: the share of the ttl before which nothing is refreshed.
        beta: above 1 refreshes earlier, below 1 later.
        margin: how long before the expiry a refresh begins at the latest, where the ttl allows it.
        min_uses: uses since the load that show that an entry is still wanted.
        max_tracked: entries whose expiry is known; of more, those loaded last are left alone.
        ceiling: refreshes begun at a time.
    """

    name = "preemptive"
    is_on = True

    def __init__(
        self,
        trigger_threshold: float = 0.8,
        *,
        beta: float = 1.0,
        margin: Duration = "2s",
        min_uses: int = 1,
        max_tracked: int = 100_000,
        ceiling: int = 2_000,
        seed: int | None = None,
    ) -> None:
        if not 0 < trigger_threshold < 1:
            raise ConfigurationError(
                "trigger_threshold is expected to be a share of the ttl between 0 and 1, got "
                f"{trigger_threshold!r}"
            )
        for name, number in (("beta", beta), ("min_uses", min_uses), ("max_tracked", max_tracked)):
            if number < 0:
                raise ConfigurationError(f"{name} is expected to be at least 0, got {number!r}")
        if ceiling < 1:
            raise ConfigurationError(f"ceiling is expected to be at least 1, got {ceiling!r}")
        self._threshold = trigger_threshold
        self._beta = beta
        self._margin = seconds(margin)
        self._min_uses = min_uses
        self._most = max_tracked
        self._ceiling = ceiling
        self._random = Random(seed)
        self._tracked: dict[Any, _Tracked] = {}
        self._due: list[tuple[float, int, Any]] = []
        self._expiring: Counter[int] = Counter()
        self._number = 0
        self.trial = Trial()
        self._guessed: dict[Any, float] = {}
        self.load_seconds = 0.0
        """The mean time of a load, kept up to date by the warmer."""
        self.refresh_seconds = 0.0
        """The time that each refresh adds to a line of them, kept up to date by the warmer."""

    def hear(self, what: Heard, key: Any, now: float, shelf: Shelf) -> None:
        """Note when an entry expires."""
        if what is Heard.GONE:
            self._forget(key)
        elif what is Heard.LOADED:
            life = shelf.life(key)
            if life is None or life.left is None:
                self._forget(key)
            elif key in self._tracked or len(self._tracked) < self._most:
                self._track(key, now, life.left, life.uses)

    def adopt(self, now: float, shelf: Shelf) -> None:
        """Track what was in memory before anybody listened."""
        for key in shelf.hottest(self._most):
            self.hear(Heard.LOADED, key, now, shelf)

    def _track(self, key: Any, now: float, left: float, uses: int) -> None:
        self._forget(key)
        self._number += 1
        ahead = self._beta * self.load_seconds * self._random.expovariate(1.0) + self._margin
        ahead = min(ahead, (1 - self._threshold) * left)
        self._tracked[key] = _Tracked(self._number, now + left, left, uses)
        self._expiring[int(now + left)] += 1
        heapq.heappush(self._due, (now + left - ahead, self._number, key))
        if len(self._due) > 2 * len(self._tracked) + 1_000:
            self._due = [item for item in self._due if self._is_current(item)]
            heapq.heapify(self._due)

    def _forget(self, key: Any) -> _Tracked | None:
        tracked = self._tracked.pop(key, None)
        if tracked is not None:
            second = int(tracked.expires)
            self._expiring[second] -= 1
            if not self._expiring[second]:
                del self._expiring[second]
        return tracked

    def _begun_until(self, now: float) -> float:
        """The time up to which what expires makes a line so long that it has to begin now."""
        each = _SPARE * self.refresh_seconds
        until, line = now, 0
        for second in range(int(now), int(now + min(_LONGEST_LINE, len(self._tracked) * each)) + 1):
            line += self._expiring.get(second, 0)
            if now + line * each >= second:
                until = max(now, second + 1.0)
        return until

    def wishes(self, now: float, shelf: Shelf) -> Iterator[Wish]:
        """Entries that are due and were asked for since they were loaded."""
        count = 0
        until = self._begun_until(now)
        while self._due and self._due[0][0] <= until and count < self._ceiling:
            item = self._due[0]
            key = item[2]
            tracked = self._tracked.get(key)
            if tracked is None or tracked.number != item[1]:
                heapq.heappop(self._due)
                continue
            if now < tracked.expires - (1 - self._threshold) * tracked.whole:
                break
            heapq.heappop(self._due)
            self._forget(key)
            if tracked.expires <= now:
                continue  # its reader will have to load it
            uses = shelf.uses(key)
            asked = uses - tracked.uses if uses >= tracked.uses else uses  # counts fade
            if uses >= shelf.MOST_USES:
                asked = max(asked, uses // 8)
            if asked < self._min_uses:
                continue
            count += 1
            left = tracked.expires - now
            rate = asked + _PRIOR
            likely = 1 - exp(-rate)
            self._guessed[key] = likely
            if len(self._guessed) > self._most:
                del self._guessed[next(iter(self._guessed))]
            extra = 1 / (1 + rate)
            if self.trial.tried >= _TRIAL and self._random.random() >= _ANYWAY:
                likely = self.trial.probability(likely)
                extra = max(extra, 1 - likely)
            yield Wish(
                key,
                self.name,
                likely,
                extra=extra,
                unless_left=(left + tracked.whole) / 2,
                reason=f"asked for {asked} times in {tracked.whole:g} s, expires in {left:.1f} s",
            )

    def next_at(self) -> float | None:
        """When the next entry is due."""
        return self._due[0][0] if self._due else None

    def resolved(self, key: Any, is_hit: bool) -> None:
        """What was refreshed was asked for, or not."""
        likely = self._guessed.pop(key, None)
        if likely is not None:
            self.trial.note(likely, is_hit)

    def _is_current(self, item: tuple[float, int, Any]) -> bool:
        tracked = self._tracked.get(item[2])
        return tracked is not None and tracked.number == item[1]
