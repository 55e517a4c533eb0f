"""`TracedOrigin`: a span of OpenTelemetry for each call of an origin that is slow or fails."""

from __future__ import annotations

from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry.context import get_current
from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider, get_tracer

from hybridcore.errors import ConfigurationError
from hybridcore.origins.base import Origin, held_by_key
from hybridcore.origins.standing_before import StandingBefore
from hybridcore.types import NotFound, NotModified
from hybridcore.units import Duration, seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hybridcore.types import Answer, Validators, Written

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class TracedOrigin(StandingBefore[K, V]):
    """Stands before an origin and tells a tracer of its calls, loads and writes, batches as one.

    A span is made when the call is over, as part of the trace that was current when it began, and
    only if it took longer than ``over`` or failed: what is dull costs two looks at the clocks. It
    tells the operation, how many keys and errors there were, and of an error its class; no key, no
    value and no message.

    Under a strategy that writes behind, calls are made by the queue, in traces of their own.

    Args:
        origin: closed with this one.
        over: the duration below which a call that does not fail is not told of.
        provider: of the tracer; by default the global one.

    Raises:
        ConfigurationError: it is no origin.
    """

    def __init__(
        self,
        origin: Origin[K, V],
        *,
        over: Duration = 0.0,
        provider: TracerProvider | None = None,
    ) -> None:
        if not isinstance(origin, Origin):
            raise ConfigurationError(
                f"an origin is expected, got {type(origin).__name__}; a function is one as "
                "CallableOrigin(function)"
            )
        super().__init__(origin)
        self._over = int(seconds(over) * 1e9)
        self._tracer = get_tracer("hybridcore", tracer_provider=provider)

    def load(self, key: K, held: Validators | None = None) -> Answer[V]:
        with _Call(self, "load") as call:
            return call.done(self.origin.load(key, held))

    async def aload(self, key: K, held: Validators | None = None) -> Answer[V]:
        with _Call(self, "load") as call:
            return call.done(await self.origin.aload(key, held))

    def load_many(self, keys: Iterable[K]) -> dict[K, Answer[V] | Exception]:
        wanted = held_by_key(keys)
        with _Call(self, "load_many", len(wanted)) as call:
            return call.done(self.origin.load_many(wanted))

    async def aload_many(self, keys: Iterable[K]) -> dict[K, Answer[V] | Exception]:
        wanted = held_by_key(keys)
        with _Call(self, "load_many", len(wanted)) as call:
            return call.done(await self.origin.aload_many(wanted))

    def store(self, key: K, value: V) -> Written[V]:
        with _Call(self, "store"):
            return self.origin.store(key, value)

    async def astore(self, key: K, value: V) -> Written[V]:
        with _Call(self, "store"):
            return await self.origin.astore(key, value)

    def store_many(self, items: Mapping[K, V]) -> dict[K, Exception]:
        with _Call(self, "store_many", len(items)) as call:
            return call.done(self.origin.store_many(items))

    async def astore_many(self, items: Mapping[K, V]) -> dict[K, Exception]:
        with _Call(self, "store_many", len(items)) as call:
            return call.done(await self.origin.astore_many(items))

    def delete(self, key: K) -> None:
        with _Call(self, "delete"):
            self.origin.delete(key)

    async def adelete(self, key: K) -> None:
        with _Call(self, "delete"):
            await self.origin.adelete(key)

    def delete_many(self, keys: Iterable[K]) -> dict[K, Exception]:
        wanted = list(dict.fromkeys(keys))
        with _Call(self, "delete_many", len(wanted)) as call:
            return call.done(self.origin.delete_many(wanted))

    async def adelete_many(self, keys: Iterable[K]) -> dict[K, Exception]:
        wanted = list(dict.fromkeys(keys))
        with _Call(self, "delete_many", len(wanted)) as call:
            return call.done(await self.origin.adelete_many(wanted))

    def carries(self, method: str) -> bool:
        return self.origin.carries(method)


class _Call:
    """One call: told of as a span at its end, if that is worth it."""

    __slots__ = ("_answer", "_began", "_clock", "_context", "_keys", "_method", "_origin")

    def __init__(self, origin: TracedOrigin[Any, Any], method: str, keys: int = 1) -> None:
        self._origin = origin
        self._method = method
        self._keys = keys
        self._answer: Any = None

    def __enter__(self) -> _Call:
        self._context = get_current()
        self._began = time_ns()
        self._clock = perf_counter_ns()
        return self

    def done(self, answer: T) -> T:
        """Note what was answered."""
        self._answer = answer
        return answer

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        took = perf_counter_ns() - self._clock
        errors = [type(one) for one in _errors(self._answer)] if kind is None else [kind]
        origin = self._origin
        if took < origin._over and not errors:
            return
        attributes: dict[str, Any] = {
            "hybridcore.origin": origin.name,
            "hybridcore.operation": self._method,
            "hybridcore.keys": self._keys,
        }
        if self._method == "load" and kind is None:
            attributes["hybridcore.answer"] = _kind_of(self._answer)
        if errors:
            attributes["hybridcore.errors"] = self._keys if kind is not None else len(errors)
            attributes["error.type"] = errors[0].__qualname__
        span = origin._tracer.start_span(
            f"{origin.name} {self._method}",
            context=self._context,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=self._began,
        )
        if errors:
            span.set_status(Status(StatusCode.ERROR))
        span.end(self._began + took)


def _errors(answer: Any) -> list[Exception]:
    """The errors of single keys in the answer to many."""
    if not isinstance(answer, dict):
        return []
    return [one for one in answer.values() if isinstance(one, Exception)]


def _kind_of(answer: Any) -> str:
    if isinstance(answer, NotModified):
        return "not_modified"
    return "not_found" if isinstance(answer, NotFound) else "value"
