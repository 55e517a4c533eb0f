"""A cache stands where ``cachetools.Cache`` or ``cachetools.LRUCache`` stood."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hybridcore import Cache, Weights
from hybridcore.errors import ValueTooLargeError


def test_attributes(make: Any) -> None:
    """maxsize, currsize and getsizeof read as in cachetools."""
    cache = make(maxsize=2)
    assert (cache.maxsize, cache.currsize) == (2, 0)
    assert cache.getsizeof("whatever") == 1
    cache["a"] = "x"
    assert cache.currsize == 1
    assert make(math.inf).maxsize == math.inf
    sized = make(10, getsizeof=len)
    assert sized.getsizeof("abc") == 3


def test_defaults_by_keyword(make: Any) -> None:
    """get, pop and setdefault take their default by name too."""
    cache = make(2)
    assert cache.get("a", default=1) == 1
    assert cache.pop("a", default=2) == 2
    assert cache.setdefault("a", default=3) == cache["a"] == 3


def test_the_least_recently_used_entry_goes(make: Any) -> None:
    """Reading and writing make an entry recent; testing membership does not."""
    cache = make(3, weights=Weights.lru())
    cache.update(a=1, b=2, c=3)
    cache["a"]
    cache.get("b")
    assert "c" in cache
    cache["d"] = 4
    assert set(cache) == {"a", "b", "d"}
    cache["a"] = 5
    cache["e"] = 6
    assert set(cache) == {"a", "d", "e"}


def test_popitem_takes_the_least_recently_used(make: Any) -> None:
    """popitem() returns entries in eviction order, then raises KeyError naming the class."""
    cache = make(3, weights=Weights.lru())
    cache.update(a=1, b=2, c=3)
    cache["a"]
    assert [cache.popitem() for _ in range(3)] == [("b", 2), ("c", 3), ("a", 1)]
    with pytest.raises(KeyError, match=r"popitem\(\): Cache is empty"):
        cache.popitem()


def test_sizes_bound_the_total(make: Any) -> None:
    """With getsizeof, the sizes of values add up to at most maxsize."""
    cache = make(10, getsizeof=len, weights=Weights.lru())
    cache["a"] = "xxxx"
    cache["b"] = "xxxx"
    assert cache.currsize == 8
    cache["c"] = "xxxxx"  # "a" has to go, and that is enough
    assert cache.currsize == 9
    assert set(cache) == {"b", "c"}
    cache["c"] = "x"
    assert cache.currsize == 5
    cache["d"] = ""
    assert cache.currsize == 5
    cache["e"] = "xxxxxxxxxx"  # as large as the cache, but an empty value is not in its way
    assert dict(cache) == {"d": "", "e": "xxxxxxxxxx"}


def test_a_value_too_large_is_refused(make: Any) -> None:
    """An entry larger than the cache raises a ValueError, and what was stored stays."""
    cache = make(3, getsizeof=len)
    cache["a"] = "abc"
    with pytest.raises(ValueTooLargeError):
        cache["a"] = "abcd"
    with pytest.raises(ValueError, match="size 4 does not fit in a cache of maxsize 3"):
        cache["b"] = "abcd"
    with pytest.raises(ValueTooLargeError):
        cache.setdefault("b", "abcd")
    assert dict(cache) == {"a": "abc"}
    assert cache.stats().updates == 0


def test_a_value_that_grew_is_not_measured_again(make: Any) -> None:
    """The size is taken once, when the value is stored."""
    cache = make(5, getsizeof=len)
    cache["a"] = value = [1]
    value += [2, 3, 4, 5, 6, 7]
    assert cache.currsize == 1
    del cache["a"]
    assert cache.currsize == 0


def test_maxsize_0_stores_nothing(make: Any) -> None:
    """A cache of size 0 refuses every entry but those of size 0."""
    cache = make(0)
    with pytest.raises(ValueTooLargeError):
        cache["a"] = 1
    sized = make(0, getsizeof=len)
    sized["a"] = ""
    assert dict(sized) == {"a": ""}


class ByMethod(Cache[str, str]):
    def getsizeof(self, value: str) -> int:
        return len(value)


class ByStaticMethod(Cache[str, str]):
    @staticmethod
    def getsizeof(value: str) -> int:  # type: ignore[override]
        return len(value)


@pytest.mark.parametrize("kind", [ByMethod, ByStaticMethod])
def test_getsizeof_in_a_subclass(kind: type[Cache[str, str]], make: Any) -> None:
    """A subclass may override getsizeof; an argument goes before it."""
    cache = make(5, kind=kind)
    cache["a"] = "abc"
    assert cache.currsize == 3
    argued = make(5, getsizeof=lambda value: 2, kind=kind)
    argued["a"] = "abc"
    assert argued.currsize == 2


def test_a_subclass_that_does_not_call_init(make: Any) -> None:
    """A subclass that forgets super().__init__() has an unbounded cache, not a broken one."""

    class Forgetful(Cache[int, int]):
        def __init__(self) -> None:
            pass

    cache = make(kind=Forgetful)
    cache.update((i, i) for i in range(100))
    assert cache.maxsize == math.inf
    assert len(cache) == 100


def test_init_again_starts_anew(make: Any) -> None:
    """A second __init__ empties the cache and takes the new options, if they make sense."""
    cache = make(3, ttl=5)
    cache["a"] = 1
    with pytest.raises(ValueError, match="duration"):
        cache.__init__(9, ttl="nonsense")
    assert dict(cache) == {"a": 1}
    assert cache.maxsize == 3
    cache.__init__(2, weights=Weights.lru())
    assert dict(cache) == {}
    cache.update(a=1, b=2, c=3)
    assert list(cache.coldest(9)) == ["b", "c"]
    assert cache.ttl_left("b") is None
