"""Sync origins under asyncio: enough threads that no load waits for itself, and no more."""

import asyncio
import random
import threading
import time

import pytest

import hybridcore as hc
from hybridcore.origins import threads

from .conftest import PATIENCE, wait_until

MANY = threads.MOST_WORKERS + 40


def workers():
    """The worker threads that are alive."""
    return [thread for thread in threading.enumerate() if thread.name == "hybridcore-sync-origins"]


def run(work):
    """Run the coroutine in an event loop of its own; what hangs fails."""
    return asyncio.run(asyncio.wait_for(work, PATIENCE))


def test_blocking_callers_in_the_loops_threads_do_not_starve_the_load(make_store):
    """Whole pools of ``to_thread(store.get)`` may wait for the load that a task leads."""

    def load(key):
        time.sleep(0.01)
        return key

    async def main():
        return await asyncio.gather(
            store.aio.get("k"), *(asyncio.to_thread(store.get, "k") for _ in range(MANY))
        )

    store = make_store(load, disk=None)
    assert run(main()) == ["k"] * (1 + MANY)
    assert store.stats().origin.loads == 1


@pytest.mark.parametrize("child_first", [True, False])
def test_sync_loaders_that_wait_for_a_queued_one_do_not_starve_it(make_store, child_first):
    """More loaders than workers wait for one load that is behind them in the queue."""

    def load(key):
        time.sleep(0.005)
        return "child" if key == "child" else store.get("child")

    async def main():
        keys = [*range(MANY)]
        keys.insert(0 if child_first else MANY, "child")
        return await asyncio.gather(*map(store.aio.get, keys))

    store = make_store(load, disk=None)
    assert run(main()) == ["child"] * (1 + MANY)
    assert store.stats().origin.loads == 1 + MANY


def test_sync_loaders_over_an_async_one_over_a_sync_one(make_store):
    """Loads that change between the kinds of functions all end, however many there are."""

    def leaf(key):
        time.sleep(0.005)
        return key

    async def middle(key):
        return await store.aio.get_or_load("leaf", leaf)

    def root(key):
        return store.get_or_load(("middle", key), middle)

    async def main():
        return await asyncio.gather(*(store.aio.get_or_load(n, root) for n in range(MANY)))

    store = make_store(disk=None)
    assert run(main()) == ["leaf"] * MANY


def test_workers_are_bounded_and_end(make_store):
    """A crowd of misses runs a bounded number of functions at a time, and leaves no threads."""
    running, most = 0, 0
    counting = threading.Lock()

    def load(key):
        nonlocal running, most
        with counting:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        with counting:
            running -= 1
        return key

    async def main():
        return await asyncio.gather(*(store.aio.get(n) for n in range(5 * threads.MOST_WORKERS)))

    store = make_store(load, disk=None)
    assert run(main()) == [*range(5 * threads.MOST_WORKERS)]
    assert 1 < most <= threads.MOST_WORKERS
    wait_until(lambda: not workers())


def test_a_loader_that_never_returns_does_not_hold_up_asyncio_run(make_store):
    """Leaving the event loop does not wait for a sync loader that is stuck."""
    stuck = threading.Event()

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(store.aio.get("k"), 0.01)

    store = make_store(lambda key: stuck.wait(PATIENCE), disk=None)
    began = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began < PATIENCE / 2
    assert workers()
    stuck.set()
    wait_until(lambda: not workers())


def test_no_more_threads(make_store, monkeypatch):
    """When the system gives no thread, that is the load's error, and later loads work again."""

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    calls = []
    store = make_store(lambda key: calls.append(key) or key, disk=None)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            run(store.aio.get("k"))
    assert run(store.aio.get("k")) == "k"
    assert calls == ["k"]


def test_a_function_that_interrupts_its_worker(make_store):
    """Fault 19: SystemExit in a worker reaches the caller and ends neither worker nor loop."""
    moods = iter([SystemExit("out"), None])

    def load(key):
        mood = next(moods)
        if mood is not None:
            raise mood
        return key

    origin = hc.CallableOrigin(load)

    async def main():
        with pytest.raises(SystemExit):
            await origin.aload("k")
        return await origin.aload("k")

    assert run(main()) == hc.Loaded("k")


@pytest.mark.parametrize("seed", range(45))
def test_few_workers_and_loaders_over_loaders(make_store, monkeypatch, fast_switching, seed):
    """Loads that wait for others at random, from tasks and threads, end with four workers too."""
    monkeypatch.setattr(threads, "MOST_WORKERS", 4)
    monkeypatch.setattr(threads, "LINGER", 0.002)
    monkeypatch.setattr(threads, "_workers", {})
    random_one = random.Random(seed)
    size = random_one.randrange(2, 30)

    def load(key):
        time.sleep(random_one.choice([0, 0.0005]))
        return key if key > size - 3 else store.get(random_one.randrange(key + 1, size))

    async def main():
        keys = random_one.sample(range(size), size)
        blocking = (asyncio.to_thread(store.get, key) for key in keys[:10])
        await asyncio.gather(*map(store.aio.get, keys), *blocking)

    store = make_store(load, disk=None)
    run(main())
    (pool,) = threads._workers.values()
    wait_until(lambda: (pool._free, pool._idle) == (4, 0))
