"""Models of what is asked for next: by what was asked before, by the clock, by how often."""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from math import exp, log
from typing import TYPE_CHECKING, Any

from hybridcore.warming.predictive import Guess

if TYPE_CHECKING:
    from collections.abc import Iterator

_DAY = 86_400.0


class Associations:
    """Which keys follow a key: pairs counted in a sliding window of demand.

    As in Mithril (Yang, Karimi, Sæmundsson, Wildani, Vigfusson, SoCC 2017) keys asked for too
    rarely or all the time teach nothing, and few followers are kept of each.

    Args:
        lookahead: events after a key that count as following.
        within: seconds after it that do.
        followers: kept of each key.
        min_support: times that a key was asked for before what follows is guessed.
        max_keys: remembered; of more, those asked for longest ago go.
    """

    name = "associations"

    def __init__(
        self,
        *,
        lookahead: int = 12,
        within: float = 120.0,
        followers: int = 6,
        min_support: int = 3,
        max_keys: int = 20_000,
    ) -> None:
        self._within = within
        self._followers = followers
        self._support = min_support
        self._most = max_keys
        self._window: deque[tuple[Any, float]] = deque(maxlen=lookahead)
        self._after: OrderedDict[Any, tuple[list[float], dict[Any, float]]] = OrderedDict()

    def learn_one(self, key: Any, at: float) -> None:
        """Count the key as a follower of those before it; O(lookahead)."""
        seen = set()
        for before, when in self._window:
            if before == key or before in seen or at - when > self._within:
                continue
            seen.add(before)
            known = self._after.get(before)
            if known is None:
                continue
            count = known[1]
            if key in count:
                count[key] += 1.0
            elif len(count) < self._followers:
                count[key] = 1.0
            else:  # a newcomer has to outlast the rarest
                rarest = min(count, key=count.__getitem__)
                count[rarest] -= 1.0
                if count[rarest] <= 0:
                    del count[rarest]
        known = self._after.get(key)
        if known is None:
            known = self._after[key] = ([0.0], {})
            if len(self._after) > self._most:
                self._after.popitem(last=False)
        else:
            self._after.move_to_end(key)
        known[0][0] += 1.0
        if known[0][0] >= 64:
            known[0][0] /= 2
            for follower in known[1]:
                known[1][follower] /= 2
        self._window.append((key, at))

    def predict_one(self, key: Any, at: float) -> Iterator[Guess]:
        """The keys that followed this one most times."""
        known = self._after.get(key)
        if known is None or known[0][0] <= self._support:
            return
        times = known[0][0] - 1.0  # what follows the latest is not known yet
        for follower, count in known[1].items():
            share = count / times
            if share >= 0.25:
                yield Guess(follower, min(share, 1.0), self._within, f"follows {key!r}")

    def predict_due(self, now: float) -> Iterator[Guess]:
        """Nothing by the clock."""
        return iter(())


