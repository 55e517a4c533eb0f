"""`hybridcore.compat.cachetools`: the rules of each cache, and what subclasses rely on."""

from __future__ import annotations

import copy
import gc
import json
import math
import pickle
import random
import threading
import weakref
from collections.abc import MutableMapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from hybridcore.compat import cachetools
from tests.model import ManualClock

PLAIN = [
    cachetools.Cache,
    cachetools.FIFOCache,
    cachetools.LFUCache,
    cachetools.LRUCache,
    cachetools.RRCache,
]


def forever(key: Any, value: Any, now: Any) -> float:
    return math.inf


def make_timed(kind: Any, size: float, **options: Any) -> Any:
    timer = ManualClock()
    if kind is cachetools.TTLCache:
        return kind(size, 10, timer, **options)
    return kind(size, lambda key, value, now: now + 10, timer, **options)


TIMED = [cachetools.TTLCache, cachetools.TLRUCache]


def victims(cache: Any) -> list[Any]:
    """The keys in the order in which they are evicted."""
    return [cache.popitem()[0] for _ in range(len(cache))]


@pytest.mark.parametrize("kind", PLAIN)
def test_what_every_cache_is(kind: Any, checked: list[Any]) -> None:
    """A cache is a mapping bounded by the number of its entries, iterated in their order."""
    cache = kind(maxsize=3)
    checked.append(cache)
    assert isinstance(cache, MutableMapping)
    cache.update(a=1, b=2, c=3)
    assert list(cache) == ["a", "b", "c"]
    cache["a"] = 4
    assert list(cache.items()) == [("a", 4), ("b", 2), ("c", 3)]
    cache["d"] = 5
    assert (len(cache), cache.currsize, cache.maxsize) == (3, 3, 3)
    assert json.loads(json.dumps(dict(cache))) == dict(cache)
    assert repr(cache) == f"{kind.__name__}({dict(cache)!r}, maxsize=3, currsize=3)"


@pytest.mark.parametrize(
    ("kind", "order"),
    [
        (cachetools.Cache, ["a", "b", "c"]),
        (cachetools.FIFOCache, ["b", "c", "a"]),
        (cachetools.LRUCache, ["c", "a", "b"]),
        (cachetools.LFUCache, ["c", "a", "b"]),
    ],
)
def test_the_order_of_eviction(kind: Any, order: list[str], checked: list[Any]) -> None:
    """Setting again renews in FIFO, and reading, too, in LRU and LFU."""
    cache = kind(3)
    checked.append(cache)
    cache.update(a=1, b=2, c=3)
    cache["a"] = 1
    cache["b"], cache.get("b")
    assert "c" in cache
    assert list(cache) == ["a", "b", "c"]
    assert victims(cache) == order
    with pytest.raises(KeyError, match=f"{kind.__name__} is empty"):
        cache.popitem()


def test_lfu_does_not_age(checked: list[Any]) -> None:
    """An entry used a thousand times outlives a hundred that were used less often since."""
    cache: Any = cachetools.LFUCache(10)
    checked.append(cache)
    cache["old"] = 0
    for _ in range(1000):
        cache["old"]
    for i in range(100):
        cache[i] = i
        for _ in range(i):
            cache[i]
    assert "old" in cache
    assert victims(cache)[-1] == "old"


def test_lfu_against_a_model(checked: list[Any]) -> None:
    """The order of eviction is by uses, then by when that number was reached."""
    rng = random.Random(5)
    cache: Any = cachetools.LFUCache(50)
    checked.append(cache)
    model: dict[int, tuple[int, int]] = {}
    for now in range(5000):
        key = min(rng.randrange(100), rng.randrange(100))
        if rng.random() < 0.05:
            assert (cache.pop(key, None) is None) == (model.pop(key, None) is None)
        elif key in cache:
            cache[key] = now
            model[key] = model[key][0] + 1, now
        else:
            if len(model) == 50:
                del model[min(model, key=lambda k: model[k])]
            cache[key] = now
            model[key] = 1, now
        if now % 500 == 0:
            cache._native_check()
    assert victims(copy.copy(cache)) == sorted(model, key=lambda k: model[k])


