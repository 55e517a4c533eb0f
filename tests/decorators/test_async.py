"""`cached` on coroutine functions."""

from __future__ import annotations

import asyncio
import collections.abc
import gc
import inspect
import threading
import weakref
from random import Random

import pytest

from hybridcore import cached


class Source:
    """A coroutine function that answers when it is let go, and counts."""

    def __init__(self, outcome=lambda x: x):
        self.calls = []
        self.open = asyncio.Event()
        self.outcome = outcome

    async def __call__(self, x):
        self.calls.append(x)
        await self.open.wait()
        return self.outcome(x)


def sourced(source, **options):
    """A cached coroutine function that asks the source."""

    @cached(**options)
    async def function(x):
        return await source(x)

    return function


async def settle():
    """Let everybody go as far as they can."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("result", [None, 1, "a", (), (1, 2), [1], ValueError("a value")])
def test_a_hit_is_awaited_like_a_miss(result) -> None:
    """Whatever the result is; alone, in a task, in gather, under a timeout."""

    @cached
    async def function(x):
        return result

    async def main():
        for _ in range(2):
            assert await function(1) is result
            assert await asyncio.create_task(function(1)) is result
            assert await asyncio.gather(function(1), function(1)) == [result] * 2
            assert await asyncio.wait_for(function(1), 5) is result
        assert function.cache_info() == (9, 1, 128, 1)

    asyncio.run(main())
    assert asyncio.run(function(1)) is result


def test_the_coroutine_of_a_hit_is_one() -> None:
    """It has the methods of a coroutine and can be awaited once."""

    @cached
    async def function(x):
        return x

    asyncio.run(function(1))
    coroutine = function(1)
    assert isinstance(coroutine, collections.abc.Coroutine)
    assert asyncio.iscoroutine(coroutine)
    assert inspect.isawaitable(coroutine)
    with pytest.raises(StopIteration) as done:
        coroutine.send(None)
    assert done.value.value == 1
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        coroutine.send(None)
    closed = function(1)
    closed.close()
    with pytest.raises(RuntimeError):
        next(closed)
    for thrown in (LookupError, LookupError("why")):
        with pytest.raises(LookupError):
            function(1).throw(thrown)


def test_it_is_known_for_a_coroutine_function() -> None:
    """Frameworks ask before they call."""

    @cached(ttl=5)
    async def function(x):
        return x

    class Owner:
        @cached
        async def method(self):
            return self

    assert asyncio.iscoroutinefunction(function)
    assert asyncio.iscoroutinefunction(Owner().method)
    if hasattr(inspect, "markcoroutinefunction"):
        assert inspect.iscoroutinefunction(function)


def test_10_000_tasks_miss_one_key_and_call_once() -> None:
    """All get what the one call returned."""

    async def main():
        source = Source(lambda x: object())
        function = sourced(source)
        tasks = [asyncio.create_task(function(1)) for _ in range(10_000)]
        await settle()
        source.open.set()
        assert len(set(map(id, await asyncio.gather(*tasks)))) == 1
        assert source.calls == [1]

    asyncio.run(main())


def test_coroutines_made_before_the_first_is_awaited_call_once() -> None:
    """A miss is one when it is called; what others bring until it is awaited counts."""

    async def main():
        source = Source()
        source.open.set()
        function = sourced(source)
        assert await asyncio.gather(*[function(1) for _ in range(5)]) == [1] * 5
        coroutines = [function(2) for _ in range(5)]
        assert [await coroutine for coroutine in coroutines] == [2] * 5
        assert source.calls == [1, 2]

    asyncio.run(main())


def test_event_loops_in_several_threads_share_a_call(together) -> None:
    """One flight across loops."""
    calls = []
    entered, release = threading.Event(), threading.Event()

    @cached
    async def function(x):
        calls.append(x)
        entered.set()
        while not release.is_set():
            await asyncio.sleep(0.001)
        return x

    def let_go(_):
        entered.wait(30)
        while function.cache_info().misses < 4:
            pass
        release.set()

    def run(x):
        return let_go(x) if x is None else asyncio.run(function(x))

    assert together(run, 1, 1, 1, 1, None) == [1, 1, 1, 1, None]
    assert calls == [1]


def test_a_loop_that_ends_leaves_its_load_to_the_others(together) -> None:
    """Its tasks are cancelled; who waits in another loop calls instead."""
    calls = []
    first_in, first_out = threading.Event(), threading.Event()

    @cached
    async def function(x):
        calls.append(x)
        if len(calls) == 1:
            first_in.set()
            await asyncio.sleep(3600)
        return x

    async def leave():
        task = asyncio.create_task(function(1))
        while function.cache_info().misses < 2:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        task.cancel()

    def run(who):
        if who == "leader":
            asyncio.run(leave())
            first_out.set()
            return None
        first_in.wait(30)
        return asyncio.run(asyncio.wait_for(function(1), 30))

    assert together(run, "leader", "follower") == [None, 1]
    assert len(calls) == 2


def test_an_error_reaches_all_who_wait() -> None:
    """And is not kept."""

    def fail(x):
        raise LookupError(x)

    async def main():
        source = Source(fail)
        function = sourced(source)
        tasks = [asyncio.create_task(function(1)) for _ in range(100)]
        await settle()
        source.open.set()
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(error) for error in errors} == {LookupError}
        assert len(source.calls) == 1
        with pytest.raises(LookupError):
            await function(1)
        assert len(source.calls) == 2

    asyncio.run(main())


def test_an_error_holds_nothing_once_it_is_forgotten() -> None:
    """What a failed call was given goes with its error, without the garbage collector."""

    class Argument:
        pass

    async def main():
        source = Source(lambda x: 1 / 0)
        function = sourced(source)
        argument = Argument()
        gone = weakref.ref(argument)
        tasks = [asyncio.create_task(function(argument)) for _ in range(3)]
        await settle()
        source.open.set()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(outcome, ZeroDivisionError)
        source.calls.clear()
        del argument, tasks, outcome
        await settle()
        assert gone() is None

    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()


def test_an_error_is_kept_for_a_time_of_its_own(clock) -> None:
    """``error_ttl``: raised where the call is awaited."""
    calls = []

    @cached(error_ttl=5, timer=clock)
    async def fails(x):
        calls.append(x)
        raise LookupError(x)

    async def main():
        for _ in range(3):
            coroutine = fails(1)
            with pytest.raises(LookupError):
                await coroutine
        assert len(calls) == 1
        clock.advance(5)
        with pytest.raises(LookupError):
            await fails(1)
        assert len(calls) == 2

    asyncio.run(main())


@pytest.mark.parametrize("who", ["leader", "followers", "all"])
def test_a_cancelled_caller_takes_nothing_from_the_others(who) -> None:
    """The call goes on, and its result is kept even if nobody is left."""

    async def main():
        source = Source()
        function = sourced(source)
        tasks = [asyncio.create_task(function(1)) for _ in range(3)]
        await settle()
        cancelled = {"leader": tasks[:1], "followers": tasks[1:], "all": tasks}[who]
        for task in cancelled:
            task.cancel()
        await settle()
        source.open.set()
        for task in tasks:
            if task in cancelled:
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                assert await task == 1
        await settle()
        assert function.get(1) == 1
        assert source.calls == [1]

    asyncio.run(main())


def test_a_storm_of_cancellations(recwarn) -> None:
    """1000 rounds, half of the tasks cancelled: nobody hangs, no warning, no lost result."""
    rng = Random(1)

    @cached(maxsize=None)
    async def function(x):
        for _ in range(rng.randrange(3)):
            await asyncio.sleep(0)
        if x % 7 == 0:
            raise LookupError(x)
        return x

    async def main():
        problems = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: problems.append(what))
        for i in range(1000):
            tasks = [asyncio.create_task(function(i)) for _ in range(8)]
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
            chosen = rng.sample(tasks, 4)
            for task in chosen:
                task.cancel()
            outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
            for task, outcome in zip(tasks, outcomes, strict=True):
                if isinstance(outcome, asyncio.CancelledError):
                    assert task in chosen
                else:
                    assert outcome == i or (i % 7 == 0 and isinstance(outcome, LookupError))
        await settle()
        gc.collect()
        assert problems == []
        assert [function.get(i) for i in range(1000) if i % 7] == [i for i in range(1000) if i % 7]

    asyncio.run(main())
    gc.collect()
    assert list(recwarn) == []


def test_a_function_may_await_itself() -> None:
    """Fault 19: with other arguments, with its own, and through tasks."""

    @cached(maxsize=None)
    async def fibonacci(n):
        return n if n < 2 else sum(await asyncio.gather(fibonacci(n - 1), fibonacci(n - 2)))

    @cached
    async def insists(x):
        depth.append(x)
        return await insists(x) if len(depth) < 5 else len(depth)

    depth: list[int] = []

    async def main():
        assert await fibonacci(40) == 102334155
        assert await asyncio.wait_for(insists(1), 30) == 5
        assert await insists(1) == 5

    asyncio.run(main())


def test_a_function_that_cancels_itself() -> None:
    """Fault 19: its caller is told; who waited calls, and is told in turn."""
    calls = []

    @cached
    async def function(x):
        calls.append(x)
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    async def main():
        tasks = [asyncio.create_task(function(1)) for _ in range(3)]
        outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
        assert {type(outcome) for outcome in outcomes} == {asyncio.CancelledError}

    asyncio.run(main())
    assert len(calls) == 3


@pytest.mark.parametrize("write", ["invalidate", "set", "cache_clear", "refresh"])
def test_a_write_wins_over_the_call_under_way(write) -> None:
    """The caller gets what the function returned; what is kept is what the write says."""

    async def main():
        source = Source(lambda x: f"load {len(source.calls)}")
        function = sourced(source)
        task = asyncio.create_task(function(1))
        await settle()
        if write == "refresh":
            other = asyncio.create_task(function.refresh(1))
            await settle()
            assert len(source.calls) == 2
            source.open.set()
            await other
        else:
            getattr(function, write)(*{"invalidate": (1,), "set": ("given", 1)}.get(write, ()))
        source.open.set()
        await task
        kept = {"set": "given", "refresh": "load 2"}.get(write, "nothing")
        assert function.get(1, default="nothing") == kept

    asyncio.run(main())


def test_without_single_flight_all_call() -> None:
    """``single_flight=False``."""

    async def main():
        source = Source()
        function = sourced(source, single_flight=False)
        tasks = [asyncio.create_task(function(1)) for _ in range(3)]
        await settle()
        source.open.set()
        assert await asyncio.gather(*tasks) == [1] * 3
        assert await function(1) == 1
        assert len(source.calls) == 3

    asyncio.run(main())
