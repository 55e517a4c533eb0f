"""Names and units: what the statistics of a cache are called outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from hybridcore.stats import DurableQueueStats

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from hybridcore._native.histogram import Distribution
    from hybridcore.stats import CoherenceStats, Expectations, WarmingStats
    from hybridcore.stats.snapshot import HybridStats

PREFIX = "hybridcore_"

BOUNDS = (1e-7, 1e-6, 5e-6, 2.5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds in seconds of the buckets of durations; a last one holds all."""

Labels = tuple[tuple[str, str], ...]

_OF_A_BUS: tuple[tuple[str, Literal["counter", "gauge"], str, str], ...] = (
    ("bus_errors_total", "counter", "errors", "Times that a bus failed."),
    ("bus_gaps_total", "counter", "gaps", "Times that nobody knew what a bus had told."),
    ("bus_connected", "gauge", "connected", "Whether a bus answered last."),
    ("bus_waiting", "gauge", "waiting", "Invalidations not published yet."),
    ("bus_lag_seconds", "gauge", "lag", "Since it answered, or by which it is late."),
    ("bus_waited_seconds", "gauge", "waited", "For how long the oldest of them waits."),
)


class Buckets(NamedTuple):
    """How many durations were at most each of `BOUNDS`, how many in all, and their sum."""

    counts: tuple[int, ...]
    sum: float


