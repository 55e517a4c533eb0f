"""The origin that is asked with care: a breaker, a bulkhead, retries and a time limit around it."""

from __future__ import annotations

import math
import time
from collections import Counter
from contextlib import nullcontext, suppress
from contextvars import ContextVar, Token
from copy import copy
from threading import RLock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hybridcore._native import led_in_context
from hybridcore.breaker import Breaker, Circuit
from hybridcore.bulkhead import Bulkhead, Gate
from hybridcore.errors import ConfigurationError, OriginTimeoutError
from hybridcore.forks import start_afresh_after_forks
from hybridcore.origins.base import Origin, held_by_key
from hybridcore.origins.threads import Workers, making_room, run_blocking
from hybridcore.origins.timeouts import TooLateError, arun_within, await_within, run_within
from hybridcore.retry import Retry, require_tenacity
from hybridcore.stats import GuardStats
from hybridcore.units import Duration, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from contextlib import AbstractContextManager

    from hybridcore.stats import OriginUsage
    from hybridcore.types import Answer, Validators, Written

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class Guard:
    """What stands before one origin: `Circuit`, `Gate` and retries, any of them absent.

    A call asks the breaker, waits for its place in the bulkhead, asks the breaker again, and is
    then tried, once or more, within its time limit. The breaker hears how the call ended after
    its last try. A call that is made while another one of this guard runs in the same context, by
    a loader that asks the cache, is part of that one and needs no place of its own.

    Args:
        name: of the origin, shown in errors.

    Raises:
        ImportError: tenacity is not installed, and there is a ``retry``.
    """

    def __init__(
        self,
        breaker: Breaker | None = None,
        bulkhead: Bulkhead | None = None,
        retry: Retry | None = None,
        *,
        name: str = "origin",
    ) -> None:
        if retry is not None:
            require_tenacity()
        self.circuit = None if breaker is None else Circuit(breaker, name)
        self.gate = None if bulkhead is None else Gate(bulkhead, name)
        self.retry = retry
        self.calls = calls_in_context
        self._counts: Counter[str] = Counter()
        self.start_afresh()
        start_afresh_after_forks(self)

    def start_afresh(self) -> None:
        """Forget the calls under way: after a fork nobody is here to end them."""
        self._counting = RLock()
        self._counts["left_behind"] = 0
        self._workers = Workers()  # its own: what is left behind takes nobody else's

    def around(
        self, origin: Origin[K, V], hard_timeout: Duration | None = None
    ) -> GuardedOrigin[K, V]:
        """Return the origin behind this guard; cheap, also for a loader that is called once."""
        return GuardedOrigin(origin, self, hard_timeout)

    def less(self, breaker: bool, bulkhead: bool, retry: bool) -> Guard:
        """The same guard for calls that are to go past these parts of it."""
        if not ((breaker and self.circuit) or (bulkhead and self.gate) or (retry and self.retry)):
            return self
        other = copy(self)
        other.circuit = None if breaker else self.circuit
        other.gate = None if bulkhead else self.gate
        other.retry = None if retry else self.retry
        return other

    def stats(self) -> GuardStats:
        """A snapshot of what was counted."""
        circuit, gate = self.circuit, self.gate
        with self._counting:
            counts = self._counts.copy()
        return GuardStats(
            breaker=circuit.stats() if circuit is not None else None,
            running=gate.running if gate is not None else 0,
            waiting=gate.waiting if gate is not None else 0,
            waited=gate.waited if gate is not None else 0,
            refused=gate.refused if gate is not None else 0,
            retries=counts["retries"],
            timeouts=counts["timeouts"],
            left_behind=counts["left_behind"],
        )

    def _count(self, name: str, by: int = 1) -> None:
        with self._counting:
            self._counts[name] += by

    def _ended_late(self, error: BaseException | None) -> None:
        self._count("left_behind", -1)
        if self.circuit is not None:
            self.circuit.ended_late(error)


