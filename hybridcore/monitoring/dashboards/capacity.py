"""What is used of what there is, and when it will be used up."""

from __future__ import annotations

from hybridcore.monitoring.dashboards.expressions import Expected, Level, Rate, Ratio
from hybridcore.monitoring.dashboards.panels import Dashboard, Line, Panel, Row, one

_DAY = 86_400

CAPACITY = Dashboard(
    "capacity",
    "hybridcore: capacity",
    "What is used of what there is, and when it will be used up.",
    (
        Row(
            "Disk",
            (
                Panel(
                    "Used",
                    "Pages in use of those that may be, of the fullest directory.",
                    one(Ratio(Level("disk_bytes", (), {"part": "pages"}), Level("disk_max_bytes"))),
                    "percentunit",
                    "stat",
                    warn=0.85,
                    bad=0.97,
                    top=1,
                ),
                Panel(
                    "Growth",
                    "Bytes in use now, and in a week if it goes on as in the last six hours.",
                    (
                        Line(Level("disk_bytes", ("cache",), {"part": "pages"}), "{cache}"),
                        Line(
                            Expected(
                                Level("disk_bytes", ("cache",), {"part": "pages"}), "6h", 7 * _DAY
                            ),
                            "{cache} in a week",
                        ),
                    ),
                    "bytes",
                ),
                Panel(
                    "Evictions to make room",
                    "By tier; with a falling hit ratio they say that it is too small.",
                    one(Rate("evictions_total", ("tier",), {"cause": "size"}), "{tier}"),
                    "ops",
                ),
            ),
        ),
        Row(
            "Memory",
            (
                Panel(
                    "Bytes",
                    "Of all processes, by cache.",
                    one(Level("memory_bytes", ("cache",), how="sum"), "{cache}"),
                    "bytes",
                ),
                Panel(
                    "Growth",
                    "Entries now, and in a day if it goes on as in the last six hours.",
                    (
                        Line(Level("memory_entries", ("cache",), how="sum"), "{cache}"),
                        Line(
                            Expected(Level("memory_entries", ("cache",), how="sum"), "6h", _DAY),
                            "{cache} in a day",
                        ),
                    ),
                ),
                Panel(
                    "Work",
                    "Seconds in a second that memory and disk take for lookups and writes.",
                    one(Rate("work_seconds_total", ("cache",)), "{cache}"),
                    "s",
                ),
            ),
        ),
        Row(
            "Quota of the origin",
            (
                Panel(
                    "Left",
                    "Units that the origin says are left.",
                    one(Level("origin_quota_left", ("cache",), how="min"), "{cache}"),
                ),
                Panel(
                    "Used",
                    "Units in a second.",
                    one(Rate("origin_quota_used_total", ("cache",)), "{cache}"),
                    "ops",
                ),
                Panel(
                    "In an hour",
                    "Units left then if it goes on as in the last ten minutes.",
                    one(
                        Expected(Level("origin_quota_left", ("cache",), how="min"), "10m", 3_600),
                        "{cache}",
                    ),
                    bad=0,
                    warn=500,
                ),
            ),
        ),
    ),
)
