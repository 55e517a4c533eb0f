"""`diskcache.Cache` behaves as that of diskcache, on a real directory."""

from __future__ import annotations

import io
import multiprocessing
import pickle
import shutil
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hybridcore import Codec, Codecs, ConfigurationError, EncodeError, KeyEncodingError
from hybridcore.compat import diskcache
from hybridcore.compat.diskcache import ENOVAL, Cache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = b"sixteen or more!"


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "cache") as cache:
        yield cache


class Opaque:
    """No codec takes it."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque)

    __hash__ = None


class TestEntries:
    def test_get_what_was_asked_for(self, cache: Cache) -> None:
        """get and pop give expiry and tag beside the value, in that order."""
        assert cache.set("a", 1, expire=60, tag="red")
        value, expires, tag = cache.get("a", expire_time=True, tag=True)
        assert (value, tag) == (1, "red")
        assert cache.get("a", expire_time=True) == (1, expires)
        assert cache.get("b", "none", expire_time=True, tag=True) == ("none", None, None)
        assert cache.pop("a", tag=True) == (1, "red")
        assert cache.pop("a", tag=True) == (None, None)

    def test_none_is_a_value(self, cache: Cache) -> None:
        """None can be stored and is told from nothing."""
        cache["a"] = None
        assert cache.get("a", 5) is None
        assert "a" in cache
        assert cache.pop("a", 5) is None
        assert cache.pop("a", 5) == 5

    @pytest.mark.parametrize("expire", [0, -1, 1e-9])
    def test_expired_at_once(self, cache: Cache, expire: float) -> None:
        """An expiry that has come makes the entry a miss everywhere."""
        cache.set("a", 1, expire=expire)
        assert cache.get("a") is None
        assert "a" not in cache
        assert not cache.delete("a")
        assert cache.add("a", 2)
        with pytest.raises(KeyError):
            del cache["b"]

    def test_touch(self, cache: Cache) -> None:
        """touch gives a new expiry to what is there."""
        cache.set("a", 1, expire=60)
        assert cache.touch("a")
        assert cache.get("a", expire_time=True) == (1, None)
        assert cache.touch("a", expire=0)
        assert not cache.touch("a", expire=60)

    @pytest.mark.parametrize("tag", ["red", 7, -2.5, float("inf"), b"\0raw", "", None])
    def test_tags(self, cache: Cache, tag: Any) -> None:
        """Tags keep their type, and evict deletes by them."""
        cache.set("a", 1, tag=tag)
        cache.set("b", 1, tag="other")
        found = cache.get("a", tag=True)[1]
        assert (found, type(found)) == (tag, type(tag))
        assert cache.evict(tag) == (tag is not None)
        assert len(cache) == 1 + (tag is None)

    def test_other_tags(self, cache: Cache) -> None:
        """A tag of another type is refused, and nothing is stored."""
        with pytest.raises(TypeError, match="tag"):
            cache.set("a", 1, tag=("x",))
        assert len(cache) == 0

    def test_incr(self, cache: Cache) -> None:
        """incr starts from default, keeps expiry and tag, and refuses what is no number."""
        assert cache.incr("n", 5, default=10) == 15
        cache.set("n", 1, expire=60, tag="red")
        assert cache.decr("n", 3) == -2
        value, expires, tag = cache.get("n", expire_time=True, tag=True)
        assert (value, tag) == (-2, "red")
        assert expires is not None
        with pytest.raises(KeyError):
            cache.incr("m", default=None)
        cache["text"] = "x"
        with pytest.raises(TypeError):
            cache.incr("text")

    def test_files(self, cache: Cache) -> None:
        """Files are read when stored; large bytes come back as one when asked for."""
        cache.set("a", io.BytesIO(b"x" * 40_000), read=True)
        assert cache["a"] == b"x" * 40_000
        with cache.read("a") as file:
            assert file.read() == b"x" * 40_000
        cache["b"] = 5
        assert cache.get("b", read=True) == 5
        with pytest.raises(KeyError):
            cache.read("c")

    def test_unsupported_value(self, cache: Cache) -> None:
        """A value that is no data is refused with both ways out, and nothing is stored."""
        refused = [
            lambda: cache.set("a", Opaque()),
            lambda: cache.add("a", Opaque()),
            lambda: cache.push(Opaque()),
            lambda: cache.set_many({"a": 1, "b": Opaque()}),
        ]
        for call in refused:
            with pytest.raises(EncodeError, match=r"codecs=.*pickle_key="):
                call()
        assert len(cache) == 0

    def test_unsupported_key(self, cache: Cache) -> None:
        """A key that is no key of the disk tier is refused by its type."""
        with pytest.raises(KeyEncodingError, match="list"):
            cache[["a"]] = 1

    def test_ways_out(self, tmp_path: Path) -> None:
        """Values of other types are stored with a codec, or with pickle."""
        codec = Codec(64, Opaque, lambda value: b"", lambda data: Opaque())
        with Cache(tmp_path / "codec", codecs=Codecs(codec)) as cache:
            cache["a"] = Opaque()
            assert cache["a"] == Opaque()
        with Cache(tmp_path / "pickle", pickle_key=KEY) as cache:
            cache["a"] = Opaque()
            assert cache["a"] == Opaque()
        with Cache(tmp_path / "pickle") as cache:
            assert cache.get("a") is None

    def test_many(self, cache: Cache) -> None:
        """Batches store all or nothing, and count what they delete."""
        assert cache.set_many({n: n * n for n in range(10)}, expire=60, tag="squares")
        assert cache.get_many([2, 3, 99]) == {2: 4, 3: 9}
        assert cache.get(2, tag=True) == (4, "squares")
        assert cache.delete_many([1, 2, 99]) == 2
        assert len(cache) == 8

    def test_transact(self, cache: Cache) -> None:
        """transact says what to use instead."""
        with pytest.raises(NotImplementedError, match="set_many"), cache.transact(retry=True):
            pass

    def test_retry(self, cache: Cache) -> None:
        """retry is accepted wherever diskcache has it."""
        cache.set("a", 1, retry=True)
        cache.add("b", 1, retry=True)
        cache.incr("a", retry=True)
        cache.touch("a", retry=True)
        assert cache.get("a", retry=True) == 2
        assert cache.pop("a", retry=True) == 2
        assert cache.delete("b", retry=True)
        assert cache.push(1, retry=True) == cache.pull(retry=True)[0]


class TestQueues:
    def test_both_sides(self, cache: Cache) -> None:
        """Keys count from 500 trillion, up at the back and down at the front."""
        assert cache.push("b") == 500000000000000
        assert cache.push("c") == 500000000000001
        assert cache.push("a", side="front") == 499999999999999
        assert [cache.pull()[1] for _ in range(3)] == ["a", "b", "c"]
        assert cache.pull() == (None, None)
        assert cache.pull(default="none", tag=True) == ("none", None)

    def test_prefixes(self, cache: Cache) -> None:
        """Queues of different prefixes do not meet, nor do other keys."""
        cache["x"] = cache["x-"] = cache["x-5000000000000000"] = cache["x-no"] = cache["y"] = 0
        assert cache.push(1, prefix="x") == "x-500000000000000"
        assert cache.push(2, prefix="xy") == "xy-500000000000000"
        assert cache.peek(prefix="x") == ("x-500000000000000", 1)
        assert cache.pull(prefix="x", side="back") == ("x-500000000000000", 1)
        assert cache.pull(prefix="x") == (None, None)
        assert cache.pull(prefix="xy")[1] == 2

    def test_expired(self, cache: Cache) -> None:
        """What has expired is passed over and deleted."""
        cache.push("old", expire=0)
        cache.push("new", expire=60, tag="t")
        (key, value), expires, tag = cache.peek(expire_time=True, tag=True)
        assert (key, value, tag) == (500000000000001, "new", "t")
        assert expires is not None
        assert cache.pull() == (500000000000001, "new")
        assert len(cache) == 0

    def test_side(self, cache: Cache) -> None:
        """Another side is refused."""
        with pytest.raises(ValueError, match="side"):
            cache.push(1, side="left")

    def test_two_threads(self, cache: Cache) -> None:
        """Of what threads push and pull at the same time nothing is lost or taken twice."""
        taken: list[int] = []
        left = threading.Semaphore(0)

        def producer(start: int) -> None:
            for number in range(start, start + 100):
                cache.push(number)
                left.release()

        def consumer() -> None:
            for _ in range(100):
                left.acquire()
                while (found := cache.pull())[0] is None:
                    pass
                taken.append(found[1])

        threads = [threading.Thread(target=producer, args=(n * 100,)) for n in range(2)]
        threads += [threading.Thread(target=consumer) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(taken) == list(range(200))


class TestMemoize:
    def test_calls_once(self, cache: Cache) -> None:
        """A result is kept under the key that __cache_key__ tells."""
        calls = []

        @cache.memoize(tag="sums", expire=60)
        def total(*numbers: int, **more: int) -> int:
            calls.append(numbers)
            return sum(numbers) + sum(more.values())

        assert [total(1, 2, a=3), total(1, 2, a=3)] == [6, 6]
        assert len(calls) == 1
        key = total.__cache_key__(1, 2, a=3)
        assert cache.get(key, tag=True) == (6, "sums")
        assert total.__wrapped__(1) == 1

    def test_arguments_that_are_no_keys(self, cache: Cache) -> None:
        """Lists and dicts as arguments count by what they hold."""

        @cache.memoize()
        def first(items: list[Any], table: dict[str, int]) -> Any:
            calls.append(1)
            return items[0]

        calls: list[int] = []
        assert first([1, [2]], {"a": 1}) == first([1, [2]], {"a": 1}) == 1
        assert first([3], table={"a": 1}) == 3
        assert len(calls) == 2
        with pytest.raises(EncodeError):
            first([Opaque()], {})

    def test_options(self, cache: Cache) -> None:
        """typed tells types apart, ignore leaves arguments out, expire=0 stores nothing."""
        typed = cache.memoize(typed=True)(lambda x: type(x).__name__)
        assert [typed(1), typed(1.0), typed(True)] == ["int", "float", "bool"]
        some = cache.memoize("some", ignore={1, "b"})(lambda a, c=0, b=0: (a, c, b))
        assert some(1, 2, b=3) == some(1, 5, b=6) == (1, 2, 3)
        before = len(cache)
        never = cache.memoize("never", expire=0)(lambda: 1)
        assert never() == 1
        assert len(cache) == before

    def test_forgotten_call(self, cache: Cache) -> None:
        """@cache.memoize without parentheses is told."""
        with pytest.raises(TypeError, match="name cannot be callable"):

            @cache.memoize
            def function() -> None:
                pass


class TestWhole:
    def test_order(self, cache: Cache) -> None:
        """Iteration goes by time of writing, iterkeys by key, both ways."""
        for key in ("b", "c", "a", 3, 1, ("t",), None):
            cache[key] = key
        assert list(cache) == ["b", "c", "a", 3, 1, ("t",), None]
        assert list(reversed(cache)) == [None, ("t",), 1, 3, "a", "c", "b"]
        assert list(cache.iterkeys()) == [None, 1, 3, "a", "b", "c", ("t",)]
        assert list(cache.iterkeys(reverse=True)) == [("t",), "c", "b", "a", 3, 1, None]
        assert cache.peekitem() == (None, None)
        assert cache.peekitem(last=False) == ("b", "b")

    def test_many_keys(self, cache: Cache) -> None:
        """Long keys and more than one batch of them are walked in order."""
        keys = [f"{'long' * 200}{n:05d}" for n in range(1500)]
        cache.set_many(dict.fromkeys(keys, 0))
        assert sorted(cache.iterkeys()) == keys
        assert list(cache) == keys
        assert list(cache.iterkeys()) == list(cache.iterkeys(reverse=True))[::-1]

    def test_empty(self, cache: Cache) -> None:
        """Of an empty cache everything is empty."""
        assert list(cache) == list(reversed(cache)) == list(cache.iterkeys()) == []
        with pytest.raises(KeyError):
            cache.peekitem()
        assert cache.check() == []
        assert cache.clear() == cache.expire() == cache.cull() == 0

    def test_maintenance(self, cache: Cache) -> None:
        """expire, cull and clear tell how many entries went."""
        cache.set_many({n: n for n in range(5)}, expire=0)
        cache.set_many({n: n for n in range(5, 8)})
        assert cache.peekitem(last=False) == (5, 5)
        assert cache.expire() == 5
        assert cache.cull() == 0
        assert cache.volume() > 0
        assert cache.clear() == 3

    def test_stats(self, cache: Cache) -> None:
        """Hits and misses are counted while that is enabled."""
        cache["a"] = 1
        cache.get("a")
        assert cache.stats(enable=True) == (0, 0)
        cache.get("a")
        cache.get("b")
        with pytest.raises(KeyError):
            cache["c"]
        assert cache.stats(enable=False, reset=True) == (1, 2)
        cache.get("a")
        assert cache.stats() == (0, 0)
        assert (cache.hits, cache.misses, cache.count) == (0, 0, 1)

    def test_settings(self, tmp_path: Path) -> None:
        """Settings of diskcache are attributes; reset changes them, the size limit too."""
        with Cache(tmp_path / "c", size_limit=2**20, sqlite_mmap_size=0, cull_limit=2) as cache:
            assert (cache.size_limit, cache.sqlite_mmap_size, cache.cull_limit) == (2**20, 0, 2)
            assert cache.reset("size_limit", 2**21) == 2**21
            for n in range(100):
                cache[n] = bytes(50_000)
            assert 0 < cache.volume() <= 2**21
            assert cache.reset("size") == cache.volume()

    @pytest.mark.parametrize("policy", ["least-recently-used", "least-frequently-used", "none"])
    def test_policies(self, tmp_path: Path, policy: str) -> None:
        """Policies bound the size, but for "none"."""
        with Cache(tmp_path / "c", size_limit=2**20, eviction_policy=policy) as cache:
            for n in range(100):
                cache[n] = bytes(50_000)
            assert (len(cache) == 100) is (policy == "none")

    @pytest.mark.parametrize(
        "options",
        [
            {"sise_limit": 5},
            {"eviction_policy": "random"},
            {"disk": diskcache.JSONDisk},
            {"codecs": Codecs(), "pickle_key": KEY},
        ],
    )
    def test_refused(self, tmp_path: Path, options: dict[str, Any]) -> None:
        """What makes no sense here is refused by name, and nothing is made."""
        with pytest.raises(ConfigurationError):
            Cache(tmp_path / "c", **options)
        assert not (tmp_path / "c").exists()

    def test_disk(self) -> None:
        """A Disk can be inherited from, but not made."""
        with pytest.raises(ConfigurationError, match="Codecs"):
            diskcache.Disk("directory")

    def test_close(self, cache: Cache) -> None:
        """A closed cache opens again when used."""
        cache["a"] = 1
        cache.close()
        cache.close()
        assert cache["a"] == 1

    def test_with_in_threads(self, cache: Cache) -> None:
        """Leaving one of several with-statements does not close the cache of the others."""
        tier = cache._tier
        with cache:
            pass
        assert cache._tier is tier
        assert not tier.closed

    def test_pickle(self, cache: Cache) -> None:
        """A pickled cache is the same directory with the same settings."""
        cache.reset("cull_limit", 3)
        cache["a"] = 1
        with pickle.loads(pickle.dumps(cache)) as other:
            assert (other["a"], other.cull_limit, other.timeout) == (1, 3, 60)
            other["b"] = 2
        assert cache["b"] == 2

    def test_temporary(self) -> None:
        """Without a directory there is a new one each time."""
        with Cache() as one, Cache() as other:
            assert one.directory != other.directory
            assert repr(one) == f"Cache({one.directory!r})"
        shutil.rmtree(one.directory)
        shutil.rmtree(other.directory)

    def test_check_warns(self, cache: Cache, monkeypatch) -> None:
        """Each thing that is wrong is a warning and in the list."""
        monkeypatch.setattr(type(cache._tier), "verify", lambda self: ["a page is damaged"])
        with pytest.warns(UserWarning, match="a page is damaged"):
            assert cache.check(fix=True) == ["a page is damaged"]


def _add_up(cache: Cache, key: str, times: int) -> None:
    for _ in range(times):
        cache.incr(key)


class TestProcesses:
    def test_incr(self, cache: Cache) -> None:
        """Every increment of every process counts."""
        context = multiprocessing.get_context("spawn")
        workers = [context.Process(target=_add_up, args=(cache, "n", 100)) for _ in range(2)]
        for worker in workers:
            worker.start()
        _add_up(cache, "n", 100)
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0]
        assert cache["n"] == 300

    def test_pop(self, cache: Cache) -> None:
        """Of threads that pop one key, one gets the value."""
        won: list[int] = []
        for turn in range(50):
            cache["token"] = turn
            together = threading.Barrier(3)

            def take() -> None:
                together.wait()  # noqa: B023  # joined below
                value = cache.pop("token", ENOVAL)
                if value is not ENOVAL:
                    won.append(value)

            threads = [threading.Thread(target=take) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert won == list(range(50))


SOME_KEYS = st.sampled_from(["a", "b", "c", 1, (1, "x")])


class Model(RuleBasedStateMachine):
    """The cache against a dict, whose order is that of the last writes."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = Cache(size_limit=2**24)
        self.model: dict[Any, Any] = {}

    def teardown(self) -> None:
        self.cache.close()
        shutil.rmtree(self.cache.directory)

    def _write(self, key: Any, value: Any) -> None:
        self.model.pop(key, None)
        self.model[key] = value

    @rule(key=SOME_KEYS, value=st.integers() | st.text(max_size=5))
    def set(self, key: Any, value: Any) -> None:
        self.cache[key] = value
        self._write(key, value)

    @rule(key=SOME_KEYS, value=st.integers())
    def add(self, key: Any, value: int) -> None:
        assert self.cache.add(key, value) is (key not in self.model)
        self.model.setdefault(key, value)

    @rule(key=SOME_KEYS)
    def pop(self, key: Any) -> None:
        assert self.cache.pop(key, ENOVAL) == self.model.pop(key, ENOVAL)

    @rule(key=SOME_KEYS)
    def delete(self, key: Any) -> None:
        assert self.cache.delete(key) is (self.model.pop(key, ENOVAL) is not ENOVAL)

    @rule(key=SOME_KEYS, delta=st.integers(-5, 5))
    def incr(self, key: Any, delta: int) -> None:
        if isinstance(self.model.get(key, 0), int):
            total = self.model.get(key, 0) + delta
            assert self.cache.incr(key, delta) == total
            self._write(key, total)

    @rule(last=st.booleans())
    def peekitem(self, last: bool) -> None:
        if self.model:
            key = list(self.model)[-1 if last else 0]
            assert self.cache.peekitem(last) == (key, self.model[key])

    @invariant()
    def same(self) -> None:
        assert list(self.cache) == list(self.model)
        assert self.cache.get_many(self.model) == self.model
        assert len(self.cache) == len(self.model)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)


@given(st.one_of(st.text(), st.integers(), st.floats(allow_nan=False), st.binary()))
def test_tags_come_back(tag: Any) -> None:
    """Any tag of diskcache's types is told from any other."""
    from hybridcore.compat.diskcache.core import original_tag, stored_tag

    assert original_tag(stored_tag(tag)) == tag
