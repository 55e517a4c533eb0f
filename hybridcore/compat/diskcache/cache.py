"""`Cache`: the methods of diskcache's Cache, over one disk tier."""

from __future__ import annotations

import functools
import io
import warnings
from typing import TYPE_CHECKING, Any

from hybridcore.compat.diskcache import queues, walk
from hybridcore.compat.diskcache.core import (
    ENOVAL,
    full_name,
    key_of_call,
    original_tag,
    stored_tag,
    transact,
)
from hybridcore.compat.diskcache.opening import Opened
from hybridcore.disk.keys import decode_key
from hybridcore.errors import EncodeError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from hybridcore._native.reader import Record
    from hybridcore.codec import Codecs

_WAYS_OUT = (
    "diskcache would have pickled it. Here: Cache(directory, codecs=Codecs(Codec(...))) with a "
    "codec of your own, or Cache(directory, pickle_key=secret) to opt in to pickle"
)


class Cache(Opened):
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

    # -- one entry ------------------------------------------------------------------------

    def set(
        self,
        key: Any,
        value: Any,
        expire: float | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = False,
    ) -> bool:
        """Store a value, or with ``read`` what a file has; True."""
        value = value.read() if read else value
        self._stored(self._tier.put, key, value, expire, tag)
        return True

    def add(
        self,
        key: Any,
        value: Any,
        expire: float | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = False,
    ) -> bool:
        """Store a value unless there is one; whether it was stored. One transaction."""
        value = value.read() if read else value
        return bool(self._stored(self._tier.add, key, value, expire, tag))

    def get(
        self,
        key: Any,
        default: Any = None,
        read: bool = False,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Return the value, or ``default``; with what was asked for beside it in a tuple."""
        if not (read or expire_time or tag or self._counting):
            return self._tier.get(key, default)
        record = self._tier.fetch(key)
        if record is not None and not record.fresh:
            record = None
        self._count(record is not None)
        value = default if record is None else self._as_file(record.value, read)
        return _beside(value, record, expire_time, tag)

    def read(self, key: Any, retry: bool = False) -> Any:
        """Return the value, large bytes as a file; KeyError if there is none."""
        value = self.get(key, ENOVAL, read=True)
        if value is ENOVAL:
            raise KeyError(key)
        return value

    def touch(self, key: Any, expire: float | None = None, retry: bool = False) -> bool:
        """Give an entry a new expiry; whether there was one."""
        return self._tier.touch(key, _ttl(expire))

    def incr(
        self, key: Any, delta: float = 1, default: float | None = 0, retry: bool = False
    ) -> Any:
        """Add to a number in one transaction; KeyError if there is neither it nor a default."""
        return self._tier.incr(key, delta, default)

    def decr(
        self, key: Any, delta: float = 1, default: float | None = 0, retry: bool = False
    ) -> Any:
        """Subtract from a number in one transaction."""
        return self._tier.decr(key, delta, default)

    def pop(
        self,
        key: Any,
        default: Any = None,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Delete the entry in one transaction and return its value, or ``default``."""
        record = walk.take(self._tier, key)
        return _beside(default if record is None else record.value, record, expire_time, tag)

    def delete(self, key: Any, retry: bool = False) -> bool:
        """Delete the entry; whether there was one that had not expired."""
        return key in self._tier and self._tier.delete(key)

    def __getitem__(self, key: Any) -> Any:
        value = self.get(key, ENOVAL)
        if value is ENOVAL:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: Any) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return key in self._tier

    # -- many entries ---------------------------------------------------------------------

    def get_many(self, keys: Iterable[Any]) -> dict[Any, Any]:
        """Return the values of the keys that are there, read in one transaction."""
        return self._tier.get_many(keys)

    def set_many(
        self,
        items: Mapping[Any, Any] | Iterable[tuple[Any, Any]],
        expire: float | None = None,
        tag: Any = None,
    ) -> bool:
        """Store all the items or none, in one transaction; True."""
        self._said(lambda: self._tier.put_many(items, ttl=_ttl(expire), tag=stored_tag(tag)))
        return True

    def delete_many(self, keys: Iterable[Any]) -> int:
        """Delete the entries in one transaction; how many there were."""
        return self._tier.delete_many(keys)

    transact = transact

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
            lambda: queues.push(tier, value, prefix, side, ttl=_ttl(expire), tag=stored_tag(tag))
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

    # -- beneath --------------------------------------------------------------------------

    def _exchange(
        self,
        key: Any,
        change: Callable[[Any], Any],
        default: Any,
        expire: float | None = None,
        tag: Any = None,
    ) -> Any:
        """See `walk.exchange`."""
        ttl, text = _ttl(expire), stored_tag(tag)
        return self._said(
            lambda: walk.exchange(self._tier, key, change, default, ttl=ttl, tag=text)
        )

    def _drop_unreadable(self, key: Any) -> None:
        """Delete an entry that is neither expired nor readable, or it would be found again."""
        if not self._tier.expire():
            self._tier.delete(key)

    def _count(self, hit: bool) -> None:
        if self._counting:
            with self._lock:
                self._counts["hits" if hit else "misses"] += 1

    def _stored(
        self, store: Callable[..., Any], key: Any, value: Any, expire: float | None, tag: Any
    ) -> Any:
        return self._said(lambda: store(key, value, ttl=_ttl(expire), tag=stored_tag(tag)))

    def _said(self, store: Callable[[], Any]) -> Any:
        try:
            return store()
        except EncodeError as error:
            raise EncodeError(f"{error} {_WAYS_OUT}.") from error

    def _as_file(self, value: Any, read: bool) -> Any:
        if read and type(value) is bytes and len(value) >= self._settings["disk_min_file_size"]:
            return io.BytesIO(value)
        return value


def _ttl(expire: float | None) -> float | None:
    return None if expire is None else max(0.0, expire)


def _expire_time(record: Record) -> float | None:
    return record.fresh_until / 1e9 if record.fresh_until else None


def _beside(value: Any, record: Record | None, expire_time: bool, tag: bool) -> Any:
    """The value, or a tuple of it and what was asked for."""
    if not (expire_time or tag):
        return value
    beside = [value]
    if expire_time:
        beside.append(None if record is None else _expire_time(record))
    if tag:
        beside.append(None if record is None else original_tag(record.tag))
    return tuple(beside)


def _pair(found: tuple[Any, Record] | None, default: Any, expire_time: bool, tag: bool) -> Any:
    if found is None:
        return _beside(default, None, expire_time, tag)
    key, record = found
    return _beside((key, record.value), record, expire_time, tag)
