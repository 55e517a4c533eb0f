"""What an origin is, and how a sync one serves asyncio and the other way round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hybridcore.errors import ReadOnlyOriginError
from hybridcore.origins.threads import run_blocking, run_in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable

    from hybridcore.stats import OriginUsage
    from hybridcore.types import Answer, Validators, Written

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class Origin(Generic[K, V]):
    """Where values come from when no tier holds them.

    A subclass overrides ``load`` or ``aload`` (or both); each defaults to the other, a sync
    one running in a thread for asyncio callers, an async one on a background loop for sync
    callers. ``load_many``, ``store``, ``delete``, ``store_many`` and ``delete_many`` come in the
    same pairs. An origin that overrides no ``store`` is read-only. Unless they are overridden,
    those of many keys take one key after the other to a sync ``load``, ``store`` or ``delete``,
    and ``parallel`` keys at a time otherwise.

    ``load`` answers `Loaded`, `NotModified` or `NotFound` and raises `OriginError` (or
    anything else) when it cannot answer.
    """

    name = "origin"
    parallel = 32

    takes_entries: bool = False
    """Whether a cache that writes is to give ``store`` a `Loaded` in the place of the value, which
    tells the ttl, the cost and the importance of the entry. A queue between holds that, too."""

    def load(self, key: K, held: Validators | None = None) -> Answer[V]:
        """Ask for one value; ``held`` are the validators of the copy that the caller holds."""
        self._require("load")
        return run_blocking(self.aload(key, held))

    async def aload(self, key: K, held: Validators | None = None) -> Answer[V]:
        """Twin of `load`."""
        self._require("load")
        return await run_in_thread(self.load, key, held)

    def load_many(self, keys: Iterable[K]) -> dict[K, Answer[V] | Exception]:
        """Ask for several values: an answer or the error for every key asked for.

        ``keys`` may be a mapping of the keys to the validators held, None where there are none.
        """
        if self._overrides("aload_many"):
            return run_blocking(self.aload_many(keys))
        if self._overrides("load"):
            return one_by_one(self.load, held_by_key(keys).items())
        return run_blocking(self._at_once(keys))

    async def aload_many(self, keys: Iterable[K]) -> dict[K, Answer[V] | Exception]:
        """Twin of `load_many`."""
        if self._overrides("load_many"):
            return await run_in_thread(self.load_many, keys)
        return await self._at_once(keys)

    def store(self, key: K, value: V) -> Written[V]:
        """Write one value through; returns the validators of what was written, if known.

        Where something else is there now, a merged value or one of somebody else, it returns that
        as `Loaded`, or `NotFound`, and the cache keeps what it returns.
        """
        if not self._overrides("astore"):
            raise self._read_only()
        return run_blocking(self.astore(key, value))

    async def astore(self, key: K, value: V) -> Written[V]:
        """Twin of `store`."""
        if not self._overrides("store"):
            raise self._read_only()
        return await run_in_thread(self.store, key, value)

    def delete(self, key: K) -> None:
        """Delete one value; a key that does not exist is no error."""
        if not self._overrides("adelete"):
            raise self._read_only()
        run_blocking(self.adelete(key))

    async def adelete(self, key: K) -> None:
        """Twin of `delete`."""
        if not self._overrides("delete"):
            raise self._read_only()
        await run_in_thread(self.delete, key)

    def started_from(self, key: K, held: Validators | None) -> None:
        """Hear, before a write of a cache, of the copy that the cache holds.

        An origin overrides it that refuses to write over what its caller has not seen.
        """

    def store_many(self, items: Mapping[K, V]) -> dict[K, Exception]:
        """Write several values; returns the error for every key that could not be written."""
        if self._overrides("astore_many"):
            return run_blocking(self.astore_many(items))
        if self._overrides("store"):
            return failed(one_by_one(self.store, items.items()))
        return run_blocking(self.astore_many(items))

    async def astore_many(self, items: Mapping[K, V]) -> dict[K, Exception]:
        """Twin of `store_many`."""
        if self._overrides("store_many"):
            return await run_in_thread(self.store_many, items)
        if not self.writable:
            raise self._read_only()
        return failed(await self._each(self.astore, items.items()))

    def delete_many(self, keys: Iterable[K]) -> dict[K, Exception]:
        """Delete several values; returns the error for every key that could not be deleted."""
        if self._overrides("adelete_many"):
            return run_blocking(self.adelete_many(keys))
        if self._overrides("delete"):
            return failed(one_by_one(self.delete, ((key,) for key in dict.fromkeys(keys))))
        return run_blocking(self.adelete_many(keys))

    async def adelete_many(self, keys: Iterable[K]) -> dict[K, Exception]:
        """Twin of `delete_many`."""
        if self._overrides("delete_many"):
            return await run_in_thread(self.delete_many, keys)
        if not (self._overrides("delete") or self._overrides("adelete")):
            raise self._read_only()
        return failed(await self._each(self.adelete, [(key,) for key in dict.fromkeys(keys)]))

    def does_many(self, method: str) -> bool:
        """Whether a method of several keys, such as ``store_many``, is more than calls for each."""
        return self._overrides(method) or self._overrides(f"a{method}")

    @property
    def writable(self) -> bool:
        """Whether the origin takes ``store``."""
        return self._overrides("store") or self._overrides("astore")

    def usage(self) -> OriginUsage | None:
        """What it counted of its own traffic, see `Meter`; None where it does not count."""
        return None

    def close(self) -> None:
        """Release connections; harmless when called twice."""

    async def aclose(self) -> None:
        """Twin of `close`."""
        self.close()

    async def _at_once(self, keys: Iterable[K]) -> dict[K, Answer[V] | Exception]:
        return await self._each(self.aload, held_by_key(keys).items())

    async def _each(
        self, method: Callable[..., Awaitable[T]], calls: Collection[tuple[Any, ...]]
    ) -> dict[K, T | Exception]:
        """What an async method answers to each call, by its first argument, or its error."""
        import asyncio

        slots = asyncio.Semaphore(self.parallel)

        async def ask(call: tuple[Any, ...]) -> T | Exception:
            async with slots:
                try:
                    return await method(*call)
                except Exception as error:  # one failing key must not lose the others
                    return error

        answers = await asyncio.gather(*map(ask, calls))
        return {call[0]: answer for call, answer in zip(calls, answers, strict=True)}

    def carries(self, method: str) -> bool:
        """Whether a method does nothing but call its twin, in a thread or on a loop."""
        one, many, _ = method.partition("_many")
        if many and not method.startswith("a") and not self._overrides(f"a{method}"):
            return not (self._overrides(method) or self._overrides(one))
        twin = method[1:] if method.startswith("a") else f"a{method}"
        return self._overrides(twin) and not self._overrides(method)

    @property
    def compares(self) -> bool:
        """Whether it wants to hear what a write started from."""
        return self._overrides("started_from")

    def _overrides(self, method: str) -> bool:
        return getattr(type(self), method) is not getattr(Origin, method)

    def _require(self, method: str) -> None:
        if not self._overrides(method) and not self._overrides(f"a{method}"):
            raise TypeError(f"{type(self).__name__} must override {method}() or a{method}()")

    def _read_only(self, way_out: str = "override store() or astore()") -> ReadOnlyOriginError:
        return ReadOnlyOriginError(
            f"{self.name} takes no writes; {way_out}, or use a strategy that does not write "
            "to the origin"
        )


def held_by_key(keys: Iterable[K]) -> Mapping[K, Validators | None]:
    """Return the validators held of every key, of which there are none if only keys are given."""
    return keys if isinstance(keys, Mapping) else dict.fromkeys(keys)


def one_by_one(
    method: Callable[..., T], calls: Iterable[tuple[Any, ...]]
) -> dict[Any, T | Exception]:
    """What a method answers to each call, by its first argument, or its error."""
    answers: dict[Any, T | Exception] = {}
    for call in calls:
        try:
            answers[call[0]] = method(*call)
        except Exception as error:  # one failing key must not lose the others
            answers[call[0]] = error
    return answers


def failed(answers: Mapping[K, object]) -> dict[K, Exception]:
    """Those of the answers that are errors."""
    return {key: answer for key, answer in answers.items() if isinstance(answer, Exception)}
