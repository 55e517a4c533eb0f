"""`lru_cache` beside functools' own, and what it has in addition."""

from __future__ import annotations

import functools
import gc
import inspect
import sys
import traceback
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridcore import lru_cache
from hybridcore.compat import functools as ours

VALUES = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([0.0, 1.0, -0.0, True, False, None, "", "a", "ä", b"", b"a", 2**70, -1, -2]),
    st.tuples(st.integers(0, 2)),
    st.frozensets(st.integers(0, 1)),
)
CALLS = st.lists(
    st.tuples(
        st.lists(VALUES, max_size=3), st.dictionaries(st.sampled_from("abc"), VALUES, max_size=2)
    ),
    max_size=40,
)


def echo(*args, **kwargs):
    return [args, kwargs]


@given(CALLS, st.sampled_from([None, 0, 1, 2, 5, -1]), st.booleans())
def test_calls_count_and_evict_as_in_functools(calls, maxsize, typed) -> None:
    """After each of any calls, both give the same result and the same ``cache_info()``."""
    theirs = functools.lru_cache(maxsize, typed)(echo)
    mine = lru_cache(maxsize, typed)(echo)
    for args, kwargs in calls:
        assert repr(mine(*args, **kwargs)) == repr(theirs(*args, **kwargs))
        assert mine.cache_info() == theirs.cache_info()
    mine.cache.check()
    assert mine.cache_parameters() == theirs.cache_parameters()


@given(st.lists(VALUES, max_size=30), st.dictionaries(st.text(min_size=1), VALUES, max_size=20))
def test_a_call_is_found_before_its_key_is_made(args, kwargs) -> None:
    """The hash that is computed of the arguments is that of the key, however many there are."""
    function = lru_cache(echo)
    function(*args, **kwargs)
    key = function.cache_key(*args, **kwargs)
    assert list(function.cache) == [key]
    assert key in function.cache
    assert function(*args, **kwargs) is function.cache.peek(key)
    assert function.cache_info()[:2] == (1, 1)


@pytest.mark.parametrize("maxsize", ["128", 1.5, (), "64MiB"])
def test_a_maxsize_that_makes_no_sense_is_a_type_error(maxsize) -> None:
    """As functools says it."""
    with pytest.raises(TypeError) as theirs:
        functools.lru_cache(maxsize)
    with pytest.raises(TypeError) as mine:
        lru_cache(maxsize)
    assert str(mine.value) == str(theirs.value)


def test_what_is_decorated_must_be_callable() -> None:
    """As functools says it."""
    with pytest.raises(TypeError, match="the first argument must be callable"):
        lru_cache(10)(5)
    with pytest.raises(TypeError):
        lru_cache(echo, 1)  # a function, and typed is no bool


@pytest.mark.parametrize("maxsize", [None, 10])
def test_a_hit_runs_no_python(maxsize) -> None:
    """No frame begins while a call is answered that is known."""
    function = lru_cache(maxsize)(lambda *args, **kwargs: args)
    frames = []
    for _ in range(2):
        sys.setprofile(lambda frame, event, _: frames.append(event) if event == "call" else None)
        try:
            function(1), function("a"), function(1, 2), function(1, b=2), function()
        finally:
            sys.setprofile(None)
        assert len(frames) == 5


def test_the_error_of_the_function_leaves_as_it_came() -> None:
    """Neither a cause nor a line of ours is in its traceback."""

    @lru_cache
    def fails(x):
        raise ValueError(x)

    with pytest.raises(ValueError, match="1") as caught:
        fails(1)
    assert [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)][1:] == [
        "fails"
    ]
    assert caught.value.__context__ is None
    assert fails.cache_info().currsize == 0


def test_an_unhashable_argument_changes_nothing() -> None:
    """Fault 18: the error comes before any state changes."""
    function = lru_cache(echo)
    for call in (lambda: function([]), lambda: function(1, []), lambda: function(a=[])):
        with pytest.raises(TypeError, match="unhashable"):
            call()
    assert function.cache_info() == (0, 0, 128, 0)


class Hostile:
    """A key that does what it is told when it is compared, once."""

    def __init__(self, name, act=lambda: None):
        self.name = name
        self.acts = [act]

    def __hash__(self):
        return 7

    def __eq__(self, other):
        if self.acts:
            self.acts.pop()()
        return self.name == other.name


@pytest.mark.parametrize("maxsize", [None, 1, 3])
@pytest.mark.parametrize("more", [(), (2,)])
def test_a_key_that_changes_the_cache_while_it_is_compared(maxsize, more) -> None:
    """Fault 17: the call is answered, and the table is sound."""
    function = lru_cache(maxsize)(lambda key, *more: key.name)
    acts = [function.cache_clear, lambda: function(Hostile("other"), *more)]
    for act in [*acts, lambda: function.invalidate(Hostile("a"), *more)]:
        for name in "abca":
            assert function(Hostile(name, act), *more) == name
            function.cache.check()