class Periodicity:
    """Keys that come back after a day, a week, or a period of their own.

    Args:
        lead: seconds before the time expected at which the guess is made.
        tolerance: the share of a period by which it may be off; at most 15 minutes, at least
            ``lead``.
        shortest: seconds below which two demands are one.
        max_keys: remembered; of more, those asked for longest ago go.
    """

    name = "periodicity"

    def __init__(
        self,
        *,
        lead: float = 60.0,
        tolerance: float = 0.05,
        shortest: float = 600.0,
        max_keys: int = 20_000,
    ) -> None:
        self._lead = lead
        self._tolerance = tolerance
        self._shortest = shortest
        self._most = max_keys
        self._times: OrderedDict[Any, deque[float]] = OrderedDict()
        self._expected: list[tuple[float, int, Any, float, float]] = []
        self._number = 0

    def learn_one(self, key: Any, at: float) -> None:
        """Note the time, and find out when the key comes next."""
        times = self._times.get(key)
        if times is None:
            self._times[key] = deque([at], maxlen=16)
            if len(self._times) > self._most:
                self._times.popitem(last=False)
            return
        self._times.move_to_end(key)
        if at - times[-1] < self._shortest:
            return
        times.append(at)
        found = self._next(times)
        if found is not None and len(self._expected) < 2 * self._most:
            when, probability, slack = found
            self._number += 1
            begin = when - slack - self._lead
            heapq.heappush(self._expected, (begin, self._number, key, probability, 2 * slack))

    def _next(self, times: deque[float]) -> tuple[float, float, float] | None:
        """When, how surely, and give or take how much."""
        last = times[-1]
        gaps = sorted(late - early for early, late in zip(times, list(times)[1:], strict=False))
        best: tuple[float, float, float] | None = None
        for period in {_DAY, 7 * _DAY, gaps[len(gaps) // 2]}:
            slack = max(self._lead, min(period * self._tolerance, 900.0))
            since = [time for time in times if time + period <= last + slack]
            kept = [
                min((late - time - period for late in times), key=abs)  # how far off it came
                for time in since
            ]
            hits = [off for off in kept if abs(off) <= slack]
            if len(hits) < 2:
                continue
            share = len(hits) / len(since)
            off = max(abs(one) for one in hits)
            if best is None or share > best[1]:
                # The next one may be that of an earlier demand: daily, but not at weekends.
                coming = [t + period for t in times if t + period > last + slack]
                if coming:
                    best = (min(coming), share, min(slack, off + 30.0))
        return best

    def predict_one(self, key: Any, at: float) -> Iterator[Guess]:
        """Nothing by what was asked for."""
        return iter(())

    def predict_due(self, now: float) -> Iterator[Guess]:
        """The keys whose time comes."""
        while self._expected and self._expected[0][0] <= now:
            begin, _, key, probability, slack = heapq.heappop(self._expected)
            within = slack + 2 * self._lead
            if begin + within > now:
                yield Guess(key, probability, begin + within - now, "comes back at this time")


class Popularity:
    """Keys asked for often enough below memory that somebody will soon, rising ones first.

    Demand is counted with two half-lives; the faster count above the slower one is a rising trend.

    Args:
        within: seconds that a guess looks ahead.
        half_life: of the slow count, in seconds; of the fast one it is a quarter.
        every: seconds between two looks at a key.
        max_keys: remembered; of more, those asked for longest ago go.
    """

    name = "popularity"

    def __init__(
        self,
        *,
        within: float = 600.0,
        half_life: float = 3_600.0,
        every: float = 60.0,
        max_keys: int = 20_000,
    ) -> None:
        self._within = within
        self._slow, self._fast = log(2) / half_life, 4 * log(2) / half_life
        self._every = every
        self._most = max_keys
        self._counts: OrderedDict[Any, tuple[float, float, float]] = OrderedDict()
        self._looks: deque[tuple[float, Any]] = deque()
        self._looked: set[Any] = set()

    def learn_one(self, key: Any, at: float) -> None:
        """Count it."""
        slow, fast, when = self._counts.pop(key, (0.0, 0.0, at))
        self._counts[key] = (
            slow * exp(-self._slow * (at - when)) + 1.0,
            fast * exp(-self._fast * (at - when)) + 1.0,
            at,
        )
        if len(self._counts) > self._most:
            self._counts.popitem(last=False)
        if key not in self._looked and slow >= 2.0:
            self._looked.add(key)
            self._looks.append((at + self._every, key))

    def predict_one(self, key: Any, at: float) -> Iterator[Guess]:
        """Nothing by what was asked for."""
        return iter(())

    def predict_due(self, now: float) -> Iterator[Guess]:
        """The keys that are asked for so often that one more time is likely."""
        while self._looks and self._looks[0][0] <= now:
            _, key = self._looks.popleft()
            counts = self._counts.get(key)
            if counts is None:
                self._looked.discard(key)
                continue
            slow, fast, when = counts
            passed = now - when
            slow *= self._slow * exp(-self._slow * passed)  # as a rate
            fast *= self._fast * exp(-self._fast * passed)
            likely = 1 - exp(-max(slow, fast) * self._within)
            if likely < 0.2:
                self._looked.discard(key)
                continue
            self._looks.append((now + self._every, key))
            why = "rising" if fast > slow else "popular"
            yield Guess(key, likely, self._within, why, 1.25 * self._every)
