"""The exported rules, as promtool and a real Prometheus read them."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from hybridcore.cli import main
from hybridcore.monitoring.rules import BUILT_IN, RUNBOOKS

OWN = """
[[slo]]
name = "latency"
objective = 0.99
threshold = "50ms"

[[slo]]
name = "availability"
objective = 0.999

[[slo]]
name = "freshness"
objective = 0.95

[[slo]]
name = "hit_ratio"
objective = 0.7

[[rule]]
name = "HitRatioLow"
signal = "memory_hit_ratio"
below = 0.5
"""

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool is here")


@pytest.fixture
def files(tmp_path, capsys):
    """The rule file and its unit tests, with objectives of each kind, made by the command."""
    own = tmp_path / "own.toml"
    own.write_text(OWN)
    rules, tests = tmp_path / "rules.yml", tmp_path / "tests.yml"
    assert main(["rules", "export", "--rules", str(own)]) == 0
    rules.write_text(capsys.readouterr().out)
    assert main(["rules", "tests", "--rules", str(own), "--file", "rules.yml"]) == 0
    tests.write_text(capsys.readouterr().out)
    return rules, tests


def promtool(*arguments, cwd):
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, cwd=cwd)


def alerts_of(rules):
    groups = json.loads(rules.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


@needs_promtool
def test_promtool_takes_every_rule(files, tmp_path) -> None:
    """Recording rules and alerts: those that come along, of objectives, and one's own."""
    rules, _ = files
    run = promtool("check", "rules", rules.name, cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "SUCCESS" in run.stdout


@needs_promtool
def test_every_alert_is_silent_first_and_then_fires(files, tmp_path) -> None:
    """By the unit tests that come along, of which each alert has one but those of one's own."""
    rules, tests = files
    tested = {
        told["alertname"]
        for test in json.loads(tests.read_text())["tests"]
        for told in test["alert_rule_test"]
    }
    assert tested == {rule["alert"] for rule in alerts_of(rules)} - {"HybridcoreHitRatioLow"}
    run = promtool("test", "rules", tests.name, cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr


@needs_promtool
def test_a_unit_test_can_fail(files, tmp_path) -> None:
    """One of a bound that is never reached does."""
    rules, tests = files
    content = json.loads(tests.read_text())
    content["tests"] = content["tests"][:1]  # of OriginFailing
    tests.write_text(json.dumps(content))
    assert promtool("test", "rules", tests.name, cwd=tmp_path).returncode == 0
    rules.write_text(rules.read_text().replace("> 0.2", "> 20"))
    assert promtool("test", "rules", tests.name, cwd=tmp_path).returncode != 0


def test_runbooks_may_be_elsewhere(tmp_path, capsys) -> None:
    """By an option, or in the file, and what is no URL is refused with its line."""
    own = tmp_path / "own.toml"
    assert main(["rules", "export", "--runbooks", "https://wiki.example/cache"]) == 0
    assert "https://wiki.example/cache#originfailing" in capsys.readouterr().out
    own.write_text('runbooks = "https://wiki.example/own"\n' + OWN)
    assert main(["rules", "export", "--rules", str(own)]) == 0
    told = capsys.readouterr().out
    assert "https://wiki.example/own#hitratiolow" in told
    assert f"{RUNBOOKS}#originfailing" in told
    own.write_text('\nrunbooks = "wiki"\n')
    assert main(["rules", "export", "--rules", str(own)]) == 2
    assert "own.toml:2: runbooks is to be a URL" in capsys.readouterr().err


def test_every_alert_has_a_runbook() -> None:
    """A section of the page that it points to, those of objectives one for each kind."""
    from pathlib import Path

    from hybridcore.monitoring.rules import of_slos
    from hybridcore.monitoring.slo import KINDS, Slo

    page = Path(__file__).parents[2] / "docs" / "runbooks.md"
    titles = {line[3:].lower() for line in page.read_text().splitlines() if line.startswith("## ")}
    slos = [Slo(kind, 0.99, "50ms" if kind == "latency" else None) for kind in KINDS]
    rules = [*BUILT_IN, *of_slos(slos)]
    assert {rule.runbook.partition("#")[2] for rule in rules} <= titles
