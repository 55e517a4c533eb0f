"""Events from outside, and the functions that tell what they invalidate."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from threading import RLock
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from hybridcore.errors import ConfigurationError, HybridCoreError

if TYPE_CHECKING:
    from hybridcore.disk.environment import Environment

_MOST_REMEMBERED = 1000
"""Events whose id is remembered."""

F = TypeVar("F", bound="Callable[[Any], Any]")


class EventError(HybridCoreError):
    """Functions that an event was given to raised; ``errors`` are what they raised.

    The others have run. The event may be published again with the same id.
    """

    def __init__(self, name: str, errors: list[Exception]) -> None:
        super().__init__(f"{len(errors)} handlers of the event {name!r} failed: {errors[0]!r}")
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Invalidate:
    """What an event invalidates.

    - ``keys``: these
    - ``tags``: what carries one of these
    - ``prefix``: str keys that begin so, or keys that are tuples with these first elements
    - ``matching``: str keys that match a glob such as ``"repo:*:readme"``, or keys for which a
      function is true
    - ``hard``: False: copies may be served while they are loaded anew

    Keys and tags are found wherever they are. A glob, a function or a str ``prefix`` is held
    against every key on disk and in the memory of this process: O(entries), and what only another
    process holds is not found. Where that matters, give entries a tag.
    """

    keys: tuple[Any, ...] = ()
    tags: tuple[str, ...] = ()
    prefix: str | tuple[Any, ...] | None = None
    matching: str | Callable[[Any], object] | None = None
    hard: bool = True


class Invalidator(Protocol):
    """What events act on: a hybrid cache."""

    def invalidate(
        self, *keys: Any, tags: Iterable[str] = (), hard: bool = True, cause: str = ...
    ) -> None:
        """Invalidate keys and tags."""

    def clear_from(self, prefix: tuple[Any, ...]) -> None:
        """Delete the keys that begin so."""

    def all_keys(self) -> Iterable[Any]:
        """The keys of the tiers."""


class Handlers:
    """The functions of one cache by event name.

    Events are handled one after the other, in the order in which they are published: what is
    published later cannot be overtaken by what came before. An event with an id is handled once by
    all processes that share a directory, or again if a handler failed: at least once in all.
    """

    def __init__(self, cache: Invalidator, environment: Environment | None) -> None:
        self._cache = cache
        self._lock = RLock()
        self._handlers: list[tuple[str, Callable[[Any], object] | None, Callable[[Any], Any]]] = []
        self._seen: Seen = Seen(environment)

    def on(self, pattern: str, when: Callable[[Any], object] | None) -> Callable[[F], F]:
        """The decorator that registers a function."""
        if not isinstance(pattern, str) or not pattern:
            raise ConfigurationError(f"an event's name is expected to be a str, got {pattern!r}")

        def register(function: F) -> F:
            if not callable(function):
                raise ConfigurationError(f"a function is expected, got {function!r}")
            with self._lock:
                self._handlers.append((pattern, when, function))
            return function

        return register

    def publish(self, name: str, payload: Any, id: str | None) -> bool:
        """Handle an event; False if one with this id was handled before.

        Raises:
            EventError: functions failed.
        """
        with self._lock:
            if id is not None and self._seen.has(id):
                return False
            errors = []
            for pattern, when, function in list(self._handlers):
                if not fnmatchcase(name, pattern):
                    continue
                try:
                    if when is None or when(payload):
                        self._invalidate(function(payload), name)
                except Exception as error:
                    errors.append(error)
            if errors:
                raise EventError(name, errors) from errors[0]
            if id is not None:
                self._seen.note(id)
            return True

    def _invalidate(self, what: Any, cause: str) -> None:
        if what is None:
            return
        if not isinstance(what, Invalidate):
            if isinstance(what, (str, bytes)) or not isinstance(what, Iterable):
                raise ConfigurationError(
                    "a function of events is expected to return keys, Invalidate(...) or None, "
                    f"got {what!r}"
                )
            what = Invalidate(tuple(what))
        keys = what.keys
        matches = _matcher(what)
        if matches is not None:
            keys = (*keys, *(key for key in self._cache.all_keys() if matches(key)))
        if keys or what.tags:
            self._cache.invalidate(*keys, tags=what.tags, hard=what.hard, cause=cause)
        if isinstance(what.prefix, tuple):
            self._cache.clear_from(what.prefix)


def _matcher(what: Invalidate) -> Callable[[Any], object] | None:
    """Whether a key is meant by a glob, a function or a str prefix; None: there is none."""
    matching, prefix = what.matching, what.prefix
    if isinstance(matching, str):
        return lambda key: isinstance(key, str) and fnmatchcase(key, matching)
    if matching is not None:
        return matching
    if isinstance(prefix, str):
        return lambda key: isinstance(key, str) and key.startswith(prefix)
    return None


class Seen:
    """Ids of events that were handled, the newest ones; kept in the directory if there is one."""

    _ROW = b"events"

    def __init__(self, environment: Environment | None) -> None:
        self._environment = environment
        self._ids: OrderedDict[str, None] = OrderedDict()

    def has(self, id: str) -> bool:
        """Whether it was noted."""
        if id in self._ids or self._environment is None:
            return id in self._ids
        with self._environment.reading() as txn:
            return id in self._kept(txn)

    def note(self, id: str) -> None:
        """Remember it, also after a restart."""
        from msgspec.msgpack import encode

        self._ids[id] = None
        if len(self._ids) > _MOST_REMEMBERED:
            self._ids.popitem(last=False)
        environment = self._environment
        if environment is None:
            return

        def work(txn: Any) -> None:
            kept = [*self._kept(txn), id][-_MOST_REMEMBERED:]
            txn.put(self._ROW, encode(kept), db=environment.meta)

        environment.write(work)

    def _kept(self, txn: Any) -> list[str]:
        from msgspec.msgpack import decode

        assert self._environment is not None
        row = txn.get(self._ROW, db=self._environment.meta)
        return [] if row is None else decode(bytes(row), type=list[str])
