"""Any sequence of operations leaves the cache where the model is."""

from __future__ import annotations

import copy
import math
import pickle
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hybridcore import Cache, Weights
from hybridcore.errors import ValueTooLargeError
from hybridcore.types import EvictionCause
from tests.model import ManualClock, Model
from tests.orders import Grades, Recency, Told


class SameHash:
    """A key that only Python code can tell from others of its kind."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __hash__(self) -> int:
        return 3

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SameHash) and other.name == self.name

    def __repr__(self) -> str:
        return f"SameHash({self.name!r})"


YEAR = 31_556_952
KEYS = [
    0,
    1,
    True,
    1.0,
    -1,
    -2,
    3,
    2**70,
    "a",
    "\xe9",
    "\u65e5",
    "\U0001f600",
    b"a",
    None,
    (1, "a"),
]
KEYS += [SameHash("x"), SameHash("x"), SameHash("y"), frozenset({1}), 2.5]
TTLS = [0, 1, 2, 5, 60, 3600, YEAR, 50 * YEAR, math.inf]

keys = st.sampled_from(KEYS)
values = st.integers(0, 9)
ttls = st.none() | st.sampled_from(TTLS)
sizes = st.none() | st.integers(0, 12)
factors = st.sampled_from([0.0, 1e-20, 0.5, 1.0, 8.0, 1e30])
bounds = st.integers(0, 12) | st.sampled_from([20, math.inf])
orders = st.sampled_from(
    [
        None,
        Weights.lru(),
        Weights.lfu(),
        Weights(),
        Weights(recency=8, frequency=8),
        Weights(recency=0, frequency=0.3, size=2, cost=0.5, importance=0),
        Weights(recency=0, frequency=0, size=8),
    ]
)


CLOCK = ManualClock()


def now() -> float:
    """Pickled by name, so that a loaded cache lives in the same time."""
    return CLOCK()


def size_of(value: int) -> int:
    return value % 4


def react(cache: Any, action: tuple[Any, ...]) -> None:
    """What a listener does: raise, or any operation on the cache that it listens to."""
    name, *arguments = action
    if name == "raise":
        raise LookupError("a listener that fails")
    getattr(cache, name)(*arguments)


def approx(answer: Any) -> Any:
    """Equal to the nanosecond: a deadline of exactly 0 is kept as -1."""
    return pytest.approx(answer, rel=0, abs=2e-9) if isinstance(answer, (int, float)) else answer


def outcome(operation: Any, *arguments: Any, **options: Any) -> Any:
    try:
        return operation(*arguments, **options)
    except (KeyError, ValueTooLargeError) as error:
        return type(error)


class CacheMachine(RuleBasedStateMachine):
    """Does everything twice: to a cache and to the model of it."""

    @initialize(
        maxsize=bounds,
        sized=st.booleans(),
        ttl=st.sampled_from([math.inf, 3, 10 * YEAR]),
        weights=orders,
        low_water=st.sampled_from([1, 1, 0.5, 0]),
    )
    def start(
        self, maxsize: float, sized: bool, ttl: float, weights: Weights | None, low_water: float
    ) -> None:
        CLOCK.now = 0
        getsizeof = size_of if sized else None
        self.heard: Counter[Any] = Counter()
        self.expected: Counter[Any] = Counter()
        self.to_do: list[tuple[Any, ...]] = []  # what the next notifications do to the cache
        self.model_to_do: list[tuple[Any, ...]] = []
        self.failures = 0
        self.hook, sys.unraisablehook = sys.unraisablehook, self.unraisable
        self.cache: Cache[Any, Any] = Cache(
            maxsize,
            getsizeof,
            ttl=None if ttl == math.inf else ttl,
            timer=now,
            on_evict=self.hear,
            weights=weights,
            low_water=low_water,
        )
        order = Recency() if weights == Weights.lru() else Grades(weights) if weights else Told()
        self.model = Model(maxsize, getsizeof, ttl, now, self.expect, order, low_water)

    def teardown(self) -> None:
        sys.unraisablehook = self.hook

    # -- callbacks --------------------------------------------------------------------------

    def hear(self, key: Any, value: Any, cause: EvictionCause) -> None:
        self.heard[key, value, cause] += 1
        self.cache.check()
        if isinstance(self.model.order, Told) and cause is EvictionCause.SIZE:
            self.model.order.victims.append(key)
        if self.to_do:
            react(self.cache, self.to_do.pop())

    def expect(self, key: Any, value: Any, cause: EvictionCause) -> None:
        self.expected[key, value, cause] += 1
        if self.model_to_do:
            try:
                react(self.model, self.model_to_do.pop())
            except (LookupError, ValueTooLargeError):
                self.failures += 1

    def unraisable(self, unraisable: Any) -> None:
        assert isinstance(unraisable.exc_value, (LookupError, ValueTooLargeError))
        self.failures -= 1

    def both(self, name: str, *arguments: Any, **options: Any) -> Any:
        answer = outcome(getattr(self.cache, name), *arguments, **options)
        expected = outcome(getattr(self.model, name), *arguments, **options)
        assert answer == expected, f"{name}: {answer!r} instead of {expected!r}"
        return answer

    # -- time and callbacks -----------------------------------------------------------------

    @rule(seconds=st.sampled_from([0, 1, 2, 60, 3600, YEAR, 60 * YEAR]))
    def advance(self, seconds: float) -> None:
        if CLOCK() < 80 * YEAR:
            CLOCK.advance(seconds)

    @rule(seconds=st.sampled_from([1, 3, 3600, 20 * YEAR]))
    def step_back(self, seconds: float) -> None:
        if CLOCK() > -80 * YEAR:
            CLOCK.advance(-seconds)

    @precondition(lambda self: not isinstance(self.model.order, Told))
    @rule(
        action=st.one_of(
            st.just(("raise",)),
            st.just(("clear",)),
            st.just(("expire",)),
            st.just(("popitem",)),
            st.tuples(st.sampled_from(["get", "pop", "touch", "discard"]), keys),
            st.tuples(st.sampled_from(["put", "setdefault"]), keys, values),
            st.tuples(st.just("resize"), bounds),
            st.tuples(st.sampled_from(["evict", "evict_bytes"]), st.integers(0, 9)),
        )
    )
    def make_the_listener_react(self, action: tuple[Any, ...]) -> None:
        self.to_do.append(action)
        self.model_to_do.append(action)

    # -- operations -------------------------------------------------------------------------

    @rule(key=keys)
    def get(self, key: Any) -> None:
        self.both("get", key, "absent")

    @rule(key=keys)
    def look_up(self, key: Any) -> None:
        assert outcome(lambda: self.cache[key]) == outcome(self.model.look_up, key)

    @rule(wanted=st.lists(keys, max_size=4))
    def get_many(self, wanted: list[Any]) -> None:
        self.both("get_many", wanted)

    @rule(key=keys, value=values)
    def set(self, key: Any, value: int) -> None:
        assert outcome(self.cache.__setitem__, key, value) == outcome(self.model.put, key, value)

    @rule(key=keys, value=values, ttl=ttls, size=sizes, cost=factors, importance=factors)
    def put(self, key: Any, value: int, **options: Any) -> None:
        self.both("put", key, value, **options)

    @rule(several=st.permutations(KEYS), value=values)
    def fill(self, several: list[Any], value: int) -> None:
        for key in several[:12]:
            self.set(key, value)

    @rule(key=keys, value=values)
    def setdefault(self, key: Any, value: int) -> None:
        self.both("setdefault", key, value)

    @rule(key=keys)
    def pop(self, key: Any) -> None:
        self.both("pop", key)

    @rule(key=keys)
    def delete(self, key: Any) -> None:
        answer, expected = outcome(self.cache.__delitem__, key), outcome(self.model.pop, key)
        assert (answer is KeyError) == (expected is KeyError)

    @rule(key=keys)
    def discard(self, key: Any) -> None:
        self.both("discard", key)

    @rule()
    def popitem(self) -> None:
        popped = outcome(self.cache.popitem)
        if isinstance(self.model.order, Told) and popped is not KeyError:
            self.model.order.victims.append(popped[0])
        assert popped == outcome(self.model.popitem)

    @rule(key=keys, ttl=ttls)
    def touch(self, key: Any, ttl: float | None) -> None:
        self.both("touch", key, ttl)

    @rule(maxsize=bounds)
    def resize(self, maxsize: float) -> None:
        self.both("resize", maxsize)
        assert self.cache.maxsize == self.model.maxsize  # the listener may have resized it too

    @rule(n=st.integers(0, 9))
    def evict(self, n: int) -> None:
        self.both("evict", n)

    @rule(size=st.integers(0, 12))
    def evict_bytes(self, size: int) -> None:
        self.both("evict_bytes", size)

    @rule()
    def expire(self) -> None:
        self.both("expire")

    @rule()
    def clear(self) -> None:
        self.both("clear")

    # -- looking ----------------------------------------------------------------------------

    @rule(n=st.integers(-1, 20))
    def order(self, n: int) -> None:
        if isinstance(self.model.order, Told):
            everything = self.cache.coldest(99)
            assert Counter(everything) == Counter(self.model.coldest(99))
            assert self.cache.coldest(n) == everything[: max(n, 0)]
            assert self.cache.hottest(n) == everything[::-1][: max(n, 0)]
        else:
            self.both("coldest", max(n, 0))
            self.both("hottest", max(n, 0))

    @rule()
    def iterate(self) -> None:
        items = list(self.cache.items())
        assert len(items) == len(dict(items))
        assert dict(items) == self.model.items()
        assert set(self.cache) == set(self.model.rows)
        assert Counter(self.cache.values()) == Counter(dict(items).values())
        assert len(self.cache) == len(items)

    @rule()
    def swap_for_a_copy(self) -> None:
        self.cache = copy.copy(self.cache)
        self.model.copied()

    @precondition(lambda self: self.cache.options()[4] is not None)
    @rule()
    def swap_for_a_pickle(self) -> None:
        """The listener belongs to the test and stays behind: the rest travels."""
        self.swap_for_a_copy()
        kind, arguments, (options, rows, *rest) = self.cache.__reduce__()
        options[4] = None
        twin = kind(*arguments)
        twin.__setstate__((options, rows, *rest))
        loaded = pickle.loads(pickle.dumps(twin))
        if not isinstance(self.model.order, Told):
            assert loaded.coldest(99) == self.cache.coldest(99)
        assert loaded.entries() == self.cache.entries()
        before = self.cache.options()
        assert loaded.options() == (*before[:4], None, *before[5:])
        loaded.check()

    # -- after every step -------------------------------------------------------------------

    @invariant()
    def same(self) -> None:
        cache, model = self.cache, self.model
        cache.check()
        assert self.heard == self.expected
        assert self.failures == 0
        assert cache.currsize == model.currsize
        removals = model.removals.values()
        assert cache.counters()[:-1] == (
            model.hits, model.misses, model.insertions, model.updates, *removals,
            model.evicted_size, model.rejected,
        )  # fmt: skip
        assert not isinstance(model.order, Told) or not model.order.victims
        for key in KEYS:
            assert cache.peek(key, "absent") == model.peek(key, "absent")
            assert (key in cache) == model.fresh(key)
            assert outcome(cache.ttl_left, key) == approx(outcome(model.ttl_left, key))
        assert cache.counters()[:2] == (model.hits, model.misses)  # looking counted nothing


def test_agrees_with_the_model() -> None:
    """Whatever is done to a cache, it holds, tells and counts what the model does."""
    run_state_machine_as_test(
        CacheMachine, settings=settings(max_examples=150, stateful_step_count=40)
    )


@pytest.mark.slow
def test_agrees_with_the_model_for_long() -> None:
    """The same with longer sequences and more of them."""
    run_state_machine_as_test(
        CacheMachine, settings=settings(max_examples=1500, stateful_step_count=100)
    )
