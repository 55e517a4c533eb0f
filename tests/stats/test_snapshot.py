"""What ``store.stats()`` tells: true of what happened, and of any stretch of time."""

from __future__ import annotations

import json
import pickle
from time import sleep

import pytest

import hybridcore as hc
from hybridcore.stats import CacheStats, DiskStats
from hybridcore.stats.performance import ERRORS, WINDOWS


def use(store, keys):
    """Ask for these once, and again when only the disk has them."""
    for key in keys:
        store.get(key)
    store.memory.clear()
    for key in keys:
        store.get(key)


def counts(stats):
    """How often what was timed, by series."""
    return {
        ".".join(series): latency.total.count
        for series, latency in stats.performance.series.items()
        if series.tier != "memory"
    }


def test_every_operation_below_memory_is_timed_once(store) -> None:
    """Lookups of the disk, loads, writes and whole lookups, by their outcome."""
    keys = [f"key {number}" for number in range(20)]
    use(store, keys)
    store.get("nowhere")
    store.put("new", "value")
    store.get_many([*keys[:5], "neither"])
    assert counts(store.stats()) == {
        "disk.get.hit": 20,
        "disk.get.miss": 22,
        "disk.put.ok": 20,
        "origin.load.hit": 20,
        "origin.load.miss": 2,
        "origin.store.ok": 1,
        "all.get.hit": 40,
        "all.get.miss": 2,
    }


def test_failures_count_by_class(store, table) -> None:
    """Errors of loads and writes, each by what went wrong, and what is stored nowhere."""
    table.values |= {
        "down": OSError("no"),
        "late": hc.OriginTimeoutError("no"),
        "open": hc.BreakerOpenError("no"),
        "odd": hc.DecodeError("no"),
        "unstorable": object(),
    }
    for key in ("down", "late", "open", "odd"):
        with pytest.raises((OSError, hc.HybridCoreError)):
            store.get(key)
    store.get("unstorable")
    with pytest.raises(OSError, match="no"):
        store.put("key", OSError("no"))
    performance = store.stats().performance
    assert performance.errors == {
        "load_error": 1,
        "store_error": 1,
        "timeout": 1,
        "breaker_open": 1,
        "bulkhead_full": 0,
        "serialization": 2,
        "disk": 0,
    }
    assert set(performance.errors) == set(ERRORS)
    assert performance.of("origin", "load", "error").count == 4
    assert performance.of("origin", "store", "error").count == 1
    operations = sum(performance.of(tier).count for tier in ("disk", "origin"))
    assert performance.error_rate["timeout"] == 1 / operations


def test_stale_answers_are_no_hits(tmp_path, table) -> None:
    """A copy past its ttl that covers for the origin counts apart."""
    now = [1000.0]
    with hc.HybridCache(
        memory=hc.Cache(100, timer=lambda: now[0]),
        disk=hc.Lmdb(tmp_path / "d", clock=lambda: int(now[0] * 1e9)),
        origin=table.load,
        defaults=hc.EntryOptions(ttl=10, stale=100, throttle=0),
    ) as store:
        store.get("key 1")
        now[0] += 20
        table.values["key 1"] = OSError("down")
        assert store.get("key 1") == "v" * 100
        stats = store.stats()
    assert counts(stats)["all.get.stale"] == 1
    assert counts(stats)["disk.get.stale"] == 1
    assert stats.efficiency.stale_ratio["disk"] == 0.5
    assert stats.efficiency.hit_ratio["disk"] == 0.0


def test_writes_that_wait_are_timed_as_the_queue(tmp_path, table) -> None:
    """Under write_behind the caller waits for the queue, not for the origin."""
    origin = hc.CallableOrigin(table.load, store=table.store)
    with hc.HybridCache(origin=origin, strategy="write_behind") as store:
        store.put("a", 1)
        stats = store.stats()
    assert counts(stats) == {"queue.put.ok": 1}
    assert stats.queue is not None


class BrokenDisk(hc.Lmdb):
    """No lookup of it comes to an end."""

    def fetch_plain(self, key):
        raise hc.DiskError("no")

    def fetch_many(self, keys):
        raise hc.DiskError("no")


@pytest.mark.parametrize("ask", ["get", "lookup"])
def test_a_failing_disk_is_an_error(tmp_path, table, ask: str) -> None:
    """Lookups that the disk did not answer are no misses of it."""
    with hc.HybridCache(disk=BrokenDisk(tmp_path / "d"), origin=table.load) as store:
        assert getattr(store, ask)("key 1") == "v" * 100
        stats = store.stats()
    assert counts(stats)["disk.get.error"] == 1
    assert "disk.get.miss" not in counts(stats)
    assert stats.performance.errors["disk"] == 1


