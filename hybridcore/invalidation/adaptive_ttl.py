"""`AdaptiveTtl`: how long entries are fresh, learned from how often they are found changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any

from hybridcore.errors import ConfigurationError
from hybridcore.patterns import PatternTable
from hybridcore.units import Duration, seconds

if TYPE_CHECKING:
    from hybridcore.patterns import Pattern

_SHORTENED = 0.5
"""What a ttl is multiplied by when a load found a change."""

_LATELY = 20
"""Loads over which uses are averaged."""
_MOST_COUNTED = 10_000
"""Keys whose uses are remembered from one load to the next."""
_COUNTED_UP_TO = 255
"""Uses of an entry beyond which memory counts no further."""


class AdaptiveTtl:
    """A ttl that is lengthened when a load finds what it had, and shortened when it does not.

    A change halves it. What is unchanged lengthens it by as much as makes both balance when the
    ``tolerated`` share of loads finds a change: by 8 % each where that is a tenth.

    Args:
        shortest, longest: its bounds; it starts between them, at their geometric mean.
        tolerated: the share of loads that may find a change, above 0 and below 1.
        uses: for how many uses a load is worth while, 1 to 100. What is used more often between
            two loads is fresh no longer than that takes, what is used less often for longer, as
            far as changes allow. None: how often something is used teaches nothing.

    Raises:
        ConfigurationError: the bounds, the share or the uses make no sense.
    """

    __slots__ = ("_lengthened", "longest", "shortest", "tolerated", "uses")

    def __init__(
        self,
        shortest: Duration,
        longest: Duration,
        *,
        tolerated: float = 0.1,
        uses: int | None = None,
    ) -> None:
        self.shortest, self.longest = seconds(shortest), seconds(longest)
        if not 0 < self.shortest <= self.longest:
            raise ConfigurationError(
                "the bounds of a ttl are expected to be above 0, the shortest first, got "
                f"{shortest!r} and {longest!r}"
            )
        if not 0 < tolerated < 1:
            raise ConfigurationError(
                f"tolerated is expected to be a share above 0 and below 1, got {tolerated!r}"
            )
        if uses is not None and (isinstance(uses, bool) or not 1 <= uses <= 100):
            raise ConfigurationError(f"uses are expected to be from 1 to 100, got {uses!r}")
        self.tolerated = tolerated
        self.uses = uses
        self._lengthened = _SHORTENED ** (-tolerated / (1 - tolerated))

    @property
    def start(self) -> float:
        """Seconds that it begins with."""
        return float((self.shortest * self.longest) ** 0.5)

    def after(self, ttl: float, changed: bool, used: int | None = None) -> float:
        """The ttl after a load that found a change, or none, ``used`` so often since the last."""
        if changed:
            ttl *= _SHORTENED
        elif self.uses is None or used is None or used < self.uses:
            ttl *= self._lengthened
        elif used >= 2 * self.uses:
            ttl /= self._lengthened
        return min(max(ttl, self.shortest), self.longest)

    def __repr__(self) -> str:
        return f"AdaptiveTtl({self.shortest:g}, {self.longest:g}, tolerated={self.tolerated:g})"


@dataclass(frozen=True, slots=True)
class TtlExplained:
    """The ttl of a key and where it comes from.

    - ``ttl``: seconds, None for ever
    - ``pattern``: of the keys that it is learned from together; None: of all others
    - ``changed``, ``unchanged``: loads that found a change, and those that did not
    - ``uses``: how often entries were used between two loads, lately; None: nobody counts
    - ``why``: the same in words
    """

    ttl: float | None
    pattern: Pattern | None
    changed: int
    unchanged: int
    why: str
    uses: float | None = None


class _Learned:
    """What was learned of the keys of one pattern."""

    __slots__ = ("changed", "lock", "pattern", "policy", "ttl", "unchanged", "uses")

    def __init__(self, pattern: Pattern | None, policy: AdaptiveTtl) -> None:
        if not isinstance(policy, AdaptiveTtl):
            raise ConfigurationError(f"AdaptiveTtl(...) is expected, got {policy!r}")
        self.pattern = pattern
        self.policy = policy
        self.ttl = policy.start
        self.changed = self.unchanged = 0
        self.uses: float | None = None
        self.lock = RLock()


class LearnedTtls:
    """The ttls of a cache: one `AdaptiveTtl` for all keys, or some by key pattern."""

    def __init__(self, policies: AdaptiveTtl | Mapping[Pattern, AdaptiveTtl]) -> None:
        self._others: _Learned | None = None
        self._table: PatternTable[_Learned] = PatternTable()
        self._counts: dict[Any, int] = {}
        self._counting = RLock()
        if isinstance(policies, Mapping):
            for pattern, policy in policies.items():
                self._table.add(pattern, _Learned(pattern, policy))
        else:
            self._others = _Learned(None, policies)

    def after_load(
        self, key: Any, ttl: float | None, changed: bool | None, uses: int | None = None
    ) -> float | None:
        """The ttl for what was loaded, having learned from it; ``changed`` None: nobody knows.

        ``uses`` are those of the key that memory has counted so far.
        """
        learned = self._of(key)
        if learned is None:
            return ttl
        with learned.lock:
            used = None
            if uses is not None and learned.policy.uses is not None:
                used = self._used_since(key, uses)
            if changed is not None:
                if used is not None:
                    before = used if learned.uses is None else learned.uses
                    learned.uses = before + (used - before) / _LATELY
                learned.ttl = learned.policy.after(learned.ttl, changed, used)
                learned.changed += changed
                learned.unchanged += not changed
            return learned.ttl

    def explain(self, key: Any, ttl: float | None) -> TtlExplained:
        """The ttl of a key; ``ttl`` is that of its options."""
        learned = self._of(key)
        if learned is None:
            return TtlExplained(ttl, None, 0, 0, "the ttl of its options, no AdaptiveTtl covers it")
        with learned.lock:
            now, changed, unchanged = learned.ttl, learned.changed, learned.unchanged
            uses = learned.uses
        policy = learned.policy
        loads = changed + unchanged
        if not loads:
            why = "the start between the bounds, as no load has found an older copy yet"
        else:
            why = f"{changed} of {loads} loads found a change, {policy.tolerated:.0%} are tolerated"
            if uses is not None:
                why += f"; entries were used {uses:.0f} times a load, {policy.uses} are worth one"
            if now == policy.shortest:
                why += "; it is at its shortest"
            elif now == policy.longest:
                why += "; it is at its longest"
        return TtlExplained(now, learned.pattern, changed, unchanged, why, uses)

    def _used_since(self, key: Any, uses: int) -> int | None:
        """How often a key was used since it was loaded last, None if that is not known."""
        with self._counting:
            before = self._counts.pop(key, None)
            self._counts[key] = uses
            if len(self._counts) > _MOST_COUNTED:
                del self._counts[next(iter(self._counts))]
        if uses >= _COUNTED_UP_TO:
            return uses
        return None if before is None or uses < before else uses - before

    def _of(self, key: Any) -> _Learned | None:
        found = self._table.find(key)
        return self._others if found is None else found[0]


def differs(one: Any, other: Any) -> bool:
    """Whether two values differ; what cannot be compared does."""
    try:
        equal = one == other
        return not (equal if isinstance(equal, bool) else equal.all())
    except Exception:
        return True
