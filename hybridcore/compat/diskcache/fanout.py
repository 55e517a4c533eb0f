"""`FanoutCache`: a `Cache`, since one data file takes all writers, and the caches beneath it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from hybridcore.compat.diskcache.cache import Cache
from hybridcore.compat.diskcache.core import KEPT
from hybridcore.compat.diskcache.deque import Deque
from hybridcore.compat.diskcache.index import Index

if TYPE_CHECKING:
    from hybridcore.codec import Codecs


class FanoutCache(Cache):
    """A `Cache` by another name; ``shards`` and ``timeout`` have no effect.

    diskcache spreads entries over files so that writers meet less often. Here a write takes
    microseconds, and what several threads write at the same time shares a commit.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        shards: int = 8,
        timeout: float = 0.010,
        disk: object = None,
        *,
        codecs: Codecs | None = None,
        pickle_key: bytes | None = None,
        **settings: Any,
    ) -> None:
        self._beneath: dict[tuple[str, str], Any] = {}
        super().__init__(directory, timeout, disk, codecs=codecs, pickle_key=pickle_key, **settings)

    def cache(self, name: str, timeout: float = 60, disk: object = None, **settings: Any) -> Cache:
        """The cache of that name, in a directory beneath this one."""
        options = {"codecs": self._own_codecs, "pickle_key": self._pickle_key} | settings
        cache = self._found("cache", name, Cache, timeout=timeout, disk=disk, **options)
        assert isinstance(cache, Cache)
        return cache

    def deque(self, name: str, maxlen: int | None = None) -> Deque:
        """The deque of that name, in a directory beneath this one."""
        deque = self._found("deque", name, self._deque, maxlen=maxlen)
        assert isinstance(deque, Deque)
        return deque

    def index(self, name: str) -> Index:
        """The index of that name, in a directory beneath this one."""
        index = self._found("index", name, lambda directory: Index.fromcache(self._own(directory)))
        assert isinstance(index, Index)
        return index

    def close(self) -> None:
        """Close the directory and those beneath it for all threads."""
        for opened in list(self._beneath.values()):
            (opened if isinstance(opened, Cache) else opened.cache).close()
        super().close()

    def _deque(self, directory: str, maxlen: int | None) -> Deque:
        return Deque.fromcache(self._own(directory), maxlen=maxlen)

    def _own(self, directory: str) -> Cache:
        return Cache(
            directory,
            codecs=self._own_codecs,
            pickle_key=self._pickle_key,
            **KEPT,
        )

    def _found(self, family: str, name: str, make: Any, **options: Any) -> Any:
        place = family, name
        with self._lock:
            if place not in self._beneath:
                parts = name.split("/")
                if not all(part and part not in (".", "..") for part in parts):
                    raise ValueError(f"a name such as 'users' is expected, got {name!r}")
                directory = os.path.join(self._directory, family, *parts)
                os.makedirs(os.path.dirname(directory), mode=0o700, exist_ok=True)
                self._beneath[place] = make(directory, **options)
            return self._beneath[place]
