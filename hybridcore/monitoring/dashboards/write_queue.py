"""Writes on their way to the origin."""

from __future__ import annotations

from hybridcore.monitoring.dashboards.expressions import Level, Rate, Ratio
from hybridcore.monitoring.dashboards.panels import Dashboard, Panel, Row, durations, one

WRITE_QUEUE = Dashboard(
    "write-queue",
    "hybridcore: write queue",
    "Writes on their way to the origin.",
    (
        Row(
            "Now",
            (
                Panel(
                    "Writes that wait",
                    "In all caches and levels.",
                    one(Level("queue_waiting", how="sum")),
                    "short",
                    "stat",
                    warn=1_000,
                    bad=10_000,
                ),
                Panel(
                    "Oldest",
                    "How long the oldest write has been waiting.",
                    one(Level("queue_oldest_seconds")),
                    "s",
                    "stat",
                    warn=30,
                    bad=60,
                ),
                Panel(
                    "Dead letters",
                    "Writes that were given up and wait for somebody: hybridcore dlq list DIR.",
                    one(Level("queue_dead_letters")),
                    "short",
                    "stat",
                    warn=1,
                    bad=1,
                ),
            ),
        ),
        Row(
            "Over time",
            (
                Panel(
                    "Writes that wait",
                    "By level.",
                    one(Level("queue_waiting", ("level",)), "{level}"),
                    stacked=True,
                ),
                Panel(
                    "Bytes that wait",
                    "By level.",
                    one(Level("queue_bytes", ("level",)), "{level}"),
                    "bytes",
                    stacked=True,
                ),
                Panel(
                    "Oldest",
                    "By cache.",
                    one(Level("queue_oldest_seconds", ("cache",)), "{cache}"),
                    "s",
                ),
                Panel(
                    "Writes",
                    "What became of writes.",
                    one(Rate("queue_writes_total", ("result",)), "{result}"),
                    "ops",
                ),
                Panel(
                    "Given up",
                    "Share of writes that became dead letters.",
                    one(
                        Ratio(
                            Rate("queue_writes_total", (), {"result": "died"}),
                            Rate("queue_writes_total", (), {"result": ("written", "died")}),
                        )
                    ),
                    "percentunit",
                    top=1,
                ),
                Panel(
                    "How long the origin takes",
                    "Writes to the origin, batches as one.",
                    durations("queue", "put"),
                    "s",
                ),
            ),
        ),
    ),
)
