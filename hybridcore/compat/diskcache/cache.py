"""`Cache`: the methods of diskcache's Cache, over one disk tier."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any

from hybridcore.compat.diskcache import queues, walk
from hybridcore.compat.diskcache.core import (
    ENOVAL,
    full_name,
    key_of_call,
    stored_tag,
)
from hybridcore.compat.diskcache.entries import Entries, beside, ttl_of
from hybridcore.disk.keys import decode_key

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterator

    from hybridcore._native.reader import Record
    from hybridcore.codec import Codecs


class Cache(Entries):
    """A cache on disk with diskcache's methods; ``retry`` and ``timeout`` have no effect.

    Args:
        directory: made if missing; None: a new temporary one.
        codecs: how values become bytes; by default ``hybridcore.Codecs()``, plain data.
        pickle_key: opts in to pickle for other values, as in `hybridcore.Codecs`.
        settings: of diskcache; ``size_limit``, ``eviction_policy`` and ``statistics`` count.

    Raises:
        ConfigurationError: a setting or ``disk`` makes no sense here, or diskcache wrote this
            directory.
        DiskError: the directory cannot be used.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        timeout: float = 60,
        disk: object = None,
        *,
        codecs: Codecs | None = None,
        pickle_key: bytes | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(directory, timeout, disk, codecs, pickle_key, settings)

    # -- queues ---------------------------------------------------------------------------

    def push(
        self,
        value: Any,
        prefix: str | None = None,
        side: queues.Side = "back",
        expire: float | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = False,
    ) -> Any:
        """Add a value to the queue of that prefix and return its key."""
        value = value.read() if read else value
        tier = self._tier
        return self._said(
            lambda: queues.push(tier, value, prefix, side, ttl=ttl_of(expire), tag=stored_tag(tag))
        )

    def pull(
        self,
        prefix: str | None = None,
        default: Any = (None, None),
        side: queues.Side = "front",
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Take key and value from a side of the queue, in one transaction, or ``default``."""
        return _pair(queues.pull(self._tier, prefix, side), default, expire_time, tag)

    def peek(
        self,
        prefix: str | None = None,
        default: Any = (None, None),
        side: queues.Side = "front",
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Return key and value at a side of the queue, or ``default``."""
        return _pair(queues.peek(self._tier, prefix, side), default, expire_time, tag)

    def peekitem(
        self, last: bool = True, expire_time: bool = False, tag: bool = False, retry: bool = False
    ) -> Any:
        """Return key and value of the entry written last, or first; KeyError if there is none."""
        while (form := walk.extreme(self._tier, last=last)) is not None:
            key = decode_key(form)
            record = self._tier.fetch(key)
            if record is not None and record.fresh:
                return _pair((key, record), None, expire_time, tag)
            self._drop_unreadable(key)
        raise KeyError("dictionary is empty")

    # -- functions ------------------------------------------------------------------------

    def memoize(
        self,
        name: str | None = None,
        typed: bool = False,
        expire: float | None = None,
        tag: Any = None,
        ignore: Collection[Any] = (),
    ) -> Callable[[Callable[..., Any]], Any]:
        """Keep the results of a function; its ``__cache_key__(...)`` tells the key of a call."""
        if callable(name):
            raise TypeError("name cannot be callable: write @cache.memoize()")

        def decorator(function: Callable[..., Any]) -> Any:
            base = full_name(function) if name is None else name

            @functools.wraps(function)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                key = cache_key(*args, **kwargs)
                result = self.get(key, ENOVAL)
                if result is ENOVAL:
                    result = function(*args, **kwargs)
                    if expire is None or expire > 0:
                        self.set(key, result, expire, tag=tag)
                return result

            def cache_key(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
                return key_of_call(self._codecs, base, args, kwargs, typed, ignore)

            wrapper.__cache_key__ = cache_key  # type: ignore[attr-defined]  # diskcache's name
            return wrapper

        return decorator

    # -- the whole ------------------------------------------------------------------------

    def evict(self, tag: Any, retry: bool = False) -> int:
        """Delete the entries with that tag; how many there were."""
        text = stored_tag(tag)
        return 0 if text is None else self._tier.evict_tag(text)

    def expire(self, now: float | None = None, retry: bool = False) -> int:
        """Delete what has expired; how many entries that were."""
        if now is not None:
            raise NotImplementedError("expire() goes by the clock: leave now= out")
        return self._tier.expire()

    def cull(self, retry: bool = False) -> int:
        """Delete what has expired; the size limit is kept by every write already."""
        return self._tier.expire()

    def clear(self, retry: bool = False) -> int:
        """Delete every entry; how many there were."""
        count = len(self._tier)
        self._tier.clear()
        return count

    def check(self, fix: bool = False, retry: bool = False) -> list[str]:
        """Return what is wrong with the directory, each also as a warning; nothing needs fixing."""
        found = self._tier.verify()
        for problem in found:
            warnings.warn(problem, stacklevel=2)
        return found

    def volume(self) -> int:
        """Bytes that the entries take on disk."""
        return self._tier.stats().used_bytes

    def stats(self, enable: bool = True, reset: bool = False) -> tuple[int, int]:
        """Return hits and misses of this object, and count from now on or stop."""
        with self._lock:
            counted = self._counts["hits"], self._counts["misses"]
            if reset:
                self._counts.update(hits=0, misses=0)
        self._settings["statistics"] = int(enable)
        self._counting = bool(enable)
        return counted

    def create_tag_index(self) -> None:
        """Nothing: tags are found without one."""
        self._settings["tag_index"] = 1

    def drop_tag_index(self) -> None:
        """Nothing: tags are found without one."""
        self._settings["tag_index"] = 0

    def iterkeys(self, reverse: bool = False) -> Iterator[Any]:
        """The keys in their order, expired ones included."""
        return walk.by_key(self._tier, reverse=reverse)

    def __iter__(self) -> Iterator[Any]:
        return walk.by_time(self._tier)

    def __reversed__(self) -> Iterator[Any]:
        return walk.by_time(self._tier, reverse=True)

    def __len__(self) -> int:
        return len(self._tier)

    def _drop_unreadable(self, key: Any) -> None:
        """Delete an entry that is neither expired nor readable, or it would be found again."""
        if not self._tier.expire():
            self._tier.delete(key)


def _pair(found: tuple[Any, Record] | None, default: Any, expire_time: bool, tag: bool) -> Any:
    if found is None:
        return beside(default, None, expire_time, tag)
    key, record = found
    return beside((key, record.value), record, expire_time, tag)
