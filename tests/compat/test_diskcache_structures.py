"""`FanoutCache`, `Index`, `Deque` and the recipes of diskcache, on real directories."""

from __future__ import annotations

import pickle
import shutil
import threading
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridcore.compat.diskcache import (
    Averager,
    BoundedSemaphore,
    Cache,
    Deque,
    FanoutCache,
    Index,
    Lock,
    RLock,
    barrier,
    memoize_stampede,
    throttle,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "cache", eviction_policy="none") as cache:
        yield cache


def in_threads(count: int, work: Any) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class TestFanout:
    def test_is_a_cache(self, tmp_path: Path) -> None:
        """A FanoutCache takes shards and a timeout, and is one cache."""
        with FanoutCache(tmp_path / "f", shards=4, timeout=1, tag_index=True) as fanout:
            assert fanout.set("a", 1, tag="t")
            assert fanout.incr("a") == 2
            assert fanout.evict("t") == 1
            fanout["b"] = 1
            assert list(pickle.loads(pickle.dumps(fanout))) == ["b"]

    def test_beneath(self, tmp_path: Path) -> None:
        """Caches, deques and indexes beneath keep what they have, each for itself."""
        for turn in range(2):
            with FanoutCache(tmp_path / "f") as fanout:
                fanout.cache("x").incr("n")
                fanout.deque("x", maxlen=5).append(turn)
                fanout.index("x/y")["n"] = turn
                assert fanout.cache("x") is fanout.cache("x")
                assert len(fanout) == 0
        with FanoutCache(tmp_path / "f") as fanout:
            assert fanout.cache("x")["n"] == 2
            assert list(fanout.deque("x")) == [0, 1]
            assert fanout.index("x/y") == {"n": 1}

    @pytest.mark.parametrize("name", ["", "../x", "/x", "x/", "."])
    def test_names(self, tmp_path: Path, name: str) -> None:
        """A name cannot lead out of the directory."""
        with FanoutCache(tmp_path / "f") as fanout, pytest.raises(ValueError, match="name"):
            fanout.cache(name)


class TestIndex:
    def test_is_a_mapping(self, tmp_path: Path) -> None:
        """An index starts from items, keeps them in order, and compares like a dict."""
        index = Index(str(tmp_path / "i"), {"b": 1}, a=2)
        assert list(index.items()) == [("b", 1), ("a", 2)]
        assert index == {"a": 2, "b": 1} == dict(index)
        assert index == OrderedDict([("b", 1), ("a", 2)])
        assert index != OrderedDict([("a", 2), ("b", 1)])
        assert index != 5
        assert list(reversed(index)) == ["a", "b"]
        assert pickle.loads(pickle.dumps(index)) == index == Index(str(tmp_path / "i"))

    def test_durability(self, tmp_path: Path) -> None:
        """What is no cache survives a power failure, unless its cache was made otherwise."""
        index = Index(str(tmp_path / "i"))
        quick = Index.fromcache(Cache(tmp_path / "q", eviction_policy="none"))
        with FanoutCache(tmp_path / "f") as fanout:
            caches = [index.cache, fanout.deque("d").cache, fanout.cache("c"), quick.cache]
            synced = [cache._tier._environment._state.durability for cache in caches]
        assert synced == ["power", "power", "process", "process"]
        quick.cache.reset("sqlite_synchronous", 2)
        assert quick.cache._tier._environment._state.durability == "power"

    def test_room(self, tmp_path: Path) -> None:
        """What could hold a terabyte takes little room as long as it holds little."""
        index = Index(str(tmp_path / "i"), a=1)
        assert sum(file.stat().st_size for file in (tmp_path / "i").iterdir()) < 1_000_000
        assert index == {"a": 1}

    def test_takes(self, tmp_path: Path) -> None:
        """pop and popitem take, setdefault adds once."""
        index = Index.fromcache(Cache(tmp_path / "i"), a=1, b=2, c=3)
        assert index.popitem() == ("c", 3)
        assert index.popitem(last=False) == ("a", 1)
        assert index.peekitem() == ("b", 2)
        assert (index.pop("b"), index.pop("b", None)) == (2, None)
        for call in (lambda: index.pop("b"), index.popitem, lambda: index["b"]):
            with pytest.raises(KeyError):
                call()
        assert (index.setdefault("x", 1), index.setdefault("x", 2)) == (1, 1)
        assert index.pull() == (None, None)
        assert index.pull(default=5) == 5
        with pytest.raises(NotImplementedError), index.transact():
            pass

    def test_two_threads(self, tmp_path: Path) -> None:
        """Each item is taken by one thread."""
        index = Index(str(tmp_path / "i"), {n: n for n in range(60)})
        taken: list[Any] = []

        def take() -> None:
            taken.extend(index.popitem() for _ in range(20))

        in_threads(3, take)
        assert sorted(taken) == [(n, n) for n in range(60)]


OPERATIONS = st.one_of(
    st.tuples(st.sampled_from(["append", "appendleft", "remove"]), st.integers(0, 4)),
    st.tuples(st.sampled_from(["extend", "extendleft"]), st.lists(st.integers(0, 4), max_size=4)),
    st.tuples(st.sampled_from(["pop", "popleft", "reverse"])),
    st.tuples(st.just("rotate"), st.integers(-7, 7)),
    st.tuples(st.sampled_from(["__getitem__", "__delitem__"]), st.integers(-6, 6)),
    st.tuples(st.just("__setitem__"), st.integers(-6, 6), st.integers(0, 4)),
)


