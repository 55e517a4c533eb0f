"""The origin made of the application's own functions, sync or async."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from hybridcore.errors import NotFoundError
from hybridcore.origins.base import Origin
from hybridcore.origins.threads import run_blocking, run_in_thread
from hybridcore.types import Answer, Loaded, NotFound, NotModified, Validators

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class CallableOrigin(Origin[K, V]):
    """An origin of functions; each may be sync or async, and both faces work with either.

    A function that answers with an awaitable is async, whatever it was defined with. A sync
    function runs in a worker thread for asyncio callers. What a function raises reaches the
    caller unchanged, but for `NotFoundError`, which says that there is no such key.

    Args:
        load: takes a key and returns its value, or a `Loaded`, `NotModified` or `NotFound`.
        load_many: takes a list of keys and returns a mapping; the keys it lacks do not exist.
            Without it, several keys are asked for through ``load``.
        store: takes a key and a value; may return the `Validators` of what it wrote.
            Without it the origin is read-only.
        delete: takes a key.
        name: shown in errors; by default the name of ``load``.
    """

    def __init__(
        self,
        load: Callable[[K], Any],
        *,
        load_many: Callable[[list[K]], Any] | None = None,
        store: Callable[[K, V], Any] | None = None,
        delete: Callable[[K], Any] | None = None,
        name: str | None = None,
    ) -> None:
        given = {"load": load, "load_many": load_many, "store": store, "delete": delete}
        for option, function in given.items():
            if not callable(function) and (function is not None or option == "load"):
                raise TypeError(f"{option} is expected to be a function, got {function!r}")
        self.name = name or str(getattr(load, "__qualname__", type(load).__name__))
        self._load = load
        self._loads_async = _is_async(load)
        self._load_many = load_many
        self._store = store
        self._delete = delete

    def load(self, key: K, held: Validators | None = None) -> Answer[V]:
        try:
            return _answer(_call(self._load, key))
        except NotFoundError:
            return NotFound()

    async def aload(self, key: K, held: Validators | None = None) -> Answer[V]:
        try:
            if self._loads_async:
                return _answer(await self._load(key))
            return _answer(await _acall(self._load, key))
        except NotFoundError:
            return NotFound()

    def load_many(self, keys: Iterable[K]) -> dict[K, Answer[V] | Exception]:
        if self._load_many is not None:
            wanted = list(dict.fromkeys(keys))
            return self._answers(wanted, _call(self._load_many, wanted))
        if _is_async(self._load):
            return run_blocking(self._at_once(keys))
        return self._one_by_one(keys)

    async def aload_many(self, keys: Iterable[K]) -> dict[K, Answer[V] | Exception]:
        if self._load_many is not None:
            wanted = list(dict.fromkeys(keys))
            return self._answers(wanted, await _acall(self._load_many, wanted))
        return await self._at_once(keys)

    def store(self, key: K, value: V) -> Validators | None:
        if self._store is None:
            raise self._read_only("give it store=")
        return _validators(_call(self._store, key, value))

    async def astore(self, key: K, value: V) -> Validators | None:
        if self._store is None:
            raise self._read_only("give it store=")
        return _validators(await _acall(self._store, key, value))

    def delete(self, key: K) -> None:
        if self._delete is None:
            raise self._read_only("give it delete=")
        try:
            _call(self._delete, key)
        except NotFoundError:
            return

    async def adelete(self, key: K) -> None:
        if self._delete is None:
            raise self._read_only("give it delete=")
        try:
            await _acall(self._delete, key)
        except NotFoundError:
            return

    @property
    def writable(self) -> bool:
        return self._store is not None

    def carries(self, method: str) -> bool:
        if method == "aload_many" and self._load_many is None:
            return False  # it asks for several keys at a time, whatever the function is
        name = method.removeprefix("a")
        function = getattr(self, f"_{name}") or self._load
        return _is_async(function) is not method.startswith("a")

    @property
    def sync_function(self) -> Callable[[K], Any] | None:
        """What is called by ``load`` unless it is known to be async."""
        return None if self._loads_async else self._load

    def __repr__(self) -> str:
        return f"CallableOrigin({self.name})"

    def _answers(self, wanted: list[K], found: object) -> dict[K, Answer[V] | Exception]:
        if not isinstance(found, Mapping):
            raise TypeError(
                f"load_many of {self.name} is expected to return a mapping of the keys it "
                f"found to their values, got {type(found).__name__}"
            )
        return {key: _answer(found[key]) if key in found else NotFound() for key in wanted}


def _answer(result: Any) -> Answer[Any]:
    return result if isinstance(result, (Loaded, NotModified, NotFound)) else Loaded(result)


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
