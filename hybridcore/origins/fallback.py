"""The origin that asks one after the other: the next when one fails, or has no copy."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from hybridcore.errors import ConfigurationError, ReadOnlyOriginError
from hybridcore.origins.base import held_by_key
from hybridcore.origins.composed import DEFAULT_BREAKER, Ask, Composed, Steps, taken
from hybridcore.types import Loaded, NotFound
from hybridcore.units import Duration, seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hybridcore.breaker import Breaker
    from hybridcore.origins.base import Origin
    from hybridcore.types import Answer, Validators, Written

K = TypeVar("K")
V = TypeVar("V")


class FallbackOrigin(Composed[K, V]):
    """Asks several origins in their order until one answers.

    Without ``fill`` they are equals, such as a primary and its mirror: the next is asked when one
    fails, "there is no such key" is an answer, and writes go to the first alone.

    With ``fill`` the last one has the truth and the others have copies, such as a Redis before a
    database: the next is asked for what one lacks as well, and what it answers is stored in
    those before. Writes go to the last, and then to the copies. A copy that cannot be written, or
    that a load under way fills with what was replaced meanwhile, is older than the truth for as
    long as ``fill`` at most.

    Args:
        origins: the first is asked first; named by their own names, see ``usage().parts``.
        fill: how long a copy may be kept.
        breaker: each origin has its own; None: none has.

    Raises:
        ConfigurationError: there are no origins, or copies are to be filled that take no writes.
    """

    def __init__(
        self,
        *origins: Origin[K, V],
        fill: Duration | None = None,
        breaker: Breaker | None = DEFAULT_BREAKER,
    ) -> None:
        super().__init__(_named(origins), breaker)
        self.name = ", else ".join(self._members)
        self._fill = None if fill is None else seconds(fill)
        self._order = list(self._members.values())
        if self._fill is not None:
            for origin in origins[:-1]:
                if not origin.writable:
                    raise ConfigurationError(
                        f"what fill= fills is expected to take writes; {origin.name} does not"
                    )
        self._truth = self._order[-1 if self._fill is not None else 0]
        self._copies = self._order[:-1] if self._fill is not None else []

    def load(self, key: K, held: Validators | None = None) -> Answer[V]:
        return _only(self._run(self._loading({key: held}, "load")))

    async def aload(self, key: K, held: Validators | None = None) -> Answer[V]:
        return _only(await self._arun(self._loading({key: held}, "load")))

    def load_many(self, keys: Iterable[K]) -> dict[K, Answer[V] | Exception]:
        return self._run(self._loading(held_by_key(keys), "load_many"))

    async def aload_many(self, keys: Iterable[K]) -> dict[K, Answer[V] | Exception]:
        return await self._arun(self._loading(held_by_key(keys), "load_many"))

    def store(self, key: K, value: V) -> Written[V]:
        return self._run(self._writing("store", (key, value)))

    async def astore(self, key: K, value: V) -> Written[V]:
        return await self._arun(self._writing("store", (key, value)))

    def store_many(self, items: Mapping[K, V]) -> dict[K, Exception]:
        return self._run(self._writing_many("store_many", items))

    async def astore_many(self, items: Mapping[K, V]) -> dict[K, Exception]:
        return await self._arun(self._writing_many("store_many", items))

    def delete(self, key: K) -> None:
        self._run(self._writing("delete", (key,)))

    async def adelete(self, key: K) -> None:
        await self._arun(self._writing("delete", (key,)))

    def delete_many(self, keys: Iterable[K]) -> dict[K, Exception]:
        return self._run(self._writing_many("delete_many", dict.fromkeys(keys)))

    async def adelete_many(self, keys: Iterable[K]) -> dict[K, Exception]:
        return await self._arun(self._writing_many("delete_many", dict.fromkeys(keys)))

    @property
    def writable(self) -> bool:
        return self._truth.writable

    def _loading(
        self, wanted: Mapping[K, Validators | None], method: str
    ) -> Steps[dict[K, Answer[V] | Exception]]:
        answers: dict[K, Answer[V] | Exception] = {}
        rest = dict(wanted)
        lacking: list[tuple[Origin[K, V], list[K]]] = []
        for origin in self._order:
            args = (rest,) if method == "load_many" else next(iter(rest.items()))
            (outcome,) = yield [Ask(origin, method, args)]
            if isinstance(outcome, Exception):
                found: dict[K, Any] = dict.fromkeys(rest, outcome)
            else:
                found = outcome if method == "load_many" else dict.fromkeys(rest, outcome)
            answers |= found
            if self._fill is not None:
                lacks = [key for key in rest if isinstance(found.get(key), NotFound)]
                lacking.append((origin, lacks))
            rest = {key: rest[key] for key in rest if self._goes_on(found.get(key, NotFound()))}
            if not rest:
                break
        fills = [
            Ask(origin, "store_many", (entries,))
            for origin, keys in lacking
            if origin is not self._truth and (entries := self._copied(origin, keys, answers))
        ]
        if fills:
            yield fills  # what fails here is counted by the member
        return {key: answers.get(key, NotFound()) for key in wanted}

    def _goes_on(self, answer: Answer[V] | Exception) -> bool:
        """Whether the next origin is asked, too."""
        if isinstance(answer, NotFound):
            return self._fill is not None
        return isinstance(answer, Exception)

    def _copied(
        self, origin: Origin[K, V], keys: list[K], answers: Mapping[K, Any]
    ) -> dict[K, Any]:
        """What is stored in an origin that lacked these keys."""
        return {
            key: self._copy(origin, answers[key])
            for key in keys
            if isinstance(answers[key], Loaded)
        }

    def _copy(self, origin: Origin[K, V], value: Any) -> Any:
        assert self._fill is not None
        entry = value if isinstance(value, Loaded) else Loaded(value)
        ttl = self._fill if entry.ttl is None else min(entry.ttl, self._fill)
        return taken(origin, replace(entry, ttl=ttl))

    def _writing(self, method: str, args: tuple[Any, ...]) -> Steps[Written[V]]:
        truth = self._truth
        if not truth.writable:
            raise ReadOnlyOriginError(f"{truth.name} takes no writes")
        key, *values = args
        (outcome,) = yield [Ask(truth, method, (key, *(taken(truth, value) for value in values)))]
        if isinstance(outcome, Exception):
            raise outcome
        if self._copies:
            yield [
                Ask(copy, method, (key, *(self._copy(copy, value) for value in values)))
                for copy in self._copies
            ]
        return outcome  # type: ignore[no-any-return]

    def _writing_many(self, method: str, items: Mapping[K, Any]) -> Steps[dict[K, Exception]]:
        truth, stores = self._truth, method == "store_many"
        if not truth.writable:
            raise ReadOnlyOriginError(f"{truth.name} takes no writes")
        sent: Any = {key: taken(truth, value) for key, value in items.items()}
        (outcome,) = yield [Ask(truth, method, (sent if stores else list(items),))]
        if isinstance(outcome, Exception):
            raise outcome
        written = [key for key in items if key not in outcome]
        if self._copies and written:
            yield [
                Ask(
                    copy,
                    method,
                    (
                        {key: self._copy(copy, items[key]) for key in written}
                        if stores
                        else written,
                    ),
                )
                for copy in self._copies
            ]
        return outcome  # type: ignore[no-any-return]


def _named(origins: tuple[Origin[K, V], ...]) -> dict[str, Origin[K, V]]:
    named: dict[str, Origin[K, V]] = {}
    for number, origin in enumerate(origins, 1):
        name = str(getattr(origin, "name", type(origin).__name__))
        named[f"{name} {number}" if name in named else name] = origin
    return named


def _only(answers: dict[K, Answer[V] | Exception]) -> Answer[V]:
    (answer,) = answers.values()
    if isinstance(answer, Exception):
        raise answer
    return answer