class TestDeque:
    @settings(max_examples=30)
    @given(st.lists(OPERATIONS, max_size=15), st.none() | st.integers(0, 4))
    def test_is_a_deque(self, operations: list[Any], maxlen: int | None) -> None:
        """A Deque does what a deque of collections does."""
        ours, theirs = Deque(maxlen=maxlen), deque(maxlen=maxlen)
        for name, *args in operations:
            outcomes = []
            for one in (ours, theirs):
                try:
                    outcomes.append(getattr(one, name)(*args))
                except (IndexError, ValueError) as error:
                    outcomes.append(type(error))
            assert outcomes[0] == outcomes[1]
            assert list(ours) == list(theirs)
            assert list(reversed(ours)) == list(reversed(theirs))
        ours.cache.close()
        shutil.rmtree(ours.directory)

    def test_rest(self, tmp_path: Path) -> None:
        """It compares with sequences, peeks, counts, and is the same when opened again."""
        ours = Deque("abca", tmp_path / "d")
        assert (ours.peekleft(), ours.peek(), ours.count("a"), len(ours)) == ("a", "a", 2, 4)
        assert ours == "abca"
        assert ours != "abc"
        assert "abc" < ours <= "abca"
        ours += "d"
        ours.maxlen = 2
        assert (
            list(ours) == list(ours.copy()) == list(pickle.loads(pickle.dumps(ours))) == ["a", "d"]
        )
        ours.clear()
        for call in (ours.pop, ours.popleft, ours.peek, ours.peekleft):
            with pytest.raises(IndexError):
                call()
        with pytest.raises(TypeError):
            ours.rotate(1.0)


class TestRecipes:
    def test_averager(self, cache: Cache) -> None:
        """No number that threads add is lost."""
        averager = Averager(cache, "latency", tag="t")
        assert averager.get() is None
        in_threads(3, lambda: [averager.add(n) for n in range(20)])
        assert averager.get() == 9.5
        assert cache["latency"] == (570.0, 60)
        assert (averager.pop(), averager.pop()) == (9.5, None)

    @pytest.mark.parametrize(("make", "most"), [(Lock, 1), (RLock, 1), (BoundedSemaphore, 2)])
    def test_locks(self, cache: Cache, make: Any, most: int) -> None:
        """No more threads than allowed are inside at the same time."""
        lock = make(cache, "lock", value=most) if make is BoundedSemaphore else make(cache, "lock")
        inside = 0
        highest = 0
        guard = threading.Lock()

        def work() -> None:
            nonlocal inside, highest
            for _ in range(10):
                with lock:
                    with guard:
                        inside += 1
                        highest = max(highest, inside)
                    with guard:
                        inside -= 1

        in_threads(3, work)
        assert highest <= most
        assert inside == 0

    def test_rlock(self, cache: Cache) -> None:
        """Its holder takes it again; nobody else takes or releases it."""
        lock = RLock(cache, "lock")
        with lock, lock:
            tried: list[bool] = []
            in_threads(1, lambda: tried.append(lock._try()))
            assert tried == [False]
        with pytest.raises(AssertionError, match="un-acquired"):
            lock.release()

    def test_semaphore(self, cache: Cache) -> None:
        """More cannot be released than were acquired."""
        semaphore = BoundedSemaphore(cache, "s", value=2)
        semaphore.acquire()
        with semaphore:
            assert not semaphore._try()
        semaphore.release()
        with pytest.raises(AssertionError, match="un-acquired"):
            semaphore.release()

    def test_lock(self, cache: Cache) -> None:
        """A lock that expires frees itself."""
        lock = Lock(cache, "lock", expire=0)
        lock.acquire()
        assert not lock.locked()
        with Lock(cache, "other") as other:
            assert other.locked()

    def test_throttle(self, cache: Cache) -> None:
        """So many calls run at once, then one whenever its share of the time has passed."""
        now = 1000.0
        calls = []

        def sleep(seconds: float) -> None:
            nonlocal now
            now += seconds

        @throttle(cache, 2, 1, name="f", time_func=lambda: now, sleep_func=sleep)
        def call() -> None:
            calls.append(now)

        for _ in range(5):
            call()
        assert calls == [1000, 1000, 1000.5, 1001, 1001.5]

    def test_barrier(self, cache: Cache) -> None:
        """A decorated function runs in one thread at a time."""
        inside: list[int] = []
        most: list[int] = []

        @barrier(cache, Lock, name="f")
        def work() -> None:
            inside.append(1)
            most.append(len(inside))
            inside.pop()

        in_threads(3, work)
        assert most == [1, 1, 1]

    def test_stampede(self, cache: Cache) -> None:
        """A result that is about to expire is renewed by one thread, and served meanwhile."""
        renewed = threading.Event()
        calls = []

        @memoize_stampede(cache, expire=60, beta=1e12)
        def slow(x: int) -> int:
            calls.append(x)
            if len(calls) == 2:
                renewed.set()
            return len(calls)

        assert slow(1) == 1
        assert slow(1) == 1
        assert renewed.wait(30)
        while cache[slow.__cache_key__(1)][0] != 2:
            pass
        steady = memoize_stampede(cache, 60, "steady", beta=0)(lambda: calls.append(0))
        steady()
        steady()
        assert calls == [1, 1, 0]
