"""The options of `cached`: what is kept, how long, and under which key."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest

import hybridcore as hc
from hybridcore import cached, keys


def test_a_known_call_is_answered_without_the_function(counted) -> None:
    """Positional, several, and by keyword; the order of keywords counts, as in functools."""
    function = cached(counted)
    for _ in range(2):
        function(1), function("a"), function(1, 2), function(1, b=2), function(a=1, b=2)
    assert len(counted.calls) == 5
    function(b=2, a=1)
    assert function.cache_info() == (5, 6, 128, 6)
    assert function.__wrapped__ is counted


@pytest.mark.parametrize("ttl", [None, 60, lambda result: 60])
def test_a_hit_runs_no_python(ttl) -> None:
    """No frame begins while a call is answered that is known."""
    function = cached(ttl=ttl)(lambda *args, **kwargs: args)

    def work() -> None:
        function(1), function("a"), function(1, 2), function(1, b=2)

    work()
    frames = []
    sys.setprofile(lambda frame, event, _: frames.append(event) if event == "call" else None)
    try:
        work()
    finally:
        sys.setprofile(None)
    assert len(frames) == 1


def test_the_least_valuable_goes_when_room_is_needed(counted) -> None:
    """Never more than ``maxsize`` results are kept."""
    function = cached(maxsize=3)(counted)
    for i in range(10):
        function(i)
    assert function.cache_info().currsize == 3
    assert function.cache_info().maxsize == 3


def test_maxsize_none_keeps_all_and_0_nothing(counted) -> None:
    """``cache_info()`` tells which."""
    everything = cached(maxsize=None)(counted)
    nothing = cached(maxsize=0)(counted)
    for _ in range(2):
        for i in range(200):
            everything(i), nothing(i)
    assert everything.cache_info() == (200, 200, None, 200)
    assert nothing.cache_info() == (0, 400, 0, 0)
    nothing.set("given", 1)
    assert nothing.refresh(1) == (1,)


def test_results_are_bounded_by_bytes() -> None:
    """``maxsize="64KiB"`` measures them itself; with ``getsizeof`` it counts what that says."""
    measured = cached(maxsize="64KiB")(lambda n: bytes(n))
    for i in range(100):
        measured(2000 + i)
    assert 20 < len(measured.cache) < 33
    assert measured.cache_info().maxsize == 65536
    told = cached(maxsize=10, getsizeof=len)(lambda n: "x" * n)
    told(4), told(5)
    assert told.cache_info().currsize == 9
    assert told(11) == "x" * 11  # larger than the whole cache: not kept
    assert told.cache_info().currsize == 9


def test_a_result_expires(clock, counted) -> None:
    """``ttl`` seconds after it was kept."""
    function = cached(ttl="1m", timer=clock)(counted)
    function(1)
    clock.advance(59)
    function(1)
    assert len(counted.calls) == 1
    clock.advance(1)
    assert function.get(1) is None
    function(1)
    assert len(counted.calls) == 2


def test_a_result_tells_how_long_it_lasts(clock) -> None:
    """``ttl`` of the result: None is for ever, 0 not at all."""
    function = cached(ttl=lambda result: result, timer=clock)(lambda x: x)
    function(None), function(10), function("1h"), function(0)
    clock.advance(10)
    assert [function.get(x, default="gone") for x in (None, 10, "1h", 0)] == [
        None, "gone", "1h", "gone",
    ]  # fmt: skip


def test_the_condition_says_what_is_kept(counted) -> None:
    """A result that it is false for is computed anew."""
    function = cached(condition=lambda result: result != (0,))(counted)
    function(0), function(0), function(1), function(1)
    assert counted.calls == [(0,), (0,), (1,)]


def test_types_count_if_asked_for(counted) -> None:
    """``typed``, as in functools."""
    function = cached(typed=True)(counted)
    function(1), function(1.0), function(True), function(x=1), function(x=1.0), function(1)
    assert len(counted.calls) == 5


@pytest.mark.parametrize(
    ("key", "calls"),
    [(keys.hashkey, 2), (keys.typedkey, 3), (keys.methodkey, 1), (lambda *a, **k: "same", 1)],
)
def test_the_key_is_what_the_key_function_says(key, calls, counted) -> None:
    """Keywords in any order are the same call to `hybridcore.keys`."""
    function = cached(key=key)(counted)
    function(1, a=1, b=2), function(1, b=2, a=1), function(2, a=1, b=2), function(1.0, a=1, b=2)
    assert len(counted.calls) == calls
    assert function.cache_key(1, a=1, b=2) == key(1, a=1, b=2)


def test_errors_are_not_kept_unless_asked_for(counted) -> None:
    """The next call tries again."""

    @cached
    def fails(x):
        counted(x)
        raise LookupError(x)

    for _ in range(2):
        with pytest.raises(LookupError):
            fails(1)
    assert len(counted.calls) == 2


def test_an_error_is_kept_for_a_time_of_its_own(clock, counted) -> None:
    """``error_ttl``: it is raised again, with a traceback of this call alone."""

    @cached(ttl="1h", error_ttl=5, timer=clock)
    def fails(x):
        counted(x)
        raise LookupError(x)

    lengths = set()
    for _ in range(3):
        with pytest.raises(LookupError) as caught:
            fails(1)
        lengths.add(len(caught.traceback))
    assert lengths == {1, 2}
    with pytest.raises(LookupError):
        fails.get(1)
    assert len(counted.calls) == 1
    clock.advance(5)
    with pytest.raises(LookupError):
        fails(1)
    assert len(counted.calls) == 2


def test_an_error_tells_how_long_it_lasts(clock, counted) -> None:
    """``error_ttl`` of the error: None is not at all. What is no Exception is never kept."""

    @cached(error_ttl=lambda error: 5 if isinstance(error, KeyError) else None, timer=clock)
    def fails(error):
        counted(error)
        raise error

    for error in (KeyError(), ValueError(), KeyboardInterrupt()):
        for _ in range(2):
            with pytest.raises(type(error)):
                fails(error)
    assert len(counted.calls) == 5


def test_a_kept_error_counts_as_one_beside_sized_results() -> None:
    """``getsizeof`` is for results and does not see it."""

    @cached(maxsize=10, getsizeof=len, error_ttl=60)
    def fails(x):
        raise LookupError

    with pytest.raises(LookupError):
        fails(1)
    assert fails.cache_info().currsize == 1


def test_one_call_is_invalidated_refreshed_looked_at_and_set(counted) -> None:
    """The others stay."""
    function = cached(counted)
    function(1), function(2, b=3)
    assert function.invalidate(1)
    assert not function.invalidate(1)
    assert function.get(1, default="none") == "none"
    assert function.get(2, b=3) == ((2,), {"b": 3})
    function.set("given", 1)
    assert function(1) == "given"
    assert function.refresh(1) == (1,) == function(1)
    function.cache_clear()
    assert function.cache_info() == (0, 0, 128, 0)


@pytest.mark.parametrize("option", ["ttl", "condition", "getsizeof", "key", "error_ttl"])
def test_what_a_callback_raises_reaches_the_caller(option) -> None:
    """Fault 17: nothing is kept, and nothing is left under way."""
    failing = [True]

    def callback(*args):
        if failing:
            raise ZeroDivisionError
        return 1

    @cached(**{option: callback})
    def function(x):
        if option == "error_ttl":
            raise LookupError
        return x

    with pytest.raises(ZeroDivisionError):
        function(1)
    assert function.cache_info().currsize == 0
    failing.clear()
    if option == "error_ttl":
        with pytest.raises(LookupError):
            function(1)
    else:
        assert function(1) == 1
    assert function.cache_info().currsize == 1


@pytest.mark.parametrize(
    "options",
    [
        {"maxsize": -1},
        {"maxsize": "64 parsecs"},
        {"maxsize": True},
        {"ttl": -1},
        {"ttl": "soon"},
        {"error_ttl": "soon"},
        {"key": 5},
        {"condition": 5},
        {"getsizeof": 5},
        {"timer": 5},
        {"typed": True, "key": keys.hashkey},
    ],
)
def test_options_that_make_no_sense_are_refused(options) -> None:
    """Before anything is decorated."""
    with pytest.raises(hc.ConfigurationError):
        cached(**options)


def test_a_generator_is_refused() -> None:
    """It could be used only once."""

    def generate():
        yield 1

    with pytest.raises(TypeError, match="can be used only once"):
        cached(generate)
    with pytest.raises(TypeError, match="callable"):
        cached()(5)
    with pytest.raises(TypeError):
        cached(max_size=1)


def test_cache_parameters_tell_how_it_was_decorated(counted) -> None:
    """All options are there."""
    parameters = cached(maxsize=5, ttl="1m")(counted).cache_parameters()
    assert (parameters["maxsize"], parameters["ttl"], parameters["typed"]) == (5, "1m", False)


def test_what_refers_to_itself_is_collected() -> None:
    """A function whose results refer to it goes in the end."""

    class Value:
        pass

    def make():
        @cached(ttl=60, condition=lambda result: function is not None)
        def function(x):
            value = Value()
            value.back = function
            return value

        return weakref.ref(function(1)), weakref.ref(function)

    value, function = make()
    gc.collect()
    assert value() is None
    assert function() is None


def test_nothing_leaks() -> None:
    """Hits, misses, errors and evictions leave the counts of references as they were."""
    key, value, error = ("key", object()), object(), LookupError()

    @cached(1, error_ttl=60)
    def function(*args, fail=False):
        if fail:
            raise error
        return value

    def work() -> None:
        function(key), function(key), function(key, 1), function(key, 1)
        function.get(key), function.set(value, key), function.refresh(key), function.invalidate(key)
        for _ in range(2):
            with pytest.raises(LookupError):
                function(key, fail=True)
        error.__traceback__ = error.__context__ = None
        function.cache_clear()

    def counts() -> list[int]:
        gc.collect()
        return [sys.getrefcount(one) for one in (key, value, error, function)]

    work()
    before = counts()
    for _ in range(100):
        work()
    assert counts() == before
