"""Each feature switched off: for all caches, for one, and for the calls in a block."""

import asyncio
import threading
import time
from contextlib import contextmanager

import pytest

import hybridcore as hc
from hybridcore import features

from .conftest import PATIENCE, Gate, Source, wait_until


@contextmanager
def _globally(store, name):
    features.disable(name)
    try:
        yield
    finally:
        features.enable(name)


@contextmanager
def _for_this_cache(store, name):
    store.features.disable(name)
    yield
    store.features.enable(name)


def _in_a_block(store, name):
    return hc.disabled(name)


@pytest.fixture(params=[_globally, _for_this_cache, _in_a_block], ids=lambda how: how.__name__[1:])
def without(request, drive):
    """``with without(store, name) as do:`` has the feature off, for what ``do`` does.

    A block has to be around the calls themselves, so the asyncio face runs there on its own loop.
    """

    @contextmanager
    def without(store, name):
        def do(method, *args, **kw):
            if drive.kind == "sync":
                return getattr(store, method)(*args, **kw)

            async def main():
                return await getattr(store.aio, method)(*args, **kw)

            return asyncio.run(main())

        with request.param(store, name):
            yield do

    return without


def idle(store):
    """Whether no load is under way."""
    return not store._engine._flights._flights


def test_memory_off(make_store, without):
    """Reads pass it over, and find it as it should be when it is on again."""
    source = Source({"k": 1})
    store = make_store(source)
    store.get("k")
    with without(store, "memory") as do:
        hits = store.stats().memory.hits
        assert do("get", "k") == 1
        assert do("get_many", ["k"]) == {"k": 1}
        assert store.stats().memory.hits == hits
        do("put", "k", 2)
        assert do("get", "k") == 2
    assert store.get("k") == 2
    assert source.asked == ["k"]
    with without(store, "memory") as do:
        do("delete", "k")
    source.values["k"] = 3
    assert store.get("k") == 3


def test_memory_off_without_a_disk(make_store, without):
    """Then every read asks the origin, and nothing is found without asking."""
    source = Source({"k": 1})
    store = make_store(source, disk=None)
    store.get("k")
    with without(store, "memory") as do:
        assert do("get", "k") == 1
        assert do("get_or_load", "k", lambda key: 5) == 5
        assert not do("contains", "k")
        assert do("peek", "k") is None
        assert do("entry", "k") is None
    assert source.asked == ["k", "k"]
    assert store.contains("k")


def test_disk_off(make_store, without):
    """Reads pass it over; what was deleted meanwhile does not come back."""
    source = Source({"k": 1, "l": 1})
    store = make_store(source)
    store.get_many("kl")
    store.memory.clear()
    with without(store, "disk") as do:
        source.asked.clear()
        assert not do("contains", "k")
        assert do("peek", "k") is None
        assert do("get", "k") == 1
        assert source.asked == ["k"]
        do("delete", "k")
        do("put", "l", 2)
    store.memory.clear()
    source.values = {"k": 3, "l": 3}
    assert store.get("k") == 3
    assert store.get("l") in (2, 3)


def test_origin_off(make_store, without):
    """Only what the tiers have is answered, fresh."""
    source = Source({"k": 1, "new": 2})
    store = make_store(source, strategy="write_through")
    store.get("k")
    with without(store, "origin") as do:
        assert do("get", "k") == 1
        assert do("get", "new") is None
        assert do("get_many", ["k", "new"]) == {"k": 1}
        do("put", "new", 3)
        assert do("get", "new") == 3
        assert do("delete", "new")
    assert source.asked == ["k"]
    assert source.stored == source.deleted == []
    assert store.get("new") == 2


def test_stale_off(make_store, without, clock):
    """Past its ttl nothing is served, whatever the origin does."""
    source = Source({"k": 1})
    store = make_store(source, ttl=10, stale=100)
    store.get("k")
    clock.now += 11
    source.values["k"] = OSError("down")
    with without(store, "stale") as do:
        with pytest.raises(OSError, match="down"):
            do("get", "k")
        with pytest.raises(hc.PartialLoadError):
            do("get_many", ["k"])
    assert store.get("k") == 1
    assert store.stats().origin.stale_served == 1


def test_stale_off_asks_though_a_load_failed_just_now(make_store, without, clock):
    """The throttle has nothing to serve then."""
    source = Source({"k": 1})
    store = make_store(source, ttl=10, stale=100, throttle=50)
    store.get("k")
    clock.now += 11
    source.values["k"] = OSError("down")
    assert store.get("k") == 1
    source.values["k"] = 2
    with without(store, "stale") as do:
        assert do("get", "k") == 2