class Family(NamedTuple):
    """A metric with all its samples, by labels.

    ``merge`` tells what several processes make of a gauge: the ``"sum"``, or the ``"max"`` or
    ``"min"`` of something that they share. What is no gauge is always added up.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: dict[Labels, float | Buckets]
    merge: Literal["sum", "max", "min"] = "sum"


def families(cache: str, stats: HybridStats) -> list[Family]:
    """Everything that a snapshot tells, with the label ``cache``."""
    return [
        family._replace(
            name=PREFIX + family.name,
            samples={
                (("cache", cache), *labels): value for labels, value in family.samples.items()
            },
        )
        for family in _families(stats)
        if family.samples
    ]


def _families(stats: HybridStats) -> Iterator[Family]:
    yield from _lookups(stats)
    yield _gauge("uptime_seconds", "Time since the cache was made.", stats.seconds, "min")
    yield from _contents(stats)
    yield from _origin(stats)
    if stats.warming is not None:
        yield from _warming(stats.warming)
    if stats.coherence is not None:
        yield from _coherence(stats.coherence)
    if stats.predictions is not None:
        yield from _predictions(stats.predictions)
    yield Family(
        "request_duration_seconds",
        "histogram",
        "How long operations took; hits of memory are a sample that stands for all.",
        {
            (
                ("tier", series.tier),
                ("operation", series.operation),
                ("result", series.outcome),
            ): _buckets(latency.total)
            for series, latency in stats.performance.series.items()
        },
    )


def _lookups(stats: HybridStats) -> Iterator[Family]:
    memory, disk, origin = stats.memory, stats.disk, stats.origin
    requests: dict[Labels, float | Buckets] = {}
    stored: dict[str, float] = {}
    evictions: dict[Labels, float | Buckets] = {}
    rejected: dict[Labels, float | Buckets] = {}
    if memory is not None:
        requests |= _by("result", {"hit": memory.hits, "miss": memory.misses}, tier="memory")
        stored["memory"] = memory.insertions + memory.updates
        evictions |= _by(
            "cause",
            {
                "size": memory.evicted,
                "expired": memory.expired,
                "explicit": memory.removed,
                "replaced": memory.replaced,
            },
            tier="memory",
        )
        rejected |= _by("cause", {"size": memory.rejected}, tier="memory")
    if disk is not None:
        found = {"hit": disk.hits, "stale": disk.stale_hits, "miss": disk.misses}
        requests |= _by("result", found, tier="disk")
        stored["disk"] = disk.puts
        gone = {
            "size": disk.evictions,
            "expired": disk.evicted_expired,
            "explicit": disk.deletes,
        }
        evictions |= _by("cause", gone, tier="disk")
        refused = {
            "first": disk.rejected_first,
            "size": disk.rejected_size,
            "rate": disk.rejected_rate,
        }
        rejected |= _by("cause", refused, tier="disk")
        yield _count("disk_written_bytes", "Bytes of records written.", disk.written_bytes)
        yield _count("disk_commits", "Transactions that wrote.", disk.commits)
        yield _count("disk_damaged", "Records that could not be read back.", disk.damaged)
    answers = {
        "hit": origin.loads - origin.not_modified - origin.not_found,
        "not_modified": origin.not_modified,
        "miss": origin.not_found,
        "error": origin.errors,
    }
    requests |= _by("result", answers, tier="origin")
    yield Family("requests_total", "counter", "Lookups that came to a tier.", requests)
    yield Family("stored_total", "counter", "Values that a tier took.", _by("tier", stored))
    yield Family("evictions_total", "counter", "Entries that left a tier.", evictions)
    yield Family("rejected_total", "counter", "Values that a tier did not take.", rejected)
    yield Family(
        "served_bytes_total",
        "counter",
        "Bytes of values handed out, estimated from some of them.",
        _by("tier", stats.served),
    )
    yield Family(
        "errors_total", "counter", "What went wrong.", _by("class", stats.performance.errors)
    )
    for name, text in (
        ("promoted", "Entries copied from disk to memory."),
        ("spilled", "Entries that memory evicted and offered to the disk."),
        ("stale_served", "Lookups answered with a copy past its ttl."),
        ("refreshes", "Loads in the background, before an entry expired."),
        ("soft_timeouts", "Loads that went on while a stale copy was served."),
        ("throttled", "Loads not tried because one had just failed."),
        ("negative_hits", "Loads not tried because the key was known to be missing."),
        ("loaded_elsewhere", "Values found on disk while another process had the lease to load."),
    ):
        yield _count(name, text, getattr(origin, name))


def _contents(stats: HybridStats) -> Iterator[Family]:
    memory, disk = stats.memory, stats.disk
    if memory is not None:
        yield _gauge("memory_entries", "Entries in memory.", memory.entries)
        yield _gauge("memory_size", "What they count, in entries or bytes.", memory.currsize)
        yield _gauge("memory_maxsize", "What they may count.", memory.maxsize)
    taken = stats.resources.memory
    yield Family("memory_bytes", "gauge", "Bytes that entries take.", _by("part", taken))
    if disk is not None:
        yield _gauge("disk_entries", "Entries on disk.", disk.entries, "max")
        yield _gauge("disk_max_bytes", "Bytes that pages in use may take.", disk.max_bytes, "max")
        yield _gauge("disk_map_bytes", "Bytes that the file can grow to.", disk.map_bytes, "max")
        yield _gauge("disk_readers", "Slots of readers that are taken.", disk.readers, "max")
        yield _gauge("disk_max_readers", "Slots of readers.", disk.max_readers, "max")
    if stats.resources.rss is not None:
        text = "Bytes of memory that the process has."
        yield _gauge("process_resident_bytes", text, stats.resources.rss)
    taken = stats.resources.disk
    yield Family("disk_bytes", "gauge", "Bytes on disk.", _by("part", taken), "max")
    yield Family(
        "fragmentation_ratio",
        "gauge",
        "Share of what is allocated that holds no entry.",
        _by("tier", stats.efficiency.fragmentation),
        "max",
    )
    work = stats.performance.of("memory").sum + stats.performance.of("disk").sum
    yield _count("work_seconds", "Time that memory and disk took for lookups and writes.", work)


def _origin(stats: HybridStats) -> Iterator[Family]:
    usage, guard, queue = stats.usage, stats.guard, stats.queue
    if usage is not None:
        both = {"in": usage.bytes_in, "out": usage.bytes_out}
        yield Family(
            "origin_bytes_total", "counter", "Bytes over the network.", _by("direction", both)
        )
        yield _count("origin_calls", "Calls of the origin, retries included.", usage.calls)
        yield _count("origin_seconds", "Time spent in these calls.", usage.seconds)
        yield _count("origin_quota_used", "Units of its quota used up.", usage.quota_used)
        if usage.quota_left is not None:
            text = "Units of its quota left."
            yield _gauge("origin_quota_left", text, usage.quota_left, "min")
        if usage.quota_resets_at is not None:
            name, text = "origin_quota_resets_timestamp_seconds", "When its quota is filled again."
            yield _gauge(name, text, usage.quota_resets_at, "max")
    if guard is not None:
        yield _count("retries", "Loads tried again.", guard.retries)
        yield _count("timeouts", "Loads that reached the hard timeout.", guard.timeouts)
        yield _count("bulkhead_refused", "Loads that got no place.", guard.refused)
        yield _gauge("bulkhead_running", "Calls that have a place.", guard.running)
        yield _gauge("bulkhead_waiting", "Calls that wait for a place.", guard.waiting)
        if guard.breaker is not None:
            breaker = guard.breaker
            states = {
                state: float(breaker.state == state) for state in ("closed", "open", "half_open")
            }
            text = "Breakers in each state."
            yield Family("breaker_state", "gauge", text, _by("state", states))
            yield _count("breaker_opened", "Times that the breaker opened.", breaker.opened)
            yield _count("breaker_rejected", "Calls not let through.", breaker.rejected)
    if isinstance(queue, DurableQueueStats):
        names = ("queued", "coalesced", "written", "died", "rejected", "shed")
        writes = {name: getattr(queue, name) for name in names}
        yield Family(
            "queue_writes_total", "counter", "Writes by what became of them.", _by("result", writes)
        )
        for name, text in (("items", "Writes that wait."), ("bytes", "Bytes of these.")):
            levels = {level: getattr(found, name) for level, found in queue.levels.items()}
            name = "waiting" if name == "items" else name
            yield Family(f"queue_{name}", "gauge", text, _by("level", levels), "max")
        yield _count("queue_attempts", "Writes given to the target.", queue.attempts)
        yield _count("queue_retries", "Writes that are to be tried again.", queue.retries)
        if queue.compression is not None:
            text = "Bytes of compressed payloads before by bytes after."
            yield _gauge("queue_compression_ratio", text, queue.compression.ratio, "min")
        times = {"durable": queue.until_durable, "applied": queue.until_applied}
        yield Family(
            "queue_duration_seconds",
            "histogram",
            "How long it took until a write was stored, and until its target had it.",
            {(("until", name),): _buckets(found) for name, found in times.items()},
        )
        yield _gauge("queue_dead_letters", "Writes that were given up.", queue.dead, "max")
        text = "Age of the write that waits longest."
        yield _gauge("queue_oldest_seconds", text, queue.oldest, "max")
    elif queue is not None:
        names = ("queued", "coalesced", "written", "dropped", "rejected")
        writes = {name: getattr(queue, name) for name in names}
        yield Family(
            "queue_writes_total", "counter", "Writes by what became of them.", _by("result", writes)
        )
        yield _gauge("queue_waiting", "Writes that wait.", queue.waiting)
        text = "Age of the write that waits longest."
        yield _gauge("queue_oldest_seconds", text, queue.oldest, "max")


def _warming(stats: WarmingStats) -> Iterator[Family]:
    books = stats.strategies
    for name, field, text in (
        ("warmed", "warmed", "Entries warmed."),
        ("failed", "failed", "Entries that could not be warmed."),
        ("calls", "calls", "Calls of the origin made to warm."),
        ("quota", "quota", "Units of the origin's quota spent to warm."),
        ("bytes", "bytes", "Bytes loaded to warm."),
        ("seconds", "seconds", "Time that warming took."),
        ("saved_seconds", "saved", "Waiting that hits of warmed entries spared."),
    ):
        values = {strategy: getattr(book, field) for strategy, book in books.items()}
        yield Family(f"warming_{name}_total", "counter", text, _by("strategy", values))
    settled: dict[Labels, float | Buckets] = {}
    refused: dict[Labels, float | Buckets] = {}
    for strategy, book in books.items():
        found = {"hit": book.hits, "wasted": book.wasted}
        settled |= _by("result", found, strategy=strategy)
        causes = {"value": book.declined, "budget": book.unaffordable}
        refused |= _by("cause", causes, strategy=strategy)
    text = "Warmed entries by what became of them."
    yield Family("warming_settled_total", "counter", text, settled)
    text = "Entries not warmed because they were not worth it, or exceeded the budget."
    yield Family("warming_refused_total", "counter", text, refused)
    on = {strategy: float(book.is_on) for strategy, book in books.items()}
    yield Family("warming_on", "gauge", "Whether a strategy warms.", _by("strategy", on), "max")
    budget = stats.budget
    left = {"calls": budget.calls_left, "bytes": budget.bytes_left, "cost": budget.cost_left}
    known = {unit: value for unit, value in left.items() if value is not None}
    yield Family("warming_budget_left", "gauge", "What may be spent still.", _by("unit", known))
    yield _gauge("warming_waiting", "Entries about to be warmed.", stats.waiting)
    yield _count("warming_dropped", "Wishes that found too many waiting.", stats.dropped)


def _predictions(stats: Expectations) -> Iterator[Family]:
    if stats.working_set is not None:
        text = "What the keys take that are asked for, in entries or bytes."
        yield _gauge("working_set", text, stats.working_set, "max")
    growth = _by("of", stats.growth_per_hour)
    yield Family("growth_per_hour", "gauge", "How much more there is after an hour.", growth, "max")
    if stats.evictions is not None:
        text = "Evictions of memory within the next hour."
        yield _gauge("predicted_evictions", text, stats.evictions)
    sizes = {tier: found.size for tier, found in stats.recommended.items()}
    ratios = {tier: found.hit_ratio for tier, found in stats.recommended.items()}
    text = "What reaches nearly the best hit ratio, in entries or bytes: 95 %, of disk 99 %."
    yield Family("recommended_size", "gauge", text, _by("tier", sizes), "max")
    text = "Hit ratio of that size."
    yield Family("recommended_hit_ratio", "gauge", text, _by("tier", ratios), "max")


def _coherence(stats: CoherenceStats) -> Iterator[Family]:
    yield _count("invalidations_told", "Entries added to the log of invalidations.", stats.told)
    text = "Entries of other processes that memory followed."
    yield _count("invalidations_followed", text, stats.followed)
    text = "Times that memory was emptied as the log did not go back far enough."
    yield _count("invalidations_missed", text, stats.missed)
    text = "Entries of the log that were not looked at yet."
    yield _gauge("invalidations_behind", text, stats.behind, "max")
    text = "Time for which this process may have missed invalidations."
    yield _gauge("coherence_lag_seconds", text, stats.lag, "max")
    yield _gauge("barriers", "Invalidated tags that are remembered.", stats.barriers, "max")
    messages: dict[Labels, float | Buckets] = {}
    for name, bus in stats.buses.items():
        of_it = {"published": bus.published, "applied": bus.applied, "duplicate": bus.duplicates}
        messages |= _by("result", of_it, bus=name)
    text = "Messages between hosts, by what became of them."
    yield Family("bus_messages_total", "counter", text, messages)
    for name, kind, field, text in _OF_A_BUS:
        values = {bus: float(getattr(found, field)) for bus, found in stats.buses.items()}
        merge: Literal["min", "max"] = "min" if field == "connected" else "max"
        yield Family(name, kind, text, _by("bus", values), merge)


def _by(label: str, values: Mapping[str, float], **more: str) -> dict[Labels, float | Buckets]:
    return {(*more.items(), (label, name)): value for name, value in values.items()}


def _count(name: str, text: str, value: float) -> Family:
    return Family(f"{name}_total", "counter", text, {(): value})


def _buckets(durations: Distribution) -> Buckets:
    return Buckets((*durations.at_most(BOUNDS), durations.count), durations.sum)


def _gauge(
    name: str, text: str, value: float, merge: Literal["sum", "max", "min"] = "sum"
) -> Family:
    return Family(name, "gauge", text, {(): value}, merge)


def merged(all_of_them: Iterable[Family]) -> list[Family]:
    """Families of one name as one, what several processes or caches told added up."""
    together: dict[str, Family] = {}
    for family in all_of_them:
        known = together.setdefault(family.name, family._replace(samples={}))
        for labels, value in family.samples.items():
            before = known.samples.get(labels)
            known.samples[labels] = value if before is None else _both(known, before, value)
    return list(together.values())


def _both(family: Family, one: float | Buckets, other: float | Buckets) -> float | Buckets:
    if isinstance(one, Buckets) or isinstance(other, Buckets):
        assert isinstance(one, Buckets)
        assert isinstance(other, Buckets)
        counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
        return Buckets(counts, one.sum + other.sum)
    if family.kind == "gauge" and family.merge != "sum":
        return max(one, other) if family.merge == "max" else min(one, other)
    return one + other
