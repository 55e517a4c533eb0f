"""The origin that is spread over several: each key is of one of them, by rendezvous hashing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from xxhash import xxh3_64_intdigest

from hybridcore.disk.keys import encode_key
from hybridcore.errors import KeyEncodingError
from hybridcore.origins.base import held_by_key
from hybridcore.origins.composed import DEFAULT_BREAKER, Ask, Composed, Steps, taken

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hybridcore.breaker import Breaker
    from hybridcore.origins.base import Origin
    from hybridcore.types import Answer, Validators, Written

K = TypeVar("K")
V = TypeVar("V")


class ShardedOrigin(Composed[K, V]):
    """Spreads keys over several origins, all hosts and versions in the same way.

    The shard of a key follows from the key and the names alone, in O(shards): to add or to take
    away one of n moves the keys of that one, about 1/n of all. Many keys are split by shard, and
    the shards asked at the same time; one that fails, fails its own keys. Keys may be what the disk
    tier takes.

    Args:
        origins: by name; the names say where keys are, the addresses behind them may change.
        breaker: each shard has its own; None: none has.

    Raises:
        ConfigurationError: there are no origins, or something else among them.
    """

    def __init__(
        self, origins: Mapping[str, Origin[K, V]], *, breaker: Breaker | None = DEFAULT_BREAKER
    ) -> None:
        super().__init__(origins, breaker)
        self.name = f"shards {', '.join(origins)}"
        self._seeds = {name: xxh3_64_intdigest(name.encode()) for name in origins}

    def shard_of(self, key: K) -> str:
        """The name of the shard that has the key.

        Raises:
            KeyEncodingError: there is no canonical form of the key.
        """
        form = encode_key(key)
        return max(self._seeds, key=lambda name: xxh3_64_intdigest(form, self._seeds[name]))

    def load(self, key: K, held: Validators | None = None) -> Answer[V]:
        return self._members[self.shard_of(key)].load(key, held)

    async def aload(self, key: K, held: Validators | None = None) -> Answer[V]:
        return await self._members[self.shard_of(key)].aload(key, held)

    def load_many(self, keys: Iterable[K]) -> dict[K, Answer[V] | Exception]:
        return self._run(self._split("load_many", held_by_key(keys)))

    async def aload_many(self, keys: Iterable[K]) -> dict[K, Answer[V] | Exception]:
        return await self._arun(self._split("load_many", held_by_key(keys)))

    def store(self, key: K, value: V) -> Written[V]:
        member = self._members[self.shard_of(key)]
        return member.store(key, taken(member, value))

    async def astore(self, key: K, value: V) -> Written[V]:
        member = self._members[self.shard_of(key)]
        return await member.astore(key, taken(member, value))

    def store_many(self, items: Mapping[K, V]) -> dict[K, Exception]:
        return self._run(self._split("store_many", items))

    async def astore_many(self, items: Mapping[K, V]) -> dict[K, Exception]:
        return await self._arun(self._split("store_many", items))

    def delete(self, key: K) -> None:
        self._members[self.shard_of(key)].delete(key)

    async def adelete(self, key: K) -> None:
        await self._members[self.shard_of(key)].adelete(key)

    def delete_many(self, keys: Iterable[K]) -> dict[K, Exception]:
        return self._run(self._split("delete_many", dict.fromkeys(keys)))

    async def adelete_many(self, keys: Iterable[K]) -> dict[K, Exception]:
        return await self._arun(self._split("delete_many", dict.fromkeys(keys)))

    @property
    def writable(self) -> bool:
        return all(origin.writable for origin in self._origins.values())

    def _split(self, method: str, items: Mapping[K, Any]) -> Steps[dict[K, Any]]:
        """Call a method of each shard for its own keys, and put together what it returns by key."""
        outcomes: dict[K, Any] = {}
        parts: dict[str, dict[K, Any]] = {}
        for key, item in items.items():
            try:
                parts.setdefault(self.shard_of(key), {})[key] = item
            except KeyEncodingError as error:
                outcomes[key] = error
        asks = []
        for name, part in parts.items():
            member = self._members[name]
            if method == "store_many":
                part = {key: taken(member, value) for key, value in part.items()}
            asks.append(Ask(member, method, (part,)))
        if not asks:
            return outcomes
        for part, outcome in zip(parts.values(), (yield asks), strict=True):
            if isinstance(outcome, Exception):
                outcome = dict.fromkeys(part, outcome)
            outcomes |= outcome
        return outcomes
