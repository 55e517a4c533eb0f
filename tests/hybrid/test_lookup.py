"""Where a value comes from: memory, disk, origin, or nowhere."""

import subprocess
import sys

import pytest

import hybridcore as hc

from .conftest import Source


def test_goes_down_until_a_tier_answers(drive, make_store, tmp_path):
    """A miss asks the origin once; its answer is then in memory and on disk."""
    source = Source({"k": "v"})
    store = make_store(source)
    assert drive.get(store, "k") == "v"
    assert drive.get(store, "k") == "v"
    assert source.asked == ["k"]
    assert store.memory.peek("k") == "v"
    stats = store.stats()
    assert (stats.memory.hits, stats.memory.misses) == (1, 1)
    assert (stats.disk.hits, stats.disk.misses, stats.disk.puts) == (0, 1, 1)
    assert stats.origin.loads == 1


def test_a_disk_hit_is_promoted(drive, make_store):
    """What memory has lost comes from disk, without the origin, and is in memory again."""
    source = Source({"k": "v"})
    store = make_store(source)
    drive.get(store, "k")
    store.memory.clear()
    assert drive.get(store, "k") == "v"
    assert drive.get(store, "k") == "v"
    stats = store.stats()
    assert source.asked == ["k"]
    assert stats.disk.hits == 1
    assert stats.memory.insertions == 2


def test_a_promoted_entry_keeps_the_rest_of_its_ttl(drive, make_store, clock):
    """Promotion gives no new life: the entry expires when it would have on disk."""
    source = Source({"k": 1})
    store = make_store(source, ttl=10)
    drive.get(store, "k")
    store.memory.clear()
    clock.now += 6
    assert drive.get(store, "k") == 1
    assert store.memory.ttl_left("k") == pytest.approx(4)
    source.values["k"] = 2
    clock.now += 3.9
    assert drive.get(store, "k") == 1
    clock.now += 0.2
    assert drive.get(store, "k") == 2


def test_a_fresh_process_starts_warm(make_store, tmp_path):
    """What one process loaded, the next one finds on disk."""
    program = (
        "import sys, hybridcore as hc\n"
        "def load(key): raise SystemExit('asked the origin')\n"
        "with hc.HybridCache(disk=hc.Lmdb(sys.argv[1]), origin=load) as store:\n"
        "    print(store.get('k'), sorted(store.get_many(['a', 'b']).items()))\n"
    )
    store = make_store(Source({"k": "v", "a": 1, "b": 2}), disk=hc.Lmdb(tmp_path / "shared"))
    store.get("k")
    store.get_many(["a", "b"])
    store.close()
    found = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "shared"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout == "v [('a', 1), ('b', 2)]\n"


def test_none_is_a_value(drive, make_store):
    """None is kept and found like any other value, and not loaded again."""
    source = Source({"k": None})
    store = make_store(source)
    assert drive.get(store, "k", "default") is None
    store.memory.clear()
    assert drive.get(store, "k", "default") is None
    assert drive.get(store, "k", "default") is None
    assert drive.get_many(store, ["k"]) == {"k": None}
    assert drive.get_or_load(store, "k", lambda key: 1) is None
    assert source.asked == ["k"]
    drive.put(store, "put", None)
    assert drive.get(store, "put", "default") is None


def test_not_found(drive, make_store):
    """What the origin does not have is the default, and is asked for again."""
    source = Source()
    store = make_store(source)
    assert drive.get(store, "k") is None
    assert drive.get(store, "k", 7) == 7
    assert drive.get(store, "k", default=8) == 8
    assert source.asked == ["k"] * 3
    assert store.stats().origin.not_found == 3
    source.values["k"] = 1
    assert drive.get(store, "k", 7) == 1


def test_square_brackets(make_store):
    """``[]`` loads like get, and raises KeyError for what nobody has."""
    store = make_store(Source({"k": 1}))
    assert store["k"] == 1
    with pytest.raises(KeyError, match="absent"):
        store["absent"]
    store["k"] = 2
    assert store["k"] == 2
    del store["k"]
    with pytest.raises(KeyError, match="gone"):
        del store["gone"]
    assert store["k"] == 1


