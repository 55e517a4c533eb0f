"""The straight way of a miss: what comes between makes the same difference as on the long one."""

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor

import pytest

import hybridcore as hc

from .conftest import PATIENCE, Gate, Source, stopped_load, wait_until
from .test_hot_path import frames_of_the_package


def store_of(origin, **options):
    """A store without a disk, whose misses go straight to the origin."""
    return hc.HybridCache(hc.Cache(100), origin=origin, **options)


def test_a_hit_on_disk_and_a_miss_run_no_frame_of_the_engine(make_store):
    """From memory to disk or to a function and back is native code but for the disk's own."""
    store = make_store(disk=None, origin=lambda key: key)
    assert frames_of_the_package(lambda: store.get("new")) == []
    store = make_store()
    store.put("k", "v")
    keys = iter(range(2))

    def promoted():
        next(keys)
        store.memory.clear()
        assert store.get("k") == "v"

    assert set(frames_of_the_package(promoted)) <= {"clear", "stats"}
    assert store.stats().origin.promoted == 2


@pytest.mark.parametrize("write", ["put", "delete", "clear"])
def test_a_write_during_a_load_wins(drive, write):
    """Fault 27: what a load brings after a write is handed out, and not kept."""
    source = Source({"k": "old"})
    with store_of(source) as store:
        with stopped_load(drive, source, store, "k") as load:
            arguments = {"put": ("k", "new"), "delete": ("k",), "clear": ()}[write]
            getattr(drive, write)(store, *arguments)
        assert load.result() == "old"
        assert store.memory.get("k") == ("new" if write == "put" else None)
        assert store.stats().origin.loads == 1


def followers_of(flight):
    """How many wait for a flight, blocked or in tasks."""
    future = flight.future
    if future is None:
        return 0
    return len(future._condition._waiters) + len(future._done_callbacks)


def test_followers_share_what_the_leader_gets(drive):
    """Values and errors are everybody's, and the origin is asked once."""
    source = Source({"good": 1, "bad": OSError("down")})
    with store_of(source, breaker=None) as store:
        for key in ("good", "bad", "absent"):
            gate = Gate()
            source.before_load = gate
            callers = [drive.start("get", store, key, "none") for _ in range(3)]
            gate.wait_until_reached()
            flight = store._engine._flights._flights[key]
            wait_until(lambda flight=flight: followers_of(flight) == 2)
            gate.open()
            if key == "bad":
                errors = [caller.exception(PATIENCE) for caller in callers]
                assert all(isinstance(error, OSError) for error in errors)
            else:
                expected = 1 if key == "good" else "none"
                assert [caller.result(PATIENCE) for caller in callers] == [expected] * 3
        assert not store._engine._flights._flights
        stats = store.stats().origin
        assert (stats.loads, stats.errors, stats.not_found) == (2, len(source.asked) - 2, 1)


def test_what_has_expired_is_served_if_the_origin_fails(drive, clock):
    """An entry that memory still holds is no reason to go straight past it."""
    source = Source({"k": "v"})
    memory = hc.Cache(10, timer=clock.seconds)
    options = hc.EntryOptions(ttl=10, stale=100)
    with hc.HybridCache(memory, origin=source, defaults=options) as store:
        assert drive.get(store, "k") == "v"
        clock.now += 11
        source.values["k"] = OSError("down")
        assert drive.get(store, "k") == "v"
        assert store.stats().origin.stale_served == 1


def test_a_stale_record_is_looked_up_once(make_store, clock):
    """A copy on disk that is past its ttl is what the engine goes on with."""
    source = Source({"k": "v"})
    store = make_store(source, ttl=10, stale=100)
    store.get("k")
    store.memory.clear()
    clock.now += 11
    before = store.stats().disk
    source.values["k"] = OSError("down")
    assert store.get("k") == "v"
    assert store.stats().disk.stale_hits == before.stale_hits + 1


