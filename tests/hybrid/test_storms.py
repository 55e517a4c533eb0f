"""Many threads and tasks, cancelled at random: nobody hangs, nothing is lost, nothing is wrong."""

import asyncio
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

import hybridcore as hc

from .conftest import PATIENCE, wait_until


async def cancellation_round(store, random_one, load_calls, keys):
    """Start tasks, cancel half of them at random moments; the others must get their values."""
    tasks = {}
    for n in range(40):
        key = random_one.choice(keys)
        kind = random_one.random()
        if kind < 0.5:
            work = store.aio.get(key)
        elif kind < 0.8:
            work = store.aio.get_many([key, *random_one.sample(keys, 2)])
        else:
            work = store.aio.get_or_load(key, load_calls)
        tasks[asyncio.create_task(work)] = key
        if n % 8 == 0:
            await asyncio.sleep(0)
    doomed = random_one.sample(list(tasks), 20)
    for task in doomed:
        if random_one.random() < 0.5:
            await asyncio.sleep(random_one.choice([0, 0, 0.001]))
        task.cancel()
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE)
    for (task, key), outcome in zip(tasks.items(), outcomes, strict=True):
        if isinstance(outcome, asyncio.CancelledError):
            assert task in doomed
        elif isinstance(outcome, dict):
            assert outcome[key] == f"value of {key}"
        else:
            assert outcome == f"value of {key}"
    return len(doomed)


@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize("seed", range(4))
def test_cancellation_storm(make_store, kind, seed):
    """Half of the tasks are cancelled, round after round: the others get their values, in time."""
    random_one = random.Random(seed)
    keys = [f"k{n}" for n in range(8)]
    calls = Counter()

    async def aload(key):
        calls[key] += 1
        await asyncio.sleep(random_one.choice([0, 0, 0.001, 0.002]))
        return f"value of {key}"

    def load(key):
        calls[key] += 1
        time.sleep(0.001)
        return f"value of {key}"

    loader = aload if kind == "async" else load
    store = make_store(loader, disk=None)
    complaints = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: complaints.append(context)
        )
        for _ in range(15):
            await cancellation_round(store, random_one, loader, keys)
            await store.aio.clear()
        # Some loads go on though their callers have all gone.
        await asyncio.to_thread(wait_until, lambda: not store.aio._tasks)
        assert await asyncio.wait_for(store.aio.get_many(keys), PATIENCE) == {
            key: f"value of {key}" for key in keys
        }

    asyncio.run(main())
    assert not complaints
    assert not store._engine._flights._flights
    assert store.stats().origin.errors == 0


def test_cancelled_loads_are_not_repeated(make_store):
    """However many callers of one key are cancelled, the origin is asked once."""
    calls = []

    async def load(key):
        calls.append(key)
        await asyncio.sleep(0.02)
        return key

    async def main():
        tasks = [asyncio.create_task(store.aio.get("k")) for _ in range(100)]
        await asyncio.sleep(0)
        for task in random.Random(1).sample(tasks, 50):
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(outcome == "k" for outcome in outcomes) == 50

    store = make_store(load)
    asyncio.run(main())
    assert calls == ["k"]


def storm(store, seconds, seed, failing):
    """Threads and loops use one store in every way for some time; returns how much they did."""
    stop = time.monotonic() + seconds
    keys = range(30)
    done = Counter()

    def check(key, value):
        assert value in (None, key, -key), f"{value} under {key}, seed {seed}"

    def blocking(me):
        random_one = random.Random(f"{seed} {me}")
        while time.monotonic() < stop:
            key = random_one.choice(keys)
            action = random_one.randrange(12)
            done[action] += 1
            try:
                if action < 4:
                    check(key, store.get(key))
                elif action < 6:
                    for found, value in store.get_many(random_one.sample(keys, 4)).items():
                        check(found, value)
                elif action < 8:
                    check(key, store.get_or_load(key, lambda key: -key))
                elif action < 10:
                    store.put(key, random_one.choice([key, -key]))
                elif action == 10:
                    store.delete(key)
                elif random_one.random() < 0.05:
                    store.clear()
            except failing:
                done["failed"] += 1

    async def awaiting(me):
        random_one = random.Random(f"{seed} {me}")

        async def one():
            key = random_one.choice(keys)
            action = random_one.randrange(5)
            try:
                if action < 2:
                    check(key, await store.aio.get(key))
                elif action == 2:
                    found = await store.aio.get_many(random_one.sample(keys, 4))
                    for each, value in found.items():
                        check(each, value)
                elif action == 3:
                    await store.aio.put(key, -key)
                else:
                    await store.aio.delete(key)
            except failing:
                done["failed"] += 1

        while time.monotonic() < stop:
            tasks = [asyncio.create_task(one()) for _ in range(10)]
            await asyncio.sleep(0)
            random_one.choice(tasks).cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome

    with ThreadPoolExecutor(8) as pool:
        work = [pool.submit(blocking, n) for n in range(5)]
        work += [pool.submit(asyncio.run, awaiting(n)) for n in range(2)]
        for outcome in work:
            outcome.result(seconds + PATIENCE)
    assert not store._engine._flights._flights
    assert not store._engine._flights._writers
    return done


def faulty_load(seed):
    """A loader that mostly answers, sometimes has nothing, fails, or asks for another key."""
    random_one = random.Random(seed)
    within = threading.local()

    def load(key):
        mood = random_one.random()
        if mood < 0.05:
            raise OSError("down")
        if mood < 0.1:
            raise hc.NotFoundError(key)
        if mood < 0.3 and not getattr(within, "nested", False):
            within.nested = True
            try:
                load.store.get((key + 1) % 30)
            finally:
                within.nested = False
        if mood < 0.35:
            time.sleep(0.0005)
        return key

    return load


@pytest.mark.parametrize("strategy", ["read_through", "write_through"])
def test_thread_and_task_storm(make_store, fast_switching, strategy):
    """Fault 20: threads and loops at once, with an origin that fails now and then."""
    load = faulty_load(7)
    origin = hc.CallableOrigin(load, store=lambda key, value: None, delete=lambda key: None)
    store = load.store = make_store(origin, memory=hc.Cache(12), strategy=strategy)
    done = storm(store, 1.0, 7, (OSError, hc.PartialLoadError, hc.NotFoundError))
    assert all(done[action] for action in range(12))
    assert done["failed"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_long_storm(make_store, fast_switching, seed):
    """Fault 20: the same for longer, with entries that expire and are served stale."""
    load = faulty_load(seed)
    store = load.store = make_store(load, memory=hc.Cache(12), disk=None, ttl=0.005, stale=0.01)
    storm(store, 10.0, seed, (OSError, hc.PartialLoadError, hc.NotFoundError))
