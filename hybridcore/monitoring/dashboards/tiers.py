"""Memory, disk and origin, each by itself."""

from __future__ import annotations

from hybridcore.monitoring.dashboards.expressions import Level, Rate, Ratio, requests
from hybridcore.monitoring.dashboards.panels import Dashboard, Line, Panel, Row, durations, one

TIERS = Dashboard(
    "tiers",
    "hybridcore: tiers",
    "Memory, disk and origin, each by itself.",
    (
        Row(
            "Memory",
            (
                Panel(
                    "Entries",
                    "Entries in the memory of all processes.",
                    one(Level("memory_entries", ("cache",), how="sum"), "{cache}"),
                ),
                Panel(
                    "Full",
                    "What entries count, in entries or bytes, of what they may.",
                    one(
                        Ratio(
                            Level("memory_size", ("cache",), how="sum"),
                            Level("memory_maxsize", ("cache",), how="sum"),
                        ),
                        "{cache}",
                    ),
                    "percentunit",
                    top=1,
                ),
                Panel(
                    "Bytes",
                    "Estimated size of keys and values, and of the table.",
                    one(Level("memory_bytes", ("part",), how="sum"), "{part}"),
                    "bytes",
                    stacked=True,
                ),
                Panel(
                    "Evictions",
                    "Entries that left memory, by cause.",
                    one(Rate("evictions_total", ("cause",), {"tier": "memory"}), "{cause}"),
                    "ops",
                ),
                Panel(
                    "Not taken",
                    "Values that memory or disk did not take, by cause.",
                    one(Rate("rejected_total", ("tier", "cause")), "{tier} {cause}"),
                    "ops",
                ),
                Panel(
                    "Fragmentation",
                    "Share of what is allocated that holds no entry.",
                    one(Level("fragmentation_ratio", ("tier",)), "{tier}"),
                    "percentunit",
                    top=1,
                ),
            ),
        ),
        Row(
            "Disk",
            (
                Panel(
                    "Bytes",
                    "The file, its pages in use, and the records in them.",
                    (
                        Line(Level("disk_bytes", ("part",)), "{part}"),
                        Line(Level("disk_max_bytes"), "bound"),
                    ),
                    "bytes",
                ),
                Panel("How long lookups take", "Lookups on disk.", durations("disk"), "s"),
                Panel(
                    "Evictions",
                    "Entries that left the disk, by cause.",
                    one(Rate("evictions_total", ("cause",), {"tier": "disk"}), "{cause}"),
                    "ops",
                ),
                Panel(
                    "Written",
                    "Bytes of records written.",
                    one(Rate("disk_written_bytes_total", ("cache",)), "{cache}"),
                    "Bps",
                ),
                Panel(
                    "Promoted and spilled",
                    "Entries copied from disk to memory, and evicted ones offered to the disk.",
                    (
                        Line(Rate("promoted_total"), "promoted"),
                        Line(Rate("spilled_total"), "spilled"),
                    ),
                    "ops",
                ),
                Panel(
                    "Damaged records",
                    "Records that could not be read back; they count as misses.",
                    one(Rate("disk_damaged_total", ("cache",)), "{cache}"),
                    "ops",
                ),
            ),
        ),
        Row(
            "Origin",
            (
                Panel(
                    "Answers",
                    "Loads by what the origin answered.",
                    one(requests("result", tier="origin"), "{result}"),
                    "ops",
                    stacked=True,
                ),
                Panel(
                    "How long loads take",
                    "Loads of the origin.",
                    durations("origin", "load"),
                    "s",
                ),
                Panel(
                    "Not modified",
                    "Share of loads that the origin answered with not modified.",
                    one(
                        Ratio(
                            requests(tier="origin", result="not_modified"),
                            requests(tier="origin"),
                        )
                    ),
                    "percentunit",
                    top=1,
                ),
                Panel(
                    "Breaker",
                    "Caches whose breaker is in each state.",
                    one(Level("breaker_state", ("state",), how="sum"), "{state}"),
                ),
                Panel(
                    "Patience",
                    "Loads tried again, given up for time, and refused a place.",
                    (
                        Line(Rate("retries_total"), "tried again"),
                        Line(Rate("timeouts_total"), "timed out"),
                        Line(Rate("bulkhead_refused_total"), "no place"),
                        Line(Rate("breaker_rejected_total"), "breaker open"),
                    ),
                    "ops",
                ),
                Panel(
                    "Network",
                    "Bytes from and to the origin.",
                    one(Rate("origin_bytes_total", ("direction",)), "{direction}"),
                    "Bps",
                ),
            ),
        ),
    ),
)
