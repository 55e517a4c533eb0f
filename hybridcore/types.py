"""The words that every floor shares: tiers, causes, and what an origin answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

V = TypeVar("V")


class Tier(str, Enum):
    """Where an answer came from."""

    MEMORY = "memory"
    DISK = "disk"
    ORIGIN = "origin"


class EvictionCause(str, Enum):
    """Why an entry left the memory tier."""

    SIZE = "size"
    EXPIRED = "expired"
    EXPLICIT = "explicit"
    REPLACED = "replaced"


class CacheInfo(NamedTuple):
    """What `functools.lru_cache` tells of a decorated function."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int


Tag = str | tuple[str, ...] | None
"""One tag, several, or none."""


def as_tags(tag: Tag) -> tuple[str, ...]:
    """The tags as a tuple."""
    if tag is None:
        return ()
    return (tag,) if isinstance(tag, str) else tag


@dataclass(frozen=True, slots=True)
class Validators:
    """What an origin sent along so that a copy can be checked cheaply (RFC 9110, 8.8)."""

    etag: str | None = None
    last_modified: str | None = None
    must_revalidate: bool = field(default=False, kw_only=True)
    """Whether the copy may be used past its ttl only when the origin says that it is right."""


@dataclass(frozen=True, slots=True)
class Held(Validators):
    """The validators of a copy that is held, and the copy itself: what a load may start from."""

    value: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[V]):
    """An origin's answer: here is the value.

    ``ttl`` (seconds), ``cost`` and ``importance`` override the cache's own when the origin knows
    better. ``tags`` name groups to be invalidated together, ``depends_on`` the keys of which this
    value is made. ``stale`` are the seconds for which it may be kept past its ttl, in the place of
    the cache's own; with ``store=False`` it is given to who asks and kept in no tier. ``version``
    is what conflicts are settled by; None: when the load began.
    """

    value: V
    ttl: float | None = None
    validators: Validators | None = None
    cost: float | None = None
    importance: float | None = None
    tags: tuple[str, ...] = ()
    depends_on: tuple[Any, ...] = ()
    stale: float | None = None
    store: bool = True
    version: int | None = None


def is_plain(answer: object) -> bool:
    """Whether an origin answered with a value and said nothing else of it."""
    return (
        type(answer) is Loaded
        and answer.store
        and answer.ttl is None
        and answer.stale is None
        and answer.validators is None
        and answer.cost is None
        and answer.importance is None
        and not answer.tags
        and not answer.depends_on
        and answer.version is None
    )


@dataclass(frozen=True, slots=True)
class NotModified:
    """An origin's answer: the copy you hold is still right; keep it for another ``ttl``.

    ``validators`` take the place of those held, ``stale`` and ``store`` are those of `Loaded`.
    """

    ttl: float | None = None
    validators: Validators | None = None
    stale: float | None = None
    store: bool = True


@dataclass(frozen=True, slots=True)
class NotFound:
    """An origin's answer: there is no such key; remember that for ``ttl`` seconds.

    Without ``ttl`` it is remembered as long as the cache does by itself.
    """

    ttl: float | None = None


Answer = Loaded[V] | NotModified | NotFound

Written = Validators | Loaded[V] | NotFound | None
"""What an origin says of a write: the validators of what was written, or what is there instead."""


@dataclass(slots=True)
class Refreshed:
    """What became of the keys of a refresh, each in one place; ``seconds`` the origin took.

    ``promoted`` were fresh on disk and are in memory now, ``elsewhere`` somebody else was loading,
    ``missing`` are those that the origin does not have. ``skipped`` are keys that are not loaded
    by themselves: without an origin, known to be missing, or with a write on its way.
    """

    loaded: list[Any] = field(default_factory=list)
    not_modified: list[Any] = field(default_factory=list)
    promoted: list[Any] = field(default_factory=list)
    fresh: list[Any] = field(default_factory=list)
    elsewhere: list[Any] = field(default_factory=list)
    missing: list[Any] = field(default_factory=list)
    skipped: list[Any] = field(default_factory=list)
    failed: dict[Any, Exception] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Entry(Generic[V]):
    """What a tier holds of a key.

    - ``age``, ``ttl_left``: seconds, None where it never expires; ``ttl_left`` is negative since
      it is ``stale``; memory alone knows an ``age`` only of what has validators or a refresh_ahead
    - ``cost``: as given or measured, where a disk holds it
    - ``uses``: how often memory has been used for it, as far as its policy counts, the insertion
      included; 0 where memory does not have it
    - ``version``: for ``put(if_version=)``
    """

    value: V
    tier: Tier
    age: float | None
    ttl_left: float | None
    stale: bool
    etag: str | None
    tags: tuple[str, ...]
    cost: float
    uses: int
    version: int


class Listener(Protocol):
    """Hears what happens below the memory tier; a memory hit is never reported.

    Called in the thread that did the work. What it raises is logged and does not reach the
    caller of the cache.
    """

    def looked_up(self, key: Any, tier: Tier | None, duration: float) -> None:
        """A lookup that missed memory ended: ``tier`` answered (None: nobody) in seconds."""
