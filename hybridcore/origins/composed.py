"""What origins made of origins share: members by name, each with a breaker of its own."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from hybridcore.breaker import Breaker
from hybridcore.errors import ConfigurationError
from hybridcore.origins.base import Origin
from hybridcore.origins.guarded import Guard
from hybridcore.origins.threads import Outcome, in_background, making_room, unwrap
from hybridcore.origins.usage import total
from hybridcore.steps import arun_steps, run_steps
from hybridcore.types import Loaded

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Future

    from hybridcore.stats import GuardStats, OriginUsage
    from hybridcore.types import Validators

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

DEFAULT_BREAKER = Breaker()


class Ask(NamedTuple):
    """A call of a member that is to be made."""

    origin: Origin[Any, Any]
    method: str
    args: tuple[Any, ...]


Steps = Generator[list[Ask], list[Any], T]
"""Yields calls that are made at the same time, and is sent what they returned or raised."""


class Composed(Origin[K, V]):
    """An origin of several; closing it closes them all."""

    def __init__(self, origins: Mapping[str, Origin[K, V]], breaker: Breaker | None) -> None:
        for name, origin in origins.items():
            if not isinstance(origin, Origin):
                raise ConfigurationError(
                    f"{type(self).__name__} is made of origins, got {type(origin).__name__} as "
                    f"{name!r}; a function is one as CallableOrigin(function), a HybridCache as "
                    "CacheOrigin(cache)"
                )
        if not origins:
            raise ConfigurationError(f"{type(self).__name__} is expected to have origins")
        self._origins = dict(origins)
        self._guards: dict[str, Guard] = {}
        self._members = dict(origins)
        if breaker is not None:
            self._guards = {name: Guard(breaker, name=name) for name in origins}
            self._members = {
                name: guard.around(origins[name]) for name, guard in self._guards.items()
            }

    @property
    def takes_entries(self) -> bool:  # type: ignore[override]  # as its members say
        return any(origin.takes_entries for origin in self._origins.values())

    def does_many(self, method: str) -> bool:
        return any(origin.does_many(method) for origin in self._origins.values())

    @property
    def compares(self) -> bool:
        return any(origin.compares for origin in self._origins.values())

    def started_from(self, key: K, held: Validators | None) -> None:
        for origin in self._origins.values():
            origin.started_from(key, held)

    def usage(self) -> OriginUsage | None:
        """What all of them counted, and each by its name in ``parts``."""
        return total({name: origin.usage() for name, origin in self._origins.items()})

    def guards(self) -> dict[str, GuardStats]:
        """What the breaker of each counted, by name."""
        return {name: guard.stats() for name, guard in self._guards.items()}

    def close(self) -> None:
        for outcome in [_tried(origin.close) for origin in self._origins.values()]:
            if isinstance(outcome, Exception):
                raise outcome

    async def aclose(self) -> None:
        for outcome in [await _atried(origin.aclose) for origin in self._origins.values()]:
            if isinstance(outcome, Exception):
                raise outcome

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._origins)})"

    # The two faces: they ask members at the same time, and decide nothing.

    def _run(self, steps: Steps[T]) -> T:
        return run_steps(steps, _at_once)

    async def _arun(self, steps: Steps[T]) -> T:
        return await arun_steps(steps, _aat_once)


def taken(origin: Origin[Any, Any], value: Any) -> Any:
    """The value as the origin takes it, see `Origin.takes_entries`."""
    return value.value if isinstance(value, Loaded) and not origin.takes_entries else value


def _at_once(asks: list[Ask]) -> list[Any]:
    """Make the calls, the last one in this thread and the others in workers."""
    futures: list[Future[Outcome[Any]]] = [
        in_background(_tried, getattr(ask.origin, ask.method), *ask.args) for ask in asks[:-1]
    ]
    outcomes = [_tried(getattr(ask.origin, ask.method), *ask.args) for ask in asks[-1:]]
    with making_room():
        return [unwrap(future.result()) for future in futures] + outcomes


async def _aat_once(asks: list[Ask]) -> list[Any]:
    import asyncio

    calls = (_atried(getattr(ask.origin, f"a{ask.method}"), *ask.args) for ask in asks)
    return list(await asyncio.gather(*calls))


def _tried(function: Any, *args: Any) -> Any:
    try:
        return function(*args)
    except Exception as error:
        return error


async def _atried(function: Any, *args: Any) -> Any:
    try:
        return await function(*args)
    except Exception as error:
        return error