def test_a_failure_in_a_loader_that_asks_back_counts_once(drive):
    """A load within a load is part of it for the breaker."""

    def load(key):
        if key == "inner":
            raise OSError("down")
        return store.get("inner")

    async def aload(key):
        if key == "inner":
            raise OSError("down")
        return await store.aio.get("inner")

    with store_of(load if drive.kind == "sync" else aload) as store:
        for _ in range(3):
            assert isinstance(drive.start("get", store, "outer").exception(PATIENCE), OSError)
        assert store.breaker.stats().failures == 3
        for _ in range(2):
            assert isinstance(drive.start("get", store, "outer").exception(PATIENCE), OSError)
        assert store.breaker.state == "open"
        error = drive.start("get", store, "other").exception(PATIENCE)
        assert isinstance(error, hc.BreakerOpenError)


def test_a_function_that_returns_an_awaitable():
    """What a sync function returns is waited for if it can be."""

    async def work(key):
        return key.upper()

    with store_of(lambda key: work(key)) as store:
        assert store.get("k") == "K"
        assert store.memory.get("k") == "K"


def test_switching_turns_off_the_straight_way(drive):
    """Listeners, features, loaders and close() count from the next lookup on."""
    source = Source({"k": "v"})
    told = []
    with store_of(source) as store:
        assert drive.get(store, "k") == "v"
        store.clear()
        with hc.disabled("origin"):
            assert store.get("k") is None
        stop = store.on(told.append, ["load"])
        assert drive.get(store, "k") == "v"
        assert store._engine.events.drain(PATIENCE)
        assert [event.key for event in told] == ["k"]
        stop()

        @store.loader("user:{id:int}")
        def user(id):
            return id

        assert drive.get(store, "user:7") == 7
    with pytest.raises(hc.ClosedError):
        drive.get(store, "other")


def test_a_load_is_a_task_with_a_context_of_its_own():
    """An awaited load runs in one task from its first step on, and that is not its caller's."""
    variable = contextvars.ContextVar("variable", default="unset")
    tasks = []

    async def load(key):
        variable.set("changed")
        tasks.append(asyncio.current_task())
        if key == "slow":
            await asyncio.sleep(0)
        tasks.append(asyncio.current_task())
        assert variable.get() == "changed"
        return key

    async def main():
        for key in ("fast", "slow"):
            assert await store.aio.get(key) == key
            assert variable.get() == "unset"
        assert tasks[0] is tasks[1]
        assert tasks[2] is tasks[3]
        assert asyncio.current_task() not in tasks

    with store_of(load) as store:
        asyncio.run(main())


def test_a_cancelled_caller_leaves_its_load_behind():
    """A load that has begun goes on when the only one who wanted it is cancelled."""

    async def load(key):
        await asyncio.sleep(0.01)
        return key

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(store.aio.get("k"), 0.001)
        assert await store.aio.get("k") == "k"

    with store_of(load) as store:
        asyncio.run(main())
        assert store.stats().origin.loads == 1


def test_loads_that_never_wait_leave_the_loop_a_turn():
    """Awaiting many loads that end at once neither piles up tasks nor starves the others."""

    async def load(key):
        return key

    async def main():
        most = 0
        for key in range(1000):
            await store.aio.get(key)
            most = max(most, len(asyncio.all_tasks()))
        return most

    with store_of(load) as store:
        assert asyncio.run(main()) < 50


@pytest.mark.slow
def test_one_load_however_many_threads():
    """Threads that miss one key at the same moment, with writes between, share one load a round."""
    loads = []
    with store_of(loads.append) as store, ThreadPoolExecutor(8) as pool:
        for n in range(300):
            outcomes = [pool.submit(store.get, n, "none") for _ in range(8)]
            assert [outcome.result(PATIENCE) for outcome in outcomes] == [None] * 8
        assert loads == list(range(300))
        assert not store._engine._flights._flights
