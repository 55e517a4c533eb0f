"""Dashboards as JSON that Grafana imports, of version 10 and later."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybridcore.monitoring.dashboards.panels import Dashboard, Line, Panel, Row

_SCHEMA = 39
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH = 24
_HEIGHTS = {"stat": 4, "timeseries": 8}
_GREEN, _YELLOW, _RED = "green", "yellow", "red"


def dashboard(told: Dashboard) -> dict[str, Any]:
    """A dashboard with the variables ``datasource``, ``job`` and ``cache``."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row in told.rows:
        top = _add(panels, row, top)
    return {
        "uid": f"hybridcore-{told.name}",
        "title": told.title,
        "description": told.description,
        "tags": ["hybridcore"],
        "schemaVersion": _SCHEMA,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "links": [_others()],
        "templating": {"list": list(_variables(has_objective=told.has_objective))},
        "panels": panels,
    }


def _add(panels: list[dict[str, Any]], row: Row, top: int) -> int:
    """Add a row below what there is; returns where the next one begins."""
    number = len(panels) + 1
    panels.append(
        {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"h": 1, "w": _WIDTH, "x": 0, "y": top},
            "panels": [],
        }
    )
    top += 1
    a_line = 6 if all(panel.kind == "stat" for panel in row.panels) else 3
    across = min(len(row.panels), a_line)
    width = _WIDTH // across
    for begin in range(0, len(row.panels), across):
        beside = row.panels[begin : begin + across]
        height = max(_HEIGHTS[panel.kind] for panel in beside)
        for place, panel in enumerate(beside):
            number += 1
            at = {"h": height, "w": width, "x": place * width, "y": top}
            panels.append(_panel(panel, number, at))
        top += height
    return top


def _panel(panel: Panel, number: int, at: dict[str, int]) -> dict[str, Any]:
    is_stat = panel.kind == "stat"
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": at,
        "targets": [_target(line, place, is_stat) for place, line in enumerate(panel.lines)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _STAT if is_stat else _TIMESERIES,
    }


def _target(line: Line, place: int, is_stat: bool) -> dict[str, Any]:
    return {
        "refId": chr(ord("A") + place),
        "datasource": _SOURCE,
        "expr": line.of.promql(),
        "legendFormat": re.sub(r"\{(\w+)\}", r"{{\1}}", line.called) or "__auto",
        "instant": is_stat,
        "range": not is_stat,
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    is_stat = panel.kind == "stat"
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "color": {"mode": "thresholds" if is_stat else "palette-classic"},
        "thresholds": {"mode": "absolute", "steps": _steps(panel)},
        "custom": {} if is_stat else _drawn(panel),
    }
    if panel.top is not None:
        defaults["max"] = panel.top
    return defaults


def _steps(panel: Panel) -> list[dict[str, Any]]:
    warn, bad = panel.warn, panel.bad
    if warn is None or bad is None:
        return [{"color": _GREEN, "value": None}]
    if bad < warn:  # the less, the worse
        colors = ((_RED, None), (_YELLOW, bad), (_GREEN, warn))
    else:
        colors = ((_GREEN, None), (_YELLOW, warn), (_RED, bad))
    return [{"color": color, "value": value} for color, value in colors]


def _drawn(panel: Panel) -> dict[str, Any]:
    return {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 25 if panel.stacked else 5,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if panel.stacked else "none"},
        "thresholdsStyle": {"mode": "off" if panel.bad is None else "dashed"},
    }


_TIMESERIES: dict[str, Any] = {
    "legend": {
        "displayMode": "list",
        "placement": "bottom",
        "showLegend": True,
        "calcs": ["lastNotNull"],
    },
    "tooltip": {"mode": "multi", "sort": "desc"},
}
_STAT: dict[str, Any] = {
    "colorMode": "value",
    "graphMode": "none",
    "justifyMode": "auto",
    "textMode": "auto",
    "orientation": "auto",
    "wideLayout": True,
    "showPercentChange": False,
    "percentChangeColorMode": "standard",
    "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
}


def _others() -> dict[str, Any]:
    return {
        "type": "dashboards",
        "title": "hybridcore",
        "tags": ["hybridcore"],
        "asDropdown": True,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "tooltip": "The other dashboards",
    }


def _variables(*, has_objective: bool) -> list[dict[str, Any]]:
    variables: list[dict[str, Any]] = [
        {
            "type": "datasource",
            "name": "datasource",
            "label": "Data source",
            "query": "prometheus",
            "refresh": 1,
        }
    ]
    for name, narrowed in (("job", ""), ("cache", '{job=~"$job"}')):
        asked = f"label_values(hybridcore_uptime_seconds{narrowed}, {name})"
        variables.append(
            {
                "type": "query",
                "name": name,
                "label": name.capitalize(),
                "datasource": _SOURCE,
                "query": {"query": asked, "refId": name},
                "refresh": 2,
                "sort": 1,
                "multi": True,
                "includeAll": True,
                "allValue": ".+",
                "current": {"text": "All", "value": "$__all"},
            }
        )
    if has_objective:
        shares = ("0.9", "0.99", "0.999", "0.9999")
        variables.append(
            {
                "type": "custom",
                "name": "objective",
                "label": "Objective",
                "query": ",".join(shares),
                "options": [
                    {"text": share, "value": share, "selected": share == "0.99"} for share in shares
                ],
                "current": {"text": "0.99", "value": "0.99"},
            }
        )
    return variables
