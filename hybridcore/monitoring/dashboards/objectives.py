"""Error budgets, and how fast they burn."""

from __future__ import annotations

from hybridcore.monitoring.dashboards.expressions import Burn
from hybridcore.monitoring.dashboards.panels import Dashboard, Line, Panel, Row


def _burns(title: str, description: str, bad: str = "", within: str = "") -> Panel:
    lines = tuple(Line(Burn(window, bad, within), window) for window in ("5m", "1h", "6h", "3d"))
    return Panel(title, description, lines, warn=1.0, bad=14.4, only_prometheus=True)


def _left(title: str, description: str, bad: str = "", within: str = "") -> Panel:
    line = Line(Burn("3d", bad, within), "spent")
    return Panel(
        title, description, (line,), "percentunit", "stat", 0.75, 1.0, only_prometheus=True
    )


OBJECTIVES = Dashboard(
    "slo",
    "hybridcore: objectives",
    "Error budgets of lookups that memory could not answer, and how fast they burn.",
    (
        Row(
            "Budget of three days, spent",
            (
                _left("Availability", "Lookups that ended in an error.", bad="error"),
                _left("Latency", "Lookups that took longer than 50 ms.", within="0.05"),
                _left("Freshness", "Lookups that were answered with a stale copy.", bad="stale"),
            ),
        ),
        Row(
            "Burn rates",
            (
                _burns("Availability", "1: just what the objective allows.", bad="error"),
                _burns("Latency", "1: just what the objective allows.", within="0.05"),
                _burns("Freshness", "1: just what the objective allows.", bad="stale"),
            ),
        ),
    ),
    has_objective=True,
)
