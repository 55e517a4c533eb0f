"""How the caches of a directory are, as far as another process can know."""

from __future__ import annotations

import hybridcore as hc
from hybridcore.monitoring.signals import samples_of
from hybridcore.monitoring.told_health import ToldHealth, told_lines
from hybridcore.monitoring.watched import WatchedDirectory
from hybridcore.write_queue import Redelivery


def test_a_directory_tells_the_health_of_each_tier() -> None:
    """By what is published: breaker, disk, queue and lag, since when they were first seen."""
    figures = {
        "memory_entries": 1.0,
        "disk_bytes": 97.0,
        "disk_map_bytes": 100.0,
        "disk_max_bytes": 100.0,
        "disk_readers": 125.0,
        "disk_max_readers": 126.0,
        "breaker_state": 1.0,
        "queue_oldest_seconds": 200.0,
        "queue_dead_letters": 3.0,
        "coherence_lag_seconds": 31.0,
        "origin_quota_left": 100.0,
    }
    labels = {"disk_bytes": ("part", "pages"), "breaker_state": ("state", "open")}
    now = [0.0]
    told = ToldHealth(lambda: now[0])

    def look():
        samples = {
            f"hybridcore_{name}": [(frozenset({labels[name]} if name in labels else ()), value)]
            for name, value in figures.items()
        }
        return told.of("users", samples, 1e9)

    health = look()
    states = health.state, health["memory"].state, health["origin"].state
    assert states == ("degraded", "ok", "down")
    assert {(tier, why.code) for tier, why in health.reasons} == {
        ("disk", "nearly_full"),
        ("disk", "readers_exhausted"),
        ("origin", "breaker_open"),
        ("queue", "queue_age"),
        ("queue", "dead_letters"),
        ("coherence", "coherence_lag"),
    }
    now[0] = 150.0
    figures["breaker_state"] = 0.0
    figures["origin_quota_left"] = 5.0
    health = look()
    assert [(why.code, why.since) for why in health["disk"].reasons] == [
        ("nearly_full", 150.0),
        ("readers_exhausted", 150.0),
    ]
    assert [(why.code, why.since) for why in health["origin"].reasons] == [("quota_low", 0.0)]
    line = "disk is degraded: pages in use take 97 bytes of a map of 100 (for 2 min)"
    assert line in told_lines(health)


def test_what_a_store_exports_tells_the_tiers_that_its_health_has(tmp_path) -> None:
    """The names of metrics are those that the exporter gives."""
    with hc.HybridCache(hc.Memory(100), hc.Lmdb(tmp_path / "users"), str.upper) as store:
        store.get("a")
        told = ToldHealth().of("users", samples_of(store.stats()), 1e9)
        assert told.tiers.keys() == store.health().tiers.keys()
        assert told.state == store.health().state == "ok"


def test_a_directory_that_nobody_publishes_in_is_not_known(tmp_path) -> None:
    """Its disk tier may be fine or not: it says that nobody tells."""
    with hc.Lmdb(tmp_path):
        watched = WatchedDirectory(tmp_path)
        (seen,) = watched.look()
        assert seen.state == "unknown"
        assert seen.reasons == ("no process that publishes statistics here is running",)
        watched.close()


def test_a_directory_with_dead_letters(tmp_path) -> None:
    """They are seen in the queue itself, whether or not a process tells of it."""
    with hc.WriteQueue(tmp_path, redelivery=Redelivery(attempts=1)) as queue:
        queue.put("k", 1)
        watched = WatchedDirectory(tmp_path)
        (seen,) = watched.look()
        assert (seen.state, seen.reasons) == ("ok", ())
        queue.nack(queue.take(), OSError())
        (seen,) = watched.look()
        assert seen.state == "degraded"
        assert "1 writes were given up" in seen.reasons[0]
        watched.close()
