"""The measurements of speed run, and print and save what they should; how fast is not asked."""

from __future__ import annotations

import argparse
import json
from random import Random

import pytest

from bench import disk, ratios, table, tails
from bench.footprint import use
from bench.operations import KEYS, ONCE, memory_operations
from bench.peers import DISK, MEMORY, TTL, Peer

SMALL = [peer for peer in MEMORY if peer.name in ("dict", "hybridcore", TTL, "lru_cache")]
STEPS = 2000


@pytest.fixture(autouse=True)
def few_peers(monkeypatch):
    for module in (ratios, tails):
        monkeypatch.setattr(module, "MEMORY", SMALL)


def run(module, path, *arguments: str):
    """Run a command with few peers; return the results that it saved."""
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    command = [*arguments, "--rounds", "2", "--steps", str(STEPS), "--json", str(path)]
    module.main(parser.parse_args(command))
    return json.loads(path.read_text())["results"]


def test_what_a_ttl_adds_is_told(tmp_path, capsys):
    """Below a hit stands how many nanoseconds longer it takes with a ttl."""
    found = run(ratios, tmp_path / "out.json", "--only", "get tuple")
    assert "ns added by a ttl" in capsys.readouterr().out
    (operations,) = found.values()
    assert operations["get tuple"][TTL]["added ns"].keys() >= {"median", "p10", "p90"}


def test_evictions_follow_each_other(tmp_path):
    """Each turn goes on where the last one ended: a dict finds the oldest key to drop."""
    found = run(ratios, tmp_path / "out.json", "--only", "set tuple, evicting")
    assert set(found["Memory, ratios to a dict"]["set tuple, evicting"]) == {p.name for p in SMALL}


def test_some_keys_are_read_through_only_once():
    """A fifth of the mix is for keys that nothing else asks for, in whatever turn."""
    (mix,) = (found for found in memory_operations(STEPS) if found.name.endswith("once"))
    rng = Random(1)
    turns = [mix.work(rng, turn) for turn in range(3)]
    universe = set(map(KEYS["int"], range(100_000)))
    once = [key for keys in turns for key in keys if key not in universe]
    assert len(once) == len(set(once))
    assert len(once) / (3 * STEPS) == pytest.approx(ONCE, abs=0.03)


def test_tails_have_percentiles_for_threads(tmp_path, capsys):
    """There is a line for each percentile and number of threads, and `table` prints them too."""
    path = tmp_path / "out.json"
    found = run(tails, path, "--only", "get int")["One call, ratios to a dict"]
    assert {f"get int, {n}, p99.9" for n in ("1 thread", "2 threads", "4 threads")} <= set(found)
    assert found["get int, 2 threads, p50"]["dict"]["ratio"]["median"] == 1
    capsys.readouterr()
    table.main(argparse.Namespace(file=path))
    assert "| get int, 4 threads, max |" in capsys.readouterr().out


def test_a_reader_is_timed_while_the_cache_shrinks(tmp_path):
    """What shrinks has dropped all but the last keys, and the reader waited for some time."""
    found = run(tails, tmp_path / "out.json", "--only", "shrink", "--entries", "20000")
    (measured,) = (found[title] for title in found if title.startswith("Dropping 20,000 "))
    assert set(measured["longest wait of a get"]) == {"dict", "hybridcore", TTL}
    assert all(peer["ns"]["min"] > 0 for line in measured.values() for peer in line.values())


def test_caches_on_disk_are_compared(tmp_path, monkeypatch):
    """Operations and views have ratios, and two processes read about as much as one or twice it."""
    peers = [peer for peer in DISK if peer.name in ("py-lmdb", "hybridcore")]
    monkeypatch.setattr(disk, "DISK", peers)
    path = tmp_path / "out.json"
    found = run(disk, path, "--only", "get_many 64 KiB", "--megabytes", "1")
    ratios_found, together = found.values()
    assert ratios_found["get_many 64 KiB"]["py-lmdb"]["ratio"]["median"] == 1
    (times,) = together.values()
    assert all(0.2 < times[peer.name]["times"]["median"] < 20 for peer in peers)
    (views,) = run(disk, path, "--only", "view", "--megabytes", "1").values()
    assert set(views["view 1 MiB float32"]) == {"py-lmdb", "hybridcore"}


@pytest.mark.parametrize("peer", SMALL, ids=lambda peer: peer.name)
def test_the_footprint_is_taken_in_use(peer):
    """Before it, everything was replaced once, and a bounded cache is full again."""
    if peer.name == "lru_cache":
        cache = peer.make(50)
        use(peer, cache, list(range(100)))
        assert cache.cache_info().currsize == 50
        assert cache.cache_info().misses >= 100
    else:
        cache = peer.make(50)
        use(peer, cache, list(range(100)))
        assert len(cache) == 50


def test_a_peer_that_is_not_there_is_told():
    """An absent distribution, and a name that another version lacks, both give a reason."""
    assert "nowhere-to-be-found" in Peer("x", "nowhere-to-be-found", dict, {}).missing()
    assert "Nothing" in Peer("x", "hybridcore", dict, {}, needs="hybridcore:Nothing").missing()
    assert Peer("x", "hybridcore", dict, {}).missing() is None
