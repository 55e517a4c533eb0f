"""Whether the caches work, and what they spare."""

from __future__ import annotations

from hybridcore.monitoring.dashboards.expressions import (
    Level,
    Quantile,
    Rate,
    Ratio,
    requests,
    share_of_hits,
)
from hybridcore.monitoring.dashboards.panels import Dashboard, Line, Panel, Row, durations, one

_HIT_RATIO = Panel(
    "Hit ratio of memory",
    "Share of lookups that memory answered.",
    one(share_of_hits("memory")),
    "percentunit",
    "stat",
    warn=0.7,
    bad=0.4,
    top=1,
)
_ERRORS = Panel(
    "Loads that fail",
    "Share of the loads of the origin that end in an error.",
    one(Ratio(requests(tier="origin", result="error"), requests(tier="origin"))),
    "percentunit",
    "stat",
    warn=0.01,
    bad=0.1,
    top=1,
)

OVERVIEW = Dashboard(
    "overview",
    "hybridcore: overview",
    "Whether the caches work, and what they spare.",
    (
        Row(
            "Now",
            (
                _HIT_RATIO,
                Panel(
                    "Lookups",
                    "Lookups of all caches in a second.",
                    one(requests(tier="memory")),
                    "ops",
                    "stat",
                ),
                Panel(
                    "Lookups without the origin",
                    "Share of lookups that memory and disk answered.",
                    one(
                        Ratio(
                            requests(tier=("memory", "disk"), result="hit"),
                            requests(tier="memory"),
                        )
                    ),
                    "percentunit",
                    "stat",
                    warn=0.8,
                    bad=0.5,
                    top=1,
                ),
                Panel(
                    "99 % of misses within",
                    "How long a lookup took that memory could not answer, tiers and origin in all.",
                    one(Quantile(0.99, (), {"tier": "all"})),
                    "s",
                    "stat",
                    warn=0.5,
                    bad=2.5,
                ),
                _ERRORS,
                Panel(
                    "Breakers open",
                    "Origins that are not asked as they failed too often.",
                    one(Level("breaker_state", (), {"state": "open"}, "sum")),
                    "short",
                    "stat",
                    warn=0.5,
                    bad=0.5,
                ),
            ),
        ),
        Row(
            "Traffic",
            (
                Panel(
                    "Lookups by tier",
                    "Lookups that came to each tier, and what became of them.",
                    one(requests("tier", "result"), "{tier} {result}"),
                    "ops",
                    stacked=True,
                ),
                Panel(
                    "Hit ratio by tier",
                    "Share of the lookups of a tier that it answered with a fresh copy.",
                    (
                        Line(share_of_hits("memory"), "memory"),
                        Line(share_of_hits("disk"), "disk"),
                    ),
                    "percentunit",
                    top=1,
                ),
                Panel(
                    "How long lookups take",
                    "Of lookups that memory could not answer, whoever did.",
                    durations("all"),
                    "s",
                ),
                Panel(
                    "Errors",
                    "What went wrong, by class.",
                    one(Rate("errors_total", ("class",)), "{class}"),
                    "ops",
                ),
                Panel(
                    "Stale copies served",
                    "Lookups answered with a copy past its ttl, such as while the origin fails.",
                    one(Rate("stale_served_total", ("cache",)), "{cache}"),
                    "ops",
                ),
                Panel(
                    "Bytes handed out",
                    "Values by the tier that had them, where their sizes are known.",
                    one(Rate("served_bytes_total", ("tier",)), "{tier}"),
                    "Bps",
                    stacked=True,
                ),
            ),
        ),
    ),
)
