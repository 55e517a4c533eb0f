"""Keys of every kind: what is equal is one key, what is not is another."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridcore import Cache


class Name(str):
    """A str that Python code compares, because it is none exactly."""


def fresh(text: str) -> str:
    """An equal str that is another object and has no hash yet."""
    return "".join([text[:1], text[1:]])


@pytest.mark.parametrize(
    "equal",
    [
        [1, True, 1.0, Fraction(1), Decimal(1), 1 + 0j],
        [0, False, 0.0, -0.0],
        [2**80, 2.0**80, Fraction(2**80)],
        ["abc", Name("abc"), fresh("abc")],
        [(1, "a"), (True, Name("a")), (1, fresh("a")), (1.0, "a")],
        [((1, 2), "a"), ((1.0, 2), fresh("a"))],
        [frozenset("ab"), frozenset("ba")],
        [b"abc", bytes(bytearray(b"abc"))],
    ],
)
def test_equal_keys_are_one_key(equal: list[Any], make: Any) -> None:
    """As in a dict, equal keys of any type find one entry, and the first of them stays its key."""
    cache = make(99)
    for value, key in enumerate(equal):
        cache[key] = value
        assert [cache[other] for other in equal] == [value] * len(equal)
    assert list(cache) == equal[:1]
    assert type(next(iter(cache))) is type(equal[0])


def test_keys_of_equal_hash_are_told_apart(make: Any) -> None:
    """-1 and -2 share a hash, and so do integers a Mersenne prime apart."""
    cache = make(99)
    prime = 2**61 - 1
    keys = [-1, -2, 1, 1 + prime, 1 + 2 * prime, -1 - prime, hash("x"), "x", "1"]
    cache.update((key, repr(key)) for key in keys)
    assert len(cache) == len(keys)
    assert all(cache[key] == repr(key) for key in keys)


@pytest.mark.parametrize(
    "text", ["", "x", "é", "€", "\U0001f600", "\ud800", "\udc80\ud800", "a\0b", "n" * 100_000]
)
@pytest.mark.parametrize("tail", ["", "!", "ß", "日本", "\U0001f600"])
def test_strings_of_every_width(text: str, tail: str, make: Any) -> None:
    """Strings of 1, 2 and 4 bytes a character, with surrogates and NULs, are found again."""
    cache = make(99)
    key = text + tail
    cache[key] = 1
    assert cache[fresh(key)] == 1
    for other in (key + "x", key[:-1] + "\U0001f601", key + "\0", key.encode("utf-8", "replace")):
        assert other not in cache or other == key
    del cache[fresh(key)]
    assert key not in cache


@given(
    st.dictionaries(
        st.text() | st.integers() | st.binary() | st.floats(allow_nan=False), st.integers()
    )
)
def test_holds_what_a_dict_holds(items: dict[Any, int]) -> None:
    """Any keys that make a dict make the same cache."""
    cache: Cache[Any, int] = Cache(None)
    cache.update(items)
    assert dict(cache) == items
    assert cache.get_many(items) == items
    cache.check()


def test_lengths_around_the_word_size(make: Any) -> None:
    """Strings that differ in one character are different, wherever the character is."""
    cache = make(None)
    keys = []
    for length in range(80):
        base = "a" * length
        keys += [base] + [base[:i] + "b" + base[i + 1 :] for i in range(length)]
    cache.update((key, i) for i, key in enumerate(keys))
    assert len(cache) == len(keys)
    assert [cache[fresh(key)] for key in keys] == list(range(len(keys)))


def test_tuples_are_told_apart(make: Any) -> None:
    """Tuples are one key only if every element is equal and none is left over."""
    cache = make(99)
    keys = [(1, 2), (1, 2, 3), (2, 1), (1, "2"), ("1", "2"), (1, (2,)), (1, None), (1,), 1]
    for key in keys:
        cache[key] = key
    assert len(cache) == len(keys)
    assert all(cache[key] is key for key in keys)


class Same:
    """Hashes like an int and is equal to nothing but itself."""

    def __hash__(self) -> int:
        return hash(5)


def test_tuples_of_one_hash_are_told_apart(make: Any) -> None:
    """Where an element must be asked, Python compares the whole tuples."""
    cache = make(99)
    first, second = Same(), Same()
    cache[first, 1] = "first"
    cache[second, 1] = "second"
    cache[5, 1] = "five"
    assert (cache[first, 1], cache[second, 1], cache[5, 1]) == ("first", "second", "five")


def test_nan_is_found_by_identity(make: Any) -> None:
    """Fault 18: as in a dict, a NaN is found by the same object only, and can be removed."""
    cache = make(3)
    nan = float("nan")
    cache[nan] = 1
    assert cache[nan] == 1
    assert math.nan not in cache
    cache[math.nan] = 2
    assert len(cache) == 2
    assert cache.pop(nan) == 1
    cache.update(a=1, b=2, c=3)  # the other NaN is evicted without being found
    assert set(cache) == {"a", "b", "c"}


OPERATIONS = {
    "get": lambda cache, key: cache.get(key),
    "[]": lambda cache, key: cache[key],
    "in": lambda cache, key: key in cache,
    "set": lambda cache, key: cache.__setitem__(key, 1),
    "put": lambda cache, key: cache.put(key, 1, ttl=5),
    "del": lambda cache, key: cache.__delitem__(key),
    "pop": lambda cache, key: cache.pop(key, None),
    "discard": lambda cache, key: cache.discard(key),
    "setdefault": lambda cache, key: cache.setdefault(key, 1),
    "touch": lambda cache, key: cache.touch(key, 5),
    "peek": lambda cache, key: cache.peek(key),
    "ttl_left": lambda cache, key: cache.ttl_left(key),
    "get_many": lambda cache, key: cache.get_many([key]),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.parametrize("key", [[], {}, set(), bytearray(), ([],)], ids=repr)
def test_unhashable_keys_are_refused(operation: Any, key: Any, make: Any) -> None:
    """Fault 18: an unhashable key raises TypeError everywhere and changes nothing."""
    cache = make(2)
    cache.update(a=1, b=2)
    with pytest.raises(TypeError, match="unhashable"):
        operation(cache, key)
    assert dict(cache.items()) == {"a": 1, "b": 2}
    assert cache.stats().requests == 0


class Moody:
    """A key whose hash changes."""

    def __init__(self) -> None:
        self.mood = 1

    def __hash__(self) -> int:
        return self.mood


def test_a_key_whose_hash_changes(make: Any) -> None:
    """Fault 18: such a key is lost to lookups, and evicted in its turn without being asked."""
    cache = make(3)
    key = Moody()
    cache[key] = 1
    cache["a"] = 2
    key.mood = 2
    assert key not in cache
    cache[key] = 3  # a second entry, as in a dict
    assert [value for found, value in cache.items() if found is key] == [1, 3]
    cache.check()
    assert cache.popitem() == (key, 1)
    cache.update(b=1, c=2, d=3)
    assert key not in cache
    assert len(cache) == 3


def test_many_keys_of_one_hash(make: Any) -> None:
    """A crowd of keys on one slot is stored, found and removed in any order."""

    class Same:
        def __hash__(self) -> int:
            return 7

    cache = make(None)
    crowd = [Same() for _ in range(300)]
    for i, key in enumerate(crowd):
        cache[key] = i
    for key in crowd[::3]:
        del cache[key]
    cache.check()
    assert [cache.get(key) for key in crowd] == [i if i % 3 else None for i in range(300)]


def test_integers_far_apart(make: Any) -> None:
    """Multiples of powers of two, of either sign and any length, spread over the table."""
    cache = make(None)
    keys = [
        sign * i << shift for sign in (1, -1) for shift in range(0, 90, 3) for i in range(1, 40)
    ]
    for key in keys:
        cache[key] = key
    assert len(cache) == len(set(keys))
    assert all(cache[int(str(key))] == key for key in keys)
