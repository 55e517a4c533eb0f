"""The garbage collector: nothing leaks, cycles through a cache are found, and chains unwind."""

from __future__ import annotations

import gc
import sys
import weakref
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from hybridcore import Cache, Weights
from tests.model import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Thing:
    """Something that can be watched."""


@pytest.fixture(autouse=True)
def by_hand() -> Iterator[None]:
    """The collector runs when a test says so."""
    gc.collect()
    gc.freeze()  # what was there before is none of our business, and takes time
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


def through_a_value(cache: Any, thing: Any) -> None:
    cache["self"] = cache


def through_a_key(cache: Any, thing: Any) -> None:
    thing.cache = cache
    cache[thing] = 1


def through_another_cache(cache: Any, thing: Any) -> None:
    other: Cache[Any, Any] = Cache(3)
    cache["other"], other["back"] = other, cache


def through_a_listener(cache: Any, thing: Any) -> None:
    cache.__init__(3, on_evict=lambda *removal: cache)


def through_a_timer(cache: Any, thing: Any) -> None:
    cache.__init__(3, timer=lambda: len(cache))


def through_a_sizer(cache: Any, thing: Any) -> None:
    cache.__init__(3, getsizeof=lambda value: len(cache))


def through_a_note(cache: Any, thing: Any) -> None:
    cache.hold("key", 1, cache, 10, 10)


def through_an_iterator(cache: Any, thing: Any) -> None:
    thing.iterator = iter(cache)
    cache["thing"] = thing
    thing.items = iter(cache.items())


def through_an_attribute(cache: Any, thing: Any) -> None:
    cache.me = cache


class WithAttributes(Cache[Any, Any]):
    """A subclass that has a __dict__."""


@pytest.mark.parametrize("kind", [Cache, WithAttributes])
@pytest.mark.parametrize(
    "tie",
    [
        through_a_value,
        through_a_key,
        through_another_cache,
        through_a_listener,
        through_a_timer,
        through_a_sizer,
        through_a_note,
        through_an_iterator,
        through_an_attribute,
    ],
)
def test_cycles_are_collected(kind: type[Cache[Any, Any]], tie: Callable[..., None]) -> None:
    """A cache that is reached only by itself is freed with all it holds, however it is reached."""
    if tie is through_an_attribute and kind is Cache:
        pytest.skip("a plain Cache has no attributes")
    cache, thing = kind(3), Thing()
    cache["thing"] = thing
    tie(cache, thing)
    watch, watch_thing = weakref.ref(cache), weakref.ref(thing)
    del cache, thing
    assert watch() is not None
    gc.collect()
    assert watch() is None
    assert watch_thing() is None


class Sizing(Cache[Any, Any]):
    def getsizeof(self, value: Any) -> int:
        return 1


@pytest.mark.parametrize("kind", [Cache, Sizing, WithAttributes])
def test_a_dropped_cache_is_freed_at_once(kind: type[Cache[Any, Any]]) -> None:
    """Without a cycle nobody waits for the collector, even where a subclass has a getsizeof."""
    cache = kind(9, ttl=5)
    cache["thing"] = thing = Thing()
    watch, watch_thing = weakref.ref(cache), weakref.ref(thing)
    del cache, thing
    assert watch() is None
    assert watch_thing() is None


def test_everything_is_reported_to_the_collector() -> None:
    """gc.get_referents() names keys, values, notes and callbacks."""
    key, value, note, clock = Thing(), Thing(), Thing(), ManualClock()
    parts = [key, value, note, clock, print, len]
    cache: Cache[Any, Any] = Cache(9, len, timer=clock, on_evict=print)
    cache.put(key, value, size=1)
    cache.put("held", 1, size=1)
    cache.__init__(9, None, timer=clock, on_evict=print)  # type: ignore[misc]
    cache[key] = value
    cache.hold("held", 1, note, 5, 5)
    referents = gc.get_referents(cache)
    assert all(any(part is found for found in referents) for part in parts if part is not len)


OPERATIONS: list[Callable[[Any, Any, Any], object]] = [
    lambda cache, key, value: cache.__setitem__(key, value),
    lambda cache, key, value: cache.put(key, value, ttl=1, size=1, cost=2, importance=2),
    lambda cache, key, value: cache.setdefault(key, value),
    lambda cache, key, value: cache.hold(key, value, value, 1, 1),
    lambda cache, key, value: cache.held(key),
    lambda cache, key, value: cache.get(key),
    lambda cache, key, value: cache.get(key, value),
    lambda cache, key, value: cache.get_many([key, key]),
    lambda cache, key, value: cache.peek(key, value),
    lambda cache, key, value: key in cache,
    lambda cache, key, value: cache.touch(key, 5),
    lambda cache, key, value: cache.ttl_left(key) if key in cache else None,
    lambda cache, key, value: list(cache.items()),
    lambda cache, key, value: (list(cache), list(cache.values())),
    lambda cache, key, value: (cache.coldest(9), cache.hottest(9)),
    lambda cache, key, value: next(iter(cache.items()), None),
    lambda cache, key, value: cache.entries(),
    lambda cache, key, value: cache.copy(),
    lambda cache, key, value: cache.resize(9),
    lambda cache, key, value: repr(cache),
    lambda cache, key, value: value in cache.values(),
    lambda cache, key, value: (key, value) in cache.items(),
]
REMOVALS: list[Callable[[Any, Any], object]] = [
    lambda cache, key: cache.pop(key),
    lambda cache, key: cache.__delitem__(key),
    lambda cache, key: cache.discard(key),
    lambda cache, key: cache.popitem(),
    lambda cache, key: cache.clear(),
    lambda cache, key: cache.resize(0),
    lambda cache, key: cache.__init__(3),
    lambda cache, key: cache.update((i, i) for i in range(100)),
    lambda cache, key: (cache.touch(key, 0), cache.expire()),
    lambda cache, key: (cache.touch(key, 0), cache.__setitem__(key, 1), cache.clear()),
    lambda cache, key: cache.put("large", 0, size=9),
]


