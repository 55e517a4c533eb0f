"""``hybridcore stats`` looks into the directory of a cache that others are using."""

from __future__ import annotations

import json

import pytest

import hybridcore as hc
from hybridcore.cli import main
from hybridcore.exporters.prometheus import PrometheusExporter


def told(capsys, *arguments):
    """What the command prints as JSON."""
    assert main(["stats", "--json", *map(str, arguments)]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_directory_in_use_is_looked_into(tmp_path, capsys) -> None:
    """Entries and bytes, and what processes publish beneath; its user goes on as before."""
    disk = hc.Lmdb(tmp_path / "cache", durability="process")
    with hc.HybridCache(disk=disk, origin=lambda key: key * 2) as store:
        exporter = PrometheusExporter(
            {"things": store}, directory=tmp_path / "cache" / "statistics", interval=0
        )
        for number in range(10):
            store.get(f"key {number}")
        exporter.close()
        found = told(capsys, tmp_path / "cache")
        assert found["disk"]["entries"] == 10
        assert found["disk"]["live_bytes"] == disk.stats().live_bytes
        requests = found["processes"]["things"]["hybridcore_requests_total"]
        assert {"tier": "origin", "result": "hit", "value": 10} in requests
        durations = found["processes"]["things"]["hybridcore_request_duration_seconds"]
        assert any(row["tier"] == "origin" and row["count"] == 10 for row in durations)
        store.put("another", "value")
        assert disk.stats().entries == 11


def test_it_is_shown_to_people_too(tmp_path, capsys) -> None:
    """A table of what is there."""
    with hc.Lmdb(tmp_path / "cache") as disk:
        disk["key"] = "value"
    assert main(["stats", str(tmp_path / "cache")]) == 0
    out = capsys.readouterr().out
    assert "entries" in out
    assert "fragmentation" in out


@pytest.mark.parametrize("arguments", [(), ("--json",), ("--watch", "1s")])
def test_a_directory_of_something_else_is_refused(tmp_path, capsys, arguments) -> None:
    """Nothing is made there."""
    assert main(["stats", str(tmp_path), *arguments]) == 2
    assert "neither a disk tier nor published statistics" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_it_can_be_watched(tmp_path, capsys, monkeypatch) -> None:
    """Shown again and again, until interrupted."""
    with hc.Lmdb(tmp_path / "cache") as disk:
        disk["key"] = "value"
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("hybridcore.cli.stats.time.sleep", sleep)
    assert main(["stats", str(tmp_path / "cache"), "--watch", "2s"]) == 130
    assert looks == [2.0] * 3
    assert "entries" in capsys.readouterr().out
