"""Errors say what was expected, what came, and the way out; the cache is as it was before."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hybridcore import Cache
from hybridcore.errors import ConfigurationError, HybridCoreError, ValueTooLargeError


@pytest.mark.parametrize("option", ["getsizeof", "timer", "on_evict"])
@pytest.mark.parametrize("value", [5, "len", [], ()])
def test_callbacks_must_be_callable(option: str, value: Any) -> None:
    """What cannot be called is refused when the cache is made."""
    with pytest.raises(ConfigurationError) as caught:
        Cache(3, **{option: value})
    assert str(caught.value) == f"{option} is expected to be callable, got {value!r}"


def test_an_entry_too_large(make: Any) -> None:
    """The error names both numbers and what can be done."""
    cache = make(3)
    with pytest.raises(ValueTooLargeError) as caught:
        cache.put("key", "value", size=5)
    for part in ("size 5", "maxsize 3", "nothing was changed", "Raise maxsize"):
        assert part in str(caught.value)
    assert isinstance(caught.value, HybridCoreError)


@pytest.mark.parametrize("name", ["cost", "importance"])
@pytest.mark.parametrize("value", [-1, -0.1, math.nan, math.inf, -math.inf, 1e39])
def test_weights(name: str, value: float, make: Any) -> None:
    """cost and importance are finite numbers that are not negative."""
    cache = make(3)
    with pytest.raises(ValueError, match=f"{name} is expected to be a number from 0 to") as caught:
        cache.put("key", 1, **{name: value})
    assert str(caught.value).endswith(f"got {float(value)}")
    assert len(cache) == 0
    cache.put("key", 1, **{name: 0})
    cache.put("key", 1, **{name: 3.4e38})


@pytest.mark.parametrize("name", ["cost", "importance"])
@pytest.mark.parametrize("value", ["1", None, [], 1j])
def test_weights_that_are_no_numbers(name: str, value: Any, make: Any) -> None:
    """Other types are refused."""
    with pytest.raises(TypeError, match="real number"):
        make(3).put("key", 1, **{name: value})


@pytest.mark.parametrize(
    "call",
    [
        lambda cache: cache.get(),
        lambda cache: cache.get(1, 2, 3),
        lambda cache: cache.get(1, fallback=2),
        lambda cache: cache.get(1, 2, default=3),
        lambda cache: cache.get(key=1),
        lambda cache: cache.put(1),
        lambda cache: cache.put(1, 2, 3),
        lambda cache: cache.put(1, 2, tll=3),
        lambda cache: cache.pop(),
        lambda cache: cache.pop(1, 2, 3),
        lambda cache: cache.get_many(5),
        lambda cache: cache.coldest("1"),
        lambda cache: cache.resize(),
        lambda cache: Cache(),
        lambda cache: Cache(3, None, 5),
        lambda cache: Cache(3, size=5),
        lambda cache: Cache.get(1, 2),
        lambda cache: Cache.get(),
        lambda cache: Cache.fromkeys([1]),
        lambda cache: type(iter(cache))(),
    ],
)
def test_wrong_arguments(call: Any, make: Any) -> None:
    """Calls with too many, too few or misspelt arguments raise and change nothing."""
    cache = make(3)
    cache["a"] = 1
    with pytest.raises((TypeError, AttributeError)):
        call(cache)
    assert dict(cache.items()) == {"a": 1}
    assert cache.stats().requests == 0


def test_a_missing_key_is_named(make: Any) -> None:
    """KeyError carries the key itself."""
    cache = make(3)
    key = ("a", 1)
    for lookup in (cache.__getitem__, cache.__delitem__, cache.pop, cache.ttl_left):
        with pytest.raises(KeyError) as caught:
            lookup(key)
        assert caught.value.args == (key,)
        assert caught.value.args[0] is key