def test_after_minus_before_is_what_came_between(store) -> None:
    """Counts, durations and seconds are of the interval, states of its end."""
    keys = [f"key {number}" for number in range(30)]
    use(store, keys)
    before = store.stats()
    store.memory.clear()
    for key in keys[:10]:
        store.get(key)
    after = store.stats()
    between = after - before
    assert between.memory.misses == 10
    assert between.memory.entries == 10
    assert between.disk.hits == 10
    assert between.disk.entries == after.disk.entries == 30
    assert between.origin.promoted == 10
    assert counts(between)["disk.get.hit"] == 10
    assert between.performance.of("origin").count == 0
    assert between.efficiency.hit_ratio == {"memory": 0.0, "disk": 1.0, "all": 1.0}
    assert between.efficiency.promotion_rate == pytest.approx(10 / between.seconds)
    assert 0 < between.seconds < after.seconds
    assert 0 <= between.resources.cpu_seconds <= after.resources.cpu_seconds
    with pytest.raises(ValueError, match="one stretch of time"):
        between.performance.over(60)


def test_the_last_minutes_are_told_apart(store) -> None:
    """`over` has the same tiers, from slices of the window."""
    use(store, ["key 1", "key 2"])
    sleep(0.02)  # several ticks of the coarse clock, or no time has passed
    performance = store.stats().performance
    for window in WINDOWS:
        lately = performance.over(window)
        assert lately.of("disk", "get", "hit").count == 2
        assert lately.throughput["disk"] > 0
        assert lately.window == window
    assert performance.over("5m").p99["disk"] == performance.p99["disk"]
    for name in ("mean", "p50", "p95", "p99", "p999", "throughput"):
        assert {"disk", "origin", "all"} <= set(getattr(performance, name)), name
    with pytest.raises(ValueError, match="one of 60, 300, 3600"):
        performance.over("2m")


def test_resources_are_counted_honestly(store) -> None:
    """Keys and values with what they hold, the table, the file, and the process."""
    use(store, [f"key {number}" for number in range(100)])
    stats = store.stats()
    memory = stats.resources.memory
    assert memory["keys"] + memory["values"] == pytest.approx(store.memory.currsize, abs=2)
    assert memory["values"] > 100 * 100
    assert memory["table"] == store.memory.memory_bytes()
    assert stats.resources.rss > sum(memory.values())
    assert stats.resources.disk["file"] >= stats.resources.disk["pages"] > 0
    assert stats.resources.disk["records"] == stats.disk.live_bytes
    assert 0 < stats.resources.own_seconds < stats.seconds
    assert stats.resources.cpu_utilization > 0


def test_bytes_are_counted_by_tier(store) -> None:
    """One in sixteen stands for the values that a tier handed out."""
    for _ in range(20):
        use(store, [f"key {number}" for number in range(100)])
    stats = store.stats()
    size = hc.footprint_of("v" * 100)
    assert stats.served["disk"] == pytest.approx(20 * 100 * size, rel=0.35)
    assert 0.9 < stats.efficiency.byte_hit_ratio["disk"] <= 1.0


def test_it_is_plain_data_too(store) -> None:
    """As JSON and pickled; without tiers there is nothing of them."""
    use(store, ["key 1"])
    stats = store.stats()
    told = json.loads(json.dumps(stats.as_dict()))
    assert told["memory"]["misses"] == 2
    assert {"total", "60s", "300s", "3600s"} == set(told["performance"])
    assert "total" in json.loads(json.dumps((store.stats() - stats).as_dict()))["performance"]
    assert pickle.loads(pickle.dumps(stats)) == stats
    with hc.HybridCache() as alone:
        assert alone.stats().disk is None
        assert alone.stats().as_dict()["disk"] is None
        assert alone.stats().performance.by_tier() == {}
        assert (alone.stats() - alone.stats()).disk is None


def test_snapshots_of_different_kinds_do_not_subtract(store) -> None:
    """A mistake is an error."""
    with pytest.raises(TypeError):
        store.stats().memory - store.stats().disk


@pytest.mark.parametrize("kind", [CacheStats, DiskStats])
def test_counts_subtract_and_states_stay(kind) -> None:
    """Each field of a snapshot is one or the other."""
    fields = list(kind.__dataclass_fields__)
    before = kind(**{name: 3 for name in fields if name != "compression"} | extra(kind))
    after = kind(**{name: 10 for name in fields if name != "compression"} | extra(kind))
    between = after - before
    for name in fields:
        if name != "compression":
            assert getattr(between, name) == (10 if name in kind.STATES else 7)


def extra(kind):
    """What is not a number."""
    return {"compression": None} if kind is DiskStats else {}