class GuardedOrigin(Origin[K, V]):
    """An origin behind a `Guard`; what it raises comes unchanged unless it is not asked at all.

    ``hard_timeout`` bounds each ``load`` and ``load_many``, waiting and retries included; writes
    take as long as they take, or nobody would know what was written. Async calls are cancelled.
    Sync calls then run in threads of the guard, and one that is late is left behind: it goes on by
    itself, and gives up its place in the bulkhead.

    A call for many keys is one call: it failed if most of its keys did. Retries of ``load_many``
    ask for the failed ones.

    Raises (all methods, besides what the origin raises):
        BreakerOpenError: the origin failed before and is left alone for now.
        BulkheadFullError: it has as many calls as it may get.
        OriginTimeoutError: the ``hard_timeout`` was reached.
    """

    def __init__(
        self, origin: Origin[K, V], guard: Guard, hard_timeout: Duration | None = None
    ) -> None:
        limit = math.inf if hard_timeout is None else seconds(hard_timeout)
        if limit == 0:
            raise ConfigurationError(
                "hard_timeout=0 leaves no time for a load; None is for no limit at all"
            )
        self.origin = origin
        self.guard = guard
        self.name = origin.name
        self.parallel = origin.parallel
        self._limit = limit

    def load(self, key: K, held: Validators | None = None) -> Answer[V]:
        if self._is_clear:
            with _Passage(self.guard, 0):
                return self.origin.load(key, held)
        return self._ask(_Call(self, "load", key, held))

    async def aload(self, key: K, held: Validators | None = None) -> Answer[V]:
        if self._is_clear:
            with _Passage(self.guard, 0):
                return await self.origin.aload(key, held)
        return await self._aask(_Call(self, "load", key, held))

    def load_many(self, keys: Iterable[K]) -> dict[K, Answer[V] | Exception]:
        return self._ask(_Batch(self, held_by_key(keys)))

    async def aload_many(self, keys: Iterable[K]) -> dict[K, Answer[V] | Exception]:
        return await self._aask(_Batch(self, held_by_key(keys)))

    def store(self, key: K, value: V) -> Written[V]:
        return self._ask(_Call(self, "store", key, value))

    async def astore(self, key: K, value: V) -> Written[V]:
        return await self._aask(_Call(self, "store", key, value))

    def delete(self, key: K) -> None:
        self._ask(_Call(self, "delete", key))

    async def adelete(self, key: K) -> None:
        await self._aask(_Call(self, "delete", key))

    def store_many(self, items: Mapping[K, V]) -> dict[K, Exception]:
        return self._ask(_Writes(self, "store_many", items))

    async def astore_many(self, items: Mapping[K, V]) -> dict[K, Exception]:
        return await self._aask(_Writes(self, "store_many", items))

    def delete_many(self, keys: Iterable[K]) -> dict[K, Exception]:
        return self._ask(_Writes(self, "delete_many", list(keys)))

    async def adelete_many(self, keys: Iterable[K]) -> dict[K, Exception]:
        return await self._aask(_Writes(self, "delete_many", list(keys)))

    def does_many(self, method: str) -> bool:
        return self.origin.does_many(method)

    @property
    def writable(self) -> bool:
        return self.origin.writable

    @property
    def takes_entries(self) -> bool:  # type: ignore[override]  # as the origin says
        return self.origin.takes_entries

    def usage(self) -> OriginUsage | None:
        return self.origin.usage()

    def carries(self, method: str) -> bool:
        return self.origin.carries(method)

    def close(self) -> None:
        self.origin.close()

    async def aclose(self) -> None:
        await self.origin.aclose()

    @property
    def _is_clear(self) -> bool:
        """Whether a load has nothing in its way but a circuit that is closed."""
        guard = self.guard
        return (
            guard.gate is None
            and guard.retry is None
            and self._limit == math.inf
            and not _is_inside(self.guard)
        )

    def _ask(self, call: _Call[T]) -> T:
        if call.is_limited and self.origin.carries(call.method):
            return run_blocking(self._aask(call))  # where it can be cancelled
        with self._pass(call) or _waited(call) as passage:
            try:
                answer = self._tried(call)
            except Exception as error:
                answer = call.rescue(error)
            if passage is not None:
                passage.failure = call.failure
            return answer

    async def _aask(self, call: _Call[T]) -> T:
        with self._pass(call) or await _awaited(call) as passage:
            try:
                answer = await self._atried(call)
            except Exception as error:
                answer = call.rescue(error)
            if passage is not None:
                passage.failure = call.failure
            return answer

    def _pass(self, call: _Call[Any]) -> AbstractContextManager[_Passage | None] | None:
        """What is entered while the call runs, None if it has to wait for its place first."""
        guard = self.guard
        circuit, gate = guard.circuit, guard.gate
        if _is_inside(guard):
            return _PART_OF_ANOTHER
        if circuit is not None:
            circuit.check()
        place = gate.try_enter() if gate is not None else 0
        return None if place is None else _Passage(guard, place)

    def _tried(self, call: _Call[T]) -> T:
        retry = self._retry_of(call)
        try:
            return call.ask()
        except Exception as error:
            if retry is None or not retry.helps(error):
                raise
            call.first_failure = error
        from tenacity import Retrying

        return Retrying(**retry.options(call.may_wait, _sleep))(call.again)

    async def _atried(self, call: _Call[T]) -> T:
        retry = self._retry_of(call)
        try:
            return await call.aask()
        except Exception as error:
            if retry is None or not retry.helps(error):
                raise
            call.first_failure = error
        from tenacity import AsyncRetrying

        return await AsyncRetrying(**retry.options(call.may_wait, _asleep))(call.aagain)

    def _retry_of(self, call: _Call[Any]) -> Retry | None:
        retry = self.guard.retry
        return retry if retry is not None and (call.is_load or retry.writes) else None


