"""`hybridcore.keys`: which calls are the same."""

from __future__ import annotations

import pickle

import pytest

from hybridcore import keys

FUNCTIONS = [
    keys.hashkey,
    keys.typedkey,
    lambda *args, **kwargs: keys.methodkey("self", *args, **kwargs),
    lambda *args, **kwargs: keys.typedmethodkey("self", *args, **kwargs),
]


@pytest.mark.parametrize("key", FUNCTIONS)
def test_equal_calls_have_equal_keys(key) -> None:
    """Whatever the order of their keywords; others differ."""
    assert key(1, 2, a=3, b=4) == key(1, 2, b=4, a=3)
    assert hash(key(1, 2, a=3, b=4)) == hash(key(1, 2, b=4, a=3))
    different = [key(), key(1), key(1, 2), key((1, 2)), key(1, a=2), key(1, "a", 2), key(a=1)]
    assert len(set(different)) == len(different)


def test_types_count_in_typed_keys_only() -> None:
    """1 is 1.0 to the others."""
    assert keys.hashkey(1, a=1) == keys.hashkey(1.0, a=1.0)
    assert keys.typedkey(1) != keys.typedkey(1.0)
    assert keys.typedkey(a=1) != keys.typedkey(a=1.0)
    assert keys.methodkey("self", 1) == keys.methodkey("other", 1.0)
    assert keys.typedmethodkey("self", 1) == keys.typedmethodkey("other", 1)
    assert keys.typedmethodkey("self", 1) != keys.typedmethodkey("self", 1.0)


@pytest.mark.parametrize("key", FUNCTIONS)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_keys_are_tuples_that_add_up_and_pickle(key, protocol) -> None:
    """A part of a key can be kept and completed later."""
    made = key("a", x=1)
    hash(made)
    assert isinstance(made, tuple)
    assert pickle.loads(pickle.dumps(made, protocol)) == made
    for total in (key(1) + key(2), key(1) + (2,), (1,) + key(2)):  # noqa: RUF005  # it is what is tested
        assert type(total) is type(made)
        assert hash(total) == hash(tuple(total))
