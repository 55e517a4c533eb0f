"""Callbacks that raise, re-enter or mutate the cache, at every operation (Fault 17)."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from hybridcore import Cache
from tests.model import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class BoomError(Exception):
    """What a hostile callback raises."""


class Trap:
    """Does something at the n-th call of a callback, once."""

    def __init__(self) -> None:
        self.wait = 0
        self.action: Callable[[], object] | None = None

    def arm(self, action: Callable[[], object], nth: int) -> None:
        self.action, self.wait = action, nth

    def spring(self) -> None:
        self.wait -= 1
        if self.wait == 0 and self.action is not None:
            action, self.action = self.action, None
            action()


class Key:
    """A key that calls back when it is hashed or compared; all of them have the same hash."""

    def __init__(self, name: str, on_hash: Callable[[], None], on_eq: Callable[[], None]) -> None:
        self.name, self.on_hash, self.on_eq = name, on_hash, on_eq

    def __hash__(self) -> int:
        self.on_hash()
        return 5

    def __eq__(self, other: object) -> bool:
        self.on_eq()
        return isinstance(other, Key) and self.name == other.name


class Value:
    """A value that calls back when it is let go."""

    def __init__(self, on_del: Callable[[], None]) -> None:
        self.on_del = on_del

    def __del__(self) -> None:
        self.on_del()


PLACES = ["hash", "eq", "getsizeof", "timer", "on_evict", "del"]


class Scene:
    """A full cache of which one kind of callback is trapped."""

    def __init__(self, place: str) -> None:
        self.trap = Trap()
        self.callbacks: dict[str, Callable[[], None]] = dict.fromkeys(PLACES, lambda: None)
        self.callbacks[place] = self.trap.spring
        self.clock = ManualClock(100)
        self.cache: Cache[Any, Any] = Cache(
            12, self.getsizeof, ttl=50, timer=self.timer, on_evict=self.on_evict
        )
        for name in "abcdef":
            self.cache[self.key(name)] = self.value()
        self.cache.put(self.key("short"), self.value(), ttl=5)
        assert self.cache.currsize == 7

    def key(self, name: str) -> Key:
        return Key(name, self.callbacks["hash"], self.callbacks["eq"])

    def value(self) -> Value:
        return Value(self.callbacks["del"])

    def getsizeof(self, value: object) -> int:
        self.callbacks["getsizeof"]()
        return 1

    def timer(self) -> float:
        self.callbacks["timer"]()
        return self.clock()

    def on_evict(self, *removal: Any) -> None:
        self.callbacks["on_evict"]()

    def state(self) -> tuple[Any, ...]:
        cache = self.cache
        return [key.name for key in cache.coldest(99)], cache.currsize, cache.counters()[2:]


OPERATIONS: dict[str, Callable[[Scene], object]] = {
    "get": lambda scene: scene.cache.get(scene.key("c")),
    "get a miss": lambda scene: scene.cache.get(scene.key("x")),
    "[]": lambda scene: scene.cache[scene.key("c")],
    "in": lambda scene: scene.key("c") in scene.cache,
    "peek": lambda scene: scene.cache.peek(scene.key("c")),
    "ttl_left": lambda scene: scene.cache.ttl_left(scene.key("c")),
    "insert": lambda scene: scene.cache.__setitem__(scene.key("x"), scene.value()),
    "replace": lambda scene: scene.cache.__setitem__(scene.key("c"), scene.value()),
    "put": lambda scene: scene.cache.put(scene.key("x"), scene.value(), ttl=9, cost=2),
    "put and evict": lambda scene: scene.cache.put(scene.key("x"), scene.value(), size=9),
    "setdefault": lambda scene: scene.cache.setdefault(scene.key("x"), scene.value()),
    "pop": lambda scene: scene.cache.pop(scene.key("c")),
    "del": lambda scene: scene.cache.__delitem__(scene.key("c")),
    "discard": lambda scene: scene.cache.discard(scene.key("c")),
    "popitem": lambda scene: scene.cache.popitem(),
    "touch": lambda scene: scene.cache.touch(scene.key("c")),
    "touch with a ttl": lambda scene: scene.cache.touch(scene.key("c"), 7),
    "expire": lambda scene: scene.cache.expire(),
    "len": lambda scene: len(scene.cache),
    "iterate": lambda scene: list(scene.cache.items()),
    "look into values": lambda scene: None in scene.cache.values(),
    "coldest": lambda scene: scene.cache.coldest(3),
    "hottest": lambda scene: scene.cache.hottest(3),
    "copy": lambda scene: copy.copy(scene.cache),
    "resize": lambda scene: scene.cache.resize(3),
    "clear": lambda scene: scene.cache.clear(),
    "init": lambda scene: scene.cache.__init__(5),  # type: ignore[misc]
    "get_many": lambda scene: scene.cache.get_many([scene.key("c"), scene.key("x")]),
    "stats": lambda scene: scene.cache.stats(),
}

ACTIONS: dict[str, Callable[[Scene], object]] = {
    "clear": lambda scene: scene.cache.clear(),
    "empty": lambda scene: [scene.cache.popitem() for _ in range(len(scene.cache))],
    "remove": lambda scene: scene.cache.pop(scene.key("c"), None),
    "insert": lambda scene: scene.cache.put(scene.key("x"), 1, ttl=3),
    "grow": lambda scene: [scene.cache.put(i, i, size=0) for i in range(200)],
    "resize to 0": lambda scene: scene.cache.resize(0),
    "init": lambda scene: scene.cache.__init__(5),  # type: ignore[misc]
    "expire": lambda scene: scene.clock.advance(5) or scene.cache.expire(),
    "step back": lambda scene: scene.clock.advance(-500),
    "collect": lambda scene: gc.collect(0),
    "read": lambda scene: (scene.cache.get(scene.key("c")), list(scene.cache), scene.cache.stats()),
}


@pytest.fixture
def ignored(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What went to sys.unraisablehook."""
    caught: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda it: caught.append((it.exc_type, it.object)))
    yield caught
    caught.clear()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_exception_changes_nothing(operation: str, place: str, ignored: list[Any]) -> None:
    """Fault 17: what a callback raises reaches the caller, with the cache as it was before.

    What listeners and finalizers raise reaches nobody but sys.unraisablehook, and the operation
    is done.
    """

    def boom() -> None:
        raise BoomError

    nth = 0
    sprung = True
    while sprung:
        nth += 1
        scene = Scene(place)
        before = scene.state()
        scene.trap.arm(boom, nth)
        try:
            OPERATIONS[operation](scene)
            raised = False
        except BoomError:
            raised = True
        sprung = scene.trap.action is None
        scene.trap.action = None
        scene.cache.check()
        if place in ("on_evict", "del"):
            assert not raised
            assert sprung == bool(ignored)
            assert all(kind is BoomError for kind, _ in ignored)
            ignored.clear()
        else:
            assert raised == sprung
        if raised and operation != "get_many":  # its first lookup had moved an entry
            assert scene.state() == before


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("action", ACTIONS)
def test_reentering_is_survived(action: str, place: str) -> None:
    """Fault 17: a callback may do anything to the cache, in the middle of any operation."""
    sprung = 0
    for operation in OPERATIONS.values():
        for wait in (0, 6):  # with nothing expired, and with an entry that has
            for nth in range(1, 6):
                scene = Scene(place)
                scene.clock.advance(wait)
                scene.trap.arm(partial(ACTIONS[action], scene), nth)
                with suppress(KeyError, RuntimeError, ValueError):
                    operation(scene)
                scene.cache.check()
                if scene.trap.action is not None:
                    break
                sprung += 1
                scene.cache.clear()
                assert scene.cache.currsize == 0
    assert sprung > 3


