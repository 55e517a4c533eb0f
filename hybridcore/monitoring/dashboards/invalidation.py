"""What was invalidated, and how far behind anybody is."""

from __future__ import annotations

from hybridcore.monitoring.dashboards.expressions import Level, Rate
from hybridcore.monitoring.dashboards.panels import Dashboard, Line, Panel, Row, one

INVALIDATION = Dashboard(
    "invalidation",
    "hybridcore: invalidation",
    "What was invalidated, and how far behind anybody is.",
    (
        Row(
            "Processes",
            (
                Panel(
                    "Invalidations",
                    "Entries added to the log, and those of others that memory followed.",
                    (
                        Line(Rate("invalidations_told_total"), "told"),
                        Line(Rate("invalidations_followed_total"), "followed"),
                    ),
                    "ops",
                ),
                Panel(
                    "Behind",
                    "Entries of the log that a process has not looked at; it does with its next "
                    "lookup.",
                    one(Level("invalidations_behind", ("cache",)), "{cache}"),
                ),
                Panel(
                    "Memory emptied",
                    "Times that the log did not go back far enough.",
                    one(Rate("invalidations_missed_total", ("cache",)), "{cache}"),
                    "ops",
                ),
                Panel(
                    "Barriers",
                    "Invalidated tags that are remembered.",
                    one(Level("barriers", ("cache",)), "{cache}"),
                ),
            ),
        ),
        Row(
            "Hosts",
            (
                Panel(
                    "Messages",
                    "Messages between hosts, by what became of them.",
                    one(Rate("bus_messages_total", ("bus", "result")), "{bus} {result}"),
                    "ops",
                ),
                Panel(
                    "Waiting to be published",
                    "How long the oldest invalidation waits that other hosts were not told of.",
                    one(Level("bus_waited_seconds", ("bus",)), "{bus}"),
                    "s",
                ),
                Panel(
                    "Connected",
                    "Whether each bus answered last.",
                    one(Level("bus_connected", ("bus",), how="min"), "{bus}"),
                    top=1,
                ),
                Panel(
                    "Errors and gaps",
                    "Times that a bus failed, and that nobody knew what it had told.",
                    (
                        Line(Rate("bus_errors_total", ("bus",)), "{bus} errors"),
                        Line(Rate("bus_gaps_total", ("bus",)), "{bus} gaps"),
                    ),
                    "ops",
                ),
            ),
        ),
    ),
)
