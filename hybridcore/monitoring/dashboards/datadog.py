"""Dashboards and monitors as JSON that Datadog imports, over what `DogStatsdSink` sends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from hybridcore.monitoring.signals import (
    Deviation,
    Drift,
    Gauge,
    Increase,
    Otherwise,
    Product,
    Share,
    Signal,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hybridcore.monitoring.dashboards.panels import Dashboard, Line, Panel, Row
    from hybridcore.monitoring.rules import Rule

_UNITS = {"s": "second", "bytes": "byte", "Bps": "byte", "percentunit": "fraction"}
_PAST = "4h"
"""What Datadog looks at to tell whether something is unusual."""


def dashboard(told: Dashboard) -> dict[str, Any] | None:
    """A dashboard with the variable ``cache``; None if Datadog can be asked nothing of it."""
    rows = [group for row in told.rows if (group := _group(row)) is not None]
    if not rows:
        return None
    return {
        "title": told.title,
        "description": told.description,
        "layout_type": "ordered",
        "template_variables": [
            {"name": "cache", "prefix": "cache", "available_values": [], "defaults": ["*"]}
        ],
        "widgets": rows,
    }


def _group(row: Row) -> dict[str, Any] | None:
    inside = [{"definition": _widget(panel)} for panel in row.panels if not panel.only_prometheus]
    if not inside:
        return None
    return {
        "definition": {
            "type": "group",
            "layout_type": "ordered",
            "title": row.title,
            "widgets": inside,
        }
    }


def _widget(panel: Panel) -> dict[str, Any]:
    is_stat = panel.kind == "stat"
    queries: list[str] = []
    formulas = [_formula(panel, line, queries) for line in panel.lines]
    more = {"aggregator": "last"} if is_stat else {}
    asked = [
        {"name": f"query{number}", "data_source": "metrics", "query": query, **more}
        for number, query in enumerate(queries, 1)
    ]
    request: dict[str, Any] = {
        "response_format": "scalar" if is_stat else "timeseries",
        "queries": asked,
        "formulas": formulas,
    }
    if is_stat:
        request["conditional_formats"] = _colors(panel)
        return {
            "type": "query_value",
            "title": panel.title,
            "autoscale": True,
            "precision": 2,
            "requests": [request],
        }
    request["display_type"] = "area" if panel.stacked else "line"
    return {
        "type": "timeseries",
        "title": panel.title,
        "show_legend": True,
        "legend_layout": "auto",
        "yaxis": {"min": "0"},
        "requests": [request],
    }


def _formula(panel: Panel, line: Line, queries: list[str]) -> dict[str, Any]:
    formula: dict[str, Any] = {"formula": line.of.datadog(queries)}
    if line.called and "{" not in line.called:
        formula["alias"] = line.called
    if panel.unit in _UNITS:
        unit = {"type": "canonical_unit", "unit_name": _UNITS[panel.unit]}
        if panel.unit == "Bps":
            unit["per_unit_name"] = "second"
        formula["number_format"] = {"unit": unit}
    return formula


def _colors(panel: Panel) -> list[dict[str, Any]]:
    warn, bad = panel.warn, panel.bad
    if warn is None or bad is None:
        return []
    sign = "<" if bad < warn else ">="
    return [
        {"comparator": sign, "value": bad, "palette": "white_on_red"},
        {"comparator": sign, "value": warn, "palette": "white_on_yellow"},
    ]


# -- monitors -----------------------------------------------------------------------------------


def monitor(rule: Rule) -> dict[str, Any] | None:
    """A monitor of an alert rule; None of one that Datadog cannot be asked."""
    signal = _unusual(rule.signal)
    if rule.above is not None:
        sign, bound = ">", rule.above
    else:
        assert rule.below is not None
        sign, bound = "<", rule.below
    options: dict[str, Any] = {
        "include_tags": True,
        "notify_no_data": False,
        "require_full_window": False,
    }
    if isinstance(signal, Deviation):
        inner = _asked(signal.signal)
        if inner is None:
            return None
        way = "above" if sign == ">" else "below"
        told = f"anomalies({inner[1]}, 'robust', 4, direction='{way}')"
        query, bound, sign = f"avg(last_{_PAST}):{told}", 1.0, ">="
        options["threshold_windows"] = {
            "trigger_window": "last_15m",
            "recovery_window": "last_15m",
        }
        options["thresholds"] = {"critical": 1.0, "critical_recovery": 0.0}
    else:
        asked = _asked(signal)
        if asked is None:
            return None
        how, told = asked
        query = f"{how}:{told}"
        options["thresholds"] = {"critical": bound}
        if rule.clear is not None:
            options["thresholds"]["critical_recovery"] = rule.clear
    return {
        "name": f"hybridcore: {rule.summary}",
        "type": "query alert",
        "query": f"{query} {sign} {bound:g}",
        "message": f"{rule.summary} {{{{cache.name}}}}\n\nWhat to do: {rule.runbook}",
        "tags": ["hybridcore", f"rule:{rule.name}", f"severity:{rule.severity}"],
        "priority": 1 if rule.severity == "page" else 3,
        "options": options,
    }


def _unusual(signal: Signal) -> Signal:
    """What Datadog is to find unusual by itself, where a signal is made of deviations."""
    if isinstance(signal, Drift):
        return _unusual(signal.deviation)
    if isinstance(signal, Otherwise):
        return _unusual(signal.one)
    if isinstance(signal, Share) and isinstance(signal.whole, Product):
        return Deviation(signal.part)
    return signal


def _asked(signal: Signal) -> tuple[str, str] | None:
    """How a signal is put together over time, and what it is made of."""
    if isinstance(signal, Increase):
        counted = f"sum:{_metric(signal.name, signal.where)} by {{cache}}.as_count()"
        return f"sum(last_{_span(signal.window)})", counted
    if isinstance(signal, Gauge):
        return "max(last_5m)", f"max:{_metric(signal.name, signal.where)} by {{cache}}"
    if isinstance(signal, Share) and not signal.rest:
        part, whole = _asked(signal.part), _asked(signal.whole)
        if part is None or whole is None or part[0] != whole[0]:
            return None
        return part[0], f"{part[1]} / {whole[1]}"
    return None


def _span(window: float) -> str:
    """A window that Datadog knows: minutes, not fewer than five of gauges that come every 10 s."""
    return f"{max(5, round(window / 60))}m"


def _metric(name: str, where: Mapping[str, str]) -> str:
    chosen = " AND ".join(_chosen(label, value) for label, value in sorted(where.items())) or "*"
    if "|" not in "".join(where.values()):
        chosen = chosen.replace(" AND ", ",")
    return f"{name.replace('_', '.', 1)}{{{chosen}}}"


def _chosen(label: str, value: str) -> str:
    if "|" not in value:
        return f"{label}:{_tag(value)}"
    return f"{label} IN ({','.join(map(_tag, value.split('|')))})"


def _tag(value: str) -> str:
    return re.sub(r"[^\w.:/-]", "_", value).lower()
