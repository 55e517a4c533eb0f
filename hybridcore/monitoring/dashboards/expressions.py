"""What panels draw, as queries of Prometheus and of Datadog.

A query of Prometheus has the variables ``$job`` and ``$cache``, and ``$__rate_interval`` as its
window unless it is given one. Datadog gets a formula over queries of the metrics that
`hybridcore.exporters.datadog.DogStatsdSink` sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from hybridcore.exporters.metrics import PREFIX

Where = Mapping[str, str | tuple[str, ...]]
"""Labels and the value, or the values, that they have."""


class Expression(Protocol):
    """What can be asked of both."""

    def promql(self) -> str:
        """The query of Prometheus."""

    def datadog(self, queries: list[str]) -> str:
        """The formula of Datadog; the queries that it names are added."""


def _selected(name: str, where: Where) -> str:
    chosen = ['job=~"$job"', 'cache=~"$cache"']
    for label, value in where.items():
        one_of = isinstance(value, tuple)
        chosen.append(f'{label}=~"{"|".join(value)}"' if one_of else f'{label}="{value}"')
    return f"{PREFIX}{name}{{{','.join(chosen)}}}"


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""


def _asked(
    queries: list[str], how: str, name: str, where: Where, by: tuple[str, ...], after: str = ""
) -> str:
    """Add a query of Datadog; returns the name under which a formula has it."""
    chosen = ["$cache"]
    for label, value in where.items():
        one_of = isinstance(value, tuple)
        chosen.append(f"{label} IN ({','.join(value)})" if one_of else f"{label}:{value}")
    told = (" AND " if any(" IN " in one for one in chosen) else ",").join(chosen)
    grouped = f" by {{{','.join(by)}}}" if by else ""
    queries.append(f"{how}:hybridcore.{name}{{{told}}}{grouped}{after}")
    return f"query{len(queries)}"


@dataclass(frozen=True)
class Rate:
    """By how much counters grow in a second."""

    name: str
    by: tuple[str, ...] = ()
    where: Where = field(default_factory=dict)
    window: str = "$__rate_interval"

    def promql(self) -> str:
        return f"sum{_by(self.by)} (rate({_selected(self.name, self.where)}[{self.window}]))"

    def datadog(self, queries: list[str]) -> str:
        return _asked(queries, "sum", self.name, self.where, self.by, ".as_rate()")


@dataclass(frozen=True)
class Level:
    """What gauges say, put together."""

    name: str
    by: tuple[str, ...] = ()
    where: Where = field(default_factory=dict)
    how: Literal["sum", "max", "min"] = "max"

    def promql(self) -> str:
        return f"{self.how}{_by(self.by)} ({_selected(self.name, self.where)})"

    def datadog(self, queries: list[str]) -> str:
        return _asked(queries, self.how, self.name, self.where, self.by)


@dataclass(frozen=True)
class Ratio:
    """One expression in relation to another with the same labels."""

    part: Expression
    whole: Expression

    def promql(self) -> str:
        return f"{self.part.promql()} / {self.whole.promql()}"

    def datadog(self, queries: list[str]) -> str:
        return f"{self.part.datadog(queries)} / {self.whole.datadog(queries)}"


@dataclass(frozen=True)
class Quantile:
    """The duration that a share of the operations did not exceed, in seconds.

    Datadog gets those of the last minute of each process, of which this is the largest.
    """

    share: float
    by: tuple[str, ...] = ()
    where: Where = field(default_factory=dict)

    def promql(self) -> str:
        buckets = _selected("request_duration_seconds_bucket", self.where)
        rates = f"sum{_by(('le', *self.by))} (rate({buckets}[$__rate_interval]))"
        return f"histogram_quantile({self.share:g}, {rates})"

    def datadog(self, queries: list[str]) -> str:
        told = f"p{self.share * 100:g}".replace(".", "")
        where = {**self.where, "quantile": told}
        return _asked(queries, "max", "request_duration_seconds", where, self.by)


@dataclass(frozen=True)
class Expected:
    """What a gauge will say in so many seconds if it goes on as in the window before."""

    level: Level
    window: str
    ahead: int

    def promql(self) -> str:
        level = self.level
        selected = _selected(level.name, level.where)
        told = f"predict_linear({selected}[{self.window}], {self.ahead})"
        return f"{level.how}{_by(level.by)} ({told})"

    def datadog(self, queries: list[str]) -> str:
        return f"forecast({self.level.datadog(queries)}, 'linear', 1)"


@dataclass(frozen=True)
class Burn:
    """How many times too fast lookups use up the error budget of ``$objective``.

    Of the lookups that missed memory, ``bad`` are those that ended so; or, for a latency, those
    that took longer than ``within`` seconds. Only Prometheus knows windows of its own.
    """

    window: str
    bad: str = ""
    within: str = ""

    def promql(self) -> str:
        name = "request_duration_seconds"
        whole = Rate(f"{name}_count", where={"tier": "all"}, window=self.window).promql()
        if self.within:
            where = {"tier": "all", "le": self.within}
            good = Rate(f"{name}_bucket", where=where, window=self.window).promql()
            return f"(1 - {good} / {whole}) / (1 - $objective)"
        where = {"tier": "all", "result": self.bad}
        bad = Rate(f"{name}_count", where=where, window=self.window).promql()
        return f"(({bad} or vector(0)) / {whole}) / (1 - $objective)"

    def datadog(self, queries: list[str]) -> str:
        raise NotImplementedError("Datadog has no windows in queries; it has SLOs of its own")


def requests(*by: str, **where: str | tuple[str, ...]) -> Rate:
    """Lookups that came to a tier."""
    return Rate("requests_total", by, where)


def share_of_hits(tier: str) -> Ratio:
    """Share of the lookups of a tier that it answered with a fresh copy."""
    return Ratio(requests(tier=tier, result="hit"), requests(tier=tier))