def test_rr_chooses_from_a_sequence(checked: list[Any]) -> None:
    """``choice`` is given the keys as a sequence."""
    seen: list[Any] = []

    def choice(keys: Sequence[str]) -> str:
        seen.append((len(keys), list(keys), keys[-1], keys[1:], keys.index("b")))
        with pytest.raises(IndexError):
            keys[3]
        return keys[1]

    cache = cachetools.RRCache[str, int](3, choice)
    checked.append(cache)
    cache.update(a=1, b=2, c=3, d=4)
    assert seen == [(3, ["a", "b", "c"], "c", ["b", "c"], 1)]
    assert list(cache) == ["a", "c", "d"]
    assert cache.choice is choice


@pytest.mark.parametrize("kind", PLAIN)
def test_sizes_may_be_any_numbers(kind: Any, checked: list[Any]) -> None:
    """Sizes and the bound may be floats; a value that does not fit changes nothing."""
    cache = kind(2.5, getsizeof=lambda value: value)
    checked.append(cache)
    cache.update(a=1.25, b=1.0)
    assert cache.currsize == 2.25
    for wrong, message in ((3, "value too large"), (-1, "must be non-negative")):
        with pytest.raises(ValueError, match=message):
            cache["a"] = wrong
    assert dict(cache) == {"a": 1.25, "b": 1.0}
    with pytest.raises(ValueError, match="maxsize must be non-negative, got -1"):
        kind(-1)


@pytest.mark.parametrize("kind", PLAIN)
def test_getsizeof_of_a_subclass(kind: Any, checked: list[Any]) -> None:
    """A method of a subclass measures, unless a function is given."""

    class Sized(kind):  # type: ignore[misc]
        def getsizeof(self, value: str) -> int:
            return len(value)

    cache = Sized(5)
    checked.append(cache)
    cache["a"] = "xxx"
    assert cache.currsize == 3
    assert Sized(5, getsizeof=lambda value: 2).getsizeof("xxx") == 2
    assert kind.getsizeof("xxx") == 1


@pytest.mark.parametrize("kind", [*PLAIN, *TIMED])
def test_eviction_goes_through_the_methods_of_a_subclass(kind: Any, checked: list[Any]) -> None:
    """A subclass that overrides popitem and __delitem__ sees every eviction."""
    told: list[Any] = []

    class Telling(kind):  # type: ignore[misc]
        def popitem(self) -> Any:
            told.append("popitem")
            return super().popitem()

        def __delitem__(self, key: Any) -> None:
            told.append(key)
            super().__delitem__(key)

    cache = _make(Telling, kind, 2)
    checked.append(cache)
    cache.update(a=1, b=2)
    cache["c"] = 3
    assert told[0] == "popitem"
    assert set(cache) == {"a", "b", "c"} - {told[1]}


def _make(subclass: Any, kind: Any, size: int) -> Any:
    if kind is cachetools.TTLCache:
        return subclass(size, math.inf)
    if kind is cachetools.TLRUCache:
        return subclass(size, forever)
    return subclass(size)


@pytest.mark.parametrize("kind", [*PLAIN, *TIMED])
def test_get_goes_through_the_methods_of_a_subclass(kind: Any) -> None:
    """get, pop and setdefault call an overridden __getitem__ or __contains__."""

    class Doubling(kind):  # type: ignore[misc]
        def __getitem__(self, key: Any) -> Any:
            return 2 * super().__getitem__(key)

    class Hiding(kind):  # type: ignore[misc]
        def __contains__(self, key: Any) -> bool:
            return key != "secret" and super().__contains__(key)

    doubling, hiding = _make(Doubling, kind, 2), _make(Hiding, kind, 2)
    doubling["a"] = 1
    assert (doubling.get("a"), doubling.setdefault("a", 9), doubling.pop("a")) == (2, 2, 2)
    assert doubling.get("a", 5) == 5
    hiding["secret"] = 1
    assert hiding.get("secret") is None
    assert hiding.pop("secret", 7) == 7
    assert hiding["secret"] == 1


