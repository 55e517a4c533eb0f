"""What warming may know of the tiers without being a reader: uses, ages, the hottest keys."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from hybridcore.disk import Lmdb
    from hybridcore.hybrid import HybridCache

_SCANNED = 200_000
"""Keys on disk that are looked at for the hottest; of more, those that come first."""


class Life(NamedTuple):
    """Seconds for which an entry is fresh yet, None for ever; and how often it was used."""

    left: float | None
    uses: int


class Shelf:
    """The tiers of a store as warming sees them; looking counts as no use."""

    MOST_USES = 250
    """Memory counts no farther, so what reaches it is used all the time."""

    def __init__(self, store: HybridCache[Any, Any]) -> None:
        self._memory = store._engine.memory
        self._disk = store._engine.disk

    @property
    def has_disk(self) -> bool:
        """Whether what memory lost may be there yet."""
        return self._disk is not None

    def uses(self, key: Any) -> int:
        """How often memory has been used for the key, as far as it counts; 0: it is not there."""
        return 0 if self._memory is None else self._memory.frequency(key)

    def life(self, key: Any) -> Life | None:
        """Of what memory has, without a memory of what the disk has; None: nothing fresh."""
        if self._memory is None:
            record = None if self._disk is None else self._disk.fetch(key)
            return None if record is None or not record.fresh else Life(record.ttl_left, 0)
        held = self._memory.held(key)
        if held is None:
            return None
        left, note = held[1], held[2]
        if left is not None:
            left += 0.0 if note is None else note.late
            if left <= 0:
                return None
        return Life(left, self._memory.frequency(key))

    def regret(self) -> float:
        """How likely the entry that goes to make room is asked for again; 0 while there is room."""
        memory = self._memory
        if memory is None:
            return 0.0
        limit = memory.options()[0]
        if limit is None or memory.currsize < 0.98 * limit:
            return 0.0
        counters = memory.counters()
        evicted, readmitted = counters[4], counters[10]
        return min(1.0, readmitted / evicted) if evicted else 0.0

    def hottest(self, count: int) -> list[Any]:
        """Up to ``count`` keys in memory, the most valuable first."""
        return [] if self._memory is None else self._memory.hottest(count)

    def hottest_on_disk(self, count: int) -> list[Any]:
        """Up to ``count`` fresh keys on disk, the most used first; O(keys on disk)."""
        return [] if self._disk is None else hottest_of(self._disk, count)

    def lookups(self) -> int:
        """Lookups that memory counted."""
        if self._memory is None:
            return 0
        hits, misses, *_ = self._memory.counters()
        return hits + misses


def hottest_of(disk: Lmdb[Any, Any], count: int) -> list[Any]:
    """Up to ``count`` fresh keys of a directory, the most used first, by any process."""
    from hybridcore.disk.keys import encode_key, lmdb_key

    marks = disk._environment.marks
    keys = list(islice((key for batch in disk.batches() for key in batch), _SCANNED))
    uses = [marks.uses(lmdb_key(encode_key(key))) for key in keys]
    ranked = sorted(range(len(keys)), key=uses.__getitem__, reverse=True)
    return [keys[number] for number in ranked[:count]]
