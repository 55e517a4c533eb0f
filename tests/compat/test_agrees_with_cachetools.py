"""The same operations on a cache of ours and on the one in cachetools have the same outcome."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridcore.compat import cachetools as ours

theirs = pytest.importorskip("cachetools", reason="cachetools is not installed")

KEYS = st.integers(0, 5) | st.sampled_from(["a", "b", 1.0, (1, 2)])
SIZES = st.integers(0, 4)

OPERATIONS = st.one_of(
    st.tuples(st.just("set"), KEYS, SIZES),
    st.tuples(st.just("set"), KEYS, SIZES),  # twice: the others are many
    st.tuples(st.sampled_from(["look", "get", "has", "delete", "pop"]), KEYS),
    st.tuples(st.just("setdefault"), KEYS, SIZES),
    st.tuples(st.sampled_from(["popitem", "copy", "pickle", "deepcopy", "clear", "expire"])),
    st.tuples(st.sampled_from(["items", "advance", "advance", "len", "repr", "currsize"])),
)

STEPS: dict[str, Any] = {
    "set": lambda cache, key, value: cache.__setitem__(key, value),
    "look": lambda cache, key: cache[key],
    "get": lambda cache, key: cache.get(key, "nothing"),
    "has": lambda cache, key: key in cache,
    "delete": lambda cache, key: cache.__delitem__(key),
    "pop": lambda cache, key: cache.pop(key, "nothing"),
    "setdefault": lambda cache, key, value: cache.setdefault(key, value),
    "popitem": lambda cache: cache.popitem(),
    "clear": lambda cache: cache.clear(),
    "expire": lambda cache: cache.expire() if hasattr(cache, "expire") else None,
    "items": lambda cache: list(cache.items()),
    "len": len,
    "currsize": lambda cache: cache.currsize,
    "repr": lambda cache: None,
}
COPIES: dict[str, Any] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda cache: pickle.loads(pickle.dumps(cache)),
}


class Clock:
    """Shared by a cache and all its copies."""

    now = 0

    def __call__(self) -> int:
        return Clock.now


def until(key: Any, value: int, now: float) -> float:
    """The larger, the longer; 0 is not kept."""
    return now + 3 * value


def measured(value: int) -> int:
    return value


KINDS: dict[str, Any] = {
    "Cache": lambda library, clock, **options: library.Cache(6, **options),
    "FIFOCache": lambda library, clock, **options: library.FIFOCache(6, **options),
    "LFUCache": lambda library, clock, **options: library.LFUCache(6, **options),
    "LRUCache": lambda library, clock, **options: library.LRUCache(6, **options),
    "RRCache": lambda library, clock, **options: library.RRCache(6, last, **options),
    "TTLCache": lambda library, clock, **options: library.TTLCache(6, 8, clock, **options),
    "TLRUCache": lambda library, clock, **options: library.TLRUCache(6, until, clock, **options),
}


def last(keys: Any) -> Any:
    """A choice that depends on the order of the keys."""
    return keys[-1] if len(keys) % 2 else keys[len(keys) // 2]


def outcome(cache: Any, step: str, arguments: tuple[Any, ...]) -> Any:
    """What is returned, or which error is raised."""
    try:
        return STEPS[step](cache, *arguments)
    except (KeyError, ValueError) as error:
        return KeyError if isinstance(error, KeyError) else ValueError


@pytest.mark.parametrize("sized", [False, True], ids=["counted", "sized"])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(operations=st.lists(OPERATIONS, max_size=60))
def test_agrees(kind: str, sized: bool, operations: list[tuple[Any, ...]]) -> None:
    """Every result, the order of iteration and what is evicted are those of cachetools."""
    options = {"getsizeof": measured} if sized else {}
    Clock.now = 0
    pair = [KINDS[kind](library, Clock(), **options) for library in (ours, theirs)]
    for step, *arguments in operations:
        if step in ("set", "setdefault"):
            Clock.now += 1  # cachetools forgets the order of what was set at the same time
        if step == "advance":
            Clock.now += 1
        elif step in COPIES:
            if kind == "RRCache":
                continue  # its copies choose from keys in another order
            pair = [COPIES[step](cache) for cache in pair]
        else:
            mine, other = (outcome(cache, step, tuple(arguments)) for cache in pair)
            assert mine == other, (step, arguments)
        orders = [list(cache) for cache in pair]
        assert orders[0] == orders[1], (step, arguments)
        assert pair[0].currsize == pair[1].currsize
        pair[0]._native_check()
    while True:
        mine, other = (outcome(cache, "popitem", ()) for cache in pair)
        assert mine == other
        if mine is KeyError:
            break
