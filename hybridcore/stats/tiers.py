"""What the tiers counted, and what stands between them: immutable snapshots."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hybridcore.stats.counted import Counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hybridcore._native.histogram import Distribution


@dataclass(frozen=True, slots=True)
class CacheStats(Counted):
    """What a memory tier counted since it was made.

    ``[]``, ``get``, ``setdefault`` and ``get_many`` count a hit or a miss; ``in``, ``peek``,
    iteration and writes do not. An expired entry is a miss, and storing its key again is an
    insertion, not an update. ``evicted_size`` is what the evicted entries counted, ``rejected``
    the values refused because they are larger than ``maxsize``, ``readmitted`` the insertions of
    keys that the cache had evicted and still remembered: evictions to regret.
    """

    STATES = frozenset({"entries", "currsize", "maxsize"})

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
class DiskStats(Counted):
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
    ``readers`` of ``max_readers`` slots are taken. ``compression`` is what the `Compression`
    given counted.
    """

    STATES = frozenset(
        {
            "entries",
            "live_bytes",
            "used_bytes",
            "max_bytes",
            "allocated_bytes",
            "file_bytes",
            "map_bytes",
            "readers",
            "max_readers",
        }
    )

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
    compression: CompressionStats | None

    @property
    def free_bytes(self) -> int:
        """Bytes of pages inside the file that hold nothing and will be used again."""
        return max(0, self.allocated_bytes - self.used_bytes)

    @property
    def headroom_bytes(self) -> int:
        """Bytes by which the pages ever used can grow before the map is full."""
        return max(0, self.map_bytes - self.allocated_bytes)

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
class OriginStats(Counted):
    """What a hybrid cache counted about its origin, and about failures it covered.

    A load is an answer of any kind for one key; ``not_modified`` and ``not_found`` are among them.
    ``refreshes`` are loads in the background before an entry expired, ``soft_timeouts`` those that
    went on while the stale copy was served, ``throttled`` those that were not tried because one had
    failed just before, ``negative_hits`` those not tried because the key was known to be missing.
    ``promoted`` are entries that went from disk to memory, ``spilled`` those that memory evicted
    and offered to the disk. ``loaded_elsewhere`` were found on disk while another process had the
    lease to load them.
    """

    loads: int
    not_modified: int
    not_found: int
    errors: int
    stale_served: int
    stores: int
    deletes: int
    disk_errors: int
    refreshes: int
    soft_timeouts: int
    throttled: int
    negative_hits: int
    promoted: int
    spilled: int
    loaded_elsewhere: int


@dataclass(frozen=True, slots=True)
class LevelStats(Counted):
    """Writes of one level that wait or are under way, their bytes, and the age of the next in s."""

    STATES = frozenset({"items", "bytes", "oldest"})

    items: int
    bytes: int
    oldest: float


@dataclass(frozen=True, slots=True)
class DurableQueueStats(Counted):
    """What one `WriteQueue` counted since it was made, and what its directory holds.

    Of the directory: ``levels`` by name, ``running`` claimed by somebody, ``delayed`` until a time
    to come, ``dead`` letters. ``buffered`` are on their way to the next commit of this process.

    Of this object: writes ``queued``, ``coalesced`` with a newer one, ``written`` to the target in
    ``batches`` and ``attempts``, tried again (``retries``) and ``died``; ``lost_leases`` ended when
    somebody else had taken the write back, ``taken_back`` are claims of others that had ended.
    ``queued_per_second`` and ``written_per_second`` are of the last minute, ``until_durable`` and
    ``until_applied`` how long it took from `put` until a write was stored, and until its target
    had it: that of the first of those that it replaced.
    """

    STATES = frozenset(
        {
            "levels",
            "buffered",
            "running",
            "delayed",
            "dead",
            "dead_bytes",
            "queued_per_second",
            "written_per_second",
        }
    )

    levels: Mapping[str, LevelStats]
    buffered: int
    running: int
    delayed: int
    dead: int
    dead_bytes: int
    queued: int
    coalesced: int
    written: int
    attempts: int
    retries: int
    died: int
    lost_leases: int
    taken_back: int
    rejected: int
    shed: int
    batches: int
    commits: int
    queued_per_second: float
    written_per_second: float
    until_durable: Distribution
    until_applied: Distribution
    compression: CompressionStats | None

    @property
    def depth(self) -> int:
        """Writes that wait or are under way."""
        return self.buffered + sum(level.items for level in self.levels.values())

    @property
    def success_rate(self) -> float:
        """Share of the attempts that brought a write to the target; 1 before the first."""
        return self.written / self.attempts if self.attempts else 1.0

    @property
    def bytes(self) -> int:
        """Bytes of those that are stored."""
        return sum(level.bytes for level in self.levels.values())

    @property
    def oldest(self) -> float:
        """Seconds that the oldest ready write waits."""
        return max((level.oldest for level in self.levels.values()), default=0.0)


@dataclass(frozen=True, slots=True)
class OriginUsage(Counted):
    """What an origin counted of its own traffic, retries included.

    ``errors`` are the failed ``calls`` by the class of their error, ``seconds`` the time spent in
    calls. ``quota_used`` are the units that calls cost, ``quota_left`` what the origin said last
    is left of them and ``quota_resets_at`` when they are filled again, in seconds since the epoch;
    None where an origin has no quota. ``parts`` has the same of each origin that it is made of.
    """

    STATES = frozenset({"quota_left", "quota_resets_at"})

    calls: int
    not_modified: int
    errors: Mapping[str, int]
    seconds: float
    bytes_in: int
    bytes_out: int
    quota_used: float
    quota_left: float | None
    quota_resets_at: float | None
    parts: Mapping[str, OriginUsage] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CompressorStats(Counted):
    """What became of the payloads that were given to one compressor.

    ``kept`` are stored compressed, ``not_worth_it`` as they are because too little was saved,
    ``unpromising`` as well because a sample said so. The bytes are those of the kept ones.
    """

    kept: int
    not_worth_it: int
    unpromising: int
    raw_bytes: int
    stored_bytes: int

    @property
    def tried(self) -> int:
        """Payloads it was tried on."""
        return self.kept + self.not_worth_it + self.unpromising

    @property
    def ratio(self) -> float:
        """Raw bytes per stored byte; 1 before the first is kept."""
        return self.raw_bytes / self.stored_bytes if self.stored_bytes else 1.0


