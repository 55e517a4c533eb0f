"""Writes on their way out: what a target is given, and how a batch of them reaches an origin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    from hybridcore.origins import Origin


class Delivery(Struct, frozen=True):
    """A write that is being brought to its target.

    - ``idempotency_key``: the same at every try of this write, and of no other
    - ``number``: grows with each write that the queue takes; of two writes of a key the newer one
      has the larger number
    - ``attempt``: 1 at the first try
    - ``taken_at``: seconds since the epoch; ``mono`` is the same in ns of the monotonic clock

    Its repr tells nothing of the value.
    """

    key: Any
    value: Any
    deletes: bool
    level: str
    idempotency_key: str
    number: int
    attempt: int
    taken_at: float
    last_error: str = ""
    place: int = 0
    mono: int = 0

    def __repr__(self) -> str:
        what = "delete" if self.deletes else "value"
        return f"Delivery({what} of {self.key!r}, number={self.number}, attempt={self.attempt})"


Handler = Callable[[Sequence[Delivery]], Mapping[Any, Exception] | None]
"""Takes deliveries of different keys; returns the errors of the keys that failed, or raises when
all did."""

_under_way: ContextVar[Mapping[Any, Delivery]] = ContextVar("hybridcore_deliveries")


def delivery_of(key: Any) -> Delivery | None:
    """The delivery of a key that this call of ``store``, ``store_many`` or ``delete`` is part of.

    An origin sends its ``idempotency_key`` along, so that what arrives twice counts once; None
    outside of a queue.
    """
    return _under_way.get({}).get(key)


class OriginTarget:
    """Brings deliveries to an origin: values and deletes together where it takes many."""

    def __init__(self, origin: Origin[Any, Any], concurrency: int) -> None:
        self.origin = origin
        self._concurrency = concurrency
        self._pool: ThreadPoolExecutor | None = None

    @property
    def awaits(self) -> bool:
        """Whether the origin writes by coroutines."""
        return self.origin.carries("store") or self.origin.carries("delete")

    def __call__(self, deliveries: Sequence[Delivery]) -> dict[Any, Exception]:
        """Return the errors of the keys that failed."""
        token = _under_way.set({delivery.key: delivery for delivery in deliveries})
        try:
            stores = {one.key: one.value for one in deliveries if not one.deletes}
            deletes = [one.key for one in deliveries if one.deletes]
            errors = self._several("store_many", stores, self.origin.store, list(stores.items()))
            errors |= self._several(
                "delete_many", deletes, self.origin.delete, [(key,) for key in deletes]
            )
            return errors
        finally:
            _under_way.reset(token)

    async def deliver(self, deliveries: Sequence[Delivery]) -> dict[Any, Exception]:
        """Twin of a call, in the event loop that runs."""
        import asyncio

        origin = self.origin
        errors: dict[Any, Exception] = {}
        slots = asyncio.Semaphore(self._concurrency)

        async def attempt(method: Callable[..., Any], *call: Any) -> None:
            async with slots:
                try:
                    await method(*call)
                except Exception as error:
                    errors[call[0]] = error

        async def several(
            name: str, together: Any, one: Callable[..., Any], calls: list[tuple[Any, ...]]
        ) -> None:
            if origin.does_many(name) and len(calls) > 1:
                try:
                    errors.update(await getattr(origin, f"a{name}")(together) or {})
                except Exception as error:
                    errors.update((call[0], error) for call in calls)
            else:
                await asyncio.gather(*(attempt(one, *call) for call in calls))

        token = _under_way.set({delivery.key: delivery for delivery in deliveries})
        try:
            stores = {one.key: one.value for one in deliveries if not one.deletes}
            deletes = [one.key for one in deliveries if one.deletes]
            await several("store_many", stores, origin.astore, list(stores.items()))
            await several("delete_many", deletes, origin.adelete, [(key,) for key in deletes])
        finally:
            _under_way.reset(token)
        return errors

    def start_afresh(self) -> None:
        """After a fork: the threads are the parent's."""
        self._pool = None

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)

    def _several(
        self, name: str, together: Any, one: Callable[..., Any], calls: list[tuple[Any, ...]]
    ) -> dict[Any, Exception]:
        if not calls:
            return {}
        if self.origin.does_many(name) and len(calls) > 1:
            try:
                return dict(getattr(self.origin, name)(together) or {})
            except Exception as error:
                return {call[0]: error for call in calls}
        outcomes = self._one_by_one(one, calls)
        return {
            call[0]: error for call, error in zip(calls, outcomes, strict=True) if error is not None
        }

    def _one_by_one(
        self, one: Callable[..., Any], calls: list[tuple[Any, ...]]
    ) -> list[Exception | None]:
        def attempt(call: tuple[Any, ...]) -> Exception | None:
            try:
                one(*call)
            except Exception as error:
                return error
            return None

        if self._concurrency > 1 and len(calls) > 1:
            try:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(self._concurrency, "hybridcore-queue-store")
                waiting = [self._pool.submit(copy_context().run, attempt, call) for call in calls]
            except RuntimeError:  # the interpreter is about to exit and starts no threads
                pass
            else:
                return [each.result() for each in waiting]
        return [attempt(call) for call in calls]
