"""Which writes of a queue are ready: those listed in the database ``ready``, and the fresh ones.

A write is *fresh* when it was ready as it came, and nothing was done with it since. Those of one
level that came after each other are not listed: the tally tells from where to where they are, and
the rows of ``data`` themselves which of them.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from hybridcore._native.writes import fresh_from
from hybridcore.write_queue.records import NUMBER
from hybridcore.write_queue.rows import set_before

if TYPE_CHECKING:
    import lmdb

    from hybridcore._native.writes import Tally

    Txn = lmdb.Transaction[bytes]

Rows = list[tuple[bytes, bytes]]
"""Each begins with a place."""


class Ready:
    """Reads and writes what is ready, in transactions that others open.

    What is listed has, beside its place, what became of earlier attempts.
    """

    data: lmdb._Database
    listed: lmdb._Database

    def put(self, txn: Txn, level: int, place: bytes, past: bytes) -> None:
        """List a write."""
        txn.put(bytes((level,)) + place, past, db=self.listed)

    def move(self, txn: Txn, place: bytes, before: int, level: int, *, is_fresh: bool) -> None:
        """Have a write be of another level, if it is ready; a fresh one is not any more."""
        past = b"" if is_fresh else txn.pop(bytes((before,)) + place, db=self.listed)
        if past is not None:
            self.put(txn, level, place, past)

    def first(self, txn: Txn, tally: Tally, level: int, most: int) -> tuple[Rows, Rows]:
        """The first writes of a level: up to so many that are listed, and rows of fresh ones."""
        listed: Rows = []
        with txn.cursor(self.listed) as cursor:
            if cursor.set_range(bytes((level,))):
                listed = [(key[1:], past) for key, past in islice(cursor, most) if key[0] == level]
        fresh: Rows = []
        if tally.has_fresh(level):
            with txn.cursor(self.data) as cursor:
                if cursor.set_range(NUMBER.pack(tally.fresh)):
                    fresh = fresh_from(cursor, tally, most)
            if not fresh:
                tally.fresh = tally.fresh_end
        return listed, fresh

    def pass_by(
        self, txn: Txn, tally: Tally, level: int, first: tuple[Rows, Rows], last: bytes
    ) -> None:
        """Have those of the ``first`` up to the place ``last`` be ready no longer."""
        listed, fresh = first
        if listed:
            with txn.cursor(self.listed) as cursor:
                cursor.set_range(bytes((level,)))
                for place, _ in listed:
                    if place <= last:
                        cursor.delete()
        if fresh:
            tally.fresh = max(tally.fresh, NUMBER.unpack(last)[0] + 1)

    def pop_last(self, txn: Txn, tally: Tally, level: int) -> bytes | None:
        """The place of the newest one of a level, which is listed no longer."""
        with txn.cursor(self.listed) as cursor:
            there = set_before(cursor, bytes((level + 1,))) and cursor.key()[0] == level
            place = cursor.key()[1:] if there else None
            fresh = self._last_fresh(txn, tally) if tally.has_fresh(level) else None
            if fresh is not None and (place is None or fresh > place):
                return fresh
            if place is not None:
                cursor.delete()
        return place

    def _last_fresh(self, txn: Txn, tally: Tally) -> bytes | None:
        with txn.cursor(self.data) as cursor:
            there = set_before(cursor, NUMBER.pack(tally.fresh_end))
            while there:
                place = cursor.key()
                number = NUMBER.unpack(place)[0]
                if number < tally.fresh:
                    break
                if tally.is_fresh(number, cursor.value()):
                    return place
                there = cursor.prev()
        return None