class _Call(Generic[T]):
    """One call of the origin, tried as often as need be until its time is over."""

    def __init__(self, guarded: GuardedOrigin[Any, Any], method: str, *args: Any) -> None:
        self.guarded = guarded
        self.guard = guarded.guard
        self.method = method
        self.args = args
        self.first_failure: Exception | None = None
        self.is_load = method.startswith("load")
        self.is_limited = self.is_load and guarded._limit != math.inf
        self.deadline = time.monotonic() + guarded._limit if self.is_limited else math.inf

    @property
    def left(self) -> float:
        """Seconds until the time is over."""
        return self.deadline - time.monotonic() if self.is_limited else math.inf

    def ask(self) -> T:
        function: Callable[..., T] = getattr(self.guarded.origin, self.method)
        if not self.is_limited:
            return function(*self.args)
        guard, left = self.guard, self._require_time()
        try:
            return run_within(left, guard._ended_late, guard._workers, function, *self.args)
        except TooLateError as error:
            raise self._too_late(error.begun) from None

    async def aask(self) -> T:
        origin, method = self.guarded.origin, f"a{self.method}"
        work: Callable[..., Coroutine[Any, Any, T]] = getattr(origin, method)
        if not self.is_limited:
            return await work(*self.args)
        guard, left = self.guard, self._require_time()
        try:
            if not origin.carries(method):
                return await await_within(left, guard._ended_late, work(*self.args))
            function: Callable[..., T] = getattr(origin, self.method)
            return await arun_within(left, guard._ended_late, guard._workers, function, *self.args)
        except TooLateError as error:
            raise self._too_late(error.begun) from None

    def again(self) -> T:
        """What tenacity calls: its first try is the one that failed before it was needed."""
        self._raise_first_failure()
        return self.ask()

    async def aagain(self) -> T:
        """Twin of `again`."""
        self._raise_first_failure()
        return await self.aask()

    def _raise_first_failure(self) -> None:
        error, self.first_failure = self.first_failure, None
        if error is not None:
            raise error

    def may_wait(self, wait: float) -> bool:
        circuit = self.guard.circuit
        if wait >= self.left or (circuit is not None and circuit.state != "closed"):
            return False
        self.guard._count("retries")
        return True

    def rescue(self, error: Exception) -> Any:
        """Return what there is in spite of the error, or raise it."""
        raise error

    @property
    def failure(self) -> Exception | None:
        """Why the call failed that returned."""
        return None

    def _most(self, answers: Iterable[object], asked: int) -> Exception | None:
        """A failure that counts, if most of what was asked for failed."""
        circuit = self.guard.circuit
        if circuit is None:
            return None
        errors = [answer for answer in answers if isinstance(answer, Exception)]
        failures = [error for error in errors if circuit.breaker.counts(error)]
        return failures[0] if 2 * len(failures) > asked else None

    def _require_time(self) -> float:
        left = self.left
        if left <= 0:
            raise self._too_late(begun=False)
        return left

    def _too_late(self, begun: bool) -> OriginTimeoutError:
        self.guard._count("timeouts")
        self.guard._count("left_behind", begun)
        return OriginTimeoutError(
            f"{self.guarded.name} did not answer within {self.guarded._limit:g} seconds"
        )


