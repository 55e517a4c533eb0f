"""`Entries`: what diskcache's Cache does with one entry, and with several at once."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from hybridcore.compat.diskcache import walk
from hybridcore.compat.diskcache.core import ENOVAL, original_tag, stored_tag, transact
from hybridcore.compat.diskcache.opening import Opened
from hybridcore.errors import EncodeError
from hybridcore.types import as_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from hybridcore._native.reader import Record

_WAYS_OUT = (
    "diskcache would have pickled it. Here: Cache(directory, codecs=Codecs(Codec(...))) with a "
    "codec of your own, or Cache(directory, pickle_key=secret) to opt in to pickle"
)


class Entries(Opened):
    """The half of `Cache` that goes by keys."""

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
        return beside(value, record, expire_time, tag)

    def read(self, key: Any, retry: bool = False) -> Any:
        """Return the value, large bytes as a file; KeyError if there is none."""
        value = self.get(key, ENOVAL, read=True)
        if value is ENOVAL:
            raise KeyError(key)
        return value

    def touch(self, key: Any, expire: float | None = None, retry: bool = False) -> bool:
        """Give an entry a new expiry; whether there was one."""
        return self._tier.touch(key, ttl_of(expire))

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
        return beside(default if record is None else record.value, record, expire_time, tag)

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
        self._said(lambda: self._tier.put_many(items, ttl=ttl_of(expire), tag=stored_tag(tag)))
        return True

    def delete_many(self, keys: Iterable[Any]) -> int:
        """Delete the entries in one transaction; how many there were."""
        return self._tier.delete_many(keys)

    transact = transact

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
        ttl, text = ttl_of(expire), stored_tag(tag)
        return self._said(
            lambda: walk.exchange(self._tier, key, change, default, ttl=ttl, tag=text)
        )

    def _count(self, hit: bool) -> None:
        if self._counting:
            with self._lock:
                self._counts["hits" if hit else "misses"] += 1

    def _stored(
        self, store: Callable[..., Any], key: Any, value: Any, expire: float | None, tag: Any
    ) -> Any:
        return self._said(lambda: store(key, value, ttl=ttl_of(expire), tag=stored_tag(tag)))

    def _said(self, store: Callable[[], Any]) -> Any:
        try:
            return store()
        except EncodeError as error:
            raise EncodeError(f"{error} {_WAYS_OUT}.") from error

    def _as_file(self, value: Any, read: bool) -> Any:
        if read and type(value) is bytes and len(value) >= self._settings["disk_min_file_size"]:
            return io.BytesIO(value)
        return value


def ttl_of(expire: float | None) -> float | None:
    """Seconds to live; what should have expired before now expires now."""
    return None if expire is None else max(0.0, expire)


def _expire_time(record: Record) -> float | None:
    return record.fresh_until / 1e9 if record.fresh_until else None


def beside(value: Any, record: Record | None, expire_time: bool, tag: bool) -> Any:
    """The value, or a tuple of it and what was asked for."""
    if not (expire_time or tag):
        return value
    parts = [value]
    if expire_time:
        parts.append(None if record is None else _expire_time(record))
    if tag:
        parts.append(
            None if record is None else original_tag(next(iter(as_tags(record.tag)), None))
        )
    return tuple(parts)
