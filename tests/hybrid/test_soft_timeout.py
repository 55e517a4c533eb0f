"""A load that takes too long: the stale copy is served, and the load goes on and is kept."""

import asyncio
import threading
import time

import pytest

import hybridcore as hc

from .conftest import PATIENCE, Gate, Source, wait_until


def idle(store):
    """Whether no load is under way."""
    return not store._engine._flights._flights


@pytest.fixture(params=["memory", "disk", "both"])
def where(request):
    """Which tier has the copy."""
    return request.param


@pytest.fixture
def make_stale(drive, make_store, clock, where):
    """A store whose entry ``k`` is 1 second past its ttl of 10, with 99 of ``stale`` left."""

    def make(source, **options):
        given = {"ttl": 10, "stale": 100, "soft_timeout": 0.02, **options}
        store = make_store(source, **given)
        assert drive.get(store, "k") == "v"
        if where == "memory":
            store._engine.disk.delete("k")
        elif where == "disk":
            store.memory.discard("k")
        clock.now += 11
        source.asked.clear()
        return store

    return make


def test_served_stale_and_loaded_behind(drive, make_stale):
    """The caller gets the copy after the soft timeout, and the next one what the load brought."""
    source = Source({"k": "v"})
    store = make_stale(source)
    source.values["k"] = "new"
    source.after_load = gate = Gate()
    began = time.monotonic()
    assert drive.get(store, "k") == "v"
    assert time.monotonic() - began >= 0.02
    assert not idle(store)
    gate.open()
    wait_until(lambda: idle(store))
    assert drive.get(store, "k") == "new"
    assert store._engine.disk.get("k") == "new"
    assert source.asked == ["k"]
    origin = store.stats().origin
    assert (origin.soft_timeouts, origin.stale_served, origin.refreshes) == (1, 1, 0)


def test_a_load_in_time_is_waited_for(drive, make_stale):
    """Before the soft timeout the fresh value comes, and nothing stale is served."""
    source = Source({"k": "v"})
    store = make_stale(source, soft_timeout=PATIENCE)
    source.values["k"] = "new"
    assert drive.get(store, "k") == "new"
    assert source.asked == ["k"]
    origin = store.stats().origin
    assert (origin.soft_timeouts, origin.stale_served) == (0, 0)


def test_an_origin_that_fails_in_time(drive, make_stale, clock):
    """It is covered by the copy as without a soft timeout."""
    source = Source({"k": "v"})
    store = make_stale(source, soft_timeout=PATIENCE, throttle=5)
    source.values["k"] = OSError("down")
    assert drive.get(store, "k") == "v"
    assert drive.get(store, "k") == "v"
    assert source.asked == ["k"]
    clock.now += 100
    with pytest.raises(OSError, match="down"):
        drive.get(store, "k")


def test_a_key_that_is_gone_in_time(drive, make_stale):
    """What the origin has no more is not served though there is a copy."""
    source = Source({"k": "v"})
    store = make_stale(source, soft_timeout=PATIENCE)
    del source.values["k"]
    assert drive.get(store, "k", "nothing") == "nothing"
    assert drive.peek(store, "k") is None


def test_without_a_copy_a_load_is_waited_for(drive, make_store):
    """There is nothing to serve in its place."""
    source = Source({"k": "v"})
    store = make_store(source, ttl=10, stale=100, soft_timeout=0.001)
    source.after_load = lambda key: time.sleep(0.01)
    assert drive.get(store, "k") == "v"
    assert store.stats().origin.soft_timeouts == 0


def test_those_who_come_later_get_the_copy_at_once(drive, make_stale):
    """While the load goes on nobody waits, and nobody starts another."""
    source = Source({"k": "v"})
    store = make_stale(source)
    source.values["k"] = "new"
    source.after_load = gate = Gate()
    assert drive.get(store, "k") == "v"
    pending = [drive.start("get", store, "k") for _ in range(10)]
    assert [one.result(PATIENCE) for one in pending] == ["v"] * 10
    assert drive.get_many(store, ["k"]) == {"k": "v"}
    gate.open()
    wait_until(lambda: idle(store))
    assert source.asked == ["k"]
    assert drive.get(store, "k") == "new"


def test_nobody_gets_a_copy_that_is_too_old(drive, make_stale, clock):
    """A load that hangs beyond ``stale`` is waited for: there is nothing left to serve."""
    source = Source({"k": "v"})
    store = make_stale(source)
    source.values["k"] = "new"
    source.after_load = gate = Gate()
    assert drive.get(store, "k") == "v"
    clock.now += 100
    pending = drive.start("get", store, "k")
    batch = drive.start("get_many", store, ["k"])
    wait_until(lambda: store.stats().memory.misses >= 4)
    gate.open()
    assert pending.result(PATIENCE) == "new"
    assert batch.result(PATIENCE) == {"k": "new"}
    assert source.asked == ["k"]


