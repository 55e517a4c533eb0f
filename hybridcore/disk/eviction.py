"""Which records go when room is needed: what expired, then those worth least of some drawn."""

from __future__ import annotations

import random
from dataclasses import astuple, dataclass
from itertools import islice
from typing import TYPE_CHECKING

from hybridcore.disk.ledger import Placed

if TYPE_CHECKING:
    import lmdb

    from hybridcore._native.marks import Marks
    from hybridcore.disk.ledger import Ledger
    from hybridcore.eviction import Weights

_BATCH = 128
"""Records evicted per transaction, so that nobody waits long for the writer lock."""
_STRIDE = 16
"""At most so many are removed between two looks at the space that is left."""
_RUNS = 8
_RUN = 8
"""So many runs of so many neighbours in the order of writes are compared."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What one transaction removed to make room, and whether there is room now."""

    evicted: int = 0
    evicted_bytes: int = 0
    expired: int = 0
    done: bool = True


NOTHING = Removed()


class Victims:
    """Chooses what to evict by `Weights`, from the traits in the order and the marks of reads."""

    def __init__(self, marks: Marks, weights: Weights, seed: int | None = None) -> None:
        self._marks = marks
        self._weights = astuple(weights)
        self._random = random.Random(seed)

    def make_room(
        self, ledger: Ledger, allowed: int, target: int, newest: int, now: int
    ) -> Removed:
        """Remove records until ``target`` bytes are used, at most a batch.

        It is done when no more than ``allowed`` are. What is newer than the version ``newest``
        stays while there is anything else.
        """
        taken = evicted = evicted_bytes = expired = 0
        excess = ledger.used_bytes() - target
        while excess > 0 and taken < _BATCH:
            count = min(_STRIDE, _BATCH - taken)
            late = ledger.expired(now, count)
            batch = late or self._draw(ledger, count, newest, now) or ledger.unplaced(count)
            if not batch:
                return Removed(evicted, evicted_bytes, expired)
            for placed in batch:
                size = ledger.remove_placed(placed)
                taken += 1
                excess -= size
                if size and late:
                    expired += 1
                elif size:
                    evicted += 1
                    evicted_bytes += size
                if excess <= 0:
                    break
            excess = ledger.used_bytes() - target
        return Removed(evicted, evicted_bytes, expired, ledger.used_bytes() <= allowed)

    def evict(self, ledger: Ledger, count: int, now: int) -> Removed:
        """Remove at most ``count`` records and a batch, those worth least of some first."""
        evicted = evicted_bytes = 0
        wanted = min(count, _BATCH)
        while evicted < wanted:
            batch = self._draw(ledger, min(_STRIDE, wanted - evicted), ledger.version, now)
            batch = batch or ledger.unplaced(wanted - evicted)
            if not batch:
                return Removed(evicted, evicted_bytes)
            for placed in batch:
                size = ledger.remove_placed(placed)
                evicted += size > 0
                evicted_bytes += size
        return Removed(evicted, evicted_bytes, done=evicted >= count)

    def expire(self, ledger: Ledger, now: int) -> Removed:
        """Remove a batch of what has expired."""
        batch = ledger.expired(now, _BATCH)
        expired = sum([ledger.remove_placed(placed) > 0 for placed in batch])
        return Removed(expired=expired, done=len(batch) < _BATCH)

    def _draw(self, ledger: Ledger, count: int, newest: int, now: int) -> list[Placed]:
        """Of some records drawn at random, the ``count`` worth least, the least first."""
        drawn: dict[bytes, bytes] = {}
        with ledger.txn.cursor(ledger.order) as cursor:
            if not cursor.first():
                return []
            oldest = int.from_bytes(cursor.key(), "big")
            if oldest > newest:
                newest = ledger.version
            for _ in range(_RUNS):
                start = self._random.randint(oldest, max(newest, oldest))
                if cursor.set_range(start.to_bytes(8, "big")):
                    self._add_run(cursor, newest, drawn)
            if not drawn and cursor.first():
                self._add_run(cursor, newest, drawn)
        rank = self._marks.rank(drawn, self._weights, ledger.version, now)
        return [Placed(version, key) for version, key in rank[:count]]

    def _add_run(
        self, cursor: lmdb.Cursor[memoryview], newest: int, drawn: dict[bytes, bytes]
    ) -> None:
        for version, listed in islice(cursor, _RUN):
            if int.from_bytes(version, "big") > newest:
                break
            drawn[bytes(version)] = bytes(listed)
