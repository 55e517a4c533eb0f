"""`run_steps` and `arun_steps`: run a generator that asks for each thing it waits for, to its end.

What decides is written once, as a generator of steps. Who runs it performs each step, blocking or
awaiting, and sends back what came of it, or throws what was raised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

S = TypeVar("S")
T = TypeVar("T")


def run_steps(steps: Generator[S, Any, T], perform: Callable[[S], Any]) -> T:
    """Perform each step; returns what the generator returns."""
    try:
        step = next(steps)
        while True:
            try:
                outcome = perform(step)
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(outcome)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    finally:
        steps.close()


async def arun_steps(steps: Generator[S, Any, T], perform: Callable[[S], Awaitable[Any]]) -> T:
    """Twin of `run_steps`."""
    try:
        step = next(steps)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    return await arun_on(step, steps, perform)


async def arun_on(
    step: S, steps: Generator[S, Any, T], perform: Callable[[S], Awaitable[Any]]
) -> T:
    """Go on with steps of which the first was asked for."""
    try:
        while True:
            try:
                outcome = await perform(step)
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(outcome)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    finally:
        steps.close()
