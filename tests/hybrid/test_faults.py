"""What goes wrong around the cache does not go wrong inside it."""

import asyncio
import concurrent.futures
import gc
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest

import hybridcore as hc

from .conftest import PATIENCE, Gate, Source, stopped_load, wait_until

# -- closing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "aclose", "with", "async with"])
def test_close(make_store, how):
    """After closing, by whichever face, every call of both raises ClosedError; twice is fine."""
    source = Source({"k": 1})
    store = make_store(source)
    assert store.get("k") == 1

    async def close():
        if how == "aclose":
            await store.aio.aclose()
        else:
            async with store.aio as face:
                assert await face.get("k") == 1

    if how == "close":
        store.close()
    elif how == "with":
        with store as same:
            assert same.get("k") == 1
    else:
        asyncio.run(close())
    store.close()
    asyncio.run(store.aio.aclose())
    assert source.closed == 1
    calls = {
        "get": ("k",), "get_many": (["k"],), "get_or_load": ("k", lambda key: 1), "put": ("k", 1),
        "delete": ("k",), "contains": ("k",), "clear": (),
    }  # fmt: skip

    async def acall(method, arguments):
        await getattr(store.aio, method)(*arguments)

    for method, arguments in calls.items():
        with pytest.raises(hc.ClosedError):
            getattr(store, method)(*arguments)
        with pytest.raises(hc.ClosedError):
            asyncio.run(acall(method, arguments))
    with pytest.raises(hc.ClosedError):
        store["k"]
    with pytest.raises(hc.ClosedError):
        assert "k" in store
    assert "closed" in repr(store)


def test_close_while_a_load_runs(drive, make_store):
    """Fault 16: a load under way when the store is closed still reaches its callers."""
    source = Source({"k": "v"})
    store = make_store(source)
    with stopped_load(drive, source, store, "k") as load:
        follower = drive.start("get", store, "k")
        wait_until(lambda: store.stats().memory.misses == 2)
        drive.start("close", store).result(PATIENCE)
    assert load.result(PATIENCE) == "v"
    with suppress(hc.ClosedError):  # it may have got no further than to miss memory
        assert follower.result(PATIENCE) == "v"


@pytest.mark.parametrize("close", ["close", "aclose"])
def test_close_in_a_storm(tmp_path, close):
    """Fault 16: whoever uses the store while it is closed gets a value or ClosedError."""
    for turn in range(5):
        store = hc.HybridCache(hc.Memory(5), hc.Lmdb(tmp_path / str(turn)), lambda key: key)
        begun = threading.Barrier(5)

        def use(store=store, begun=begun):
            begun.wait(PATIENCE)
            try:
                for n in range(100_000):
                    assert store.get(n % 50) in (n % 50, "put")
                    if n % 7 == 0:
                        store.put(n % 50, "put")
                        store.get_many(range(5))
                        store.delete(n % 50)
            except hc.ClosedError:
                return True
            return False

        with ThreadPoolExecutor(4) as pool:
            users = [pool.submit(use) for _ in range(4)]
            begun.wait(PATIENCE)
            wait_until(lambda store=store: store.stats().origin.loads >= 100)
            store.close() if close == "close" else asyncio.run(store.aio.aclose())
            assert all(user.result(PATIENCE) for user in users)


def test_the_origin_is_closed_though_the_disk_is_not(make_store, tmp_path):
    """One tier that cannot be closed does not keep the rest open."""

    class Stubborn(hc.Lmdb):
        def close(self):
            super().close()
            raise OSError("no")

    source = Source({"k": 1})
    store = make_store(source, disk=Stubborn(tmp_path / "stubborn"))
    store.get("k")
    with pytest.raises(OSError, match="no"):
        store.close()
    assert source.closed == 1
    with pytest.raises(hc.ClosedError):
        store.get("k")
    store.close()


def test_a_store_that_is_dropped_is_freed(tmp_path):
    """Without close, the memory of a store goes when its last name does, without the collector."""
    gc.collect()
    gc.disable()
    try:
        store = hc.HybridCache(hc.Memory(10), hc.Lmdb(tmp_path / "dropped"), lambda key: key)
        store.get("k")
        memory, face = weakref.ref(store.memory), store.aio
        del store
        assert asyncio.run(face.get("k")) == "k"
        del face
        assert memory() is None
    finally:
        gc.enable()


# -- forks -----------------------------------------------------------------------------------