def test_is_no_sequence(make_store):
    """Iterating is refused instead of asking the origin for 0, 1, 2..."""
    source = Source({0: "a", 1: "b"})
    store = make_store(source)
    with pytest.raises(TypeError, match="not iterable"):
        iter(store)
    assert source.asked == []


def test_contains_asks_no_origin(drive, make_store, clock):
    """contains looks at fresh entries of the tiers and counts nothing."""
    source = Source({"k": 1})
    store = make_store(source, ttl=10, stale=10)
    assert not drive.contains(store, "k")
    assert "k" not in store
    drive.get(store, "k")
    assert drive.contains(store, "k")
    store.memory.clear()
    before = store.stats()
    assert drive.contains(store, "k")
    assert "k" in store
    after = store.stats()
    assert (after.memory, after.disk, after.origin) == (before.memory, before.disk, before.origin)
    clock.now += 11
    assert not drive.contains(store, "k")
    assert source.asked == ["k"]


def test_origin_may_be_any_function(drive, make_store):
    """A def or an async def is an origin; what it returns is the value."""
    store = make_store(drive.function(lambda key: key * 2))
    assert drive.get(store, "ab") == "abab"
    assert drive.get_many(store, ["ab", "c"]) == {"ab": "abab", "c": "cc"}


@pytest.mark.parametrize("kind", ["def", "async def", "awaitable"])
def test_get_or_load(drive, make_store, kind):
    """The loader is asked once, whatever it is made of; then the tiers have the value."""
    asked = []

    def plain(key):
        asked.append(key)
        return [key]

    async def coroutine(key):
        return plain(key)

    loader = {"def": plain, "async def": coroutine, "awaitable": lambda key: coroutine(key)}[kind]
    store = make_store()
    assert drive.get_or_load(store, "k", loader) == ["k"]
    assert drive.get_or_load(store, "k", loader) == ["k"]
    store.memory.clear()
    assert drive.get_or_load(store, "k", loader) == ["k"]
    assert asked == ["k"]
    assert drive.get(store, "k") == ["k"]


def test_get_or_load_takes_the_place_of_the_origin(drive, make_store):
    """With a loader the store's own origin is not asked."""
    source = Source({"k": "origin"})
    store = make_store(source)
    assert drive.get_or_load(store, "k", lambda key: "loader") == "loader"
    assert drive.get(store, "k") == "loader"
    assert source.asked == []


def test_get_or_load_not_found(drive, make_store):
    """A loader says that there is no value by raising NotFoundError, or by returning NotFound."""
    store = make_store()

    def absent(key):
        raise hc.NotFoundError(key)

    for loader in (absent, lambda key: hc.NotFound()):
        with pytest.raises(hc.NotFoundError, match="'k'"):
            drive.get_or_load(store, "k", loader)
    assert drive.get_or_load(store, "k", lambda key: 1) == 1


def test_get_or_load_ttl(drive, make_store, clock):
    """The call's ttl comes before the cache's own."""
    store = make_store(ttl=1000)
    assert drive.get_or_load(store, "k", lambda key: 1, ttl="5s") == 1
    clock.now += 4
    assert drive.get_or_load(store, "k", lambda key: 2, ttl="5s") == 1
    clock.now += 2
    assert drive.get_or_load(store, "k", lambda key: 3, ttl="5s") == 3


def test_a_loader_must_be_callable(drive, make_store):
    """What cannot be called is refused before anything happens."""
    with pytest.raises(TypeError, match="function"):
        drive.get_or_load(make_store(), "k", "loader")


def test_ttl_of_the_origin_wins(drive, make_store, clock):
    """The origin knows better how long its answer is good."""
    source = Source({"k": hc.Loaded(1, ttl=5)})
    store = make_store(source, ttl=1000)
    drive.get(store, "k")
    clock.now += 6
    source.values["k"] = 2
    assert drive.get(store, "k") == 2


