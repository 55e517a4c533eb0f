"""The races of the field: five ways to invalidate, during four things that could bring it back."""

from __future__ import annotations

import threading

import pytest

import hybridcore as hc
from hybridcore.testing import SimulatedClock
from hybridcore.types import Loaded
from tests.coherence.test_bus import eventually

KEY, BASE = ("tenant", "k"), ("other", "base")
WAYS = {
    "delete": lambda store: store.delete(KEY),
    "tag": lambda store: store.invalidate(tags=["t"]),
    "clear": lambda store: store.clear(),
    "dependency": lambda store: store.put(BASE, 2),
    "namespace clear": lambda store: store.namespace("tenant").clear(),
}


class Origin:
    """Answers with what it has when a load begins; waits before it does where it is told to."""

    def __init__(self):
        self.rows = {KEY: "old"}
        self.waits = False
        self.reached, self.gate = threading.Event(), threading.Event()

    def load(self, key):
        if key not in self.rows:
            raise hc.NotFoundError(key)
        value = self.rows[key]
        if self.waits:
            self.waits = False
            self.reached.set()
            assert self.gate.wait(20)
        return Loaded(value, tags=("t",), depends_on=(BASE,))

    def stop_the_next(self):
        self.waits = True


@pytest.fixture
def origin():
    return Origin()


@pytest.fixture
def caches(tmp_path, origin):
    """Makes two caches on one directory and one clock."""
    clock = SimulatedClock()
    made = []

    def make(**options):
        made.extend(
            hc.HybridCache(
                hc.Cache(100, timer=clock.seconds),
                hc.Lmdb(tmp_path / "cache", clock=clock.nanoseconds),
                origin.load,
                defaults=hc.EntryOptions(ttl=100, stale=1000, throttle=0, **options),
                breaker=None,
            )
            for _ in range(2)
        )
        made[0].put(BASE, 1)
        assert made[0].get(KEY) == made[1].get(KEY) == "old"
        return made[0], made[1]

    make.clock = clock
    yield make
    origin.gate.set()
    for store in made:
        store.close()


def invalidate(way, store, origin):
    origin.rows[KEY] = "new"
    WAYS[way](store)


def assert_all_new(*stores):
    """Nothing old is in any tier."""
    for _ in range(2):
        assert [store.get(KEY) for store in stores] == ["new"] * len(stores)
        for store in stores:
            store.memory.clear()


@pytest.mark.parametrize("where", [0, 1], ids=["here", "elsewhere"])
@pytest.mark.parametrize("way", WAYS)
def test_during_a_load(caches, origin, way, where):
    """What was being loaded is kept nowhere."""
    stores = caches()
    stores[0].delete(KEY)
    origin.stop_the_next()
    reader = threading.Thread(target=stores[0].get, args=(KEY,))
    reader.start()
    assert origin.reached.wait(20)
    invalidate(way, stores[where], origin)
    origin.gate.set()
    reader.join(20)
    assert_all_new(*stores)


@pytest.mark.parametrize("where", [0, 1], ids=["here", "elsewhere"])
@pytest.mark.parametrize("way", WAYS)
def test_during_a_refresh_in_the_background(caches, origin, way, where):
    """What was being loaded ahead of its time is kept nowhere."""
    stores = caches(refresh_ahead=0.5)
    caches.clock.sleep(60)
    origin.stop_the_next()
    assert stores[0].get(KEY) == "old"  # due, and fresh
    assert origin.reached.wait(20)
    invalidate(way, stores[where], origin)
    origin.gate.set()
    eventually(lambda: not stores[0]._engine._flights.any)
    assert_all_new(*stores)


@pytest.mark.parametrize("where", [0, 1], ids=["here", "elsewhere"])
@pytest.mark.parametrize("way", WAYS)
def test_during_a_stale_serve(caches, origin, way, where):
    """The stale copy that was served meanwhile is not served again, even if the origin fails."""
    stores = caches(soft_timeout=0.001)
    caches.clock.sleep(101)
    origin.stop_the_next()
    assert stores[0].get(KEY) == "old"  # stale
    assert origin.reached.wait(20)
    invalidate(way, stores[where], origin)
    origin.gate.set()
    eventually(lambda: not stores[0]._engine._flights.any)

    def fail(key):
        raise ConnectionError

    for store in stores:
        with pytest.raises(ConnectionError):
            store.get_or_load(KEY, fail)
    assert_all_new(*stores)


@pytest.mark.parametrize("way", WAYS)
def test_during_a_queued_write(tmp_path, way):
    """A write that waits stays, and is the answer for its key; a delete takes its place."""
    rows, gate = {KEY: "old"}, threading.Event()

    def store_it(key, value):
        assert gate.wait(20)
        rows[key] = value

    def delete_it(key):
        assert gate.wait(20)
        rows.pop(key, None)

    def load(key):
        if key not in rows:
            raise hc.NotFoundError(key)
        return rows[key]

    origin = hc.CallableOrigin(load, store=store_it, delete=delete_it)
    with (
        hc.HybridCache(
            hc.Memory(9), hc.Lmdb(tmp_path / "cache"), origin, strategy="write_behind"
        ) as store,
        hc.HybridCache(hc.Memory(9), hc.Lmdb(tmp_path / "cache")) as other,
    ):
        store.put(BASE, 1)
        store.put(KEY, "queued", tags=["t"], depends_on=[BASE])
        assert other.get(KEY) == "queued"
        WAYS[way](store)
        expected = None if way == "delete" else "queued"
        assert store.get(KEY) == expected
        gate.set()
        assert store.flush(20)
        assert rows.get(KEY) == store.get(KEY) == expected
        assert other.get(KEY) in (None, expected)