def test_stale_off_waits_for_slow_loads(make_store, without, clock):
    """A soft timeout has nothing to serve: leaders and followers wait for the load."""
    source = Source({"k": 1})
    store = make_store(source, ttl=10, stale=100, soft_timeout=0.001, disk=None)
    store.get("k")
    clock.now += 11
    source.values["k"] = 2
    source.after_load = lambda key: time.sleep(0.02)
    with without(store, "stale") as do:
        assert do("get", "k") == 2
        clock.now += 11
        source.values["k"] = 3
        assert do("get_many", ["k"]) == {"k": 3}
    clock.now += 11
    source.after_load = gate = Gate()
    source.values["k"] = 4
    assert store.get("k") == 3
    with without(store, "stale") as do:
        opener = threading.Timer(0.02, gate.open)
        opener.start()
        assert do("get", "k") == 4
        opener.join()
    assert store.stats().origin.stale_served == 1


def test_refresh_ahead_off(make_store, without, clock):
    """What is due is a hit like any other."""
    source = Source({"k": 1})
    store = make_store(source, ttl=10, refresh_ahead=0.5)
    store.get("k")
    clock.now += 6
    with without(store, "refresh_ahead") as do:
        assert do("get", "k") == 1
        assert do("get_many", ["k"]) == {"k": 1}
        assert idle(store)
    assert source.asked == ["k"]
    assert store.get("k") == 1
    wait_until(lambda: len(source.asked) == 2 and idle(store))


def test_negative_off(make_store, without):
    """Missing keys are asked for each time, and what was known before is not used."""
    source = Source()
    store = make_store(source, negative_ttl=100)
    with without(store, "negative") as do:
        assert do("get", "k") is None
        assert do("get", "k") is None
        assert len(source.asked) == 2
    store.get("k")
    assert len(source.asked) == 3
    with without(store, "negative") as do:
        source.values["k"] = 1
        assert do("get", "k") == 1


def test_single_flight_off(make_store, drive):
    """Everybody loads for himself."""
    source = Source({"k": 1})
    store = make_store(source, features={"single_flight": False})
    gate = Gate()
    source.after_load = gate
    pending = [drive.start("get", store, "k") for _ in range(4)]
    wait_until(lambda: len(source.asked) == 4)
    gate.open()
    assert [one.result(PATIENCE) for one in pending] == [1] * 4
    assert idle(store)


def test_single_flight_off_keeps_writes(make_store, without):
    """A load that was not registered does not undo a write."""
    source = Source({"k": 1})
    store = make_store(source)
    with without(store, "single_flight") as do:
        source.after_load = lambda key: store.put("k", "mine")
        assert do("get", "k") == 1
    assert store.get("k") == "mine"


def test_events_off(make_store, without):
    """No listener hears anything."""
    told = []

    class Ear:
        def looked_up(self, key, tier, duration):
            told.append(key)

    store = make_store(Source({"k": 1, "l": 2}), listener=Ear())
    with without(store, "events") as do:
        do("get", "k")
    assert told == []
    store.get("l")
    assert told == ["l"]


def test_breaker_off(make_store, without):
    """The origin is asked though it fails all the time, and what happens is not counted."""
    source = Source({"k": OSError("down")})
    store = make_store(source)
    with without(store, "breaker") as do:
        for _ in range(20):
            with pytest.raises(OSError, match="down"):
                do("get", "k")
    assert store.breaker.state == "closed"
    assert len(source.asked) == 20


def test_off_by_configuration(make_store, drive):
    """What a cache is made without is off from the start."""
    source = Source({"k": 1})
    store = make_store(source, features={"memory": False, "disk": False})
    assert [drive.get(store, "k") for _ in range(3)] == [1] * 3
    assert source.asked == ["k"] * 3
    store.features.enable("memory")
    drive.get(store, "k")
    asked = len(source.asked)
    assert drive.get(store, "k") == 1
    assert len(source.asked) == asked


def test_a_block_is_for_its_own_thread(make_store):
    """Who is outside of it is not affected, also while it lasts."""
    source = Source({"k": 1})
    store = make_store(source, disk=None)
    store.get("k")
    with hc.disabled("memory"):
        thread = threading.Thread(target=store.get, args=("k",))
        thread.start()
        thread.join()
        assert source.asked == ["k"]
        store.get("k")
        assert source.asked == ["k", "k"]


def test_a_closed_store_stays_closed(make_store):
    """Switching features does not open it again."""
    store = make_store(Source({"k": 1}))
    store.get("k")
    store.close()
    with hc.disabled("memory"):
        pass
    store.features.disable("memory")
    store.features.enable("memory")
    with pytest.raises(hc.ClosedError):
        store.get("k")
