"""Many callers, one load: who leads, who follows, and what happens when the leader is lost."""

import asyncio
import contextvars
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import hybridcore as hc
from hybridcore.flights import Flight

from .conftest import PATIENCE, Gate, Source, stopped_load, wait_until


def following(store, count):
    """Until so many lookups missed memory; they then wait for the load, or find what it left."""
    wait_until(lambda: store.stats().memory.misses >= count)


@pytest.mark.parametrize("method", ["get", "get_or_load", "get_many"])
def test_eight_threads_and_a_thousand_tasks_make_one_call(make_store, method):
    """8 threads, and 1000 tasks in 4 event loops, miss one key: the origin is asked once."""
    gate, calls = Gate(), []

    def load(key):
        calls.append(key)
        gate()
        return key.upper()

    store = make_store(load)
    arguments = {"get": ("k",), "get_or_load": ("k", load), "get_many": (["k"],)}[method]

    async def crowd():
        return await asyncio.gather(*(getattr(store.aio, method)(*arguments) for _ in range(250)))

    with ThreadPoolExecutor(12) as pool:
        threads = [pool.submit(getattr(store, method), *arguments) for _ in range(8)]
        loops = [pool.submit(asyncio.run, crowd()) for _ in range(4)]
        following(store, 1008)
        gate.open()
        expected = {"k": "K"} if method == "get_many" else "K"
        assert [thread.result(PATIENCE) for thread in threads] == [expected] * 8
        assert [loop.result(PATIENCE) for loop in loops] == [[expected] * 250] * 4
    assert calls == ["k"]
    assert store.stats().origin.loads == 1


def test_followers_share_the_error(drive, make_store):
    """When the load fails, everybody who waited hears why; the next caller asks again."""
    source = Source({"k": ValueError("bad")})
    gate = Gate()
    source.before_load = gate
    store = make_store(source)
    pending = [drive.start("get", store, "k") for _ in range(5)]
    following(store, 5)
    gate.open()
    assert {future.exception(PATIENCE) for future in pending} == {source.values["k"]}
    assert 1 <= len(source.asked) <= 5  # one that came after the failure asks for itself
    source.values["k"] = 1
    assert drive.get(store, "k") == 1


@pytest.mark.parametrize("value", [hc.NotFound(), None])
def test_followers_share_not_found_and_none(drive, make_store, value):
    """That there is no value, and the value None, are shared like any other."""
    source = Source({"k": value})
    store = make_store(source)
    with stopped_load(drive, source, store, "k") as leader:
        pending = [drive.start("get", store, "k", n) for n in range(3)]
        following(store, 4)
    expected = [None] * 3 if value is None else [0, 1, 2]
    assert [future.result(PATIENCE) for future in pending] == expected
    assert leader.result(PATIENCE) is None


@pytest.mark.parametrize("strategy", ["cache_aside", "read_through"])
def test_a_loader_is_asked_though_a_lookup_found_nothing(
    drive, make_store, tmp_path, clock, strategy
):
    """get_or_load does not take "nobody has it" from a get that asked nobody, or somebody else."""
    gate = Gate()

    class SlowDisk(hc.Lmdb):
        def fetch_plain(self, key):
            record = super().fetch_plain(key)
            gate()
            return record

        def fetch_many(self, keys):
            records = super().fetch_many(keys)
            gate()
            return records

    disk = SlowDisk(tmp_path / "slow", clock=clock.nanoseconds)
    store = make_store(Source() if strategy == "read_through" else None, disk=disk)
    with ThreadPoolExecutor(1) as pool:
        plain = pool.submit(store.get, "k", "nothing")
        gate.wait_until_reached()
        loaded = drive.start("get_or_load", store, "k", lambda key: "loaded")
        following(store, 2)
        gate.open()
        assert plain.result(PATIENCE) in ("nothing", "loaded")
    assert loaded.result(PATIENCE) == "loaded"


def test_loaders_share_that_there_is_nothing(drive, make_store):
    """Of many get_or_load at the same time, one asks, and its NotFoundError is everybody's."""
    gate, calls = Gate(), []

    def absent(key):
        calls.append(key)
        gate()
        raise hc.NotFoundError(key)

    store = make_store()
    pending = [drive.start("get_or_load", store, "k", lambda key: absent(key)) for _ in range(9)]
    following(store, 9)
    time.sleep(0.01)
    gate.open()
    for future in pending:
        assert isinstance(future.exception(PATIENCE), hc.NotFoundError)
    assert len(calls) < 9


def test_different_keys_load_side_by_side(drive, make_store):
    """One slow key holds up nobody who wants another one."""
    source = Source({n: n for n in range(100)})
    store = make_store(source)
    with stopped_load(drive, source, store, 0):
        for n in range(1, 100):
            assert drive.get(store, n) == n


