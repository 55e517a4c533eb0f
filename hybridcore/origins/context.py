"""What a loader is given: the key, what its pattern parsed, the copy held, and how to answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NoReturn

from hybridcore.errors import ConfigurationError, OriginError, OriginUnavailableError
from hybridcore.types import Answer, Held, Loaded, NotFound, NotModified, Validators
from hybridcore.units import Duration, seconds


class LoadContext:
    """One key to be loaded.

    What a loader assigns to ``ttl`` (seconds or words), ``tags``, ``depends_on``, ``cost`` and
    ``importance`` goes with the value it returns, unless it returns a `Loaded` that says otherwise.

    >>> ctx = LoadContext("repo:python/cpython", {"owner": "python", "name": "cpython"})
    >>> ctx.ttl, ctx.tags = "5m", ["python"]
    >>> ctx.answer({"stars": 60_000})
    Loaded(value={'stars': 60000}, ttl=300.0, ..., tags=('python',), ...)
    """

    __slots__ = ("_held", "args", "cost", "depends_on", "importance", "key", "tags", "ttl")

    def __init__(
        self, key: Any, args: Mapping[str, Any] | None = None, held: Validators | None = None
    ) -> None:
        self.key = key
        self.args: Mapping[str, Any] = {} if args is None else args
        """What the pattern parsed from the key, by the names of its fields."""
        self.ttl: Duration | None = None
        self.tags: Iterable[str] = ()
        self.depends_on: Iterable[Any] = ()
        self.cost: float | None = None
        self.importance: float | None = None
        self._held = held

    @property
    def has_stale(self) -> bool:
        """Whether ``stale_value`` is a value: of None it tells whether that is one."""
        return isinstance(self._held, Held)

    @property
    def stale_value(self) -> Any:
        """The copy that is past its ttl; None if there is none."""
        return self._held.value if isinstance(self._held, Held) else None

    @property
    def etag(self) -> str | None:
        """The entity tag that came with the copy held."""
        return None if self._held is None else self._held.etag

    @property
    def last_modified(self) -> str | None:
        """The date that came with the copy held."""
        return None if self._held is None else self._held.last_modified

    def modified(
        self, value: Any, *, etag: str | None = None, last_modified: str | None = None
    ) -> Loaded[Any]:
        """The answer: here is the value, and how to check it later."""
        known = etag is not None or last_modified is not None
        return Loaded(value, validators=Validators(etag, last_modified) if known else None)

    def not_modified(self) -> NotModified:
        """The answer: the copy held is still right.

        Raises:
            OriginError: none is held.
        """
        if self._held is None:
            raise OriginError(
                f"the loader of {self.key!r} says 'not modified', but no copy is held; ask "
                "ctx.has_stale or ctx.etag first"
            )
        return NotModified()

    def missing(self, *, ttl: Duration | None = None) -> NotFound:
        """The answer: there is no such key, and that is to be remembered for ``ttl``."""
        return NotFound(None if ttl is None else seconds(ttl))

    def fail(self, reason: str, *, retry_after: Duration | None = None) -> NoReturn:
        """Give up: a stale copy is served, or the caller gets the error.

        Raises:
            OriginError: always; OriginUnavailableError if ``retry_after`` says when to come back.
        """
        if retry_after is None:
            raise OriginError(reason)
        raise OriginUnavailableError(reason, retry_after=seconds(retry_after))

    def answer(self, result: Any) -> Answer[Any]:
        """Return what a loader returned as an answer, with what was assigned here.

        Raises:
            ConfigurationError: what was assigned makes no sense.
        """
        if isinstance(result, NotFound):
            return result
        ttl = None if self.ttl is None else seconds(self.ttl)
        if isinstance(result, NotModified):
            return replace(result, ttl=ttl) if result.ttl is None else result
        loaded: Loaded[Any] = result if isinstance(result, Loaded) else Loaded(result)
        cost = self.cost if loaded.cost is None else loaded.cost
        importance = self.importance if loaded.importance is None else loaded.importance
        return replace(
            loaded,
            ttl=ttl if loaded.ttl is None else loaded.ttl,
            cost=None if cost is None else _measure("cost", cost),
            importance=None if importance is None else _measure("importance", importance),
            tags=loaded.tags or _several("tags", self.tags),
            depends_on=loaded.depends_on or _several("depends_on", self.depends_on),
        )

    def __repr__(self) -> str:
        return f"LoadContext({self.key!r}, {dict(self.args)!r})"


def _measure(name: str, number: float) -> float:
    if isinstance(number, (int, float)) and 0 <= number < math.inf and number is not True:
        return number
    raise ConfigurationError(f"ctx.{name} is expected to be a number of at least 0, got {number!r}")


def _several(name: str, items: Iterable[Any]) -> tuple[Any, ...]:
    if isinstance(items, tuple):
        return items
    if isinstance(items, (str, bytes)) or not isinstance(items, Iterable):
        raise ConfigurationError(
            f"ctx.{name} is expected to be a list, got {items!r}; a single one is [{items!r}]"
        )
    return tuple(items)
