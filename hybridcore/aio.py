"""The asyncio face of a hybrid cache: same names, same engine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hybridcore._native import AsyncFront
from hybridcore.config import UNSET, EntryOptions, for_call
from hybridcore.engine import Call, Effect, Engine, Pause, Spawn, Steps, Wait
from hybridcore.flights import MISSING, leading
from hybridcore.invalidation import checked_tags
from hybridcore.origins import CallableOrigin
from hybridcore.steps import arun_on
from hybridcore.units import seconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from typing_extensions import Self

    from hybridcore._native import Flight
    from hybridcore.stats.health import Health, Limits
    from hybridcore.types import Entry, Refreshed
    from hybridcore.units import Duration

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class AsyncFace(AsyncFront, Generic[K, V]):
    """``store.aio``: the methods of `HybridCache` to be awaited.

    May be used from several event loops, and beside the blocking face. A caller that is cancelled
    never takes the load away from the others: it goes on and is kept.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.window)
        self._engine = engine
        self._tasks: set[asyncio.Task[Any]] = set()

    async def _missed(self, key: K, default: Any) -> Any:
        return await self._carry_out(self._engine.read(key, default))

    async def _led(self, flight: Flight, default: Any, looked_up: bool) -> Any:
        return await self._carry_out(self._engine.go_on(flight, default, looked_up))

    def _settled(self, flight: Flight, answer: Any, took: float) -> None:
        self._engine.settle(flight, answer, took)
        self._engine.record_lookup(flight, took)

    async def _load_on(self, flight: Flight, default: Any, rest: Awaitable[Any]) -> Any:
        """Go on with a load of the straight way that has to wait."""
        straight = self._engine.straight
        assert straight is not None
        try:
            failure: BaseException | None = None
            try:
                answer = await rest
            except BaseException as error:
                answer = failure = error
            straight.left(flight, failure)
            if failure is not None and not isinstance(failure, Exception):
                raise failure
            if failure is not None or not straight.land(flight, answer):
                self._settled(flight, answer, straight.took(flight))
        finally:
            straight.part(flight)
        if flight.error is not None:
            raise flight.error
        return default if flight.value is MISSING else flight.value

    async def _wait_for(self, task: asyncio.Task[T]) -> T:
        """Wait for a task, which goes on if we are cancelled."""
        self._kept(task)
        return await asyncio.shield(task)

    async def _waiting(self, awaitable: Awaitable[T]) -> T:
        return await awaitable

    async def lookup(
        self, key: K, default: Any = None, *, options: EntryOptions | None = None
    ) -> Any:
        """Twin of `HybridCache.lookup`."""
        memory = self._engine.answering_memory()
        if memory is not None:
            value = memory.get(key, MISSING)
            if value is not MISSING:
                return value
        return await self._carry_out(self._engine.read(key, default, None, options))

    async def get_many(
        self, keys: Iterable[K], *, options: EntryOptions | None = None
    ) -> dict[K, V]:
        """Twin of `HybridCache.get_many`."""
        return await self._carry_out(self._engine.read_many(keys, options))

    async def refresh_many(
        self,
        keys: Iterable[K],
        *,
        unless_left: Duration | None = None,
        ask: bool = True,
        loader: Callable[[K], V | Awaitable[V]] | None = None,
        options: EntryOptions | None = None,
    ) -> Refreshed:
        """Twin of `HybridCache.refresh_many`."""
        origin: Any = None if loader is None else CallableOrigin(loader)
        left = None if unless_left is None else seconds(unless_left)
        return await self._carry_out(self._engine.refresh(keys, left, origin, options, ask=ask))

    async def flush(self, timeout: Duration | None = None) -> bool:
        """Twin of `HybridCache.flush`."""
        queue = self._engine.queue
        return queue is None or await queue.aflush(None if timeout is None else seconds(timeout))

    async def get_or_load(
        self,
        key: K,
        loader: Callable[[K], V | Awaitable[V]],
        *,
        ttl: Duration | None = UNSET,
        options: EntryOptions | None = None,
    ) -> V:
        """Twin of `HybridCache.get_or_load`."""
        engine = self._engine
        memory = engine.answering_memory()
        if memory is not None:
            value = memory.get(key, MISSING)
            if value is not MISSING:
                return value  # type: ignore[no-any-return]
        steps = engine.read(key, MISSING, CallableOrigin(loader), for_call(ttl, options))
        return engine.require(key, await self._carry_out(steps))  # type: ignore[no-any-return]

    async def put(
        self,
        key: K,
        value: V,
        *,
        ttl: Duration | None = UNSET,
        options: EntryOptions | None = None,
        cost: float | None = None,
        importance: float = 1.0,
        if_version: int | None = None,
        version: int | None = None,
        tags: Iterable[str] = (),
        depends_on: Iterable[Any] = (),
    ) -> None:
        """Twin of `HybridCache.put`."""
        steps = self._engine.write(
            key,
            value,
            for_call(ttl, options),
            cost=cost,
            importance=importance,
            if_version=if_version,
            version=version,
            tags=checked_tags(tags),
            depends_on=tuple(depends_on),
        )
        await self._carry_out(steps)

    async def entry(self, key: K) -> Entry[V] | None:
        """Twin of `HybridCache.entry`."""
        return self._engine.entry(key)

    async def peek(self, key: K, default: Any = None) -> Any:
        """Twin of `HybridCache.peek`."""
        entry = self._engine.entry(key)
        return default if entry is None or entry.stale else entry.value

    async def health(self, limits: Limits | None = None) -> Health:
        """Twin of `HybridCache.health`."""
        return self._engine.health(limits)

    async def delete(self, key: K, *, options: EntryOptions | None = None) -> bool:
        """Twin of `HybridCache.delete`."""
        return await self._carry_out(self._engine.remove(key, options))

    async def contains(self, key: K) -> bool:
        """Twin of `HybridCache.contains`."""
        return self._engine.contains(key)

    async def invalidate(
        self, *keys: K, tags: Iterable[str] = (), hard: bool = True, cause: str = "invalidate"
    ) -> None:
        """Twin of `HybridCache.invalidate`."""
        self._engine.invalidate(keys, checked_tags(tags), hard=hard, cause=cause)

    async def expire(self, key: K) -> None:
        """Twin of `HybridCache.expire`."""
        self._engine.invalidate((key,), (), hard=False, cause="expire")

    async def clear(self, *, soft: bool = False) -> None:
        """Twin of `HybridCache.clear`."""
        self._engine.clear(soft=soft)

    async def clear_from(self, prefix: tuple[Any, ...]) -> None:
        """Twin of `HybridCache.clear_from`."""
        self._engine.clear_from(prefix)

    async def aclose(self) -> None:
        """Twin of `HybridCache.close`."""
        engine = self._engine
        if not engine.closed:
            if engine.queue is not None:
                await engine.queue.aclose()
            try:
                engine.close()
            finally:
                if engine.origin is not None:
                    await engine.origin.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def _carry_out(self, steps: Steps[T]) -> T:
        """Run an operation of the engine; from its first call of the origin on, it outlives us."""
        try:
            effect = next(steps)
            while not isinstance(effect, Call):
                if isinstance(effect, Wait):
                    await _wait_for(effect)
                elif isinstance(effect, Pause):
                    await asyncio.sleep(effect.seconds)
                else:
                    self._spawn(effect)
                effect = next(steps)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        except BaseException:
            steps.close()
            raise
        return await self._apart(arun_on(effect, steps, self._perform))

    async def _apart(self, work: Coroutine[Any, Any, T]) -> T:
        """Await work that goes on if we are cancelled; its first step is taken at once."""
        begun = self._begin(work)
        if begun is None:
            return await self._wait_for(asyncio.ensure_future(work))
        has_ended, outcome = begun
        return outcome if has_ended else await self._wait_for(outcome)

    def _spawn(self, spawn: Spawn) -> None:
        """Carry out in a task what nobody waits for."""
        for flight in spawn.flights:
            flight.is_abandoned = asyncio.get_running_loop().is_closed
        self._kept(asyncio.ensure_future(self._carry_out(spawn.steps)))

    def _kept(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # its caller may have gone; then nobody else asks

    async def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Wait):
            return await _wait_for(effect)
        if isinstance(effect, Spawn):
            return self._spawn(effect)
        if isinstance(effect, Pause):
            return await asyncio.sleep(effect.seconds)
        return await _call(effect)


AsyncFace._own_get()


async def _wait_for(wait: Wait) -> None:
    assert wait.flight.future is not None
    future = asyncio.wrap_future(wait.flight.future)
    if wait.patience is None:
        await future
    else:
        await asyncio.wait({future}, timeout=wait.patience)


async def _call(call: Call) -> Any:
    for flight in call.flights:
        flight.is_abandoned = asyncio.get_running_loop().is_closed
    with leading(call.flights):
        return await getattr(call.origin, f"a{call.method}")(*call.args)
