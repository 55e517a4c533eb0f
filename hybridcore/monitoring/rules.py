"""Alert rules: those built in, of objectives, and read from TOML."""

from __future__ import annotations

import math
import os
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hybridcore.errors import ConfigurationError
from hybridcore.monitoring.signals import (
    Deviation,
    Difference,
    Drift,
    Gauge,
    Growth,
    Highest,
    Increase,
    Least,
    Median,
    Otherwise,
    Product,
    Share,
    Signal,
    Silence,
    TimeLeft,
)
from hybridcore.monitoring.slo import Burn, Slo
from hybridcore.units import seconds

if TYPE_CHECKING:
    from collections.abc import Iterable

Severity = Literal["page", "ticket"]

RUNBOOKS = "https://hybridcore.readthedocs.io/en/latest/runbooks.html"
_ALERT = re.compile(r"[A-Z][A-Za-z0-9]*")


@dataclass(frozen=True)
class Rule:
    """An alert: fires when a signal was beyond its bound ``lasting`` seconds long.

    It is over when the signal is back within ``clear`` (default: the bound itself), or unknown.
    Exactly one of ``above`` and ``below`` is given; ``settled`` leaves out caches that are younger.

    Raises:
        ConfigurationError: the name is not CamelCase, the bounds do not fit.
    """

    name: str
    signal: Signal
    summary: str
    above: float | None = None
    below: float | None = None
    clear: float | None = None
    lasting: float = 0.0
    severity: Severity = "ticket"
    settled: float = 0.0
    runbooks: str = RUNBOOKS
    """The page that tells what to do, a section for each rule."""
    slo: tuple[Slo, Burn] | None = None
    """The objective that it is of, and its windows."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _ALERT.fullmatch(self.name):
            raise ConfigurationError(f'expected a name such as "OriginFailing", got {self.name!r}')
        if (self.above is None) == (self.below is None):
            raise ConfigurationError(f"{self.name}: expected one of above and below")
        for name in ("above", "below", "clear", "lasting", "settled"):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ConfigurationError(f"{self.name}: {name} is to be a number, got {value!r}")
            if not math.isfinite(value):
                raise ConfigurationError(f"{self.name}: {name} is to be finite, got {value!r}")
        if self.severity not in ("page", "ticket"):
            raise ConfigurationError(
                f'{self.name}: severity is "page" or "ticket", got {self.severity!r}'
            )
        if self.clear is not None and (
            self.clear > self.above if self.above is not None else self.clear < (self.below or 0.0)
        ):
            raise ConfigurationError(
                f"{self.name}: clear={self.clear!r} is beyond the bound, so it would never be over"
            )

    def beyond(self, value: float, *, firing: bool = False) -> bool:
        """Whether a value is beyond the bound; of an alert that fires, beyond ``clear``."""
        if self.above is not None:
            return value > (self.clear if firing and self.clear is not None else self.above)
        assert self.below is not None
        return value < (self.clear if firing and self.clear is not None else self.below)

    @property
    def runbook(self) -> str:
        """Where it is told what to do."""
        name = self.name if self.slo is None else f"{self.slo[0].title}Burns"
        return f"{self.runbooks}#{name.lower()}"

    def promql(self) -> str:
        """The expression for Prometheus, with the hysteresis."""
        sign, bound = (">", self.above) if self.above is not None else ("<", self.below)
        assert bound is not None
        whole = f"({_beyond(self.signal, sign, bound)})"
        if self.clear is not None:
            firing = f'ALERTS{{alertname="Hybridcore{self.name}",alertstate="firing"}}'
            cleared = _beyond(self.signal, sign, self.clear)
            whole += f" or ({cleared} and on (job, cache) {firing})"
        if self.settled:
            age = "min by (job, cache) (hybridcore_uptime_seconds)"
            whole = f"({whole}) and {age} > {self.settled:g}"
        return whole


def _beyond(signal: Signal, sign: str, bound: float) -> str:
    if isinstance(signal, Least) and sign == ">":
        return f"{signal.one.promql()} > {bound:g} and {signal.other.promql()} > " + (
            f"{bound / signal.times:g}"
        )
    return f"{signal.promql()} {sign} {bound:g}"


def _requests(window: float, **where: str) -> Increase:
    return Increase("hybridcore_requests_total", window, where)


_ORIGIN_SECONDS = Share(
    Increase("hybridcore_request_duration_seconds_sum", 60, {"tier": "origin"}),
    Increase("hybridcore_request_duration_seconds_count", 60, {"tier": "origin"}),
    least=4,
)
_ORIGIN_SECONDS_LONG = Share(
    Increase("hybridcore_request_duration_seconds_sum", 300, {"tier": "origin"}),
    Increase("hybridcore_request_duration_seconds_count", 300, {"tier": "origin"}),
    least=4,
)
_LATENCY_OFF = Deviation(_ORIGIN_SECONDS, floor=0.002, relative=0.1)
_LATENCY_OFF_LONG = Deviation(_ORIGIN_SECONDS_LONG, floor=0.002, relative=0.5)
_LOADS = _requests(60, tier="origin")
_LOOKUPS = _requests(60, tier="memory")
_LOAD_RATIO = Share(_LOADS, _LOOKUPS, least=60)
_MEMORY_HITS = Share(_requests(60, tier="memory", result="hit"), _LOOKUPS, least=100)
_RESIDENT = Gauge("hybridcore_process_resident_bytes")
_QUOTA_LEFT = Gauge("hybridcore_origin_quota_left")
_QUOTA_USED = Increase("hybridcore_origin_quota_used_total", 120)

SIGNALS: dict[str, Signal] = {
    "origin_error_ratio": Share(
        _requests(60, tier="origin", result="error"), _requests(60, tier="origin"), least=5
    ),
    "origin_mean_seconds": _ORIGIN_SECONDS,
    "origin_mean_seconds_deviation": _LATENCY_OFF,
    "origin_mean_seconds_drift": Drift(Otherwise(_LATENCY_OFF, _LATENCY_OFF_LONG), slack=3.0),
    "memory_hit_ratio": _MEMORY_HITS,
    "memory_hit_ratio_deviation": Deviation(_MEMORY_HITS),
    "origin_load_ratio": _LOAD_RATIO,
    "origin_load_ratio_deviation": Deviation(_LOAD_RATIO, floor=0.02, relative=0.1),
    "origin_loads_deviation": Deviation(_LOADS, floor=30, relative=0.5),
    "collapse": Share(
        _LOADS, Product(Median(_LOOKUPS), Highest(_LOAD_RATIO, least=0.3, unknown=1.0)), least=20
    ),
    "breaker_open": Gauge("hybridcore_breaker_state", {"state": "open|half_open"}),
    "disk_errors": Increase("hybridcore_errors_total", 120, {"class": "disk"}),
    "disk_map_used": Share(
        Gauge("hybridcore_disk_bytes", {"part": "pages"}), Gauge("hybridcore_disk_map_bytes")
    ),
    "disk_readers_used": Share(
        Gauge("hybridcore_disk_readers"), Gauge("hybridcore_disk_max_readers")
    ),
    "queue_oldest_seconds": Gauge("hybridcore_queue_oldest_seconds"),
    "dead_letters": Increase("hybridcore_queue_writes_total", 300, {"result": "died|dropped"}),
    "coherence_lag_seconds": Gauge("hybridcore_coherence_lag_seconds"),
    "resident_bytes": _RESIDENT,
    "resident_growth_drift": Drift(
        Deviation(Growth(_RESIDENT, 60), step=30, floor=4 * 2**20), slack=1.0
    ),
    "quota_minutes_left": Share(_QUOTA_LEFT, Increase("hybridcore_origin_quota_used_total", 60)),
    "quota_reserve": Difference(
        Difference(
            _QUOTA_LEFT,
            Product(
                _QUOTA_USED, TimeLeft(Gauge("hybridcore_origin_quota_resets_timestamp_seconds"))
            ),
            times=1 / 120,
        ),
        Highest(_QUOTA_LEFT, least=0.0, unknown=0.0, window=7200, before=0, fewest=10),
        times=0.05,
    ),
    "quota_per_load_deviation": Deviation(
        Share(Increase("hybridcore_origin_quota_used_total", 60), _LOADS), floor=0.1, relative=0.1
    ),
    "silent_seconds": Silence(),
}
"""What rules read from TOML can look at, by name."""

BUILT_IN = (
    Rule(
        "OriginFailing",
        SIGNALS["origin_error_ratio"],
        "More than 20 % of the loads of the origin fail.",
        above=0.2,
        clear=0.1,
        lasting=30,
        severity="page",
    ),
    Rule(
        "OriginSlow",
        SIGNALS["origin_mean_seconds_drift"],
        "Loads of the origin take much longer than in the hour before.",
        above=15,
        clear=5,
    ),
    Rule(
        "HitRatioCollapsed",
        SIGNALS["collapse"],
        "Twice as many lookups reach the origin as usually do at the worst.",
        above=2,
        clear=1.5,
        lasting=30,
        settled=900,
    ),
    Rule(
        "BreakerOpen",
        SIGNALS["breaker_open"],
        "The breaker of the origin is open: loads are not tried.",
        above=0.5,
        lasting=30,
        severity="page",
    ),
    Rule(
        "DiskFailing",
        SIGNALS["disk_errors"],
        "The disk tier fails and is passed over.",
        above=0,
        severity="page",
    ),
    Rule(
        "MapNearlyFull",
        SIGNALS["disk_map_used"],
        "Pages in use take more than 95 % of the map of the disk tier.",
        above=0.95,
        clear=0.9,
        lasting=60,
    ),
    Rule(
        "ReadersNearlyExhausted",
        SIGNALS["disk_readers_used"],
        "More than 90 % of the slots of readers of the disk tier are taken.",
        above=0.9,
        clear=0.8,
        lasting=60,
    ),
    Rule(
        "QueueStalled",
        SIGNALS["queue_oldest_seconds"],
        "Writes wait for longer than a minute.",
        above=60,
        clear=30,
        severity="page",
    ),
    Rule("DeadLetters", SIGNALS["dead_letters"], "Writes were given up.", above=0),
    Rule(
        "CoherenceLagging",
        SIGNALS["coherence_lag_seconds"],
        "Invalidations elsewhere are heard of more than 30 seconds late.",
        above=30,
        clear=10,
        severity="page",
    ),
    Rule(
        "MemoryLeaking",
        SIGNALS["resident_growth_drift"],
        "The memory of the process grows as it did not in the hour before.",
        above=8,
        clear=2,
        settled=1800,
    ),
    Rule(
        "QuotaRunsOut",
        SIGNALS["quota_reserve"],
        "At the rate of two minutes less than 5 % of the quota of the origin is left in the end.",
        below=0,
        lasting=30,
    ),
    Rule(
        "QuotaSpentFaster",
        SIGNALS["quota_per_load_deviation"],
        "A load of the origin takes several times the quota that it took in the hour before.",
        above=30,
        clear=10,
        lasting=30,
    ),
    Rule(
        "CacheSilent",
        SIGNALS["silent_seconds"],
        "Nothing was heard of the cache for more than two minutes.",
        above=120,
        clear=60,
    ),
)
"""The rules that come along; docs/runbooks.md has a section for each."""

_KEYS = {"name", "signal", "summary", "above", "below", "clear", "for", "severity", "settled"}


def of_slos(slos: Iterable[Slo]) -> list[Rule]:
    """The burn-rate alerts of objectives."""
    return [
        Rule(
            slo.alert_name(burn.name),
            slo.burn(burn),
            f"{slo.name}: its error budget burns {burn.factor:g} times too fast.",
            above=slo.bound(burn),
            lasting=burn.lasting,
            severity=burn.severity,
            slo=(slo, burn),
        )
        for slo in slos
        for burn in slo.burns()
    ]


def with_runbooks(rules: Iterable[Rule], page: str) -> list[Rule]:
    """The same rules, with another page of runbooks.

    Raises:
        ConfigurationError: it is no URL.
    """
    if not isinstance(page, str) or not page.startswith(("http://", "https://")):
        raise ConfigurationError(f"runbooks is to be a URL of http or https, got {page!r}")
    return [replace(rule, runbooks=page) for rule in rules]


def load(path: str | os.PathLike[str], *, runbooks: str = RUNBOOKS) -> list[Rule]:
    """Read rules (``[[rule]]``) and objectives (``[[slo]]``) from a TOML file.

    Args:
        path: of the file.
        runbooks: the page that has a section for each rule; in the file ``runbooks = "https://..."``.

    Raises:
        ConfigurationError: with the file, the line and the reason.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    shown = os.fspath(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
        found = tomllib.loads(text)
    except OSError as error:
        raise ConfigurationError(f"{shown} cannot be read: {error.strerror}") from error
    except ValueError as error:  # of TOML, which tells the line, or of UTF-8
        raise ConfigurationError(f"{shown}: {error}") from None
    if unknown := sorted(set(found) - {"rule", "slo", "runbooks"}):
        raise ConfigurationError(f"{shown}:{_line(text, unknown[0])}: unknown key {unknown[0]!r}")
    rules: list[Rule] = []
    for kind, read in (("rule", _rule), ("slo", _slo)):
        tables = found.get(kind, [])
        if not isinstance(tables, list):
            raise ConfigurationError(f"{shown}:{_line(text, kind)}: expected [[{kind}]]")
        starts = [
            number
            for number, line in enumerate(text.splitlines(), 1)
            if re.match(rf"\s*\[\[\s*{kind}\s*\]\]", line)
        ]
        for at, table in enumerate(tables):
            line = starts[at] if at < len(starts) else 1
            try:
                rules += read(table)
            except (ConfigurationError, TypeError) as error:
                raise ConfigurationError(f"{shown}:{line}: {error}") from None
    names = [rule.name for rule in rules]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        line = _line(text, twice[0])
        raise ConfigurationError(f"{shown}:{line}: two rules are named {twice[0]!r}")
    try:
        return with_runbooks(rules, found.get("runbooks", runbooks))
    except ConfigurationError as error:
        raise ConfigurationError(f"{shown}:{_line(text, 'runbooks')}: {error}") from None


def _line(text: str, key: str) -> int:
    lines = enumerate(text.splitlines(), 1)
    return next((number for number, line in lines if key in line), 1)


def _rule(table: Any) -> list[Rule]:
    if unknown := sorted(set(table) - _KEYS):
        known = ", ".join(sorted(_KEYS))
        raise ConfigurationError(f"unknown key {unknown[0]!r}; known are {known}")
    for name in ("name", "signal"):
        if name not in table:
            raise ConfigurationError(f"{name} is missing")
    signal = SIGNALS.get(table["signal"]) if isinstance(table["signal"], str) else None
    if signal is None:
        known = ", ".join(SIGNALS)
        raise ConfigurationError(f"expected a signal of {known}, got {table['signal']!r}")
    bounds = {name: table[name] for name in ("above", "below", "clear") if name in table}
    return [
        Rule(
            table["name"],
            signal,
            str(table.get("summary", table["name"])),
            lasting=seconds(table.get("for", 0)),
            settled=seconds(table.get("settled", 0)),
            severity=table.get("severity", "ticket"),
            **bounds,
        )
    ]


def _slo(table: Any) -> list[Rule]:
    if unknown := sorted(set(table) - {"name", "objective", "threshold"}):
        raise ConfigurationError(
            f"unknown key {unknown[0]!r}; known are name, objective, threshold"
        )
    for name in ("name", "objective"):
        if name not in table:
            raise ConfigurationError(f"{name} is missing")
    return of_slos([Slo(**table)])
