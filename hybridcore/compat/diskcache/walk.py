"""What diskcache asks of the disk tier beyond its mapping: other orders, ranges, whole records."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from hybridcore._native.record import peek
from hybridcore.compat.diskcache.core import ENOVAL
from hybridcore.disk.keys import decode_key, encode_key, lmdb_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import lmdb

    from hybridcore._native.reader import Record
    from hybridcore._native.record import Packed
    from hybridcore.disk.tier import Lmdb

_BATCH = 512
"""Keys per read transaction."""


def by_key(tier: Lmdb[Any, Any], *, reverse: bool = False) -> Iterator[Any]:
    """The keys in their order, expired entries included."""
    for entry in _entries(tier, reverse):
        yield decode_key(entry.form)


def by_time(tier: Lmdb[Any, Any], *, reverse: bool = False) -> Iterator[Any]:
    """The keys in the order of their last writes, expired entries included; of this moment."""
    order = sorted([(entry.version, entry.form) for entry in _entries(tier)], reverse=reverse)
    return (decode_key(form) for _, form in order)


def extreme(tier: Lmdb[Any, Any], *, last: bool) -> bytes | None:
    """The form of the key of the fresh entry written last or first; O(number of entries)."""
    now = tier._clock()
    fresh = (entry for entry in _entries(tier) if not 0 < entry.fresh_until <= now)
    found = (max if last else min)(fresh, key=lambda entry: entry.version, default=None)
    return None if found is None else found.form


def between(tier: Lmdb[Any, Any], low: Any, high: Any, *, last: bool) -> Any | None:
    """The first or last key between two, which are not meant themselves."""
    environment = tier._environment
    start, stop = encode_key(low), encode_key(high)
    with environment.reading() as txn, txn.cursor(environment.data) as cursor:
        if last:
            found = cursor.prev() if cursor.set_range(stop) else cursor.last()
        else:
            found = cursor.set_range(start) and (cursor.key() != start or cursor.next())
        name = bytes(cursor.key()) if found else b""
    return decode_key(name) if start < name < stop else None


def take(tier: Lmdb[Any, Any], key: Any) -> Record | None:
    """Delete an entry in one transaction, and return it if it was fresh."""
    form = encode_key(key)
    writer = tier._open()
    raw = writer.change(lambda ledger: ledger.pop(lmdb_key(form)))
    writer.count(deletes=int(raw is not None))
    record = tier.unpack(raw, form)
    return record if record is not None and record.fresh else None


def exchange(
    tier: Lmdb[Any, Any],
    key: Any,
    change: Callable[[Any], Any],
    default: Any,
    *,
    ttl: float | None,
    tag: str | None,
) -> Any:
    """Store what ``change`` makes of the value, if nobody wrote between; else ask it again.

    What it makes is returned; ENOVAL changes nothing.
    """

    def renew(record: Record | None) -> tuple[Packed | None, Any]:
        after = change(default if record is None else record.value)
        if after is ENOVAL:
            return None, after
        return tier._packer.pack(key, after, tier._times(ttl), tag=tag), after

    return tier._alter(key, renew)


class _Entry(NamedTuple):
    version: int
    fresh_until: int
    form: bytes


def _entries(tier: Lmdb[Any, Any], reverse: bool = False) -> Iterator[_Entry]:
    """What the headers say, in the order of the keys; those that are damaged are left out."""
    environment = tier._environment
    after = b""
    while True:
        batch: list[_Entry] = []
        with environment.reading() as txn, txn.cursor(environment.data) as cursor:
            if not _seek(cursor, after, reverse):
                return
            walk = cursor.iterprev() if reverse else cursor.iternext()
            seen = 0
            for name, record in islice(walk, _BATCH):
                seen += 1
                after = bytes(name)
                header = peek(record)
                if header is not None and lmdb_key(header[3]) == after:
                    batch.append(_Entry(header[0], header[1], header[3]))
        yield from batch
        if seen < _BATCH:
            return


def _seek(cursor: lmdb.Cursor[memoryview], after: bytes, reverse: bool) -> bool:
    if reverse:
        found = cursor.set_range(after) if after else False
        return cursor.prev() if found else cursor.last()
    if not after:
        return cursor.first()
    return cursor.set_range(after) and (cursor.key() != after or cursor.next())