@dataclass(frozen=True, slots=True)
class CompressionStats(Counted):
    """What a `Compression` counted: each compressor, and the payloads that none was tried on.

    Each payload counts once: in one of the compressors, or as the reason why it was skipped.
    """

    zstd: CompressorStats
    lz4: CompressorStats
    too_small: int
    too_large: int
    arrays: int
    compressed_already: int

    @property
    def ratio(self) -> float:
        """Raw bytes per stored byte of what was kept compressed; 1 before the first."""
        stored = self.zstd.stored_bytes + self.lz4.stored_bytes
        return (self.zstd.raw_bytes + self.lz4.raw_bytes) / stored if stored else 1.0

    @property
    def skipped(self) -> int:
        """Payloads that no compressor was tried on."""
        return self.too_small + self.too_large + self.arrays + self.compressed_already


@dataclass(frozen=True, slots=True)
class BreakerStats(Counted):
    """What a circuit breaker counted since it was made.

    ``state`` and ``retry_after`` (seconds until a call is let through) are of now. ``failures``
    are the calls that failed in any state, ``rejected`` those not let through, ``opened`` the times
    it opened, ``late`` the calls that ended after they had been given up.
    """

    STATES = frozenset({"state", "retry_after"})

    state: str
    retry_after: float
    failures: int
    rejected: int
    opened: int
    late: int


@dataclass(frozen=True, slots=True)
class GuardStats(Counted):
    """What a guard counted since it was made.

    ``running``, ``waiting`` and ``left_behind`` are of now: calls that have a place in the
    bulkhead, that wait for one, and that run on though they were given up. ``waited`` and
    ``refused`` tell how many had to wait and how many got no place; ``retries`` counts the tries
    beyond the first, ``timeouts`` the loads that reached the hard timeout.
    """

    STATES = frozenset({"running", "waiting", "left_behind"})

    breaker: BreakerStats | None
    running: int
    waiting: int
    waited: int
    refused: int
    retries: int
    timeouts: int
    left_behind: int


@dataclass(frozen=True, slots=True)
class EventStats(Counted):
    """What an event bus counted since it was made.

    An event is delivered when every listener was told, ``failed`` are the listeners that raised
    meanwhile. ``dropped`` are the events that found the queue full. ``waiting`` and ``listeners``
    are of now.
    """

    STATES = frozenset({"waiting", "listeners"})

    delivered: int
    dropped: int
    failed: int
    waiting: int
    listeners: int


@dataclass(frozen=True, slots=True)
class WriteQueueStats(Counted):
    """What a write-behind queue counted since it was made.

    A write that replaces one of the same key that waits is ``coalesced``; the others end as
    ``written`` or ``dropped``, the latter after the last try or for lack of time at close.
    ``batches`` are the calls of the origin that wrote several keys at once, ``retries`` the tries
    beyond the first, ``rejected`` the writes that found the queue full. ``waiting``, ``running``
    and ``oldest`` (age in seconds of the one that waits longest) are of now.
    """

    STATES = frozenset({"waiting", "running", "oldest"})

    queued: int
    coalesced: int
    written: int
    batches: int
    retries: int
    dropped: int
    rejected: int
    waiting: int
    running: int
    oldest: float


@dataclass(frozen=True, slots=True)
class StrategyStats:
    """What one warming strategy did since it began.

    Of the entries ``warmed``, ``hits`` were asked for before they expired and ``wasted`` were not;
    ``waiting`` are of now. ``promoted`` came from disk, ``failed`` did not come. ``calls``,
    ``bytes`` and ``quota`` are what the origin was asked for, ``not_modified`` among the keys.
    ``seconds`` is the time that warming took, ``saved`` the waiting that hits spared. ``declined``
    were not worth their price, ``unaffordable`` exceeded the budget. ``is_on`` tells whether it
    warms now.
    """

    warmed: int = 0
    hits: int = 0
    wasted: int = 0
    waiting: int = 0
    promoted: int = 0
    failed: int = 0
    calls: int = 0
    not_modified: int = 0
    bytes: int = 0
    quota: float = 0.0
    seconds: float = 0.0
    saved: float = 0.0
    declined: int = 0
    unaffordable: int = 0
    is_on: bool = True

    @property
    def hit_rate(self) -> float:
        """Hits per warmed entry whose fate is known; 0 before the first."""
        known = self.hits + self.wasted
        return self.hits / known if known else 0.0


@dataclass(frozen=True, slots=True)
class BudgetStats:
    """What is left of a warming budget now, None where it has no bound, and what was spent."""

    calls_left: float | None
    bytes_left: float | None
    cost_left: float | None
    overhead_left: float | None
    calls: int
    bytes: int
    cost: float


@dataclass(frozen=True, slots=True)
class WarmingStats:
    """What warming did, by strategy, and what is left of its budget.

    ``backing_off`` are the seconds until warming goes on after failures, ``dropped`` the wishes
    that found too many others waiting. ``is_ready``: what is required at the start is warm.
    """

    strategies: Mapping[str, StrategyStats]
    budget: BudgetStats
    waiting: int
    backing_off: float
    dropped: int
    is_ready: bool = True
