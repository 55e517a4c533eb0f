"""What an operation of the engine asks of the face that carries it out."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from hybridcore.flights import Flight

T = TypeVar("T")


class Call(NamedTuple):
    """Effect: call a method of the origin (its ``a`` twin under asyncio), within `leading`."""

    origin: Any
    """An `Origin`, or the `WriteSink` in front of one."""
    method: str
    args: tuple[Any, ...]
    flights: tuple[Flight, ...] = ()


class Wait(NamedTuple):
    """Effect: wait until ``flight.future`` is done; what became of it is on the flight.

    With ``patience`` no longer than so many seconds. Who blocks must not do so where the flight
    runs: it throws `WaitsForItselfError` instead.
    """

    flight: Flight
    patience: float | None = None


class Spawn(NamedTuple):
    """Effect: have another operation carried out in the background."""

    steps: Generator[Any, Any, Any]
    flights: tuple[Flight, ...]


class Pause(NamedTuple):
    """Effect: let so many seconds pass."""

    seconds: float


Effect = Call | Wait | Spawn | Pause
Steps = Generator[Effect, Any, T]
"""An operation under way: yields effects, is sent their outcomes, returns a T."""
