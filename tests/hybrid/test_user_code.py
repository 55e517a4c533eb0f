"""Listeners, sizes, keys and destructors that raise, come back, or change under the cache."""

import gc

import pytest

import hybridcore as hc

from .conftest import PATIENCE, Source


def test_a_listener_that_raises(drive, make_store, caplog):
    """Fault 17: what a listener raises is logged and reaches nobody."""

    class Listener:
        def looked_up(self, key, tier, duration):
            raise ValueError("listener")

    store = make_store(Source({"k": 1}), listener=Listener())
    assert drive.get(store, "k") == 1
    assert drive.get_many(store, ["k", "l"]) == {"k": 1}
    assert [record.exc_info[0] for record in caplog.records] == [ValueError, ValueError]


def test_a_listener_that_comes_back(drive, make_store):
    """Fault 17: a listener may use the store."""

    class Listener:
        def looked_up(self, key, tier, duration):
            if len(key) < 5:
                assert store.get(key + "x") is None
                store.put(key, "from the listener")

    store = make_store(Source(), listener=Listener())
    assert drive.get(store, "k") is None
    assert drive.get(store, "k") == "from the listener"


def test_on_evict_that_comes_back(drive, make_store):
    """Fault 17: on_evict of the memory tier may use the store, whatever the keys."""
    evicted, within = [], []

    def on_evict(key, value, cause):
        evicted.append(key)
        if not within:
            within.append(key)
            store.delete(key)
            store.put(("log", key), len(evicted))
            within.clear()

    memory = hc.Cache(5, on_evict=on_evict)
    store = make_store(lambda key: key, memory=memory, disk=None)
    for n in range(200):
        assert drive.get(store, n) == n
    store.clear()
    assert len(evicted) >= 200
    memory.check()


@pytest.mark.parametrize("strategy", ["read_through", "write_through"])
def test_getsizeof_that_raises(drive, make_store, strategy):
    """Fault 17: no tier serves an older value than the one that could not be measured."""

    def getsizeof(value):
        if value == "bad":
            raise ZeroDivisionError
        return 1

    source = Source({"l": "bad"})
    store = make_store(source, memory=hc.Cache(100, getsizeof=getsizeof), strategy=strategy)
    drive.put(store, "k", "old")
    with pytest.raises(ZeroDivisionError):
        drive.put(store, "k", "bad")
    assert "k" not in store.memory
    assert store._engine.disk.get("k") == "bad"
    with pytest.raises(ZeroDivisionError):
        drive.get(store, "l")
    source.values["l"] = "good"
    store._engine.disk.delete("l")
    assert drive.start("get", store, "l").result(PATIENCE) == "good"


def test_keys_that_raise(drive, make_store):
    """Fault 17: a key whose hash or equality raises is its caller's problem alone."""

    class Key:
        def __init__(self, name):
            self.name = name

        def __hash__(self):
            return hash(1 / self.name)

        def __eq__(self, other):
            raise ZeroDivisionError("equality")

    store = make_store(lambda key: "v", disk=None)
    with pytest.raises(ZeroDivisionError):
        drive.get(store, Key(0))
    one = Key(1)
    assert drive.get(store, one) == "v"
    with pytest.raises(ZeroDivisionError, match="equality"):
        drive.get(store, Key(1))
    with pytest.raises(ZeroDivisionError, match="equality"):
        drive.put(store, Key(1), 1)
    assert drive.get(store, one) == "v"


@pytest.mark.parametrize("method", ["get", "get_many", "put", "delete", "contains"])
def test_unhashable_keys(drive, make_store, method):
    """Fault 18: a TypeError that changes nothing."""
    source = Source()
    store = make_store(source)
    arguments = {"get_many": ([[]],), "put": ([], 1)}.get(method, ([],))
    with pytest.raises(TypeError):
        getattr(drive, method)(store, *arguments)
    assert store.stats().disk.entries == len(store.memory) == 0
    assert source.asked == []


def test_nan_and_changing_keys(drive, make_store):
    """Fault 18: keys that are not equal to themselves, or change their hash, hang nobody."""

    class Moody:
        mood = 0

        def __hash__(self):
            return self.mood

    def load(key):
        if isinstance(key, Moody):
            key.mood = 1 - key.mood
        return "v"

    store = make_store(load, disk=None)
    nan = float("nan")
    moody = Moody()
    for key in (nan, moody, nan, moody, moody):
        assert drive.start("get", store, key).result(PATIENCE) == "v"
        assert drive.start("get_many", store, [key]).result(PATIENCE) == {key: "v"}


def test_a_destructor_that_comes_back(drive, make_store):
    """Fault 17: values may use the store when they die, in the middle of whatever it does."""
    died = []

    class Value:
        def __init__(self, key):
            self.key = key

        def __del__(self):
            died.append(self.key)
            store.get(("after", self.key), None)
            store.delete(self.key)

    store = make_store(lambda key: Value(key) if isinstance(key, int) else key,
                       memory=hc.Cache(3), disk=None)  # fmt: skip
    for n in range(100):
        drive.get(store, n % 10)
        drive.put(store, n % 10, Value(n))
    drive.clear(store)
    gc.collect()
    assert len(died) >= 150
