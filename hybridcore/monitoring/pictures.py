"""Pictures of trends and curves as data URIs, drawn by matplotlib; needs the extra ``plot``."""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime, timezone
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from hybridcore.errors import ConfigurationError

if TYPE_CHECKING:
    from hybridcore.analytics import MissRatioCurve
    from hybridcore.monitoring.trends import Trend


def trend_picture(trend: Trend) -> str:
    """The course of a measure, where it goes, and what was out of the ordinary."""
    figure, axis = _figure()
    axis.plot(_times(trend.course.times), trend.course.values, lw=0.9)
    if trend.ahead is not None:
        times = _times(trend.ahead.times)
        axis.plot(times, trend.ahead.values, ls="--", lw=0.9, color="tab:orange")
        axis.fill_between(
            times, trend.ahead.lower, trend.ahead.upper, alpha=0.2, color="tab:orange", lw=0
        )
    for mark in trend.anomalies:
        begin, end = _times([mark.begin, mark.end])
        axis.axvspan(begin, end, color="tab:red", alpha=0.3)
        axis.plot([begin], [mark.value], "v", color="tab:red", ms=5)
    axis.set_title(trend.measure, loc="left", fontsize=10)
    axis.set_ylabel(trend.unit)
    axis.set_ylim(bottom=0)
    return _uri(figure)


def curve_picture(curve: MissRatioCurve, size: float) -> str:
    """The hit ratio of every size, and the size there is."""
    figure, axis = _figure()
    whole = max(curve.bytes if curve.unit == "bytes" else curve.keys, 2.0, size)
    sizes = np.geomspace(max(1.0, whole / 1e4), 2 * whole, 200)
    axis.plot(sizes, [100 * curve.hit_ratio(one) for one in sizes])
    axis.axvline(size, color="tab:gray", ls=":")
    axis.set_title(f"hit ratio by size of memory, {curve.policy}", loc="left", fontsize=10)
    axis.set(xscale="log", xlabel=curve.unit, ylabel="%", ylim=(0, 100))
    return _uri(figure)


def _figure() -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigurationError(
            "pictures need matplotlib: pip install hybridcore[plot], or report as markdown"
        ) from error
    figure = Figure(figsize=(8, 2.2), layout="constrained")
    axis = figure.subplots()
    axis.grid(alpha=0.3)
    return figure, axis


def _times(times: Any) -> list[datetime]:
    return [datetime.fromtimestamp(float(at), timezone.utc) for at in times]


def _uri(figure: Any) -> str:
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=110)
    return "data:image/png;base64," + b64encode(drawn.getvalue()).decode()
