"""``mrc``, ``recommend``, ``simulate``: traces of any kind, and what a cache would hit."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hybridcore import Cache, Weights
from hybridcore.analytics import Recorder
from hybridcore.cli import main

KEYS = 3_000


def drawn(requests=40_000):
    ranks = 1 / np.arange(1, KEYS + 1) ** 0.9
    return np.random.default_rng(1).choice(KEYS, requests, p=ranks / ranks.sum())


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    """One trace as every kind of file."""
    place = tmp_path_factory.mktemp("traces")
    keys = drawn()
    sizes = 100 + 7 * keys % 900
    np.savez(place / "numbers.npz", keys=keys)
    np.savez(place / "sized.npz", keys=keys, sizes=sizes, time=np.arange(len(keys)) / 100)
    np.savez(place / "strings.npz", keys=np.array([f"k{key}" for key in keys]))
    (place / "text").write_text("".join(f"k{key}\n" for key in keys))
    (place / "sized.csv").write_text(
        "key,size\n" + "".join(f"k{key},{size}\n" for key, size in zip(keys, sizes, strict=True))
    )
    cache = Cache(500)
    (place / "recorded").mkdir()
    for _ in range(2):
        with Recorder(cache, place / "recorded", sample=1.0):
            for key in keys.tolist():
                if cache.get(f"k{key}") is None:
                    cache[f"k{key}"] = True
    return place


def replayed(size, **options):
    cache = Cache(size, **options)
    for key in drawn().tolist():
        if cache.get(key) is None:
            cache[key] = True
    return cache.stats().hit_ratio


def run(capsys, *argv):
    assert main([str(part) for part in argv]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", ["numbers.npz", "strings.npz", "text", "sized.npz", "sized.csv"])
@pytest.mark.parametrize("policy", ["lru", "learned", "lfu", "weights"])
def test_a_curve_of_every_kind_of_trace(traces, capsys, name, policy):
    """The hit ratios of the table are those of a replay."""
    table = json.loads(
        run(
            capsys,
            "mrc",
            traces / name,
            "--entries",
            "--policy",
            policy,
            "--sizes",
            "150,600",
            "--json",
        )
    )
    assert (table["policy"], table["unit"], table["requests"]) == (policy, "entries", 40_000)
    options = {
        "lru": {"weights": Weights.lru()},
        "lfu": {"weights": Weights.lfu()},
        "weights": {"weights": Weights()},
        "learned": {},
    }[policy]
    for point in table["points"]:
        assert point["hit_ratio"] == pytest.approx(replayed(point["size"], **options), abs=0.03)
        assert point["hit_ratio"] + point["miss_ratio"] == pytest.approx(1)


def test_a_curve_for_people(traces, capsys):
    """A table with a bar for each size, in bytes where the trace has sizes."""
    out = run(capsys, "mrc", traces / "sized.npz")
    assert "40,000 requests" in out
    assert "KiB" in out
    assert "bytes hit" in out
    assert "█" in out
    assert "bytes hit" not in run(capsys, "mrc", traces / "numbers.npz")


def test_a_curve_as_a_picture(traces, tmp_path, capsys):
    """PNG is written; other endings are refused before the work."""
    pytest.importorskip("matplotlib")
    run(capsys, "mrc", traces / "numbers.npz", "--plot", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert main(["mrc", str(traces / "numbers.npz"), "--plot", str(tmp_path / "x.doc")]) == 2
    assert "expected .png" in capsys.readouterr().err


def test_a_directory_of_recordings(traces, capsys):
    """Each recording of a directory has its curve."""
    tables = json.loads(run(capsys, "mrc", traces / "recorded", "--sizes", "10%", "--json"))
    assert len(tables) == 2
    assert all(table["requests"] == 40_000 for table in tables)


def test_a_recommendation(traces, capsys):
    """The size recommended for a hit ratio has it when replayed."""
    found = json.loads(
        run(
            capsys,
            "recommend",
            traces / "numbers.npz",
            "--hit-ratio",
            "70%",
            "--size",
            500,
            "--json",
        )
    )
    assert found["target"] == pytest.approx(0.7)
    assert replayed(found["recommended"]["size"]) == pytest.approx(0.7, abs=0.02)
    assert found["current"]["size"] == 500
    assert replayed(500) == pytest.approx(found["current"]["hit_ratio"], abs=0.02)


def test_a_recommendation_for_people(traces, capsys):
    """With times there are misses and costs of an hour; what cannot be reached is told."""
    out = run(capsys, "recommend", traces / "sized.npz", "--size", "100KiB", "--cost", 0.5)
    assert "recommended" in out
    assert "cost saved/h" in out
    assert "now" in out
    out = run(capsys, "recommend", traces / "numbers.npz", "--hit-ratio", 0.99)
    assert "no size hits 99.0%" in out


def test_a_simulation(traces, capsys):
    """Each policy at each size hits what a cache made so hits."""
    found = json.loads(
        run(
            capsys,
            "simulate",
            traces / "numbers.npz",
            "--policy",
            "learned,lru,lfu,weights",
            "--size",
            "150,10%",
            "--json",
        )
    )
    assert [outcome["policy"] for outcome in found] == ["learned", "lru", "lfu", "weights"] * 2
    assert [outcome["size"] for outcome in found] == [150] * 4 + [round(len(set(drawn())) / 10)] * 4
    assert found[1]["hit_ratio"] == pytest.approx(replayed(150, weights=Weights.lru()))
    assert found[0]["hit_ratio"] == pytest.approx(replayed(150), abs=0.01)
    out = run(capsys, "simulate", traces / "sized.csv", "--size", "64KiB")
    assert "64 KiB" in out


def test_a_simulation_of_a_sample(tmp_path, capsys):
    """A recorded quarter of the keys tells what the whole cache did."""
    cache = Cache(400)
    with Recorder(cache, tmp_path / "some.hctrace", sample=0.25) as recorder:
        for key in drawn().tolist():
            if cache.get(key) is None:
                cache[key] = True
    (found,) = json.loads(
        run(capsys, "simulate", recorder.path, "--size", 400, "--policy", "learned", "--json")
    )
    assert found["simulated_size"] == 100
    assert found["hit_ratio"] == pytest.approx(cache.stats().hit_ratio, abs=0.08)
    table = json.loads(run(capsys, "mrc", recorder.path, "--sizes", "400", "--json"))
    assert table["points"][0]["hit_ratio"] == pytest.approx(cache.stats().hit_ratio, abs=0.04)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["mrc", "nothing.npz"], "cannot read"),
        (["mrc", "."], "no recording"),
        (["mrc", "bad.hctrace"], "no recording"),
        (["simulate", "empty"], "no keys"),
        (["recommend", "bad.npz"], "no .npz"),
    ],
)
def test_what_is_no_trace(tmp_path, monkeypatch, capsys, argv, message):
    """It is told in one line, with exit status 2."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").write_text("")
    (tmp_path / "bad.hctrace").with_name("bad.npz").write_bytes(b"oops")
    if "bad.hctrace" in argv:
        (tmp_path / "bad.hctrace").write_bytes(b"oops")
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "argv",
    [
        ["mrc", "t", "--policy", "best"],
        ["mrc", "t", "--sizes", "0"],
        ["simulate", "t", "--size", "101%"],
        ["simulate", "t", "--size", "x%"],
        ["recommend", "t", "--hit-ratio", "1.5"],
    ],
)
def test_what_makes_no_sense(argv, capsys):
    """Wrong options are refused by the parser, which says what it expected."""
    with pytest.raises(SystemExit, match="2"):
        main(argv)
    assert "expected" in capsys.readouterr().err
