"""What is not asked again for a while: an origin that just failed, and keys that it has not."""

import asyncio

import pytest

import hybridcore as hc

from .conftest import Source

# -- throttle ----------------------------------------------------------------------------------


def failing(store, drive, source, clock):
    """Have ``k`` stale and its origin fail."""
    source.values["k"] = "v"
    assert drive.get(store, "k") == "v"
    clock.now += 11
    source.values["k"] = OSError("down")
    source.asked.clear()


def test_the_origin_is_left_alone_after_a_failure(drive, make_store, clock):
    """For the throttle the copy is served at once; then the origin is asked again."""
    source = Source()
    store = make_store(source, ttl=10, stale=100, throttle=5)
    failing(store, drive, source, clock)
    for _ in range(3):
        assert drive.get(store, "k") == "v"
        assert drive.get_many(store, ["k"]) == {"k": "v"}
    assert source.asked == ["k"]
    origin = store.stats().origin
    assert (origin.errors, origin.throttled, origin.stale_served) == (1, 5, 6)
    clock.now += 5.1
    source.values["k"] = "back"
    assert drive.get(store, "k") == "back"
    assert source.asked == ["k", "k"]


def test_by_default_for_a_second(drive, clock, tmp_path):
    """The throttle is there without being asked for."""
    source = Source()
    with hc.HybridCache(
        hc.Cache(10, timer=clock.seconds),
        origin=source,
        defaults=hc.EntryOptions(ttl=10, stale=100),
    ) as store:
        failing(store, drive, source, clock)
        drive.get(store, "k")
        clock.now += 0.9
        drive.get(store, "k")
        assert source.asked == ["k"]
        clock.now += 0.2
        drive.get(store, "k")
        assert source.asked == ["k", "k"]


def test_no_throttle_beyond_stale(drive, make_store, clock):
    """When the copy is too old to be served the origin is asked, throttle or not."""
    source = Source()
    store = make_store(source, ttl=10, stale=10, throttle=50)
    failing(store, drive, source, clock)
    assert drive.get(store, "k") == "v"
    clock.now += 10
    with pytest.raises(OSError, match="down"):
        drive.get(store, "k")
    source.values["k"] = "back"
    assert drive.get(store, "k") == "back"


def test_no_throttle_without_a_copy(drive, make_store):
    """Where there is nothing to serve, every lookup asks."""
    source = Source({"k": OSError("down")})
    store = make_store(source, ttl=10, stale=100, throttle=50)
    for _ in range(3):
        with pytest.raises(OSError, match="down"):
            drive.get(store, "k")
    assert len(source.asked) == 3


def test_one_key_does_not_throttle_another(drive, make_store, clock):
    """It is about the key that failed."""
    source = Source({"l": 1})
    store = make_store(source, ttl=10, stale=100, throttle=50)
    drive.get(store, "l")
    failing(store, drive, source, clock)
    source.values["l"] = 2
    drive.get(store, "k")
    assert drive.get(store, "l") == 2


def test_a_write_ends_the_throttle(drive, make_store, clock):
    """What was put is served, and loaded anew when it is due."""
    source = Source()
    store = make_store(source, ttl=10, stale=100, throttle=50)
    failing(store, drive, source, clock)
    drive.get(store, "k")
    drive.put(store, "k", "mine")
    assert drive.get(store, "k") == "mine"
    source.values["k"] = "back"
    drive.delete(store, "k")
    assert drive.get(store, "k") == "back"


def test_clear_ends_the_throttle(drive, make_store, clock):
    """Nothing is remembered of what failed."""
    source = Source()
    store = make_store(source, ttl=10, stale=100, throttle=500)
    failing(store, drive, source, clock)
    drive.get(store, "k")
    drive.clear(store)
    assert "k" not in store._engine._failed


# -- keys that the origin has not --------------------------------------------------------------


def test_remembered_for_its_while(drive, make_store, clock):
    """Within negative_ttl the origin is not asked again; then it is."""
    source = Source()
    store = make_store(source, negative_ttl=5)
    assert drive.get(store, "k", "nothing") == "nothing"
    source.values["k"] = 1
    assert drive.get(store, "k", "nothing") == "nothing"
    assert drive.get_many(store, ["k"]) == {}
    assert not drive.contains(store, "k")
    assert source.asked == ["k"]
    origin = store.stats().origin
    assert (origin.not_found, origin.negative_hits) == (1, 2)
    clock.now += 5.1
    assert drive.get(store, "k") == 1


def test_get_many_remembers_each_key(drive, make_store):
    """Only those are asked for again that were found or failed."""
    source = Source({"a": 1, "c": OSError("down")})
    store = make_store(source, negative_ttl=5, disk=None)
    with pytest.raises(hc.PartialLoadError):
        drive.get_many(store, "abc")
    source.values = {"a": 1, "b": 2, "c": 3}
    assert drive.get_many(store, "abc") == {"a": 1, "c": 3}