@pytest.mark.parametrize("kind", [*PLAIN, *TIMED])
def test_missing(kind: Any, checked: list[Any]) -> None:
    """Only ``cache[key]`` calls __missing__, which may store what it returns."""

    class Loading(kind):  # type: ignore[misc]
        def __missing__(self, key: Any) -> Any:
            self[key] = key.upper()
            return self[key]

    cache = _make(Loading, kind, 2)
    checked.append(cache)
    assert cache.get("a") is None
    assert "a" not in cache
    assert cache["a"] == "A" == cache.get("a")


@pytest.mark.parametrize("kind", [*PLAIN, *TIMED])
@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        *(lambda c, p=p: pickle.loads(pickle.dumps(c, p)) for p in range(6)),
    ],
)
def test_copies(kind: Any, copied: Any, checked: list[Any]) -> None:
    """A copy has the entries, the bound, the order and the fields, and goes its own way."""
    cache = _make(kind, kind, 3)
    cache.update(a=1, b=2, c=3)
    cache["a"]
    cache.note = ["mine"]
    twin = copied(cache)
    checked += [cache, twin]
    assert type(twin) is kind
    assert twin == cache
    assert list(twin) == list(cache)
    assert (twin.maxsize, twin.note) == (3, ["mine"])
    del twin["b"]
    assert dict(cache) == {"a": 1, "b": 2, "c": 3}
    if kind is not cachetools.RRCache:
        assert victims(twin) == [key for key in victims(cache) if key != "b"]


def test_a_cache_in_a_cycle_is_collected() -> None:
    """The garbage collector sees through a cache that holds itself."""
    for kind in PLAIN:
        cache: Any = kind(2)
        cache["me"] = cache
        assert repr(cache) == f"{kind.__name__}({{'me': ...}}, maxsize=2, currsize=1)"
        gone = weakref.ref(cache)
        del cache
        gc.collect()
        assert gone() is None


def test_hits_run_no_python() -> None:
    """``get``, ``[]`` and ``in`` are methods in C, unless a subclass has its own."""
    for kind in (*PLAIN, *TIMED):
        for name in ("get", "__getitem__", "__contains__"):
            assert not hasattr(getattr(kind, name), "__code__"), (kind, name)


def test_keys_that_change_the_cache(checked: list[Any]) -> None:
    """A key whose comparison empties the cache leaves it consistent."""
    cache: Any = cachetools.LRUCache(4)
    checked.append(cache)

    class Emptying:
        def __init__(self) -> None:
            self.armed = False

        def __hash__(self) -> int:
            return 7

        def __eq__(self, other: object) -> bool:
            if self.armed:
                self.armed = False
                cache.clear()
            return self is other

    keys = [Emptying() for _ in range(3)]
    for key in keys:
        cache[key] = 1
    keys[0].armed = keys[1].armed = True
    assert cache.get(keys[2]) is None
    cache[keys[0]] = 2
    assert list(cache.values()) == [2]


@pytest.mark.parametrize("kind", TIMED)
def test_expiry(kind: Any, checked: list[Any]) -> None:
    """An expired entry is out of sight at once, and leaves with the next len or write."""
    cache = make_timed(kind, 3)
    checked.append(cache)
    cache["a"] = 1
    cache.timer.advance(5)
    cache["b"] = 2
    cache.timer.advance(5)
    assert "a" not in cache
    assert cache.get("a") is None
    assert [key for key in cache] == ["b"]  # noqa: C416  # list() asks for the len
    with pytest.raises(KeyError):
        cache["a"]
    assert cache.expire() == [("a", 1)]
    assert cache.expire(cache.timer() + 5) == [("b", 2)]
    assert (len(cache), cache.currsize) == (0, 0)
    cache["c"] = 3
    cache.timer.advance(10)
    with pytest.raises(KeyError):
        del cache["c"]
    assert len(cache) == 0


