"""A cache stands where a dict stood."""

from __future__ import annotations

import random
from collections.abc import MutableMapping
from typing import Any

import pytest

from hybridcore import Cache


@pytest.fixture
def letters(make: Any) -> Cache[str, int]:
    """A cache of three entries, "a" the coldest."""
    cache = make(5)
    cache.update(a=1, b=2, c=3)
    return cache


def test_is_a_mutable_mapping(letters: Cache[str, int]) -> None:
    """isinstance, pattern matching and dict() take a cache for a mapping."""
    assert isinstance(letters, MutableMapping)
    assert dict(letters) == {**letters} == {"a": 1, "b": 2, "c": 3}
    match letters:
        case {"b": value}:
            assert value == 2
        case _:
            pytest.fail("a mapping pattern does not match a cache")


def test_set_get_delete(letters: Cache[str, int]) -> None:
    """Items are set, replaced, found and deleted as in a dict."""
    letters["a"] = 10
    assert letters["a"] == letters.get("a") == 10
    assert letters.get("z") is None
    assert letters.get("z", 26) == 26
    del letters["a"]
    assert "a" not in letters
    assert len(letters) == 2
    with pytest.raises(KeyError, match="a"):
        letters["a"]
    with pytest.raises(KeyError, match="a"):
        del letters["a"]


def test_pop(letters: Cache[str, int]) -> None:
    """pop() returns the value, the default, or raises KeyError; None is a default too."""
    assert letters.pop("a") == 1
    assert letters.pop("a", 5) == 5
    assert letters.pop("a", None) is None
    with pytest.raises(KeyError, match="a"):
        letters.pop("a")


def test_setdefault(letters: Cache[str, int]) -> None:
    """setdefault() stores only where there is nothing, even if what is there is None."""
    assert letters.setdefault("a", 9) == 1
    assert letters.setdefault("d", 4) == letters["d"] == 4
    assert letters.setdefault("e") is None
    assert letters.setdefault("e", 7) is None


def test_update(letters: Cache[str, int]) -> None:
    """update() takes mappings, pairs and keywords."""
    letters.update({"a": 5}, d=6)
    letters.update([("e", 7)])
    assert dict(letters) == {"a": 5, "b": 2, "c": 3, "d": 6, "e": 7}


def test_clear_and_truth(letters: Cache[str, int]) -> None:
    """An emptied cache is false, and is as good as new."""
    assert letters
    letters.clear()
    assert not letters
    assert list(letters) == []
    letters["a"] = 1
    assert dict(letters) == {"a": 1}


def test_equality(letters: Cache[str, int], make: Any) -> None:
    """A cache equals any mapping with the same items, and like a dict it has no hash."""
    assert letters == {"a": 1, "b": 2, "c": 3}
    assert dict(a=1, b=2, c=3) == letters  # noqa: C408 -- the dict asks the cache
    assert letters != {"a": 1}
    assert letters != [("a", 1)]
    other = make(99)
    other.update(letters)
    assert letters == other
    with pytest.raises(TypeError, match="unhashable"):
        hash(letters)


def test_views(letters: Cache[str, int]) -> None:
    """keys(), values() and items() are live views with the operations of sets."""
    keys, values, items = letters.keys(), letters.values(), letters.items()
    assert set(keys) == {"a", "b", "c"}
    assert sorted(values) == [1, 2, 3]
    assert dict(items) == dict(letters)
    letters["d"] = 4
    assert len(keys) == len(values) == len(items) == 4
    assert keys & {"a", "z"} == {"a"}
    assert items - {("a", 1), ("b", 0)} == {("b", 2), ("c", 3), ("d", 4)}
    assert "d" in keys
    assert 4 in values
    assert 5 not in values
    assert ("d", 4) in items
    assert ("d", 5) not in items
    assert ("z", None) not in items
    assert "d" not in items


def test_views_leave_the_order_and_the_counters_alone(letters: Cache[str, int]) -> None:
    """Looking into a view is no lookup."""
    assert 1 in letters.values()
    assert ("a", 1) in letters.items()
    assert [*letters.keys(), *letters.values(), *letters.items()]
    assert letters == {"a": 1, "b": 2, "c": 3}
    assert letters.stats().requests == 0
    assert letters.coldest(3) == ["a", "b", "c"]