@pytest.mark.parametrize("without", ["memory", "disk"])
def test_one_tier_is_enough(drive, make_store, without):
    """Either tier can be left out, and everything else works."""
    source = Source({"k": 1, "a": 2})
    store = make_store(source, **{without: None})
    assert drive.get(store, "k") == 1
    assert drive.get(store, "k") == 1
    assert drive.get_many(store, ["k", "a", "none"]) == {"k": 1, "a": 2}
    assert source.asked == ["k", "a", "none"]
    drive.put(store, "k", 3)
    assert drive.get(store, "k") == 3
    assert drive.get_or_load(store, "b", lambda key: 4) == 4
    assert drive.contains(store, "b")
    assert drive.delete(store, "b")
    assert not drive.delete(store, "b")
    drive.clear(store)
    assert drive.get(store, "k") == 1
    assert getattr(store.stats(), without) is None
    assert f"{without}=" not in repr(store)


def test_no_origin_is_enough(drive, make_store):
    """Without an origin it is a cache of two tiers."""
    store = make_store()
    assert drive.get(store, "k") is None
    assert drive.get_many(store, ["k"]) == {}
    drive.put(store, "k", 1)
    store.memory.clear()
    assert drive.get(store, "k") == 1
    assert drive.get_many(store, ["k", "l"]) == {"k": 1}


def test_cache_aside(drive, make_store):
    """The origin is never asked and never written; the application does both."""
    source = Source({"k": "origin"})
    store = make_store(source, strategy="cache_aside")
    assert drive.get(store, "k") is None
    assert drive.get_many(store, ["k"]) == {}
    drive.put(store, "k", "put")
    assert drive.get(store, "k") == "put"
    assert drive.delete(store, "k")
    assert drive.get_or_load(store, "k", lambda key: "loader") == "loader"
    assert (source.asked, source.batches, source.stored, source.deleted) == ([], [], [], [])


def test_read_through_writes_stop_at_the_tiers(drive, make_store):
    """put and delete leave the origin alone."""
    source = Source({"k": "origin"})
    store = make_store(source)
    drive.put(store, "k", "put")
    assert drive.get(store, "k") == "put"
    drive.delete(store, "k")
    assert drive.get(store, "k") == "origin"
    assert (source.stored, source.deleted) == ([], [])


def test_write_through(drive, make_store):
    """put and delete reach the origin and the tiers."""
    source = Source()
    store = make_store(source, strategy="write_through")
    drive.put(store, "k", "v")
    assert source.values == {"k": "v"}
    store.memory.clear()
    assert drive.get(store, "k") == "v"
    assert source.asked == []
    assert drive.delete(store, "k")
    assert source.values == {}
    assert drive.get(store, "k") is None
    stats = store.stats().origin
    assert (stats.stores, stats.deletes) == (1, 1)


def test_write_through_keeps_the_validators(drive, make_store, clock):
    """What the origin says of the value it took serves to renew it."""
    held = []

    class Versioned(hc.Origin):
        def load(self, key, held_now=None):
            held.append(held_now)
            return hc.NotModified()

        def store(self, key, value):
            return hc.Validators(etag="1")

    store = make_store(Versioned(), strategy="write_through", ttl=10, stale=100)
    drive.put(store, "k", "v")
    clock.now += 11
    assert drive.get(store, "k") == "v"
    store.memory.clear()
    clock.now += 11
    assert drive.get(store, "k") == "v"
    assert held == [hc.Validators(etag="1")] * 2


def test_put_ttl(drive, make_store, clock):
    """The call's ttl comes before the cache's own; infinity never expires."""
    store = make_store(ttl=100)
    drive.put(store, "short", 1, ttl=5)
    drive.put(store, "default", 1)
    drive.put(store, "ever", 1, ttl=float("inf"))
    clock.now += 6
    assert drive.get(store, "short") is None
    assert drive.get(store, "default") == 1
    clock.now += 100
    assert drive.get(store, "default") is None
    assert drive.get(store, "ever") == 1
    store.memory.clear()
    assert drive.get(store, "ever") == 1


def test_a_memory_tier_with_a_ttl_looks_below_sooner(drive, make_store, clock):
    """A Cache given as memory keeps its own ttl as a bound: after it, the disk is looked at."""
    store = make_store(Source({"k": 1}), memory=hc.Cache(10, ttl=5, timer=clock.seconds), ttl=100)
    drive.get(store, "k")
    store._engine.disk.put("k", 2)
    clock.now += 4
    assert drive.get(store, "k") == 1
    clock.now += 2
    assert drive.get(store, "k") == 2


