"""The rules as files of Prometheus: recording and alerting rules, and unit tests of them all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hybridcore.exporters.metrics import BOUNDS
from hybridcore.monitoring.rules import SIGNALS
from hybridcore.monitoring.signals import Deviation, Highest, Median, parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hybridcore.monitoring.rules import Rule

_STEP = 10
"""Seconds between the samples of a unit test."""
_WELL, _ILL = 360, 60
"""Samples of a unit test before and after the fault begins."""
_EVERY = 300
"""Seconds between two evaluations in unit tests, which are seldom so that they are quick."""

Ramp = tuple[float, float]
"""The first value of a series and what each sample adds, while all is well or when it is not."""


_OF_THE_PAST = (Deviation, Highest, Median)
"""What is worked out of hours or days is not recorded: rules look at it where they need it."""


def export(rules: Iterable[Rule], *, recorded: bool = True) -> str:
    """A rule file of Prometheus as YAML, of which JSON is a part.

    It has an alert for each rule and, if ``recorded``, each signal that is quick to work out as
    ``hybridcore:NAME``.
    """
    rules = list(rules)
    alerts = [
        {
            "alert": f"Hybridcore{rule.name}",
            "expr": rule.promql(),
            "for": f"{rule.lasting:.0f}s",
            "labels": {"severity": rule.severity},
            "annotations": {"summary": rule.summary, "runbook_url": rule.runbook},
        }
        for rule in rules
    ]
    groups = [{"name": "hybridcore", "rules": alerts}]
    if recorded:
        known = [
            {"record": f"hybridcore:{name}", "expr": signal.promql()}
            for name, signal in SIGNALS.items()
            if not any(isinstance(part, _OF_THE_PAST) for part in parts(signal))
        ]
        groups.insert(0, {"name": "hybridcore-signals", "rules": known})
    return json.dumps({"groups": groups}, indent=2) + "\n"


def unit_tests(rules: Iterable[Rule], rule_file: str) -> str:
    """Unit tests for ``promtool test rules``: each alert is silent first and fires in the end.

    They are of the rules that come along, and of objectives; other rules are passed over.
    """
    tests = [test for rule in rules if (test := _test(rule)) is not None]
    content = {"rule_files": [rule_file], "evaluation_interval": f"{_EVERY}s", "tests": tests}
    return json.dumps(content, indent=2) + "\n"


def _test(rule: Rule) -> dict[str, Any] | None:
    series = _BUILT_IN.get(rule.name)
    step, well, ill = _STEP, _WELL, _ILL
    if series is None and rule.slo is not None:
        slo, burn = rule.slo
        series = _of_slo(slo.name)
        step = max(_STEP, int(burn.short / 5))
        well, ill = 2, max(6, 2 * _EVERY // step)
    if series is None:
        return None
    name = f"Hybridcore{rule.name}"
    fires = {
        "exp_labels": {"severity": rule.severity, "job": "j", "cache": "c"},
        "exp_annotations": {"summary": rule.summary, "runbook_url": rule.runbook},
    }
    return {
        "name": f"{name} is silent, and then fires",
        "interval": f"{step}s",
        "input_series": [_input(one, well, ill) for one in series],
        "alert_rule_test": [
            {"eval_time": f"{well * step - 1}s", "alertname": name, "exp_alerts": []},
            {"eval_time": f"{(well + ill) * step}s", "alertname": name, "exp_alerts": [fires]},
        ],
    }


def _input(one: tuple[str, str, Ramp, Ramp | None], well: int, ill: int) -> dict[str, str]:
    name, labels, (start, step), then = one
    inside = ",".join(['job="j"', 'cache="c"', *([labels] if labels else [])])
    values = f"{start:g}{step:+g}x{well - 1}"
    if then is None:
        values += f" stale _x{ill}"
    else:
        begin = start + step * (well - 1) if then[0] != then[0] else then[0]
        values += f" {begin + then[1]:.0f}{then[1]:+g}x{ill}"
    return {"series": f"hybridcore_{name}{{{inside}}}", "values": values}


_ON = float("nan")
"""As the first value when it is not well: go on from where the series is."""

Series = tuple[str, str, Ramp, Ramp | None]
"""Name, labels, while all is well, and then; None: it is gone."""


def _counts(labels: str, well: float, ill: float, name: str = "requests_total") -> Series:
    return name, labels, (0.0, well), (_ON, ill)


_AGE: Series = ("uptime_seconds", "", (0.0, _STEP), (_ON, _STEP))

_BUILT_IN: dict[str, Sequence[Series]] = {
    "OriginFailing": (
        _counts('tier="origin",result="hit"', 20, 0),
        _counts('tier="origin",result="error"', 0, 20),
    ),
    "OriginSlow": (
        _counts('tier="origin"', 20, 20, "request_duration_seconds_count"),
        _counts('tier="origin"', 1, 10, "request_duration_seconds_sum"),
    ),
    "HitRatioCollapsed": (
        _AGE,
        _counts('tier="memory",result="hit"', 80, 80),
        _counts('tier="memory",result="miss"', 20, 400),
        _counts('tier="origin",result="hit"', 20, 400),
    ),
    "BreakerOpen": (
        ("breaker_state", 'state="open"', (0, 0), (1, 0)),
        ("breaker_state", 'state="half_open"', (0, 0), (0, 0)),
    ),
    "DiskFailing": (_counts('class="disk"', 0, 1, "errors_total"),),
    "MapNearlyFull": (
        ("disk_bytes", 'part="pages"', (50, 0), (97, 0)),
        ("disk_map_bytes", "", (100, 0), (100, 0)),
    ),
    "ReadersNearlyExhausted": (
        ("disk_readers", "", (10, 0), (95, 0)),
        ("disk_max_readers", "", (100, 0), (100, 0)),
    ),
    "QueueStalled": (("queue_oldest_seconds", "", (0, 0), (0, _STEP)),),
    "DeadLetters": (_counts('result="died"', 0, 1, "queue_writes_total"),),
    "CoherenceLagging": (("coherence_lag_seconds", "", (0, 0), (0, _STEP)),),
    "MemoryLeaking": (_AGE, ("process_resident_bytes", "", (2e8, 0), (_ON, 1.6e7))),
    "QuotaRunsOut": (
        ("origin_quota_left", "", (90_000, -1), (_ON, -1000)),
        _counts("", 1, 1000, "origin_quota_used_total"),
        ("origin_quota_resets_timestamp_seconds", "", (7200, 0), (7200, 0)),
    ),
    "QuotaSpentFaster": (
        _counts('tier="origin",result="hit"', 10, 10),
        _counts("", 10, 100, "origin_quota_used_total"),
    ),
    "CacheSilent": (("uptime_seconds", "", (0, _STEP), None),),
}


def _of_slo(kind: str) -> Sequence[Series]:
    bad = 10_000  # so many that what was before does not matter
    count, bucket = "request_duration_seconds_count", "request_duration_seconds_bucket"
    if kind == "latency":
        return (
            _counts('tier="all",result="hit"', 100, bad, count),
            *(_counts(f'tier="all",result="hit",le="{bound}"', 100, 0, bucket) for bound in BOUNDS),
        )
    if kind == "hit_ratio":
        return (
            _counts('tier="memory",result="hit"', 100, 0),
            _counts('tier="memory",result="miss"', 0, bad),
            _counts('tier="origin",result="hit"', 0, bad),
        )
    result = {"availability": "error", "freshness": "stale"}[kind]
    return (
        _counts('tier="all",result="hit"', 100, 0, count),
        _counts(f'tier="all",result="{result}"', 0, bad, count),
    )
