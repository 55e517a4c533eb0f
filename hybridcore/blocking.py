"""Operations of the engine carried out for callers that block."""

from __future__ import annotations

from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from threading import get_ident
from time import sleep
from typing import TypeVar

from hybridcore.engine import Pause, Spawn, Steps, Wait
from hybridcore.flights import WaitsForItselfError, leading
from hybridcore.origins.threads import in_background, making_room, on_background_loop

T = TypeVar("T")


def carry_out(steps: Steps[T]) -> T:
    """Run an operation of the engine to its end, blocking where it waits."""
    try:
        effect = next(steps)
        while True:
            outcome = None
            try:
                if isinstance(effect, Wait):
                    _wait_for(effect)
                elif isinstance(effect, Spawn):
                    in_background(carry_out, effect.steps)
                elif isinstance(effect, Pause):
                    with making_room():
                        sleep(effect.seconds)
                else:
                    with leading(effect.flights):
                        outcome = getattr(effect.origin, effect.method)(*effect.args)
            except BaseException as error:
                effect = steps.throw(error)
            else:
                effect = steps.send(outcome)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    finally:
        steps.close()


def _wait_for(wait: Wait) -> None:
    flight = wait.flight
    assert flight.future is not None
    if flight.future.done():
        return
    if flight.thread == get_ident() or on_background_loop():
        raise WaitsForItselfError
    with making_room(), suppress(FutureTimeoutError):
        flight.future.result(wait.patience)