@pytest.mark.parametrize("write", ["put", "delete", "clear"])
def test_a_write_wins_over_the_load_behind(drive, make_stale, write):
    """What was written while it ran is not undone when it ends."""
    source = Source({"k": "v"})
    store = make_stale(source)
    source.after_load = gate = Gate()
    assert drive.get(store, "k") == "v"
    getattr(drive, write)(store, *{"put": ("k", "mine"), "delete": ("k",), "clear": ()}[write])
    gate.open()
    wait_until(lambda: store.stats().origin.loads == 2)
    assert drive.peek(store, "k") == ("mine" if write == "put" else None)


def test_a_load_behind_that_fails(drive, make_stale, clock):
    """It reaches nobody; the copy goes on being served, and the throttle counts from then."""
    source = Source({"k": "v"})
    store = make_stale(source, throttle=5)
    gate = Gate()
    source.before_load = gate
    assert drive.get(store, "k") == "v"
    source.values["k"] = OSError("down")
    gate.open()
    wait_until(lambda: idle(store))
    assert drive.get(store, "k") == "v"
    assert source.asked == ["k"]
    clock.now += 5.1
    source.values["k"] = "back"
    assert drive.get(store, "k") == "back"
    assert store.stats().origin.errors == 1


def test_get_many_waits_once(drive, make_store, clock):
    """The soft timeout counts for the whole call, and what is missing is loaded beside it."""
    source = Source({key: key for key in range(20)})
    store = make_store(source, ttl=10, stale=100, soft_timeout=0.05)
    drive.get_many(store, range(10))
    clock.now += 11
    source.values |= {key: -key for key in range(10)}
    source.batches.clear()
    gate = Gate()
    source.after_load = lambda key: gate() if key < 10 else None
    began = time.monotonic()
    assert drive.get_many(store, range(20)) == {key: key for key in range(20)}
    assert time.monotonic() - began < 10 * 0.05
    gate.open()
    wait_until(lambda: idle(store))
    assert drive.get_many(store, range(10)) == {key: -key for key in range(10)}
    assert sorted(source.batches) == [list(range(10)), list(range(10, 20))]


def test_a_caller_that_is_cancelled_takes_nothing_along(make_store, clock):
    """The load goes on though the task that started it has gone."""
    source = Source({"k": "v"})
    store = make_store(source, ttl=10, stale=100, soft_timeout=PATIENCE)

    async def main():
        assert await store.aio.get("k") == "v"
        clock.now += 11
        source.values["k"] = "new"
        source.after_load = gate = Gate()
        task = asyncio.create_task(store.aio.get("k"))
        await asyncio.to_thread(gate.wait_until_reached)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.open()
        await asyncio.to_thread(wait_until, lambda: idle(store))
        assert await store.aio.get("k") == "new"

    asyncio.run(main())
    assert source.asked == ["k", "k"]


def test_a_loop_that_ends_takes_its_load_along(make_store, clock):
    """The key is free for others when the loop that loaded it is closed."""
    hang = True

    async def load(key):
        if hang:
            await asyncio.sleep(PATIENCE)
        return "new"

    store = make_store(load, ttl=10, stale=100, soft_timeout=0.001, disk=None)
    store.put("k", "v")
    clock.now += 11

    async def main():
        return await store.aio.get("k")

    assert asyncio.run(main()) == "v"
    hang = False
    wait_until(lambda: store.get("k") == "new")
    assert not store.aio._tasks


def test_an_async_origin_that_asks_the_blocking_face(make_store, clock):
    """Where waiting would stop the loop that loads, the copy is served at once."""
    found = []

    async def load(key):
        if key == "outer":
            found.append(store.get("inner"))
        return "new"

    store = make_store(load, ttl=10, stale=100, soft_timeout=0.02, disk=None)
    store.put("inner", "v")
    clock.now += 11
    assert store.get("outer") == "new"
    assert found == ["v"]
    wait_until(lambda: store.get("inner") == "new")


def test_nothing_is_left_behind(drive, make_stale):
    """Threads, tasks and flights are gone when the loads have ended."""
    source = Source({"k": "v"})
    store = make_stale(source)
    source.after_load = gate = Gate()
    for _ in range(5):
        assert drive.get(store, "k") == "v"
    gate.open()
    wait_until(lambda: idle(store) and not store.aio._tasks)
    wait_until(
        lambda: (
            not any(thread.name == "hybridcore-sync-origins" for thread in threading.enumerate())
        )
    )
    assert source.asked == ["k"]


def test_options_of_the_call(drive, make_stale):
    """``get_or_load`` takes a soft timeout for itself."""
    source = Source({"k": "v"})
    store = make_stale(source, soft_timeout=None)
    gate = Gate()
    load = drive.function(lambda key: gate() or "new")
    if drive.kind == "async":

        async def load(key):
            await asyncio.to_thread(gate)
            return "new"

    options = hc.EntryOptions(soft_timeout=0.01)
    assert drive.get_or_load(store, "k", load, options=options) == "v"
    gate.open()
    wait_until(lambda: idle(store))
    assert drive.get(store, "k") == "new"
