"""Snapshots of what the tiers counted: immutable, taken when asked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a memory tier counted since it was made.

    ``[]``, ``get``, ``setdefault`` and ``get_many`` count a hit or a miss; ``in``, ``peek``,
    iteration and writes do not. An expired entry is a miss, and storing its key again is an
    insertion, not an update. ``evicted_size`` is what the evicted entries counted, ``rejected``
    the values refused because they are larger than ``maxsize``, ``readmitted`` the insertions of
    keys that the cache had evicted and still remembered: evictions to regret.
    """

    hits: int
    misses: int
    insertions: int
    updates: int
    evicted: int
    expired: int
    removed: int
    replaced: int
    evicted_size: int
    rejected: int
    readmitted: int
    entries: int
    currsize: int
    maxsize: int | float

    @property
    def requests(self) -> int:
        """Lookups counted."""
        return self.hits + self.misses

    @property
    def hit_ratio(self) -> float:
        """Hits per lookup; 0 before the first."""
        return self.hits / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True)
class DiskStats:
    """What one disk tier object counted since it was made, and the state of its directory.

    Every lookup but ``in`` counts once per key: a hit, a stale hit (`fetch` past the ttl) or a
    miss. ``expired`` and ``damaged`` tell why some were misses; ``in`` adds to ``damaged`` too.
    Evictions done by this object are ``evictions`` of live entries, ``evicted_bytes`` in all,
    and ``evicted_expired``. What was offered is ``admitted`` or ``rejected``, see `Admission`;
    a rejected one that replaces an entry is written all the same. ``written_bytes`` are those of
    records, in ``commits`` transactions.

    From ``entries`` on it is about the directory, whoever wrote. ``live_bytes`` are those of
    records, ``used_bytes`` those of the pages they take, ``allocated_bytes`` those of all pages
    that were ever used, ``file_bytes`` those of the file, ``map_bytes`` what it can grow to.
    ``readers`` of ``max_readers`` slots are taken.
    """

    hits: int
    stale_hits: int
    misses: int
    expired: int
    damaged: int
    puts: int
    written_bytes: int
    commits: int
    deletes: int
    evictions: int
    evicted_bytes: int
    evicted_expired: int
    admitted: int
    rejected_first: int
    rejected_size: int
    rejected_rate: int
    entries: int
    live_bytes: int
    used_bytes: int
    max_bytes: int
    allocated_bytes: int
    file_bytes: int
    map_bytes: int
    readers: int
    max_readers: int

    @property
    def free_bytes(self) -> int:
        """Bytes of pages inside the file that hold nothing and will be used again."""
        return max(0, self.allocated_bytes - self.used_bytes)

    @property
    def fragmentation(self) -> float:
        """Share of the used pages that is not records: indexes, half-empty pages, their heads."""
        return 1 - self.live_bytes / self.used_bytes if self.used_bytes else 0.0

    @property
    def requests(self) -> int:
        """Lookups counted."""
        return self.hits + self.stale_hits + self.misses

    @property
    def hit_ratio(self) -> float:
        """Fresh hits per lookup; 0 before the first."""
        return self.hits / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True)
class OriginStats:
    """What a hybrid cache counted about its origin, and about failures it covered.

    A load is an answer of any kind for one key; ``not_modified`` and ``not_found`` are among them.
    """

    loads: int
    not_modified: int
    not_found: int
    errors: int
    stale_served: int
    stores: int
    deletes: int
    disk_errors: int
