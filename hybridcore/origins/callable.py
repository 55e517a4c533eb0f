"""The origin made of the application's own functions, sync or async."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

from hybridcore.bulkhead import Bulkhead, Gate
from hybridcore.errors import ConfigurationError, NotFoundError
from hybridcore.origins.base import Origin, failed, held_by_key, one_by_one
from hybridcore.origins.threads import making_room, run_blocking, run_in_thread
from hybridcore.types import Answer, Loaded, NotFound, NotModified, Validators

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

_FUNCTIONS = ("load", "load_many", "store", "store_many", "delete", "delete_many")


class CallableOrigin(Origin[K, V]):
    """An origin of functions; each may be sync or async, and both faces work with either.

    A function that answers with an awaitable is async, whatever it was defined with. A sync
    function runs in a worker thread for asyncio callers. What a function raises reaches the
    caller unchanged, but for `NotFoundError`, which says that there is no such key.

    Args:
        load: takes a key and returns its value, or a `Loaded`, `NotModified` or `NotFound`.
            Without it each key is asked for by ``load_many``.
        load_many: takes a list of keys and returns a mapping of keys to what ``load`` returns, or
            yields such pairs, as a generator, sync or async. A key that it leaves out does not
            exist; one that has an exception failed by itself, and so did those that a generator
            had not come to when it raised. Without it, several keys are asked for by ``load``.
        store: takes a key and a value; may return the `Validators` of what it wrote.
            Without it the origin is read-only.
        store_many: takes a mapping of keys to values; may return one of the keys that failed to
            their errors. Without it each is stored by ``store``.
        delete: takes a key.
        delete_many: takes a list of keys, and returns as ``store_many`` does.
        concurrency: how many calls of each function may run at a time, threads and tasks together,
            or a mapping of their names to that; further ones wait for their turn.
        name: shown in errors; by default the name of ``load``.

    Raises:
        TypeError: an option is no function, or there is nothing to load by.
        ConfigurationError: ``concurrency`` makes no sense.
    """

    def __init__(
        self,
        load: Callable[[K], Any] | None = None,
        *,
        load_many: Callable[[list[K]], Any] | None = None,
        store: Callable[[K, V], Any] | None = None,
        store_many: Callable[[Mapping[K, V]], Any] | None = None,
        delete: Callable[[K], Any] | None = None,
        delete_many: Callable[[list[K]], Any] | None = None,
        concurrency: int | Mapping[str, int] | None = None,
        name: str | None = None,
    ) -> None:
        given = dict(
            zip(
                _FUNCTIONS,
                (load, load_many, store, store_many, delete, delete_many),
                strict=True,
            )
        )
        for option, function in given.items():
            required = option == "load" and load_many is None
            if not callable(function) and (function is not None or required):
                raise TypeError(f"{option} is expected to be a function, got {function!r}")
        loads = load or load_many
        self.name = name or str(getattr(loads, "__qualname__", type(loads).__name__))
        places = _places(concurrency)
        self._functions = {
            option: _Function(function, places.get(option), f"{option} of {self.name}")
            for option, function in given.items()
            if function is not None
        }

    def load(self, key: K, held: Validators | None = None) -> Answer[V]:
        function = self._functions.get("load")
        if function is None:
            return _unwrap(self.load_many([key])[key])
        try:
            return _answer(function.call(key))
        except NotFoundError:
            return NotFound()

    async def aload(self, key: K, held: Validators | None = None) -> Answer[V]:
        function = self._functions.get("load")
        if function is None:
            return _unwrap((await self.aload_many([key]))[key])
        try:
            return _answer(await function.acall(key))
        except NotFoundError:
            return NotFound()

    def load_many(self, keys: Iterable[K]) -> dict[K, Answer[V] | Exception]:
        function = self._functions.get("load_many")
        if function is not None:
            wanted = list(dict.fromkeys(keys))
            return _answers(wanted, function.pairs(wanted))
        if self._functions["load"].is_async:
            return run_blocking(self._at_once(keys))
        return one_by_one(self.load, held_by_key(keys).items())

    async def aload_many(self, keys: Iterable[K]) -> dict[K, Answer[V] | Exception]:
        function = self._functions.get("load_many")
        if function is not None:
            wanted = list(dict.fromkeys(keys))
            return _answers(wanted, await function.apairs(wanted))
        return await self._at_once(keys)

    def store(self, key: K, value: V) -> Validators | None:
        function = self._writing("store")
        if function is None:
            _require_none(self.store_many({key: value}))
            return None
        return _validators(function.call(key, value))

    async def astore(self, key: K, value: V) -> Validators | None:
        function = self._writing("store")
        if function is None:
            _require_none(await self.astore_many({key: value}))
            return None
        return _validators(await function.acall(key, value))

    def store_many(self, items: Mapping[K, V]) -> dict[K, Exception]:
        function = self._writing("store", many=True)
        if function is not None:
            return dict(function.call(items) or {})
        if self._functions["store"].is_async:
            return run_blocking(self.astore_many(items))
        return failed(one_by_one(self.store, items.items()))

    async def astore_many(self, items: Mapping[K, V]) -> dict[K, Exception]:
        function = self._writing("store", many=True)
        if function is not None:
            return dict(await function.acall(items) or {})
        return failed(await self._each(self.astore, items.items()))

    def delete(self, key: K) -> None:
        function = self._writing("delete")
        if function is None:
            _require_none(self.delete_many([key]))
            return
        with suppress(NotFoundError):
            function.call(key)

    async def adelete(self, key: K) -> None:
        function = self._writing("delete")
        if function is None:
            _require_none(await self.adelete_many([key]))
            return
        with suppress(NotFoundError):
            await function.acall(key)

    def delete_many(self, keys: Iterable[K]) -> dict[K, Exception]:
        function = self._writing("delete", many=True)
        wanted = list(dict.fromkeys(keys))
        if function is not None:
            return dict(function.call(wanted) or {})
        if self._functions["delete"].is_async:
            return run_blocking(self.adelete_many(wanted))
        return failed(one_by_one(self.delete, ((key,) for key in wanted)))

    async def adelete_many(self, keys: Iterable[K]) -> dict[K, Exception]:
        function = self._writing("delete", many=True)
        wanted = list(dict.fromkeys(keys))
        if function is not None:
            return dict(await function.acall(wanted) or {})
        return failed(await self._each(self.adelete, [(key,) for key in wanted]))

    def does_many(self, method: str) -> bool:
        return method in self._functions

    @property
    def writable(self) -> bool:
        return "store" in self._functions or "store_many" in self._functions

    def carries(self, method: str) -> bool:
        name = method.removeprefix("a")
        one = name.removesuffix("_many")
        function = self._functions.get(name)
        if function is None and name != one and method.startswith("a"):
            return False  # it asks for several keys at a time, whatever the function is
        function = function or self._functions.get(one) or self._functions.get(f"{one}_many")
        return function is not None and function.is_async is not method.startswith("a")

    @property
    def sync_function(self) -> Callable[[K], Any] | None:
        """What is called by ``load``, and that alone, unless it is known to be async."""
        function = self._functions.get("load")
        if function is None or function.is_async or function.is_bounded:
            return None
        return function.function

    @property
    def async_function(self) -> Callable[[K], Any] | None:
        """What is awaited by ``aload``, and that alone, if it is known to be async."""
        function = self._functions.get("load")
        if function is None or not function.is_async or function.is_bounded:
            return None
        return function.function

    def __repr__(self) -> str:
        return f"CallableOrigin({self.name})"

    def _writing(self, one: str, *, many: bool = False) -> _Function | None:
        """The function that writes one key, or many; None where its counterpart has to do."""
        several = f"{one}_many"
        if one not in self._functions and several not in self._functions:
            raise self._read_only(f"give it {one}=")
        return self._functions.get(several if many else one)


class _Function:
    """One function of the application, and how many calls of it may run at a time."""

    def __init__(self, function: Callable[..., Any], most: int | None, name: str) -> None:
        self.function = function
        self.name = name
        self.is_async = _is_async(function) or inspect.isasyncgenfunction(function)
        self._gate = None
        if most is not None:
            self._gate = Gate(
                Bulkhead(max_concurrent=most, max_wait=math.inf, max_waiting=sys.maxsize), name
            )

    @property
    def is_bounded(self) -> bool:
        """Whether calls may have to wait for their turn."""
        return self._gate is not None

    def call(self, *args: Any) -> Any:
        if self._gate is None:
            return _call(self.function, *args)
        with self._place():
            return _call(self.function, *args)

    async def acall(self, *args: Any) -> Any:
        if self._gate is None:
            return await (self.function(*args) if self.is_async else _acall(self.function, *args))
        async with self._aplace():
            return await _acall(self.function, *args)

    def pairs(self, keys: list[Any]) -> tuple[Mapping[Any, Any], Exception | None]:
        """What it found of the keys, and why it did not come to its end."""
        found: dict[Any, Any] = {}
        with self._place():
            result = _call(self.function, keys)
            if isinstance(result, Mapping):
                return result, None
            if isinstance(result, AsyncIterator):
                return found, run_blocking(self._adrain(result, found))
            return found, self._drain(result, found)

    async def apairs(self, keys: list[Any]) -> tuple[Mapping[Any, Any], Exception | None]:
        """Twin of `pairs`."""
        found: dict[Any, Any] = {}
        async with self._aplace():
            if inspect.isasyncgenfunction(self.function):
                result = self.function(keys)
            else:
                result = await _acall(self.function, keys)
            if isinstance(result, Mapping):
                return result, None
            if isinstance(result, AsyncIterator):
                return found, await self._adrain(result, found)
            return found, await run_in_thread(self._drain, result, found)

    def _drain(self, result: object, found: dict[Any, Any]) -> Exception | None:
        if not isinstance(result, Iterator):
            raise self._odd(result)
        try:
            for pair in result:
                self._take(found, pair)
        except Exception as error:  # what came before it must not be lost
            return error
        return None

    async def _adrain(self, result: AsyncIterator[Any], found: dict[Any, Any]) -> Exception | None:
        try:
            async for pair in result:
                self._take(found, pair)
        except Exception as error:  # as in _drain
            return error
        finally:
            if isinstance(result, AsyncGenerator):
                await result.aclose()
        return None

    def _take(self, found: dict[Any, Any], pair: Any) -> None:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise self._odd(pair)
        found[pair[0]] = pair[1]

    def _odd(self, result: object) -> TypeError:
        return TypeError(
            f"{self.name} is expected to return a mapping of the keys it found to their values, "
            f"or to yield such pairs, got {type(result).__name__}"
        )

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._gate is None:
            yield
            return
        place = self._gate.try_enter()
        if place is None:
            with making_room():
                place = self._gate.enter()
        try:
            yield
        finally:
            self._gate.leave(place)

    @asynccontextmanager
    async def _aplace(self) -> AsyncIterator[None]:
        if self._gate is None:
            yield
            return
        place = await self._gate.aenter()
        try:
            yield
        finally:
            self._gate.leave(place)


def _places(concurrency: int | Mapping[str, int] | None) -> Mapping[str, int]:
    if concurrency is None:
        return {}
    if isinstance(concurrency, int):
        concurrency = dict.fromkeys(_FUNCTIONS, concurrency)
    unknown = sorted(set(concurrency) - set(_FUNCTIONS))
    if unknown:
        raise ConfigurationError(
            f"concurrency is expected to name {', '.join(_FUNCTIONS)}, got {unknown[0]!r}"
        )
    for option, most in concurrency.items():
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise ConfigurationError(
                f"the concurrency of {option} is expected to be at least 1, got {most!r}"
            )
    return concurrency


def _answers(
    wanted: list[K], outcome: tuple[Mapping[K, Any], Exception | None]
) -> dict[K, Answer[Any] | Exception]:
    found, error = outcome
    if error is not None and not found:
        raise error
    answers: dict[K, Answer[Any] | Exception] = {}
    for key in wanted:
        if key not in found:
            answers[key] = NotFound() if error is None else error
        elif isinstance(found[key], NotFoundError):
            answers[key] = NotFound()
        else:
            answers[key] = found[key] if isinstance(found[key], Exception) else _answer(found[key])
    return answers


def _answer(result: Any) -> Answer[Any]:
    return result if isinstance(result, (Loaded, NotModified, NotFound)) else Loaded(result)


def _unwrap(answer: Answer[T] | Exception) -> Answer[T]:
    if isinstance(answer, Exception):
        raise answer
    return answer


def _require_none(errors: dict[Any, Exception]) -> None:
    for error in errors.values():
        raise error


def _validators(result: object) -> Validators | None:
    return result if isinstance(result, Validators) else None


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004  # an object with an async call
    )


def _call(function: Callable[..., Any], *args: Any) -> Any:
    return settled(function(*args))


def settled(result: Any) -> Any:
    """Wait for what a function returned, if it is an awaitable."""
    if inspect.iscoroutine(result):
        return run_blocking(result)
    return run_blocking(_wait(result)) if inspect.isawaitable(result) else result


async def _acall(function: Callable[..., Any], *args: Any) -> Any:
    if _is_async(function):
        return await function(*args)
    result = await run_in_thread(function, *args)
    return await result if inspect.isawaitable(result) else result


async def _wait(awaitable: Awaitable[T]) -> T:
    return await awaitable