def _in_a_fork(work):
    """Run work in a forked child and return what it put into the pipe."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that a forked process had threads
        child = context.Process(target=lambda: sender.send(work()))
        child.start()
    try:
        assert receiver.poll(PATIENCE), "the child hangs"
        return receiver.recv()
    finally:
        child.join(1)
        if child.is_alive():
            os.kill(child.pid, 9)
        child.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_while_a_load_runs(make_store):
    """Fault 12: the child does not wait for a load whose leader stayed in the parent."""
    source = Source({"k": "v"})
    store = make_store(source)
    gate = Gate()
    source.after_load = gate
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(store.get, "k")
        gate.wait_until_reached()
        source.after_load = lambda key: None
        assert _in_a_fork(lambda: (store.get("k"), store.put("l", 1), store.get("l"))) == (
            "v", None, 1,
        )  # fmt: skip
        gate.open()
        assert load.result(PATIENCE) == "v"
    assert store.get("l") == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_among_loads_for_asyncio(make_store):
    """Fault 12: the child has workers, and a loop for async origins, of its own."""
    gate = Gate()

    def load(key):
        if key == "slow":
            gate()
        return key

    async def aload(key):
        return key

    async def main(key):
        return await store.aio.get(key)

    store = make_store(load)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(asyncio.run, main("slow"))
        gate.wait_until_reached()
        assert store.get_or_load("a", aload) == "a"
        assert _in_a_fork(lambda: (asyncio.run(main("b")), store.get_or_load("c", aload))) == (
            "b", "c",
        )  # fmt: skip
        gate.open()
        assert slow.result(PATIENCE) == "slow"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_while_locks_are_held(make_store):
    """Fault 13: locks that other threads held at the moment of the fork are free in the child."""
    store = make_store(Source({n: n for n in range(64)}))
    gate = Gate()

    def hold_all():
        with store._engine._flights.all_locks(), store._engine._counting:
            gate()

    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(hold_all)
        gate.wait_until_reached()
        assert _in_a_fork(lambda: store.get_many(range(64))) == {n: n for n in range(64)}
        gate.open()
        held.result(PATIENCE)
    assert store.get(1) == 1


# -- what loaders raise ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        StopIteration("stop"), concurrent.futures.CancelledError("pool"), TimeoutError("late"),
        concurrent.futures.TimeoutError("late"), StopAsyncIteration("stop"), RecursionError("deep"),
        AssertionError("oops"), KeyError("k"), MemoryError("full"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_any_exception_reaches_every_caller(make_store, error):
    """Fault 19: leader and followers of both faces end with the loader's error, and none hangs.

    StopIteration is a RuntimeError, as it is inside a generator.
    """
    gate = Gate()

    def load(key):
        gate()
        raise error

    expected = RuntimeError if isinstance(error, StopIteration) else type(error)
    store = make_store(load)

    async def main(method, *arguments):
        with pytest.raises(expected):
            await asyncio.wait_for(getattr(store.aio, method)(*arguments), PATIENCE)
        return "raised"

    with ThreadPoolExecutor(4) as pool:
        leader = pool.submit(store.get, "k")
        gate.wait_until_reached()
        thread = pool.submit(store.get, "k")
        tasks = [pool.submit(asyncio.run, main("get", "k")) for _ in range(2)]
        wait_until(lambda: store.stats().memory.misses == 4)
        gate.open()
        assert isinstance(leader.exception(PATIENCE), expected)
        assert isinstance(thread.exception(PATIENCE), expected)
        assert [task.result(PATIENCE) for task in tasks] == ["raised"] * 2
    assert asyncio.run(main("get", "k")) == "raised"
    with pytest.raises(hc.PartialLoadError) as caught:
        store.get_many(["k"])
    assert isinstance(caught.value.errors["k"], type(error))


def test_a_loader_that_is_cancelled_from_within(make_store):
    """Fault 19: CancelledError out of a loader ends its own caller; the next one asks again."""
    calls = []

    async def load(key):
        calls.append(key)
        if len(calls) == 1:
            raise asyncio.CancelledError
        return "v"

    async def main():
        with pytest.raises(asyncio.CancelledError):
            await store.aio.get("k")
        return await store.aio.get("k")

    store = make_store(load)
    assert asyncio.run(main()) == "v"


def test_cancelled_error_in_the_blocking_face(make_store):
    """Fault 19: the same where the loader runs on the background loop."""

    async def load(key):
        raise asyncio.CancelledError

    store = make_store(load)
    for _ in range(2):
        with pytest.raises((asyncio.CancelledError, concurrent.futures.CancelledError)):
            store.get("k")


def test_a_loader_that_never_returns(make_store):
    """Fault 19: who waits for it can give up, and every other key goes on."""
    forever = threading.Event()

    def load(key):
        return key if key != "stuck" else forever.wait(PATIENCE)

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(store.aio.get("stuck"), 0.01)
        assert await store.aio.get_many(["a", "b"]) == {"a": "a", "b": "b"}
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(store.aio.get_many(["c", "stuck"]), 0.01)
        assert await store.aio.get("c") == "c"
        forever.set()

    store = make_store(load)
    asyncio.run(main())


# -- the disk fails --------------------------------------------------------------------------


class BrokenDisk(hc.Lmdb):
    """A disk tier whose methods fail when told to."""

    broken = ()

    def _maybe(self, name):
        if name in self.broken:
            raise hc.DiskError(f"{name} is broken")

    def fetch(self, key):
        self._maybe("fetch")
        return super().fetch(key)

    def fetch_many(self, keys):
        self._maybe("fetch")
        return super().fetch_many(keys)

    def __contains__(self, key):
        self._maybe("contains")
        return super().__contains__(key)

    def put(self, *args, **kw):
        self._maybe("put")
        super().put(*args, **kw)

    def delete(self, key, **options):
        self._maybe("delete")
        return super().delete(key, **options)

    def clear(self):
        self._maybe("clear")
        super().clear()


@pytest.fixture
def disk(tmp_path, clock):
    return BrokenDisk(tmp_path / "broken", clock=clock.nanoseconds)


def test_reads_go_past_a_broken_disk(drive, make_store, disk):
    """Fault 6: with the disk gone, lookups are answered by memory and origin, and counted."""
    source = Source({"a": 1, "b": 2})
    store = make_store(source, disk=disk)
    disk.broken = ("fetch", "contains", "put", "delete", "clear")
    assert drive.get(store, "a") == 1
    assert drive.get_many(store, ["a", "b", "none"]) == {"a": 1, "b": 2}
    assert drive.get(store, "none") is None
    assert not drive.contains(store, "none")
    assert source.asked == ["a", "b", "none", "none"]
    assert store.stats().origin.disk_errors > 0
    disk.broken = ()
    assert drive.get(store, "a") == 1


def works_again(store):
    """Have the next use try the disk, however long it was to be left alone."""
    store._engine.tiers.disk._retry_at = 0.0


def test_a_put_that_the_disk_refuses(drive, make_store, disk):
    """Fault 5: memory has the value at once, and the disk when it works again."""
    store = make_store(disk=disk)
    drive.put(store, "k", "old")
    disk.broken = ("put",)
    drive.put(store, "k", "new")
    assert drive.get(store, "k") == "new"
    health = store.health()["disk"]
    assert (health.state, health.missed) == ("down", 1)
    assert "put is broken" in health.reason
    store.memory.clear()
    assert drive.get(store, "k") is None  # never the old one
    disk.broken = ()
    works_again(store)
    assert drive.get(store, "k") == "new"
    assert disk["k"] == "new"
    assert store.health()["disk"].state == "ok"


def test_a_delete_that_the_disk_refuses(drive, make_store, disk):
    """Fault 6: what was deleted does not come back, and leaves the disk when that works again."""
    store = make_store(disk=disk)
    drive.put(store, "k", "old")
    drive.put(store, "other", 1)
    disk.broken = ("delete",)
    drive.delete(store, "k")
    assert drive.get(store, "k") is None
    assert not drive.contains(store, "k")
    disk.broken = ()
    works_again(store)
    assert drive.get(store, "k") is None
    assert list(disk) == ["other"]
    disk.broken = ("clear",)
    drive.clear(store)
    assert drive.get(store, "other") is None
    disk.broken = ()
    works_again(store)
    assert drive.get(store, "other") is None
    assert len(disk) == 0


def test_the_newest_write_wins_when_the_disk_is_back(drive, make_store, disk, clock):
    """Of what was missed each key has its last write, with the ttl that is left of it."""
    store = make_store(disk=disk)
    disk.broken = ("put", "delete")
    for value in range(5):
        drive.put(store, "k", value)
    drive.put(store, "gone", 1)
    drive.delete(store, "gone")
    drive.put(store, "brief", 1, ttl=1)
    assert store.health()["disk"].missed == 3
    clock.now += 2
    disk.broken = ()
    clock.now += 1
    drive.put(store, "other", 1)
    assert dict(disk) == {"k": 4, "other": 1}


def test_more_than_can_be_remembered_empties_the_disk(make_store, disk, monkeypatch):
    """Then nothing old is there to come back."""
    monkeypatch.setattr("hybridcore.recovery._MOST_MISSED", 3)
    store = make_store(disk=disk)
    for number in range(10):
        store.put(number, "old")
    disk.broken = ("put", "delete")
    for number in range(5):
        store.put(number, "new")
    disk.broken = ()
    works_again(store)
    store.put("other", 1)
    assert "old" not in disk.values()


def test_write_through_past_a_broken_disk(drive, make_store, disk):
    """Fault 6: the origin has the new value, so nobody is served the old one again."""
    source = Source({"k": "old"})
    store = make_store(source, disk=disk, strategy="write_through")
    drive.get(store, "k")
    disk.broken = ("put", "delete")
    drive.put(store, "k", "new")
    store.memory.clear()
    assert drive.get(store, "k") == "new"
    drive.put(store, "k", "newer")
    assert drive.get(store, "k") == "newer"


def test_a_removed_directory(drive, make_store, tmp_path, clock):
    """Fault 6: the directory is deleted under the store: reads go on."""
    directory = tmp_path / "removed"
    source = Source({n: n for n in range(20)})
    store = make_store(source, disk=hc.Lmdb(directory, clock=clock.nanoseconds))
    drive.get(store, 0)
    shutil.rmtree(directory)
    for n in range(20):
        assert drive.get(store, n) == n


# -- interrupts ------------------------------------------------------------------------------


@contextmanager
def interrupted_when(condition):
    """The main thread is interrupted, as by Ctrl-C, when the condition holds and it waits."""
    main = threading.main_thread().ident

    def raise_it(*ignored):
        raise KeyboardInterrupt

    def interrupt():
        wait_until(lambda: condition() and sys._current_frames()[main].f_code.co_name == "wait")
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, raise_it)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def test_an_interrupt_while_waiting(make_store):
    """Fault 19: a blocking follower that is interrupted goes; leader and load are not disturbed."""
    gate = Gate()
    store = make_store(lambda key: gate() or "v")
    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(store.get, "k")
        gate.wait_until_reached()
        with interrupted_when(lambda: store.stats().memory.misses == 2):
            store.get("k")
        gate.open()
        assert leader.result(PATIENCE) == "v"
    assert store.get("k") == "v"


def test_an_interrupt_while_an_async_origin_works(make_store):
    """Fault 19: the coroutine that nobody waits for any more is cancelled, and the key is free."""
    events = []

    async def load(key):
        events.append("began")
        if len(events) > 1:
            return "v"
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            events.append("cancelled")
            raise

    store = make_store(load)
    with interrupted_when(lambda: events):
        store.get("k")
    wait_until(lambda: len(events) == 2)
    assert store.get("k") == "v"
    assert events == ["began", "cancelled", "began"]


# -- writes that a disk missed and will never take -------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [("k", lambda: None), (frozenset({object()}), 1), ("k", b"x" * (2 << 20))],
    ids=["value", "key", "size"],
)
def test_a_missed_write_that_cannot_be_made_up_for(drive, make_store, tmp_path, clock, key, value):
    """Fault 6: it is given up, and neither it nor what was there before stands in the way."""
    disk = BrokenDisk(tmp_path / "small", clock=clock.nanoseconds, max_bytes="1MiB")
    store = make_store(disk=disk)
    drive.put(store, "k", "old")
    disk.broken = ("put",)
    drive.put(store, "other", 1)
    with suppress(hc.KeyEncodingError, hc.EncodeError, hc.ValueTooLargeError):
        drive.put(store, key, value)  # at once, or not at all
    disk.broken = ("put", "delete")
    with suppress(hc.KeyEncodingError):
        drive.delete(store, frozenset({object()}))
    disk.broken = ()
    works_again(store)
    store.memory.clear()
    assert drive.get(store, "other") == 1
    assert drive.get(store, "k") in (None, "old")
    assert store.health()["disk"].state == "ok"
    drive.put(store, "k", "new")
    assert disk["k"] == "new"


def test_a_missed_write_of_a_version(drive, make_store, disk):
    """Fault 6: it was right when it was made, and is made up for like any other."""
    store = make_store(disk=disk)
    drive.put(store, "k", 1)
    version = drive.entry(store, "k").version
    disk.broken = ("put",)
    drive.put(store, "k", 2, if_version=version)
    drive.put(store, "k", 3)
    drive.put(store, "l", 1, if_version=0)
    disk.broken = ()
    works_again(store)
    store.memory.clear()
    assert drive.get(store, "k") == 3
    assert drive.get(store, "l") == 1


def test_no_thread_for_a_load_in_the_background(make_store, clock, monkeypatch):
    """Fault 19: where no thread can be started the copy is served, and the key stays usable."""
    source = Source({"k": "v"})
    store = make_store(source, ttl=10, refresh_ahead=0.5)
    store.get("k")
    clock.now += 6

    def refuse(*ignored):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr("hybridcore.blocking.in_background", refuse)
        assert store.get("k") == "v"
        assert store.get_many(["k"]) == {"k": "v"}
    assert not store._engine._flights._flights
    clock.now += 6
    source.values["k"] = "new"
    assert store.get("k") == "new"
