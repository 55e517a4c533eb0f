"""Operations of the engine carried out for callers that block."""

from __future__ import annotations

from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from threading import get_ident
from time import sleep
from typing import Any, TypeVar

from hybridcore.engine import Effect, Pause, Spawn, Steps, Wait
from hybridcore.flights import WaitsForItselfError, leading
from hybridcore.origins.threads import in_background, making_room, on_background_loop
from hybridcore.steps import run_steps

T = TypeVar("T")


def carry_out(steps: Steps[T]) -> T:
    """Run an operation of the engine to its end, blocking where it waits."""
    return run_steps(steps, _perform)


def _perform(effect: Effect) -> Any:
    if isinstance(effect, Wait):
        return _wait_for(effect)
    if isinstance(effect, Spawn):
        return in_background(carry_out, effect.steps)
    if isinstance(effect, Pause):
        with making_room():
            return sleep(effect.seconds)
    with leading(effect.flights):
        return getattr(effect.origin, effect.method)(*effect.args)


def _wait_for(wait: Wait) -> None:
    flight = wait.flight
    assert flight.future is not None
    if flight.future.done():
        return
    if flight.thread == get_ident() or on_background_loop():
        raise WaitsForItselfError
    with making_room(), suppress(FutureTimeoutError):
        flight.future.result(wait.patience)
