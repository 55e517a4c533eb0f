"""What a write transaction does: records, the indexes over them, and their tally."""

from __future__ import annotations

import struct
import sys
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from hybridcore._native.ledger import Books
from hybridcore._native.marks import TRAITS_SIZE, place_of
from hybridcore._native.record import is_intact, peek

if TYPE_CHECKING:
    from hybridcore._native.record import Packed


_SIZES = struct.Struct("<56xII")
_TIMES = struct.Struct("<24x3q")
_KIND = slice(11, 16)
"""Of a header: the codec, and how the payload is compressed."""


class Placed(NamedTuple):
    """A record as the order of hashes lists it."""

    place: bytes
    """8 bytes, big-endian."""
    key: bytes
    """Its LMDB key."""


class Ledger(Books):
    """The books of one transaction; `settle` before a writing one ends."""

    __slots__ = ()

    def store_all(self, records: list[Packed]) -> None:
        """Write records with the next versions."""
        for packed in records:
            self.store(packed)

    def remove(self, key: bytes) -> bool:
        """Delete the record under an LMDB key; whether there was one."""
        return self.remove_placed(Placed(place_of(key), key)) > 0

    def remove_placed(self, placed: Placed) -> int:
        """Delete a record and its place in the order; return its bytes, 0 if there was none."""
        place, key = placed
        listed = self.txn.get(place, None, self.order)
        if listed is not None and listed[TRAITS_SIZE:] == key:
            self.txn.delete(place, db=self.order)
        record = self.txn.get(key, None, self.data)
        if record is None:
            return 0
        size = len(record)
        self._forget(place, record)
        self.txn.delete(key, db=self.data)
        self.entries -= 1
        self.most_used = sys.maxsize  # LMDB may split pages when it joins others
        return size

    def expired(self, now: int, limit: int) -> list[Placed]:
        """At most ``limit`` records that have expired, the earliest first.

        What the index has of records that are gone or were written again is dropped on the way.
        """
        found, gone = [], []
        with self.txn.cursor(self.expiry) as cursor:
            for entry in islice(cursor.iternext(values=False), limit):
                stamp = bytes(entry)
                if int.from_bytes(stamp[:8], "big") > now:
                    break
                placed = self._expired(stamp)
                if placed is None:
                    gone.append(stamp)
                else:
                    found.append(placed)
        for stamp in gone:
            self.txn.delete(stamp, db=self.expiry)
            self.most_used = sys.maxsize
        return found

    def _expired(self, stamp: bytes) -> Placed | None:
        """The record that an entry of the index is about."""
        listed = self.txn.get(stamp[8:], None, self.order)
        if listed is None:
            return None
        placed = Placed(stamp[8:], bytes(listed[TRAITS_SIZE:]))
        record = self.txn.get(placed.key, None, self.data)
        header = None if record is None else peek(record)
        if header is not None and header[2] != int.from_bytes(stamp[:8], "big"):
            return None
        return placed

    def neighbours(self, place: int, count: int) -> list[tuple[bytes, bytes]]:
        """What the order lists from a place on, around its end: (place, traits and key)."""
        with self.txn.cursor(self.order) as cursor:
            found = []
            if cursor.set_range(place.to_bytes(8, "big")):
                found = [(bytes(at), bytes(listed)) for at, listed in islice(cursor, count)]
            if len(found) < count and cursor.first():
                first = found[0][0] if found else None
                for at, listed in islice(cursor, count - len(found)):
                    if bytes(at) == first:
                        break
                    found.append((bytes(at), bytes(listed)))
        return found

    def intact(self, key: bytes, form: bytes) -> memoryview | None:
        """The undamaged record under an LMDB key, until the next write of this transaction."""
        record = self.txn.get(key, None, self.data)
        return record if record is not None and is_intact(record, form) else None

    def store_if(
        self,
        *,
        packed: Packed,
        expected: int,
        form: bytes,
        now: int,
        change: Change | None = None,
    ) -> int:
        """Write a record if the one it replaces has this version; return the version found.

        0 stands for none, and for one that is damaged or has expired.
        """
        record = self.intact(packed.key, form)
        header = None if record is None else peek(record)
        found = 0
        if header is not None and not (header[2] and now >= header[2]):
            found = header[0]
        if found == expected:
            if change is None:
                self.store(packed)
            else:
                self.store_with(packed=packed, change=change)
        return found

    def store_with(self, *, packed: Packed, change: Change) -> bool:
        """Write a record as part of a change; False, and nothing is written, if that is off."""
        if not change.may_be(self.txn):
            return False
        version = self.version
        before = self.txn.get(packed.key, None, self.data)
        differs = before is None or not has_value_of(before, packed.record)
        is_new = before is None
        self.store(packed)
        change.made(self.txn, version, is_new=is_new, differs=differs)
        return True

    def remove_with(self, key: bytes, change: Change) -> bool:
        """Delete the record under an LMDB key as part of a change; whether there was one."""
        if not change.may_be(self.txn):
            return False
        version = self.version
        there = self.remove(key)
        change.made(self.txn, version, is_new=False, differs=True)
        return there

    def pop(self, key: bytes) -> bytes | None:
        """Delete the record under an LMDB key and return its bytes."""
        record = self.txn.get(key, None, self.data)
        raw = None if record is None else record.tobytes()
        self.remove(key)
        return raw

    def pop_last(self) -> tuple[bytes, bytes] | None:
        """Delete the last record; return its canonical key and its bytes."""
        while True:
            with self.txn.cursor(self.data) as cursor:
                if not cursor.last():
                    return None
                key, raw = bytes(cursor.key()), bytes(cursor.value())
            header = peek(raw)
            self.remove(key)
            if header is not None:
                return header[3], raw

    def unplaced(self, limit: int) -> list[Placed]:
        """Some records, for when the order is empty: damage may have cost them their place."""
        with self.txn.cursor(self.data) as cursor:
            keys = islice(cursor.iternext(values=False), limit)
            return [Placed(place_of(bytes(key)), bytes(key)) for key in keys]

    def clear(self) -> int:
        """Delete every record and return how many there were; the versions go on."""
        count = self.entries
        for database in (self.data, self.order, self.expiry):
            self.txn.drop(database, delete=False)
        self.live_bytes = self.entries = 0
        return count

    def uses_more_than(self, allowed: int) -> bool:
        """Whether more than so many bytes are used; measured only where it may be."""
        return self.most_used > allowed and self.used_bytes() > allowed

    def _forget(self, place: bytes, record: memoryview) -> None:
        """Take a record off the tally and out of the index of what expires."""
        self.live_bytes -= len(record)
        header = peek(record)
        if header is not None and header[2] > 0:
            self.txn.delete(header[2].to_bytes(8, "big") + place, db=self.expiry)


class Change(Protocol):
    """What else a change does in the transaction of the data."""

    def may_be(self, txn: Any, /) -> bool:
        """Whether the change may be, asked before it."""

    def made(self, txn: Any, version: int, /, *, is_new: bool, differs: bool) -> None:
        """It was made; ``version`` is the last that was given before."""


def has_value_of(record: memoryview, other: bytearray) -> bool:
    """Whether two records hold the same value, bit by bit."""
    sizes = _SIZES.unpack_from(record), _SIZES.unpack_from(other)
    one, two = (_SIZES.size + key + meta for key, meta in sizes)
    return record[_KIND] == other[_KIND] and record[one:] == memoryview(other)[two:]


def times_of(record: memoryview) -> tuple[int, int, int]:
    """When a record was stored, stops being fresh, and expires; ns, 0: never."""
    return _TIMES.unpack_from(record)


def is_fresh(record: memoryview, now: int) -> bool:
    """Whether the header says that a record is fresh."""
    header = peek(record)
    return header is not None and (not header[1] or now < header[1])
