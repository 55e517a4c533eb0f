"""The sections a hybrid cache is configured with."""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from hybridcore.conflicts import Conflict, checked_conflict
from hybridcore.errors import ConfigurationError
from hybridcore.patterns import Pattern, PatternTable
from hybridcore.units import Duration, Size, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from hybridcore.eviction import Adaptive, Weights

Strategy = Literal["read_through", "write_through", "write_behind", "cache_aside"]
"""What a miss and a write do to the origin.

- ``read_through``: a miss asks the origin; writes stop at the tiers
- ``write_through``: a miss asks the origin; writes reach it first, then the tiers
- ``write_behind``: a miss asks the origin; writes reach the tiers at once, and the origin later
- ``cache_aside``: the origin is never asked by itself; the application loads and puts
"""


def check_strategy(strategy: str) -> None:
    """Raise `ConfigurationError` when there is no such strategy."""
    if strategy not in get_args(Strategy):
        raise ConfigurationError(
            f"strategy is expected to be one of {', '.join(get_args(Strategy))}, got {strategy!r}"
        )


UNSET: Any = object()

DEFAULTS: dict[str, Any] = {
    "ttl": None,
    "stale": 0.0,
    "refresh_ahead": None,
    "soft_timeout": None,
    "hard_timeout": None,
    "throttle": 1.0,
    "negative_ttl": None,
    "jitter": 0.0,
    "lease": 10.0,
    "strategy": None,
    "sliding": False,
    "max_ttl": None,
    "conflict": "last_writer_wins",
}
"""The options of entries that nobody gave any, in seconds."""


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory tier of a hybrid cache: ``Memory(10_000)`` entries or ``Memory("256MiB")``.

    What it evicts is chosen by ``weights``, ``adaptive`` and ``low_water``, as in `Cache`.
    """

    maxsize: Size | None
    getsizeof: Callable[[Any], int] | None = None
    weights: Weights | None = None
    adaptive: Adaptive | None = None
    low_water: float = 1.0


@dataclass(frozen=True, slots=True, init=False, repr=False)
class EntryOptions:
    """How long entries live and how they are loaded; of a cache, of a key pattern or of a call.

    Durations are seconds or words such as ``"5m"``. What is left out is inherited: a call goes
    before a key pattern, and that before the cache. None and 0 are values like any other.

    - ``ttl``: fresh for so long; None: until evicted or invalidated
    - ``stale``: kept so much longer, to be renewed with the origin or served while it fails
    - ``refresh_ahead``: the share of its ttl after which a hit has the entry loaded anew in the
      background; None: never
    - ``soft_timeout``: a load that takes longer goes on in the background, and the stale copy is
      served, if there is one; None: wait for it
    - ``hard_timeout``: a load that takes longer has failed; None: no bound
    - ``throttle``: after a failed load the stale copy is served for so long before the origin is
      asked again
    - ``negative_ttl``: for so long it is remembered that the origin has no such key; None: not at
      all
    - ``jitter``: the share of the ttl by which an entry may expire earlier, at random, so that
      those stored together do not expire together
    - ``lease``: processes that miss a key at the same time and share a directory wait at most so
      long for the one that loads it; None: each loads for itself
    - ``strategy``: what misses and writes do to the origin; None: what the cache does
    - ``sliding``: whether an entry is fresh for another ttl whenever it is used; how long it is
      fresh is exact to a sixteenth of its ttl
    - ``max_ttl``: what slides is fresh for so long at most; None: as long as it is used
    - ``conflict``: which value stays when two come without knowing each other, see
      `hybridcore.conflicts.Conflict`

    >>> EntryOptions(ttl="5m", stale="1h").merged(EntryOptions(ttl=30))
    EntryOptions(ttl=30.0, stale=3600.0)

    Raises:
        ConfigurationError: a value makes no sense, or two contradict each other.
    """

    ttl: float | None
    stale: float
    refresh_ahead: float | None
    soft_timeout: float | None
    hard_timeout: float | None
    throttle: float
    negative_ttl: float | None
    jitter: float
    lease: float | None
    strategy: Strategy | None
    sliding: bool
    max_ttl: float | None
    conflict: Conflict
    is_winding: bool = field(init=False)
    """Whether lookups are more than a copy that is fresh, or a load."""
    given: frozenset[str] = field(init=False)
    """The names of the options that were given; the others have the values of `DEFAULTS`."""

    def __init__(
        self,
        *,
        ttl: Duration | None = UNSET,
        stale: Duration = UNSET,
        refresh_ahead: float | None = UNSET,
        soft_timeout: Duration | None = UNSET,
        hard_timeout: Duration | None = UNSET,
        throttle: Duration = UNSET,
        negative_ttl: Duration | None = UNSET,
        jitter: float = UNSET,
        lease: Duration | None = UNSET,
        strategy: Strategy | None = UNSET,
        sliding: bool = UNSET,
        max_ttl: Duration | None = UNSET,
        conflict: Conflict = UNSET,
    ) -> None:
        options = {
            "ttl": ttl,
            "stale": stale,
            "refresh_ahead": refresh_ahead,
            "soft_timeout": soft_timeout,
            "hard_timeout": hard_timeout,
            "throttle": throttle,
            "negative_ttl": negative_ttl,
            "jitter": jitter,
            "lease": lease,
            "strategy": strategy,
            "sliding": sliding,
            "max_ttl": max_ttl,
            "conflict": conflict,
        }
        given = {
            name: _checked(name, value) for name, value in options.items() if value is not UNSET
        }
        self._fill(given)
        self._refuse(lambda pair: {pair.option, pair.other} <= self.given)

    def merged(self, over: EntryOptions) -> EntryOptions:
        """Return these options with what ``over`` gives in their place.

        What it takes the sense from is dropped: over a ``ttl="5m"`` with ``stale="1h"``, a
        ``ttl=None`` leaves no stale either.

        Raises:
            ConfigurationError: what ``over`` gives makes no sense with these options.
        """
        if not over.given:
            return self
        merged = EntryOptions.__new__(EntryOptions)
        values = {
            name: getattr(over if name in over.given else self, name)
            for name in self.given | over.given
        }
        merged._fill(values)
        for pair in _PAIRS:
            if pair.option not in over.given and pair.contradicts(merged):
                values.pop(pair.option, None)
                merged._fill(values)
        merged._refuse(lambda pair: pair.option in over.given)
        return merged

    def kept_past_ttl(self, stale: float) -> EntryOptions:
        """Return these options with another ``stale``, whatever the ttl."""
        options = copy(self)
        object.__setattr__(options, "stale", stale)
        return options

    def check(self) -> None:
        """Refuse what is given in vain when there is nothing to inherit from.

        Raises:
            ConfigurationError: such as ``stale`` without a ``ttl``.
        """
        self._refuse(lambda pair: True)

    def _fill(self, values: dict[str, Any]) -> None:
        for name, default in DEFAULTS.items():
            object.__setattr__(self, name, values.get(name, default))
        object.__setattr__(self, "given", frozenset(values))
        winding = (
            self.refresh_ahead is not None or self.sliding or self.conflict != DEFAULTS["conflict"]
        )
        object.__setattr__(self, "is_winding", winding)

    def _refuse(self, counts: Callable[[_Pair], bool]) -> None:
        for pair in _PAIRS:
            if counts(pair) and pair.contradicts(self):
                raise ConfigurationError(
                    f"{pair.option}={getattr(self, pair.option):g} {pair.explanation}"
                )

    def __repr__(self) -> str:
        parts = [f"{name}={getattr(self, name)!r}" for name in DEFAULTS if name in self.given]
        return f"EntryOptions({', '.join(parts)})"


class _Pair(NamedTuple):
    """An option that makes no sense with, or without, another one."""

    option: str
    other: str
    in_vain: Callable[[EntryOptions], bool]
    explanation: str

    def contradicts(self, options: EntryOptions) -> bool:
        given = getattr(options, self.option) != DEFAULTS[self.option]
        return given and self.in_vain(options)


def _never_expires(options: EntryOptions) -> bool:
    return options.ttl is None


_PAIRS = (
    _Pair(
        "stale",
        "ttl",
        _never_expires,
        "has no meaning without a ttl: entries that never expire are never stale. Give ttl=, or "
        "leave stale out.",
    ),
    _Pair(
        "refresh_ahead",
        "ttl",
        _never_expires,
        "is a share of the ttl, and there is none. Give ttl=, or leave refresh_ahead out.",
    ),
    _Pair(
        "jitter",
        "ttl",
        _never_expires,
        "is a share of the ttl, and there is none. Give ttl=, or leave jitter out.",
    ),
    _Pair(
        "sliding",
        "ttl",
        _never_expires,
        "has no meaning without a ttl: there is nothing to be put off. Give ttl=, or leave sliding "
        "out.",
    ),
    _Pair(
        "max_ttl",
        "sliding",
        lambda options: not options.sliding,
        "bounds what slides, and nothing does. Give sliding=True, or a ttl in its place.",
    ),
    _Pair(
        "refresh_ahead",
        "sliding",
        lambda options: options.sliding,
        "loads anew what is used, and sliding keeps it as it is. Leave one of them out.",
    ),
    _Pair(
        "soft_timeout",
        "stale",
        lambda options: not options.stale,
        "has no meaning without stale: when it is over the stale copy is served, and none is "
        "kept. Give stale=, or hard_timeout= in its place.",
    ),
    _Pair(
        "soft_timeout",
        "hard_timeout",
        lambda options: (options.soft_timeout or 0) >= (options.hard_timeout or math.inf),
        "is no shorter than hard_timeout: the load has failed by then. Make it shorter, or leave "
        "it out.",
    ),
)
"""In an order in which what one leaves out counts for the next."""


def _checked(name: str, value: Any) -> Any:
    """The option as a number, or None where that is allowed."""
    if value is None and (DEFAULTS[name] is None or name == "lease"):
        return None
    if name == "strategy":
        check_strategy(value)
        return value
    if name == "conflict":
        return checked_conflict(value)
    if name == "sliding":
        if not isinstance(value, bool):
            raise ConfigurationError(f"sliding is expected to be True or False, got {value!r}")
        return value
    if name in ("refresh_ahead", "jitter"):
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not 0 <= value < 1:
            raise ConfigurationError(
                f"{name} is expected to be a share of the ttl from 0 to below 1, got {value!r}"
            )
        if name == "refresh_ahead" and not value:
            raise ConfigurationError(
                "refresh_ahead=0 would load anew at every hit. Give a larger share of the ttl, or "
                "None for never."
            )
        return float(value)
    try:
        duration = seconds(value)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from None
    if name == "hard_timeout" and not duration:
        raise ConfigurationError(
            "hard_timeout=0 would let no load end. Give a duration, or None for no bound."
        )
    return duration


class Rules:
    """The options of entries: those of a cache, and by key pattern those that differ.

    >>> rules = Rules(
    ...     EntryOptions(ttl="5m"), {"repo:{owner}/{name}": EntryOptions(stale="1h")}
    ... )
    >>> rules.of("repo:python/cpython")
    EntryOptions(ttl=300.0, stale=3600.0)
    >>> rules.of("user:7", EntryOptions(ttl=10))
    EntryOptions(ttl=10.0)

    Raises:
        ConfigurationError: a pattern is malformed or there twice, options make no sense together.
    """

    __slots__ = ("_table", "defaults")

    def __init__(
        self, defaults: EntryOptions, by_pattern: Mapping[Pattern, EntryOptions] | None = None
    ) -> None:
        defaults.check()
        self.defaults = defaults
        self._table: PatternTable[EntryOptions] | None = None
        for pattern, options in (by_pattern or {}).items():
            if not isinstance(options, EntryOptions):
                raise ConfigurationError(
                    f"the rule for {pattern!r} is expected to be EntryOptions(...), got {options!r}"
                )
            if self._table is None:
                self._table = PatternTable()
            try:
                merged = defaults.merged(options)
            except ConfigurationError as error:
                raise ConfigurationError(f"the rule for {pattern!r}: {error}") from None
            self._table.add(pattern, merged)

    @property
    def has_patterns(self) -> bool:
        """Whether some keys have options of their own."""
        return self._table is not None

    def of(self, key: object, call: EntryOptions | None = None) -> EntryOptions:
        """The options of a key: those of the call before the pattern's, before the cache's.

        Raises:
            ConfigurationError: those of the call make no sense with the others.
        """
        options = self.defaults
        if self._table is not None:
            found = self._table.find(key)
            if found is not None:
                options = found[0]
        return options if call is None else options.merged(call)

    def __iter__(self) -> Iterator[tuple[Pattern, EntryOptions]]:
        """The patterns and what their keys have, the cache's own options included."""
        return iter(self._table or ())


def for_call(
    ttl: Duration | None = UNSET, options: EntryOptions | None = None
) -> EntryOptions | None:
    """The options that a call gives, None when it gives none."""
    if ttl is UNSET:
        return options
    given = EntryOptions(ttl=ttl)
    return given if options is None else options.merged(given)


DEFAULT = EntryOptions()
"""The options of entries that nobody gave any."""
