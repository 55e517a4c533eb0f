"""Concurrent calls of a cached function in threads: one calls, the others wait, nobody hangs."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time

import pytest

from hybridcore import cached


class Gate:
    """A function that waits inside until it is let go."""

    def __init__(self, outcome=lambda x: x):
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()
        self.calls = []
        self.outcome = outcome

    def __call__(self, x):
        self.calls.append(x)
        self.entered.release()
        assert self.open.wait(30)
        return self.outcome(x)


def start(function, *args):
    """Call in a thread; ``outcome`` of the thread is what came of it."""

    def run():
        try:
            thread.outcome = function(*args)
        except BaseException as error:
            thread.outcome = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def outcome_of(thread):
    thread.join(30)
    assert not thread.is_alive(), "a thread hangs"
    return thread.outcome


def await_followers(function, count):
    """Until so many calls have missed, and had time to find the load that runs."""
    while function.cache_info().misses < count:
        time.sleep(0.001)
    time.sleep(0.02)


def test_64_threads_miss_one_key_and_call_once() -> None:
    """All get what the one call returned."""
    gate = Gate(lambda x: object())
    function = cached(gate)
    threads = [start(function, 1) for _ in range(64)]
    await_followers(function, 64)
    gate.open.set()
    assert len({id(outcome_of(thread)) for thread in threads}) == 1
    assert gate.calls == [1]
    assert function.cache_info() == (0, 64, 128, 1)


def test_a_caller_that_comes_too_late_to_wait_does_not_call(together) -> None:
    """However threads are switched, one key is computed once."""
    former = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for i in range(30):
            calls = []
            function = cached(lambda x, calls=calls: calls.append(x))
            together(function, *[i] * 8)
            assert calls == [i]
    finally:
        sys.setswitchinterval(former)


def test_without_single_flight_all_call() -> None:
    """``single_flight=False``."""
    gate = Gate()
    function = cached(single_flight=False)(gate)
    threads = [start(function, 1) for _ in range(3)]
    for _ in threads:
        assert gate.entered.acquire(timeout=30)
    gate.open.set()
    assert [outcome_of(thread) for thread in threads] == [1, 1, 1]
    assert function(1) == 1
    assert len(gate.calls) == 3


def test_an_error_reaches_all_who_wait() -> None:
    """And is not kept; its traceback does not grow with every follower."""

    def fail(x):
        raise LookupError(x)

    gate = Gate(fail)
    function = cached(gate)
    threads = [start(function, 1) for _ in range(8)]
    await_followers(function, 8)
    gate.open.set()
    errors = [outcome_of(thread) for thread in threads]
    assert {type(error) for error in errors} == {LookupError}
    assert len(gate.calls) == 1
    length, traceback = 0, errors[0].__traceback__
    while traceback is not None:
        length, traceback = length + 1, traceback.tb_next
    assert length < 8
    with pytest.raises(LookupError):
        function(1)
    assert len(gate.calls) == 2


def test_who_waits_for_an_interrupted_caller_calls_instead() -> None:
    """KeyboardInterrupt and SystemExit are the leader's own."""

    def leave(x):
        if len(gate.calls) == 1:
            raise SystemExit
        return x

    gate = Gate(leave)
    function = cached(gate)
    first = start(function, 1)
    assert gate.entered.acquire(timeout=30)
    others = [start(function, 1) for _ in range(4)]
    await_followers(function, 5)
    gate.open.set()
    assert isinstance(outcome_of(first), SystemExit)
    assert [outcome_of(thread) for thread in others] == [1] * 4
    assert len(gate.calls) == 2


@pytest.mark.parametrize("write", ["invalidate", "set", "cache_clear", "refresh"])
def test_a_write_wins_over_the_call_under_way(write) -> None:
    """The caller gets what the function returned; what is kept is what the write says."""
    gate = Gate(lambda x: f"load {len(gate.calls)}")
    function = cached(gate)
    thread = start(function, 1)
    assert gate.entered.acquire(timeout=30)
    if write == "refresh":
        other = start(function.refresh, 1)
        assert gate.entered.acquire(timeout=30)
        gate.open.set()
        assert outcome_of(other) == "load 2"
    else:
        getattr(function, write)(*{"invalidate": (1,), "set": ("given", 1)}.get(write, ()))
    gate.open.set()
    outcome_of(thread)
    kept = {"set": "given", "refresh": "load 2"}.get(write, "nothing")
    assert function.get(1, default="nothing") == kept


@pytest.mark.parametrize("write", ["invalidate", "cache_clear"])
def test_who_comes_after_a_write_does_not_wait_for_what_was_before(write) -> None:
    """A call that began before the write is not shared with those after it."""
    gate = Gate(lambda x: len(gate.calls))
    function = cached(gate)
    before = start(function, 1)
    assert gate.entered.acquire(timeout=30)
    getattr(function, write)(*(1,) if write == "invalidate" else ())
    after = start(function, 1)
    assert gate.entered.acquire(timeout=30)
    gate.open.set()
    outcome_of(before), outcome_of(after)
    assert len(gate.calls) == 2


