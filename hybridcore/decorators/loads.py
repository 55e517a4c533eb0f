"""The misses of `cached`: who calls the function, who waits for them, and what is kept."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any

from hybridcore._native.outcome import Call, Raised
from hybridcore.decorators.bound import Bound
from hybridcore.errors import ValueTooLargeError
from hybridcore.flights import MISSING, Flight, Flights, WaitsForItselfError, leading

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine
    from types import TracebackType

    from hybridcore._native import MemoryStore
    from hybridcore._native.function import CachedFunction
    from hybridcore.units import Duration

_flights = Flights(locks=1)  # of all functions, so that one that waits for another is known
_leaving: list[tuple[Any, Any]] = []


def _start_anew() -> None:
    global _flights
    _flights = Flights(locks=1)


def _is_locked_here() -> bool:
    """Whether this thread holds the lock; then it runs code of a key that is compared."""
    return _flights.lock(0).is_mine


def keep_while_locked(key: Any, value: Any, cause: object) -> None:
    """The ``on_evict`` of the caches: no destructor is to run under the lock."""
    if _flights.lock(0).is_mine:
        _leaving.append((key, value))


class _locked:
    """While a cache is changed. What leaves it goes when the lock is no longer held."""

    __slots__ = ("_lock",)

    def __init__(self, call: Call) -> None:
        self._lock = _flights.lock(call)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        left = _leaving.copy()
        _leaving.clear()
        self._lock.release()
        del left


if hasattr(os, "register_at_fork"):  # the threads that lead, or hold a lock, are not in the child
    os.register_at_fork(after_in_child=_start_anew)


class _Load(Flight):
    """One call of the function, for which others may wait."""

    __slots__ = ("context", "traceback")

    key: Call

    def __init__(self, call: Call) -> None:
        super().__init__(call, None)
        self.context: leading | None = None
        self.traceback: TracebackType | None = None

    def enter(self) -> None:
        self.context = leading((self,))
        self.context.__enter__()

    def leave(self) -> None:
        if self.context is not None:
            self.context.__exit__()
            self.context = None


class Loads:
    """The calls of one function that are under way, and the rules for what they bring."""

    def __init__(
        self,
        ttl: Callable[[Any], Duration | None] | None,
        error_ttl: Duration | Callable[[Exception], Duration | None] | None,
        condition: Callable[[Any], object] | None,
        getsizeof: Callable[[Any], int] | None,
        single_flight: bool,
    ) -> None:
        self._ttl = ttl
        self._error_ttl = error_ttl
        self._condition = condition
        self._getsizeof = getsizeof
        self._single_flight = single_flight
        self._era = object()  # what began in a former one is not kept
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- a call, step by step, so that the function itself is called from native code -----------

    def begin(
        self, store: MemoryStore[Any, Any], key: Any, hash_: int, anew: bool
    ) -> _Load | tuple[Any] | None:
        """Return a load to lead, or the result of another caller in a tuple.

        None: who waited for the other one would wait for itself; call, and keep nothing.
        """
        load = _Load(Call(store, self._era, key, hash_))
        if anew:
            self._supersede(load.key)
        while self._single_flight and (other := _flights.join(load)) is not None:
            try:
                with _flights.waiting(other):
                    _wait_for(other)
                if not other.lost:
                    return (_outcome(other),)
            except WaitsForItselfError:
                return None
            finally:
                del other  # or its error would hold itself, by its traceback
        try:
            if not anew and (found := _meanwhile(load)) is not MISSING:
                return (found,)
            load.enter()
        except BaseException:
            _flights.end_lost(load)
            raise
        return load

    def landed(self, load: _Load, value: Any) -> None:
        """The function returned."""
        load.leave()
        try:
            if self._condition is None or self._condition(value):
                self._keep(load, value, self._ttl(value) if self._ttl is not None else None)
            _flights.end(load, value)
        except Exception as error:
            _flights.end(load, error=error)
            raise
        finally:
            if not load.ended:
                _flights.end_lost(load)

    def failed(self, load: _Load, error: BaseException) -> None:
        """The function raised."""
        load.leave()
        try:
            if not isinstance(error, Exception):
                return
            load.traceback = error.__traceback__
            ttl = self._error_ttl(error) if callable(self._error_ttl) else self._error_ttl
            if ttl is not None:
                self._keep(load, Raised(error), ttl)
            _flights.end(load, error=error)
        except Exception as own:
            _flights.end(load, error=own)
            raise
        finally:
            if not load.ended:
                _flights.end_lost(load)

    # -- whole calls ----------------------------------------------------------------------------

    def refresh(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        store: MemoryStore[Any, Any],
        key: Any,
        hash_: int,
    ) -> Any:
        """Call the function whatever is kept or under way."""
        load = self.begin(store, key, hash_, anew=True)
        if isinstance(load, tuple):
            return load[0]
        try:
            value = function(*args, **kwargs)
        except BaseException as error:
            if load is not None:
                self.failed(load, error)
            raise
        if load is not None:
            self.landed(load, value)
        return value

    async def load_async(
        self,
        function: Callable[..., Coroutine[Any, Any, Any]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        store: MemoryStore[Any, Any],
        key: Any,
        hash_: int,
        anew: bool,
    ) -> Any:
        """Wait for whoever calls the function, or call it in a task that outlives the caller."""
        import asyncio

        load = _Load(Call(store, self._era, key, hash_))
        if anew:
            self._supersede(load.key)
        while self._single_flight and (other := _flights.join(load)) is not None:
            assert other.future is not None
            try:
                with _flights.waiting(other):
                    await asyncio.wrap_future(other.future)
                if not other.lost:
                    return _outcome(other)
            except WaitsForItselfError:
                return await function(*args, **kwargs)
            finally:
                del other
        try:
            if not anew and (found := _meanwhile(load)) is not MISSING:
                return found
            loop = asyncio.get_running_loop()
            load.is_abandoned = loop.is_closed
            task = loop.create_task(self._lead(load, function, args, kwargs))
        except BaseException:
            _flights.end_lost(load)
            raise
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        task.add_done_callback(partial(_end_unbegun, load))
        try:
            await asyncio.wait((task,))
            return task.result()
        finally:
            del load, task

    async def _lead(
        self,
        load: _Load,
        function: Callable[..., Coroutine[Any, Any, Any]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        load.enter()
        try:
            value = await function(*args, **kwargs)
        except BaseException as error:
            self.failed(load, error)
            del load
            raise
        self.landed(load, value)
        return value

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # its caller may have gone; then nobody else asks

    # -- writes, which win over what is under way -------------------------------------------------

    def set(self, store: MemoryStore[Any, Any], key: Any, hash_: int, value: Any) -> None:
        """Keep a value; one that is larger than the cache is not kept."""
        ttl = self._ttl(value) if self._ttl is not None else None
        call = Call(store, self._era, key, hash_)
        with _locked(call):
            _flights.supersede(call)
            store.discard(key)
            with suppress(ValueTooLargeError):
                store.put(key, value, ttl=ttl)

    def invalidate(self, store: MemoryStore[Any, Any], key: Any, hash_: int) -> bool:
        """Forget the result of one call; return whether there was one."""
        call = Call(store, self._era, key, hash_)
        with _locked(call):
            _flights.supersede(call)
            return store.discard(key)

    def forget(self) -> None:
        """Let nothing be kept of the calls under way."""
        self._era = object()

    def bind(self, function: CachedFunction, instance: Any) -> Bound:
        """The method of one instance."""
        return Bound(function, instance)

    def _supersede(self, call: Call) -> None:
        with _flights.lock(call):
            _flights.supersede(call)

    def _keep(self, load: _Load, value: Any, ttl: Duration | None) -> None:
        size = None  # or measured here, as no lock is to be held meanwhile
        if self._getsizeof is not None:
            size = 1 if isinstance(value, Raised) else self._getsizeof(value)
        call = load.key
        with _locked(call):
            if call.era is self._era and (not self._single_flight or _flights.holds(load)):
                try:
                    call.store.put(call.key, value, ttl=ttl, size=size)
                except ValueTooLargeError:
                    return


def _meanwhile(load: _Load) -> Any:
    """What another caller has brought between our miss and our lead, MISSING for nothing."""
    found = load.key.store.peek(load.key.key, MISSING)
    if isinstance(found, Raised):
        load.traceback = None
        _flights.end(load, error=found.error)
        raise found.error.with_traceback(None)
    if found is not MISSING:
        _flights.end(load, found)
    return found


def _end_unbegun(load: _Load, task: asyncio.Task[Any]) -> None:
    """A task that is cancelled before it begins has ended nothing."""
    if not load.ended:
        _flights.end_lost(load)


def _outcome(other: Flight) -> Any:
    """What a flight brought that others led."""
    if other.error is None:
        return other.value
    assert isinstance(other, _Load)
    try:
        raise other.error.with_traceback(other.traceback)  # without lines of other followers
    finally:
        del other


def _wait_for(other: Flight) -> None:
    assert other.future is not None
    if not other.future.done() and (other.thread == get_ident() or _is_locked_here()):
        raise WaitsForItselfError
    other.future.result()
