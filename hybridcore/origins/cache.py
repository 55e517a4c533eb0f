"""The origin that is another hybrid cache: a regional tier, or one with other options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from hybridcore.errors import PartialLoadError
from hybridcore.origins.base import Origin, held_by_key
from hybridcore.types import Loaded, NotFound, NotModified, Validators

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hybridcore.hybrid import HybridCache
    from hybridcore.stats import OriginUsage
    from hybridcore.types import Answer, Entry

K = TypeVar("K")
V = TypeVar("V")

_MISSING: Any = object()


class CacheOrigin(Origin[K, V]):
    """Asks a hybrid cache, which asks its own tiers and origin; closing it closes the cache.

    What it holds comes with the ttl that is left there, so no copy outlives it; what it serves
    stale comes with none. Writes go where its strategy says. ``HybridCache(origin=cache)`` makes
    one by itself.
    """

    takes_entries = True

    def __init__(self, cache: HybridCache[K, V], *, name: str = "cache") -> None:
        self.cache = cache
        self.name = name

    def load(self, key: K, held: Validators | None = None) -> Answer[V]:
        value = self.cache.lookup(key, _MISSING)
        return _answer(value, None if value is _MISSING else self.cache.entry(key), held)

    async def aload(self, key: K, held: Validators | None = None) -> Answer[V]:
        value = await self.cache.aio.lookup(key, _MISSING)
        return _answer(value, None if value is _MISSING else self.cache.entry(key), held)

    def load_many(self, keys: Iterable[K]) -> dict[K, Answer[V] | Exception]:
        wanted = held_by_key(keys)
        try:
            found, errors = self.cache.get_many(wanted), {}
        except PartialLoadError as partial:
            found, errors = partial.found, partial.errors
        return self._answers(wanted, found, errors)

    async def aload_many(self, keys: Iterable[K]) -> dict[K, Answer[V] | Exception]:
        wanted = held_by_key(keys)
        try:
            found, errors = await self.cache.aio.get_many(wanted), {}
        except PartialLoadError as partial:
            found, errors = partial.found, partial.errors
        return self._answers(wanted, found, errors)

    def store(self, key: K, value: V) -> None:
        entry = value if isinstance(value, Loaded) else Loaded(value)
        self.cache.put(key, entry.value, **_options(entry))

    async def astore(self, key: K, value: V) -> None:
        entry = value if isinstance(value, Loaded) else Loaded(value)
        await self.cache.aio.put(key, entry.value, **_options(entry))

    def delete(self, key: K) -> None:
        self.cache.delete(key)

    async def adelete(self, key: K) -> None:
        await self.cache.aio.delete(key)

    @property
    def writable(self) -> bool:
        return True

    def usage(self) -> OriginUsage | None:
        return self.cache.stats().usage

    def close(self) -> None:
        self.cache.close()

    async def aclose(self) -> None:
        await self.cache.aio.aclose()

    def __repr__(self) -> str:
        return f"CacheOrigin({self.cache!r})"

    def _answers(
        self, wanted: Any, found: dict[K, V], errors: dict[K, Exception]
    ) -> dict[K, Answer[V] | Exception]:
        answers: dict[K, Answer[V] | Exception] = dict(errors)
        for key, held in wanted.items():
            if key in found:
                answers[key] = _answer(found[key], self.cache.entry(key), held)
            elif key not in answers:
                answers[key] = NotFound()
        return answers


def _answer(value: Any, entry: Entry[Any] | None, held: Validators | None) -> Answer[Any]:
    if value is _MISSING:
        return NotFound()
    if entry is None:  # evicted since, or too large to be kept
        return Loaded(value)
    ttl = 0.0 if entry.stale else entry.ttl_left
    mark = None if entry.etag is None else Validators(entry.etag)
    if mark is not None and held is not None and held.etag == entry.etag and not entry.stale:
        return NotModified(ttl)
    return Loaded(value, ttl, mark, tags=entry.tags)


def _options(entry: Loaded[Any]) -> dict[str, Any]:
    """What is known of an entry, as ``put`` takes it."""
    known = {"ttl": entry.ttl, "cost": entry.cost, "importance": entry.importance}
    return {name: option for name, option in known.items() if option is not None}
