"""What the tiers remove by themselves is told to who listens to it, and to nobody else."""

import hybridcore as hc

from .conftest import PATIENCE


def test_memory_tells_what_it_evicts(clock):
    """One event an entry, with the cause; what the application deletes or replaces is none."""
    told = []
    with hc.HybridCache(hc.Cache(2, timer=clock.seconds)) as store:
        stop = store.on(told.append, ["evicted"])
        for key in "abc":
            store.put(key, 1, ttl=10)
        store.put("c", 2, ttl=10)
        store.delete("c")
        clock.now += 11
        store.memory.expire()
        assert store._engine.events.drain(PATIENCE)
        stop()
        for key in "defg":
            store.put(key, 1)
    assert [(event.reason, event.tier, event.count) for event in told] == [
        ("size", hc.Tier.MEMORY, 1),
        ("expired", hc.Tier.MEMORY, 1),
    ]
    assert {event.key for event in told} == set("ab")


def test_a_listener_of_the_cache_hears_of_evictions_too():
    """That of a `Cache` that came with the store goes on being told, before, while and after."""
    heard, told = [], []
    memory = hc.Cache(1, on_evict=lambda key, value, cause: heard.append(key))
    with hc.HybridCache(memory) as store:
        store.put("a", 1)
        store.put("b", 1)
        stop = store.on(told.append, ["evicted"])
        store.put("c", 1)
        assert store._engine.events.drain(PATIENCE)
        stop()
        store.put("d", 1)
    assert heard == ["a", "b", "c"]
    assert [event.key for event in told] == ["b"]


def test_the_disk_tells_how_many_it_evicts(tmp_path):
    """One event a transaction, without the keys."""
    told = []
    disk = hc.Lmdb(tmp_path / "small", max_bytes="2MiB")
    with hc.HybridCache(None, disk) as store:
        store.on(told.append, ["evicted"])
        for number in range(300):
            store.put(number, bytes(20_000))
        assert store._engine.events.drain(PATIENCE)
        evicted = store.stats().disk.evictions
    assert evicted > 0
    assert sum(event.count for event in told) == evicted
    assert {(event.key, event.tier, event.reason) for event in told} == {
        (None, hc.Tier.DISK, "size")
    }


def test_listening_to_evictions_leaves_misses_on_the_straight_way(monkeypatch):
    """Who wants to know of evictions alone does not slow lookups down."""
    with hc.HybridCache(hc.Cache(10), origin=str.upper) as store:
        store.on(lambda event: None, ["evicted"])
        monkeypatch.setattr(store._engine, "read", None)
        assert store.get("a") == "A"
