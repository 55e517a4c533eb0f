"""Namespaces: a view of a hybrid cache whose keys meet those of no other namespace."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from hybridcore.errors import PartialLoadError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from hybridcore.hybrid import HybridCache
    from hybridcore.units import Duration

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

Path = tuple[Any, ...]


class Namespace(Generic[K, V]):
    """``store.namespace("tenant")``: the methods of `HybridCache`, for keys of its own.

    A key ``k`` of the namespace is ``("tenant", k)`` in the tiers, for key patterns, and for the
    store's own origin; a ``loader`` gets ``k``. A namespace in a namespace adds a second element.
    The store owns the tiers: only it is closed.

    >>> import hybridcore as hc
    >>> with hc.HybridCache() as store:
    ...     ann, bob = store.namespace("ann"), store.namespace("bob")
    ...     ann.put("theme", "dark")
    ...     ann.get("theme"), bob.get("theme"), store.get(("ann", "theme"))
    ('dark', None, 'dark')
    """

    def __init__(self, store: HybridCache[Any, V], path: Path) -> None:
        self._store = store
        self.path = path
        self.aio: AsyncNamespace[K, V] = AsyncNamespace(store, path)

    def namespace(self, name: Any) -> Namespace[Any, V]:
        """A namespace within this one."""
        return Namespace(self._store, (*self.path, name))

    @overload
    def get(self, key: K, default: None = None) -> V | None: ...
    @overload
    def get(self, key: K, default: V) -> V: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...
    def get(self, key: K, default: Any = None) -> Any:
        """`HybridCache.get`."""
        return self._store.get((*self.path, key), default)

    def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """`HybridCache.get_many`."""
        with _own_keys():
            return _inside(self._store.get_many([(*self.path, key) for key in keys]))

    def get_or_load(
        self, key: K, loader: Callable[[K], V | Awaitable[V]], *, ttl: Duration | None = None
    ) -> V:
        """`HybridCache.get_or_load`."""
        return self._store.get_or_load((*self.path, key), _of_inside(loader), ttl=ttl)

    def put(self, key: K, value: V, *, ttl: Duration | None = None) -> None:
        """`HybridCache.put`."""
        self._store.put((*self.path, key), value, ttl=ttl)

    def delete(self, key: K) -> bool:
        """`HybridCache.delete`."""
        return self._store.delete((*self.path, key))

    def contains(self, key: K) -> bool:
        """`HybridCache.contains`."""
        return self._store.contains((*self.path, key))

    def clear(self) -> None:
        """Empty the tiers of this namespace and of those in it. O(entries in memory)."""
        self._store.clear_from(self.path)

    __iter__ = None  # or iter() would ask for the keys 0, 1, 2...

    def __contains__(self, key: object) -> bool:
        return self._store.contains((*self.path, key))

    def __getitem__(self, key: K) -> V:
        return self._store[(*self.path, key)]

    def __setitem__(self, key: K, value: V) -> None:
        self.put(key, value)

    def __delitem__(self, key: K) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def __repr__(self) -> str:
        return f"<namespace {'/'.join(map(str, self.path))} of {self._store!r}>"


class AsyncNamespace(Generic[K, V]):
    """``namespace.aio``: the methods of `Namespace` to be awaited."""

    def __init__(self, store: HybridCache[Any, V], path: Path) -> None:
        self._aio = store.aio
        self.path = path

    async def get(self, key: K, default: Any = None) -> Any:
        """Twin of `Namespace.get`."""
        return await self._aio.get((*self.path, key), default)

    async def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """Twin of `Namespace.get_many`."""
        with _own_keys():
            return _inside(await self._aio.get_many([(*self.path, key) for key in keys]))

    async def get_or_load(
        self, key: K, loader: Callable[[K], V | Awaitable[V]], *, ttl: Duration | None = None
    ) -> V:
        """Twin of `Namespace.get_or_load`."""
        return await self._aio.get_or_load((*self.path, key), _of_inside(loader), ttl=ttl)

    async def put(self, key: K, value: V, *, ttl: Duration | None = None) -> None:
        """Twin of `Namespace.put`."""
        await self._aio.put((*self.path, key), value, ttl=ttl)

    async def delete(self, key: K) -> bool:
        """Twin of `Namespace.delete`."""
        return await self._aio.delete((*self.path, key))

    async def contains(self, key: K) -> bool:
        """Twin of `Namespace.contains`."""
        return await self._aio.contains((*self.path, key))

    async def clear(self) -> None:
        """Twin of `Namespace.clear`."""
        await self._aio.clear_from(self.path)


def _of_inside(loader: Callable[[Any], Any]) -> Callable[[Path], Any]:
    """The loader, for the key that the namespace calls it by."""
    return lambda key: loader(key[-1])


def _inside(found: dict[Any, V]) -> dict[Any, V]:
    return {key[-1]: value for key, value in found.items()}


@contextmanager
def _own_keys() -> Iterator[None]:
    """Within it, a `PartialLoadError` has the keys that the namespace calls them by."""
    try:
        yield
    except PartialLoadError as error:
        raise PartialLoadError(_inside(error.found), _inside(error.errors)) from None
