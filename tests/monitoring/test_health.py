"""Health of real caches whose tiers were broken."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

import hybridcore as hc
from hybridcore.disk import Lmdb
from hybridcore.errors import ConfigurationError
from hybridcore.origins import Origin
from hybridcore.stats.health import Limits
from hybridcore.types import Loaded
from hybridcore.warming import Startup, Warmer


def codes(store, **limits):
    """What is wrong, by tier."""
    health = store.health(Limits(**limits))
    return {(tier, reason.code) for tier, reason in health.reasons}


def test_a_cache_that_is_well(tmp_path) -> None:
    """Every tier that there is is ok, and readers may come."""
    disk = Lmdb(tmp_path / "disk", max_bytes="8MiB")
    with hc.HybridCache(disk=disk, origin=str.upper) as store:
        store.get("a")
        health = store.health()
        assert (health.state, health.is_live, health.is_ready) == ("ok", True, True)
        assert set(health.tiers) == {"memory", "disk", "origin", "coherence"}
        assert health.reasons == ()
        assert health["memory"].reason is None
        assert asyncio.run(store.aio.health()).state == "ok"
        assert json.loads(json.dumps(health.as_dict()))["tiers"]["disk"]["state"] == "ok"
    assert not store.health().is_live
    assert not store.health().is_ready
    assert store.health().state == "down"


def test_an_open_breaker(monkeypatch) -> None:
    """The origin is down since it opened; memory answers, so the whole is only degraded."""
    with hc.HybridCache(origin=str.upper) as store:
        store.breaker.trip("1h", reason="test")
        health = store.health()
        assert (health.state, health["origin"].state) == ("degraded", "down")
        assert health.is_ready
        assert codes(store) == {("origin", "breaker_open")}
        opened = store.breaker.history[-1].time
        monkeypatch.setattr("hybridcore.engine.health.time", lambda: opened + 30)
        assert store.health()["origin"].since == 30
        store.breaker.reset()
        assert codes(store) == set()


def test_it_is_told_since_when(monkeypatch) -> None:
    """From the first look that found it; anew when it comes back."""
    now = 1000.0
    monkeypatch.setattr("hybridcore.engine.health.monotonic", lambda: now)
    with hc.HybridCache(hc.Memory(10), origin=str.upper) as store:
        assert codes(store, rss=1) == {("memory", "process_over_bound")}
        now += 5
        assert store.health(Limits(rss=1))["memory"].since == 5
        assert store.health()["memory"].state == "ok"
        now += 7
        assert store.health()["memory"].since == 7
        assert store.health(Limits(rss=1))["memory"].since == 0


class BrokenDisk(Lmdb):
    """A disk that takes nothing while it is broken."""

    broken = False

    def fetch_many(self, keys):
        if self.broken:
            raise hc.DiskError("no space left")
        return super().fetch_many(keys)

    def put(self, *args, **options):
        if self.broken:
            raise hc.DiskError("no space left")
        super().put(*args, **options)


def test_no_tier_that_answers(tmp_path) -> None:
    """A cache whose origin and disk are gone, and that has no memory, is down."""
    disk = BrokenDisk(tmp_path / "disk", max_bytes="8MiB")
    with hc.HybridCache(None, disk, str.upper) as store:
        disk.broken = True
        store.put("a", 1)
        health = store.health()
        assert (health.state, health["disk"].state) == ("degraded", "down")
        assert (health["disk"].reason, health["disk"].missed) == ("no space left", 1)
        store.breaker.trip()
        assert store.health().state == "down"
        assert not store.health().is_ready
        assert store.health().is_live
        disk.broken = False


def test_a_disk_that_is_nearly_full(tmp_path) -> None:
    """By pages in use, and by the slots of readers that are taken."""
    disk = Lmdb(tmp_path / "disk", max_bytes="8MiB")
    with hc.HybridCache(disk=disk, origin=str.upper) as store:
        for key in range(20):
            store.put(key, bytes(10_000))
        share = disk.stats().used_bytes / disk.stats().map_bytes
        assert ("disk", "nearly_full") in codes(store, map_used=share / 2)
        assert codes(store) == set()
        assert ("disk", "readers_exhausted") in codes(store, readers=1e-9)


class Metered(Origin):
    """An origin with a quota of a hundred calls."""

    def __init__(self):
        self.left, self.free = 100, threading.Event()

    def load(self, key, held=None):
        self.left -= 1
        return Loaded(key)

    def store(self, key, value):
        self.free.wait(20)

    def usage(self):
        return hc.stats.OriginUsage(0, 0, {}, 0.0, 0, 0, 100 - self.left, self.left, None)


def test_a_quota_that_runs_out() -> None:
    """Low is told against the most that was seen, and then that nothing is left."""
    origin = Metered()
    with hc.HybridCache(origin=origin) as store:
        assert codes(store) == set()
        for key in range(95):
            store.get(key)
        assert codes(store) == {("origin", "quota_low")}
        for key in range(95, 100):
            store.get(key)
        assert codes(store) == {("origin", "quota_exhausted")}
        assert store.health()["origin"].state == "down"


def test_a_queue_that_nobody_drains() -> None:
    """By the age of its oldest write."""
    origin = Metered()
    store = hc.HybridCache(origin=origin, strategy="write_behind")
    try:
        store.put("a", 1)
        assert codes(store, queue_age=0) == {("queue", "queue_age")}
        assert codes(store, queue_age="1h") == set()
    finally:
        origin.free.set()
        store.close()


def test_a_start_that_is_not_warm(tmp_path) -> None:
    """What is required at the start keeps readers away until it is there."""
    trace = tmp_path / "trace"
    trace.write_text("a\nb\n")
    free = threading.Event()

    def load(key):
        free.wait(20)
        return key

    startup = Startup(trace=trace, required=True)
    with hc.HybridCache(origin=load) as store, Warmer(store, startup=startup) as warmer:
        health = store.health()
        assert (health.state, health.is_live, health.is_ready) == ("degraded", True, False)
        assert codes(store) == {("warming", "not_warm")}
        free.set()
        assert warmer.wait_until_ready(20)
        assert store.health().is_ready


def test_a_process_that_hears_of_no_invalidations(tmp_path, monkeypatch) -> None:
    """One that cannot read the log is behind; one that merely looked nothing up is not."""
    with (
        hc.HybridCache(disk=Lmdb(tmp_path / "d", max_bytes="8MiB")) as here,
        hc.HybridCache(disk=Lmdb(tmp_path / "d", max_bytes="8MiB")) as there,
    ):
        there.put("a", 1)
        there.put("a", 2)
        assert codes(here, coherence_lag=0) == set()
        coherence = here._engine.coherence
        monkeypatch.setattr(coherence, "catch_up", lambda: False)
        there.put("a", 3)
        assert here.stats().coherence.behind > 0
        assert codes(here, coherence_lag=0) == {("coherence", "coherence_lag")}
        assert codes(here) == set()


@pytest.mark.parametrize(
    "limits",
    [{"map_used": 0}, {"readers": 1.5}, {"quota_left": True}, {"queue_age": "soon"}, {"rss": "?"}],
)
def test_limits_that_make_no_sense(limits) -> None:
    """They are refused."""
    with pytest.raises(ConfigurationError):
        Limits(**limits)