def test_an_eq_that_changes_the_cache_every_time(make: Any) -> None:
    """A comparison that never leaves the cache alone ends in a clear error, not in a hang."""
    cache = make(None)

    def change() -> None:
        cache[object()] = 0

    cache[Key("a", int, change)] = 1
    with pytest.raises(RuntimeError, match="__eq__ of a key must not change the cache"):
        cache.get(Key("b", int, change))


@pytest.mark.usefixtures("uncollected")
def test_an_eq_that_finds_its_own_cache(make: Any) -> None:
    """Comparing recursively ends in RecursionError, and the cache is as before."""
    cache = make(None)
    key = Key("a", int, lambda: cache.get(Key("b", int, key.on_eq)))
    cache[key] = 1
    with pytest.raises(RecursionError):
        cache.get(Key("c", int, key.on_eq))
    assert list(cache.values()) == [1]


@pytest.mark.usefixtures("uncollected")
def test_a_listener_that_fills_the_cache_it_is_told_about(make: Any) -> None:
    """A listener that evicts on every eviction ends at Python's recursion limit, unharmed."""
    cache = make(2, on_evict=lambda key, value, cause: cache.__setitem__(object(), value))
    cache.update(a=1, b=2)
    cache["c"] = 3
    assert len(cache) == 2
    assert cache.stats().evicted > 10


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, BoomError, GeneratorExit])
def test_whatever_a_listener_raises_is_ignored(
    error: type[BaseException], make: Any, ignored: list[Any], capfd: Any
) -> None:
    """The exception goes to sys.unraisablehook with the listener, and nothing is printed."""

    def listener(*removal: Any) -> None:
        raise error

    cache = make(1, on_evict=listener)
    cache["a"] = 1
    cache["b"] = 2
    assert ignored == [(error, listener)]
    assert capfd.readouterr() == ("", "")
    assert not hasattr(sys, "last_value") or not isinstance(sys.last_value, error)


def test_a_value_whose_del_stores_itself_again(make: Any) -> None:
    """An entry may come back from its finalizer; it is an entry like others."""
    cache = make(1)

    class Phoenix:
        def __del__(self) -> None:
            if rises.pop():
                cache["phoenix"] = self

    rises = [False, True]
    cache["phoenix"] = Phoenix()
    del cache["phoenix"]
    assert "phoenix" in cache
    cache["other"] = 1
    assert dict(cache) == {"other": 1}


def test_a_repr_that_changes_the_cache(make: Any) -> None:
    """repr() of a cache shows what it held, although showing an entry adds another."""
    cache = make(9)

    class Shy:
        def __repr__(self) -> str:
            cache[len(cache)] = 1
            return "shy"

    cache["a"] = Shy()
    cache["b"] = Shy()
    assert "'a': shy" in repr(cache)
    assert len(cache) == 4


def test_pickling_a_cache_that_changes_meanwhile(make: Any) -> None:
    """The entries are taken at once, so a value that changes the cache while pickled is no harm."""
    cache = make(9)

    class Busy:
        def __reduce__(self) -> tuple[Any, ...]:
            cache[len(cache)] = 1
            return dict, ()

    cache["a"] = Busy()
    cache["b"] = 2
    assert dict(pickle.loads(pickle.dumps(cache))) == {"a": {}, "b": 2}
    assert len(cache) == 3