# -- the leader is lost ----------------------------------------------------------------------


def test_a_cancelled_leader_leaves_the_load_to_the_others(make_store):
    """The task that started a load is cancelled: the load goes on, and the others get its value."""
    release = None
    calls = []

    async def load(key):
        calls.append(key)
        await release.wait()
        return "v"

    async def main():
        nonlocal release
        release = asyncio.Event()
        leader = asyncio.create_task(store.aio.get("k"))
        await asyncio.sleep(0)
        others = [asyncio.create_task(store.aio.get("k")) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert len(store.aio._tasks) == 1  # the load; who waits for it needs none
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        others.pop().cancel()
        release.set()
        assert await asyncio.gather(*others) == ["v", "v"]

    store = make_store(load)
    asyncio.run(main())
    assert calls == ["k"]
    assert store.get("k") == "v"


def test_a_load_that_all_have_left_is_kept(make_store):
    """Everybody was cancelled: the load ends all the same, and what it brought is there."""
    gate = Gate()
    store = make_store(lambda key: gate() or "v")

    async def main():
        tasks = [asyncio.create_task(store.aio.get("k")) for _ in range(3)]
        await asyncio.to_thread(gate.wait_until_reached)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        gate.open()
        await asyncio.to_thread(wait_until, lambda: "k" in store)

    asyncio.run(main())
    assert store.stats().origin.loads == 1


def test_a_load_that_fails_after_all_have_left(make_store):
    """Everybody was cancelled, then the load fails: nobody is bothered with the error."""
    complaints = []

    async def load(key):
        await asyncio.sleep(0.01)
        raise OSError("down")

    async def main():
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: complaints.append(context)
        )
        task = asyncio.create_task(store.aio.get("k"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.to_thread(wait_until, lambda: not store.aio._tasks)
        gc.collect()

    store = make_store(load)
    asyncio.run(main())
    assert store.stats().origin.errors == 1
    assert complaints == []


def test_an_elected_leader_is_shielded_too(make_store):
    """A follower that had to take over the load does not take it along when it is cancelled."""
    calls = []

    async def load(key):
        calls.append(key)
        if len(calls) == 1:
            raise asyncio.CancelledError
        await asyncio.sleep(0.02)
        return "v"

    async def main():
        first = asyncio.create_task(store.aio.get("k"))
        second = asyncio.create_task(store.aio.get("k"))
        third = asyncio.create_task(store.aio.get("k"))
        await asyncio.to_thread(wait_until, lambda: len(calls) == 2)
        await asyncio.sleep(0.005)
        assert first.cancelled()
        second.cancel()
        third_is_led = asyncio.gather(second, third, return_exceptions=True)
        outcomes = await third_is_led
        assert isinstance(outcomes[0], asyncio.CancelledError)
        assert outcomes[1] == "v"

    store = make_store(load)
    asyncio.run(main())
    assert calls == ["k", "k"]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("method", ["get", "get_many"])
def test_an_interrupted_leader_hands_over(make_store, interrupt, method):
    """Fault 19: an interrupt in a loader reaches its caller alone; a follower leads instead."""
    gate, calls = Gate(), []

    def load(key):
        calls.append(key)
        if len(calls) == 1:
            gate()
            raise interrupt
        return "v"

    keys = ["k"] if method == "get" else ["k", "l", "m"]
    store = make_store(load)
    with ThreadPoolExecutor(8) as pool:
        leader = pool.submit(getattr(store, method), "k" if method == "get" else keys)
        gate.wait_until_reached()
        followers = [pool.submit(store.get, key) for key in keys for _ in range(2)]
        following(store, 3 * len(keys))
        gate.open()
        assert isinstance(leader.exception(PATIENCE), interrupt)
        assert [follower.result(PATIENCE) for follower in followers] == ["v"] * 2 * len(keys)
    assert calls[0] == "k"
    assert sorted(calls[1:]) == keys


def test_a_closed_loop_hands_over(make_store):
    """A loop that was closed under a load does not lock the key: the next caller leads."""
    calls = []

    async def load(key):
        calls.append(key)
        if len(calls) == 1:
            await asyncio.sleep(1000)
        return "v"

    async def give_up():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(store.aio.get("k"), 0.01)

    store = make_store(load)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # it complains of the pending task
    loop.run_until_complete(give_up())
    with ThreadPoolExecutor(1) as pool:
        follower = pool.submit(store.get, "k")
        following(store, 2)
        time.sleep(0.01)
        loop.close()
        assert store.get("k") == "v"
        assert follower.result(PATIENCE) == "v"
    assert calls == ["k", "k"]
    store.aio._tasks.clear()
    gc.collect()
    assert store.get("k") == "v"


def test_asyncio_run_that_ends_hands_over(make_store):
    """Leaving asyncio.run cancels its loads; followers in threads lead instead."""
    gate = threading.Event()
    calls = []

    async def load(key):
        calls.append(key)
        if len(calls) == 1:
            gate.set()
            await asyncio.sleep(1000)
        return "v"

    async def main():
        task = asyncio.create_task(store.aio.get("k"))
        await asyncio.to_thread(gate.wait, PATIENCE)
        follower = pool.submit(store.get, "k")
        await asyncio.to_thread(following, store, 2)
        task.cancel()
        return follower

    store = make_store(load)
    with ThreadPoolExecutor(1) as pool:
        assert asyncio.run(main()).result(PATIENCE) == "v"


# -- loaders that ask back -------------------------------------------------------------------


def test_loaders_build_on_each_other(drive, make_store):
    """A loader may ask the store for other keys, in its own face."""

    def fib(n):
        return n if n < 2 else store.get(n - 1) + store.get(n - 2)

    async def afib(n):
        return n if n < 2 else await store.aio.get(n - 1) + await store.aio.get(n - 2)

    store = make_store(fib if drive.kind == "sync" else afib)
    assert drive.get(store, 30) == 832040
    assert store.stats().origin.loads == 31


def test_a_loader_may_ask_for_its_own_key_once(drive, make_store):
    """Fault 19: whoever asks for the key it is loading loads it itself instead of waiting."""
    depth = 0

    def load(key):
        nonlocal depth
        depth += 1
        return "inner" if depth == 2 else f"outer({store.get(key)})"

    async def aload(key):
        nonlocal depth
        depth += 1
        return "inner" if depth == 2 else f"outer({await store.aio.get(key)})"

    store = make_store(load if drive.kind == "sync" else aload)
    assert drive.start("get", store, "k").result(PATIENCE) == "outer(inner)"
    assert drive.get(store, "k") == "outer(inner)"
    assert depth == 2


@pytest.mark.parametrize("method", ["get", "get_many", "get_or_load"])
def test_endless_recursion_is_an_error(drive, make_store, method):
    """Fault 19: a loader that always asks for its own key ends with RecursionError, soon."""
    calls = []

    def load(key):
        calls.append(key)
        if method == "get_many":
            return store.get_many([key])[key]
        return store.get(key) if method == "get" else store.get_or_load(key, load)

    async def aload(key):
        calls.append(key)
        if method == "get_many":
            return (await store.aio.get_many([key]))[key]
        if method == "get":
            return await store.aio.get(key)
        return await store.aio.get_or_load(key, aload)

    loader = load if drive.kind == "sync" else aload
    store = make_store(loader)
    argument = {"get": ("k",), "get_many": (["k"],), "get_or_load": ("k", loader)}[method]
    error = drive.start(method, store, *argument).exception(PATIENCE)
    while isinstance(error, hc.PartialLoadError):
        error = error.errors["k"]
    assert isinstance(error, RecursionError)
    assert "'k'" in str(error)
    assert len(calls) == 2


@pytest.mark.parametrize("faces", ["threads", "tasks", "thread and task"])
@pytest.mark.parametrize("length", [2, 3])
def test_a_ring_of_loaders_does_not_deadlock(make_store, faces, length):
    """Loaders in several threads or tasks that wait for each other's keys: one loads for itself."""
    meet = threading.Barrier(length)
    calls = []

    def begin(key):
        calls.append(key)
        return calls.count(key) > 1

    def load(key):
        again = begin(key)
        if not again:
            meet.wait(PATIENCE)
        return key if again else store.get((key + 1) % length)

    async def aload(key):
        again = begin(key)
        if not again:
            await asyncio.get_running_loop().run_in_executor(pool, meet.wait, PATIENCE)
        return key if again else await store.aio.get((key + 1) % length)

    async def main(keys):
        return await asyncio.gather(*(store.aio.get_or_load(key, aload) for key in keys))

    store = make_store(load)
    with ThreadPoolExecutor(12) as pool:
        for _ in range(20):
            calls.clear()
            store.clear()
            half = length if faces == "tasks" else 0 if faces == "threads" else 1
            tasks = pool.submit(asyncio.run, main(range(half)))
            threads = [pool.submit(store.get, key) for key in range(half, length)]
            assert all(value in range(length) for value in tasks.result(PATIENCE))
            assert all(thread.result(PATIENCE) in range(length) for thread in threads)


def test_a_wait_that_was_given_up_is_no_ring(make_store):
    """A loader that no longer waits for another one may be waited for by it."""
    calls = []
    given_up = None

    async def load(key):
        calls.append(key)
        if key == "b":
            await given_up.wait()
            return await store.aio.get("a")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(store.aio.get("b"), 0.01)
        given_up.set()
        await asyncio.sleep(0.02)
        return "a"

    async def main():
        nonlocal given_up
        given_up = asyncio.Event()
        b = asyncio.create_task(store.aio.get("b"))
        await asyncio.sleep(0)
        assert await asyncio.gather(store.aio.get("a"), b) == ["a", "a"]

    store = make_store(load)
    asyncio.run(main())
    assert calls == ["b", "a"]


@pytest.mark.slow
def test_rings_under_load(make_store):
    """Many threads ask for keys whose loaders ask for more keys, all around: nobody hangs."""

    def load(key):
        depth.set(depth.get(0) + 1)
        return 1 if depth.get() > 3 else 1 + store.get((key + 1) % 5)

    depth = contextvars.ContextVar("depth")
    store = make_store(load, disk=None)

    def ask(start):
        for n in range(300):
            contextvars.Context().run(store.get, (start + n) % 5)
            store.delete(n % 5)

    with ThreadPoolExecutor(8) as pool:
        for outcome in [pool.submit(ask, start) for start in range(8)]:
            outcome.result(60)


def test_the_sync_face_in_a_loop_whose_task_leads(make_store):
    """A blocking get in the event loop of the leading task loads for itself, and keeps nothing."""
    calls = []

    async def load(key):
        calls.append(key)
        await asyncio.sleep(0.02)
        return len(calls)

    async def main():
        leader = asyncio.create_task(store.aio.get("k"))
        await asyncio.sleep(0.005)
        assert store.get("k") == 2
        assert store.get_many(["k"]) == {"k": 3}
        assert await leader == 3  # when it ended, there had been three calls
        assert store.get("k") == 3

    store = make_store(load)
    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    assert calls == ["k"] * 3


def test_an_async_origin_that_blocks_its_own_loop(make_store):
    """An async origin of the blocking face that uses that face itself is told not to."""

    async def load(key):
        return store.get("other")

    store = make_store(load)
    with pytest.raises(RuntimeError, match=r"use the \.aio face"):
        store.get("k")


def test_an_async_origin_does_not_wait_for_a_load_behind_it(make_store):
    """The same while another thread's load of that key is waiting for the loop: no deadlock."""
    ready = threading.Event()

    async def load(key):
        if key == "slow":
            ready.set()
            await asyncio.sleep(0.02)
            return key
        return store.get("slow")

    store = make_store(load)
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(store.get, "slow")
        ready.wait(PATIENCE)
        blocked = pool.submit(store.get, "blocked")
        assert isinstance(blocked.exception(PATIENCE), RuntimeError)
        assert slow.result(PATIENCE) == "slow"


def test_loaders_see_the_context_of_the_caller(drive, make_store):
    """A loader runs with its caller's context variables, and leaves them alone."""
    variable = contextvars.ContextVar("variable", default="unset")

    def load(key):
        seen = variable.get()
        variable.set("changed by the loader")
        return seen

    store = make_store(drive.function(load))

    if drive.kind == "sync":
        variable.set("mine")
        assert store.get("k") == "mine"
    else:

        async def main():
            variable.set("mine")
            assert await store.aio.get("k") == "mine"
            assert variable.get() == "mine"

        asyncio.run(main())


def test_blocking_caller_in_the_last_of_asyncios_threads(make_store):
    """A load for asyncio runs although its blocking follower holds the loop's only worker."""
    store = make_store(lambda key: "v")
    led = threading.Event()

    def follow():
        led.wait(PATIENCE)
        return store.get("k")

    async def main():
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        follower = asyncio.create_task(asyncio.to_thread(follow))
        await asyncio.sleep(0)
        leader = asyncio.create_task(store.aio.get("k"))
        await asyncio.sleep(0)
        led.set()
        return await asyncio.wait_for(asyncio.gather(leader, follower), PATIENCE)

    assert asyncio.run(main()) == ["v", "v"]


def test_a_follower_of_a_flight_that_is_handed_over(drive, make_store, clock):
    """Who joined before the load went to the background waits for it all the same."""
    source = Source({"k": "v"})
    store = make_store(source, ttl=10, stale=100, soft_timeout=0.01)
    flights = store._engine._flights
    leader, follower = Flight("k", source), Flight("k", source)
    assert flights.join(leader) is None
    assert flights.join(follower) is leader
    behind = flights.hand_over(leader)
    assert leader.future is behind.future
    flights.end(leader, "stale")
    assert not leader.future.done()
    flights.end(behind, "new")
    assert leader.future.done()
    assert leader.successor.value == "new"
