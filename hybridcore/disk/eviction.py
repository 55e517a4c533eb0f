"""Which records go when room is needed: what expired, then those worth least of some drawn."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from hybridcore._native.marks import TRAITS_SIZE
from hybridcore.disk.ledger import Placed

if TYPE_CHECKING:
    from hybridcore._native.marks import Marks
    from hybridcore.disk.ledger import Ledger
    from hybridcore.eviction import Weights

_BATCH = 128
"""Records evicted per transaction, so that nobody waits long for the writer lock."""
_STRIDE = 16
"""At most so many are removed between two looks at the space that is left."""
_LOOKS = 32
"""Neighbours in the order of hashes that are compared,"""
_CHOSEN_OF = 8
"""and the share of them that goes: one of so many."""
_TRIES = 8
"""Stretches without anything old enough to go before anything may."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What one transaction removed to make room, and whether there is room now."""

    evicted: int = 0
    evicted_bytes: int = 0
    expired: int = 0
    done: bool = True


NOTHING = Removed()


class Victims:
    """Chooses what to evict, from the traits in the order of hashes and the marks of reads."""

    def __init__(self, marks: Marks, weights: Weights, *, learned: bool) -> None:
        self._marks = marks
        self._weights = astuple(weights)
        self._learned = learned

    def make_room(
        self, ledger: Ledger, allowed: int, target: int, newest: int, now: int
    ) -> Removed:
        """Remove records until ``target`` bytes are used, at most a batch.

        It is done when no more than ``allowed`` are. What is newer than the version ``newest``
        stays while there is anything else.
        """
        self._marks.wrote(ledger.version, ledger.entries, full=True)
        if self._learned:
            self._marks.teach()
        taken = evicted = evicted_bytes = expired = 0
        excess = ledger.used_bytes() - target
        while excess > 0 and taken < _BATCH:
            count = min(_STRIDE, _BATCH - taken)
            late = ledger.expired(now, count)
            batch = late or self._draw(ledger, newest) or ledger.unplaced(count)
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

    def evict(self, ledger: Ledger, count: int) -> Removed:
        """Remove at most ``count`` records and a batch, those worth least of some first."""
        evicted = evicted_bytes = 0
        wanted = min(count, _BATCH)
        while evicted < wanted:
            batch = self._draw(ledger, ledger.version) or ledger.unplaced(wanted - evicted)
            if not batch:
                return Removed(evicted, evicted_bytes)
            for placed in batch[: wanted - evicted]:
                size = ledger.remove_placed(placed)
                evicted += size > 0
                evicted_bytes += size
        return Removed(evicted, evicted_bytes, done=evicted >= count)

    def expire(self, ledger: Ledger, now: int) -> Removed:
        """Remove a batch of what has expired."""
        batch = ledger.expired(now, _BATCH)
        expired = sum([ledger.remove_placed(placed) > 0 for placed in batch])
        return Removed(expired=expired, done=len(batch) < _BATCH)

    def _draw(self, ledger: Ledger, newest: int) -> list[Placed]:
        """Of the next records in the order of hashes, those worth least, the least first."""
        drawn: list[tuple[bytes, bytes]] = []
        hand = self._marks.hand
        for _ in range(_TRIES):
            looked = ledger.neighbours(hand, _LOOKS)
            if not looked:
                return []
            hand = (int.from_bytes(looked[-1][0], "big") + 1) % (1 << 64)
            drawn = [found for found in looked if _version(found, newest) <= newest] or drawn
            if drawn:
                break
        self._marks.hand = hand
        rank = self._marks.rank(drawn or looked, self._weights, self._learned)
        return [
            Placed(place, listed[TRAITS_SIZE:])
            for place, listed in rank[: max(1, len(rank) // _CHOSEN_OF)]
        ]


def _version(found: tuple[bytes, bytes], near: int) -> int:
    """The version of what the order lists, of which it has the low half, near another one."""
    low = int.from_bytes(found[1][4:8], "little")
    return near + ((low - near + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
