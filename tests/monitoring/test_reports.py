"""Trends, anomalies, advice and reports, of the history of a real cache."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import hybridcore as hc
from hybridcore.analytics import StoreAnalytics
from hybridcore.cli import main
from hybridcore.errors import ConfigurationError
from hybridcore.monitoring.historian import Historian
from hybridcore.monitoring.history import MetricHistory, Values
from hybridcore.monitoring.reports import Reporter, make_report
from hybridcore.monitoring.slo import Slo
from hybridcore.monitoring.trends import Course, trend

BEGAN = 1_000_000_200.0
ODD = "a<b>|*c*"
STEPS = 220
SCAN = 150


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """The directory of a cache that was used for some hours, too small for what it is asked."""
    place = tmp_path_factory.mktemp("used")
    now = [BEGAN]
    rng = np.random.default_rng(1)
    clock = StoreAnalytics.clock
    StoreAnalytics.clock = staticmethod(lambda: now[0])
    try:
        with (
            hc.HybridCache(
                hc.Memory(200), disk=hc.Lmdb(place / "c"), origin=str.upper, analytics=True
            ) as store,
            Historian(
                {ODD: store}, place / "c" / "history", clock=lambda: now[0], start=False
            ) as historian,
        ):
            for step in range(STEPS):
                keys = rng.integers(0, 900, 60)
                if step == SCAN:
                    keys = np.arange(100_000, 100_600)
                for key in keys.tolist():
                    store.get(f"key {key}")
                now[0] += 60
                historian.write()
    finally:
        StoreAnalytics.clock = staticmethod(clock)
    return place / "c"


def test_a_report_tells_what_happened(history) -> None:
    """Ratios, growth and the minute of the scan, and nothing that did not happen."""
    with MetricHistory(history / "history") as read:
        begin, end = read.span()
        report = make_report(read, ODD, begin, end, slos=[Slo("availability", objective=0.999)])
    found = {trend.measure: trend for trend in report.trends}
    assert found["memory hit ratio"].mean == pytest.approx(200 / 900, abs=0.05)
    at = BEGAN + 60 * (SCAN + 1)
    marks = found["requests"].anomalies
    assert [mark.begin for mark in marks] == [pytest.approx(at, abs=300)]
    assert marks[0].value > 5 * marks[0].expected
    grown = {one.of: one for one in report.growth}
    assert grown["disk"].now > 0
    assert grown["disk"].full_in is None
    assert grown["memory"].expected.lower <= grown["memory"].now <= grown["memory"].expected.upper
    (kept,) = report.objectives
    assert kept.is_kept
    assert kept.spent == 0


def test_a_larger_memory_is_recommended_with_the_evidence(history) -> None:
    """Uniform requests for 900 keys, of which 200 fit: with all of them few calls are left."""
    with MetricHistory(history / "history") as read:
        report = make_report(read, ODD, *read.span())
    advice = report.advice[0]
    assert re.match(r"Memory at [\d,]+ entries would save \d+% of origin calls", advice.action)
    assert advice.saves > 0.5
    assert "At 200 entries it hits 2" in advice.evidence


def test_html_is_one_file_in_which_nothing_runs(history) -> None:
    """Pictures are in it, names are escaped, and nothing is fetched."""
    with MetricHistory(history / "history") as read:
        report = make_report(read, ODD, *read.span())
    page = report.html()
    assert "a&lt;b&gt;|*c*" in page
    assert "<b>" not in page
    assert page.count('src="data:image/png;base64,') == len(report.trends) + 1
    assert not re.findall(r"https?://", page)
    assert "default-src 'none'" in page
    assert r"a\<b\>\|\*c\*" in report.markdown()


def test_reports_are_written_every_so_often(history, tmp_path) -> None:
    """A file a cache and day, whole or not at all, under a name that cannot lead elsewhere."""
    with MetricHistory(history / "history") as read:
        end = read.span()[1]
        reporter = Reporter(
            read, tmp_path / "r", formats=("markdown", "html"), clock=lambda: end, start=False
        )
        files = reporter.write()
        assert sorted(path.name for path in (tmp_path / "r").iterdir()) == sorted(
            path.name for path in files
        )
        assert [path.suffix for path in files] == [".md", ".html"]
        assert files[0].name.startswith("a_b___c_-2001-09-09")
        reporter = Reporter(read, tmp_path / "r2", clock=lambda: end + 90 * 86400, start=False)
        assert reporter.write() == []
        with pytest.raises(ConfigurationError, match="html and markdown"):
            Reporter(read, tmp_path, formats=("pdf",))


def test_steady_noise_is_ordinary() -> None:
    """Values that vary as they always do are not marked, a single outlier and its end are."""
    rng = np.random.default_rng(2)
    for kind in (rng.normal(100, 5, 500), rng.poisson(3, 500).astype(float), np.full(500, 7.0)):
        times = BEGAN + 10.0 * np.arange(500)
        assert trend("m", "", Values(times, kind)).anomalies == ()
        kind = kind.copy()
        kind[300:303] *= 0
        kind[300:303] += 1000
        (mark,) = trend("m", "", Values(times, kind)).anomalies
        assert (mark.begin, mark.end) == (times[300], times[302])


def test_a_course_that_rises_goes_on_rising() -> None:
    """The trend is continued as far as it goes back, within its interval."""
    times = BEGAN + 300.0 * np.arange(200)
    found = trend("m", "", Values(times, 50 + 0.1 * np.arange(200)))
    assert found.ahead.values[-1] == pytest.approx(90, rel=0.05)
    assert found.change > 0.2


def test_the_commands(history, tmp_path, capsys) -> None:
    """`report` and `capacity` print tables and JSON, and write files."""
    assert main(["report", str(history), "--slo", "availability:99.9%"]) == 0
    assert "## Recommendations" in capsys.readouterr().out
    page = tmp_path / "report.html"
    assert main(["report", str(history), "--output", str(page), "--since", "1h"]) == 0
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert main(["report", str(history), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cache"] == ODD
    command = ["capacity", str(history), "--size", "1x,2x,900", "--traffic", "2", "--ttl", "1d"]
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["current"] == 200
    now, doubled, whole = told["outcomes"][0], told["outcomes"][2], told["outcomes"][4]
    assert now["hit_ratio"] == pytest.approx(0.22, abs=0.05)
    assert now["hit_ratio"] < doubled["hit_ratio"] < whole["hit_ratio"]
    assert doubled["saved_per_hour"] > 0
    assert main(command) == 0
    assert "origin calls/h" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["report", "{}", "--slo", "latency:99%"], "latency needs one"),
        (["report", "{}", "--slo", "fast"], "NAME:OBJECTIVE"),
        (["report", "{}", "--cache", "none"], "one of those in the history"),
        (["report", "{}", "--output", "x.pdf"], ".md, .html or .json"),
        (["report", "/"], "there is no history in"),
        (["capacity", "{}", "--traffic", "0"], "traffic is expected to be above 0"),
    ],
)
def test_commands_refuse_what_they_do_not_understand(history, capsys, command, told) -> None:
    """In one line that says what was expected."""
    assert main([part.format(history) for part in command]) == 2
    assert told in capsys.readouterr().err


def test_a_course_of_nothing(history) -> None:
    """Times and caches of which nothing is known are an error that says so."""
    with MetricHistory(history / "history") as read:
        with pytest.raises(ConfigurationError, match="nothing of a cache 'other'"):
            make_report(read, "other", *read.span())
        with pytest.raises(ConfigurationError, match="from 1970"):
            make_report(read, ODD, 0, 1000)
        assert Course(read, ODD, 0, 1000).is_empty
