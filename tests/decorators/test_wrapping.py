"""A decorated function beside the tools that look at functions."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
import unittest.mock
import weakref

import pytest

from hybridcore import cached, lru_cache


@cached
def shared(x: int, /, y: str = "y", *, z: float = 0.5) -> str:
    """Say everything."""
    return f"{x}{y}{z}"


@lru_cache
def kept(x: int, /, y: str = "y", *, z: float = 0.5) -> str:
    """Say everything."""
    return f"{x}{y}{z}"


FUNCTIONS = pytest.mark.parametrize("function", [shared, kept], ids=["cached", "lru_cache"])


@FUNCTIONS
def test_it_looks_like_the_function(function) -> None:
    """Name, docstring, module, annotations, signature."""
    assert function.__doc__ == "Say everything."
    assert function.__module__ == __name__
    assert function.__name__ == function.__qualname__ == function.__wrapped__.__name__
    assert function.__annotations__ == function.__wrapped__.__annotations__
    assert inspect.signature(function) == inspect.signature(function.__wrapped__)
    assert callable(function)
    assert function.__name__ in repr(function)


@FUNCTIONS
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_pickles_by_name_and_copies_as_itself(function, protocol) -> None:
    """As functions do."""
    assert pickle.loads(pickle.dumps(function, protocol)) is function
    assert copy.copy(function) is copy.deepcopy(function) is function
    assert weakref.ref(function)() is function


@FUNCTIONS
def test_it_can_be_wrapped_and_wrap(function) -> None:
    """Decorators stack in any order."""

    @functools.wraps(function)
    def outer(*args, **kwargs):
        return function(*args, **kwargs).upper()

    assert inspect.signature(outer) == inspect.signature(function)
    assert outer(1) == "1Y0.5"
    for decorate in (cached, lru_cache, functools.lru_cache, cached(ttl=5)):
        twice = decorate(function)
        assert twice(2) == twice(2) == "2y0.5"
        assert twice.cache_info().hits == 1
        assert inspect.signature(twice) == inspect.signature(function)
    assert functools.partial(function, 3)(z=1) == "3y1"


@FUNCTIONS
def test_it_can_be_mocked(function) -> None:
    """``create_autospec`` knows what it can be asked."""
    mock = unittest.mock.create_autospec(function, return_value="mocked")
    assert mock(1, z=2) == "mocked"
    mock.assert_called_once_with(1, z=2)
    mock.cache_clear()
    mock.cache_clear.assert_called_once_with()
    with pytest.raises(AttributeError):
        mock.cache_clean()


def test_classes_with_cached_methods_can_be_mocked() -> None:
    """The instance is left out of what is checked."""

    class Owner:
        @cached
        def method(self, x):
            return x

    mock = unittest.mock.create_autospec(Owner, instance=True)
    mock.method.return_value = 5
    assert mock.method(1) == 5


def test_it_has_attributes_of_its_own() -> None:
    """Those of the function, and what is set later."""

    def function(x):
        return x

    function.label = "label"
    decorated = cached(function)
    assert decorated.label == "label"
    decorated.label = "other"
    assert (decorated.label, function.label) == ("other", "label")


def test_a_partial_function_and_a_builtin_can_be_decorated() -> None:
    """They have no name of their own, or no signature."""
    for decorate in (cached, lru_cache):
        assert decorate(functools.partial(pow, 2))(5) == 32
        assert decorate(max)(1, 5) == 5
        assert decorate(int)("12") == 12