@pytest.mark.parametrize("listening", [False, True])
@pytest.mark.parametrize("remove", REMOVALS)
def test_references_are_counted_right(remove: Any, listening: bool) -> None:
    """After every operation and every way to leave, key and value have the references they had."""
    key, value = Thing(), Thing()
    before = sys.getrefcount(key), sys.getrefcount(value)
    cache: Cache[Any, Any] = Cache(
        20,
        timer=ManualClock(5),
        on_evict=(lambda *removal: None) if listening else None,
        weights=Weights.lru(),  # so that the last removal takes it
    )
    for operation in OPERATIONS:
        for _ in range(3):
            operation(cache, key, value)
        cache.check()
    assert sys.getrefcount(key) > before[0]
    remove(cache, key)
    assert (sys.getrefcount(key), sys.getrefcount(value)) == before
    cache.check()


def test_errors_leak_nothing() -> None:
    """Operations that fail, of which there are many, keep no reference to what they were given."""
    key, value = Thing(), Thing()
    cache: Cache[Any, Any] = Cache(3, getsizeof=lambda value: 1 / 0)
    sized: Cache[Any, Any] = Cache(3, getsizeof=lambda value: 9)
    failing: list[Callable[[], object]] = [
        lambda: cache.__setitem__(key, value),
        lambda: cache.setdefault(key, value),
        lambda: sized.__setitem__(key, value),
        lambda: cache.put(key, value, size=4),
        lambda: cache.put(key, value, size="4"),
        lambda: cache.put(key, value, ttl="x"),
        lambda: cache.put(key, value, cost=-1),
        lambda: cache[key],
        lambda: cache.pop(key),
        lambda: cache.ttl_left(key),
        lambda: cache.__delitem__(key),
        lambda: cache.get(key, value, 3),
        lambda: cache.get_many([key, []]),
    ]
    before = sys.getrefcount(key), sys.getrefcount(value)
    for _ in range(10):
        for operation in failing:
            with pytest.raises((TypeError, ValueError, LookupError, ZeroDivisionError)):
                operation()
    gc.collect()
    assert (sys.getrefcount(key), sys.getrefcount(value)) == before


@pytest.mark.parametrize("size", [1, 8, 9, 1000])
def test_collecting_in_a_listener(size: int) -> None:
    """Fault 20: gc.collect() inside a listener meets entries that have left and not been let go."""
    heard = []

    def listener(key: Any, value: Any, cause: Any) -> None:
        heard.append((key, value[0]))
        if len(heard) % 100 == 1:
            gc.collect()

    cache: Cache[int, Any] = Cache(size, on_evict=listener)
    for i in range(size):
        cache[i] = [i, cache]
    cache.resize(0)
    assert sorted(heard) == [(i, i) for i in range(size)]
    cache.check()


class Finalizer:
    """Garbage in a cycle: when it is collected it calls back."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.me, self.callback = self, callback

    def __del__(self) -> None:
        self.callback()


@pytest.mark.parametrize(
    "operation",
    [
        lambda cache, it: cache.popitem(),
        lambda cache, it: next(it, None),
        lambda cache, it: cache.held(3),
        lambda cache, it: cache.entries(),
        lambda cache, it: cache.coldest(5),
        lambda cache, it: cache.get_many(range(9)),
        lambda cache, it: cache.pop(3, None),
        lambda cache, it: cache.copy(),
        lambda cache, it: cache.stats(),
    ],
)
@pytest.mark.parametrize("change", [lambda cache: cache.clear(), lambda cache: cache.pop(0, None)])
def test_the_collector_strikes_anywhere(operation: Any, change: Any) -> None:
    """Up to Python 3.11 any allocation may run finalizers, and those may change the cache."""
    holding = [(i, i) for i in range(3000)]  # keeps the interpreter's spare tuples busy
    thresholds = gc.get_threshold()
    for allocations in range(30):
        cache: Cache[int, Any] = Cache(None)
        for i in range(20):
            cache.put(i, [i], ttl=100)
        iterator = iter(cache.items())
        Finalizer(partial(change, cache))
        gc.set_threshold(allocations + 1)
        gc.enable()
        with suppress(KeyError, RuntimeError):
            operation(cache, iterator)
        gc.disable()
        gc.set_threshold(*thresholds)
        gc.collect()
        cache.check()
    assert len(holding) == 3000


@pytest.mark.parametrize("kind", [Cache, WithAttributes])
def test_a_long_chain_of_caches_is_freed(kind: type[Cache[Any, Any]]) -> None:
    """Caches in caches, 200,000 deep, are let go without overflowing the stack."""
    for let_go in (lambda cache: None, lambda cache: cache.clear()):
        innermost = Thing()
        watch = weakref.ref(innermost)
        chain: Any = innermost
        del innermost
        for _ in range(200_000):
            outer = kind(1)
            outer["inner"] = chain
            chain = outer
        let_go(outer)
        del chain, outer
        assert watch() is None


def test_a_cache_is_weakly_referable() -> None:
    """A weak reference dies with its cache, before the entries are let go."""
    seen = []

    class Last:
        def __del__(self) -> None:
            seen.append(watch())

    cache: Cache[str, Any] = Cache(3)
    watch = weakref.ref(cache)
    cache["last"] = Last()
    del cache
    assert seen == [None]
