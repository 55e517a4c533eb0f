"""The log of invalidations of a directory, and the barriers that tags are held against.

Both lie in the LMDB environment of the data, so that a change and the entry that tells of it are
one transaction. Databases:

    ============  ======================================  ====================================
    name          key                                     value
    ============  ======================================  ====================================
    ``log``       number, 8 bytes big-endian              an `Entry`
    ``barriers``  ``t`` and a tag                         a `Barrier`: the last that was raised
                  ``d`` and xxh3-128 of a key form        nothing: something depends on the key
                  ``f``                                   a `Barrier`: of all entries
                  ``m``                                   a `Barrier`: of tags that have none here
    ============  ======================================  ====================================

A number is that of the entry in the log: they grow by one, and order all that happens to a
directory.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct
from msgspec.msgpack import decode, encode

from hybridcore.invalidation.barriers import FLOOR, MERGED, NO_BARRIER, Barrier
from hybridcore.invalidation.retention import Retention

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import lmdb

    Txn = lmdb.Transaction[Any]

Scope = Literal["key", "tags", "prefix", "all"]

MOST_BARRIERS = 100_000
"""Tags whose barriers are kept; the older half becomes one barrier for all tags then."""
_LONGEST_TAG = 480
"""Bytes; longer ones are stood for by a hash."""

_NUMBER = struct.Struct(">Q")
_BARRIER = struct.Struct("<QQQQ")
_TAG, _DEPENDED = b"t", b"d"


class Entry(Struct, frozen=True, array_like=True):
    """Something was invalidated.

    - ``number``: its place in the log
    - ``at``: seconds since the epoch; ``stamp``: of the hybrid logical clock
    - ``node``: who did it
    - ``keys``: forms of keys; with scope ``"prefix"`` what such forms begin with, and its own form
    - ``hard``: whether what it covers must not be served as stale either
    - ``version``: the records of the disk up to which it covers, where it covers records
    - ``cause``: ``"put"``, ``"delete"``, ``"load"``, ``"invalidate"``, an event's name
    """

    number: int
    at: float
    stamp: int
    node: int
    scope: Scope
    keys: tuple[Any, ...]
    tags: tuple[Any, ...]
    hard: bool
    version: int
    cause: str


class Log:
    """Reads and writes the databases; every method works in the transaction that it is given."""

    log: lmdb._Database
    barriers: lmdb._Database

    def __init__(self, retention: Retention | None = None) -> None:
        from xxhash import xxh3_128_digest

        self._digest = xxh3_128_digest
        self._retention = retention or Retention()

    def bind(self, log: lmdb._Database, barriers: lmdb._Database) -> None:
        """Use these databases: they are others after a fork."""
        self.log, self.barriers = log, barriers

    # -- the log ----------------------------------------------------------------------------

    def last(self, txn: Txn) -> int:
        """The number of the newest entry; 0 if there is none."""
        with txn.cursor(self.log) as cursor:
            return int(_NUMBER.unpack(cursor.key())[0]) if cursor.last() else 0

    def first(self, txn: Txn) -> int:
        """The number of the oldest entry that is kept; 0 if there is none."""
        with txn.cursor(self.log) as cursor:
            return int(_NUMBER.unpack(cursor.key())[0]) if cursor.first() else 0

    def since(self, txn: Txn, number: int) -> Iterator[Entry]:
        """The entries after a number, in their order."""
        with txn.cursor(self.log) as cursor:
            found = cursor.set_range(_NUMBER.pack(number + 1))
            while found:
                yield decode(cursor.value(), type=Entry)
                found = cursor.next()

    def append(
        self,
        txn: Txn,
        scope: Scope,
        *,
        stamp: int,
        node: int,
        version: int,
        keys: tuple[bytes, ...] = (),
        tags: tuple[str, ...] = (),
        hard: bool = True,
        cause: str,
        after: int = 0,
    ) -> int:
        """Add an entry, with the barriers that it raises; returns its number.

        That is beyond ``after``, too: the log may have been removed with the data.
        """
        number = max(self.last(txn), after) + 1
        entry = Entry(number, time.time(), stamp, node, scope, keys, tags, hard, version, cause)
        txn.put(_NUMBER.pack(number), encode(entry), db=self.log)
        names = [FLOOR] if scope == "all" else [name_of_tag(tag) for tag in tags]
        for name in names:
            self._raise(txn, name, number, version, hard=hard)
        if number % self._retention.batch == 0:
            self.trim(txn, self._retention, 2 * self._retention.batch)
            if txn.stat(self.barriers)["entries"] > MOST_BARRIERS:
                self._merge_barriers(txn)
        return number

    def covers(
        self, txn: Txn, since: int, form: bytes, tags: Iterable[str], announced: int
    ) -> bool:
        """Whether anything after a number covers this key, or one of these tags.

        What was announced and is not there any more, as the log went with the data, covers all.
        """
        last = max(self.last(txn), announced)
        if last <= since:
            return False
        entries = list(self.since(txn, since))
        if len(entries) < last - since:
            return True  # nobody knows any more
        wanted = set(tags)
        return any(covers(entry, form, wanted) for entry in entries)

    def trim(self, txn: Txn, retention: Retention, most: int) -> int:
        """Remove the oldest entries beyond what is to be kept; returns how many."""
        kept = self.last(txn) - retention.entries
        age = retention.seconds
        oldest = 0.0 if age is None else time.time() - age
        removed = 0
        with txn.cursor(self.log) as cursor:
            while removed < most and cursor.first():
                if _NUMBER.unpack(cursor.key())[0] > kept and (
                    age is None or decode(cursor.value(), type=Entry).at >= oldest
                ):
                    break
                cursor.delete()
                removed += 1
        return removed

    # -- barriers ---------------------------------------------------------------------------

    def all_barriers(self, txn: Txn) -> dict[bytes, Barrier]:
        """The barriers by name, see `name_of_tag`, `FLOOR` and `MERGED`."""
        with txn.cursor(self.barriers) as cursor:
            return {
                bytes(key): Barrier(*_BARRIER.unpack(value))
                for key, value in cursor
                if bytes(key[:1]) != _DEPENDED
            }

    def depend(self, txn: Txn, forms: Iterable[bytes]) -> None:
        """Note that something depends on these keys."""
        for form in forms:
            txn.put(_DEPENDED + self._digest(form), b"", db=self.barriers)

    def is_depended_on(self, txn: Txn, form: bytes) -> bool:
        """Whether something was ever said to depend on this key, or nobody knows any more."""
        return (
            txn.get(_DEPENDED + self._digest(form), db=self.barriers) is not None
            or txn.get(_DEPENDED, db=self.barriers) is not None
        )

    def _raise(self, txn: Txn, name: bytes, number: int, version: int, *, hard: bool) -> None:
        known = txn.get(name, db=self.barriers)
        before = NO_BARRIER if known is None else Barrier(*_BARRIER.unpack(known))
        barrier = before.raised(number, version, hard=hard)
        txn.put(name, _BARRIER.pack(*barrier), db=self.barriers)

    def _merge_barriers(self, txn: Txn) -> None:
        """Have one barrier stand for the older half of all tags, and forget what depends."""
        rows: list[tuple[Barrier, bytes]] = []
        dependents: list[bytes] = []
        with txn.cursor(self.barriers) as cursor:
            for key, value in cursor:
                name = bytes(key)
                if name[:1] == _TAG:
                    rows.append((Barrier(*_BARRIER.unpack(value)), name))
                elif name[:1] == _DEPENDED:
                    dependents.append(name)
        if len(dependents) > MOST_BARRIERS // 2:
            for name in dependents:
                txn.delete(name, db=self.barriers)
            txn.put(_DEPENDED, b"", db=self.barriers)
        rows.sort()
        older = rows[: len(rows) // 2]
        for _, name in older:
            txn.delete(name, db=self.barriers)
        if older:
            newest = older[-1][0]
            self._raise(txn, MERGED, newest.number, newest.version, hard=True)


def covers(entry: Entry, form: bytes, tags: set[str]) -> bool:
    """Whether an entry of the log covers a key, or one of these tags."""
    if entry.scope == "all":
        return True
    if entry.scope == "prefix":
        return form.startswith(entry.keys[0])
    if form in entry.keys or not tags.isdisjoint(entry.tags):
        return True
    # Nobody may have depended on its keys when they were changed.
    return bool(tags) and any(tag_of_key(key) in tags for key in entry.keys)


def tag_of_key(form: bytes) -> str:
    """The tag that whatever depends on a key carries."""
    from xxhash import xxh3_128_hexdigest

    return f"\0{xxh3_128_hexdigest(form)}"


def name_of_tag(tag: str) -> bytes:
    """The name of a tag's barrier."""
    name = tag.encode("utf-8", "surrogatepass")
    if len(name) > _LONGEST_TAG:
        from xxhash import xxh3_128_hexdigest

        name = b"\1" + xxh3_128_hexdigest(name).encode()
    return _TAG + name