def test_a_function_may_call_itself(together) -> None:
    """Fault 19: with other arguments, and with its own."""

    @cached(maxsize=None)
    def fibonacci(n):
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    assert set(together(fibonacci, *[90] * 8)) == {2880067194370816120}
    assert fibonacci.cache_info().currsize == 91

    @cached
    def insists(x):
        depth.append(x)
        return insists(x) if len(depth) < 5 else len(depth)

    depth: list[int] = []
    assert insists(1) == 5
    assert insists(1) == 5
    assert len(depth) == 5


@pytest.mark.parametrize("functions", [1, 2])
def test_callers_that_wait_for_each_other_all_end(functions) -> None:
    """Fault 19: a needs b and b needs a, in two threads, of one function or of two."""
    barrier = threading.Barrier(2)

    def compute(x, depth=0):
        if not nested.get(threading.get_ident()):
            nested[threading.get_ident()] = True
            barrier.wait(30)
            return x + other[x](("b", "a")[x == "b"])
        return x

    nested: dict[int, bool] = {}
    first, second = cached(compute), cached(compute)
    if functions == 1:
        second = first
    other = {"a": second, "b": first}
    threads = [start(first, "a"), start(second, "b")]
    assert {outcome_of(thread) for thread in threads} <= {"ab", "ba", "aba", "bab", "a", "b"}
    nested[threading.get_ident()] = True
    for function in (first, second):
        assert function("a")[0] == "a"


@pytest.mark.usefixtures("uncollected")
def test_recursion_is_as_deep_as_of_a_plain_function_with_a_little_taken() -> None:
    """A miss leaves no frame of ours on Python's stack while the function runs."""

    @cached(maxsize=None)
    def count(n):
        nonlocal deepest
        deepest = n
        return count(n + 1)

    deepest = 0
    with pytest.raises(RecursionError):
        count(0)
    assert deepest > 0.6 * sys.getrecursionlimit()
    assert count.cache_info().currsize == 0


class Key:
    """A key with a temper."""

    def __init__(self, name, act):
        self.name, self.act = name, act

    def __hash__(self):
        return 7

    def __eq__(self, other):
        self.act()
        return self.name == other.name


def test_keys_that_raise_while_others_wait_leave_nobody_waiting() -> None:
    """Fault 17: a comparison that raises is the business of who compares."""
    angry = threading.Event()

    def act():
        if angry.is_set():
            raise ZeroDivisionError

    gate = Gate(lambda key: key.name)
    function = cached(gate)
    first = start(function, Key("a", act))
    other = start(function, Key("b", act))
    for _ in range(2):
        assert gate.entered.acquire(timeout=30)
    followers = [start(function, Key("a", act)), start(function, Key("b", act))]
    await_followers(function, 4)
    angry.set()
    gate.open.set()
    for thread in (first, other, *followers):
        assert outcome_of(thread) in ("a", "b") or isinstance(thread.outcome, ZeroDivisionError)
    angry.clear()
    assert function(Key("a", act)) == "a"
    function.cache.check()


def test_a_key_that_calls_the_function_while_it_is_compared_does_not_wait() -> None:
    """Fault 17: whoever compares keys may be what the other caller waits for."""
    gate = Gate()
    function = cached(gate)
    slow = start(function, "slow")
    assert gate.entered.acquire(timeout=30)
    acts: list = []

    def act():
        if acts:
            acts.pop()()

    other = start(function, Key("a", act))
    assert gate.entered.acquire(timeout=30)
    acts.append(lambda: function("slow"))
    third = start(function, Key("b", act))
    assert gate.entered.acquire(timeout=30)
    assert isinstance(gate.calls[-1], str)  # "slow", called once more, by the comparison
    gate.open.set()
    for thread in (slow, other, third):
        outcome_of(thread)
    assert [x for x in gate.calls if isinstance(x, str)] == ["slow", "slow"]


def test_destructors_run_when_no_lock_is_held() -> None:
    """A value that goes may wait for a thread that is in a call itself."""
    users_lock = threading.Lock()
    holds, asked = threading.Event(), threading.Event()

    class Value:
        def __del__(self):
            asked.set()
            with users_lock:
                pass

    function = cached(maxsize=1)(lambda x: Value())
    function(1)

    def call_with_the_lock():
        with users_lock:
            holds.set()
            assert asked.wait(30)
            return len(other("x"))

    other = cached(lambda x: x)
    thread = start(call_with_the_lock)
    assert holds.wait(30)
    evicting = start(function, 2)
    assert outcome_of(thread) == 1
    outcome_of(evicting)
    replacing = start(function.set, None, 2)
    outcome_of(replacing)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_threads_it_does_not_have() -> None:
    """What others had under way when the process forked, the child calls itself."""
    gate = Gate()
    function = cached(gate)
    thread = start(function, 1)
    assert gate.entered.acquire(timeout=30)

    def child(queue):
        gate.open.set()
        queue.put(function(1))

    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    process.join(30)
    assert process.exitcode == 0
    assert queue.get() == 1
    gate.open.set()
    assert outcome_of(thread) == 1
