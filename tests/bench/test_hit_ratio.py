"""``python -m bench hit_ratio`` sums up what was hit, and tells in one line what cannot be."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from bench import hit_ratio
from bench.hit_ratio import UsageError
from bench.policies import Policy
from bench.processes import run_apart
from bench.scoring import Cell, recovery
from bench.summary import summarize

from .conftest import ROOT

OWN = "hybridcore,FIFO"


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", "hit_ratio", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_run_prints_and_saves_every_ratio(tmp_path):
    """The tables and the JSON hold each policy at each size, LRU and Belady among them."""
    saved = tmp_path / "out.json"
    run = bench("--limit", 5000, "--sizes", "0.1,0.01", "--policies", OWN, "--json", saved)
    assert run.returncode == 0, run.stderr
    assert "mooncake_conv: 5,000 requests" in run.stdout
    result = json.loads(saved.read_text())
    assert [cell["fraction"] for cell in result["cells"]] == [0.01, 0.1]
    for cell in result["cells"]:
        assert set(cell["ratios"]) == {"hybridcore", "FIFO", "LRU", "Belady"}
        found = {name: ratios["objects"] for name, ratios in cell["ratios"].items()}
        assert 0 < found["hybridcore"] < found["Belady"]
    assert result["summary"]["objects"]["LRU"]["closed"] == 0
    assert result["summary"]["objects"]["Belady"]["closed"] == 1
    assert result["conditions"]["options"]["seed"] == "1"


def test_the_same_command_finds_the_same(tmp_path):
    """Drawn costs follow from the seed, and nothing depends on what runs beside it."""

    def cells(name: str, *arguments: object) -> object:
        saved = tmp_path / name
        run = bench(
            "--limit", 5000, "--units", "cost", "--sizes", 0.05, "--json", saved, *arguments
        )
        assert run.returncode == 0, run.stderr
        return json.loads(saved.read_text())["cells"]

    first = cells("1.json", "--jobs", 1)
    assert first == cells("2.json", "--jobs", 3)
    assert first != cells("3.json", "--seed", 2, "--policies", OWN)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.npz"], "cannot read the trace missing.npz: No such file"),
        (["README.md"], "unknown kind of trace"),
        (["--policies", "LRV"], "unknown policy LRV"),
        (["--units", "bytes"], "no trace has a size"),
        (["--limit", "50", "--sizes", "0.1"], "at least 32 entries"),
        (["--json", "nowhere/out.json"], "there is no directory nowhere"),
        (["--sizes", "2"], "expected shares above 0"),
        (["--units", "keys"], "expected some of objects, bytes, cost"),
        (["--costs", "-1"], "expected a number above 0"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_line(arguments, message):
    """The last line says what is wrong, there is no traceback, and the exit code is 2."""
    run = bench(*arguments)
    assert run.returncode == 2
    assert message in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr


def test_a_failed_replay_is_told_and_makes_the_exit_code_1(tmp_path, monkeypatch, capsys):
    """The other ratios are printed and saved, and the JSON says what is missing and why."""

    def fail(requests: object, capacity: int) -> list[int]:
        raise RuntimeError("so")

    yardsticks = [policy for policy in hit_ratio.POLICIES if policy.name in ("LRU", "Belady")]
    monkeypatch.setattr(hit_ratio, "POLICIES", [*yardsticks, Policy("broken", None, fail)])
    saved = tmp_path / "out.json"
    parser = argparse.ArgumentParser()
    hit_ratio.add_arguments(parser)
    command = ["--limit", "2000", "--sizes", "0.1", "--json", str(saved)]
    with pytest.raises(SystemExit) as end:
        hit_ratio.main(parser.parse_args(command))
    assert end.value.code == 1
    assert "broken failed on mooncake_conv at 0.1: RuntimeError: so" in capsys.readouterr().err
    (cell,) = json.loads(saved.read_text())["cells"]
    assert set(cell["ratios"]) == {"LRU", "Belady"}
    assert cell["failed"] == {"broken": "RuntimeError: so"}


def test_bytes_and_costs_go_together(tmp_path):
    """A cache bounded in bytes is judged by the cost of its misses, drawn with the sigma given."""
    trace = tmp_path / "t.npz"
    rng = np.random.default_rng(1)
    keys = rng.zipf(1.2, 5000) % 1000
    np.savez(trace, keys=keys, sizes=1 + keys % 50, cost=np.ones(5000))
    saved = tmp_path / "out.json"
    command = ["--units", "bytes", "--costs", 2, "--sizes", 0.1, "--json", saved, "--policies"]
    run = bench(trace, *command, "GDSF with cost")
    assert run.returncode == 0, run.stderr
    result = json.loads(saved.read_text())
    (cell,) = result["cells"]
    assert all(set(ratios) == {"objects", "bytes", "cost"} for ratios in cell["ratios"].values())
    ours = result["summary"]["cost"]["GDSF with cost"]
    hit = {name: ratios["cost"] for name, ratios in cell["ratios"].items()}
    assert hit["GDSF with cost"] > hit["LRU"]
    assert ours["misses"] == pytest.approx((1 - hit["GDSF with cost"]) / (1 - hit["LRU"]))
    assert ours["most cell"] == "t at 0.1"


def test_a_chain_tells_how_a_change_of_phase_is_taken(tmp_path):
    """Traces are joined, equal names share their keys, and each change is reported."""
    for name, first in (("a", 0), ("b", 500)):
        np.savez(tmp_path / f"{name}.npz", keys=np.tile(np.arange(first, first + 100), 20))
    traces = [tmp_path / f"{name}.npz" for name in "aba"]
    saved = tmp_path / "out.json"
    run = bench("--chain", *traces, "--sizes", 0.6, "--policies", "FIFO", "--json", saved)
    assert run.returncode == 0, run.stderr
    assert "a+b+a: turnovers to 90%" in run.stdout
    (cell,) = json.loads(saved.read_text())["cells"]
    assert (cell["requests"], cell["unique"]) == (6000, 200)
    assert cell["recoveries"]["LRU"] == [[2, 1.0], [2, 1.0]]  # the first 100 of 120 miss


@pytest.mark.parametrize(
    ("hits", "expected"),
    [
        ([0] * 20 + [1] * 20, (3, 1.0)),
        ([1, 0] * 20, (1, 0.5)),
        ([0] * 40, (None, 0.0)),
        ([0] * 9 + [1] * 9, (None, 1.0)),
    ],
)
def test_recovery_counts_turnovers(hits, expected):
    """They count up to the first that is hit nine tenths as often as the second half is."""
    assert recovery(np.array(hits), 10) == expected


def test_the_summary_pools_all_cells():
    """The closed share is of the sum of all gaps; the worst cell and the near ones are counted."""

    def cell(fraction: float, **ratios: float) -> Cell:
        shown = {name: {"objects": ratio} for name, ratio in ratios.items()}
        return Cell("t", 100, 10, fraction, 1, shown)

    cells = [
        cell(0.1, LRU=0.2, Belady=0.6, A=0.3, B=0.297),
        cell(0.2, LRU=0.5, Belady=0.6, A=0.4, B=0.5),
    ]
    found = summarize(cells, "objects")
    assert list(found)[:2] == ["Belady", "B"]
    assert found["A"]["closed"] == pytest.approx(0)
    assert found["B"]["closed"] == pytest.approx(0.097 / 0.5)
    assert found["A"]["worst"] == pytest.approx(-0.1)
    assert found["A"]["worst cell"] == "t at 0.2"
    assert found["A"]["misses"] == pytest.approx((0.7 / 0.8 + 0.6 / 0.5) / 2)
    assert (found["A"]["most"], found["A"]["most cell"]) == (pytest.approx(1.2), "t at 0.2")
    assert (found["A"]["near"], found["B"]["near"], found["LRU"]["near"]) == (1, 2, 1)


def test_a_replay_that_dies_takes_nothing_with_it():
    """Other tasks go on when one raises or its process ends."""

    def work(task: str) -> str:
        if task == "raise":
            raise UsageError("so")
        if task == "die":
            os._exit(3)
        return task.upper()

    found = {task: (result, error) for task, result, error in run_apart(work, TASKS, 2)}
    assert found == {
        "a": ("A", None),
        "raise": (None, "UsageError: so"),
        "die": (None, "its process died"),
        "b": ("B", None),
    }


TASKS = ["a", "raise", "die", "b"]