@pytest.mark.parametrize("kind", TIMED)
def test_the_timer_nests(kind: Any) -> None:
    """Inside ``with cache.timer`` time stands still, and nothing expires."""
    cache = make_timed(kind, 3)
    cache["a"] = 1
    with cache.timer as outer:
        cache.timer.advance(10)
        with cache.timer as inner:
            assert outer == inner == cache.timer() == 0
            assert cache["a"] == 1
    assert cache.timer() == 10
    assert "a" not in cache


@pytest.mark.parametrize("kind", TIMED)
def test_a_timed_cache_may_change_while_it_is_iterated(kind: Any, checked: list[Any]) -> None:
    """Entries may be removed during an iteration; they do not turn up in it any more."""
    cache = make_timed(kind, 3)
    checked.append(cache)
    cache.update(a=1, b=2, c=3)
    seen = []
    for key in cache:
        seen.append(key)
        cache.pop("b", None)
        del cache[key]
    assert seen == ["a", "c"]


def test_a_plain_cache_may_not() -> None:
    """As in a dict, adding or removing during an iteration raises RuntimeError."""
    cache = cachetools.LRUCache[str, int](3)
    cache.update(a=1, b=2)
    keys = iter(cache)
    next(keys)
    del cache["b"]
    with pytest.raises(RuntimeError, match="changed size during iteration"):
        next(keys)


def test_times_of_any_kind() -> None:
    """A timer may return whatever compares, such as a datetime."""
    now = datetime(2020, 1, 1)
    cache: Any = cachetools.TTLCache(2, timedelta(days=1), lambda: now)
    cache["a"] = 1
    assert cache["a"] == 1
    now += timedelta(days=1)
    assert "a" not in cache
    assert cache.ttl == timedelta(days=1)


def test_a_timer_that_raises_changes_nothing(checked: list[Any]) -> None:
    """The error of a timer or of ttu comes through, and the entries stay."""

    class Broken(Exception):
        pass

    def broken(*arguments: Any) -> Any:
        raise Broken

    clock = ManualClock()
    cache: Any = cachetools.TLRUCache(2, forever, lambda: broken() if clock.now else 0.0)
    checked.append(cache)
    cache["a"] = 1
    clock.advance(1)
    for attempt in (
        lambda: cache["a"],
        lambda: cache.get("a"),
        lambda: cache.__setitem__("b", 2),
        lambda: len(cache),
    ):
        with pytest.raises(Broken):
            attempt()
    clock.now = 0
    assert dict(cache) == {"a": 1}


def test_tlru_keeps_nothing_that_is_over(checked: list[Any]) -> None:
    """Setting a value whose time is over removes the one that was there."""
    cache: Any = cachetools.TLRUCache(3, lambda key, value, now: now + value, ManualClock())
    checked.append(cache)
    cache["a"] = 3
    cache["a"] = 0
    assert dict(cache) == {}
    for _ in range(100):
        cache["b"] = 2
    assert len(cache) == 1
    assert cache.ttu("b", 2, 5) == 7


def test_clear_and_init_again(checked: list[Any]) -> None:
    """clear() starts anew, and so does a second __init__, with other options."""
    for kind in PLAIN:
        cache: Any = kind(2)
        checked.append(cache)
        cache.update(a=1, b=2)
        cache.clear()
        assert dict(cache) == {}
        cache["c"] = 3
        kind.__init__(cache, 1)
        cache.update(d=4, e=5)
        assert list(cache) == ["e"]


@pytest.mark.parametrize("kind", [*PLAIN, *TIMED])
def test_threads_with_a_lock(kind: Any, checked: list[Any]) -> None:
    """Threads that take a lock, as the originals want it, leave a cache consistent."""
    cache, lock = _make(kind, kind, 50), threading.Lock()
    checked.append(cache)
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        try:
            for i in range(2000):
                key = rng.randrange(100)
                with lock:
                    if rng.random() < 0.5:
                        assert cache.get(key, key) == key
                    elif i % 3:
                        cache[key] = key
                    else:
                        cache.pop(key, None)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(cache) <= 50