def test_a_bad_duration_changes_nothing(drive, make_store):
    """A ttl that makes no sense is refused before anything is stored."""
    store = make_store(Source(), strategy="write_through")
    with pytest.raises(hc.ConfigurationError, match="duration"):
        drive.put(store, "k", 1, ttl="soon")
    assert not store.contains("k")
    assert store._engine.origin.stored == []


def test_delete_tells_whether_a_tier_had_it(drive, make_store):
    """delete is True when memory or disk had the entry."""
    store = make_store()
    assert not drive.delete(store, "k")
    drive.put(store, "k", 1)
    store.memory.clear()
    assert drive.delete(store, "k")
    assert not drive.delete(store, "k")


def test_clear(drive, make_store):
    """clear empties both tiers and leaves the origin alone."""
    source = Source({"k": 1}, etags=True)
    store = make_store(source, strategy="write_through")
    drive.get(store, "k")
    drive.clear(store)
    assert len(store.memory) == 0
    assert store.stats().disk.entries == 0
    assert source.values == {"k": 1}
    assert drive.get(store, "k") == 1
    assert source.held == [None, None]


def test_repr_names_the_parts(make_store):
    """The repr tells tiers, origin and strategy, and asks nobody."""
    source = Source({"k": 1})
    shown = repr(make_store(source))
    for part in ("HybridCache(memory=Cache(", "disk=Lmdb(", "origin=source", "'read_through'"):
        assert part in shown
    assert source.asked == []


def test_stats_add_up(drive, make_store):
    """Every lookup is one hit or miss of memory, every miss one of the disk, and so on down."""
    source = Source({n: n for n in range(0, 20, 2)})
    store = make_store(source)
    for n in range(20):
        drive.get(store, n)
    store.memory.clear()
    drive.get_many(store, range(20))
    for n in range(20):
        drive.get_or_load(store, n, lambda key: -key)
    memory, disk, origin = store.stats().memory, store.stats().disk, store.stats().origin
    assert memory.requests == 60
    assert disk.hits + disk.stale_hits + disk.misses == memory.misses
    assert origin.loads == disk.misses + disk.stale_hits
    assert origin.loads == origin.not_found + disk.puts
    assert (origin.errors, origin.disk_errors) == (0, 0)


def test_listener_hears_of_what_missed_memory(drive, make_store, clock):
    """Each lookup that missed memory is told with the tier that answered, batches key by key."""
    told = []

    class Listener:
        def looked_up(self, key, tier, duration):
            assert duration >= 0
            told.append((key, tier))

    source = Source({"k": 1, "bad": ValueError("bad")})
    store = make_store(source, listener=Listener())
    drive.get(store, "k")
    drive.get(store, "k")
    store.memory.clear()
    drive.get(store, "k")
    drive.get(store, "none")
    with pytest.raises(ValueError, match="bad"):
        drive.get(store, "bad")
    assert told == [
        ("k", hc.Tier.ORIGIN), ("k", hc.Tier.DISK), ("none", None), ("bad", None),
    ]  # fmt: skip
    told.clear()
    source.values["l"] = 2
    drive.get_many(store, ["k", "l", "none"])
    assert told == [("l", hc.Tier.ORIGIN), ("none", None)]


def test_configuration(make_store):
    """Options that make no sense together are refused, and say what to do."""
    with pytest.raises(hc.ConfigurationError, match="memory= or disk="):
        hc.HybridCache(memory=None)
    with pytest.raises(hc.ConfigurationError, match="origin that takes writes"):
        hc.HybridCache(origin=lambda key: key, strategy="write_through")
    with pytest.raises(hc.ConfigurationError, match="origin that takes writes, got none"):
        hc.HybridCache(strategy="write_through")
    with pytest.raises(hc.ConfigurationError, match="cache_aside"):
        hc.HybridCache(strategy="write_around")
    with pytest.raises(hc.ConfigurationError, match="memory is expected"):
        hc.HybridCache(memory={})
    with pytest.raises(hc.ConfigurationError, match="origin is expected"):
        hc.HybridCache(origin="https://")
    with pytest.raises(hc.ConfigurationError, match="stale"):
        hc.HybridCache(defaults=hc.EntryOptions(stale=5))
