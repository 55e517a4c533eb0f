"""Loaders by key pattern, and listeners of what happens."""

from __future__ import annotations

import pytest

import hybridcore as hc
from tests.hybrid.conftest import Source


def test_a_loader_per_pattern(drive, make_store):
    """The most specific pattern loads, what none matches comes from the origin."""
    source = Source({"plain": 1})
    store = make_store(source)

    @store.loader("user:{id:int}")
    def user(id):
        return {"id": id}

    @store.loader("user:{id:int}", many=True)
    def users(contexts):
        return {ctx.key: {"id": ctx.args["id"], "many": True} for ctx in contexts}

    assert drive.get(store, "user:7") == {"id": 7}
    assert drive.get(store, "plain") == 1
    assert drive.get_many(store, ["user:1", "user:2"])["user:2"] == {"id": 2, "many": True}
    assert source.asked == ["plain"]


def test_without_an_origin_only_patterns_are_asked(drive, make_store):
    """A key that nobody loads is a miss and no load."""
    store = make_store()
    store.loader("a:{x}")(lambda ctx: ctx.args["x"])
    assert drive.get(store, "a:1") == "1"
    assert drive.get(store, "b:1") is None
    assert store.stats().origin.loads == 1


def test_what_a_context_knows_and_says(drive, make_store, clock):
    """It has the stale copy and its etag; ttl, cost and importance travel with the answer."""
    store = make_store(ttl=10, stale=100)
    seen = []

    @store.loader("k")
    def load(ctx):
        seen.append((ctx.has_stale, ctx.stale_value if ctx.has_stale else None, ctx.etag))
        ctx.ttl = 60
        ctx.cost = 5.0
        return ctx.modified("v1", etag="e1") if not ctx.has_stale else ctx.not_modified()

    assert drive.get(store, "k") == "v1"
    entry = store.entry("k")
    assert (entry.etag, entry.cost) == ("e1", 5.0)
    assert entry.ttl_left == pytest.approx(60)
    clock.now += 61
    assert drive.get(store, "k") == "v1"
    assert seen == [(False, None, None), (True, "v1", "e1")]
    assert store.stats().origin.not_modified == 1


def test_a_loader_says_how_long_a_key_is_missing(drive, make_store, clock):
    """``ctx.missing(ttl=)`` is remembered for so long, without negative_ttl."""
    asked = []
    store = make_store()

    @store.loader("k")
    def load(ctx):
        asked.append(1)
        return ctx.missing(ttl=5)

    for _ in range(3):
        assert drive.get(store, "k") is None
    assert len(asked) == 1
    clock.now += 6
    assert drive.get(store, "k") is None
    assert len(asked) == 2
    assert store.stats().origin.negative_hits == 2


def test_events_are_told_in_order(drive, make_store, clock):
    """Each interesting moment once, by kind, and nobody is told any more after the end."""
    told = []
    source = Source({"k": 1})
    store = make_store(source, ttl=10, stale=100)
    stop = store.on(lambda event: told.append((event.kind.value, event.key)))
    drive.get(store, "k")
    store.memory.clear()
    drive.get(store, "k")
    drive.get(store, "none")
    drive.put(store, "p", 1)
    drive.delete(store, "p")
    clock.now += 11
    source.values["k"] = OSError("secret text")
    drive.get(store, "k")
    drive.clear(store)
    assert store._engine.events.drain(20)
    assert told == [
        ("load", "k"),
        ("promoted", "k"),
        ("hit", "k"),
        ("load", "none"),
        ("miss", "none"),
        ("stored", "p"),
        ("deleted", "p"),
        ("load_failed", "k"),
        ("stale_served", "k"),
        ("hit", "k"),
        ("cleared", None),
    ]
    stop()
    drive.put(store, "k", 1)
    assert len(told) == 11


def test_the_breaker_and_the_disk_are_told_of(make_store, tmp_path):
    """A breaker that opens, a disk that fails and one that works again."""

    class Flaky(hc.Lmdb):
        broken = False

        def fetch_many(self, keys):
            if self.broken:
                raise hc.DiskError("it hurts")
            return super().fetch_many(keys)

        def fetch_plain(self, key):
            if self.broken:
                raise hc.DiskError("it hurts")
            return super().fetch_plain(key)

    told = []
    source = Source({"k": OSError("down")})
    disk = Flaky(tmp_path / "flaky")
    store = make_store(source, disk=disk, breaker=hc.Breaker(failures=1))
    store.on(lambda event: told.append(event.kind.value), ["breaker", "tier_down", "tier_up"])
    disk.broken = True
    with pytest.raises(OSError, match="down"):
        store.get("k")
    disk.broken = False
    store._engine.tiers.disk._retry_at = 0.0
    with pytest.raises(hc.BreakerOpenError):
        store.get("k")
    assert store._engine.events.drain(20)
    assert told == ["tier_down", "breaker", "tier_up"]
    assert store.health()["origin"].state == "down"


def test_a_listener_that_raises_harms_nobody(drive, make_store):
    """It is counted, and the others hear."""
    told = []
    store = make_store(Source({"k": 1}))

    def bad(event):
        raise RuntimeError("listener")

    store.on(bad)
    store.on(lambda event: told.append(event.key), ["load"])
    assert drive.get(store, "k") == 1
    assert store._engine.events.drain(20)
    assert told == ["k"]
    assert store._engine.events.stats().failed >= 1


def test_an_entry_tells_how_often_it_was_used(drive, make_store):
    """As memory has counted; asking is no use."""
    store = make_store(Source({"k": 1}))
    for _ in range(4):
        assert drive.get(store, "k") == 1
    assert store.entry("k").uses == store.entry("k").uses == 4
    store.memory.clear()
    assert store.entry("k").uses == 0
