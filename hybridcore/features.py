"""Feature flags: what a cache can do is switched off at run time, globally or for a single call.

A feature is off if anything says so: the environment variable ``HYBRIDCORE_DISABLE``, `disable`,
the cache's own ``features``, or a `disabled` block around the call.
"""

from __future__ import annotations

import functools
import inspect
import os
from contextlib import suppress
from contextvars import ContextVar
from difflib import get_close_matches
from threading import RLock
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args
from weakref import WeakSet

from hybridcore.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from typing_extensions import Self

F = TypeVar("F", bound="Callable[..., Any]")

Feature = Literal[
    "memory",
    "disk",
    "origin",
    "single_flight",
    "stale",
    "refresh_ahead",
    "negative",
    "breaker",
    "bulkhead",
    "retry",
    "compression",
    "admission",
    "warming",
    "events",
    "statistics",
]
"""What can be switched off.

- ``memory``, ``disk``, ``origin``: the tier is passed over, as if there were none
- ``single_flight``: everybody who misses loads
- ``stale``: what is past its ttl is not served
- ``refresh_ahead``: nothing is loaded before it expires
- ``negative``: it is not remembered that the origin has no such key
- ``breaker``, ``bulkhead``, ``retry``: calls of the origin go straight through
- ``compression``, ``admission``: what is written to disk is written as it is, and all of it
- ``warming``: nothing is loaded that nobody asked for
- ``events``, ``statistics``: nobody is told, nothing is counted
"""

FEATURES: frozenset[Feature] = frozenset(get_args(Feature))

_DISABLE = "HYBRIDCORE_DISABLE"


def checked(names: Iterable[str], where: str = "") -> frozenset[Feature]:
    """The features of these names.

    Raises:
        ConfigurationError: there is no such feature; says which is the nearest.
    """
    wanted = frozenset(names)
    for name in sorted(wanted - FEATURES, key=str):
        near = get_close_matches(str(name), FEATURES, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(get_args(Feature))}"
        raise ConfigurationError(f"{where}there is no feature {name!r}; {hint}")
    return FEATURES & wanted


class Flags:
    """The features of one cache: ``store.features``.

    ``flags.restricted`` is the only thing to look at as long as nothing is off anywhere::

        if flags.restricted and not flags.is_enabled("stale"):
            ...

    Args:
        features: those that the cache has off, ``{"warming": False}``.
        changed: called when something was switched anywhere, in the thread that did it.
    """

    __slots__ = ("__weakref__", "_changed", "_off", "restricted")

    def __init__(
        self,
        features: Mapping[Feature, bool] | None = None,
        changed: Callable[[], object] | None = None,
    ) -> None:
        features = {} if features is None else features
        checked(features, "features: ")
        for name, on in features.items():
            if not isinstance(on, bool):
                raise ConfigurationError(
                    f"features: {name} is expected to be True or False, got {on!r}"
                )
        self._off: frozenset[Feature] = frozenset(name for name, on in features.items() if not on)
        self._changed = changed
        _guard_forks()
        with _lock:
            self.restricted = bool(self._off or _everywhere or _blocks)
            """Whether any feature may be off; False: all are on, for everybody."""
            _caches.add(self)

    def is_enabled(self, name: Feature) -> bool:
        """Whether the feature is on here and now."""
        return name not in self._off and is_enabled(name)

    def may_be_off(self, name: Feature) -> bool:
        """Whether the feature is off for some caller of this cache."""
        return (
            name in self._off
            or name in _everywhere
            or any(name in block.names for block in _blocks)
        )

    def disable(self, *names: Feature) -> None:
        """Switch features of this cache off."""
        self._set(self._off | checked(names))

    def enable(self, *names: Feature) -> None:
        """Switch features of this cache on; those that are off globally stay off."""
        self._set(self._off - checked(names))

    def off(self) -> frozenset[Feature]:
        """The features that are off here and now."""
        return frozenset(name for name in FEATURES if not self.is_enabled(name))

    def _set(self, off: frozenset[Feature]) -> None:
        with _lock:
            self._off = off
            self._switched()

    def _switched(self) -> None:
        self.restricted = bool(self._off or _everywhere or _blocks)
        if self._changed is not None:
            self._changed()

    def __repr__(self) -> str:
        return f"<features, off: {', '.join(sorted(self.off())) or 'none'}>"


def disable(*names: Feature) -> None:
    """Switch features off for every cache of this process, those to come included.

    Raises:
        ConfigurationError: there is no such feature; nothing was changed.
    """
    _switch(_everywhere | checked(names))


def enable(*names: Feature) -> None:
    """Switch features on that `disable` or ``HYBRIDCORE_DISABLE`` has switched off.

    Raises:
        ConfigurationError: there is no such feature; nothing was changed.
    """
    _switch(_everywhere - checked(names))


def is_enabled(name: Feature) -> bool:
    """Whether the feature is on, globally and in the `disabled` blocks around this call.

    >>> with disabled("warming"):
    ...     is_enabled("warming")
    False

    Raises:
        ConfigurationError: there is no such feature.
    """
    if name not in FEATURES:
        checked((name,))
    if name in _everywhere:
        return False
    return not any(name in block.names and block in _blocks for block in _around.get())


class disabled:
    """Features are off in this block, or while this function runs; nobody else is affected.

    What the block starts, such as a task, has them off until the block ends. Blocks can be nested.

    >>> @disabled("stale")
    ... def current_value() -> bool:
    ...     return is_enabled("stale")
    >>> current_value(), is_enabled("stale")
    (False, True)

    Raises:
        ConfigurationError: there is no such feature.
    """

    def __init__(self, *names: Feature) -> None:
        self.names = checked(names)

    def __enter__(self) -> Self:
        _guard_forks()
        with _lock:
            if self in _blocks:
                raise RuntimeError("this block was entered already; make another disabled(...)")
            _blocks.add(self)
            _tell_all()
        self._token = _around.set((*_around.get(), self))
        return self

    def __exit__(self, *error: object) -> None:
        with _lock:
            _blocks.discard(self)
            _tell_all()
        with suppress(ValueError):  # an abandoned task is ended by the collector, anywhere
            _around.reset(self._token)

    def __call__(self, function: F) -> F:
        """Decorate a function, sync or async."""
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigurationError(
                f"disabled(...) cannot decorate the generator {function.__qualname__}, which runs "
                'in pieces: put "with disabled(...)" into it'
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                with disabled(*self.names):
                    return await function(*args, **kwargs)

            return awaited  # type: ignore[return-value]

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with disabled(*self.names):
                return function(*args, **kwargs)

        return called  # type: ignore[return-value]


_lock = RLock()
_everywhere = checked(
    (name for part in os.environ.get(_DISABLE, "").split(",") if (name := part.strip())),
    f"the environment variable {_DISABLE}: ",
)
_blocks: set[disabled] = set()
"""The blocks that run, in any thread or task."""
_around: ContextVar[tuple[disabled, ...]] = ContextVar("hybridcore_disabled", default=())
"""The blocks that this code was started in; some may have ended."""
_caches: WeakSet[Flags] = WeakSet()


def _switch(everywhere: frozenset[Feature]) -> None:
    global _everywhere
    with _lock:
        _everywhere = everywhere
        _tell_all()


def _tell_all() -> None:
    for flags in list(_caches):
        flags._switched()


@functools.cache
def _guard_forks() -> None:
    """Let nobody fork while the lock is held by another thread: the child would wait for ever."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
        )