def test_iteration_sees_every_entry_once(make: Any) -> None:
    """Whatever was deleted before, iteration yields the keys that are there, each once."""
    cache = make(None)
    for i in range(1000):
        cache[i] = -i
    for i in range(0, 1000, 3):
        del cache[i]
    left = [i for i in range(1000) if i % 3]
    assert sorted(cache) == left
    assert sorted(cache.values()) == sorted(-i for i in left)
    assert sorted(cache.items()) == [(i, -i) for i in left]


@pytest.mark.parametrize(
    "change",
    [
        lambda cache: cache.__setitem__("new", 1),
        lambda cache: cache.__delitem__("a"),
        lambda cache: cache.popitem(),
        lambda cache: cache.clear(),
        lambda cache: cache.resize(1),
        lambda cache: cache.update(d=1, e=1, f=1),
    ],
)
def test_iteration_notices_changes(letters: Cache[str, int], change: Any) -> None:
    """Once entries have come or gone, an iterator raises RuntimeError whenever it is asked."""
    iterator = iter(letters)
    next(iterator)
    change(letters)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="Cache changed size during iteration"):
            next(iterator)


def test_iteration_allows_lookups_and_replacing(letters: Cache[str, int]) -> None:
    """Reading, and writing to keys that are there, does not disturb an iterator."""
    for key in letters:
        letters[key] = letters[key] * 10
        letters.touch(key)
    assert dict(letters) == {"a": 10, "b": 20, "c": 30}


def test_an_iterator_stays_at_its_end(letters: Cache[str, int]) -> None:
    """After StopIteration comes StopIteration, whatever is stored meanwhile."""
    iterator = iter(letters)
    assert len(list(iterator)) == 3
    letters["d"] = 4
    assert next(iterator, "end") == "end"


def test_an_iterator_tells_how_much_is_left(letters: Cache[str, int]) -> None:
    """__length_hint__ counts down to 0."""
    iterator = iter(letters)
    hints = [iterator.__length_hint__() for _ in iterator]
    assert hints == [2, 1, 0]
    assert iterator.__length_hint__() == 0


def test_missing_in_a_subclass(make: Any) -> None:
    """``__missing__`` answers for []; get, in and pop do not ask it."""

    class Squares(Cache[int, int]):
        def __missing__(self, key: int) -> int:
            self[key] = key * key
            return self[key]

    squares = make(3, kind=Squares)
    assert squares[4] == 16
    assert 4 in squares
    assert squares.get(5) is None
    assert squares.pop(5, -1) == -1
    assert 5 not in squares


def test_repr(make: Any) -> None:
    """repr() names the class and the bounds, and stops after ten entries."""

    class Profiles(Cache[str, int]):
        pass

    assert repr(make(3)) == "Cache({}, maxsize=3, currsize=0)"
    profiles = make(None, kind=Profiles)
    profiles["ann"] = 1
    assert repr(profiles) == "Profiles({'ann': 1}, maxsize=inf, currsize=1)"
    profiles["self"] = profiles
    assert repr(profiles) == "Profiles({'ann': 1, 'self': ...}, maxsize=inf, currsize=2)"
    profiles.update((str(i), i) for i in range(100))
    assert repr(profiles).count(": ") == 10
    assert repr(profiles).endswith(", ...}, maxsize=inf, currsize=102)")


def test_does_what_a_dict_does(make: Any) -> None:
    """Ten thousand random operations leave an unbounded cache and a dict with the same items."""
    cache, expected = make(None), {}
    dice = random.Random(20)
    for _ in range(10_000):
        key, value = dice.randrange(300), dice.random()
        match dice.randrange(5):
            case 0 | 1:
                cache[key] = expected[key] = value
            case 2:
                assert cache.pop(key, None) == expected.pop(key, None)
            case 3:
                assert cache.setdefault(key, value) == expected.setdefault(key, value)
            case _:
                assert cache.get(key) == expected.get(key)
    assert dict(cache) == expected


def test_union() -> None:
    """`|` makes a bounded copy in which the right side wins, `|=` updates in place."""
    cache: Cache[str, int] = Cache(3)
    cache.update(a=1, b=2)
    assert dict(cache | {"b": 3, "c": 4}) == {"a": 1, "b": 3, "c": 4}
    assert dict({"b": 3, "c": 4} | cache) == {"a": 1, "b": 2, "c": 4}
    assert (cache | {}).maxsize == 3
    assert len(cache | {"c": 3, "d": 4}) == 3
    same = cache
    cache |= {"b": 5}
    assert same is cache
    assert dict(cache) == {"a": 1, "b": 5}
    with pytest.raises(TypeError):
        _ = cache | 5  # type: ignore[operator]
    cache.check()
