"""What is loaded ahead of readers, and whether it paid."""

from __future__ import annotations

from hybridcore.monitoring.dashboards.expressions import Level, Rate, Ratio, requests
from hybridcore.monitoring.dashboards.panels import Dashboard, Line, Panel, Row, one

WARMING = Dashboard(
    "warming",
    "hybridcore: warming and its cost",
    "What is loaded ahead of readers, and whether it paid.",
    (
        Row(
            "Ledger",
            (
                Panel(
                    "Warmed",
                    "Entries warmed, by strategy.",
                    one(Rate("warming_warmed_total", ("strategy",)), "{strategy}"),
                    "ops",
                    stacked=True,
                ),
                Panel(
                    "Warmed and asked for",
                    "Share of warmed entries that readers asked for in time.",
                    one(
                        Ratio(
                            Rate("warming_settled_total", ("strategy",), {"result": "hit"}),
                            Rate("warming_settled_total", ("strategy",)),
                        ),
                        "{strategy}",
                    ),
                    "percentunit",
                    top=1,
                ),
                Panel(
                    "Waiting spared",
                    "Seconds in a second that readers did not wait, and those that warming took.",
                    (
                        Line(Rate("warming_saved_seconds_total"), "spared"),
                        Line(Rate("warming_seconds_total"), "taken"),
                    ),
                    "s",
                ),
            ),
        ),
        Row(
            "Cost",
            (
                Panel(
                    "Calls",
                    "Calls of the origin: for readers and others, and to warm.",
                    (
                        Line(requests(tier="origin"), "all"),
                        Line(Rate("warming_calls_total", ("strategy",)), "{strategy}"),
                    ),
                    "ops",
                ),
                Panel(
                    "Quota",
                    "Units of the origin's quota spent to warm.",
                    one(Rate("warming_quota_total", ("strategy",)), "{strategy}"),
                    "ops",
                ),
                Panel(
                    "Refused",
                    "Entries that were not worth it, or exceeded the budget.",
                    one(Rate("warming_refused_total", ("cause",)), "{cause}"),
                    "ops",
                ),
                Panel(
                    "Budget left",
                    "What may be spent still, where there is a bound.",
                    one(Level("warming_budget_left", ("unit",), how="min"), "{unit}"),
                ),
                Panel(
                    "Strategies that warm",
                    "1 if a strategy pays; one that does not is switched off until it would.",
                    one(Level("warming_on", ("strategy",)), "{strategy}"),
                    top=1,
                ),
                Panel(
                    "Bytes",
                    "Loaded to warm.",
                    one(Rate("warming_bytes_total", ("strategy",)), "{strategy}"),
                    "Bps",
                ),
            ),
        ),
    ),
)