def test_a_key_that_raises_when_compared() -> None:
    """Fault 17: what it raises reaches the caller; the next call is as if nothing had been."""
    function = lru_cache(lambda key: key.name)
    function(Hostile("a", lambda: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        function(Hostile("b"))
    assert function(Hostile("b")) == "b"
    function.cache.check()


@pytest.mark.usefixtures("uncollected")
def test_recursion_is_as_deep_as_in_functools() -> None:
    """A call that misses takes no more of Python's stack than one of functools."""

    def depth_of(decorate) -> int:
        @decorate
        def count(n):
            nonlocal deepest
            deepest = n
            return count(n + 1)

        deepest = 0
        with pytest.raises(RecursionError):
            count(0)
        return deepest

    assert depth_of(lru_cache) >= depth_of(functools.lru_cache) - 2


def test_results_can_be_looked_at_set_renewed_and_forgotten(counted) -> None:
    """``get``, ``set``, ``refresh`` and ``invalidate`` are about one call."""
    function = lru_cache(2)(counted)
    assert function.get(1, default="none") == "none"
    assert function.get(1) is None
    function.set("given", 1)
    assert function(1) == function.get(1) == "given"
    assert function.refresh(1) == (1,)
    assert function(1) == (1,)
    assert function.invalidate(1)
    assert not function.invalidate(1)
    function(1)
    assert len(counted.calls) == 2


@pytest.mark.parametrize("maxsize", [0, -5])
def test_a_cache_of_nothing_takes_values_and_forgets_them(maxsize, counted) -> None:
    """``set`` and ``refresh`` raise nothing where nothing is kept."""
    function = lru_cache(maxsize)(counted)
    function.set("given", 1)
    assert function.refresh(1) == function(1) == (1,)
    assert function.cache_info() == (0, 1, 0, 0)


def test_what_refers_to_itself_is_collected() -> None:
    """A function whose results, whose closure and whose attributes refer to it goes in the end."""

    class Value:
        pass

    def make():
        @lru_cache
        def function(x):
            value = Value()
            value.back = function
            return value

        function.itself = function
        return weakref.ref(function(1)), weakref.ref(function)

    value, function = make()
    gc.collect()
    assert value() is None
    assert function() is None


def test_nothing_leaks() -> None:
    """Hits, misses, errors and evictions leave the counts of references as they were."""
    key, value = ("key", object()), object()
    function = lru_cache(1)(lambda *args, **kwargs: value)

    def work() -> None:
        function(key), function(key), function(key, 1), function(key, a=key), function(1.5)
        function.get(key), function.set(value, key), function.refresh(key), function.invalidate(key)
        with pytest.raises(TypeError):
            function(key, [])
        function.cache_clear()

    work()
    before = sys.getrefcount(key), sys.getrefcount(value), sys.getrefcount(function)
    for _ in range(100):
        work()
    assert (sys.getrefcount(key), sys.getrefcount(value), sys.getrefcount(function)) == before


def test_the_module_has_everything_functools_has() -> None:
    """``from hybridcore.compat import functools`` is a change of one line."""
    for name in functools.__all__:
        assert getattr(ours, name)
    assert str(inspect.signature(ours.cache)).startswith("(user_function")


def test_lru_cache_takes_the_arguments_of_functools() -> None:
    """By name and by position."""
    theirs = inspect.signature(functools.lru_cache).parameters
    mine = inspect.signature(lru_cache).parameters
    assert [(p.name, p.default, p.kind) for p in mine.values()] == [
        (p.name, p.default, p.kind) for p in theirs.values()
    ]


@pytest.mark.parametrize(
    "same",
    [
        pytest.param(lambda: int("12345"), id="int"),
        pytest.param(lambda: int("-1"), id="minus one, whose hash is that of minus two"),
        pytest.param(lambda: int("1" + "0" * 40), id="int of many digits"),
        pytest.param(lambda: "".join(["ke", "y"]), id="str"),
        pytest.param(lambda: "".join(["k" * 40, "y" * 40]), id="long str"),
        pytest.param(lambda: "".join(["schl", "\u00fc", "ssel"]), id="str with an umlaut"),
        pytest.param(lambda: "".join(["\U0001f511", "key"]), id="str of four bytes a character"),
        pytest.param(lambda: "", id="empty str"),
        pytest.param(lambda: float("1.5"), id="float"),
        pytest.param(lambda: ("a", (1, 2.0)), id="tuple"),
    ],
)
def test_equal_arguments_are_one_call(same) -> None:
    """A call is known by equal arguments, whatever their kind, and by no others."""

    @lru_cache
    def function(*args, **kwargs):
        return args, kwargs

    for _ in range(3):
        assert function(same()) == ((same(),), {})
        assert function(same(), same()) == ((same(), same()), {})
        assert function(same(), b=same()) == ((same(),), {"b": same()})
        assert function(b=same()) == ((), {"b": same()})
        assert function("b", same()) == (("b", same()), {})
    assert function.cache_info()[:2] == (10, 5)
    assert function((same(), "other"))[0] != (same(),)
    assert function.cache_info().misses == 6