class _Batch(_Call[dict[Any, Any]]):
    """One call of ``load_many``; further tries ask for the keys that failed."""

    def __init__(self, guarded: GuardedOrigin[Any, Any], wanted: Mapping[Any, Any]) -> None:
        super().__init__(guarded, "load_many", wanted)
        self._wanted = wanted
        self._answers: dict[Any, Any] = {}

    def ask(self) -> Any:
        return self._take(super().ask())

    async def aask(self) -> Any:
        return self._take(await super().aask())

    def rescue(self, error: Exception) -> Any:
        if not self._answers:
            raise error
        (rest,) = self.args  # what the last try was about
        if not isinstance(self._answers.get(next(iter(rest))), Exception):
            self._answers.update(dict.fromkeys(rest, error))
        return self._answers

    @property
    def failure(self) -> Exception | None:
        return self._most(self._answers.values(), len(self._wanted))

    def _take(self, answers: dict[Any, Any]) -> Any:
        self._answers.update(answers)
        retry = self.guard.retry
        if retry is not None:
            failed = {key: error for key, error in answers.items() if isinstance(error, Exception)}
            again = [key for key, error in failed.items() if retry.helps(error)]
            if again:
                self.args = ({key: self._wanted[key] for key in again},)
                raise failed[again[0]]
        return self._answers


class _Writes(_Call[dict[Any, Exception]]):
    """One call of ``store_many`` or ``delete_many``."""

    _errors: Mapping[Any, Exception] = MappingProxyType({})

    def ask(self) -> Any:
        self._errors = super().ask()
        return self._errors

    async def aask(self) -> Any:
        self._errors = await super().aask()
        return self._errors

    @property
    def failure(self) -> Exception | None:
        return self._most(self._errors.values(), len(self.args[0]))


class _Passage:
    """A call that was let through; entered while it runs."""

    __slots__ = ("_permit", "_place", "_token", "failure", "guard", "running")

    def __init__(self, guard: Guard, place: int) -> None:
        self.guard = guard
        self.failure: Exception | None = None  # where the call returns and failed all the same
        self._place = place

    def __enter__(self) -> _Passage:
        try:
            self._permit = self.guard.circuit.admit() if self.guard.circuit is not None else 0
        except BaseException:
            self._leave()
            raise
        self.running = True
        self._token: Token[tuple[Any, ...]] = calls_in_context.set((*calls_in_context.get(), self))
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.running = False
        with suppress(ValueError):  # an abandoned task is ended by the collector, anywhere
            calls_in_context.reset(self._token)
        try:
            if self.guard.circuit is not None:
                self._tell(self.guard.circuit, self.failure if error is None else error)
        finally:
            self._leave()

    def _tell(self, circuit: Circuit, error: BaseException | None) -> None:
        if error is None:
            circuit.succeeded(self._permit)
        elif isinstance(error, Exception):
            circuit.failed(self._permit, error)
        else:  # cancelled or interrupted
            circuit.abandoned(self._permit)

    def _leave(self) -> None:
        if self.guard.gate is not None:
            self.guard.gate.leave(self._place)


calls_in_context: ContextVar[tuple[Any, ...]] = ContextVar("hybridcore_guarded", default=())
"""The guarded calls that run in this context, outermost first."""

_PART_OF_ANOTHER = nullcontext()


def _is_inside(guard: Guard) -> bool:
    """Whether a call of this guard runs in this context."""
    return any(
        passage.guard is guard and passage.running
        for passage in (*calls_in_context.get(), *led_in_context.get())
    )


def _waited(call: _Call[Any]) -> _Passage:
    assert call.guard.gate is not None
    with making_room():
        return _Passage(call.guard, call.guard.gate.enter(call.left))


async def _awaited(call: _Call[Any]) -> _Passage:
    assert call.guard.gate is not None
    return _Passage(call.guard, await call.guard.gate.aenter(call.left))


def _sleep(length: float) -> None:
    with making_room():
        time.sleep(length)


async def _asleep(length: float) -> None:
    from asyncio import sleep

    await sleep(length)