def test_not_by_default(drive, make_store):
    """Without negative_ttl every lookup of a missing key asks."""
    source = Source()
    store = make_store(source, ttl=10)
    drive.get(store, "k")
    drive.get(store, "k")
    assert source.asked == ["k", "k"]


@pytest.mark.parametrize("write", ["put", "delete", "clear"])
def test_a_write_forgets_it(drive, make_store, write):
    """A put, delete or clear makes room for a new answer."""
    source = Source()
    store = make_store(source, negative_ttl=50)
    assert drive.get(store, "k") is None
    source.values["k"] = 1
    getattr(drive, write)(store, *{"put": ("k", 2), "delete": ("k",), "clear": ()}[write])
    assert drive.get(store, "k") == (2 if write == "put" else 1)


@pytest.mark.parametrize("write", ["put", "delete", "clear"])
def test_a_write_during_the_load_is_not_forgotten(drive, make_store, write):
    """That the key was missing when the load began says nothing about afterwards."""
    source = Source()
    store = make_store(source, negative_ttl=50)
    args = {"put": ("k", 2), "delete": ("k",), "clear": ()}[write]
    source.after_load = lambda key: getattr(store, write)(*args)
    assert drive.get(store, "k") is None
    source.after_load = lambda key: None
    source.values["k"] = 1
    assert drive.get(store, "k") == (2 if write == "put" else 1)


def test_a_load_forgets_it(drive, make_store):
    """Somebody's own loader may find what the origin has not."""
    source = Source()
    store = make_store(source, negative_ttl=50)
    assert drive.get(store, "k") is None
    assert drive.get_or_load(store, "k", drive.function(lambda key: 1)) == 1
    assert drive.get(store, "k") == 1
    store.memory.clear()
    assert drive.get(store, "k") == 1


def test_what_a_loader_has_not_the_origin_may_have(drive, make_store):
    """A miss of somebody's own loader is no word of the store's origin."""
    source = Source({"k": 1})
    store = make_store(source, negative_ttl=50)

    def nothing(key):
        raise hc.NotFoundError(key)

    with pytest.raises(hc.NotFoundError):
        drive.get_or_load(store, "k", drive.function(nothing))
    assert drive.get(store, "k") == 1


def test_a_loader_is_not_asked_again_either(drive, make_store, clock):
    """What the loaders of ``get_or_load`` have not is remembered for them."""
    asked = []

    def nothing(key):
        asked.append(key)
        raise hc.NotFoundError(key)

    store = make_store(None, negative_ttl=5)
    for _ in range(3):
        with pytest.raises(hc.NotFoundError):
            drive.get_or_load(store, "k", drive.function(nothing))
    assert asked == ["k"]
    assert drive.get(store, "k") is None
    clock.now += 5.1
    assert drive.get_or_load(store, "k", drive.function(lambda key: 1)) == 1


def test_the_origin_says_for_how_long(drive, make_store, clock):
    """``NotFound(ttl=)`` counts before the options."""
    source = Source({"k": hc.NotFound(ttl=20), "l": hc.NotFound(ttl=0)})
    store = make_store(source, negative_ttl=5)
    drive.get_many(store, "kl")
    source.values = {"k": 1, "l": 1}
    assert drive.get_many(store, "kl") == {"l": 1}
    clock.now += 19
    assert drive.get(store, "k") is None
    clock.now += 2
    assert drive.get(store, "k") == 1


def test_none_is_a_value(drive, make_store):
    """It is kept and found, and no miss."""
    source = Source({"k": None})
    store = make_store(source, negative_ttl=50, ttl=10)
    assert drive.get(store, "k", "nothing") is None
    assert drive.get(store, "k", "nothing") is None
    assert drive.get_many(store, ["k"]) == {"k": None}
    assert drive.contains(store, "k")
    assert drive.peek(store, "k", "nothing") is None
    assert drive.get_or_load(store, "k", lambda key: 1) is None
    assert drive.entry(store, "k").value is None
    assert source.asked == ["k"]
    assert store.stats().origin.not_found == 0


def test_a_stale_copy_of_what_is_gone(drive, make_store, clock):
    """The origin says that it is gone: no copy is served, and it is remembered."""
    source = Source({"k": 1})
    store = make_store(source, ttl=10, stale=100, negative_ttl=50)
    drive.get(store, "k")
    clock.now += 11
    del source.values["k"]
    assert drive.get(store, "k") is None
    source.values["k"] = OSError("down")
    assert drive.get(store, "k") is None
    assert len(source.asked) == 2


def test_both_faces_know(make_store):
    """What one face was told the other one knows."""
    source = Source()
    store = make_store(source, negative_ttl=50)
    assert store.get("k") is None

    async def main():
        return await store.aio.get("k", "nothing"), await store.aio.get_many(["k"])

    assert asyncio.run(main()) == ("nothing", {})
    assert source.asked == ["k"]
