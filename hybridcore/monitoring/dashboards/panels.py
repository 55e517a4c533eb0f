"""How dashboards are told: rows of panels of lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hybridcore.monitoring.dashboards.expressions import Quantile

if TYPE_CHECKING:
    from hybridcore.monitoring.dashboards.expressions import Expression

Unit = Literal["short", "ops", "percentunit", "s", "bytes", "Bps", "bool_yes_no"]
"""As Grafana calls them."""


@dataclass(frozen=True)
class Line:
    """What is drawn, and what it is called; ``{label}`` in it stands for the label's value."""

    of: Expression
    called: str = ""


@dataclass(frozen=True)
class Panel:
    """Lines over time, or with ``kind="stat"`` what they say now.

    ``warn`` and ``bad`` colour values from there on, downwards if ``bad`` is the lower one.
    ``only_prometheus``: Datadog cannot be asked this.
    """

    title: str
    description: str
    lines: tuple[Line, ...]
    unit: Unit = "short"
    kind: Literal["timeseries", "stat"] = "timeseries"
    warn: float | None = None
    bad: float | None = None
    stacked: bool = False
    top: float | None = None
    only_prometheus: bool = False


@dataclass(frozen=True)
class Row:
    """Panels below a title."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    """Rows below a title; ``name`` is that of its file."""

    name: str
    title: str
    description: str
    rows: tuple[Row, ...]
    has_objective: bool = False
    """Whether it has the variable ``$objective``."""


def one(of: Expression, called: str = "") -> tuple[Line, ...]:
    """The lines of a panel that has one for each combination of labels."""
    return (Line(of, called),)


def durations(tier: str, operation: str = "get") -> tuple[Line, ...]:
    """Quantiles of how long an operation took."""
    where = {"tier": tier, "operation": operation}
    return tuple(
        Line(Quantile(share, (), where), name)
        for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"), (0.999, "p99.9"))
    )
